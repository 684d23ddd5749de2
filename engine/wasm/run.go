package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Bounds of one call into a guest. A call costs about 20 ns, so more items a
// call would gain nothing, and a fault makes the host replay all of them.
const (
	callItems = 64
	callBytes = 256 << 10
)

// exchange is the two sides of a number of calls: the items that go in, and the
// answers that have come back, in the same order. An item is a record or a
// conflict.
type exchange interface {
	// next says how many of the items without an answer make the next call, at
	// least one and at most limit, and how large it is. 0: all are answered.
	next(limit int) (n, size int)
	// write writes the call with the next n items over dst, which has its size.
	write(dst []byte, n, size int, now int64)
	// read copies the outbox that answers the next n items and appends their
	// answers. After a fault it has appended none.
	read(r *run, n int, outbox []byte) *Fault
	// fail appends the answer of an item that the plugin failed on; without a
	// fault, of one that it was not given.
	fail(f *Fault, reason string)
}

var (
	_ exchange = (*Output)(nil)
	_ exchange = (*ResolveOutput)(nil)
)

// run is one exchange on its way, with the instance it uses now, if it has one.
type run struct {
	plugin *Plugin
	inst   *instance
	x      exchange
	now    int64
	kv     *KV
	faults int // of single items
	// call is written instead of what x would write; nil: x writes.
	call []byte
}

// run takes an exchange through the plugin. The error is for what no item is to
// blame for.
func (p *Plugin) run(ctx context.Context, x exchange, kv *KV, now int64) error {
	if ctx.Err() != nil {
		return fmt.Errorf("plugin %q: %w", p.name, context.Cause(ctx))
	}
	if err := p.acquire(ctx); err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, err)
	}
	r := run{plugin: p, x: x, kv: kv, now: now}
	err := r.all(ctx)
	p.release(r.inst)
	if err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, err)
	}
	return nil
}

func (r *run) all(ctx context.Context) error {
	for {
		limit := r.plugin.breaker.allow(int(r.plugin.batch.Load()), r.plugin.host.now())
		if limit == 0 {
			r.skip()
			return nil
		}
		n, size := r.x.next(limit)
		if n == 0 {
			r.plugin.breaker.cancel()
			return nil
		}
		fault, err := r.once(ctx, n, size)
		if err == nil && fault != nil {
			err = r.replay(ctx, n, fault)
		}
		if err != nil {
			r.plugin.breaker.cancel()
			return err
		}
	}
}

// skip answers what is left: the plugin rests.
func (r *run) skip() {
	reason := ""
	for {
		n, _ := r.x.next(callItems)
		if n == 0 {
			return
		}
		if reason == "" {
			reason = r.plugin.resting()
		}
		for range n {
			r.x.fail(nil, reason)
		}
	}
}

// replay finds the poisonous items of a call that failed: each is tried alone,
// and every failure costs its instance (I6).
func (r *run) replay(ctx context.Context, items int, fault *Fault) error {
	if items == 1 {
		r.x.fail(fault, r.blame(fault))
		return nil
	}
	r.plugin.replays.Add(1)
	before := r.faults
	for range items {
		if r.plugin.breaker.allow(1, r.plugin.host.now()) == 0 {
			return nil // all answers the rest
		}
		n, size := r.x.next(1)
		fault, err := r.once(ctx, n, size)
		if err != nil {
			return err
		}
		if fault != nil {
			r.x.fail(fault, r.blame(fault))
		}
	}
	// When no item alone is to blame, the call was too large for the plugin's
	// limits; the next ones are smaller.
	if r.faults == before {
		r.plugin.batch.Store(int32(max(items/2, 1)))
	}
	return nil
}

// blame counts a fault of a single item and says for people whose it is.
func (r *run) blame(f *Fault) string {
	p := r.plugin
	r.faults++
	p.noteFault(f)
	p.breaker.note(0, true, p.host.now())
	if state, until, _ := p.breaker.state(p.host.now()); state == BreakerOpen {
		p.host.log.LogAttrs(context.Background(), slog.LevelWarn, "plugin rests after too many faults",
			slog.String("plugin", p.name), slog.String("sha256", p.SHA256()), slog.Time("until", until), slog.String("error", f.Err.Error()))
	}
	p.host.log.LogAttrs(context.Background(), slog.LevelDebug, "plugin fault",
		slog.String("plugin", p.name), slog.String("kind", string(f.Kind)), slog.String("error", f.Err.Error()))
	return fmt.Sprintf("plugin %s (sha256 %s): %s", p.name, p.SHA256(), f.Error())
}

// once makes one call with the next n items. After a fault the instance is gone
// and no answer was added.
func (r *run) once(ctx context.Context, n, size int) (*Fault, error) {
	if r.inst == nil {
		inst, err := r.plugin.take(ctx)
		if err != nil {
			return nil, fmt.Errorf("starting an instance: %w", err)
		}
		r.inst = inst
	}
	before := r.inst.served
	r.inst.served = true
	faults := r.faults
	err := r.serve(ctx, n, size)
	r.kv.endCall(err == nil) // a call that fails leaves nothing
	if err == nil {
		if good := n - (r.faults - faults); good > 0 {
			r.plugin.breaker.note(good, false, r.plugin.host.now())
		}
		if len(r.inst.metrics) > 0 {
			r.plugin.addMetrics(r.inst.metrics)
		}
		return nil, nil
	}
	closeErr := r.inst.close(ctx)
	r.inst = nil
	fault := asFault(err)
	if fault == nil || closeErr != nil {
		return nil, errors.Join(err, closeErr)
	}
	if n == 1 && before && (fault.Kind == FaultTrap || fault.Kind == FaultMemory) {
		// A guest that never frees ends like this, and its last item is not to
		// blame; a fresh instance tells.
		return r.once(ctx, n, size)
	}
	return fault, nil
}

// serve writes the call to the guest's inbox, calls it, and reads its outbox.
func (r *run) serve(ctx context.Context, n, size int) error {
	p, inst := r.plugin, r.inst
	p.calls.Add(1)
	inst.now, inst.kv, inst.metrics = r.now, r.kv, inst.metrics[:0]
	inst.begin(ctx, p.limits.Time, p.limits.Fuel)
	defer func() { p.fuel.Add(uint64(inst.used())) }()
	if p.extism != nil {
		return r.serveExtism(ctx)
	}
	entry, name := inst.transform, exportTransform
	if _, resolves := r.x.(*ResolveOutput); resolves {
		entry, name = inst.resolve, exportResolve
		inst.random.Seed(p.sum)
	}
	ptr, err := inst.inbox(ctx, size)
	if err != nil {
		return inst.blame(ctx, exportAlloc, err)
	}
	view, ok := inst.mem.Read(ptr, uint32(size))
	if !ok {
		return inst.outside(ptr, uint32(size))
	}
	if r.call != nil {
		copy(view, r.call)
	} else {
		r.x.write(view[:0], n, size, r.now)
	}
	result, err := inst.call(ctx, entry, uint64(ptr), uint64(size))
	if err != nil {
		return inst.blame(ctx, name, err)
	}
	if result == 0 {
		return faultf(FaultFrame, "%s gave up on the call", name)
	}
	at, length := uint32(result>>32), uint32(result)
	if int64(length) > p.limits.Output {
		return faultf(FaultOutput, "%s returned %d bytes, its limit is %d", name, length, p.limits.Output)
	}
	outbox, ok := inst.mem.Read(at, length)
	if !ok {
		return inst.outside(at, length)
	}
	if fault := r.x.read(r, n, outbox); fault != nil {
		return fault
	}
	return nil
}
