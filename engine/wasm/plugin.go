package wasm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/edged/edged/engine/wasm/sign"
)

// Plugin is a module that is loaded, checked and configured, with a pool of
// instances. It is safe for many goroutines.
type Plugin struct {
	host   *Host
	name   string
	sum    [32]byte
	config json.RawMessage
	limits Limits
	mayLog bool
	// keepsKeys: it may use the KV of an Output.
	keepsKeys bool
	compiled  wazero.CompiledModule
	about     Description
	// signed is what a trusted key has signed; nil: nothing.
	signed *sign.Signature
	// transforms and impure say what the module can be used for.
	transforms bool
	impure     error
	// unconfigured: instances are started without edged_configure.
	unconfigured bool
	// extism is set for a module of the Extism ABI; extismReturns says whether
	// its function returns a code.
	extism        *Extism
	extismReturns bool

	// batch is how many records a call may have. It shrinks for a plugin that
	// does not manage as many within its limits.
	batch atomic.Int32

	// slots holds one token for every instance that may still be used.
	slots chan struct{}

	mu     sync.Mutex
	idle   []*instance
	closed bool

	metrics   map[string]float64 // of the plugin's own, guarded by mu
	byKind    map[FaultKind]uint64
	lastFault string

	stats
	breaker    breaker
	lines      lineRate
	logDropped atomic.Uint64
}

type stats struct {
	calls, records, conflicts, passed, emitted, dropped, failed, faults, skipped, replays, instances, fuel atomic.Uint64
}

// Stats counts what a plugin did since it was loaded.
type Stats struct {
	// Calls counts calls into the guest, replays included.
	Calls uint64
	// Records counts records that were given to the plugin. Each is counted
	// once more in Passed, Emitted, Dropped, Failed or Faulted.
	Records                                   uint64
	Passed, Emitted, Dropped, Failed, Faulted uint64
	// Skipped counts records and conflicts that came while the plugin rested.
	Skipped uint64
	// FaultsByKind counts faults of single records and conflicts, and LastFault
	// is the last of them.
	FaultsByKind map[FaultKind]uint64
	LastFault    string
	// Breaker says whether the plugin rests after too many faults, RestsUntil
	// how long, and Rests how often it has.
	Breaker    BreakerState
	RestsUntil time.Time
	Rests      uint64
	// Conflicts counts conflicts that were given to the plugin; Failed and
	// Faulted count those, too.
	Conflicts uint64
	// Replays counts calls that failed as a whole and were tried again record
	// by record.
	Replays uint64
	// Fuel is what all calls together have used, about one for an instruction.
	Fuel uint64
	// Instances counts instances started.
	Instances uint64
	// LogDropped counts lines past what a call, or a second, may log.
	LogDropped uint64
	// Metrics are the plugin's own counters, by name.
	Metrics map[string]float64
}

func newPlugin(h *Host, m Module, limits Limits, compiled wazero.CompiledModule, sum [32]byte) *Plugin {
	p := &Plugin{
		host: h, name: m.Name, sum: sum, config: slices.Clone(m.Config), limits: limits,
		mayLog: slices.Contains(m.Allow, CapabilityLog), keepsKeys: slices.Contains(m.Allow, CapabilityKV), compiled: compiled,
		slots:      make(chan struct{}, h.workers),
		transforms: compiled.ExportedFunctions()[exportTransform] != nil,
		impure:     pure(compiled),
	}
	p.unconfigured = m.Unconfigured
	p.batch.Store(callItems)
	if p.extism = m.Extism; p.extism != nil {
		p.extismReturns = len(compiled.ExportedFunctions()[m.Extism.Function].ResultTypes()) > 0
		p.transforms = true
		p.batch.Store(1) // its functions take one input
	}
	for range h.workers {
		p.slots <- struct{}{}
	}
	return p
}

// Name returns the name it was loaded under.
func (p *Plugin) Name() string { return p.name }

// SHA256 returns the module's SHA-256 in lower case hexadecimal.
func (p *Plugin) SHA256() string { return hex.EncodeToString(p.sum[:]) }

// Description returns what the module tells of itself.
func (p *Plugin) Description() Description { return p.about }

// Signed returns the signature that was found to be good when the module was
// loaded; nil: it is not signed, or nobody asked. The caller does not change it.
func (p *Plugin) Signed() *sign.Signature { return p.signed }

// Limits returns the limits it runs under, defaults included.
func (p *Plugin) Limits() Limits { return p.limits }

// KeepsKeys reports whether it was granted keys of its own: then
// [Output.KV] is to be set.
func (p *Plugin) KeepsKeys() bool { return p.keepsKeys }

// Transforms reports whether the module can transform records.
func (p *Plugin) Transforms() bool { return p.transforms }

// Resolves reports whether the module can resolve conflicts; [Plugin.CanResolve]
// says why not.
func (p *Plugin) Resolves() bool { return p.impure == nil }

// Stats returns the counters. They are read one by one while calls may run.
func (p *Plugin) Stats() Stats {
	p.mu.Lock()
	metrics, byKind, lastFault := maps.Clone(p.metrics), maps.Clone(p.byKind), p.lastFault
	p.mu.Unlock()
	state, until, rests := p.breaker.state(p.host.now())
	return Stats{
		Breaker: state, RestsUntil: until, Rests: rests, Skipped: p.skipped.Load(),
		Calls: p.calls.Load(), Records: p.records.Load(), Conflicts: p.conflicts.Load(), Passed: p.passed.Load(), Emitted: p.emitted.Load(),
		Dropped: p.dropped.Load(), Failed: p.failed.Load(), Faulted: p.faults.Load(),
		Replays: p.replays.Load(), Fuel: p.fuel.Load(), Instances: p.instances.Load(), LogDropped: p.logDropped.Load(),
		Metrics: metrics, FaultsByKind: byKind, LastFault: lastFault,
	}
}

// noteFault counts a fault of a single item.
func (p *Plugin) noteFault(f *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKind == nil {
		p.byKind = map[FaultKind]uint64{}
	}
	p.byKind[f.Kind]++
	p.lastFault = f.Error()
}

// acquire waits for a slot.
func (p *Plugin) acquire(ctx context.Context) error {
	select {
	case <-p.slots:
	default:
		select {
		case <-p.slots:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		p.slots <- struct{}{}
		return ErrClosed
	}
	return nil
}

// take returns an idle instance or starts one. The caller holds a slot.
func (p *Plugin) take(ctx context.Context) (*instance, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		inst := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return inst, nil
	}
	p.mu.Unlock()
	p.instances.Add(1)
	return p.start(ctx)
}

// release gives the slot back, with the instance if it is still good.
func (p *Plugin) release(inst *instance) {
	if inst != nil {
		p.mu.Lock()
		p.idle = append(p.idle, inst)
		p.mu.Unlock()
	}
	p.slots <- struct{}{}
}

// Close waits for calls in flight and frees the instances and the code. When
// ctx ends first, Close returns its error and may be called again.
func (p *Plugin) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for n := range cap(p.slots) {
		select {
		case <-p.slots:
		case <-ctx.Done():
			for range n {
				p.slots <- struct{}{}
			}
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var errs []error
	for _, inst := range idle {
		errs = append(errs, inst.close(ctx))
	}
	errs = append(errs, p.compiled.Close(ctx))
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	p.host.remove(p)
	return errors.Join(errs...)
}
