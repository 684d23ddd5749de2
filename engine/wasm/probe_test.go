package wasm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

func openHost(t *testing.T, opts wasm.Options) *wasm.Host {
	t.Helper()
	h, err := wasm.NewHost(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func openBuiltin(t *testing.T, h *wasm.Host, name string, m wasm.Module) *wasm.Plugin {
	t.Helper()
	m.Name = name
	m.Code, _ = plugins.Builtin(name)
	p, err := h.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var weather = []record.Record{{ID: "1", DeviceID: "d", DataType: "t", Timestamp: time.Unix(0, 0).UTC(), Payload: []byte(`{"temperature":20,"humidity":50}`)}}

// TestUnmetered holds that the bare module says the same as the metered one, and
// that fuel is what tells them apart.
func TestUnmetered(t *testing.T) {
	for _, unmetered := range []bool{false, true} {
		p := openBuiltin(t, openHost(t, wasm.Options{Unmetered: unmetered}), "dew_point", wasm.Module{})
		var out wasm.Output
		if err := p.Transform(t.Context(), weather, time.Unix(0, 0), &out); err != nil {
			t.Fatal(err)
		}
		if got := string(out.Results[0].Records[0].Payload); got != `{"temperature":20,"humidity":50,"dew_point":9.26}` {
			t.Errorf("unmetered %v: %s", unmetered, got)
		}
		if fuel := p.Stats().Fuel; (fuel == 0) != unmetered {
			t.Errorf("unmetered %v: %d fuel", unmetered, fuel)
		}
	}
}

// TestUnconfigured holds that a module can be looked at whose config is not
// known.
func TestUnconfigured(t *testing.T) {
	h := openHost(t, wasm.Options{})
	code, _ := plugins.Builtin("convert")
	if _, err := h.Load(t.Context(), wasm.Module{Name: "convert", Code: code}); err == nil || !strings.Contains(err.Error(), "its config") {
		t.Fatalf("without its config: %v", err)
	}
	p := openBuiltin(t, h, "convert", wasm.Module{Unconfigured: true})
	if p.Description().Name != "convert" {
		t.Errorf("its description is %+v", p.Description())
	}
}

func TestProbe(t *testing.T) {
	p := openBuiltin(t, openHost(t, wasm.Options{}), "dew_point", wasm.Module{})
	probe, err := p.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := probe.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if ptr, err := probe.Inbox(t.Context(), 1000); err != nil || ptr%8 != 0 {
		t.Errorf("an inbox at %d: %v", ptr, err)
	}
	var fault *wasm.Fault
	if _, err := probe.Inbox(t.Context(), 64<<20); !errors.As(err, &fault) || fault.Kind != wasm.FaultMemory {
		t.Errorf("an inbox of 64 MiB: %v", err)
	}
	var out wasm.Output
	if err := probe.Transform(t.Context(), weather, nil, time.Unix(0, 0), &out); err != nil || out.Results[0].Action != wasm.Emit {
		t.Fatalf("%v, %+v", err, out.Results)
	}
	if probe.Fuel() == 0 || probe.Memory() == 0 {
		t.Errorf("fuel %d, memory %d", probe.Fuel(), probe.Memory())
	}
	call := wasm.EncodeTransform(weather, time.Unix(0, 0))
	call[0] = 'X'
	if err := probe.Transform(t.Context(), weather, call, time.Unix(0, 0), &out); !errors.As(err, &fault) || fault.Kind != wasm.FaultFrame {
		t.Errorf("a call with another magic: %v", err)
	}
	if n := p.Stats().Records; n != 0 {
		t.Errorf("%d records were counted", n)
	}
}

func TestCapabilityOf(t *testing.T) {
	for _, c := range []struct {
		module, name, capability string
		known                    bool
	}{
		{"edged_v1", "kv_get", "kv", true},
		{"edged_v1", "now_ns", "clock", true},
		{"wasi_snapshot_preview1", "random_get", "", true},
		{"edged_v1", "kv_list", "", false},
		{"env", "abort", "", false},
	} {
		if capability, known := wasm.CapabilityOf(c.module, c.name); capability != c.capability || known != c.known {
			t.Errorf("%s.%s: %q, %v", c.module, c.name, capability, known)
		}
	}
}
