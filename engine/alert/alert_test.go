package alert

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

func compile(t testing.TB, src string) *expr.Program {
	t.Helper()
	if src == "" {
		return nil
	}
	e, diags := hclsyntax.ParseExpression([]byte(src), "alerts.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	p, diags := expr.Compile(e, expr.Record)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return p
}

func newAlert(t testing.TB, name, when, message string) config.Alert {
	return config.Alert{Name: name, When: compile(t, when), Message: compile(t, message), Topic: "alerts", Priority: record.High}
}

func reading() *record.Record {
	return &record.Record{
		ID: "r-1", DeviceID: "fridge \"7\"", DataType: "sensor_reading",
		Timestamp: time.Date(2026, 11, 22, 7, 15, 0, 123e6, time.FixedZone("", 3600)),
		Payload:   []byte(`{"temperature": 31.50, "humidity": 40}`),
	}
}

func TestAppend(t *testing.T) {
	rs := New("cold_chain", []config.Alert{
		newAlert(t, "hot", `record.payload.temperature > 25`, `{ value = record.payload.temperature, device_id = record.device_id }`),
		newAlert(t, "cold", `record.payload.temperature < 0`, ""),
		newAlert(t, "plain", `record.payload.humidity == 40`, ""),
		newAlert(t, "lost", `record.payload.pressure > 1000`, ""),
		newAlert(t, "mute", `record.payload.humidity > 30`, `{ p = record.payload.pressure }`),
		newAlert(t, "text", `true`, `"just ${record.payload.humidity}"`),
	}, expr.Host{})
	created := time.Date(2026, 11, 22, 6, 15, 0, 123e6, time.UTC)
	first := record.Message{ID: "kept"}
	e := rs.NewEvaluator()
	got := e.Append([]record.Message{first}, reading())
	message := func(name, body string) record.Message {
		return record.Message{
			ID: e.id(rs.rules[index(rs, name)], reading()), Topic: "alerts", Priority: record.High,
			Pipeline: "cold_chain", Created: created, Body: []byte(body),
		}
	}
	const about = `"pipeline":"cold_chain","record_id":"r-1","device_id":"fridge \"7\"","data_type":"sensor_reading","timestamp":"2026-11-22T06:15:00.123Z"`
	want := []record.Message{
		first,
		message("hot", `{"device_id":"fridge \"7\"","value":31.5}`),
		message("plain", `{"rule":"plain",`+about+`}`),
		message("mute", `{"rule":"mute",`+about+`,"message_error":"alerts.hcl:1,21-30: record.payload has no \"pressure\""}`),
		message("text", `"just 40"`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, m := range got[1:] {
		if err := record.Valid(m.Body); err != nil {
			t.Errorf("%s: %v", m.Body, err)
		}
	}
	wantStats := []Stat{
		{Name: "hot", Fired: 1},
		{Name: "cold"},
		{Name: "plain", Fired: 1},
		{Name: "lost", Failed: 1, FirstError: `alerts.hcl:1,15-24: record.payload has no "pressure"`},
		{Name: "mute", Fired: 1, Failed: 1, FirstError: `alerts.hcl:1,21-30: record.payload has no "pressure"`},
		{Name: "text", Fired: 1},
	}
	if diff := cmp.Diff(wantStats, rs.Stats()); diff != "" {
		t.Error(diff)
	}
}

func index(rs *Rules, name string) int {
	for i, r := range rs.rules {
		if r.Name == name {
			return i
		}
	}
	return -1
}

func TestFirstErrorIsKept(t *testing.T) {
	rs := New("p", []config.Alert{newAlert(t, "r", `record.payload.a > 1`, "")}, expr.Host{})
	e := rs.NewEvaluator()
	for _, payload := range []string{`{}`, `{"a":null}`, `{"a":2}`} {
		r := reading()
		r.Payload = []byte(payload)
		e.Append(nil, r)
	}
	want := []Stat{{Name: "r", Fired: 1, Failed: 2, FirstError: `alerts.hcl:1,15-17: record.payload has no "a"`}}
	if diff := cmp.Diff(want, rs.Stats()); diff != "" {
		t.Error(diff)
	}
}

// The id is a promise to data that is stored: this one may never change.
func TestIDIsStable(t *testing.T) {
	rs := New("cold_chain", []config.Alert{newAlert(t, "hot", `true`, "")}, expr.Host{})
	got := rs.NewEvaluator().Append(nil, reading())[0].ID
	const want = "1ff3b50e69eb3672c147eb293bb74136"
	if got != want {
		t.Errorf("id %s, want %s", got, want)
	}
}

func TestIDTellsEventsApart(t *testing.T) {
	type event struct {
		pipeline, rule string
		change         func(r *record.Record)
	}
	same := func(*record.Record) {}
	seen := make(map[string]int)
	for i, ev := range []event{
		{"p", "r", same},
		{"q", "r", same},
		{"p", "s", same},
		{"pr", "", same}, // texts of different lengths must not run together
		{"", "pr", same},
		{"p", "r", func(r *record.Record) { r.ID = "r-2" }},
		{"p", "r", func(r *record.Record) { r.DeviceID = "x" }},
		{"p", "r", func(r *record.Record) { r.DataType = "x" }},
		{"p", "r", func(r *record.Record) { r.Timestamp = r.Timestamp.Add(1) }},
	} {
		r := reading()
		ev.change(r)
		id := New(ev.pipeline, []config.Alert{newAlert(t, ev.rule, `true`, "")}, expr.Host{}).NewEvaluator().Append(nil, r)[0].ID
		if before, ok := seen[id]; ok {
			t.Errorf("events %d and %d have the id %s", before, i, id)
		}
		seen[id] = i
	}
	r := reading()
	r.Timestamp = r.Timestamp.UTC()
	id := New("p", []config.Alert{newAlert(t, "r", `true`, "")}, expr.Host{}).NewEvaluator().Append(nil, r)[0].ID
	if seen[id] != 0 || len(seen) != 9 {
		t.Errorf("another time zone made another event")
	}
}

// A message expires by the clock of the device, whatever the record's says.
func TestTTL(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	short := newAlert(t, "short", `true`, "")
	short.TTL = 90 * time.Second
	rs := New("p", []config.Alert{short, newAlert(t, "kept", `true`, "")}, expr.Host{Now: func() time.Time { return now }})
	got := rs.NewEvaluator().Append(nil, reading())
	if want := now.Add(90 * time.Second).UTC(); got[0].Expires != want || !got[1].Expires.IsZero() {
		t.Errorf("they expire at %s and %s, want %s and never", got[0].Expires, got[1].Expires, want)
	}
}

func TestMessageTooLarge(t *testing.T) {
	rs := New("p", []config.Alert{newAlert(t, "big", `true`, `[record.payload, record.payload]`)}, expr.Host{})
	r := reading()
	r.Payload = []byte(`{"text":"` + strings.Repeat("x", record.MaxPayloadBytes-20) + `"}`)
	got := rs.NewEvaluator().Append(nil, r)
	if len(got) != 1 || !strings.Contains(string(got[0].Body), `"message_error":"alerts.hcl:1,1-33: the message has`) {
		t.Errorf("%.300s", got)
	}
	if s := rs.Stats()[0]; s.Fired != 1 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

// A message must outlive the record's bytes, which belong to the source.
func TestMessagesShareNoBytes(t *testing.T) {
	rs := New("p", []config.Alert{newAlert(t, "r", `true`, `record.payload.s`)}, expr.Host{})
	r := reading()
	r.Payload = []byte(`{"s":"before"}`)
	got := rs.NewEvaluator().Append(nil, r)
	copy(r.Payload, `{"s":"after!"}`)
	if string(got[0].Body) != `"before"` {
		t.Errorf("body %s", got[0].Body)
	}
}

func TestManyGoroutines(t *testing.T) {
	rs := New("p", []config.Alert{
		newAlert(t, "hot", `record.payload.temperature > 25`, `{ v = record.payload.temperature }`),
		newAlert(t, "lost", `record.payload.pressure > 1000`, ""),
	}, expr.Host{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			e := rs.NewEvaluator()
			for range 500 {
				if got := e.Append(nil, reading()); len(got) != 1 || string(got[0].Body) != `{"v":31.5}` {
					t.Errorf("%v", got)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := rs.Stats(); s[0].Fired != 2000 || s[1].Failed != 2000 {
		t.Errorf("%+v", s)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ name, when, message string }{
		{"quiet", `record.payload.temperature > 50`, `{ value = record.payload.temperature }`},
		{"fires", `record.payload.temperature > 25`, `{ value = record.payload.temperature, device_id = record.device_id, timestamp = record.timestamp }`},
		{"default", `record.payload.temperature > 25`, ""},
		{"fails", `record.payload.pressure > 25`, ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := New("p", []config.Alert{newAlert(b, "r", c.when, c.message)}, expr.Host{}).NewEvaluator()
			r := reading()
			var out []record.Message
			b.ReportAllocs()
			for b.Loop() {
				out = e.Append(out[:0], r)
			}
		})
	}
}

func ExampleRules() {
	e, _ := hclsyntax.ParseExpression([]byte(`record.payload.temperature > 25`), "alerts.hcl", hcl.InitialPos)
	when, _ := expr.Compile(e, expr.Record)
	rules := New("cold_chain", []config.Alert{{Name: "hot", When: when, Topic: "alerts", Priority: record.High}}, expr.Host{})
	for _, m := range rules.NewEvaluator().Append(nil, reading()) {
		fmt.Println(m.Topic, m.Priority)
	}
	// Output: alerts high
}
