package wasm

import (
	"context"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero"
)

// Resolve gives conflicts to the plugin and puts one verdict for each into out,
// in their order. Versions bring their bodies unless the module says that it
// needs headers only.
//
// A resolver is a function of the conflict: it is told no time, and a module
// that imports what would make it another is refused ([Plugin.CanResolve]). Faults are handled as [Plugin.Transform] does: the conflict that the
// plugin fails on gets a VerdictFaulted, the others theirs (I6). The error is
// for what no conflict is to blame for.
//
// in is not kept. Verdicts do not share its bytes.
func (p *Plugin) Resolve(ctx context.Context, in []Conflict, out *ResolveOutput) error {
	if err := p.CanResolve(); err != nil {
		return err
	}
	for i := range in {
		if err := in[i].check(); err != nil {
			return fmt.Errorf("plugin %q: conflict %d: %w", p.name, i, err)
		}
	}
	out.reset(in, p.about.Needs != NeedsHeaders)
	err := p.run(ctx, out, nil, 0)
	if out.in = nil; err != nil {
		return err
	}
	p.countVerdicts(out.Verdicts)
	return nil
}

// NeedsHeaders is what [Description.Needs] says of a plugin that reads no
// payloads.
const NeedsHeaders = "headers"

// CanResolve says why the module cannot be used as a resolver; nil: it can. A
// host asks it when the plugin is loaded for that.
func (p *Plugin) CanResolve() error {
	if p.impure != nil {
		return fmt.Errorf("plugin %q: it cannot resolve conflicts: %w", p.name, p.impure)
	}
	return nil
}

// pure says why a module is no resolver.
func pure(m wazero.CompiledModule) error {
	if m.ExportedFunctions()[exportResolve] == nil {
		return fmt.Errorf("it does not export %s", exportResolve)
	}
	var not []string
	for _, def := range m.ImportedFunctions() {
		module, name, _ := def.Import()
		if f, _ := importOf(module, name); module == moduleEdged && f.capability != CapabilityLog {
			not = append(not, name)
		}
	}
	if len(not) > 0 {
		return fmt.Errorf("it imports %s; a resolver may import log and nothing else of %s, or two edges could settle one conflict differently", strings.Join(not, ", "), moduleEdged)
	}
	return nil
}

func (p *Plugin) countVerdicts(verdicts []Verdict) {
	for i := range verdicts {
		if verdicts[i].Action == VerdictSkipped {
			p.skipped.Add(1)
			continue
		}
		p.conflicts.Add(1)
		switch verdicts[i].Action {
		case VerdictFaulted:
			p.faults.Add(1)
		case VerdictError:
			p.failed.Add(1)
		}
	}
}

// next implements [exchange].
func (o *ResolveOutput) next(limit int) (n, size int) {
	in := o.in[len(o.Verdicts):]
	size = callHeader
	for i := range in {
		frame := conflictFrameSize(&in[i], o.bodies)
		if n = i; i > 0 && (i == limit || size+frame > callBytes) {
			return n, size
		}
		size += frame
	}
	return len(in), size
}

// write implements [exchange].
func (o *ResolveOutput) write(dst []byte, n, size int, _ int64) {
	appendResolve(dst, o.in[len(o.Verdicts):][:n], size, o.bodies)
}

// read implements [exchange].
func (o *ResolveOutput) read(r *run, n int, outbox []byte) *Fault {
	first := len(o.Verdicts)
	if fault := o.decode(n, o.copies.add(outbox), &r.plugin.limits); fault != nil {
		return fault
	}
	for i := first; i < len(o.Verdicts); i++ {
		if v := &o.Verdicts[i]; v.Action == VerdictFaulted {
			v.Reason = r.blame(v.Fault)
		}
	}
	return nil
}

// fail implements [exchange].
func (o *ResolveOutput) fail(f *Fault, reason string) {
	action := VerdictFaulted
	if f == nil {
		action = VerdictSkipped
	}
	o.Verdicts = append(o.Verdicts, Verdict{Action: action, Fault: f, Reason: reason})
}
