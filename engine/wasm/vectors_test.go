package wasm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/record"
)

var update = flag.Bool("update", false, "write the golden vectors of sdk/testdata from vectors.json")

const vectorDir = "../../sdk/testdata"

// vector is one entry of vectors.json, which people write; <name>.call.bin and
// <name>.out.bin are made from it and are what every SDK reads and writes.
type vector struct {
	Name string
	// Op is "resolve" for a call of conflicts.
	Op      string
	Now     time.Time
	Records []struct {
		ID        string    `json:"id"`
		DeviceID  string    `json:"device_id"`
		DataType  string    `json:"data_type"`
		Timestamp time.Time `json:"timestamp"`
		Payload   string    `json:"payload"`
	}
	Frames []vectorFrame

	// Needs is "headers" for a call without payloads.
	Needs     string
	Conflicts []vectorConflict
	Verdicts  []vectorVerdict
}

type vectorFrame struct {
	Src       uint32     `json:"src"`
	Action    string     `json:"action"`
	Code      uint16     `json:"code"`
	ID        *string    `json:"id"`
	DeviceID  *string    `json:"device_id"`
	DataType  *string    `json:"data_type"`
	Timestamp *time.Time `json:"timestamp"`
	Payload   *string    `json:"payload"`
	Reason    string     `json:"reason"`
}

func (v *vector) records() []record.Record {
	var in []record.Record
	for _, r := range v.Records {
		in = append(in, record.Record{ID: r.ID, DeviceID: r.DeviceID, DataType: r.DataType, Timestamp: r.Timestamp, Payload: []byte(r.Payload)})
	}
	return in
}

// append writes the out frame, apart from what the host and the SDKs do.
func (f *vectorFrame) append(dst []byte) []byte {
	le := binary.LittleEndian
	frame := make([]byte, outHeader)
	var changed uint32
	part := func(s *string, bit uint32, off int) {
		if s == nil {
			return
		}
		changed |= bit
		frame = append(frame, *s...)
		le.PutUint16(frame[off:], uint16(len(*s)))
	}
	part(f.ID, 1, 16)
	part(f.DeviceID, 2, 18)
	part(f.DataType, 4, 20)
	last := f.Reason
	if f.Payload != nil {
		changed |= 32
		last = *f.Payload
	}
	frame = append(frame, last...)
	le.PutUint32(frame[28:], uint32(len(last)))
	if f.Timestamp != nil {
		changed |= 8
		le.PutUint64(frame[32:], uint64(f.Timestamp.UnixNano()))
	}
	for len(frame)%8 != 0 {
		frame = append(frame, 0)
	}
	le.PutUint32(frame, uint32(len(frame)))
	le.PutUint32(frame[4:], f.Src)
	le.PutUint16(frame[8:], map[string]uint16{"emit": 1, "pass": 2, "drop": 3, "error": 4}[f.Action])
	le.PutUint16(frame[10:], f.Code)
	le.PutUint32(frame[12:], changed)
	return append(dst, frame...)
}

// results is what the host must make of the frames.
func (v *vector) results(in []record.Record) []Result {
	var out []Result
	for i := range in {
		var frames []vectorFrame
		for _, f := range v.Frames {
			if f.Src == uint32(i) {
				frames = append(frames, f)
			}
		}
		switch f := frames[0]; {
		case f.Action == "pass" && len(frames) == 1:
			out = append(out, Result{Action: Pass})
		case f.Action == "drop":
			out = append(out, Result{Action: Drop, Code: f.Code, Reason: f.Reason})
		case f.Action == "error":
			out = append(out, Result{Action: Error, Code: f.Code, Reason: f.Reason})
		default:
			res := Result{Action: Emit}
			for n, f := range frames {
				res.Records = append(res.Records, f.of(in[i], n))
			}
			out = append(out, res)
		}
	}
	return out
}

func (f *vectorFrame) of(r record.Record, n int) record.Record {
	for _, p := range []struct{ from, to *string }{{f.ID, &r.ID}, {f.DeviceID, &r.DeviceID}, {f.DataType, &r.DataType}} {
		if p.from != nil {
			*p.to = *p.from
		}
	}
	if f.ID == nil && n > 0 {
		r.ID += "." + strconv.Itoa(n+1)
	}
	if f.Timestamp != nil {
		r.Timestamp = *f.Timestamp
	}
	if f.Payload != nil {
		r.Payload = []byte(*f.Payload)
	}
	return r
}

func golden(t *testing.T, name string, made []byte) []byte {
	t.Helper()
	path := filepath.Join(vectorDir, name)
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectorDir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func TestGoldenVectors(t *testing.T) {
	for _, v := range loadVectors(t) {
		if v.Op != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			in := v.records()
			size := callHeader
			for i := range in {
				size += recordFrameSize(&in[i])
			}
			call := appendCall(nil, in, size, unixNano(v.Now))
			if len(call) != size {
				t.Errorf("the call has %d bytes, %d were announced", len(call), size)
			}
			if want := golden(t, v.Name+".call.bin", call); !bytes.Equal(call, want) {
				t.Errorf("the call differs:\n%s", cmp.Diff(want, call))
			}
			var outbox []byte
			for i := range v.Frames {
				outbox = v.Frames[i].append(outbox)
			}
			if want := golden(t, v.Name+".out.bin", outbox); !bytes.Equal(outbox, want) {
				t.Errorf("the answer differs:\n%s", cmp.Diff(want, outbox))
			}
			var out Output
			limits := Limits{}.withDefaults()
			if fault := out.decode(in, outbox, &limits); fault != nil {
				t.Fatal(fault)
			}
			if diff := cmp.Diff(v.results(in), out.Results); diff != "" {
				t.Errorf("the host understood otherwise:\n%s", diff)
			}
		})
	}
}
