package edged_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	edged "github.com/edged/edged/sdk/go"
	"github.com/edged/edged/sdk/go/edgedtest"
)

// walk goes down a decoded value as Get goes down its bytes.
func walk(value any, path string) (any, bool) {
	for _, name := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[name]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			i, err := strconv.ParseUint(name, 10, 31)
			if err != nil || int(i) >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

func decode(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return v
}

// repeats reports whether an object has two members of one name: encoding/json
// takes the last, we the first.
func repeats(json []byte) bool {
	f := edged.NewFields(json)
	for m := edged.NewMembers(json); m.Next(); {
		if edged.KindOf(json) == edged.Object && !bytes.Equal(f.Get(m.Name()), m.Value()) || repeats(m.Value()) {
			return true
		}
	}
	return false
}

// FuzzJSON holds the scanner against encoding/json; on bytes that are no JSON it
// must only not panic.
func FuzzJSON(f *testing.F) {
	for _, json := range []string{
		`{"a":{"b":[1,{"c":"x\u00e9\\\""}]},"d":-1.5e3}`, ` [ true , null, {"a" : {} } ] `, `{"":{"":5}}`, `{"a":1,"a":2}`,
		`"lone"`, `{"long name of a member":"long value of a member","a":{"deep":["a","b\\"]}}`, `{"a":"\`, `{"a`, ``,
	} {
		for _, path := range []string{"a.b.1.c", "a", "2.a", ".", "a.deep.1"} {
			f.Add([]byte(json), path)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		value := []byte(`{"new":[1]}`)
		got, set, deleted := edged.Get(data, path), edged.Set(data, path, value), edged.Delete(data, path)
		lookup := edged.NewLookup(path, "x.y")
		lookup.Run(data)
		same := edged.Same(data, deleted)
		// encoding/json puts U+FFFD where bytes are no UTF-8.
		if !json.Valid(data) || !utf8.Valid(data) || !utf8.ValidString(path) || repeats(bytes.TrimSpace(data)) {
			return
		}
		want, there := walk(decode(t, data), path)
		if there != (got != nil) {
			t.Fatalf("%q at %q: got %q, want %v", data, path, got, want)
		}
		if there && !edged.Same(bytes.TrimSpace(got), marshal(t, want)) {
			t.Fatalf("%q at %q: got %q, want %v", data, path, got, want)
		}
		if edged.KindOf(bytes.TrimSpace(data)) == edged.Object && !bytes.Equal(lookup.Value(0), got) {
			t.Fatalf("%q at %q: the lookup has %q, Get %q", data, path, lookup.Value(0), got)
		}
		if set != nil {
			if after, ok := walk(decode(t, set), path); !ok || !edged.Same(marshal(t, after), value) {
				t.Fatalf("%q with %q set: %q", data, path, set)
			}
		}
		if there && !json.Valid(deleted) || !there && !same {
			t.Fatalf("%q without %q: %q", data, path, deleted)
		}
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// FuzzAsFloat holds numbers against strconv.
func FuzzAsFloat(f *testing.F) {
	for _, s := range []string{"0", "-0", "1.5", "1e22", "123456789012345678901234567890", "5E-324", "1e999", "0.1e1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := edged.AsFloat([]byte(s))
		var want float64
		if err := json.Unmarshal([]byte(s), &want); err != nil || strings.TrimSpace(s) != s || edged.KindOf([]byte(s)) != edged.Number {
			return
		}
		if got != want {
			t.Errorf("%s is %v, want %v", s, got, want)
		}
	})
}

func TestPanicIsTheErrorOfItsRecord(t *testing.T) {
	handle := func(r *edged.Record, out *edged.Output) {
		out.Pass()
		switch string(r.ID) {
		case "r1":
			panic("no sense")
		case "r2":
			panic(errors.New("an error"))
		case "r3":
			_ = r.Payload[len(r.Payload)]
		}
	}
	records := make([]edgedtest.Record, 5)
	for i := range records {
		records[i].Payload = `{}`
	}
	want := []string{
		"pass", "error the plugin panicked: no sense", "error the plugin panicked: an error",
		"error the plugin panicked: runtime error: index out of range [2] with length 2", "pass",
	}
	for i, f := range edgedtest.Transform(t, handle, records...) {
		if got := strings.TrimSpace(f.Action + " " + f.Reason); got != want[i] {
			t.Errorf("record %d: got %s, want %s", i, got, want[i])
		}
	}
	twice := func(_ *edged.Conflict, v *edged.Verdict) {
		v.Local()
		v.Remote()
	}
	got := edgedtest.Resolve(t, twice, edgedtest.Conflict{})
	if len(got) != 1 || got[0].Action != "error" || got[0].Reason != "the plugin panicked: two verdicts for one conflict" {
		t.Errorf("two verdicts make %+v", got)
	}
}

func TestNativeHost(t *testing.T) {
	if edged.KVPut("k", []byte("v"), 0) || edged.KVGet("k") != nil || edged.LogEnabled(edged.Info) {
		t.Error("what is not granted is there")
	}
	h := edgedtest.NewHost(t)
	h.Device["site"] = strings.Repeat("long ", 100)
	if site, ok := edged.DeviceConfig("site"); !ok || site != h.Device["site"] {
		t.Errorf("the site is %q", site)
	}
	h.Now = 5e9
	if !edged.KVPut("k", []byte("v"), 2) || string(edged.KVGet("k")) != "v" || edged.KVPut("", nil, 0) {
		t.Error("keys are not kept")
	}
	if h.Now = 7e9; edged.KVGet("k") != nil || edged.Now() != 7e9 {
		t.Error("time stands still")
	}
	edged.Count("n", 2)
	edged.Count("n", 1)
	edged.Log(edged.Warn, "line")
	if h.Metrics["n"] != 3 || len(h.Logs) != 1 || h.Logs[0] != "line" {
		t.Errorf("metrics %v, logs %v", h.Metrics, h.Logs)
	}
}
