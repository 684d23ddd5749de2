package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edged/edged/engine/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testHost(t testing.TB) *Host {
	t.Helper()
	h, err := NewHost(t.Context(), Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("closing the host: %v", err)
		}
	})
	return h
}

func load(t testing.TB, h *Host, m Module) *Plugin {
	t.Helper()
	if m.Name == "" {
		m.Name = "test"
	}
	p, err := h.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var testTime = time.Date(2026, 11, 22, 6, 15, 0, 123e6, time.UTC)

func testRecord(id string) record.Record {
	return record.Record{ID: id, DeviceID: "edge-001", DataType: "sensor_reading", Timestamp: testTime, Payload: []byte(`{"t":1}`)}
}

func testRecords(ids ...string) []record.Record {
	in := make([]record.Record, len(ids))
	for i, id := range ids {
		in[i] = testRecord(id)
	}
	return in
}

// outFrameBytes writes an out frame as a guest would.
func outFrameBytes(src uint32, action uint16, changed uint32, id, payload string) []byte {
	le := binary.LittleEndian
	size := pad8(outHeader + len(id) + len(payload))
	b := make([]byte, size)
	le.PutUint32(b, uint32(size))
	le.PutUint32(b[4:], src)
	le.PutUint16(b[8:], action)
	le.PutUint16(b[10:], 7)
	le.PutUint32(b[12:], changed)
	le.PutUint16(b[16:], uint16(len(id)))
	le.PutUint32(b[28:], uint32(len(payload)))
	copy(b[outHeader:], id)
	copy(b[outHeader+len(id):], payload)
	return b
}

// patched returns b with a little-endian number of 4 bytes at off.
func patched(b []byte, off int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[off:], v)
	return b
}

// returning is a body that returns a static outbox.
func returning(g *guest, outbox []byte) *guest {
	g.segment(atData, outbox)
	return g
}

var spin = loop(br(0))

func TestEvilRecordFaultsAlone(t *testing.T) {
	ok := outFrameBytes(0, actionPass, 0, "", "")
	static := func(outbox []byte) *guest {
		return returning(evilGuest(answer(atData, uint32(len(outbox))), ret), outbox)
	}
	recursion := func() *guest {
		g := newGuest().marker().allocAt(iconst(atInbox))
		deep := len(g.funcs)
		g.fn("", nil, nil, 0, 0, callf(deep))
		return g.passUnless(callf(deep))
	}
	explode := func() *guest {
		// A chain without a loop: each function calls the next one twice.
		g := newGuest().marker().allocAt(iconst(atInbox))
		last := g.fn("", nil, nil, 0, 0)
		for range 40 {
			last = g.fn("", nil, nil, 0, 0, callf(last), callf(last))
		}
		return g.passUnless(callf(last))
	}
	for _, c := range []struct {
		name string
		code *guest
		kind FaultKind
		want string
	}{
		{"endless loop", evilGuest(spin), FaultTime, "took longer than"},
		{"trap", evilGuest(unreachable), FaultTrap, "unreachable"},
		{"endless recursion", recursion(), FaultTrap, "stack overflow"},
		{"calls without a loop", explode(), FaultTime, "took longer than"},
		{"memory outside", evilGuest(iconst(-8), load32(0), drop), FaultTrap, "out of bounds memory access"},
		{"gives up", evilGuest(lconst(0), ret), FaultFrame, "gave up"},
		{"pointer outside", evilGuest(answer(0xfffffff0, 64), ret), FaultFrame, "outside the plugin's memory"},
		{"length to the end of memory", evilGuest(answer(8, 0x7fff8), ret), FaultFrame, "says it has 0 bytes"},
		{"length past memory", evilGuest(answer(8, 0x80000), ret), FaultFrame, "outside the plugin's memory"},
		{"huge output", evilGuest(answer(0, 0xffffffff), ret), FaultOutput, "returned 4294967295 bytes"},
		{"empty outbox", evilGuest(answer(8, 0), ret), FaultFrame, "has no answer"},
		{"half a header", static(ok[:outHeader-8]), FaultFrame, "32 bytes are left"},
		{"frame length zero", static(patched(outFrameBytes(0, actionPass, 0, "", ""), 0, 0)), FaultFrame, "says it has 0 bytes"},
		{"frame length past the end", static(patched(outFrameBytes(0, actionPass, 0, "", ""), 0, 48)), FaultFrame, "says it has 48 bytes"},
		{"frame length odd", static(patched(outFrameBytes(0, actionEmit, 0, "", "{}"), 0, 42)), FaultFrame, "says it has 42 bytes"},
		{"frame length enormous", static(patched(outFrameBytes(0, actionPass, 0, "", ""), 0, 0xffffffff)), FaultFrame, "says it has 4294967295 bytes"},
		{"payload past the frame", static(patched(outFrameBytes(0, actionEmit, changedPayload, "", "{}"), 28, 0xffffffff)), FaultFrame, "the parts of an out frame"},
		{"index out of range", static(outFrameBytes(1, actionPass, 0, "", "")), FaultFrame, "answers record 1 of 1"},
		{"unknown action", static(outFrameBytes(0, 77, 0, "", "")), FaultFrame, "unknown action 77"},
		{"route", static(outFrameBytes(0, actionRoute, 0, "", "")), FaultFrame, "reserved"},
		{"unknown change", static(outFrameBytes(0, actionEmit, 1<<20, "", "")), FaultFrame, "unknown bits"},
		{"drop and pass", static(cat(outFrameBytes(0, actionDrop, 0, "", ""), ok)), FaultFrame, "beside a drop"},
		{"pass and error", static(cat(ok, outFrameBytes(0, actionError, 0, "", ""))), FaultFrame, "beside a drop"},
		{"payload no JSON", static(outFrameBytes(0, actionEmit, changedPayload, "", "{")), FaultRecord, "not valid JSON"},
		{"payload no object", static(outFrameBytes(0, actionEmit, changedPayload, "", "[]")), FaultRecord, "object is expected"},
		{"empty id", static(outFrameBytes(0, actionEmit, changedID, "", "")), FaultRecord, "id is empty"},
		{"long id", static(outFrameBytes(0, actionEmit, changedID, strings.Repeat("a", 256), "")), FaultRecord, "256 bytes"},
		{"id no UTF-8", static(outFrameBytes(0, actionEmit, changedID, "\xff", "")), FaultRecord, "UTF-8"},
		{"split with one id", static(cat(outFrameBytes(0, actionEmit, changedID, "a", ""), outFrameBytes(0, actionEmit, changedID, "a", ""))), FaultRecord, "two of the records"},
		{"changes not marked", static(outFrameBytes(0, actionEmit, 0, "", "{}")), FaultRecord, "not marked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := 20 * time.Millisecond
			if c.kind == FaultTrap {
				limit = time.Minute // a deep stack takes a while to fill
			}
			p := load(t, testHost(t), Module{Code: c.code.build(), Limits: Limits{Time: limit}})
			in := testRecords("a", "b", "X1", "c", "X2", "d")
			var out Output
			if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
				t.Fatal(err)
			}
			if len(out.Results) != len(in) {
				t.Fatalf("got %d results for %d records", len(out.Results), len(in))
			}
			for i, r := range out.Results {
				if in[i].ID[0] != 'X' {
					if r.Action != Pass {
						t.Errorf("record %s: got %v (%s), want pass", in[i].ID, r.Action, r.Reason)
					}
					continue
				}
				if r.Action != Faulted || r.Fault.Kind != c.kind || !strings.Contains(r.Reason, c.want) {
					t.Errorf("record %s: got %v %q, want a %s fault with %q", in[i].ID, r.Action, r.Reason, c.kind, c.want)
				}
				if !strings.Contains(r.Reason, p.Name()) || !strings.Contains(r.Reason, p.SHA256()) {
					t.Errorf("reason %q does not name plugin and sha256", r.Reason)
				}
			}
			if s := p.Stats(); s.Faulted != 2 || s.Passed != 4 || s.Records != 6 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

func TestOrderOfAnswersIsChecked(t *testing.T) {
	// The guest answers the second record first, whatever it is given.
	g := newGuest().marker().allocAt(iconst(atInbox))
	outbox := cat(outFrameBytes(1, actionPass, 0, "", ""), outFrameBytes(0, actionPass, 0, "", ""))
	g.segment(atData, outbox)
	g.fn("edged_transform", []byte{tI32, tI32}, []byte{tI64}, 0, 0, answer(atData, uint32(len(outbox))))
	p := load(t, testHost(t), Module{Code: g.build()})
	var out Output
	if err := p.Transform(t.Context(), testRecords("a", "b"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Results {
		if r.Action != Faulted || r.Fault.Kind != FaultFrame {
			t.Errorf("got %v %s, want a frame fault", r.Action, r.Reason)
		}
	}
}

func TestInboxIsChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		code [][]byte
		kind FaultKind
	}{
		{"zero", [][]byte{iconst(0)}, FaultMemory},
		{"unaligned", [][]byte{iconst(atInbox + 4)}, FaultFrame},
		{"outside", [][]byte{iconst(-8)}, FaultFrame},
		{"end outside", [][]byte{iconst(8*pageSize - 8)}, FaultFrame},
		{"trap", [][]byte{unreachable}, FaultTrap},
		{"endless", [][]byte{spin, unreachable}, FaultTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest().marker().allocAt(c.code...).passUnless()
			p := load(t, testHost(t), Module{Code: g.build(), Limits: Limits{Time: 20 * time.Millisecond}})
			var out Output
			if err := p.Transform(t.Context(), testRecords("a", "b"), testTime, &out); err != nil {
				t.Fatal(err)
			}
			for _, r := range out.Results {
				if r.Action != Faulted || r.Fault.Kind != c.kind {
					t.Errorf("got %v %s, want a %s fault", r.Action, r.Reason, c.kind)
				}
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	// Grows page by page until it is refused, then returns its pages as id.
	grow := loop(iconst(1), memGrow, iconst(-1), op(0x47), brIf(0))
	check := cat(memSize, iconst(DefaultMemory/pageSize), op(0x4b), when(unreachable)) // i32.gt_u
	for _, limit := range []int64{0, 1 << 20} {
		code := evilGuest(grow, check, answer(8, 0), ret).build()
		p := load(t, testHost(t), Module{Code: code, Limits: Limits{Memory: limit, Time: time.Second}})
		var out Output
		if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if f := out.Results[0].Fault; f == nil || f.Kind != FaultFrame {
			t.Fatalf("the guest grew past its limit: %v", out.Results[0].Reason)
		}
	}
}

func TestResults(t *testing.T) {
	for _, c := range []struct {
		name   string
		outbox []byte
		want   Result
	}{
		{"pass", outFrameBytes(0, actionPass, 0, "", ""), Result{Action: Pass}},
		{"drop", outFrameBytes(0, actionDrop, 0, "", "old\nnews"), Result{Action: Drop, Code: 7, Reason: "old news"}},
		{"error", outFrameBytes(0, actionError, 0, "", "no field t"), Result{Action: Error, Code: 7, Reason: "no field t"}},
		{"error without text", outFrameBytes(0, actionError, 0, "", ""), Result{Action: Error, Code: 7, Reason: "the plugin gave no reason, code 7"}},
		{"emit payload", outFrameBytes(0, actionEmit, changedPayload, "", ` {"a":1.0}`), Result{Action: Emit, Records: []record.Record{with("X", `{"a":1.0}`)}}},
		{"emit unchanged", outFrameBytes(0, actionEmit, 0, "", ""), Result{Action: Emit, Records: testRecords("X")}},
		{
			"split with ids", cat(outFrameBytes(0, actionEmit, changedID, "p", ""), outFrameBytes(0, actionEmit, changedID, "q", "")),
			Result{Action: Emit, Records: testRecords("p", "q")},
		},
		{
			"split without ids", cat(outFrameBytes(0, actionPass, 0, "", ""), outFrameBytes(0, actionEmit, changedPayload, "", "{}"), outFrameBytes(0, actionEmit, 0, "", "")),
			Result{Action: Emit, Records: []record.Record{testRecord("X"), with("X.2", "{}"), testRecord("X.3")}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := returning(evilGuest(answer(atData, uint32(len(c.outbox))), ret), c.outbox)
			p := load(t, testHost(t), Module{Code: g.build()})
			var out Output
			for range 2 { // the second time with used buffers
				if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
					t.Fatal(err)
				}
				if got, want := fmt.Sprintf("%+v", out.Results), fmt.Sprintf("%+v", []Result{c.want}); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
		})
	}
}

func with(id, payload string) record.Record {
	r := testRecord(id)
	r.Payload = []byte(payload)
	return r
}

func TestRecordOutputIsBounded(t *testing.T) {
	outbox := outFrameBytes(0, actionEmit, changedPayload, "", `{"a":"`+strings.Repeat("b", 2000)+`"}`)
	g := returning(evilGuest(answer(atData, uint32(len(outbox))), ret), outbox)
	p := load(t, testHost(t), Module{Code: g.build(), Limits: Limits{RecordOutput: 2000}})
	var out Output
	if err := p.Transform(t.Context(), testRecords("a", "X"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if out.Results[0].Action != Pass || out.Results[1].Action != Faulted || out.Results[1].Fault.Kind != FaultOutput {
		t.Errorf("got %+v", out.Results)
	}
}

func TestManyRecordsAndCalls(t *testing.T) {
	p := load(t, testHost(t), Module{Code: evilGuest(unreachable).build()})
	var in []record.Record
	for i := range 1000 {
		id := fmt.Sprintf("r%d", i)
		if i%100 == 99 {
			id = "X" + id
		}
		in = append(in, testRecord(id))
	}
	errs := make(chan error)
	const callers = 8
	for range callers {
		go func() {
			var out Output
			err := p.Transform(t.Context(), in, testTime, &out)
			for i, r := range out.Results {
				if faulted := r.Action == Faulted; faulted != (in[i].ID[0] == 'X') {
					err = errors.Join(err, fmt.Errorf("record %s: %v", in[i].ID, r.Action))
				}
			}
			errs <- err
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s := p.Stats(); s.Records != 8000 || s.Faulted != 80 {
		t.Errorf("stats: %+v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) > 2 {
		t.Errorf("%d instances are idle, the pool has room for 2", len(p.idle))
	}
}

func TestTransformStopsWithItsContext(t *testing.T) {
	p := load(t, testHost(t), Module{Code: evilGuest(spin).build(), Limits: Limits{Time: time.Hour}})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	defer stop.Stop()
	var out Output
	if err := p.Transform(ctx, testRecords("X"), testTime, &out); !errors.Is(err, cause) {
		t.Fatalf("got %v, want %v", err, cause)
	}
	if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); err != nil || out.Results[0].Action != Pass {
		t.Fatalf("the plugin did not recover: %v %+v", err, out.Results)
	}
}

func TestClosedPlugin(t *testing.T) {
	p := load(t, testHost(t), Module{Code: evilGuest().build()})
	for range 2 {
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var out Output
	if err := p.Transform(t.Context(), testRecords("a"), testTime, &out); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
}
