package collect

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
)

func openedGenerator(t testing.TB, clock *stepClock, body string) Source {
	t.Helper()
	s, err := openGenerator(testOptions(clock), parse(t, generatorSpec(), "%s", body))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGeneratorTicks(t *testing.T) {
	clock := newStepClock()
	began := clock.Now()
	sink := &memorySink{}
	sink.refuse = func(n int) error {
		if n == 2 {
			clock.add(3500 * time.Millisecond) // a slow store: ticks are missed
		}
		return nil
	}
	if err := openedGenerator(t, clock, `
		every     = "1s"
		burst     = 2
		count     = 9
		device_id = "fridge"
		data_type = "climate"
		payload   = { temperature = 5 }`).Run(t.Context(), nil, sink); err != nil {
		t.Fatal(err)
	}
	var at []time.Duration
	for _, r := range sink.records() {
		at = append(at, r.Timestamp.Sub(began))
		want := record.Record{ID: r.ID, DeviceID: "fridge", DataType: "climate", Timestamp: r.Timestamp, Payload: []byte(`{"temperature":5}`)}
		diff(t, "record", want, r)
	}
	s, half := time.Second, 500*time.Millisecond
	diff(t, "times", []time.Duration{0, 0, s, s, 2 * s, 2 * s, 5*s + half, 5*s + half, 6*s + half}, at)
	diff(t, "position", `{"generated":9}`, string(sink.position()))
	diff(t, "time it took", 6*s+half, clock.Now().Sub(began))
}

// With a seed, record n depends on the seed and n alone, so that a run broken
// off anywhere goes on as if it had not been.
func TestSeededGeneratorRestarts(t *testing.T) {
	const body = `
		count   = 1200
		seed    = 42
		payload = { x = uniform(0, 1), y = uniform(-5, 5) }`
	source := openedGenerator(t, newStepClock(), body)
	var whole memorySink
	if err := source.Run(t.Context(), nil, &whole); err != nil {
		t.Fatal(err)
	}
	all := whole.records()
	ids, payloads := map[string]bool{}, map[string]bool{}
	mean := 0.0
	for _, r := range all {
		ids[r.ID], payloads[string(r.Payload)] = true, true
		var p struct{ X float64 }
		if err := json.Unmarshal(r.Payload, &p); err != nil || p.X < 0 || p.X >= 1 {
			t.Fatalf("payload %s: %v", r.Payload, err)
		}
		mean += p.X / 1200
	}
	if len(all) != 1200 || len(ids) != 1200 || len(payloads) != 1200 {
		t.Errorf("%d records, %d ids, %d payloads", len(all), len(ids), len(payloads))
	}
	if mean < 0.45 || mean > 0.55 {
		t.Errorf("the mean of uniform(0, 1) is %v", mean)
	}
	for _, n := range []int{0, 1, 499, 500, 1199, 1200, 1201} {
		var rest memorySink
		if err := source.Run(t.Context(), json.RawMessage(fmt.Sprintf(`{"generated":%d}`, n)), &rest); err != nil {
			t.Fatal(err)
		}
		diff(t, fmt.Sprintf("records after %d", n), append([]record.Record(nil), all[min(n, len(all)):]...), rest.records())
	}
	var other memorySink
	if err := openedGenerator(t, newStepClock(), strings.Replace(body, "42", "43", 1)).Run(t.Context(), nil, &other); err != nil {
		t.Fatal(err)
	}
	if r := other.records()[0]; r.ID == all[0].ID || string(r.Payload) == string(all[0].Payload) {
		t.Errorf("another seed gives the same record %v", r)
	}
}

func TestUnseededGeneratorIDs(t *testing.T) {
	source := openedGenerator(t, newStepClock(), "count = 10\npayload = {}")
	ids := map[string]bool{}
	for range 2 {
		var sink memorySink
		if err := source.Run(t.Context(), nil, &sink); err != nil {
			t.Fatal(err)
		}
		for _, r := range sink.records() {
			ids[r.ID] = true
		}
	}
	diff(t, "different ids", 20, len(ids))
}

// A record that cannot be made leaves a dead letter in its place.
func TestGeneratorRejects(t *testing.T) {
	var sink memorySink
	if err := openedGenerator(t, newStepClock(), "count = 3\nid = \"\"\npayload = {}").Run(t.Context(), nil, &sink); err != nil {
		t.Fatal(err)
	}
	d := sink.rejected()
	if len(d) != 3 || len(sink.records()) != 0 || d[2].Detail["number"] != "2" || !strings.Contains(d[2].Error, "id is empty") || d[0].ID == d[1].ID {
		t.Errorf("rejected %v", d)
	}
	diff(t, "position", `{"generated":3}`, string(sink.position()))
}

// An endless generator stops with its context, also while it waits.
func TestGeneratorStops(t *testing.T) {
	clock := newStepClock().stepped()
	sink := &memorySink{}
	run := start(t, openedGenerator(t, clock, "every = \"1m\"\npayload = {}"), nil, sink)
	diff(t, "wait", time.Minute, <-clock.asleep)
	clock.wake <- struct{}{}
	diff(t, "wait", time.Minute, <-clock.asleep)
	run.cancel()
	if err := run.wait(t); err != nil {
		t.Error(err)
	}
	diff(t, "records", 2, len(sink.records()))
}

func TestGeneratorRefusesForeignPositions(t *testing.T) {
	for _, p := range []string{`{"offset":5}`, `{"generated":-1}`, `5`} {
		err := openedGenerator(t, newStepClock(), "count = 3\npayload = {}").Run(t.Context(), json.RawMessage(p), &memorySink{})
		if err == nil || !strings.Contains(err.Error(), "new name") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
