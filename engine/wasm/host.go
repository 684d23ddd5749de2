// Package wasm runs plugins: WebAssembly modules that speak ABI v1 (see
// sdk/abi.md), on wazero. It loads and checks a module, meters and limits what
// its instances do, keeps a pool of them, and turns batches of records into
// results. It knows no NATS and no HCL.
//
// A guest is an enemy until proven otherwise (I8): it gets no file, no
// environment, no clock but the call's own, no capability that was not granted
// by name; its time, memory and output are bounded; what it hands back is
// copied first and believed only after every offset and length was checked.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// ErrClosed is returned by calls on a host or plugin after its Close.
var ErrClosed = errors.New("plugin is closed")

// Options configures a [Host]. The zero value works.
type Options struct {
	// CacheDir keeps compiled machine code between runs; a cached compile is
	// about twenty times faster. Empty: compiled anew at every start.
	CacheDir string
	// Logger receives what guests log, and faults. Nil: nothing is logged.
	Logger *slog.Logger
	// Config answers config_get: a value of the device configuration, and
	// whether there is one. It may be called from any goroutine and must not
	// block. Nil: there is none.
	Config func(key string) ([]byte, bool)
	// Now is the time that rates and rests are kept by. Nil: time.Now.
	Now func() time.Time
	// Workers bounds the instances of one plugin that exist at a time, and so
	// the calls of [Plugin.Transform] that run in parallel. Zero: GOMAXPROCS.
	Workers int
	// Unmetered leaves modules as they are: nothing bounds the time or fuel of
	// a guest, and Stats.Fuel stays 0. It is for measuring what metering costs,
	// with plugins that are known to return.
	Unmetered bool
}

// Host owns the runtime that all plugins share. It is safe for many
// goroutines.
type Host struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	log     *slog.Logger
	workers int
	config  func(key string) ([]byte, bool)
	now     func() time.Time
	metered bool

	mu      sync.Mutex
	plugins map[*Plugin]struct{}
	closed  bool
}

// NewHost starts a runtime. Close it after the last use of its plugins.
func NewHost(ctx context.Context, opts Options) (*Host, error) {
	h := &Host{log: opts.Logger, workers: opts.Workers, config: opts.Config, now: opts.Now, plugins: map[*Plugin]struct{}{}, metered: !opts.Unmetered}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.workers <= 0 {
		h.workers = runtime.GOMAXPROCS(0)
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		h.log.LogAttrs(ctx, slog.LevelWarn, "plugins are interpreted on this processor, which is about fifty times slower", slog.String("processor", runtime.GOARCH))
	}
	cfg := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(maxMemory / pageSize)
	if opts.CacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(opts.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("opening the cache of compiled plugins: %w", err)
		}
		h.cache = cache
		cfg = cfg.WithCompilationCache(cache)
	}
	h.runtime = wazero.NewRuntimeWithConfig(ctx, cfg)
	for _, define := range []func(context.Context, wazero.Runtime) error{defineImports, defineWASI, defineMeter} {
		if err := define(ctx, h.runtime); err != nil {
			return nil, errors.Join(fmt.Errorf("starting the plugin host: %w", err), h.Close(ctx))
		}
	}
	return h, nil
}

// Close closes every plugin, waiting for calls in flight, and the runtime.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	plugins := make([]*Plugin, 0, len(h.plugins))
	for p := range h.plugins {
		plugins = append(plugins, p)
	}
	h.mu.Unlock()
	var errs []error
	for _, p := range plugins {
		errs = append(errs, p.Close(ctx))
	}
	errs = append(errs, h.runtime.Close(ctx))
	if h.cache != nil {
		errs = append(errs, h.cache.Close(ctx))
	}
	return errors.Join(errs...)
}

func (h *Host) add(p *Plugin) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.plugins[p] = struct{}{}
	return nil
}

func (h *Host) remove(p *Plugin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.plugins, p)
}
