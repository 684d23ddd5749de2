package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
)

// CapabilityOf says which capability a module needs for an import; empty: none.
// known is false for what this host does not have.
func CapabilityOf(module, name string) (capability string, known bool) {
	f, known := importOf(module, name)
	return f.capability, known
}

// EncodeTransform returns the call that [Plugin.Transform] would write for in:
// for tools that send a guest something else than the host does.
func EncodeTransform(in []record.Record, now time.Time) []byte {
	size := callHeader
	for i := range in {
		size += recordFrameSize(&in[i])
	}
	return appendCall(make([]byte, 0, size), in, size, unixNano(now))
}

// EncodeResolve returns the call that [Plugin.Resolve] would write for in;
// bodies says whether versions bring theirs.
func EncodeResolve(in []Conflict, bodies bool) []byte {
	size := resolveSize(in, bodies)
	return appendResolve(make([]byte, 0, size), in, size, bodies)
}

// Extism reports whether the module speaks the Extism ABI.
func (p *Plugin) Extism() bool { return p.extism != nil }

// Probe is one instance of a plugin beside its pool, driven by hand: for tools
// that hold a module against the ABI. What it does wrong is an error that is a
// [*Fault]; then the instance is good for nothing but Close. It serves one
// goroutine, and its calls do not count in [Plugin.Stats] as records.
type Probe struct {
	inst *instance
}

// Probe starts an instance. Close it after use, before the plugin.
func (p *Plugin) Probe(ctx context.Context) (*Probe, error) {
	inst, err := p.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("plugin %q: starting an instance: %w", p.name, err)
	}
	return &Probe{inst}, nil
}

// Close frees the instance.
func (q *Probe) Close(ctx context.Context) error { return q.inst.close(ctx) }

// Memory returns the bytes of linear memory that the instance has now.
func (q *Probe) Memory() uint32 { return q.inst.mem.Size() }

// Fuel returns what the last call took; 0 when the host does not meter.
func (q *Probe) Fuel() int64 { return q.inst.used() }

// Inbox asks the guest for room for size bytes and checks its answer.
func (q *Probe) Inbox(ctx context.Context, size int) (uint32, error) {
	inst := q.inst
	inst.begin(ctx, inst.plugin.limits.Time, inst.plugin.limits.Fuel)
	ptr, err := inst.inbox(ctx, size)
	if err != nil {
		return 0, inst.blame(ctx, exportAlloc, err)
	}
	return ptr, nil
}

// Transform makes one call with call as it stands, and reads the answer as one
// to in; a nil call: the one of [EncodeTransform]. A module of the Extism ABI gets
// its records one by one, whatever call is.
func (q *Probe) Transform(ctx context.Context, in []record.Record, call []byte, now time.Time, out *Output) error {
	if call == nil {
		call = EncodeTransform(in, now)
	}
	out.reset(in)
	defer func() { out.in = nil }()
	r := run{x: out, kv: out.kv(q.inst.plugin), now: unixNano(now), call: call}
	if !q.inst.plugin.Extism() {
		return q.serve(ctx, r, len(in))
	}
	for range in {
		if err := q.serve(ctx, r, 1); err != nil {
			return err
		}
	}
	return nil
}

// Resolve makes one call with call as it stands, and reads the answer as one to
// in; a nil call: the one of [EncodeResolve].
func (q *Probe) Resolve(ctx context.Context, in []Conflict, call []byte, out *ResolveOutput) error {
	bodies := q.inst.plugin.about.Needs != NeedsHeaders
	if call == nil {
		call = EncodeResolve(in, bodies)
	}
	out.reset(in, bodies)
	err := q.serve(ctx, run{x: out, call: call}, len(in))
	out.in = nil
	return err
}

func (q *Probe) serve(ctx context.Context, r run, n int) error {
	r.plugin, r.inst = q.inst.plugin, q.inst
	err := r.serve(ctx, n, len(r.call))
	r.kv.endCall(err == nil)
	return err
}
