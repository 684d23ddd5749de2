package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm/meter"
	"github.com/edged/edged/engine/wasm/sign"
)

const (
	pageSize = 64 << 10
	// maxMemory bounds what Limits.Memory can grant.
	maxMemory = 1 << 30
	// maxModuleBytes bounds a module's file.
	maxModuleBytes = 16 << 20
	// maxDescribeBytes bounds what edged_describe may return.
	maxDescribeBytes = 64 << 10
	// initFactor says how many times Limits.Time an instance may take to start:
	// a Go guest starts its runtime there, which costs more than a call.
	initFactor = 10
)

// The defaults of [Limits].
const (
	DefaultMemory       = 16 << 20
	DefaultTime         = 50 * time.Millisecond
	DefaultOutput       = 8 << 20
	DefaultRecordOutput = 4 << 20
	DefaultLogLines     = 100
)

// Limits bound what one plugin may use. A zero field means its default.
type Limits struct {
	// Memory is the linear memory of one instance, in bytes, rounded down to
	// 64 KiB pages; at most 1 GiB.
	Memory int64
	// Time is the longest a call may take. One record always gets the whole of
	// it: when a call with several records exceeds it, each is tried alone. An
	// instance may take ten times as long to start.
	Time time.Duration
	// Fuel is the most one call may use, about one for an instruction; 0: only
	// Time bounds it. Unlike time it is the same on every machine. As with Time
	// one record always gets the whole of it, and starting ten times as much.
	Fuel int64
	// Output is the most bytes one call may return.
	Output int64
	// RecordOutput is the most bytes that may come out of one record.
	RecordOutput int64
	// LogLines is how many lines a second the plugin may log, and at once.
	LogLines int
	// KV is the quota of the keys that the plugin keeps in one pipeline, in
	// bytes; at most [MaxKV]. Whoever makes its [KV] heeds it.
	KV int64
}

func (l Limits) withDefaults() Limits {
	if l.Memory <= 0 {
		l.Memory = DefaultMemory
	}
	l.Memory = min(l.Memory, maxMemory)
	if l.Time <= 0 {
		l.Time = DefaultTime
	}
	if l.Output <= 0 {
		l.Output = DefaultOutput
	}
	if l.RecordOutput <= 0 {
		l.RecordOutput = DefaultRecordOutput
	}
	if l.LogLines <= 0 {
		l.LogLines = DefaultLogLines
	}
	if l.KV <= 0 {
		l.KV = DefaultKV
	}
	return l
}

// Module is what [Host.Load] turns into a [Plugin].
type Module struct {
	// Name is the plugin's name in the pipeline file; errors and logs carry it.
	Name string
	// SHA256 pins the code, as hexadecimal digits of either case. Empty: any
	// code is accepted.
	SHA256 string
	// Code is the .wasm file.
	Code []byte
	// Signature is the content of the file beside it, see package sign; nil: there
	// is none.
	Signature []byte
	Trust     Trust
	// Config is the JSON object that edged_configure receives; nil: "{}".
	Config json.RawMessage
	Limits Limits
	// Extism says how a module of the Extism ABI is used; nil: by the defaults. A
	// module of our own ABI is refused when it is set.
	Extism *Extism
	// Allow lists the capabilities granted; see [Capabilities].
	Allow []string
	// Unconfigured leaves edged_configure out: for a look at a module whose
	// config is not known. It is not to be given work.
	Unconfigured bool
}

// Trust says whose plugins are run. Without keys, signatures are not looked at.
type Trust struct {
	// Keys are trusted: a module that is signed must be signed by one of them,
	// with a manifest that covers what it does.
	Keys []sign.PublicKey
	// Required refuses a module that is not signed.
	Required bool
}

// Description is what a module tells of itself with edged_describe. All of it
// is optional and none of it is trusted.
type Description struct {
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Summary string          `json:"summary"`
	Kinds   []string        `json:"kinds"`
	Needs   string          `json:"needs"`
	Config  json.RawMessage `json:"config"`
}

type signature struct{ params, results []api.ValueType }

func (s signature) String() string {
	name := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	return name(s.params) + " -> " + name(s.results)
}

func (s signature) equal(o signature) bool {
	return slices.Equal(s.params, o.params) && slices.Equal(s.results, o.results)
}

const (
	exportMarker    = "edged_abi_v1"
	exportAlloc     = "edged_alloc"
	exportDescribe  = "edged_describe"
	exportConfigure = "edged_configure"
	exportTransform = "edged_transform"
	exportResolve   = "edged_resolve"
	exportInit      = "_initialize"
	exportMemory    = "memory"
)

var (
	i32, i64, f64 = api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF64

	batchSignature   = signature{params: []api.ValueType{i32, i32}, results: []api.ValueType{i64}}
	exportSignatures = map[string]signature{
		exportMarker:    {},
		exportInit:      {},
		exportAlloc:     {params: []api.ValueType{i32}, results: []api.ValueType{i32}},
		exportDescribe:  {results: []api.ValueType{i64}},
		exportConfigure: batchSignature,
		exportTransform: batchSignature,
		exportResolve:   batchSignature,
	}
)

// Load checks a module, compiles it, starts one instance, and lets it read its
// configuration. Every error is about this module and says what is wrong with
// it; a refused import is named. Load may take seconds for a large module that
// is not in the cache. The plugin lives until [Plugin.Close] or [Host.Close].
func (h *Host) Load(ctx context.Context, m Module) (*Plugin, error) {
	p, err := h.load(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("loading plugin %q: %w", m.Name, err)
	}
	return p, nil
}

func (h *Host) load(ctx context.Context, m Module) (_ *Plugin, err error) {
	if len(m.Code) > maxModuleBytes {
		return nil, fmt.Errorf("the module has %d bytes, at most %d are allowed", len(m.Code), maxModuleBytes)
	}
	sum := sha256.Sum256(m.Code)
	hexSum := hex.EncodeToString(sum[:])
	if m.SHA256 != "" && !strings.EqualFold(m.SHA256, hexSum) {
		return nil, fmt.Errorf("the module's sha256 is %s, but %s is pinned: put the pinned file back or, if you trust this one, pin its sha256", hexSum, strings.ToLower(m.SHA256))
	}
	signed, err := m.checkSignature()
	if err != nil {
		return nil, err
	}
	if m.Config != nil {
		if err := record.ValidObject(m.Config); err != nil {
			return nil, fmt.Errorf("its config: %w", err)
		}
	}
	limits := m.Limits.withDefaults()
	compiled, err := h.compile(ctx, m.Code)
	if err != nil {
		return nil, fmt.Errorf("compiling: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, compiled.Close(ctx))
		}
	}()
	extism, err := extismOf(compiled, m.Extism)
	if err != nil {
		return nil, err
	}
	exports := checkExports
	if extism != nil {
		exports = extism.checkExports
	}
	if err := errors.Join(checkImports(compiled, m.Allow), exports(compiled, limits)); err != nil {
		return nil, err
	}
	m.Extism = extism
	if signed != nil {
		if err := checkManifest(compiled, extism, &signed.Manifest); err != nil {
			return nil, err
		}
	}
	p := newPlugin(h, m, limits, compiled, sum)
	p.signed = signed
	inst, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	if p.about, err = inst.describe(ctx); err != nil {
		return nil, errors.Join(err, inst.close(ctx))
	}
	p.idle = append(p.idle, inst)
	if err := h.add(p); err != nil {
		return nil, errors.Join(err, inst.close(ctx))
	}
	return p, nil
}

// compile keeps a panic of the compiler, which is fed by foreign bytes, an
// error (I8).
func (h *Host) compile(ctx context.Context, code []byte) (_ wazero.CompiledModule, err error) {
	defer recovered(&err)
	metered, err := meter.Rewrite(code)
	if err != nil {
		return nil, err
	}
	if !h.metered {
		metered = code
	}
	return h.runtime.CompileModule(ctx, metered)
}

func checkImports(m wazero.CompiledModule, allow []string) error {
	var errs []error
	for _, def := range m.ImportedFunctions() {
		module, name, _ := def.Import()
		if module == meter.ImportModule { // the rewriter's own
			continue
		}
		have := signature{def.ParamTypes(), def.ResultTypes()}
		imp, known := importOf(module, name)
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("it imports %s.%s, which this host does not have", module, name))
		case !have.equal(imp.signature):
			errs = append(errs, fmt.Errorf("it imports %s.%s as %s, but that is %s", module, name, have, imp.signature))
		case imp.capability != "" && !slices.Contains(allow, imp.capability):
			errs = append(errs, fmt.Errorf("it imports %s.%s, which needs the capability %q that it was not granted", module, name, imp.capability))
		}
	}
	for _, c := range allow {
		if !slices.Contains(Capabilities(), c) {
			errs = append(errs, fmt.Errorf("the capability %q that it is granted does not exist; there are: %s", c, strings.Join(Capabilities(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func checkExports(m wazero.CompiledModule, limits Limits) error {
	functions := m.ExportedFunctions()
	if functions[exportMarker] == nil {
		return fmt.Errorf("it does not export %s: it is no plugin of ABI v1", exportMarker)
	}
	var errs []error
	for name, want := range exportSignatures {
		def := functions[name]
		if def == nil {
			continue
		}
		if have := (signature{def.ParamTypes(), def.ResultTypes()}); !have.equal(want) {
			errs = append(errs, fmt.Errorf("it exports %s as %s, but ABI v1 has %s", name, have, want))
		}
	}
	if functions[exportAlloc] == nil {
		errs = append(errs, fmt.Errorf("it does not export %s", exportAlloc))
	}
	if functions[exportTransform] == nil && functions[exportResolve] == nil {
		errs = append(errs, fmt.Errorf("it exports neither %s nor %s", exportTransform, exportResolve))
	}
	mem := m.ExportedMemories()[exportMemory]
	if mem == nil {
		errs = append(errs, fmt.Errorf("it does not export its memory as %q", exportMemory))
	} else if need := int64(mem.Min()) * pageSize; need > limits.Memory {
		errs = append(errs, fmt.Errorf("it needs at least %d bytes of memory, its limit is %d", need, limits.Memory))
	}
	return errors.Join(errs...)
}

// recovered turns a panic into an error. The host must outlive any guest (I8).
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errHostPanic, r)
	}
}

var errHostPanic = errors.New("the plugin host panicked")
