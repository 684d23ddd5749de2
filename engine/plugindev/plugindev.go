// Package plugindev is what plugin authors work with: it looks into modules,
// runs them on records and conflicts they bring, compares what comes out,
// measures it, and starts and builds plugin projects. It prints nothing;
// cmd/edged does.
package plugindev

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/engine/wasm/meter"
)

// TestTime is the time that a plugin is told in a test that says no other, so
// that what comes out is the same every day.
const TestTime = "2026-01-01T00:00:00Z"

// Module is a plugin's file and how it is to run.
type Module struct {
	// Name is what messages call it.
	Name string
	Code []byte
	// Config is the JSON object it is configured with; nil: none is given.
	Config json.RawMessage
	// Allow lists the capabilities it is granted; nil: all that it imports.
	Allow  []string
	Limits wasm.Limits
	// Extism says how a module of the Extism ABI is used; nil: by the defaults.
	Extism *wasm.Extism
	// unconfigured: it is only looked at.
	unconfigured bool
}

// Granted returns the capabilities that the module will be granted.
func (m *Module) Granted() []string {
	if m.Allow != nil {
		return m.Allow
	}
	contents, _ := meter.List(m.Code) // loading it says what is wrong with it
	return Capabilities(contents)
}

// Capabilities lists what a module with these contents needs, in order.
func Capabilities(c meter.Contents) []string {
	needs := []string{}
	for _, i := range c.Imports {
		if capability, _ := wasm.CapabilityOf(i.Module, i.Name); capability != "" {
			needs = append(needs, capability)
		}
	}
	slices.Sort(needs)
	return slices.Compact(needs)
}

// Exports reports whether the module exports something of that name.
func (m *Module) Exports(name string) bool {
	contents, _ := meter.List(m.Code) // loading it says what is wrong with it
	return slices.ContainsFunc(contents.Exports, func(i meter.Item) bool { return i.Name == name })
}

// Load loads the module into host.
func (m *Module) Load(ctx context.Context, host *wasm.Host) (*wasm.Plugin, error) {
	return host.Load(ctx, wasm.Module{
		Name: m.Name, Code: m.Code, Config: m.Config, Allow: m.Granted(), Limits: m.Limits, Extism: m.Extism, Unconfigured: m.unconfigured,
	})
}

// With loads the module on a host of its own, calls use, and closes both.
func (m *Module) With(ctx context.Context, opts wasm.Options, use func(*wasm.Plugin) error) (err error) {
	host, err := wasm.NewHost(ctx, opts)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := host.Close(context.WithoutCancel(ctx)); err == nil && closeErr != nil {
			err = fmt.Errorf("closing the plugin host: %w", closeErr)
		}
	}()
	plugin, err := m.Load(ctx, host)
	if err != nil {
		return err
	}
	return use(plugin)
}
