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
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/keyed/api"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// keyedShare is the part of the disk budget that keyed records have when a
// pipeline keeps such.
const keyedShare = 10

// keyedStores is what the edge has of keyed records; nil without a pipeline that
// kept such when it was opened.
type keyedStores struct {
	stores *keyed.Stores
	api    *apiServer // nil: none is configured
}

// Keyed returns the keyed store of a pipeline; nil: it has none.
func (e *Engine) Keyed(pipeline string) *keyed.Store {
	if p := pipelineNamed(e.setup.Load(), pipeline); p != nil {
		return p.keyed
	}
	return nil
}

// keyedList returns the keyed stores of all pipelines.
func (e *Engine) keyedList() (list []*keyed.Store) {
	for _, p := range e.pipelines() {
		if p.keyed != nil {
			list = append(list, p.keyed)
		}
	}
	return list
}

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

// openKeyed opens the keyed stores of the pipelines.
func (e *Engine) openKeyed(ctx context.Context) error {
	cfg := e.config()
	if !hasKeyed(cfg) {
		if cfg.Edge.API.Listen != "" {
			e.log.Warn("the api serves nothing: no pipeline has a block store \"keyed\"")
		}
		return nil
	}
	var options []keyed.Options
	for _, p := range e.pipelines() {
		if p.keyedOptions != nil {
			options = append(options, *p.keyedOptions)
		}
	}
	stores, err := keyed.Open(ctx, e.nc, cfg.Edge.MaxBytes/keyedShare, e.log.With("part", "keyed"), options)
	if err != nil {
		return err
	}
	e.keyed = &keyedStores{stores: stores}
	e.onClose("keyed store", stores.Close)
	for _, p := range e.pipelines() {
		if p.keyedOptions != nil {
			p.keyed = stores.Store(p.cfg.Name)
		}
	}
	return e.openAPI()
}

// loadedResolver is a plugin that settles conflicts, for all keyed stores that name
// it.
type loadedResolver struct {
	plugin   *loadedPlugin
	resolver keyed.Resolver
}

// keyedOptions loads what the resolvers of a pipeline's store are and the setup does
// not have yet.
func (e *Engine) keyedOptions(ctx context.Context, set *setup, p *config.Pipeline) (*keyed.Options, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	load := func(names []string, at hcl.Range) []keyed.Resolver {
		var chain []keyed.Resolver
		for _, name := range names {
			r := set.resolvers[name]
			if r == nil {
				var err error
				if r, err = e.loadResolver(ctx, set, name); err != nil {
					diags = append(diags, diagnostic(at, "Resolver cannot be loaded", err))
					continue
				}
				set.resolvers[name] = r
			}
			chain = append(chain, r.resolver)
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
	return &keyed.Options{
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
func (e *Engine) loadResolver(ctx context.Context, set *setup, name string) (*loadedResolver, error) {
	p, err := e.openResolver(ctx, set, name)
	if err != nil {
		return nil, err
	}
	r, err := NewResolver(p.Plugin)
	return &loadedResolver{p, r}, err
}

// resolversOf lists the resolvers that a keyed store names, each once.
func resolversOf(k *config.Keyed) []string {
	if k == nil {
		return nil
	}
	names := slices.Clone(k.Conflict)
	for _, t := range k.Types {
		names = append(names, t.Conflict...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// keyedPlugins lists the plugin blocks that keyed stores name.
func keyedPlugins(cfg *config.Config) map[string]bool {
	used := map[string]bool{}
	for i := range cfg.Pipelines {
		for _, name := range resolversOf(cfg.Pipelines[i].Keyed) {
			used[name] = true
		}
	}
	return used
}

// fixedKeyed tells what of keyed stores cannot change while the edge runs.
func (c *change) fixedKeyed(refuse func(at hcl.Range, what, why string)) {
	was, is := &c.old.cfg.Edge, &c.next.cfg.Edge
	if was.API.Listen != is.API.Listen || was.API.Token != is.API.Token {
		refuse(is.Range, "the api has changed", "programs use it")
	}
	if c.engine.keyed != nil {
		return
	}
	for i := range c.next.cfg.Pipelines {
		if p := &c.next.cfg.Pipelines[i]; p.Keyed != nil {
			refuse(p.Range, fmt.Sprintf("the pipeline %q is the first with keyed records", p.Name), "the store's room was divided without them")
		}
	}
}

// sourcePosition returns where a source continues.
func (e *Engine) sourcePosition(ctx context.Context, p *pipeline, source string) (json.RawMessage, error) {
	if p.keyed != nil {
		return p.keyed.SourcePosition(ctx, source)
	}
	return p.lane.Position(source), nil
}

// keyedStatus tells how a pipeline's store is.
func (e *Engine) keyedStatus(p *pipeline) *KeyedStatus {
	if p.keyed == nil {
		return nil
	}
	s := &KeyedStatus{Status: p.keyed.Status()}
	for _, k := range e.setup.Load().syncs {
		if k.pipeline != p {
			continue
		}
		caughtUp, err := k.sync.State()
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
		Handler:           api.NewHandler(api.Options{Stores: e.keyedList, Token: cfg.Token, Logger: log}),
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

// serveKeyed runs the APIs until ctx ends, then finishes the requests it has.
func (e *Engine) serveKeyed(ctx context.Context) {
	if e.keyed == nil {
		return
	}
	log := e.log.With("part", "api")
	natsDone := make(chan struct{})
	go func() {
		defer close(natsDone)
		if err := api.Serve(ctx, e.nc, api.Options{Stores: e.keyedList, Logger: log}); err != nil {
			log.Error("requests for keyed records are not answered any more", "error", err)
		}
	}()
	if e.keyed.api != nil {
		e.keyed.api.serve(ctx, log)
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
