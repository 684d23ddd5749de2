package wasm

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const (
	moduleEdged = "edged_v1"
	moduleWASI  = "wasi_snapshot_preview1"
)

// The capabilities a pipeline file can grant.
const (
	// CapabilityLog lets a guest write to the host's log.
	CapabilityLog = "log"
	// CapabilityClock lets a guest read the time of its call.
	CapabilityClock = "clock"
)

// Capabilities lists the capabilities that [Module.Allow] may hold.
func Capabilities() []string {
	return []string{CapabilityClock, CapabilityConfig, CapabilityKV, CapabilityLog, CapabilityMetric}
}

// Bounds of what one call may log; Limits.LogLines bounds what a plugin may.
const (
	maxLogBytes = 2048
	maxLogLines = 32
)

// lineRate hands out log lines: as many in a second as its rate, and as many at
// once. It is safe for many goroutines.
type lineRate struct {
	mu   sync.Mutex
	left float64
	last time.Time
}

func (r *lineRate) take(rate int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := float64(rate)
	if r.last.IsZero() {
		r.left = most
	} else if passed := now.Sub(r.last); passed > 0 {
		r.left = min(most, r.left+passed.Seconds()*most)
	}
	if r.last = now; r.left < 1 {
		return false
	}
	r.left--
	return true
}

// hostFunction is one function a guest may import.
type hostFunction struct {
	signature
	// capability is what must be granted; empty: nothing.
	capability string
	// call gets the instance that runs, the parameters and room for the result
	// in stack.
	call func(inst *instance, mod api.Module, stack []uint64)
}

var edgedFunctions = map[string]hostFunction{
	"log": {
		signature:  signature{params: []api.ValueType{i32, i32, i32}},
		capability: CapabilityLog, call: importLog,
	},
	"log_enabled": {
		signature:  signature{params: []api.ValueType{i32}, results: []api.ValueType{i32}},
		capability: CapabilityLog, call: importLogEnabled,
	},
	"now_ns": {
		signature:  signature{results: []api.ValueType{i64}},
		capability: CapabilityClock,
		// The call's own time, not the wall's: the same call has the same
		// answer, and a test's virtual clock reaches the guest.
		call: func(inst *instance, _ api.Module, stack []uint64) { stack[0] = uint64(inst.now) },
	},
}

func importOf(module, name string) (f hostFunction, ok bool) {
	switch module {
	case moduleEdged:
		if f, ok = edgedFunctions[name]; !ok {
			f, ok = stateFunctions[name]
		}
	case moduleWASI:
		f, ok = wasiFunctions[name]
	case moduleExtism:
		f, ok = extismFunctions[name]
	}
	return f, ok
}

func defineImports(ctx context.Context, r wazero.Runtime) error {
	all := maps.Clone(edgedFunctions)
	maps.Copy(all, stateFunctions)
	if err := define(ctx, r, moduleEdged, all); err != nil {
		return err
	}
	return define(ctx, r, moduleExtism, extismFunctions)
}

func define(ctx context.Context, r wazero.Runtime, module string, functions map[string]hostFunction) error {
	b := r.NewHostModuleBuilder(module)
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		f := functions[name]
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
			inst := instanceOf(ctx)
			inst.charge(hostCallFuel)
			f.call(inst, mod, stack)
		}), f.params, f.results).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func logLevel(v uint64) slog.Level {
	return logLevels[min(api.DecodeU32(v), uint32(len(logLevels)-1))]
}

func importLogEnabled(inst *instance, _ api.Module, stack []uint64) {
	on := inst.lines < maxLogLines && inst.plugin.host.log.Enabled(context.Background(), logLevel(stack[0]))
	stack[0] = 0
	if on {
		stack[0] = 1
	}
}

func importLog(inst *instance, mod api.Module, stack []uint64) {
	inst.write(mod, logLevel(stack[0]), api.DecodeU32(stack[1]), api.DecodeU32(stack[2]))
}

// write logs a text of the guest's. A text outside its memory is left out and
// a long one is cut: a log is not worth a fault.
func (inst *instance) write(mod api.Module, level slog.Level, ptr, size uint32) {
	if text, ok := mod.Memory().Read(ptr, min(size, maxLogBytes)); ok {
		inst.logLine(level, text)
	}
}

// logLine keeps the first lines of a call and of a second: a guest must not
// fill a disk (I9). What is not kept is counted (I7).
func (inst *instance) logLine(level slog.Level, text []byte) {
	p := inst.plugin
	inst.lines++
	if inst.lines > maxLogLines || p.host.log.Enabled(context.Background(), level) && !p.lines.take(p.limits.LogLines, p.host.now()) {
		p.logDropped.Add(1)
		return
	}
	inst.charge(int64(len(text)))
	s := strings.TrimRight(strings.ToValidUTF8(string(text), "\ufffd"), "\n")
	inst.plugin.host.log.LogAttrs(context.Background(), level, s, slog.String("plugin", inst.plugin.name))
}
