package collect

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
)

// countingSink counts and forgets.
type countingSink struct{ records, bytes, rejected int }

func (s *countingSink) Trouble() error { return nil }

func (s *countingSink) Put(_ context.Context, b *Batch) error {
	s.records += len(b.Records)
	s.rejected += len(b.Rejected)
	for i := range b.Records {
		s.bytes += len(b.Records[i].Payload)
	}
	b.Done(nil)
	return nil
}

// run reads the file b.N times, counts at the sink, and reports rows per second.
func benchmarkFile(b *testing.B, rows int, body string, args ...any) {
	source := openedFile(b, newStepClock(), body, args...)
	b.ReportAllocs()
	began := time.Now()
	n := 0
	for b.Loop() {
		var sink countingSink
		if err := source.Run(b.Context(), nil, &sink); err != nil {
			b.Fatal(err)
		}
		if sink.records != rows || sink.rejected != 0 {
			b.Fatalf("%d records, %d rejected", sink.records, sink.rejected)
		}
		n += rows
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
}

// wireLines is a file of 200,000 records in wire form, 181 bytes a line.
func wireLines(b *testing.B) (path string, rows int) {
	b.Helper()
	var text []byte
	at := time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)
	for rows = range 200_000 {
		r := record.Record{
			ID: fmt.Sprintf("0197-%08d", rows), DeviceID: "edge-001", DataType: "sensor_reading",
			Timestamp: at.Add(time.Duration(rows) * 137 * time.Millisecond),
			Payload:   fmt.Appendf(nil, `{"temperature":%d.25,"humidity":%d.5,"battery":3.61}`, rows%40, rows%100),
		}
		text = append(r.AppendJSON(text), '\n')
	}
	path = filepath.Join(b.TempDir(), "wire.ndjson")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
	return path, rows + 1
}

func BenchmarkNDJSONWireForm(b *testing.B) {
	path, rows := wireLines(b)
	benchmarkFile(b, rows, `path = %q`, path)
}

// The floor under BenchmarkNDJSONWireForm: the same lines, parsed and nothing
// else.
func BenchmarkParseAlone(b *testing.B) {
	path, rows := wireLines(b)
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	began := time.Now()
	n := 0
	for b.Loop() {
		for rest := text; len(rest) > 0; n++ {
			i := bytes.IndexByte(rest, '\n')
			if _, err := record.Parse(rest[:i]); err != nil {
				b.Fatal(err)
			}
			rest = rest[i+1:]
		}
	}
	if n%rows != 0 {
		b.Fatal(n)
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
}

func BenchmarkNDJSONForeign(b *testing.B) {
	var text []byte
	const rows = 200_000
	for i := range rows {
		text = fmt.Appendf(text, `{"mote":"m%d","temperature":%d.25,"humidity":%d.5,"battery":3.61}`+"\n", i%4, i%40, i%100)
	}
	path := filepath.Join(b.TempDir(), "foreign.ndjson")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
	benchmarkFile(b, rows, `path = %q`, path)
}

func BenchmarkCSVPlain(b *testing.B) {
	benchmarkFile(b, 18760, "path = %q\nformat = \"csv\"\ncolumns = { temperature = \"number\", humidity = \"number\" }", motesCSV)
}

func BenchmarkCSVExpressions(b *testing.B) { benchmarkFile(b, 18760, motesArgs, motesCSV) }

func BenchmarkGenerator(b *testing.B) {
	source := openedGenerator(b, newStepClock(), "count = 10000\nseed = 1\npayload = { temperature = round(22 + uniform(-3, 3), 2) }")
	b.ReportAllocs()
	for b.Loop() {
		var sink countingSink
		if err := source.Run(b.Context(), nil, &sink); err != nil || sink.records != 10000 {
			b.Fatal(err, sink.records)
		}
	}
}
