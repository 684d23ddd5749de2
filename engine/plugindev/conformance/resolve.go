package conformance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

var resolveChecks = []check{
	{group: "resolver", name: "bytes it does not know, at the end of a conflict", run: (*suite).unknownConflictBytes},
	{group: "resolver", name: "unusual conflicts, one by one", run: (*suite).unusualConflicts},
	{group: "resolver", name: "random conflicts: each answered, none a fault", run: (*suite).randomConflicts},
	{group: "resolver", name: "the largest values, in the default memory", run: (*suite).largestConflict},
	{group: "resolver", name: "determinism: fresh instances, and however conflicts are split", run: (*suite).decides},
	{group: "resolver", name: "idempotence: both sides the same stay as they are, r(b,x,x) = x", run: (*suite).idempotent},
	{group: "resolver", name: "no-op: what only the remote side changed stays, r(b,b,x) = x", run: (*suite).remoteOnly},
	{group: "resolver", name: "no-op: what only the local side changed stays, r(b,x,b) = x", run: (*suite).localOnly},
	{group: "resolver", name: "symmetry: both sides decide the same, r(b,x,y) = r(b,y,x)", run: (*suite).symmetric},
	{group: "values", name: "a merge keeps numbers, text and members it does not know", run: (*suite).mergePreserves},
}

const minute = int64(60e9)

// version returns a random version; age orders it among others.
func (g *generator) version(age int64) wasm.Version {
	v := wasm.Version{
		Key: "key", Device: fmt.Sprintf("d%d", g.IntN(3)), DataType: "setting", Revision: uint64(g.IntN(5)),
		WallNS: epoch.UnixNano() + age*minute + int64(g.IntN(30))*1e9, Counter: uint64(g.IntN(3)),
	}
	switch g.IntN(12) {
	case 0:
		v.Deleted = true
	case 1:
		v.Body = []byte(g.value(0))
	default:
		v.Body = []byte(g.object(0))
	}
	return v
}

// edited returns a later version of v, mostly with one member changed.
func (g *generator) edited(v wasm.Version, age int64) wasm.Version {
	out := g.version(age)
	if !v.Deleted && v.Body[0] == '{' && g.IntN(4) > 0 {
		out.Deleted, out.Body = false, g.mutate(v.Body)
	}
	return out
}

func (g *generator) conflict() wasm.Conflict {
	base := g.version(0)
	c := wasm.Conflict{Local: g.edited(base, 2), Remote: g.edited(base, 1+int64(g.IntN(3)))}
	if g.IntN(6) > 0 {
		c.Base = &base
	}
	if g.IntN(10) == 0 {
		c.Local.ClockQuality = wasm.ClockUnknown
	}
	return c
}

func (g *generator) conflicts(n int) []wasm.Conflict {
	out := make([]wasm.Conflict, n)
	for i := range out {
		out[i] = g.conflict()
	}
	return out
}

// resolve gives conflicts to a fresh instance in one call. The fault is of the
// call, or of the first conflict that has one.
func (s *suite) resolve(in []wasm.Conflict, edit func([]byte) []byte) (verdicts []wasm.Verdict, fault *wasm.Fault, err error) {
	err = s.with(func(p *wasm.Probe) error {
		verdicts, fault, err = s.resolveOn(p, in, edit)
		return err
	})
	return verdicts, fault, err
}

func (s *suite) resolveOn(p *wasm.Probe, in []wasm.Conflict, edit func([]byte) []byte) ([]wasm.Verdict, *wasm.Fault, error) {
	call := wasm.EncodeResolve(in, s.plugin.Description().Needs != wasm.NeedsHeaders)
	if edit != nil {
		call = edit(call)
	}
	var out wasm.ResolveOutput
	if err := p.Resolve(s.ctx, in, call, &out); err != nil {
		if fault := faultOf(err); fault != nil {
			return nil, fault, nil
		}
		return nil, nil, err
	}
	for i := range out.Verdicts {
		if fault := out.Verdicts[i].Fault; fault != nil {
			return out.Verdicts, fault, nil
		}
	}
	return out.Verdicts, nil, nil
}

// conflictRounds is rounds for conflicts; next makes the input. A failure goes
// before a warning that came first.
func (s *suite) conflictRounds(next func() []wasm.Conflict, wrong func([]wasm.Conflict) (*finding, error)) (*finding, error) {
	var warning *finding
	for range s.opts.Rounds {
		in := next()
		found, err := wrong(in)
		if err != nil {
			return nil, err
		}
		if found == nil || found.status == Warn && warning != nil {
			continue
		}
		in = shrink(in, func(in []wasm.Conflict) bool {
			other, err := wrong(in)
			return err == nil && other != nil && other.status == found.status
		}, smallerConflicts)
		if found, err = wrong(in); err != nil || found == nil {
			return nil, err
		}
		found.conflicts = in
		if found.status == Fail {
			return found, nil
		}
		warning = found
	}
	return warning, nil
}

// smallerConflicts lists conflicts without a member that some of the versions
// have. The same is taken from all, so that equal ones stay equal.
func smallerConflicts(c wasm.Conflict) []wasm.Conflict {
	var names []string
	each := func(change func(*wasm.Version)) wasm.Conflict {
		out := c
		if c.Base != nil {
			base := *c.Base
			change(&base)
			out.Base = &base
		}
		change(&out.Local)
		change(&out.Remote)
		return out
	}
	object := func(v *wasm.Version) bool { return !v.Deleted && record.ValidObject(v.Body) == nil }
	each(func(v *wasm.Version) {
		if object(v) {
			for _, it := range split(v.Body) {
				if !slices.Contains(names, it.name) {
					names = append(names, it.name)
				}
			}
		}
	})
	var out []wasm.Conflict
	for _, name := range names {
		out = append(out, each(func(v *wasm.Version) {
			if object(v) {
				v.Body = join(slices.DeleteFunc(split(v.Body), func(it item) bool { return it.name == name }))
			}
		}))
	}
	return out
}

func (s *suite) unknownConflictBytes() (*finding, error) {
	const conflictHeader = 16
	next := func() []wasm.Conflict { return s.gen.conflicts(3) }
	return s.conflictRounds(next, func(in []wasm.Conflict) (*finding, error) {
		plain, fault, err := s.resolve(in, nil)
		if err != nil || fault != nil {
			return nil, err
		}
		longerOnes, fault, err := s.resolve(in, func(call []byte) []byte {
			return eachFrame(call, callHeader, func(conflict []byte) []byte {
				return longer(eachFrame(conflict, conflictHeader, longer))
			})
		})
		switch {
		case err != nil:
			return nil, err
		case fault != nil:
			return failed("with 16 bytes more at the end of every frame: %s", fault), nil
		}
		if what := verdictsDiffer(plain, longerOnes); what != "" {
			return failed("with 16 bytes more at the end of every frame: %s", what), nil
		}
		return nil, nil
	})
}

func verdictText(v *wasm.Verdict) string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s%s", v.Action, v.Code, v.Payload, v.Reason))
}

func verdictsDiffer(a, b []wasm.Verdict) string {
	for i := range min(len(a), len(b)) {
		if x, y := verdictText(&a[i]), verdictText(&b[i]); x != y {
			return fmt.Sprintf("conflict %d: %s, and then %s", i+1, line(x), line(y))
		}
	}
	return ""
}

func (s *suite) unusualConflicts() (*finding, error) {
	at := func(age int64, body string) wasm.Version {
		return wasm.Version{Key: "k/ü \" .", Device: "d", DataType: "t", WallNS: epoch.UnixNano() + age, Body: []byte(body), Deleted: body == ""}
	}
	values := append([]string{"", "1", `"text"`, "[1,2]", "null", "{}", ` {"a":1}`, `{"a":` + deep() + `}`}, unusualPayloads()...)
	var all []wasm.Conflict
	for i, x := range values {
		for _, y := range []string{values[(i+1)%len(values)], `{"a":2,"b":[]}`, x} {
			base := at(0, `{"a":0}`)
			for _, c := range []wasm.Conflict{
				{Local: at(1, x), Remote: at(1, y)},
				{Base: &base, Local: at(2, x), Remote: at(1, y)},
				{Base: &base, Local: at(1, y), Remote: at(2, x)},
			} {
				c.Remote.ClockQuality = wasm.ClockQuality(len(all) % 3)
				all = append(all, c)
			}
		}
	}
	found := noted("%d conflicts", len(all))
	err := s.with(func(p *wasm.Probe) error {
		for i := range all {
			_, fault, err := s.resolveOn(p, all[i:i+1], nil)
			if err != nil {
				return err
			}
			if fault != nil {
				found = &finding{status: Fail, detail: fault.Error(), conflicts: all[i : i+1]}
				return nil
			}
		}
		return nil
	})
	return found, err
}

func (s *suite) randomConflicts() (*finding, error) {
	next := func() []wasm.Conflict { return s.gen.conflicts(1 + s.gen.IntN(12)) }
	return s.conflictRounds(next, func(in []wasm.Conflict) (*finding, error) {
		_, fault, err := s.resolve(in, nil)
		if err != nil || fault == nil {
			return nil, err
		}
		return failed("%s", fault), nil
	})
}

func (s *suite) largestConflict() (*finding, error) {
	version := func(last byte) wasm.Version {
		body := sized(record.MaxPayloadBytes).Payload
		body[len(body)-4] = last
		return wasm.Version{Key: "k", Device: "d", DataType: "t", WallNS: epoch.UnixNano() + int64(last), Body: body}
	}
	base := version('a')
	_, fault, err := s.resolve([]wasm.Conflict{{Base: &base, Local: version('b'), Remote: version('c')}}, nil)
	if err != nil || fault == nil {
		return nil, err
	}
	return warned("three versions of %d bytes, which is valid: %s; the next resolver would be asked", record.MaxPayloadBytes, fault), nil
}

func (s *suite) decides() (*finding, error) {
	next := func() []wasm.Conflict { return s.gen.conflicts(2 + s.gen.IntN(6)) }
	return s.conflictRounds(next, func(in []wasm.Conflict) (*finding, error) {
		first, fault, err := s.resolve(in, nil)
		if err != nil || fault != nil {
			return nil, err
		}
		second, _, err := s.resolve(in, nil)
		if err != nil {
			return nil, err
		}
		if what := verdictsDiffer(first, second); what != "" || len(first) != len(second) {
			return failed("two fresh instances decide differently: %s", what), nil
		}
		var parts []wasm.Verdict
		err = s.with(func(p *wasm.Probe) error {
			for i := range in {
				one, fault, err := s.resolveOn(p, in[i:i+1], nil)
				if err != nil || fault != nil {
					return err
				}
				parts = append(parts, one...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if what := verdictsDiffer(first, parts); what != "" || len(first) != len(parts) {
			return failed("in one call, and one by one on one instance: %s", what), nil
		}
		return nil, nil
	})
}

// law holds the verdict on one conflict against what it has to be: x.
func (s *suite) law(next func() wasm.Conflict, want func(*wasm.Conflict) *wasm.Version, what string) (*finding, error) {
	one := func() []wasm.Conflict { return []wasm.Conflict{next()} }
	return s.conflictRounds(one, func(in []wasm.Conflict) (*finding, error) {
		if len(in) != 1 {
			return nil, nil
		}
		verdicts, fault, err := s.resolve(in, nil)
		if err != nil || fault != nil {
			return nil, err
		}
		v, x := &verdicts[0], want(&in[0])
		switch v.Action {
		case wasm.VerdictError:
			return nil, nil // it leaves the conflict to the next
		case wasm.VerdictManual:
			return warned("%s, and it asks a person: %s", what, v.Reason), nil
		case wasm.VerdictDelete:
			if x.Deleted {
				return nil, nil
			}
			return failed("%s, and it deletes the value", what), nil
		case wasm.VerdictMerged:
			if countsTwice(&in[0], v.Payload) {
				return warned("%s, and it counts the change of each: %s; only what adds up changes may, and then it must", what, line(string(v.Payload))), nil
			}
			if x.Deleted || len(plugindev.Compare("", x.Body, v.Payload)) > 0 {
				return failed("%s, and it makes something else of it: %s", what, line(string(v.Payload))), nil
			}
			return nil, nil
		}
		got := &in[0].Local
		if v.Action == wasm.VerdictRemote {
			got = &in[0].Remote
		}
		if got.Deleted != x.Deleted || !x.Deleted && len(plugindev.Compare("", x.Body, got.Body)) > 0 {
			// A policy like "the hub wins" means it; a merge would not.
			return warned("%s, and the side that did not change wins (%s)", what, v.Action), nil
		}
		return nil, nil
	})
}

func (s *suite) idempotent() (*finding, error) {
	next := func() wasm.Conflict {
		c := s.gen.conflict()
		c.Remote.Body, c.Remote.Deleted = c.Local.Body, c.Local.Deleted
		return c
	}
	return s.law(next, func(c *wasm.Conflict) *wasm.Version { return &c.Local }, "both sides have the same value")
}

func (s *suite) remoteOnly() (*finding, error) {
	next := func() wasm.Conflict {
		base := s.gen.version(0)
		return wasm.Conflict{Base: &base, Local: base, Remote: s.gen.edited(base, 1)}
	}
	return s.law(next, func(c *wasm.Conflict) *wasm.Version { return &c.Remote }, "only the remote side changed")
}

func (s *suite) localOnly() (*finding, error) {
	next := func() wasm.Conflict {
		base := s.gen.version(0)
		return wasm.Conflict{Base: &base, Local: s.gen.edited(base, 1), Remote: base}
	}
	return s.law(next, func(c *wasm.Conflict) *wasm.Version { return &c.Local }, "only the local side changed")
}

// symmetric swaps the sides: two edges see one conflict from both.
func (s *suite) symmetric() (*finding, error) {
	next := func() []wasm.Conflict { return s.gen.conflicts(1) }
	return s.conflictRounds(next, func(in []wasm.Conflict) (*finding, error) {
		if len(in) != 1 {
			return nil, nil
		}
		c := in[0]
		swapped := wasm.Conflict{Base: c.Base, Local: c.Remote, Remote: c.Local}
		verdicts, fault, err := s.resolve([]wasm.Conflict{c, swapped}, nil)
		if err != nil || fault != nil {
			return nil, err
		}
		a, b := outcome(&c, &verdicts[0]), outcome(&swapped, &verdicts[1])
		if a != b {
			return warned("it prefers a side: %s, and with the sides exchanged %s", line(a), line(b)), nil
		}
		return nil, nil
	})
}

// outcome is what a verdict leaves, as a text that can be compared.
func outcome(c *wasm.Conflict, v *wasm.Verdict) string {
	if v.Action == wasm.VerdictManual || v.Action == wasm.VerdictError {
		return v.Action.String()
	}
	if body := plugindev.Settled(c, v); body != nil {
		return canonical(body)
	}
	return "deleted"
}

// canonical writes an object's members in order, on every level.
func canonical(value []byte) string {
	if record.ValidObject(value) != nil {
		return strings.TrimSpace(string(value))
	}
	items := split(value)
	for i := range items {
		items[i].value = canonical([]byte(items[i].value))
	}
	slices.SortStableFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return string(join(items))
}

// mergePreserves has both sides change a member of their own, beside one that
// nobody changed and one that only one side added.
func (s *suite) mergePreserves() (*finding, error) {
	merged := 0
	for _, value := range append(slices.Clone(precious), deep()) {
		version := func(age int64, format string) wasm.Version {
			return wasm.Version{Key: "key", Device: fmt.Sprint("d", age), DataType: "t", WallNS: epoch.UnixNano() + age*minute, Body: []byte(strings.ReplaceAll(format, "VALUE", value))}
		}
		base := version(0, `{"`+unknownMember+`":VALUE,"a":1,"b":1}`)
		c := wasm.Conflict{
			Base: &base, Local: version(1, `{"`+unknownMember+`":VALUE,"a":2,"b":1,"edged_verify_local":VALUE}`),
			Remote: version(2, `{"`+unknownMember+`":VALUE,"a":1,"b":2,"edged_verify_remote":VALUE}`),
		}
		verdicts, fault, err := s.resolve([]wasm.Conflict{c}, nil)
		if err != nil {
			return nil, err
		}
		if fault != nil || verdicts[0].Action != wasm.VerdictMerged {
			continue
		}
		merged++
		result := verdicts[0].Payload
		if record.ValidObject(result) != nil {
			return &finding{status: Fail, detail: "of three objects it made " + line(string(result)), conflicts: []wasm.Conflict{c}}, nil
		}
		for _, name := range []string{unknownMember, "edged_verify_local", "edged_verify_remote"} {
			got, there := memberOf(result, name)
			switch {
			case !there:
				return &finding{status: Fail, detail: "it loses the member " + name + ", which nobody took away", conflicts: []wasm.Conflict{c}}, nil
			case len(plugindev.Compare("", []byte(value), []byte(got))) > 0:
				return &finding{status: Fail, detail: fmt.Sprintf("it made %s of %s, which nobody changed", line(got), line(value)), conflicts: []wasm.Conflict{c}}, nil
			}
		}
	}
	if merged == 0 {
		return noted("it merges nothing: it chooses a side"), nil
	}
	return nil, nil
}
