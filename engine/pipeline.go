package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/alert"
	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// sourceRestart is the wait before a source that failed is run again.
const sourceRestart = 5 * time.Second

// pipeline is one pipeline at work.
type pipeline struct {
	cfg        *config.Pipeline
	lane       *store.Lane
	rules      *alert.Rules
	transforms []transform
	sources    []*source
}

// transform is one transform stage.
type transform struct {
	name   string
	plugin *wasm.Plugin
	pass   bool // a record it cannot transform goes on as it is
}

// source is one collect block at work.
type source struct {
	kind, name string
	source     collect.Source

	mu    gosync.Mutex
	state string
	err   error
}

func (s *source) set(state string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.err = state, err
}

func (s *source) status() SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStatus{Kind: s.kind, Name: s.name, State: s.state}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	return st
}

func diagnostic(r hcl.Range, summary string, err error) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: err.Error(), Subject: &r}
}

// openPlugins loads every plugin, and reports all that cannot be loaded. A cache
// of compiled plugins that is damaged or cannot be written is done without.
func (e *Engine) openPlugins(ctx context.Context) error {
	if len(e.cfg.Plugins) == 0 {
		return nil
	}
	cache := filepath.Join(e.dataDir, "wasm-cache")
	cached := e.loadPlugins(ctx, cache)
	if cached == nil {
		return nil
	}
	if err := e.loadPlugins(ctx, ""); err != nil {
		return err
	}
	e.log.Warn("the cache of compiled plugins cannot be used and is removed", "directory", cache, "error", cached)
	if err := os.RemoveAll(cache); err != nil {
		e.log.Warn("the cache of compiled plugins cannot be removed", "error", err)
	}
	return nil
}

// loadPlugins loads every plugin with a cache in the given folder, "": without.
func (e *Engine) loadPlugins(ctx context.Context, cache string) (err error) {
	e.wasm, err = wasm.NewHost(ctx, wasm.Options{CacheDir: cache, Logger: e.log.With("part", "plugin")})
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			e.onClose("plugin host", e.wasm.Close)
		} else if closeErr := e.wasm.Close(context.WithoutCancel(ctx)); closeErr != nil {
			e.log.Warn("closing the plugin host", "error", closeErr)
		}
	}()
	var diags hcl.Diagnostics
	for i := range e.cfg.Plugins {
		p := &e.cfg.Plugins[i]
		loaded, err := e.loadPlugin(ctx, p)
		if err != nil {
			diags = append(diags, diagnostic(p.Range, "Plugin cannot be loaded", err))
			continue
		}
		e.plugins[p.Name] = loaded
	}
	if diags.HasErrors() {
		return diags
	}
	return nil
}

func (e *Engine) loadPlugin(ctx context.Context, p *config.Plugin) (*wasm.Plugin, error) {
	var code []byte
	if name, ok := strings.CutPrefix(p.Module, "builtin:"); ok {
		if code, ok = plugins.Builtin(name); !ok {
			return nil, fmt.Errorf("there is no built-in plugin %q; there are: %s", name, strings.Join(plugins.Names(), ", "))
		}
	} else {
		var err error
		if code, err = os.ReadFile(p.Module); err != nil {
			return nil, err
		}
	}
	loaded, err := e.wasm.Load(ctx, wasm.Module{
		Name: p.Name, SHA256: p.SHA256, Code: code, Config: p.Config, Allow: p.Allow,
		Limits: wasm.Limits{Memory: p.Limits.Memory, Time: p.Limits.Time, Output: p.Limits.Output},
	})
	if err != nil {
		return nil, err
	}
	if !loaded.Transforms() {
		return nil, fmt.Errorf("the module does not export edged_transform, so it is no transform")
	}
	return loaded, nil
}

// openPipelines opens every lane and source, and reports all that cannot be
// opened.
func (e *Engine) openPipelines(ctx context.Context) error {
	kinds := map[string]collect.Kind{}
	for _, k := range collect.Kinds() {
		kinds[k.Spec.Name] = k
	}
	var diags hcl.Diagnostics
	for i := range e.cfg.Pipelines {
		cfg := &e.cfg.Pipelines[i]
		lane, err := e.records.Lane(ctx, cfg.Name)
		if err != nil {
			return err
		}
		p := &pipeline{cfg: cfg, lane: lane, rules: alert.New(cfg.Name, cfg.Alerts, e.opts.Host)}
		for _, t := range cfg.Transforms {
			p.transforms = append(p.transforms, transform{name: t.Name, plugin: e.plugins[t.Plugin], pass: t.OnError == "pass"})
		}
		for _, c := range cfg.Collects {
			src, err := kinds[c.Kind].Open(collect.Options{
				Pipeline: cfg.Name, Name: c.Name, DeviceID: e.cfg.Edge.DeviceID, Host: e.opts.Host,
				BaseDir: filepath.Dir(c.Range.Filename), UntilEnd: e.opts.UntilDrained,
				Logger:  e.log.With("pipeline", cfg.Name, "source", c.Name),
				Connect: func() (*nats.Conn, error) { return e.broker.Connect("collect " + c.Name) },
			}, c.Args)
			if err != nil {
				diags = append(diags, diagnostic(c.Range, "Source cannot be opened", err))
				continue
			}
			p.sources = append(p.sources, &source{kind: c.Kind, name: c.Name, source: src, state: "ready"})
		}
		e.pipelines = append(e.pipelines, p)
	}
	if diags.HasErrors() {
		return diags
	}
	return nil
}

// collect runs every source until ctx ends or its input does, and returns when
// all that they handed on is durable. Work in flight lives until hard ends.
func (e *Engine) collect(ctx, hard context.Context) error {
	var all gosync.WaitGroup
	var mu gosync.Mutex
	var errs []error
	for _, p := range e.pipelines {
		for _, s := range p.sources {
			all.Go(func() {
				if err := e.runSource(ctx, hard, p, s); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("pipeline %s, collect %s: %w", p.cfg.Name, s.name, err))
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// runSource runs one source. One that fails is run again from its last durable
// position; with UntilDrained its failure is returned, for nothing would wait
// for it to recover.
func (e *Engine) runSource(ctx, hard context.Context, p *pipeline, s *source) error {
	for {
		s.set("running", nil)
		err := e.runSourceOnce(ctx, hard, p, s)
		switch {
		case err == nil:
			s.set("ended", nil)
			return nil
		case ctx.Err() != nil:
			s.set("stopped", err)
			return nil
		case e.opts.UntilDrained:
			s.set("failed", err)
			return err
		}
		s.set("failed", err)
		e.log.Error("source failed, trying again", "pipeline", p.cfg.Name, "source", s.name, "in", sourceRestart, "error", err)
		select {
		case <-time.After(sourceRestart):
		case <-ctx.Done():
			return nil
		}
	}
}

func (e *Engine) runSourceOnce(ctx, hard context.Context, p *pipeline, s *source) error {
	w := newWorker(e, p, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(hard)
	}()
	var position json.RawMessage
	if at := p.lane.Position(s.name); at != nil {
		position = at
	}
	err := s.source.Run(ctx, position, w)
	w.end()
	<-done
	return errors.Join(err, w.err())
}
