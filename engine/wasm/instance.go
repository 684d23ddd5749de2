package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm/meter"
)

// instance is one running copy of a module. It serves one goroutine at a time.
type instance struct {
	plugin *Plugin
	mod    api.Module
	mem    api.Memory

	alloc, configure, about, transform, resolve api.Function

	stack  [2]uint64
	random *rand.ChaCha8
	// now is the time of the call that runs, in Unix nanoseconds.
	now int64
	// allowance is what the guest may still do; fuel is what is left of its
	// slice, nil before it is instantiated.
	allowance allowance
	fuel      api.MutableGlobal
	// running is what imported functions find the instance by.
	running callContext
	// monotonic is the guest's monotonic clock, in nanoseconds.
	monotonic uint64
	// extism is the memory that a module of the Extism ABI reaches; else nil.
	extism *extismMemory
	// kv is what the call that runs keeps keys in; nil: it may not.
	kv *KV
	// metrics are what the call that runs has counted.
	metrics []metricDelta
	// lines counts what the call that runs has logged.
	lines int
	// served: it has had a call before.
	served bool
	// stderr is the beginning of what it has printed.
	stderr []byte
}

// maxPrintedBytes of what a guest printed become part of a fault's reason.
const maxPrintedBytes = 256

type instanceKey struct{}

// callContext hands the instance to the functions it imports.
type callContext struct {
	context.Context
	inst *instance
}

// Value returns the instance for its key.
func (c *callContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.inst
	}
	return c.Context.Value(key)
}

func instanceOf(ctx context.Context) *instance { return ctx.Value(instanceKey{}).(*instance) }

// start makes an instance that is ready to serve: started, initialized and
// configured, under the plugin's limits. The error is a *Fault when the guest
// is to blame.
func (p *Plugin) start(ctx context.Context) (_ *instance, err error) {
	inst := &instance{plugin: p, random: rand.NewChaCha8(p.sum)}
	inst.begin(ctx, initFactor*p.limits.Time, initFactor*p.limits.Fuel)
	if err := inst.instantiate(ctx); err != nil {
		return nil, inst.blame(ctx, "starting", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, inst.close(ctx))
		}
	}()
	inst.mem = inst.mod.Memory()
	inst.alloc = inst.mod.ExportedFunction(exportAlloc)
	inst.configure = inst.mod.ExportedFunction(exportConfigure)
	inst.about = inst.mod.ExportedFunction(exportDescribe)
	inst.transform = inst.mod.ExportedFunction(exportTransform)
	inst.resolve = inst.mod.ExportedFunction(exportResolve)
	if p.extism != nil {
		if err := inst.openExtism(); err != nil {
			return nil, err
		}
	}
	if f := inst.mod.ExportedFunction(exportInit); f != nil {
		if _, err := inst.call(ctx, f); err != nil {
			return nil, inst.blame(ctx, exportInit, err)
		}
	}
	return inst, inst.applyConfig(ctx)
}

func (inst *instance) instantiate(ctx context.Context) (err error) {
	defer recovered(&err)
	p := inst.plugin
	memory := &memoryAllocator{limit: uint64(p.limits.Memory) &^ (pageSize - 1)}
	defer func() {
		if inst.mod == nil {
			memory.free()
		}
	}()
	ctx = experimental.WithMemoryAllocator(&callContext{ctx, inst}, memory)
	mod, err := p.host.runtime.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return err // mod is an interface that holds a nil pointer then
	}
	inst.mod = mod
	if !p.host.metered {
		return nil
	}
	var ok bool
	if inst.fuel, ok = mod.ExportedGlobal(meter.ExportName).(api.MutableGlobal); !ok {
		return fmt.Errorf("the rewritten module has no %s", meter.ExportName)
	}
	return nil
}

func (inst *instance) applyConfig(ctx context.Context) error {
	config := inst.plugin.config
	if inst.plugin.unconfigured {
		return nil
	}
	if inst.configure == nil {
		if config != nil && inst.extism == nil {
			return fmt.Errorf("it takes no config, but one is given: it does not export %s", exportConfigure)
		}
		return nil
	}
	if config == nil {
		config = json.RawMessage("{}")
	}
	ptr, err := inst.inbox(ctx, len(config))
	if err != nil {
		return inst.blame(ctx, exportAlloc, err)
	}
	if !inst.mem.Write(ptr, config) {
		return inst.outside(ptr, uint32(len(config)))
	}
	result, err := inst.call(ctx, inst.configure, uint64(ptr), uint64(len(config)))
	if err != nil {
		return inst.blame(ctx, exportConfigure, err)
	}
	if result == 0 {
		return nil
	}
	text, err := inst.text(result)
	if err != nil {
		return err
	}
	return fmt.Errorf("its config: %s", text)
}

func (inst *instance) describe(ctx context.Context) (Description, error) {
	var d Description
	if inst.about == nil {
		return d, nil
	}
	inst.begin(ctx, initFactor*inst.plugin.limits.Time, initFactor*inst.plugin.limits.Fuel)
	result, err := inst.call(ctx, inst.about)
	if err != nil {
		return d, inst.blame(ctx, exportDescribe, err)
	}
	ptr, size := uint32(result>>32), uint32(result)
	if size > maxDescribeBytes {
		return d, faultf(FaultOutput, "%s returned %d bytes, at most %d are allowed", exportDescribe, size, maxDescribeBytes)
	}
	view, ok := inst.mem.Read(ptr, size)
	if !ok {
		return d, inst.outside(ptr, size)
	}
	data := append([]byte(nil), view...)
	if err := record.ValidObject(data); err != nil {
		return d, faultf(FaultFrame, "%s: %w", exportDescribe, err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, faultf(FaultFrame, "%s: %w", exportDescribe, err)
	}
	return d, nil
}

// text copies a short text that the guest returned as ptr<<32|len.
func (inst *instance) text(result uint64) (string, error) {
	ptr, size := uint32(result>>32), uint32(result)
	view, ok := inst.mem.Read(ptr, min(size, maxReasonBytes))
	if !ok {
		return "", inst.outside(ptr, size)
	}
	return cleanText(view), nil
}

func (inst *instance) outside(ptr, size uint32) *Fault {
	return faultf(FaultFrame, "%d bytes at %d lie outside the plugin's memory of %d bytes", size, ptr, inst.mem.Size())
}

// inbox asks the guest for room. What it answers is checked: the address is
// aligned, and all of the room lies in its memory.
func (inst *instance) inbox(ctx context.Context, size int) (uint32, error) {
	result, err := inst.call(ctx, inst.alloc, uint64(size))
	if err != nil {
		return 0, err
	}
	ptr := api.DecodeU32(result)
	switch {
	case ptr == 0:
		return 0, faultf(FaultMemory, "%s refused %d bytes; the plugin has %d bytes of memory", exportAlloc, size, inst.mem.Size())
	case ptr%8 != 0:
		return 0, faultf(FaultFrame, "%s returned the address %d, which is not a multiple of 8", exportAlloc, ptr)
	case uint64(ptr)+uint64(size) > uint64(inst.mem.Size()):
		return 0, inst.outside(ptr, uint32(size))
	}
	return ptr, nil
}

// call runs one exported function. A panic on the way, wazero's own included,
// comes back as an error (I8).
func (inst *instance) call(ctx context.Context, f api.Function, params ...uint64) (result uint64, err error) {
	defer recovered(&err)
	copy(inst.stack[:], params)
	inst.lines, inst.stderr = 0, inst.stderr[:0]
	inst.running = callContext{ctx, inst}
	err = f.CallWithStack(&inst.running, inst.stack[:])
	if len(inst.stderr) > 0 && inst.plugin.mayLog {
		inst.logLine(slog.LevelWarn, inst.stderr)
	}
	if err != nil {
		return 0, err
	}
	return inst.stack[0], nil
}

// blame decides whose fault an error of a call is: the caller's, whose context
// ended, or the guest's.
func (inst *instance) blame(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if f := asFault(err); f != nil {
		return &Fault{Kind: f.Kind, Err: fmt.Errorf("%s: %w", what, f.Err)}
	}
	switch {
	case errors.Is(err, errHostPanic):
		return faultf(FaultHost, "%s: %w", what, err)
	case errors.Is(err, errExit):
		return faultf(FaultTrap, "%s: %w%s", what, errExit, inst.printed())
	}
	return faultf(FaultTrap, "%s: %s%s", what, trapText(err), inst.printed())
}

// printed returns what the guest has printed, as the end of a sentence: that is
// where language runtimes say why they panic.
func (inst *instance) printed() string {
	if len(inst.stderr) == 0 {
		return ""
	}
	return "; it printed: " + strings.TrimSpace(cleanText(inst.stderr[:min(len(inst.stderr), maxPrintedBytes)]))
}

func (inst *instance) close(ctx context.Context) error {
	if inst.mod == nil {
		return nil
	}
	return inst.mod.Close(context.WithoutCancel(ctx))
}

func unixNano(t time.Time) int64 {
	ns, _ := saturatedNano(t)
	return ns
}
