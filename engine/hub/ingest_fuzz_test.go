package hub

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/edged/edged/engine/record"
)

// FuzzBatch holds that whatever is posted, what is stored is valid, bounded and
// on a subject of the sender's own, and every record is either stored or told.
func FuzzBatch(f *testing.F) {
	good := `{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-11-22T06:15:00Z","payload":{}}`
	for _, body := range []string{
		`{"records":[]}`, `{"records":[` + good + `]}`, `{"records":[` + good + `,7,{"id":"x"}, ` + good + ` ] }`,
		`{"records":[`, `[]`, `{"records":[1,]}`, `{"a":1,"records":[[[]],"s",null]}`,
	} {
		f.Add("edge", "pipe.line", []byte(body))
	}
	f.Fuzz(func(t *testing.T, edge, pipeline string, body []byte) {
		d, err := readBatch(sender{edge, pipeline}, body)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status/100 != 4 {
				t.Fatalf("an error that is not the client's: %v", err)
			}
			return
		}
		raws, err := splitBatch(body)
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Count(string(d.answer), `"index":`); len(d.messages) > len(raws) || told < len(raws)-len(d.messages) {
			t.Fatalf("%d records, %d stored, answer %s", len(raws), len(d.messages), d.answer)
		}
		for _, m := range d.messages {
			tokens := strings.Split(m.subject, ".")
			if len(tokens) != 7 || tokens[3] != record.Token(edge) || tokens[4] != record.Token(pipeline) || strings.ContainsAny(m.subject, " *>\r\n") {
				t.Fatalf("subject %q", m.subject)
			}
			if _, err := record.Parse(m.data); err != nil {
				t.Fatalf("stored %q: %v", m.data, err)
			}
		}
		if err := record.ValidObject(d.answer); err != nil {
			t.Fatalf("answer %s: %v", d.answer, err)
		}
	})
}

// TestDecompressStopsAtItsBound holds that a bomb is not unpacked first and
// measured then (I9).
func TestDecompressStopsAtItsBound(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := decompress("gzip", z.Bytes(), 1<<20); err == nil {
		t.Error("64 MiB were taken")
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes were used", used)
	}
}

// FuzzDecompress holds that no body yields more than its bound.
func FuzzDecompress(f *testing.F) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(bytes.Repeat([]byte("x"), 5000)) //nolint:errcheck // a buffer takes everything
	w.Close()
	f.Add("gzip", z.Bytes())
	f.Add("gzip", z.Bytes()[:20])
	f.Add("zstd", []byte("\x28\xb5\x2f\xfd\x04\x00\x41\x00\x00hello\x00\x00\x00\x00"))
	f.Add("zstd", []byte("\x28\xb5\x2f\xfd\xff\xff\xff\xff"))
	f.Add("", []byte("x"))
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		const most = 4 << 10
		out, err := decompress(encoding, body, most)
		var r *refusal
		switch {
		case err != nil && (!errors.As(err, &r) || r.status/100 != 4):
			t.Fatalf("an error that is not the client's: %v", err)
		case err == nil && len(out) > max(most, len(body)):
			t.Fatalf("%d bytes came out of %d", len(out), len(body))
		}
	})
}

// FuzzMessage holds that what is stored is a message on the topic asked for.
func FuzzMessage(f *testing.F) {
	f.Add("x", []byte(`{"id":"m","topic":"x","priority":"low","body":{}}`))
	f.Add("a/b", []byte(`{"id":"m","topic":"a/b","body":null}`))
	f.Add("", []byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, topic string, body []byte) {
		d, err := readMessage(sender{"e", "p"}, topic, body)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status/100 != 4 {
				t.Fatalf("an error that is not the client's: %v", err)
			}
			return
		}
		tokens := strings.Split(d.messages[0].subject, ".")
		if len(tokens) != 6 || tokens[5] != record.Token(topic) {
			t.Fatalf("subject %q", d.messages[0].subject)
		}
		if err := record.ValidObject(d.answer); err != nil {
			t.Fatalf("answer %s: %v", d.answer, err)
		}
	})
}
