package wasm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectorVersion is one side of a conflict in vectors.json. Numbers of 64 bits
// are strings there: not every JSON reader keeps them.
type vectorVersion struct {
	DeviceID string `json:"device_id"`
	DataType string `json:"data_type"`
	Wall     int64  `json:"wall,string"`
	Counter  uint64 `json:"counter,string"`
	Clock    string `json:"clock"`
	Revision uint64 `json:"revision,string"`
	Deleted  bool   `json:"deleted"`
	Payload  string `json:"payload"`
}

type vectorConflict struct {
	Key    string         `json:"key"`
	Base   *vectorVersion `json:"base"`
	Local  vectorVersion  `json:"local"`
	Remote vectorVersion  `json:"remote"`
}

type vectorVerdict struct {
	Src     uint32 `json:"src"`
	Action  string `json:"action"`
	Code    uint16 `json:"code"`
	Payload string `json:"payload"`
	Reason  string `json:"reason"`
}

func (v *vectorVersion) of(key string) Version {
	clock := map[string]ClockQuality{"synced": ClockSynced, "floor": ClockFloor, "unknown": ClockUnknown}[v.Clock]
	return Version{
		Key: key, Device: v.DeviceID, DataType: v.DataType, WallNS: v.Wall, Counter: v.Counter, ClockQuality: clock,
		Deleted: v.Deleted, Revision: v.Revision, Body: []byte(v.Payload),
	}
}

func (v *vector) conflicts() []Conflict {
	var in []Conflict
	for _, c := range v.Conflicts {
		conflict := Conflict{Local: c.Local.of(c.Key), Remote: c.Remote.of(c.Key)}
		if c.Base != nil {
			base := c.Base.of(c.Key)
			conflict.Base = &base
		}
		in = append(in, conflict)
	}
	return in
}

// append writes the verdict, apart from what the host and the SDKs do.
func (f *vectorVerdict) append(dst []byte) []byte {
	payload := f.Payload + f.Reason
	actions := map[string]uint16{"local": 1, "remote": 2, "merged": 3, "delete": 4, "manual": 5, "error": 6}
	return append(dst, verdictBytes(f.Src, actions[f.Action], f.Code, payload)...)
}

// verdictBytes writes a verdict as a guest would.
func verdictBytes(src uint32, action, code uint16, payload string) []byte {
	le := binary.LittleEndian
	b := make([]byte, pad8(verdictHeader+len(payload)))
	le.PutUint32(b, uint32(len(b)))
	le.PutUint32(b[4:], src)
	le.PutUint16(b[8:], action)
	le.PutUint16(b[10:], code)
	le.PutUint32(b[12:], uint32(len(payload)))
	copy(b[verdictHeader:], payload)
	return b
}

func (f *vectorVerdict) verdict() Verdict {
	v := Verdict{Code: f.Code, Reason: f.Reason}
	for a, name := range verdictNames {
		if name == f.Action {
			v.Action = VerdictAction(a)
		}
	}
	if v.Action == VerdictMerged {
		v.Payload = []byte(f.Payload)
	}
	return v
}

func TestGoldenResolveVectors(t *testing.T) {
	for _, v := range loadVectors(t) {
		if v.Op != "resolve" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			in, bodies := v.conflicts(), v.Needs != "headers"
			size := resolveSize(in, bodies)
			call := appendResolve(nil, in, size, bodies)
			if len(call) != size {
				t.Errorf("the call has %d bytes, %d were announced", len(call), size)
			}
			if want := golden(t, v.Name+".call.bin", call); !bytes.Equal(call, want) {
				t.Errorf("the call differs:\n%s", cmp.Diff(want, call))
			}
			var outbox []byte
			var verdicts []Verdict
			for i := range v.Verdicts {
				outbox = v.Verdicts[i].append(outbox)
				verdicts = append(verdicts, v.Verdicts[i].verdict())
			}
			if want := golden(t, v.Name+".out.bin", outbox); !bytes.Equal(outbox, want) {
				t.Errorf("the answer differs:\n%s", cmp.Diff(want, outbox))
			}
			var out ResolveOutput
			limits := Limits{}.withDefaults()
			if fault := out.decode(len(in), outbox, &limits); fault != nil {
				t.Fatal(fault)
			}
			if diff := cmp.Diff(verdicts, out.Verdicts); diff != "" {
				t.Errorf("the host understood otherwise:\n%s", diff)
			}
		})
	}
}
