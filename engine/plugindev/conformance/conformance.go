// Package conformance holds a plugin against sdk/abi.md: it gives it calls that
// a host may make and records that the field may bring, and watches what it
// does. What it generates comes from a seed, so that a failure comes again.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// Status is what a check came to.
type Status string

// The statuses.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	// Warn is for what is allowed and seldom meant.
	Warn Status = "warn"
)

// Check is one thing that was looked at.
type Check struct {
	// Group is abi, limits, determinism, values or resolver.
	Group  string `json:"group"`
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail says what is wrong, or what was seen.
	Detail string `json:"detail,omitempty"`
	// Records and Conflicts are the smallest input found that shows it, one JSON
	// object a line, as `edged plugin test` reads it; at most one is set.
	Records   string `json:"records,omitempty"`
	Conflicts string `json:"conflicts,omitempty"`
}

// Options say what to verify, and how thoroughly.
type Options struct {
	Module *plugindev.Module
	// Seed of what is generated. The same seed and module give the same report.
	Seed uint64
	// Rounds is how many random inputs a property is tried with; at least 1.
	Rounds int
	// Records are such as the plugin is made for; random ones are bred from them,
	// too. May be empty.
	Records []record.Record
}

// Report is what [Verify] found.
type Report struct {
	Checks []Check `json:"checks"`
	Passed int     `json:"passed"`
	Failed int     `json:"failed"`
	Warned int     `json:"warned"`
}

// check is a check and how it is made. It returns what is wrong, or a note.
type check struct {
	group, name string
	run         func(*suite) (*finding, error)
	// frames: it is about frames of ours.
	frames bool
}

// finding is what a check found; nil: all is well.
type finding struct {
	status    Status
	detail    string
	records   []record.Record
	conflicts []wasm.Conflict
}

func failed(format string, args ...any) *finding {
	return &finding{status: Fail, detail: fmt.Sprintf(format, args...)}
}

func warned(format string, args ...any) *finding {
	return &finding{status: Warn, detail: fmt.Sprintf(format, args...)}
}

func noted(format string, args ...any) *finding {
	return &finding{status: Pass, detail: fmt.Sprintf(format, args...)}
}

// suite is one verification under way.
type suite struct {
	ctx    context.Context
	host   *wasm.Host
	opts   Options
	plugin *wasm.Plugin
	gen    *generator
}

// verifyTime is the time of a call when no limit is given: what is found must not
// depend on how busy the machine is. A guest that never ends is stopped by it, too.
const verifyTime = 2 * time.Second

// Verify makes every check that fits the module, on host. The error is for what
// the module is not to blame for; a module that cannot be loaded has a report with
// one failed check.
func Verify(ctx context.Context, host *wasm.Host, opts Options) (*Report, error) {
	opts.Rounds = max(opts.Rounds, 1)
	m := *opts.Module
	if m.Limits.Time == 0 {
		m.Limits.Time = verifyTime
	}
	opts.Module = &m
	r := &Report{}
	loads := check{group: "abi", name: "it loads"}
	p, err := m.Load(ctx, host)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		r.add(loads, failed("%s", err))
		return r, nil
	}
	r.add(loads, nil)
	s := &suite{ctx: ctx, host: host, opts: opts, plugin: p}
	for i, c := range s.checks() {
		// Each check has random numbers of its own: one more in the middle does
		// not change what the others try.
		s.gen = newGenerator(rand.New(rand.NewPCG(opts.Seed, uint64(i))), p.Description(), opts)
		found, err := c.run(s)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), p.Close(context.WithoutCancel(ctx)))
		}
		r.add(c, found)
	}
	return r, p.Close(ctx)
}

// load loads a variant of the module and closes it after use.
func (s *suite) load(m *plugindev.Module, use func(*wasm.Plugin) error) error {
	p, err := m.Load(s.ctx, s.host)
	if err != nil {
		return err
	}
	return errors.Join(use(p), p.Close(s.ctx))
}

func (s *suite) checks() []check {
	if s.plugin.Extism() {
		// It has no description, no inbox and no frames of ours.
		return slices.DeleteFunc(slices.Clone(transformChecks), func(c check) bool { return c.frames })
	}
	all := []check{
		{group: "abi", name: "it describes itself", run: (*suite).describes},
		{group: "abi", name: "it refuses a config it does not know", run: (*suite).refusesConfig},
		{group: "abi", name: "inboxes of any size", run: (*suite).inboxes},
		{group: "limits", name: "it refuses an inbox past its memory, and goes on", run: (*suite).refusedInbox},
	}
	if s.plugin.Transforms() {
		all = append(all, transformChecks...)
	}
	if s.plugin.Resolves() {
		all = append(all, resolveChecks...)
	} else if !s.plugin.Transforms() {
		all = append(all, check{group: "abi", name: "it can resolve", run: func(s *suite) (*finding, error) {
			return failed("%s", s.plugin.CanResolve()), nil
		}})
	}
	return all
}

func (r *Report) add(c check, f *finding) {
	out := Check{Group: c.group, Name: c.name, Status: Pass}
	if f != nil {
		out.Status, out.Detail = f.status, f.detail
		for i := range f.records {
			out.Records += string(f.records[i].AppendJSON(nil)) + "\n"
		}
		for i := range f.conflicts {
			out.Conflicts += string(plugindev.AppendConflict(nil, &f.conflicts[i])) + "\n"
		}
	}
	switch out.Status {
	case Pass:
		r.Passed++
	case Fail:
		r.Failed++
	case Warn:
		r.Warned++
	}
	r.Checks = append(r.Checks, out)
}

// faultOf returns the plugin's fault that err is, or nil when it is not the
// plugin's.
func faultOf(err error) *wasm.Fault {
	var f *wasm.Fault
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// with runs use on a fresh instance.
func (s *suite) with(use func(*wasm.Probe) error) error {
	probe, err := s.plugin.Probe(s.ctx)
	if err != nil {
		return err
	}
	return errors.Join(use(probe), probe.Close(s.ctx))
}

func (s *suite) describes() (*finding, error) {
	about := s.plugin.Description()
	if about.Name == "" && len(about.Kinds) == 0 {
		return warned("it does not export edged_describe: nobody can ask it what it is"), nil
	}
	if about.Name == "" || about.Version == "" || about.Summary == "" {
		return warned("its description should have a name, a version and a summary"), nil
	}
	if s.plugin.Transforms() != slices.Contains(about.Kinds, "transform") || s.plugin.Resolves() != slices.Contains(about.Kinds, "resolve") {
		return failed("it says that its kinds are %q, and what it exports is something else", about.Kinds), nil
	}
	if about.Needs != "" && about.Needs != wasm.NeedsHeaders && about.Needs != "payload" {
		return failed("its needs are %q; they are headers or payload", about.Needs), nil
	}
	return noted("%s %s", about.Name, about.Version), nil
}

// refusesConfig gives a key that nobody knows: a misspelled one must not be
// passed over in silence.
func (s *suite) refusesConfig() (*finding, error) {
	config := join(append(split(s.opts.Module.Config), item{`"edged_verify_unknown"`, "1"}))
	m := *s.opts.Module
	m.Config = config
	err := s.load(&m, func(*wasm.Plugin) error { return nil })
	if err == nil {
		return warned("it accepts the config key edged_verify_unknown: a misspelled key will go unnoticed"), nil
	}
	return nil, nil
}

// inboxes asks for room of many sizes, again and again: the host asks before
// every call, and each answer takes the place of the one before.
func (s *suite) inboxes() (*finding, error) {
	sizes := []int{32, 1, 33, 96, 1000, 4096, 65537, 256 << 10, 1<<20 + 4096, 32}
	var found *finding
	err := s.with(func(p *wasm.Probe) error {
		for round := range 200 {
			for _, size := range sizes {
				_, err := p.Inbox(s.ctx, size)
				fault := faultOf(err)
				switch {
				case err == nil:
				case fault == nil:
					return err
				case fault.Kind == wasm.FaultMemory && size > 256<<10 && round == 0:
					found = warned("a record of 1 MiB has no room: %s", fault.Err)
					return nil
				case fault.Kind == wasm.FaultMemory:
					found = failed("asked for an inbox of %d bytes for the %dth time: %s; each inbox may take the place of the one before", size, round+1, fault.Err)
					return nil
				default:
					found = failed("an inbox of %d bytes: %s", size, fault)
					return nil
				}
			}
		}
		return nil
	})
	return found, err
}

// refusedInbox asks for more than the memory limit. The answer is 0, not a trap,
// and the plugin works as before.
func (s *suite) refusedInbox() (*finding, error) {
	var found *finding
	err := s.with(func(p *wasm.Probe) error {
		size := int(min(s.plugin.Limits().Memory, 1<<30)) + 1
		_, err := p.Inbox(s.ctx, size)
		fault := faultOf(err)
		switch {
		case err == nil:
			found = failed("it gave an inbox of %d bytes, which is more than its memory", size)
			return nil
		case fault == nil:
			return err
		case fault.Kind == wasm.FaultTrap:
			found = warned("edged_alloc traps instead of returning 0: %s", fault.Err)
			return nil
		case fault.Kind != wasm.FaultMemory:
			found = failed("an inbox of %d bytes: %s", size, fault)
			return nil
		}
		if _, err := p.Inbox(s.ctx, 4096); err != nil {
			if fault := faultOf(err); fault == nil {
				return err
			}
			found = failed("after it has refused %d bytes it has no room for 4096: %s", size, err)
		}
		return nil
	})
	return found, err
}
