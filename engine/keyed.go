package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	gosync "sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/keyed/api"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// keyedShare is the part of the disk budget that keyed records have when a
// pipeline keeps such.
const keyedShare = 10

// keyedStores is what the edge has of keyed records; nil without a pipeline that
// keeps such.
type keyedStores struct {
	stores *keyed.Stores
	list   []*keyed.Store
	syncs  map[string]*keyed.Sync // by pipeline
	api    *apiServer             // nil: none is configured
}

// store returns a pipeline's store, or nil.
func (k *keyedStores) store(pipeline string) *keyed.Store {
	if k == nil {
		return nil
	}
	return k.stores.Store(pipeline)
}

// Keyed returns the keyed store of a pipeline; nil: it has none.
func (e *Engine) Keyed(pipeline string) *keyed.Store { return e.keyed.store(pipeline) }

// budgetOfRecords is the part of the disk budget that the record log has.
func budgetOfRecords(cfg *config.Config) int64 {
	budget := cfg.Edge.MaxBytes
	records := budget - budget/queueShare - budget/deadLetterShare
	if hasKeyed(cfg) {
		records -= budget / keyedShare
	}
	return records
}

func hasKeyed(cfg *config.Config) bool {
	for i := range cfg.Pipelines {
		if cfg.Pipelines[i].Keyed != nil {
			return true
		}
	}
	return false
}

// openKeyed opens the keyed stores with their resolvers.
func (e *Engine) openKeyed(ctx context.Context) error {
	cfg := e.config()
	if !hasKeyed(cfg) {
		if cfg.Edge.API.Listen != "" {
			e.log.Warn("the api serves nothing: no pipeline has a block store \"keyed\"")
		}
		return nil
	}
	var stores []keyed.Options
	var diags hcl.Diagnostics
	resolvers := map[string]keyed.Resolver{}
	for i := range cfg.Pipelines {
		p := &cfg.Pipelines[i]
		if p.Keyed == nil {
			continue
		}
		o, more := e.keyedOptions(ctx, p, resolvers)
		diags = append(diags, more...)
		stores = append(stores, o)
	}
	if diags.HasErrors() {
		return diags
	}
	e.keyed = &keyedStores{syncs: map[string]*keyed.Sync{}}
	var err error
	e.keyed.stores, err = keyed.Open(ctx, e.nc, cfg.Edge.MaxBytes/keyedShare, e.log.With("part", "keyed"), stores)
	if err != nil {
		e.keyed = nil
		return err
	}
	e.onClose("keyed store", e.keyed.stores.Close)
	for i := range stores {
		e.keyed.list = append(e.keyed.list, e.keyed.stores.Store(stores[i].Name))
	}
	return e.openAPI()
}

// keyedOptions loads the resolvers of a pipeline's store.
func (e *Engine) keyedOptions(ctx context.Context, p *config.Pipeline, resolvers map[string]keyed.Resolver) (keyed.Options, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	load := func(names []string, at hcl.Range) []keyed.Resolver {
		var chain []keyed.Resolver
		for _, name := range names {
			r := resolvers[name]
			if r == nil {
				var err error
				if r, err = e.loadResolver(ctx, name); err != nil {
					diags = append(diags, diagnostic(at, "Resolver cannot be loaded", err))
					continue
				}
				resolvers[name] = r
			}
			chain = append(chain, r)
		}
		return chain
	}
	k := p.Keyed
	chain, policy := load(k.Conflict, k.Range), keyed.OnDelete(k.OnDelete)
	chains, policies := map[string][]keyed.Resolver{}, map[string]keyed.OnDelete{}
	for _, t := range k.Types {
		if t.Conflict != nil {
			chains[t.Name] = load(t.Conflict, t.Range)
		}
		if t.OnDelete != "" {
			policies[t.Name] = keyed.OnDelete(t.OnDelete)
		}
	}
	return keyed.Options{
		Name: p.Name, Device: e.config().Edge.DeviceID, Schema: uint64(k.Schema), Interest: k.Interest,
		Skew: k.MaxSkew, JournalEntries: k.Journal, Now: e.now, Logger: e.log.With("part", "keyed", "pipeline", p.Name),
		Writable: func() error { _, why := e.disk.Gate().State(); return why },
		Chain: func(dataType string) []keyed.Resolver {
			if c, ok := chains[dataType]; ok {
				return c
			}
			return chain
		},
		OnDelete: func(dataType string) keyed.OnDelete {
			if d, ok := policies[dataType]; ok {
				return d
			}
			return policy
		},
	}, diags
}

// loadResolver loads a plugin for the keyed stores alone.
func (e *Engine) loadResolver(ctx context.Context, name string) (keyed.Resolver, error) {
	p, err := e.openResolver(ctx, name)
	if err != nil {
		return nil, err
	}
	return NewResolver(p)
}

// keyedPlugins lists the plugin blocks that keyed stores name.
func keyedPlugins(cfg *config.Config) map[string]bool {
	used := map[string]bool{}
	for i := range cfg.Pipelines {
		k := cfg.Pipelines[i].Keyed
		if k == nil {
			continue
		}
		for _, name := range k.Conflict {
			used[name] = true
		}
		for _, t := range k.Types {
			for _, name := range t.Conflict {
				used[name] = true
			}
		}
	}
	return used
}

// fixedKeyed tells what of keyed stores cannot change while the edge runs.
func (c *change) fixedKeyed(refuse func(at hcl.Range, what, why string)) {
	const open = "its keyed store is open with it"
	was, is := c.old.cfg, c.next.cfg
	if was.Edge.API.Listen != is.Edge.API.Listen || was.Edge.API.Token != is.Edge.API.Token {
		refuse(is.Edge.Range, "the api has changed", "programs use it")
	}
	for i := range was.Pipelines {
		old := &was.Pipelines[i]
		if old.Keyed != nil && !slices.ContainsFunc(is.Pipelines, func(p config.Pipeline) bool { return p.Name == old.Name }) {
			refuse(is.Edge.Range, fmt.Sprintf("the pipeline %q is gone", old.Name), open)
		}
	}
	for i := range is.Pipelines {
		p := &is.Pipelines[i]
		j := slices.IndexFunc(was.Pipelines, func(old config.Pipeline) bool { return old.Name == p.Name })
		keyed := p.Keyed != nil || j >= 0 && was.Pipelines[j].Keyed != nil
		if keyed && (j < 0 || was.Pipelines[j].Text != p.Text) {
			refuse(p.Range, fmt.Sprintf("the pipeline %q is new or has changed", p.Name), open)
		}
		for _, s := range p.Syncs {
			r, old := remoteNamed(is, s.RemoteName), remoteNamed(was, s.RemoteName)
			if keyed && r != nil && (old == nil || old.Text != r.Text) {
				refuse(r.Range, fmt.Sprintf("the remote %q has changed", r.Name), "keyed records sync to it")
			}
		}
	}
	fixedResolvers(was, is, refuse)
}

// fixedResolvers is the part of fixedKeyed about plugins.
func fixedResolvers(was, is *config.Config, refuse func(at hcl.Range, what, why string)) {
	plugins := keyedPlugins(was)
	for i := range is.Plugins {
		p := &is.Plugins[i]
		j := slices.IndexFunc(was.Plugins, func(old config.Plugin) bool { return old.Name == p.Name })
		if plugins[p.Name] && (j < 0 || was.Plugins[j].Text != p.Text) {
			refuse(p.Range, fmt.Sprintf("the plugin %q has changed", p.Name), "a keyed store resolves conflicts with it")
		}
	}
}

// openKeyedSyncs makes the syncs of keyed stores, once their remotes are there.
func (e *Engine) openKeyedSyncs(context.Context) error {
	if e.keyed == nil {
		return nil
	}
	for _, r := range e.remotes() {
		for p := range syncsTo(e.setup.Load(), r.cfg) {
			if p.keyed == nil {
				continue
			}
			hub, err := e.keyedHub(r, p.cfg.Name)
			if err != nil {
				return err
			}
			e.keyed.syncs[p.cfg.Name] = keyed.NewSync(keyed.SyncOptions{
				Store: p.keyed, Hub: r.rate.Keyed(hub), WaitUp: r.monitor.WaitUp, Logger: e.log.With("part", "keyed", "remote", r.cfg.Name),
			})
		}
	}
	return nil
}

// keyedHub is a store's way to its hub.
func (e *Engine) keyedHub(r *remote, pipeline string) (keyed.Hub, error) {
	if api, ok := r.remote.(*sync.HTTP); ok {
		return api.Keyed(pipeline), nil
	}
	if r.cfg.Kind != "nats" {
		return nil, fmt.Errorf("pipeline %s: keyed records do not sync to remotes of the kind %q", pipeline, r.cfg.Kind)
	}
	nc, err := e.broker.ConnectLink(r.cfg.Name)
	if err != nil {
		return nil, err
	}
	e.onClose("keyed link of "+pipeline, func(context.Context) error { nc.Close(); return nil })
	return keyed.NewNATSHub(nc, r.cfg.Args.String("domain"), pipeline), nil
}

// runKeyed runs the APIs and the syncs until ctx ends.
func (e *Engine) runKeyed(ctx context.Context, parts *gosync.WaitGroup) {
	if e.keyed == nil {
		return
	}
	parts.Go(func() { e.keyed.serve(ctx, e.nc, e.log.With("part", "api")) })
	for _, y := range e.keyed.syncs {
		parts.Go(func() { y.Run(ctx) })
	}
}

// sourcePosition returns where a source continues.
func (e *Engine) sourcePosition(ctx context.Context, p *pipeline, source string) (json.RawMessage, error) {
	if p.keyed != nil {
		return p.keyed.SourcePosition(ctx, source)
	}
	return p.lane.Position(source), nil
}

// keyedDrained reports whether nothing waits for a hub but what waits for a
// person, or is parked.
func (e *Engine) keyedDrained() bool {
	if e.keyed == nil {
		return true
	}
	for name, y := range e.keyed.syncs {
		caughtUp, _ := y.State()
		if s := e.keyed.stores.Store(name).Status(); !caughtUp || s.Pending > s.Conflicts+s.Parked {
			return false
		}
	}
	return true
}

// keyedStatus tells how a pipeline's store is.
func (e *Engine) keyedStatus(p *pipeline) *KeyedStatus {
	if p.keyed == nil {
		return nil
	}
	s := &KeyedStatus{Status: p.keyed.Status()}
	if y := e.keyed.syncs[p.cfg.Name]; y != nil {
		caughtUp, err := y.State()
		s.CaughtUp = &caughtUp
		if err != nil {
			s.LastError = err.Error()
		}
	}
	return s
}

// puts makes of records what they set. One that cannot be stored becomes a dead
// letter (I6).
func (w *worker) puts(records []record.Record, g *store.Group) {
	k := w.pipeline.cfg.Keyed
	ev := expr.NewEvaluator(w.engine.opts.Host)
	for i := range records {
		r := &records[i]
		g.Outbox.Messages = w.rules.Append(g.Outbox.Messages, r)
		item, err := itemOf(k, ev, r)
		if err == nil {
			err = keyed.Check(item)
		}
		if err != nil {
			g.Outbox.DeadLetters = append(g.Outbox.DeadLetters, w.unstorable(r, err))
			continue
		}
		w.items = append(w.items, item)
	}
}

func itemOf(k *config.Keyed, ev *expr.Evaluator, r *record.Record) (item keyed.Item, err error) {
	v := expr.Value{Record: r}
	if item.Key, err = k.Key.Text(ev, v); err != nil {
		return item, fmt.Errorf("its key: %w", err)
	}
	if k.Value == nil {
		item.Body = append([]byte(nil), r.Payload...)
		return item, nil
	}
	if item.Body, err = k.Value.AppendJSON(ev, nil, v); err != nil {
		return item, fmt.Errorf("its value: %w", err)
	}
	return item, nil
}

func (w *worker) unstorable(r *record.Record, err error) record.DeadLetter {
	raw := r.AppendJSON(nil)
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s store.keyed", len(w.pipeline.cfg.Name), w.pipeline.cfg.Name)
	sum.Write(raw)
	return record.DeadLetter{
		ID: hex.EncodeToString(sum.Sum(nil)[:16]), Pipeline: w.pipeline.cfg.Name, Stage: "store.keyed",
		Error: err.Error(), Time: w.engine.now().UTC(), Raw: raw, Detail: map[string]string{"record_id": r.ID},
	}
}

// putKeyed stores what the prepared records set. Counters, messages, dead letters
// and what plugins keep go first: after a crash in between the batch comes again,
// raises a message again, with its id, and loses nothing. The position is stored
// with the values, so that none is put twice.
func (w *worker) putKeyed(ctx context.Context, g *store.Group) error {
	position := g.Position
	g.Position = nil
	if err := appendAndWait(ctx, w.pipeline.lane, g); err != nil {
		w.pipeline.keys.undo()
		return err
	}
	w.pipeline.keys.keep(g)
	refused, err := w.pipeline.keyed.PutAll(ctx, w.items, w.source.name, position)
	return errors.Join(append(refused, err)...) // nothing is refused: all was checked
}

// apiServer serves the HTTP API.
type apiServer struct {
	listener net.Listener
	server   *http.Server
}

const (
	apiHeaderTimeout = 5 * time.Second
	apiReadTimeout   = 30 * time.Second
	apiIdleTimeout   = 2 * time.Minute
	apiMaxHeader     = 16 << 10
	apiGrace         = 5 * time.Second
)

// openAPI listens where the edge block says.
func (e *Engine) openAPI() error {
	cfg := e.config().Edge.API
	if cfg.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return hcl.Diagnostics{diagnostic(cfg.Range, "Cannot listen", err)}
	}
	log := e.log.With("part", "api")
	e.keyed.api = &apiServer{listener: l, server: &http.Server{
		Handler:           api.NewHandler(api.Options{Stores: e.keyed.list, Token: cfg.Token, Logger: log}),
		ReadHeaderTimeout: apiHeaderTimeout, ReadTimeout: apiReadTimeout, IdleTimeout: apiIdleTimeout, MaxHeaderBytes: apiMaxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	e.onClose("api", func(context.Context) error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// APIAddr is where the HTTP API listens, or empty.
func (e *Engine) APIAddr() string {
	if e.keyed == nil || e.keyed.api == nil {
		return ""
	}
	return e.keyed.api.listener.Addr().String()
}

// serve runs the APIs until ctx ends, then finishes the requests it has.
func (k *keyedStores) serve(ctx context.Context, nc *nats.Conn, log *slog.Logger) {
	natsDone := make(chan struct{})
	go func() {
		defer close(natsDone)
		if err := api.Serve(ctx, nc, api.Options{Stores: k.list, Logger: log}); err != nil {
			log.Error("requests for keyed records are not answered any more", "error", err)
		}
	}()
	if k.api != nil {
		k.api.serve(ctx, log)
	}
	<-natsDone
}

func (a *apiServer) serve(ctx context.Context, log *slog.Logger) {
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	log.Info("serving keyed records", "address", a.listener.Addr().String())
	select {
	case err := <-served:
		log.Error("keyed records are not served any more", "error", err)
		return
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiGrace)
	defer cancel()
	if err := a.server.Shutdown(grace); err != nil {
		log.Warn("requests were cut off", "error", errors.Join(err, a.server.Close()))
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		log.Warn("serving keyed records has ended", "error", err)
	}
}
