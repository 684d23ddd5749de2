package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/edged/edged/engine/record"
)

// Bounds of one call into a guest. A call costs about 20 ns, so more records a
// call would gain nothing, and a fault makes the host replay all of them.
const (
	callRecords = 64
	callBytes   = 256 << 10
)

// Transform gives in to the plugin and puts one result for each of its records
// into out, in their order. now is the time that the guest is told.
//
// A record on which the plugin fails gets a Faulted result; the others of in
// get theirs all the same (I6): the instance is thrown away and the call is
// replayed record by record on a fresh one. The error is for what no record is
// to blame for: ctx ended, the plugin is closed, or no instance could be
// started; then out holds nothing of use and in may be given again.
//
// Transform waits for a free instance when Options.Workers calls run already.
// in is not kept, but records in out may share its bytes.
func (p *Plugin) Transform(ctx context.Context, in []record.Record, now time.Time, out *Output) error {
	if !p.Transforms() {
		return fmt.Errorf("plugin %q: it cannot transform: it does not export %s", p.name, exportTransform)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, context.Cause(ctx))
	}
	out.reset(len(in))
	if err := p.acquire(ctx); err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, err)
	}
	run := run{plugin: p, out: out, now: unixNano(now)}
	err := run.all(ctx, in)
	p.release(run.inst)
	if err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, err)
	}
	p.count(out.Results)
	return nil
}

func (p *Plugin) count(results []Result) {
	var n [Faulted + 1]uint64
	for i := range results {
		n[results[i].Action]++
	}
	p.records.Add(uint64(len(results)))
	p.passed.Add(n[Pass])
	p.emitted.Add(n[Emit])
	p.dropped.Add(n[Drop])
	p.failed.Add(n[Error])
	p.faults.Add(n[Faulted])
}

// run is one Transform on its way: the instance it uses now, if it has one.
type run struct {
	plugin *Plugin
	inst   *instance
	out    *Output
	now    int64
}

func (r *run) all(ctx context.Context, in []record.Record) error {
	for len(in) > 0 {
		n := chunk(in, int(r.plugin.batch.Load()))
		fault, err := r.once(ctx, in[:n])
		if err == nil && fault != nil {
			err = r.replay(ctx, in[:n], fault)
		}
		if err != nil {
			return err
		}
		in = in[n:]
	}
	return nil
}

// chunk says how many records of in make the next call: at least one and at most
// limit.
func chunk(in []record.Record, limit int) int {
	size := callHeader
	for i := range in {
		size += recordFrameSize(&in[i])
		if i > 0 && (i == limit || size > callBytes) {
			return i
		}
	}
	return len(in)
}

// replay finds the poisonous records of a call that failed: each record is
// tried alone, and every failure costs its instance (I6).
func (r *run) replay(ctx context.Context, in []record.Record, fault *Fault) error {
	if len(in) == 1 {
		r.fault(fault)
		return nil
	}
	r.plugin.replays.Add(1)
	first := len(r.out.Results)
	for i := range in {
		fault, err := r.once(ctx, in[i:i+1])
		if err != nil {
			return err
		}
		if fault != nil {
			r.fault(fault)
		}
	}
	// When no record alone is to blame, the call was too large for the plugin's
	// limits; the next ones are smaller.
	if !slices.ContainsFunc(r.out.Results[first:], func(res Result) bool { return res.Action == Faulted }) {
		r.plugin.batch.Store(int32(max(len(in)/2, 1)))
	}
	return nil
}

func (r *run) fault(f *Fault) {
	r.out.Results = append(r.out.Results, Result{Action: Faulted, Fault: f})
	r.describe(&r.out.Results[len(r.out.Results)-1])
}

func (r *run) describe(res *Result) {
	p := r.plugin
	res.Reason = fmt.Sprintf("plugin %s (sha256 %s): %s", p.name, p.SHA256(), res.Fault.Error())
	p.host.log.LogAttrs(context.Background(), slog.LevelDebug, "plugin fault",
		slog.String("plugin", p.name), slog.String("kind", string(res.Fault.Kind)), slog.String("error", res.Fault.Err.Error()))
}

// once makes one call with all of in. After a fault the instance is gone and
// no result was added.
func (r *run) once(ctx context.Context, in []record.Record) (*Fault, error) {
	if r.inst == nil {
		inst, err := r.plugin.take(ctx)
		if err != nil {
			return nil, fmt.Errorf("starting an instance: %w", err)
		}
		r.inst = inst
	}
	first := len(r.out.Results)
	err := r.inst.serve(ctx, in, r.now, r.out)
	if err != nil {
		closeErr := r.inst.close(ctx)
		r.inst = nil
		if fault := asFault(err); fault != nil && closeErr == nil {
			return fault, nil
		}
		return nil, errors.Join(err, closeErr)
	}
	for i := first; i < len(r.out.Results); i++ {
		if r.out.Results[i].Action == Faulted {
			r.describe(&r.out.Results[i])
		}
	}
	return nil, nil
}

// serve writes in to the guest's inbox, calls it, and reads its outbox.
func (inst *instance) serve(ctx context.Context, in []record.Record, now int64, out *Output) error {
	p := inst.plugin
	p.calls.Add(1)
	inst.now = now
	inst.allowance.begin(ctx, p.limits.Time)
	size := callHeader
	for i := range in {
		size += recordFrameSize(&in[i])
	}
	ptr, err := inst.inbox(ctx, size)
	if err != nil {
		return inst.blame(ctx, exportAlloc, err)
	}
	view, ok := inst.mem.Read(ptr, uint32(size))
	if !ok {
		return inst.outside(ptr, uint32(size))
	}
	appendCall(view[:0], in, size, now)
	result, err := inst.call(ctx, inst.transform, uint64(ptr), uint64(size))
	if err != nil {
		return inst.blame(ctx, exportTransform, err)
	}
	if result == 0 {
		return faultf(FaultFrame, "%s gave up on the call", exportTransform)
	}
	at, length := uint32(result>>32), uint32(result)
	if int64(length) > p.limits.Output {
		return faultf(FaultOutput, "%s returned %d bytes, its limit is %d", exportTransform, length, p.limits.Output)
	}
	outbox, ok := inst.mem.Read(at, length)
	if !ok {
		return inst.outside(at, length)
	}
	if fault := out.decode(in, out.copies.add(outbox), &p.limits); fault != nil {
		return fault
	}
	return nil
}
