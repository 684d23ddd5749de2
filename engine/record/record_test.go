package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edged/edged/engine/record"
)

const wire = `{"id":"r-1","device_id":"edge-001","data_type":"sensor_reading","timestamp":"2026-11-22T06:15:00.123Z","payload":{"t":21.50}}`

func TestWireFormComesBackByteForByte(t *testing.T) {
	r, err := record.Parse([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	want := record.Record{
		ID: "r-1", DeviceID: "edge-001", DataType: "sensor_reading",
		Timestamp: time.Date(2026, 11, 22, 6, 15, 0, 123e6, time.UTC), Payload: []byte(`{"t":21.50}`),
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if got := string(r.AppendJSON(nil)); got != wire {
		t.Errorf("wire form\n got %s\nwant %s", got, wire)
	}
	c := r.Clone()
	c.Payload[0] = 'X'
	if r.Payload[0] != '{' {
		t.Error("a clone shares the payload")
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", record.MaxNameBytes+1)
	for name, tc := range map[string]struct{ data, says string }{
		"no json":          {`nope`, "an object is expected"},
		"an array":         {`[]`, "an object is expected"},
		"text behind":      {wire + `x`, "text after the value"},
		"unknown member":   {`{"id":"1","device":"x"}`, `unknown member "device"`},
		"member twice":     {`{"id":"1","id":"2"}`, `member "id" appears twice`},
		"empty id":         {strings.Replace(wire, "r-1", "", 1), "id is empty"},
		"id too long":      {strings.Replace(wire, "r-1", long, 1), "id has 256 bytes"},
		"number as id":     {strings.Replace(wire, `"r-1"`, `1`, 1), "id: a string is expected"},
		"no time":          {`{"id":"1","device_id":"d","data_type":"t","payload":{}}`, "timestamp is missing"},
		"bad time":         {strings.Replace(wire, "2026-11-22T06:15:00.123Z", "yesterday", 1), `"yesterday" is not an RFC 3339 time`},
		"payload array":    {strings.Replace(wire, `{"t":21.50}`, `[1]`, 1), "payload is not a JSON object"},
		"no payload":       {`{"id":"1","device_id":"d","data_type":"t","timestamp":"2026-11-22T06:15:00Z"}`, "payload is not a JSON object"},
		"bad utf-8":        {strings.Replace(wire, "r-1", "\xff", 1), "invalid UTF-8"},
		"payload too deep": {strings.Replace(wire, `21.50`, strings.Repeat("[", 200)+strings.Repeat("]", 200), 1), "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := record.Parse([]byte(tc.data))
			if !errors.Is(err, record.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("got %v, want ErrInvalid that says %q", err, tc.says)
			}
		})
	}
}

func TestTokensAreReversibleAndDistinct(t *testing.T) {
	for name, want := range map[string]string{
		"": "=", "=": "=3d", "edge-001": "edge-001", "a.b": "a=2eb", "a_b": "a_b", "*": "=2a", ">": "=3e", "a b": "a=20b", "ü": "=c3=bc",
	} {
		if got := record.Token(name); got != want {
			t.Errorf("Token(%q) = %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"a=", "a=2", "a=zz", "=2E"} {
		if name, err := record.Untoken(bad); err == nil {
			t.Errorf("Untoken(%q) = %q, want an error", bad, name)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		tok := record.Token(name)
		if tok == "" || strings.ContainsAny(tok, ".*> \t\r\n\x00") {
			t.Fatalf("Token(%q) = %q is no subject token", name, tok)
		}
		if back, err := record.Untoken(tok); err != nil || back != name {
			t.Fatalf("Untoken(Token(%q)) = %q, %v", name, back, err)
		}
	})
}

func TestStringsAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		quoted := record.AppendString(nil, s)
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != s {
			t.Fatalf("%q became %s, read as %q (%v)", s, quoted, back, err)
		}
		if got, err := record.Unquote(quoted); err != nil || got != s {
			t.Fatalf("Unquote(%s) = %q, %v", quoted, got, err)
		}
	})
	if got := string(record.AppendString(nil, "a\xffb\x01<")); got != "\"a\ufffdb\\u0001<\"" {
		t.Errorf("got %s", got)
	}
}

// FuzzValidAgreesWithStandardLibrary: what is accepted here is accepted there,
// and the other way round, but for the depth bound and invalid UTF-8, which the
// standard library lets pass.
func FuzzValidAgreesWithStandardLibrary(f *testing.F) {
	for _, s := range []string{
		wire, `{}`, `[]`, `[1,]`, `{"a":}`, `-0.0e+1`, `01`, `.5`, `1.`, `1e`, `"\u12g4"`, `"\ud800"`, "\"\x01\"",
		` [ 1 , "x" , null , true , false , { } ] `, `nul`, `{"a":1,"a":2}`, `"`, `{"a"`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) || bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > 100 {
			return
		}
		if err := record.Valid(data); (err == nil) != json.Valid(data) {
			t.Errorf("Valid(%q) = %v, the standard library says %v", data, err, json.Valid(data))
		}
	})
}

// FuzzParse: foreign bytes never panic, and what is accepted survives a round.
func FuzzParse(f *testing.F) {
	f.Add([]byte(wire))
	f.Add([]byte(`{"id":"\u0041","device_id":"d","data_type":"t","timestamp":"2026-11-22T06:15:00+02:00","payload":{ }}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := record.Parse(data)
		if err != nil {
			return
		}
		again, err := record.Parse(r.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%s is not read back: %v", r.AppendJSON(nil), err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMessagesAndDeadLettersSurviveARound(t *testing.T) {
	at := time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)
	for _, p := range record.Priorities {
		m := record.Message{ID: "m", Topic: "alerts", Priority: p, Pipeline: "p", Created: at, Body: json.RawMessage(`{"a":1.0}`)}
		data, err := json.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		var back record.Message
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := record.ParsePriority("urgent"); err == nil || !strings.Contains(err.Error(), "critical, high, normal or low") {
		t.Errorf("an unknown priority gave %v", err)
	}
	d := record.DeadLetter{ID: "d", Pipeline: "p", Stage: "transform.x", Error: "why", Time: at, Raw: []byte("\x00\xffraw")}
	data, err := json.Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	var back record.DeadLetter
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.Parse([]byte(wire)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	r, err := record.Parse([]byte(wire))
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
}
