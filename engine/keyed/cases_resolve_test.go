package keyed_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/keyed"
)

// These cases are about conflicts and what settles them, through the modules
// that are shipped.

// both has a and b change a key that both know, while neither sees the other; a
// reaches the hub first. An empty value is a delete.
func both(t *testing.T, h *testHub, a, b *testEdge, key, base, va, vb string) {
	t.Helper()
	if base != "" {
		a.put(key, base)
	}
	quiesced(t, h, a, b)
	a.cut()
	b.cut()
	change := func(e *testEdge, v string) {
		if v == "" {
			e.delete(key)
		} else {
			e.put(key, v)
		}
	}
	change(a, va)
	change(b, vb)
	a.mend()
	a.drained()
	b.mend()
}

func TestCase05BothEditedOffline(t *testing.T) {
	h := startHub(t, t.TempDir())
	const base = `{"x":1,"y":1}`
	for _, c := range []struct {
		name, strategy, config string
		a, b, want             string
		revisions              uint64
	}{
		{"client wins", "client_wins", "", `{"x":2,"y":1}`, `{"x":3,"y":1}`, `{"x":3,"y":1}`, 3},
		{"server wins", "server_wins", "", `{"x":2,"y":1}`, `{"x":3,"y":1}`, `{"x":2,"y":1}`, 2},
		{"latest wins", "latest_wins", "", `{"x":2,"y":1}`, `{"x":3,"y":1}`, `{"x":3,"y":1}`, 3},
		{"other fields", "merge", "", `{"x":2,"y":1}`, `{"x":1,"y":3}`, `{"x":2,"y":3}`, 3},
		{"same field", "merge", `{"fields":{"x":"max"}}`, `{"x":9,"y":1}`, `{"x":3,"y":1}`, `{"x":9,"y":1}`, 2},
		{"same value, headers", "latest_wins", "", `{"x":2,"y":1}`, `{ "y": 1, "x": 2 }`, `{"x":2,"y":1}`, 2},
		{"same value, bodies", "merge", "", `{"x":2,"y":1}`, `{"y":1,"x":2}`, `{"x":2,"y":1}`, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := edgeOptions{leaf: h.leaf, name: strings.ReplaceAll(c.name, " ", "_"), chain: []keyed.Resolver{strategy(t, c.strategy, c.config)}}
			a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
			before := h.revisions()
			both(t, h, a, b, "k", base, c.a, c.b)
			quiesced(t, h, a, b)
			if a.get("k") != c.want || b.get("k") != a.get("k") {
				t.Errorf("a has %s, b %s, want %s", a.get("k"), b.get("k"), c.want)
			}
			if n := h.revisions() - before; n != c.revisions {
				t.Errorf("%d revisions, want %d", n, c.revisions)
			}
		})
	}
}

func TestCase06Deletes(t *testing.T) {
	h := startHub(t, t.TempDir())
	for _, c := range []struct {
		name   string
		policy keyed.OnDelete
		a, b   string
		want   string
		open   int
	}{
		{"delete then update", keyed.UpdateWins, "", "2", "2", 0},
		{"update then delete", keyed.UpdateWins, "2", "", "2", 0},
		{"delete then update", keyed.DeleteWins, "", "2", "", 0},
		{"update then delete", keyed.DeleteWins, "2", "", "", 0},
		{"both delete", keyed.UpdateWins, "", "", "", 0},
		{"a person", keyed.DeleteManual, "", "2", "", 1},
	} {
		name := string(c.policy) + "_" + strings.ReplaceAll(c.name, " ", "_")
		t.Run(name, func(t *testing.T) {
			o := edgeOptions{leaf: h.leaf, name: name, onDelete: c.policy, chain: []keyed.Resolver{latestWins()}}
			a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
			both(t, h, a, b, "k", "1", c.a, c.b)
			if c.open > 0 {
				eventually(t, "b asks a person", func() bool { return b.store.Status().Conflicts == c.open })
			} else {
				quiesced(t, h, a, b)
			}
			if a.get("k") != c.want || b.get("k") != c.want {
				t.Errorf("a has %q, b %q, want %q", a.get("k"), b.get("k"), c.want)
			}
		})
	}
	t.Run("deleted and created again", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "again", onDelete: keyed.DeleteWins, chain: []keyed.Resolver{latestWins()}}
		a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
		a.put("k", "1")
		quiesced(t, h, a, b)
		a.cut()
		a.delete("k")
		a.put("k", "3")
		b.delete("k")
		b.drained()
		a.mend()
		quiesced(t, h, a, b)
		// It was created anew, on top of a delete that both had made.
		if a.get("k") != b.get("k") {
			t.Errorf("a has %q, b %q", a.get("k"), b.get("k"))
		}
	})
}

// clock is a device's clock that a test sets.
type clock struct{ at func() time.Time }

func (c *clock) now() time.Time { return c.at() }

func shifted(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }

func TestCase08Clocks(t *testing.T) {
	h := startHub(t, t.TempDir())
	frozen := time.Now()
	for _, c := range []struct {
		name string
		a, b func() time.Time
		want string // who wins when b changes after a, and what b made is later
	}{
		{"ten years ahead", shifted(10 * 365 * 24 * time.Hour), time.Now, "a"},  // by no more than the skew
		{"1970", func() time.Time { return time.Unix(1000, 0) }, time.Now, "a"}, // unknown: the hub's order
		{"equal", func() time.Time { return frozen }, func() time.Time { return frozen }, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := edgeOptions{leaf: h.leaf, name: strings.ReplaceAll(c.name, " ", "_"), chain: []keyed.Resolver{strategy(t, "latest_wins", "")}, skew: time.Second}
			oa, ob := o, o
			oa.now, ob.now = c.a, c.b
			a, b := startEdge(t, "a", oa).run(), startEdge(t, "b", ob).run()
			both(t, h, a, b, "k", "", `"a"`, `"b"`)
			quiesced(t, h, a, b)
			if a.get("k") != b.get("k") || a.get("k") != `"`+c.want+`"` {
				t.Errorf("a has %s, b %s, want %s", a.get("k"), b.get("k"), c.want)
			}
		})
	}
	t.Run("a future writer does not win for ever", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "future", chain: []keyed.Resolver{strategy(t, "latest_wins", "")}, skew: time.Second}
		oa, ob := o, o
		oa.now = shifted(10 * 365 * 24 * time.Hour)
		a, b := startEdge(t, "a", oa).run(), startEdge(t, "b", ob).run()
		a.put("k", `"a"`)
		quiesced(t, h, a, b)
		if s := b.store.Status(); s.Clamped == 0 {
			t.Errorf("b has not noticed: %+v", s)
		}
		b.put("k", `"b"`)
		quiesced(t, h, a, b)
		if v := h.value("k"); v != nil && v.HLC.Wall > time.Now().Add(time.Hour).UnixNano() {
			t.Errorf("the hub's value is from %s", time.Unix(0, v.HLC.Wall))
		}
		equalNamed(t, h, "future", []*testEdge{a, b}, "k", `"b"`)
	})
	t.Run("stepping back", func(t *testing.T) {
		c := &clock{at: time.Now}
		e := startEdge(t, "a", edgeOptions{leaf: h.leaf, name: "back", now: c.now, skew: time.Second})
		first := e.put("k", "1")
		e.close()
		c.at = shifted(-48 * time.Hour)
		e.open()
		second := e.put("k", "2")
		if !second.Time.After(first.Time) && !second.Time.Equal(first.Time) || second.Clock != keyed.Floor {
			t.Errorf("the clock went back: %s (%s), then %s (%s)", first.Time, first.Clock, second.Time, second.Clock)
		}
	})
}

func equalNamed(t *testing.T, h *testHub, store string, edges []*testEdge, key, want string) {
	t.Helper()
	r, err := keyed.NewNATSHub(h.nc, "", store).Read(within(t), key)
	if err != nil || r == nil || string(r.Value.Body) != want {
		t.Errorf("the hub has %+v, %v, want %s", r, err, want)
	}
	for _, e := range edges {
		if got := e.get(key); got != want {
			t.Errorf("%s has %s, want %s", e.id, got, want)
		}
	}
}

// verdictFrame is an answer as sdk/abi.md has it.
func verdictFrame(src uint32, action uint16, payload []byte) []byte {
	size := (24 + len(payload) + 7) / 8 * 8
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b, uint32(size))
	binary.LittleEndian.PutUint32(b[4:], src)
	binary.LittleEndian.PutUint16(b[8:], action)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	copy(b[24:], payload)
	return b
}

func TestCase09BadResolvers(t *testing.T) {
	h := startHub(t, t.TempDir())
	anotherKey := verdictFrame(7, 1, nil)
	notJSON := verdictFrame(0, 3, []byte("{nonsense"))
	twice := verdictFrame(0, 3, []byte(`{"a":1,"a":2}`))
	for _, c := range []struct {
		name string
		code []byte
	}{
		{"traps", badModule([]byte{wasmUnreachable}, nil)},
		{"loops", badModule([]byte{wasmLoop, 0x40, wasmBr, 0, wasmEnd, wasmUnreachable}, nil)},
		{"allocates", badModule(append(append([]byte{wasmI32Const}, sleb(65535)...), wasmMemoryGrow, 0, wasmDrop, wasmUnreachable), nil)},
		{"garbage", badModule(returning(64), bytes.Repeat([]byte{0xee}, 64))},
		{"huge", badModule(returning(1<<31-1), nil)},
		{"outside", badModule(append([]byte{wasmI64Const}, sleb(0x7fffffff<<32|64)...), nil)},
		{"another_id", badModule(returning(int64(len(anotherKey))), anotherKey)},
		{"not_json", badModule(returning(int64(len(notJSON))), notJSON)},
		{"a_name_twice", badModule(returning(int64(len(twice))), twice)},
		{"nothing", badModule(append([]byte{wasmI64Const}, 0), nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := module(t, c.name, c.code, "")
			o := edgeOptions{leaf: h.leaf, name: c.name, chain: []keyed.Resolver{bad, strategy(t, "latest_wins", "")}}
			a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
			both(t, h, a, b, "k", "0", "1", "2")
			b.put("other", "1")
			quiesced(t, h, a, b)
			if a.get("k") != "2" || b.get("k") != "2" || a.get("other") != "1" {
				t.Errorf("a has %s, b %s", a.get("k"), b.get("k"))
			}
			j := b.journal()
			if len(j) != 1 || len(j[0].Tried) != 1 || j[0].Tried[0].Resolver.SHA256 != bad.ID().SHA256 || j[0].Tried[0].Reason == "" || j[0].Resolver.Name != "latest_wins" {
				t.Errorf("journal %+v", j)
			}
		})
	}
}

// TestCase09NonDeterministic has modules that count their calls in a global, and
// merge to the count: asked twice about one conflict, they say two things. What was
// perhaps sent is sent again as it is, and the rest is settled by the hub's order:
// the edges end alike, and there is no ping-pong.
func TestCase09NonDeterministic(t *testing.T) {
	h := startHub(t, t.TempDir())
	const at = 1024 + 24 // where the payload of the verdict stands, one digit
	count := append([]byte{wasmI32Const}, sleb(at)...)
	count = append(append(count, wasmI32Const), sleb(at)...)
	count = append(count, wasmI32Load8U, 0, 0, wasmI32Const, 1, wasmI32Add, wasmI32Const, 7, wasmI32And, wasmI32Const, '0', wasmI32Or)
	count = append(count, wasmI32Store8, 0, 0)
	frame := verdictFrame(0, 3, []byte("0"))
	code := badModule(append(count, returning(int64(len(frame)))...), frame)
	o := edgeOptions{leaf: h.leaf, wrap: func(hub keyed.Hub) keyed.Hub {
		return &lossy{Hub: hub, lose: func() bool { return rand.Float64() < 0.3 }}
	}}
	var edges []*testEdge
	for _, id := range []string{"a", "b"} {
		o.chain = []keyed.Resolver{module(t, "counts", code, "")}
		edges = append(edges, startEdge(t, id, o).run())
	}
	const rounds = 12
	for i := range rounds {
		base := ""
		if i == 0 {
			base = `"first"`
		}
		both(t, h, edges[i%2], edges[1-i%2], "k", base, fmt.Sprintf(`"a%d"`, i), fmt.Sprintf(`"b%d"`, i))
		quiesced(t, h, edges...)
		equal(t, h, edges, "k")
	}
	said := map[string]bool{}
	conflicts := uint64(0)
	for _, e := range edges {
		for _, j := range e.journal() {
			conflicts++
			said[string(j.Result.Body)] = true
		}
	}
	if len(said) < 3 || conflicts != rounds {
		t.Errorf("%d conflicts ended as %v", conflicts, said)
	}
	if n := h.revisions(); n > 2*rounds+1+conflicts {
		t.Errorf("%d revisions for %d operations and %d conflicts", n, 2*rounds+1, conflicts)
	}
}

// TestFaultedModuleIsNotFedAgain holds that a module is given a conflict it
// failed on once, also by the next process, and again when it is another.
func TestFaultedModuleIsNotFedAgain(t *testing.T) {
	h := startHub(t, t.TempDir())
	bad := named("bad", true, func(keyed.Conflict) keyed.Verdict { return keyed.Verdict{Action: keyed.Faulted, Reason: "it failed"} })
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}}
	a := startEdge(t, "a", o).run()
	var broken *testEdge
	o.chain = []keyed.Resolver{bad, named("asks", true, func(keyed.Conflict) keyed.Verdict { return keyed.Verdict{Action: keyed.TakeLocal} })}
	refuse := true // the hub cannot be written to, so that the conflict comes again
	o.wrap = func(hub keyed.Hub) keyed.Hub { return &refusing{hub, &refuse} }
	broken = startEdge(t, "b", o)
	broken.put("k", "2")
	a.put("k", "1")
	a.drained()
	broken.run()
	eventually(t, "it has met the conflict again and again", func() bool { return broken.store.Status().Retries+uint64(o.chain[1].(*goResolver).calls.Load()) > 5 })
	if n := bad.calls.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	broken.pause()
	bad.id.SHA256 = "mended"
	refuse = false
	broken.run()
	quiesced(t, h, a, broken)
	if n := bad.calls.Load(); n != 2 {
		t.Errorf("after it was mended it was asked %d times in all", n)
	}
}

func TestCase10DifferentResolvers(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf}
	oa, ob := o, o
	oa.chain, ob.chain = []keyed.Resolver{strategy(t, "client_wins", "")}, []keyed.Resolver{strategy(t, "merge", `{"default":"server"}`)}
	a, b := startEdge(t, "a", oa).run(), startEdge(t, "b", ob).run()
	for i := range 10 {
		key := fmt.Sprintf("k%d", i)
		both(t, h, a, b, key, `{"x":1}`, `{"x":2}`, `{"x":3}`)
		quiesced(t, h, a, b)
		both(t, h, b, a, key, "", `{"x":4}`, `{"x":5}`)
		quiesced(t, h, a, b)
		equal(t, h, []*testEdge{a, b}, key)
	}
	if h.revisions() > 50+uint64(len(a.journal())+len(b.journal())) {
		t.Errorf("%d revisions for 50 operations and %d conflicts", h.revisions(), len(a.journal())+len(b.journal()))
	}
	seen := map[string]bool{}
	for _, e := range append(a.journal(), b.journal()...) {
		seen[e.Resolver.SHA256] = true
	}
	if !seen[oa.chain[0].ID().SHA256] || !seen[ob.chain[0].ID().SHA256] {
		t.Errorf("the journals name %v", seen)
	}
}

func TestCase12Schemas(t *testing.T) {
	h := startHub(t, t.TempDir())
	merge := strategy(t, "merge", `{"default":"latest"}`)
	t.Run("fields", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "fields", chain: []keyed.Resolver{merge}}
		a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
		both(t, h, a, b, "k", `{"known":1,"gone":1,"type":1}`, `{"known":1,"gone":1,"type":{"now":"an object"},"unknown":{"deep":[1.50]}}`, `{"known":2,"type":1}`)
		quiesced(t, h, a, b)
		const want = `{"known":2,"type":{"now":"an object"},"unknown":{"deep":[1.50]}}`
		if a.get("k") != want || b.get("k") != want {
			t.Errorf("a has %s, b %s, want %s", a.get("k"), b.get("k"), want)
		}
	})
	t.Run("a newer schema waits", func(t *testing.T) {
		o := edgeOptions{leaf: h.leaf, name: "newer", chain: []keyed.Resolver{merge}}
		oa, ob := o, o
		oa.schema, ob.schema = 1, 2
		a, b := startEdge(t, "a", oa).run(), startEdge(t, "b", ob).run()
		both(t, h, b, a, "k", "", `{"v2":true}`, `{"v1":true}`)
		eventually(t, "a waits", func() bool { return a.store.Status().Parked == 1 })
		if got := a.get("k"); got != `{"v1":true}` {
			t.Errorf("a serves %s", got)
		}
		if len(a.journal()) != 0 {
			t.Errorf("a resolved what it does not know: %+v", a.journal())
		}
		a.opts.schema = 2 // an upgrade
		a.restart()
		quiesced(t, h, a, b)
		equalNamed(t, h, "newer", []*testEdge{a, b}, "k", `{"v2":true,"v1":true}`)
	})
}

func TestCase13Values(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{latestWins()}}
	a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
	exact := []string{
		`12345678901234567890123`, `1e400`, `-0`, `1.0`, `1.00`, `0.1000000000000000055511151231257827`, `"<&>\u2028é"`, `null`, `[]`,
		`{"":1,"A":{"a":[{"b":[1e400,-0.0]}]}}`, `"` + strings.Repeat("x", keyed.MaxBodyBytes-2) + `"`,
	}
	keys := []string{}
	for i, v := range exact {
		keys = append(keys, fmt.Sprintf("strange key/%d/é .*>:\\", i))
		a.put(keys[i], v)
	}
	quiesced(t, h, a, b)
	for i, v := range exact {
		if got := b.get(keys[i]); got != v {
			t.Errorf("%.60s arrives as %.60s", v, got)
		}
	}
	for _, c := range []struct{ body, reason string }{
		{`NaN`, "not valid JSON"},
		{`{"a":1,"a":1}`, `the name "a" stands twice`},
		{`{"a":{"b":1,"\u0062":2}}`, `the name "b" stands twice`},
		{strings.Repeat("[", 200) + strings.Repeat("]", 200), "nested too deeply"},
		{`"` + strings.Repeat("x", keyed.MaxBodyBytes) + `"`, "at most"},
		{"\"\xff\"", "UTF-8"},
		{``, "not valid JSON"},
	} {
		_, err := a.store.Put(within(t), "k", []byte(c.body), keyed.Condition{})
		if !errors.Is(err, keyed.ErrRefused) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%.40s: %v, want %q", c.body, err, c.reason)
		}
	}
}

func TestCase19StaleChoice(t *testing.T) {
	h := startHub(t, t.TempDir())
	o := edgeOptions{leaf: h.leaf, chain: []keyed.Resolver{strategy(t, "manual", "")}}
	a, b := startEdge(t, "a", o).run(), startEdge(t, "b", o).run()
	both(t, h, a, b, "k", "1", "2", "3")
	open := func() keyed.OpenConflict {
		t.Helper()
		var c keyed.OpenConflict
		eventually(t, "a conflict is open", func() bool {
			list, err := b.store.Conflicts(within(t), "", 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				return false
			}
			c = list[0]
			return true
		})
		return c
	}
	seen := open()
	if string(seen.Base.Body) != "1" || string(seen.Local.Body) != "3" || string(seen.Remote.Body) != "2" || b.get("k") != "2" {
		t.Errorf("open is %+v, b serves %s", seen, b.get("k"))
	}
	// The hub moves on while the person thinks.
	a.put("k", "4")
	a.drained()
	eventually(t, "it is opened again", func() bool { return open().ID != seen.ID })
	if _, err := b.store.Resolve(within(t), "k", keyed.Choice{ID: seen.ID, Take: keyed.TakeLocal}); !errors.Is(err, keyed.ErrStale) {
		t.Errorf("the stale choice: %v", err)
	}
	// And so it does unseen, while the choice is on its way.
	seen = open()
	b.cut()
	a.put("k", "5")
	a.drained()
	if _, err := b.store.Resolve(within(t), "k", keyed.Choice{ID: seen.ID, Take: keyed.TakeMerged, Body: []byte("9"), Reason: "eve"}); err != nil {
		t.Fatal(err)
	}
	b.mend()
	eventually(t, "it is opened once more", func() bool { return string(open().Remote.Body) == "5" })
	if _, err := b.store.Resolve(within(t), "k", keyed.Choice{ID: open().ID, Take: keyed.TakeMerged, Body: []byte("10"), Reason: "eve"}); err != nil {
		t.Fatal(err)
	}
	quiesced(t, h, a, b)
	equal(t, h, []*testEdge{a, b}, "k")
	if got := a.get("k"); got != "10" {
		t.Errorf("a has %s", got)
	}
	people := 0 // decisions of one
	for _, e := range b.journal() {
		if e.Resolver.Name == "person" && e.Reason == "eve" {
			people++
		}
	}
	if people != 2 {
		t.Errorf("the journal has %d decisions of eve", people)
	}
}
