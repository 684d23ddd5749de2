package collect

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/record"
)

func testMapper(t testing.TB, args string) *mapper {
	n := 0
	return newMapper(testOptions(newStepClock()).withDefaults(), parse(t, httpSpec(), "%s", args), func() string {
		n++
		return fmt.Sprintf("new-%d", n)
	})
}

func TestMapping(t *testing.T) {
	now := newStepClock().Now()
	observed := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	const whole = `{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-01-02T03:04:05.006Z","payload":{"x":1.50}}`
	tests := []struct {
		name, args, input string
		want              record.Record
		err               string // part of the error; then want is not looked at
	}{
		{
			name: "record form is taken as it is", input: whole,
			want: record.Record{ID: "a", DeviceID: "d", DataType: "t", Timestamp: observed, Payload: []byte(`{"x":1.50}`)},
		},
		{
			name: "record form in any order with escapes and another zone", input: ` {"payload":{ },"timestamp":"2026-01-02T04:04:05.006+01:00","id":"\u0061\n","data_type":"t","device_id":"é"} `,
			want: record.Record{ID: "a\n", DeviceID: "é", DataType: "t", Timestamp: observed, Payload: []byte(`{ }`)},
		},
		{
			name: "incomplete record form is completed", input: `{"device_id":"d","payload":{"x":1}}`,
			want: record.Record{ID: "new-1", DeviceID: "d", DataType: "reading", Timestamp: now, Payload: []byte(`{"x":1}`)},
		},
		{
			name: "a payload alone", input: `{"payload":{"x":1}}`,
			want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"x":1}`)},
		},
		{
			name: "another object is the payload", input: ` {"x":1, "id":"a"} `,
			want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"x":1, "id":"a"}`)},
		},
		{
			name: "a foreign payload member", input: `{"payload":"00ff","device_id":"d"}`,
			want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"payload":"00ff","device_id":"d"}`)},
		},
		{
			name: "a payload among foreign members", input: `{"payload":{},"device_id":"d","rssi":-70}`,
			want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"payload":{},"device_id":"d","rssi":-70}`)},
		},
		{name: "a record with a member too many", input: strings.Replace(whole, `"id"`, `"more":1,"id"`, 1), err: `unknown member "more"`},
		{name: "a record with a member twice", input: strings.Replace(whole, `"id"`, `"id":"b","id"`, 1), err: `member "id" appears twice`},
		{name: "a record with a bad time", input: strings.Replace(whole, "2026-01-02T", "2026-01-02 ", 1), err: "not an RFC 3339 time"},
		{name: "a record with an empty id", input: strings.Replace(whole, `"a"`, `""`, 1), err: "id is empty"},
		{name: "a record with a number as id", input: strings.Replace(whole, `"a"`, `7`, 1), err: "id: a string is expected"},
		{name: "a record with an array as payload", input: strings.Replace(whole, `{"x":1.50}`, `[]`, 1), err: "payload is not a JSON object"},
		{name: "an id that is too long", input: strings.Replace(whole, `"a"`, `"`+strings.Repeat("a", 256)+`"`, 1), err: "at most 255"},
		{name: "no object", input: `[1]`, err: "an object is expected"},
		{name: "no JSON", input: `{"x":}`, err: "not valid JSON"},
		{name: "nothing", input: ``, err: "not valid JSON"},
		{name: "a payload that is too long", input: `{"x":"` + strings.Repeat("a", record.MaxPayloadBytes) + `"}`, err: "payload has"},
		{
			name: "all expressions", input: `{"n":7,"mote":"m1","at":"2026-01-02T03:04:05.006Z","t":21.5}`,
			args: `id = "n-${input.n}"
				device_id = input.mote
				data_type = "climate"
				timestamp = input.at
				payload   = { temperature = input.t }`,
			want: record.Record{ID: "n-7", DeviceID: "m1", DataType: "climate", Timestamp: observed, Payload: []byte(`{"temperature":21.5}`)},
		},
		{
			name: "one expression replaces one member", args: `data_type = "climate"`, input: whole,
			want: record.Record{ID: "a", DeviceID: "d", DataType: "climate", Timestamp: observed, Payload: []byte(`{"x":1.50}`)},
		},
		{
			name: "with a payload the input is foreign", args: `payload = { of = input.id }`, input: whole,
			want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"of":"a"}`)},
		},
		{name: "a payload makes an object of no object", args: `payload = { of = input[0] }`, input: `[5]`, want: record.Record{ID: "new-1", DeviceID: "edge-1", DataType: "reading", Timestamp: now, Payload: []byte(`{"of":5}`)}},
		{name: "an expression fails", args: `device_id = input.mote`, input: `{"x":1}`, err: "device_id: "},
		{name: "an expression gives an empty text", args: `id = input.x`, input: `{"x":""}`, err: "id is empty"},
		{name: "an expression gives no time", args: `timestamp = input.x`, input: `{"x":"yesterday"}`, err: "timestamp: "},
		{name: "a payload that is no object", args: `payload = input.x`, input: `{"x":1}`, err: "payload is not a JSON object"},
		{name: "an expression over no JSON", args: `payload = { a = 1 }`, input: `{`, err: "not valid JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := testMapper(t, test.args).apply([]byte(test.input))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// The records of one batch keep their bytes when the arena grows and when the
// next batch begins.
func TestMappedPayloadsAreNotOverwritten(t *testing.T) {
	m := testMapper(t, `payload = { n = input.n, fill = "0123456789012345678901234567890123456789" }`)
	var records []record.Record
	for i := range 2000 {
		if i%500 == 0 {
			m.freshArena()
		}
		r, err := m.apply(fmt.Appendf(nil, `{"n":%d}`, i))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	for i, r := range records {
		if !strings.Contains(string(r.Payload), fmt.Sprintf(`"n":%d,`, i)) && !strings.Contains(string(r.Payload), fmt.Sprintf(`"n":%d}`, i)) {
			t.Fatalf("record %d has the payload %s", i, r.Payload)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	opts := testOptions(newStepClock()).withDefaults()
	raw := []byte("bad \xff input")
	a := opts.reject(raw, "0:17", errors.New("because \xff"), map[string]string{"line": "3"})
	raw[0] = 'x'
	want := record.DeadLetter{
		ID: a.ID, Pipeline: "cold_chain", Stage: "collect.source", Error: "because \ufffd",
		Detail: map[string]string{"line": "3"}, Time: newStepClock().Now(), Raw: []byte("bad \xff input"),
	}
	diff(t, "dead letter", want, a)

	again := opts.reject([]byte("bad \xff input"), "0:17", errors.New("other words"), nil)
	elsewhere := opts.reject([]byte("bad \xff input"), "0:18", errors.New("because"), nil)
	if again.ID != a.ID || elsewhere.ID == a.ID {
		t.Errorf("ids %s, again %s, elsewhere %s", a.ID, again.ID, elsewhere.ID)
	}

	long := opts.reject(make([]byte, maxRawBytes+1), "", errors.New("long"), nil)
	if len(long.Raw) != maxRawBytes || long.Detail["bytes"] != fmt.Sprint(maxRawBytes+1) {
		t.Errorf("%d bytes kept, detail %v", len(long.Raw), long.Detail)
	}
}

// Parts of an id must not run into each other.
func TestStableIDs(t *testing.T) {
	seen := map[string]string{}
	for _, o := range []Options{{Pipeline: "a", Name: "bc"}, {Pipeline: "ab", Name: "c"}, {DeviceID: "a", Pipeline: "b", Name: "c"}} {
		for _, in := range [][2]string{{"", "12"}, {"1", "2"}, {"12", ""}, {"1", strings.Repeat("2", 1000)}} {
			id := stableID("record", o, in[0], []byte(in[1]))
			if other, twice := seen[id]; twice || len(id) != 32 {
				t.Errorf("%v %v has the id %s of %s", o, in, id, other)
			}
			seen[id] = fmt.Sprint(o, in)
		}
	}
}

func TestUniqueIDs(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	now := newStepClock().Now()
	seen := map[string]bool{}
	for range 10_000 {
		id := uniqueID(now)
		if seen[id] || !form.MatchString(id) {
			t.Fatalf("id %s, seen before: %v", id, seen[id])
		}
		seen[id] = true
	}
	if a, b := uniqueID(now), uniqueID(now.Add(time.Millisecond)); a >= b {
		t.Errorf("%s is not before %s", a, b)
	}
}
