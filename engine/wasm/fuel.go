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

// allowance bounds what a guest may do between begin and end.
type allowance struct {
	// ctx is the caller's; when it ends the guest is stopped.
	ctx      context.Context
	limit    time.Duration
	deadline time.Time
	// fuel is how much the guest has used, but for what is left of its slice.
	fuel int64
}

func (a *allowance) begin(ctx context.Context, limit time.Duration) {
	*a = allowance{ctx: ctx, limit: limit, deadline: time.Now().Add(limit)}
}

// stopped is what ends a guest: it panics through wazero, which unwinds the
// guest's stack.
type stopped struct{ err error }

func (s stopped) Error() string { return s.err.Error() }
func (s stopped) Unwrap() error { return s.err }

// refill answers a guest whose slice of fuel is used up. left is below zero by
// what its last step took too much.
func (a *allowance) refill(left int64) int64 {
	a.fuel += meter.Slice - left
	if a.ctx.Err() != nil {
		panic(stopped{context.Cause(a.ctx)})
	}
	if a.fuel > a.limit.Microseconds()*instructionsPerMicrosecond && time.Now().After(a.deadline) {
		panic(stopped{faultf(FaultTime, "it took longer than %s", a.limit)})
	}
	return meter.Slice
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
