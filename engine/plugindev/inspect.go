package plugindev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/engine/wasm/meter"
)

// Report is what [Inspect] finds out about a module.
type Report struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
	// ABI is edged_v1, extism, or empty for a module that speaks neither.
	ABI string `json:"abi"`
	// Kinds is what it can be used for: transform, resolve.
	Kinds []string `json:"kinds"`
	// NoResolver says why a module with edged_resolve is no resolver.
	NoResolver string `json:"no_resolver,omitempty"`
	// Capabilities are what a pipeline has to grant it.
	Capabilities []string          `json:"capabilities"`
	Description  *wasm.Description `json:"description,omitempty"`
	Imports      []Import          `json:"imports"`
	Exports      []Export          `json:"exports"`
	Memory       *Memory           `json:"memory,omitempty"`
	Functions    int               `json:"functions"`
	CodeBytes    int               `json:"code_bytes"`
	DataBytes    int               `json:"data_bytes"`
	// MeteredBytes is its size once it meters itself; 0: it cannot be metered.
	MeteredBytes int      `json:"metered_bytes"`
	Producers    []string `json:"producers,omitempty"`
	// Signature is what stands beside the module; nil: nobody looked.
	Signature *SignatureState `json:"signature,omitempty"`
	// ConfigError is what the module says of the config it was given, or of none
	// when none was; empty: it accepts it.
	ConfigError string `json:"config_error,omitempty"`
	// Problems say why an edge would refuse to load it; none: it would not.
	Problems []string `json:"problems"`
}

// Import is what a module imports.
type Import struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	// Capability is what has to be granted for it; empty: nothing.
	Capability string `json:"capability,omitempty"`
	// Known says that the host has it.
	Known bool `json:"known"`
}

// Export is what a module exports.
type Export struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Type string `json:"type,omitempty"`
}

// Memory is a module's linear memory, in bytes.
type Memory struct {
	Min int64 `json:"min"`
	// Max is what it declares; 0: no bound of its own. The host's limit holds in
	// any case.
	Max int64 `json:"max,omitempty"`
	// Started is what an instance has when it is ready; 0: none could be started.
	Started int64 `json:"started,omitempty"`
}

const pageBytes = 64 << 10

// Inspect looks into a module, also into one that cannot be loaded, and starts
// one instance with the module's configuration and limits. The error is for
// what the module is not to blame for; what is wrong with it is among the
// report's problems.
func Inspect(ctx context.Context, m *Module) (*Report, error) {
	sum := sha256.Sum256(m.Code)
	r := &Report{
		File: m.Name, Bytes: len(m.Code), SHA256: hex.EncodeToString(sum[:]),
		Kinds: []string{}, Imports: []Import{}, Exports: []Export{}, Problems: []string{},
	}
	contents, broken := meter.List(m.Code)
	r.list(contents)
	if metered, err := meter.Rewrite(m.Code); err == nil {
		r.MeteredBytes = len(metered)
	}
	host, err := wasm.NewHost(ctx, wasm.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = host.Close(context.WithoutCancel(ctx)) }()
	look := *m
	look.Config, look.unconfigured = nil, true
	p, err := look.Load(ctx, host)
	if err == nil {
		err = r.loaded(ctx, p)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil {
		if _, err := m.Load(ctx, host); err != nil {
			r.ConfigError = strings.TrimPrefix(unnamed(m.Name, err), "its config: ")
		}
		return r, context.Cause(ctx)
	}
	r.Problems = append(r.Problems, strings.Split(unnamed(m.Name, err), "\n")...)
	if broken != nil && !errors.Is(err, meter.ErrInvalid) {
		r.Problems = append(r.Problems, broken.Error())
	}
	return r, nil
}

func (r *Report) list(c meter.Contents) {
	r.Capabilities, r.Producers = Capabilities(c), c.Producers
	r.Functions, r.CodeBytes, r.DataBytes = c.Functions, c.CodeBytes, c.DataBytes
	for _, i := range c.Imports {
		capability, known := wasm.CapabilityOf(i.Module, i.Name)
		r.Imports = append(r.Imports, Import{i.Module, i.Name, typeOf(i), capability, known && i.Kind == "func"})
	}
	for _, e := range c.Exports {
		r.Exports = append(r.Exports, Export{e.Name, e.Kind, e.Type})
		switch e.Name {
		case "edged_transform":
			r.Kinds = append(r.Kinds, "transform")
		case "edged_resolve":
			r.Kinds = append(r.Kinds, "resolve")
		}
	}
	if c.MemoryMin >= 0 {
		r.Memory = &Memory{Min: c.MemoryMin * pageBytes}
		if c.MemoryMax >= 0 {
			r.Memory.Max = c.MemoryMax * pageBytes
		}
	}
}

// typeOf is a function's type, or what else is imported.
func typeOf(i meter.Item) string {
	if i.Kind == "func" {
		return i.Type
	}
	return i.Kind
}

func (r *Report) loaded(ctx context.Context, p *wasm.Plugin) error {
	r.ABI = "edged_v1"
	if p.Extism() {
		r.ABI, r.Kinds = "extism", []string{"transform"}
	}
	about := p.Description()
	if len(about.Kinds) > 0 || about.Name != "" || about.Summary != "" {
		r.Description = &about
	}
	if err := p.CanResolve(); err != nil && len(r.Kinds) > 0 && r.Kinds[len(r.Kinds)-1] == "resolve" {
		r.NoResolver = err.Error()
	}
	probe, err := p.Probe(ctx)
	if err != nil {
		return err
	}
	if r.Memory != nil {
		r.Memory.Started = int64(probe.Memory())
	}
	return probe.Close(ctx)
}

// unnamed is an error of loading without the name that everybody knows here.
func unnamed(name string, err error) string {
	return strings.TrimPrefix(err.Error(), fmt.Sprintf("loading plugin %q: ", name))
}
