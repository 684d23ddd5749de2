package wasm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/edged/edged/engine/record"
)

// FuzzOutbox feeds the reader of outboxes with anything. Whatever it makes of
// it must be whole: one result for every record, and only valid records.
func FuzzOutbox(f *testing.F) {
	for _, v := range loadVectors(f) {
		if v.Op != "" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(vectorDir, v.Name+".out.bin"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(len(v.Records)), data)
	}
	f.Add(uint8(1), cat(outFrameBytes(0, actionPass, 0, "", ""), outFrameBytes(0, actionEmit, changedPayload, "", "{}")))
	f.Add(uint8(1), patched(outFrameBytes(0, actionEmit, changedPayload, "", "{}"), 28, 0xffffffff))
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		in := make([]record.Record, n)
		for i := range in {
			in[i] = testRecord("r")
		}
		limits := Limits{}.withDefaults()
		out := Output{Results: []Result{{Action: Pass}}}
		fault := out.decode(in, data, &limits)
		if fault != nil {
			if len(out.Results) != 1 || len(out.records) != 0 {
				t.Fatalf("a fault left %d results and %d records behind", len(out.Results), len(out.records))
			}
			return
		}
		if len(out.Results) != 1+len(in) {
			t.Fatalf("%d results for %d records", len(out.Results)-1, len(in))
		}
		for _, r := range out.Results[1:] {
			if r.Action < Pass || r.Action > Faulted || (r.Action == Faulted) != (r.Fault != nil) || (r.Action == Emit) != (len(r.Records) > 0) {
				t.Fatalf("result %+v", r)
			}
			for i := range r.Records {
				if err := r.Records[i].Check(); err != nil {
					t.Fatalf("an invalid record came through: %v", err)
				}
				if err := record.ValidObject(r.Records[i].Payload); err != nil {
					t.Fatalf("an invalid payload came through: %v", err)
				}
			}
		}
	})
}

// FuzzCall holds that a call the host writes can be read back by the frame
// lengths alone, whatever the records hold.
func FuzzCall(f *testing.F) {
	f.Add("r1", "edge-001", "sensor_reading", []byte(`{"a":1}`), int64(5), uint8(3))
	f.Add("", "", "", []byte{}, int64(-1), uint8(1))
	f.Fuzz(func(t *testing.T, id, device, typ string, payload []byte, ns int64, n uint8) {
		if len(id) > record.MaxNameBytes || len(device) > record.MaxNameBytes || len(typ) > record.MaxNameBytes {
			return
		}
		in := make([]record.Record, n)
		size := callHeader
		for i := range in {
			in[i] = record.Record{ID: id, DeviceID: device, DataType: typ, Timestamp: testTime.Add(0), Payload: payload}
			size += recordFrameSize(&in[i])
		}
		room := make([]byte, size)
		call := appendCall(room[:0], in, size, ns)
		if len(call) != size || size > 0 && &call[0] != &room[0] {
			t.Fatalf("the call has %d bytes, %d were announced", len(call), size)
		}
		at := callHeader
		for range in {
			frame := call[at:]
			if u32(frame)%8 != 0 || int(u32(frame)) > len(frame) {
				t.Fatalf("a frame of %d bytes at %d of %d", u32(frame), at, size)
			}
			body := frame[recordHeader:]
			if string(body[:len(id)]) != id || string(body[len(id)+len(device)+len(typ):][:len(payload)]) != string(payload) {
				t.Fatal("the parts are not where they should be")
			}
			at += int(u32(frame))
		}
		if at != size {
			t.Fatalf("the frames end at %d of %d", at, size)
		}
	})
}

func u32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
