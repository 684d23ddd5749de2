package wasm

import (
	"context"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edged/edged/engine/wasm/meter"
)

// instructionsPerMicrosecond is what the slowest machine we know does, wazero's
// interpreter on a small ARM core. A call is stopped for its time only when it
// has also executed that many instructions: a guest that was held up because
// the machine was suspended or busy is not to blame, and a good record must not
// end in the dead letters for it.
const instructionsPerMicrosecond = 20

// The time that is left decides how much a guest is granted before it asks again:
// a quarter of what the slowest machine does in it, so that one whose every
// instruction waits for memory does not miss its deadline by much, between
// [meter.Slice] and maxSlice. While a slice lasts the guest cannot be preempted,
// and a garbage collection waits for it: 400,000 take 0.1 ms.
const (
	sliceShare = 4
	maxSlice   = 8 * meter.Slice
)

// allowance bounds what a guest may do from begin on. Fuel is about an
// instruction; what imported functions do for the guest is charged, too.
type allowance struct {
	// ctx is the caller's; when it ends the guest is stopped.
	ctx      context.Context
	limit    time.Duration
	deadline time.Time
	// budget is the most fuel the guest may use; 0: any. Unlike time it is the
	// same on every machine.
	budget int64
	// granted is how much fuel the guest was given: what it has used and what
	// is left of its slice. charged is what was taken for it outside.
	granted, charged int64
	// unchecked is what was charged since time was last looked at.
	unchecked int64
}

// begin starts a call: it may take that long, and that much fuel if budget is
// not 0. The guest starts with the first slice, so that what it uses does not
// depend on what the call before has left.
func (inst *instance) begin(ctx context.Context, limit time.Duration, budget int64) {
	now := time.Now()
	inst.allowance = allowance{ctx: ctx, limit: limit, deadline: now.Add(limit), budget: budget}
	if inst.fuel != nil {
		inst.fuel.Set(uint64(inst.allowance.slice(0, now)))
	}
}

// used returns how much fuel the guest has taken since begin; 0: it is not
// metered.
func (inst *instance) used() int64 {
	if inst.fuel == nil {
		return 0
	}
	return inst.allowance.granted - int64(inst.fuel.Get()) + inst.allowance.charged
}

// slice grants the next slice to a guest that has used as much.
func (a *allowance) slice(used int64, now time.Time) int64 {
	ahead := a.deadline.Sub(now).Microseconds() * instructionsPerMicrosecond
	next := max(min(ahead/sliceShare, maxSlice), meter.Slice)
	if a.budget > 0 {
		next = min(next, a.budget-a.charged-used)
	}
	a.granted = used + next
	return next
}

// stopped is what ends a guest: it panics through wazero, which unwinds the
// guest's stack.
type stopped struct{ err error }

func (s stopped) Error() string { return s.err.Error() }
func (s stopped) Unwrap() error { return s.err }

// refill answers a guest whose slice of fuel is used up. left is below zero by
// what its last step took too much.
func (a *allowance) refill(left int64) int64 {
	used := a.granted - left
	now := time.Now()
	a.check(used, now)
	return a.slice(used, now)
}

// check stops a guest that has used up what it may.
func (a *allowance) check(used int64, now time.Time) {
	total := used + a.charged
	if a.ctx.Err() != nil {
		panic(stopped{context.Cause(a.ctx)})
	}
	if a.budget > 0 && total > a.budget {
		panic(stopped{faultf(FaultFuel, "it used up its %d units of fuel", a.budget)})
	}
	if total > a.limit.Microseconds()*instructionsPerMicrosecond && now.After(a.deadline) {
		panic(stopped{faultf(FaultTime, "it took longer than %s", a.limit)})
	}
}

// hostCallFuel is what an imported function costs beside what it copies.
const hostCallFuel = 50

// charge takes fuel for work that an imported function does for the guest: a
// guest that does nothing but call the host is stopped like any other.
func (inst *instance) charge(fuel int64) {
	a := &inst.allowance
	a.charged += fuel
	if a.unchecked += fuel; a.unchecked < meter.Slice && a.budget == 0 {
		return
	}
	a.unchecked = 0
	used := a.granted
	if inst.fuel != nil {
		used -= int64(inst.fuel.Get())
	}
	a.check(used, time.Now())
}

// defineMeter makes the function that rewritten modules import.
func defineMeter(ctx context.Context, r wazero.Runtime) error {
	refill := api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
		stack[0] = uint64(instanceOf(ctx).allowance.refill(int64(stack[0])))
	})
	_, err := r.NewHostModuleBuilder(meter.ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(refill, []api.ValueType{i64}, []api.ValueType{i64}).
		Export(meter.ImportName).Instantiate(ctx)
	return err
}
