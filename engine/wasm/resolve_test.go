package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// resolveUnless adds a resolver that says local to every conflict but those
// whose key begins with 'X'; on these it does what evil says. Its locals are
// those of passUnless.
func (g *guest) resolveUnless(evil ...[]byte) *guest {
	g.fn("edged_resolve", []byte{tI32, tI32}, []byte{tI64}, 4, 0,
		get(0), load32(8), set(2),
		get(0), iconst(callHeader), add, set(3),
		iconst(atOutbox), set(4),
		block(loop(
			get(5), get(2), geU, brIf(1),
			get(3), load8(conflictHeader+recordHeader), iconst('X'), eq, when(evil...),
			get(4), iconst(verdictHeader), store32(0),
			get(4), get(5), store32(4),
			get(4), iconst(verdictLocal), store32(8),
			get(4), iconst(verdictHeader), add, set(4),
			get(3), get(3), load32(0), add, set(3),
			get(5), iconst(1), add, set(5),
			br(0),
		)),
		lconst(atOutbox), lconst(32), shl64, get(4), iconst(atOutbox), sub, extend, or64,
	)
	return g
}

func evilResolver(evil ...[]byte) *guest {
	return newGuest().marker().allocAt(iconst(atInbox)).resolveUnless(evil...)
}

// describing adds an edged_describe that returns about.
func (g *guest) describing(about string) *guest {
	g.segment(512, []byte(about))
	g.fn("edged_describe", nil, []byte{tI64}, 0, 0, answer(512, uint32(len(about))))
	return g
}

func testConflict(key string) Conflict {
	version := func(device string, at int64) Version {
		return Version{Key: key, Device: device, DataType: "setting", WallNS: testTime.UnixNano() + at, Revision: 3, Body: []byte(`{"setpoint":21.50}`)}
	}
	base := version("hub", -5)
	return Conflict{Base: &base, Local: version("edge-001", 1), Remote: version("hub", 2)}
}

func testConflicts(keys ...string) []Conflict {
	in := make([]Conflict, len(keys))
	for i, key := range keys {
		in[i] = testConflict(key)
	}
	return in
}

func TestEvilConflictFaultsAlone(t *testing.T) {
	ok := verdictBytes(0, verdictLocal, 0, "")
	static := func(outbox []byte) *guest {
		return returning(evilResolver(answer(atData, uint32(len(outbox))), ret), outbox)
	}
	one := func(action, code uint16, payload string) *guest {
		return static(verdictBytes(0, action, code, payload))
	}
	for _, c := range []struct {
		name string
		code *guest
		kind FaultKind
		want string
	}{
		{"endless loop", evilResolver(spin), FaultTime, "took longer than"},
		{"trap", evilResolver(unreachable), FaultTrap, "unreachable"},
		{"gives up", evilResolver(lconst(0), ret), FaultFrame, "edged_resolve gave up"},
		{"pointer outside", evilResolver(answer(0xfffffff0, 64), ret), FaultFrame, "outside the plugin's memory"},
		{"huge output", evilResolver(answer(0, 0xffffffff), ret), FaultOutput, "returned 4294967295 bytes"},
		{"empty outbox", evilResolver(answer(8, 0), ret), FaultFrame, "has no verdict"},
		{"half a header", static(ok[:verdictHeader-8]), FaultFrame, "16 bytes are left"},
		{"frame length zero", static(patched(verdictBytes(0, verdictLocal, 0, ""), 0, 0)), FaultFrame, "says it has 0 bytes"},
		{"frame length past the end", static(patched(verdictBytes(0, verdictLocal, 0, ""), 0, 32)), FaultFrame, "says it has 32 bytes"},
		{"frame length odd", static(patched(verdictBytes(0, verdictMerged, 0, "{}"), 0, 26)), FaultFrame, "says it has 26 bytes"},
		{"payload past the frame", static(patched(verdictBytes(0, verdictMerged, 0, "{}"), 12, 0xffffffff)), FaultFrame, "the payload of a verdict has 4294967295"},
		{"index out of range", static(verdictBytes(1, verdictLocal, 0, "")), FaultFrame, "for conflict 1 of 1"},
		{"two verdicts", static(cat(ok, ok)), FaultFrame, "follow the last verdict"},
		{"unknown action", one(77, 0, ""), FaultFrame, "unknown action 77"},
		{"no action", one(0, 0, ""), FaultFrame, "unknown action 0"},
		{"merged no JSON", one(verdictMerged, 0, "{"), FaultRecord, "not valid JSON"},
		{"merged nothing", one(verdictMerged, 0, ""), FaultRecord, "not valid JSON"},
		{"merged two values", one(verdictMerged, 0, "1 2"), FaultRecord, "not valid JSON"},
		{"merged with a code", one(verdictMerged, 1, "1"), FaultRecord, "with the code 1"},
		{"local with a payload", one(verdictLocal, 0, "{}"), FaultRecord, "with a payload of 2 bytes"},
		{"manual for a third side", one(verdictManual, 2, ""), FaultRecord, "neither 0 (remote) nor 1 (local)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := load(t, testHost(t), Module{Code: c.code.build(), Limits: Limits{Time: 20 * time.Millisecond}})
			in := testConflicts("a", "b", "X1", "c", "X2", "d")
			var out ResolveOutput
			for range 2 { // the second time with used buffers
				if err := p.Resolve(t.Context(), in, &out); err != nil {
					t.Fatal(err)
				}
				if len(out.Verdicts) != len(in) {
					t.Fatalf("got %d verdicts for %d conflicts", len(out.Verdicts), len(in))
				}
			}
			for i, v := range out.Verdicts {
				key := in[i].Local.Key
				switch {
				case key[0] != 'X' && v.Action != VerdictLocal:
					t.Errorf("conflict %s: got %v (%s), want local", key, v.Action, v.Reason)
				case key[0] == 'X' && (v.Action != VerdictFaulted || v.Fault.Kind != c.kind || !strings.Contains(v.Reason, c.want)):
					t.Errorf("conflict %s: got %v %q, want a %s fault with %q", key, v.Action, v.Reason, c.kind, c.want)
				case key[0] == 'X' && (!strings.Contains(v.Reason, p.Name()) || !strings.Contains(v.Reason, p.SHA256())):
					t.Errorf("reason %q does not name plugin and sha256", v.Reason)
				}
			}
			if s := p.Stats(); s.Faulted != 4 || s.Conflicts != 12 || s.Records != 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		outbox []byte
		want   Verdict
	}{
		{verdictBytes(0, verdictRemote, 0, ""), Verdict{Action: VerdictRemote}},
		{verdictBytes(0, verdictDelete, 0, ""), Verdict{Action: VerdictDelete}},
		{verdictBytes(0, verdictMerged, 0, " 1.50\n"), Verdict{Action: VerdictMerged, Payload: []byte("1.50")}},
		{verdictBytes(0, verdictManual, 1, "ask\nBob"), Verdict{Action: VerdictManual, Code: 1, Reason: "ask Bob"}},
		{verdictBytes(0, verdictError, 9, ""), Verdict{Action: VerdictError, Code: 9, Reason: "the plugin gave no reason, code 9"}},
	} {
		t.Run(c.want.Action.String(), func(t *testing.T) {
			g := returning(evilResolver(answer(atData, uint32(len(c.outbox))), ret), c.outbox)
			p := load(t, testHost(t), Module{Code: g.build()})
			var out ResolveOutput
			if err := p.Resolve(t.Context(), testConflicts("X"), &out); err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%+v", out.Verdicts), fmt.Sprintf("%+v", []Verdict{c.want}); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestResolverIsPure(t *testing.T) {
	h := testHost(t)
	for name, params := range map[string][]byte{"now_ns": nil, "log_enabled": {tI32}} {
		result := tI32
		if name == "now_ns" {
			result = tI64
		}
		g := newGuest()
		g.importFunc("edged_v1", name, params, []byte{byte(result)})
		g.marker().allocAt(iconst(atInbox)).resolveUnless()
		p := load(t, h, Module{Code: g.build(), Allow: []string{"log", "clock"}})
		var out ResolveOutput
		err := p.Resolve(t.Context(), testConflicts("a"), &out)
		if refused := err != nil && strings.Contains(err.Error(), "it imports now_ns; a resolver may import log"); refused != (name == "now_ns") {
			t.Errorf("%s: got %v", name, err)
		}
		if (p.CanResolve() == nil) != (name != "now_ns") || p.Resolves() != (name != "now_ns") {
			t.Errorf("%s: CanResolve says %v", name, p.CanResolve())
		}
	}
	var out ResolveOutput
	if err := load(t, h, Module{Code: evilGuest().build()}).Resolve(t.Context(), testConflicts("a"), &out); err == nil || !strings.Contains(err.Error(), "does not export edged_resolve") {
		t.Errorf("a transform resolved: %v", err)
	}
	if err := load(t, h, Module{Code: evilResolver().build()}).Transform(t.Context(), testRecords("a"), testTime, &Output{}); err == nil || !strings.Contains(err.Error(), "does not export edged_transform") {
		t.Errorf("a resolver transformed: %v", err)
	}
}

// TestResolverSeesNoTimeAndNoChance holds that each call of a resolver starts
// from the same: the time of the call, the clock and the random bytes are the
// same in every call, on the same instance.
func TestResolverSeesNoTimeAndNoChance(t *testing.T) {
	const at = 256
	g := newGuest()
	g.importFunc("wasi_snapshot_preview1", "clock_time_get", []byte{tI32, tI64, tI32}, []byte{tI32})
	g.importFunc("wasi_snapshot_preview1", "random_get", []byte{tI32, tI32}, []byte{tI32})
	load64, xor := op(0x29, 3), op(0x85)
	// It reports what it saw as an error: 16 hexadecimal places would need a
	// loop, so the bytes are the reason as they are, behind a letter each.
	verdict := verdictBytes(0, verdictError, 0, strings.Repeat("?", 8))
	g.segment(atOutbox, verdict)
	g.marker().allocAt(iconst(atInbox))
	g.fn("edged_resolve", []byte{tI32, tI32}, []byte{tI64}, 0, 1,
		iconst(0), lconst(0), iconst(at), callf(0), drop,
		iconst(at+8), iconst(8), callf(1), drop,
		iconst(at), load64, op(0), // the clock
		get(0), load64, uleb(16), xor, // the time of the call
		iconst(at+8), load64, op(0), xor, // the random bytes
		lconst(0x3f3f3f3f3f3f3f3f), op(0x83), set(2), // and: printable enough
		iconst(atOutbox+verdictHeader), get(2), op(0x37, 3, 0),
		answer(atOutbox, uint32(len(verdict))),
	)
	p := load(t, testHost(t), Module{Code: g.build()})
	seen := map[string]bool{}
	for range 3 {
		var out ResolveOutput
		if err := p.Resolve(t.Context(), testConflicts("a"), &out); err != nil {
			t.Fatal(err)
		}
		if out.Verdicts[0].Action != VerdictError {
			t.Fatal(out.Verdicts[0].Reason)
		}
		seen[out.Verdicts[0].Reason] = true
	}
	if len(seen) != 1 || p.Stats().Instances != 0 {
		t.Errorf("three calls of one instance (and %d more) saw %v", p.Stats().Instances, seen)
	}
}

func TestHeadersResolverGetsNoBodies(t *testing.T) {
	for _, needs := range []string{"headers", "payload"} {
		// It answers remote where the local side has no payload.
		g := newGuest().marker().allocAt(iconst(atInbox)).describing(`{"needs":"` + needs + `"}`)
		local := conflictHeader + pad8(recordHeader+len("k")+len("hub")+len("setting")+len(`{"setpoint":21.50}`))
		if needs == "headers" {
			local = conflictHeader + pad8(recordHeader+len("k")+len("hub")+len("setting"))
		}
		g.segment(atOutbox, verdictBytes(0, verdictLocal, 0, ""))
		g.fn("edged_resolve", []byte{tI32, tI32}, []byte{tI64}, 0, 0,
			get(0), load32(callHeader+local+20), op(0x45), when( // i32.eqz
				iconst(atOutbox), iconst(verdictRemote), store32(8),
			),
			answer(atOutbox, verdictHeader),
		)
		p := load(t, testHost(t), Module{Code: g.build()})
		var out ResolveOutput
		if err := p.Resolve(t.Context(), testConflicts("k"), &out); err != nil {
			t.Fatal(err)
		}
		want := VerdictLocal
		if needs == "headers" {
			want = VerdictRemote
		}
		if out.Verdicts[0].Action != want {
			t.Errorf("needs %s: got %v %s", needs, out.Verdicts[0].Action, out.Verdicts[0].Reason)
		}
	}
}

func TestManyConflicts(t *testing.T) {
	p := load(t, testHost(t), Module{Code: evilResolver(unreachable).build()})
	var in []Conflict
	for i := range 500 {
		key := fmt.Sprint("k", i)
		if i%100 == 99 {
			key = "X" + key
		}
		in = append(in, testConflict(key))
	}
	// One that is larger than a call comes alone.
	in[7].Local.Body = append(append([]byte(`"`), bytes.Repeat([]byte("y"), callBytes)...), '"')
	var out ResolveOutput
	if err := p.Resolve(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	for i, v := range out.Verdicts {
		want := VerdictLocal
		if in[i].Local.Key[0] == 'X' {
			want = VerdictFaulted
		}
		if v.Action != want {
			t.Errorf("conflict %d: %v %s", i, v.Action, v.Reason)
		}
	}
}

func TestResolveRefusesWhatIsNoConflict(t *testing.T) {
	p := load(t, testHost(t), Module{Code: evilResolver().build()})
	other := testConflict("a")
	other.Remote.Key = "b"
	long := testConflict("a")
	long.Base.Device = strings.Repeat("d", 1<<16)
	large := testConflict("a")
	large.Local.Body = make([]byte, 2<<20)
	for want, c := range map[string]Conflict{"different keys": other, "more than 65535 bytes": long, "a body of 2097152 bytes": large} {
		var out ResolveOutput
		if err := p.Resolve(t.Context(), []Conflict{testConflict("k"), c}, &out); err == nil || !strings.Contains(err.Error(), "conflict 1: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Resolve(ctx, testConflicts("a"), &ResolveOutput{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzVerdicts feeds the reader of verdicts with anything. Whatever it makes of
// it must be whole.
func FuzzVerdicts(f *testing.F) {
	f.Add(uint8(0), []byte{})
	f.Add(uint8(2), cat(verdictBytes(0, verdictMerged, 0, "{}"), verdictBytes(1, verdictManual, 1, "who?")))
	f.Add(uint8(1), patched(verdictBytes(0, verdictMerged, 0, "{}"), 12, 0xffffffff))
	f.Add(uint8(1), patched(verdictBytes(0, verdictError, 65535, "no"), 0, 8))
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		limits := Limits{}.withDefaults()
		out := ResolveOutput{Verdicts: []Verdict{{Action: VerdictLocal}}}
		if fault := out.decode(int(n), data, &limits); fault != nil {
			if len(out.Verdicts) != 1 {
				t.Fatalf("a fault left %d verdicts behind", len(out.Verdicts)-1)
			}
			return
		}
		if len(out.Verdicts) != 1+int(n) {
			t.Fatalf("%d verdicts for %d conflicts", len(out.Verdicts)-1, n)
		}
		for _, v := range out.Verdicts[1:] {
			if v.Action < VerdictLocal || v.Action > VerdictFaulted || (v.Action == VerdictFaulted) != (v.Fault != nil) || (v.Action == VerdictMerged) != (len(v.Payload) > 0) {
				t.Fatalf("verdict %+v", v)
			}
		}
	})
}
