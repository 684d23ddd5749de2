package sdk_test

import (
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/sdk"
)

// reading is a payload of 252 bytes with 11 members.
const reading = `{"sensor_id":"boiler-room-supply-07","site":"plant-03","line":4,"temperature":71.25,` +
	`"humidity":40.5,"pressure":1013.25,"status":"ok","battery":{"level":0.87,"charging":false},` +
	`"firmware":"2.14.3","sequence":184467,"note":"calibrated 2026-10-01 by KJ 2"}`

// BenchmarkTransform gives each language's fahrenheit, which reads a member and
// adds another, 64 records at a time.
func BenchmarkTransform(b *testing.B) {
	if len(reading) != 252 {
		b.Fatalf("the payload has %d bytes", len(reading))
	}
	const batch = 64
	in := make([]record.Record, batch)
	for i := range in {
		in[i] = record.Record{ID: "r1", DeviceID: "edge-001", DataType: "reading", Timestamp: time.Unix(1, 0), Payload: []byte(reading)}
	}
	for _, lang := range sdk.Languages() {
		b.Run(lang, func(b *testing.B) {
			plugin, err := load(b, wasm.Options{}, wasm.Module{Name: "fahrenheit", Code: module(b, lang, "fahrenheit")})
			if err != nil {
				b.Fatal(err)
			}
			var out wasm.Output
			b.ReportAllocs()
			for b.Loop() {
				if err := plugin.Transform(b.Context(), in, time.Unix(2, 0), &out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/record")
			stats := plugin.Stats()
			b.ReportMetric(float64(stats.Fuel)/float64(stats.Records), "fuel/record")
		})
	}
}
