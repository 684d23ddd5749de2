package expr

import (
	"fmt"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
)

// moteRecord is a reading of a sensor mote: 11 fields in about 250 bytes.
var moteRecord = &record.Record{
	ID: "0192f3c4-7d11-7a44-9d3e-2f6b8c1a5e90", DeviceID: "mote-17", DataType: "sensor_reading",
	Timestamp: time.Date(2026, 11, 22, 6, 15, 0, 123e6, time.UTC),
	Payload: []byte(`{"date":"2004-03-31","time":"03:38:15.757551","epoch":2,"moteid":17,` +
		`"temperature":29.9884,"humidity":37.0933,"light":45.08,"voltage":2.69964,` +
		`"status":"ok","firmware":"1.4.2-rc1","location":{"x":21.5,"y":23}}`),
}

const (
	ruleSimple   = `record.payload.temperature > 30`
	ruleCombined = `record.payload.temperature > 30 && record.data_type == "sensor_reading" || startswith(record.device_id, "mote-")`
	ruleMath     = `record.payload.temperature * 1.8 + 32 > 100 && record.payload.humidity < 40`
	ruleMissing  = `record.payload.pressure > 1013`
	constructor  = `{ type = "high_temperature", value = record.payload.temperature, device_id = record.device_id, timestamp = record.timestamp }`
	passThrough  = `record.payload`
	generated    = `{ temperature = round(22 + uniform(-3, 3), 2), humidity = round(50 + uniform(-10, 10), 1) }`
)

func TestMoteRecord(t *testing.T) {
	members := 0
	if err := record.EachMember(moteRecord.Payload, func([]byte, []byte) error { members++; return nil }); err != nil || members != 11 {
		t.Fatalf("%d members, %v", members, err)
	}
}

// both runs a benchmark on the compiled form and on HCL.
func both(b *testing.B, src string, run func(p *Program, ev *Evaluator)) {
	compiled, diags := Compile(parse(b, src), Record)
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	plain := *compiled
	plain.node, plain.out, plain.wanted = nil, nil, nil
	for _, way := range []struct {
		name string
		p    *Program
	}{{"compiled", compiled}, {"hcl", &plain}} {
		b.Run(way.name, func(b *testing.B) {
			ev := NewEvaluator(Host{})
			b.ReportAllocs()
			for b.Loop() {
				run(way.p, ev)
			}
			if way.p == compiled && ev.ctx != nil {
				b.Fatal("HCL was asked")
			}
		})
	}
}

func BenchmarkBool(b *testing.B) {
	for _, rule := range []struct{ name, src string }{
		{"simple", ruleSimple}, {"combined", ruleCombined}, {"math", ruleMath}, {"missing", ruleMissing},
	} {
		b.Run(rule.name, func(b *testing.B) {
			both(b, rule.src, func(p *Program, ev *Evaluator) {
				_, err := p.Bool(ev, Value{Record: moteRecord})
				if (err != nil) != (rule.src == ruleMissing) {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	for _, c := range []struct{ name, src string }{
		{"constructor", constructor}, {"pass_through", passThrough}, {"generated", generated},
	} {
		b.Run(c.name, func(b *testing.B) {
			var dst []byte
			both(b, c.src, func(p *Program, ev *Evaluator) {
				var err error
				if dst, err = p.AppendJSON(ev, dst[:0], Value{Record: moteRecord}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// TestNoAllocations holds typical rules to their promise.
func TestNoAllocations(t *testing.T) {
	for _, src := range []string{ruleSimple, ruleCombined, ruleMath, ruleMissing} {
		p, diags := Compile(parse(t, src), Record)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		ev := NewEvaluator(Host{})
		run := func() { _, _ = p.Bool(ev, Value{Record: moteRecord}) }
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", src, n)
		}
	}
}

func ExampleCompile() {
	e := mustParse(`record.payload.temperature > 25`)
	rule, diags := Compile(e, Record)
	if diags.HasErrors() {
		fmt.Println(diags)
		return
	}
	ev := NewEvaluator(Host{}) // one for each goroutine
	fires, err := rule.Bool(ev, Value{Record: moteRecord})
	fmt.Println(fires, err)
	// Output: true <nil>
}
