package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reporting assembles a plugin that runs code and then drops the record, with
// the 32 bytes at atData as the reason in hexadecimal digits of the test's.
func reporting(g *guest, code ...[]byte) *guest {
	g.marker().allocAt(iconst(atInbox))
	outbox := outFrameBytes(0, actionEmit, changedID, strings.Repeat("0", 32), "")
	g.segment(atOutbox, outbox)
	var report [][]byte
	for i := range 32 { // a nibble to a letter, so that any bytes make an id
		report = append(report,
			iconst(atOutbox+outHeader+int64(i)),
			iconst(atData+int64(i/2)), load8(0), iconst(int64(4*(1-i%2))), op(0x76), iconst(15), op(0x71), // shr_u, and
			iconst('a'), add, op(0x3a, 0, 0), // store8
		)
	}
	g.fn("edged_transform", []byte{tI32, tI32}, []byte{tI64}, 0, 0, cat(code...), cat(report...), answer(atOutbox, uint32(len(outbox))))
	return g
}

// report runs the plugin and returns the 16 bytes it left at atData.
func report(t *testing.T, h *Host, g *guest, allow ...string) []byte {
	t.Helper()
	p := load(t, h, Module{Code: g.build(), Allow: allow})
	var out Output
	if err := p.Transform(t.Context(), testRecords("x"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	return reported(t, &out)
}

func reported(t *testing.T, out *Output) []byte {
	t.Helper()
	if len(out.Results[0].Records) != 1 {
		t.Fatalf("got %v %s", out.Results[0].Action, out.Results[0].Reason)
	}
	var b []byte
	id := out.Results[0].Records[0].ID
	for i := 0; i < len(id); i += 2 {
		b = append(b, (id[i]-'a')<<4|(id[i+1]-'a'))
	}
	return b
}

func storeAt(off int, value ...[]byte) []byte {
	return cat(iconst(atData+int64(off)), cat(value...), store32(0))
}

func TestWASIAnswers(t *testing.T) {
	call := func(name string, params int, body func(f int) []byte) (g *guest, code []byte) {
		g = newGuest()
		types := bytes.Repeat([]byte{tI32}, params)
		if name == "clock_time_get" || name == "fd_seek" {
			types[1] = tI64
		}
		g.importFunc(moduleWASI, name, types, []byte{tI32})
		return g, body(0)
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		params int
		body   func(f int) []byte
		check  func(b []byte) bool
	}{
		{"args_sizes_get", 2, func(f int) []byte {
			return storeAt(8, iconst(atData), iconst(atData+4), callf(f))
		}, func(b []byte) bool { return bytes.Equal(b[:12], make([]byte, 12)) }},
		{"environ_sizes_get", 2, func(f int) []byte {
			return storeAt(8, iconst(-4), iconst(atData+4), callf(f))
		}, func(b []byte) bool { return b[8] == wasiFault }},
		{"clock_time_get", 3, func(f int) []byte {
			return storeAt(8, iconst(0), lconst(0), iconst(atData), callf(f))
		}, func(b []byte) bool { return le.Uint64(b) == uint64(testTime.UnixNano()) && b[8] == wasiOK }},
		{"clock_time_get", 3, func(f int) []byte {
			return cat(iconst(1), lconst(0), iconst(atData), callf(f), drop, storeAt(8, iconst(1), lconst(0), iconst(atData), callf(f)))
		}, func(b []byte) bool { return le.Uint64(b) == 2000 && b[8] == wasiOK }},
		{"clock_time_get", 3, func(f int) []byte {
			return storeAt(8, iconst(0), lconst(0), iconst(-1), callf(f))
		}, func(b []byte) bool { return b[8] == wasiFault }},
		{"random_get", 2, func(f int) []byte {
			return storeAt(8, iconst(atData), iconst(8), callf(f))
		}, func(b []byte) bool { return le.Uint64(b) != 0 && b[8] == wasiOK }},
		{"random_get", 2, func(f int) []byte {
			return storeAt(8, iconst(0), iconst(maxRandomBytes+1), callf(f))
		}, func(b []byte) bool { return b[8] == wasiInval }},
		{"fd_fdstat_get", 2, func(f int) []byte {
			return storeAt(8, iconst(2), iconst(atData+24), callf(f))
		}, func(b []byte) bool { return b[8] == wasiOK }},
		{"fd_fdstat_get", 2, func(f int) []byte {
			return storeAt(8, iconst(3), iconst(atData+24), callf(f))
		}, func(b []byte) bool { return b[8] == wasiBadF }},
		{"fd_read", 4, func(f int) []byte {
			return storeAt(8, iconst(0), iconst(0), iconst(0), iconst(0), callf(f))
		}, func(b []byte) bool { return b[8] == wasiBadF }},
		{"fd_write", 4, func(f int) []byte {
			return storeAt(8, iconst(4), iconst(0), iconst(0), iconst(0), callf(f))
		}, func(b []byte) bool { return b[8] == wasiBadF }},
		{"fd_write", 4, func(f int) []byte {
			return storeAt(8, iconst(1), iconst(0), iconst(maxIOVec+1), iconst(0), callf(f))
		}, func(b []byte) bool { return b[8] == wasiInval }},
		{"fd_write", 4, func(f int) []byte { // the vector points outside
			return cat(storeAt(4, iconst(-1)), storeAt(8, iconst(1), iconst(atData), iconst(1), iconst(atData), callf(f)))
		}, func(b []byte) bool { return b[8] == wasiOK && le.Uint32(b) == 0xffffffff || b[8] == wasiFault }},
		{"poll_oneoff", 4, func(f int) []byte { // sleep: a clock subscription of zeros
			return storeAt(8, iconst(4096), iconst(8192), iconst(1), iconst(atData), callf(f))
		}, func(b []byte) bool { return b[8] == wasiOK && b[0] == 1 }},
		{"poll_oneoff", 4, func(f int) []byte {
			return storeAt(8, iconst(-8), iconst(8192), iconst(1), iconst(atData), callf(f))
		}, func(b []byte) bool { return b[8] == wasiFault }},
		{"sched_yield", 0, func(f int) []byte { return storeAt(8, callf(f)) }, func(b []byte) bool { return b[8] == wasiOK }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, code := call(c.name, c.params, c.body)
			if b := report(t, testHost(t), reporting(g, code)); !c.check(b) {
				t.Errorf("got %x", b)
			}
		})
	}
}

func TestRandomIsTheSameForEveryInstance(t *testing.T) {
	g := newGuest()
	g.importFunc(moduleWASI, "random_get", []byte{tI32, tI32}, []byte{tI32})
	reporting(g, storeAt(12, iconst(atData), iconst(8), callf(0)))
	first, second := report(t, testHost(t), g), report(t, testHost(t), g)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two instances got different bytes:\n%s", diff)
	}
}

func TestClockIsTheCalls(t *testing.T) {
	g := newGuest()
	g.importFunc(moduleEdged, "now_ns", nil, []byte{tI64})
	reporting(g, iconst(atData), callf(0), op(0x37, 3, 0)) // i64.store
	if b := report(t, testHost(t), g, CapabilityClock); binary.LittleEndian.Uint64(b) != uint64(testTime.UnixNano()) {
		t.Errorf("got %x", b)
	}
}

func TestLog(t *testing.T) {
	var buf bytes.Buffer
	h, err := NewHost(t.Context(), Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	g := newGuest()
	g.importFunc(moduleEdged, "log", []byte{tI32, tI32, tI32}, nil)
	g.importFunc(moduleEdged, "log_enabled", []byte{tI32}, []byte{tI32})
	g.segment(4096, []byte("it is \xff cold\n"))
	line := func(level, at, size int64) []byte { return cat(iconst(level), iconst(at), iconst(size), callf(0)) }
	reporting(g,
		line(2, 4096, 13), line(1, 4096, 5), line(0, 4096, 5), line(99, 4096, 2),
		line(1, -1, 5), // outside: left out
		storeAt(0, iconst(0), callf(1)), storeAt(4, iconst(3), callf(1)),
	)
	b := report(t, h, g, CapabilityLog)
	if b[0] != 0 || b[4] != 1 {
		t.Errorf("log_enabled: debug %d, error %d", b[0], b[4])
	}
	for _, want := range []string{`level=WARN msg="it is \ufffd cold" plugin=test`, `level=INFO msg="it is" plugin=test`, "level=ERROR msg=it plugin=test"} {
		if !strings.Contains(strings.ReplaceAll(buf.String(), "\ufffd", `\ufffd`), want) {
			t.Errorf("the log has no %s:\n%s", want, buf.String())
		}
	}
	if n := strings.Count(buf.String(), "\n"); n != 3 {
		t.Errorf("the log has %d lines, want 3", n)
	}
}

func TestLogIsBounded(t *testing.T) {
	g := newGuest()
	g.importFunc(moduleEdged, "log", []byte{tI32, tI32, tI32}, nil)
	g.marker().allocAt(iconst(atInbox)).passUnless(loop(
		iconst(1), iconst(0), iconst(1<<18), callf(0),
		get(4), iconst(1), add, set(4), get(4), iconst(atOutbox+1000), op(0x48), brIf(0)), // i32.lt_s
		iconst(atOutbox), set(4),
	)
	var buf bytes.Buffer
	h, err := NewHost(t.Context(), Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	p := load(t, h, Module{Code: g.build(), Allow: []string{CapabilityLog}})
	var out Output
	if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(buf.String(), "\n"); n != maxLogLines || p.Stats().LogDropped != 1000-maxLogLines {
		t.Errorf("%d lines were kept and %d dropped", n, p.Stats().LogDropped)
	}
}

func TestTrapTellsWhatWasPrinted(t *testing.T) {
	for _, exit := range []bool{false, true} {
		g := newGuest()
		g.importFunc(moduleWASI, "fd_write", []byte{tI32, tI32, tI32, tI32}, []byte{tI32})
		g.importFunc(moduleWASI, "proc_exit", []byte{tI32}, nil)
		g.segment(4096, []byte("panic: out of cheese\n"))
		end := unreachable
		want := "unreachable"
		if exit {
			end, want = cat(iconst(2), callf(1)), "the plugin called proc_exit"
		}
		g.marker().allocAt(iconst(atInbox)).passUnless(
			storeAt(0, iconst(4096)), storeAt(4, iconst(21)),
			iconst(2), iconst(atData), iconst(1), iconst(atData+8), callf(0), drop, end)
		p := load(t, testHost(t), Module{Code: g.build()})
		var out Output
		if err := p.Transform(t.Context(), testRecords("X", "a"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		r := out.Results[0]
		if r.Action != Faulted || r.Fault.Kind != FaultTrap || !strings.Contains(r.Reason, want) || !strings.HasSuffix(r.Reason, "it printed: panic: out of cheese") {
			t.Errorf("got %v %s", r.Action, r.Reason)
		}
		if out.Results[1].Action != Pass {
			t.Errorf("the next record: %v", out.Results[1].Action)
		}
	}
}

func TestCompiledCodeIsCached(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		h, err := NewHost(t.Context(), Options{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		p := load(t, h, Module{Code: evilGuest(spin).build(), Limits: Limits{Time: time.Millisecond}})
		var out Output
		if err := p.Transform(t.Context(), testRecords("a", "X"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(out.Results[0].Action, out.Results[1].Action); got != "pass fault" {
			t.Errorf("got %s", got)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewHost(t.Context(), Options{CacheDir: "/dev/null/x"}); err == nil {
		t.Error("a cache in an impossible place was opened")
	}
}
