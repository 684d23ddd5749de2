package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	gosync "sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/alert"
	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/wasm"
)

// sourceRestart is the wait before a source that failed is run again.
const sourceRestart = 5 * time.Second

// pipeline is one pipeline at work.
type pipeline struct {
	cfg        *config.Pipeline
	lane       *store.Lane
	rules      *alert.Rules
	plugins    map[string]*loadedPlugin // its own, by the name of their block
	transforms []transform
	sources    []*source
	keyed      *keyed.Store // nil: its records follow one another
	besides    besides      // of a keyed one
	keys       *keys        // what its plugins keep; nil: they keep nothing
	collecting *task        // its sources
	failed     error        // why collecting has ended
	base       Counts       // what it had when this process opened it

	keyedOptions *keyed.Options // what keyed is to be opened with; nil: there is none
}

// transform is one transform stage.
type transform struct {
	name   string
	plugin *wasm.Plugin
	pass   bool // a record it cannot transform goes on as it is
	wait   bool // records wait while the plugin rests
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

// openPipelines opens every pipeline, and reports all that cannot be opened.
func (e *Engine) openPipelines(ctx context.Context) error {
	set := e.setup.Load()
	var diags hcl.Diagnostics
	for i := range set.cfg.Pipelines {
		p, more, err := e.openPipeline(ctx, set, &set.cfg.Pipelines[i])
		if err != nil {
			return err
		}
		if diags = append(diags, more...); more.HasErrors() {
			continue
		}
		if err := e.openKeys(ctx, p); err != nil {
			return err
		}
		set.pipelines = append(set.pipelines, p)
	}
	if diags.HasErrors() {
		return diags
	}
	return nil
}

// openPipeline opens the lane, the plugins and the sources of one pipeline. It
// starts nothing. The diagnostics are about what the files say; then nothing
// stays open.
func (e *Engine) openPipeline(ctx context.Context, set *setup, cfg *config.Pipeline) (*pipeline, hcl.Diagnostics, error) {
	lane, err := e.records.Lane(ctx, cfg.Name)
	if err != nil {
		return nil, nil, err
	}
	p := &pipeline{cfg: cfg, lane: lane, rules: alert.New(cfg.Name, cfg.Alerts, e.opts.Host)}
	var diags hcl.Diagnostics
	if p.plugins, diags = e.loadPlugins(ctx, set, transformPlugins(cfg)); !diags.HasErrors() {
		for _, t := range cfg.Transforms {
			plugin := p.plugins[t.Plugin]
			if !plugin.Transforms() {
				diags = append(diags, diagnostic(t.Range, "Plugin is no transform", fmt.Errorf("plugin %q: %w", t.Plugin, errNoTransform)))
			}
			p.transforms = append(p.transforms, transform{
				name: t.Name, plugin: plugin.Plugin, pass: t.OnError == "pass", wait: t.WhenResting == "wait",
			})
		}
	}
	if cfg.Keyed != nil {
		options, more := e.keyedOptions(ctx, set, cfg)
		p.keyedOptions, diags = options, append(diags, more...)
	}
	for _, c := range cfg.Collects {
		src, err := e.openSource(cfg, &c)
		if err != nil {
			diags = append(diags, diagnostic(c.Range, "Source cannot be opened", err))
			continue
		}
		p.sources = append(p.sources, &source{kind: c.Kind, name: c.Name, source: src, state: "ready"})
	}
	if diags.HasErrors() {
		e.closePlugins(ctx, p.plugins)
		return nil, diags, nil
	}
	p.base, _, _ = e.counts(p)
	return p, nil, nil
}

func (e *Engine) openSource(p *config.Pipeline, c *config.Collect) (collect.Source, error) {
	kinds := collect.Kinds()
	i := slices.IndexFunc(kinds, func(k collect.Kind) bool { return k.Spec.Name == c.Kind })
	return kinds[i].Open(collect.Options{
		Pipeline: p.Name, Name: c.Name, DeviceID: e.config().Edge.DeviceID, Host: e.opts.Host,
		BaseDir: filepath.Dir(c.Range.Filename), UntilEnd: e.opts.UntilDrained,
		Logger:  e.log.With("pipeline", p.Name, "source", c.Name),
		Connect: func() (*nats.Conn, error) { return e.broker.Connect("collect " + c.Name) },
	}, c.Args)
}

// collect runs the sources of a pipeline until ctx ends or their input does, and
// returns when all that they handed on is durable. Work in flight lives until
// hard ends.
func (e *Engine) collect(ctx, hard context.Context, p *pipeline) error {
	var all gosync.WaitGroup
	errs := make([]error, len(p.sources))
	for i, s := range p.sources {
		all.Go(func() {
			if err := e.runSource(ctx, hard, p, s); err != nil {
				errs[i] = fmt.Errorf("pipeline %s, collect %s: %w", p.cfg.Name, s.name, err)
			}
		})
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
	if err := e.finishKeyed(ctx, p); err != nil {
		return err
	}
	w := newWorker(ctx, e, p, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(hard)
	}()
	position, err := e.sourcePosition(ctx, p, s.name)
	if err == nil {
		err = s.source.Run(ctx, position, w)
	}
	w.end()
	<-done
	return errors.Join(err, w.err())
}
