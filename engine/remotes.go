package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	gosync "sync"
	"time"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// remote is one remote at work.
type remote struct {
	cfg     *config.Remote
	remote  sync.Remote
	rate    *sync.Rate
	monitor *sync.Monitor
	sender  *sync.Sender
	feeds   []*feed
	// watching is the monitor at work, and sending the sender.
	watching, sending *task
	// wants tells whether messages of a pipeline and topic go there; nil: all do.
	wants func(pipeline, topic string) bool
}

// feed is one lane on its way to one remote.
type feed struct {
	*sync.FeedSender
	pipeline *pipeline // nil: messages
	before   uint64    // sent by feeds that this one has replaced

	mu     gosync.Mutex
	oldest oldestWaiting
}

// Sent returns how many entries the remote has taken since this process first
// asked it.
func (f *feed) Sent() uint64 { return f.before + f.FeedSender.Sent() }

// openHubs starts the embedded hubs.
func (e *Engine) openHubs(ctx context.Context) error {
	e.hubs = map[string]string{}
	for i := range e.config().Remotes {
		r := &e.config().Remotes[i]
		if !embedded(r) {
			continue
		}
		h, err := hub.Start(ctx, hub.Options{
			LeafListen: "127.0.0.1:0", ClientListen: r.Args.String("client_listen"),
			DataDir: filepath.Join(e.dataDir, "hub-"+r.Name), Domain: r.Args.String("domain"),
			Logger: e.log.With("part", "embedded hub", "remote", r.Name),
		})
		if errors.Is(err, broker.ErrLocked) {
			return fmt.Errorf("another edged runs on %s (see `edged status`), or give this one its own --data-dir: %w", e.dataDir, err)
		}
		if err != nil {
			return fmt.Errorf("starting the embedded hub %s: %w", r.Name, err)
		}
		e.onClose("embedded hub "+r.Name, func(context.Context) error { return h.Close() })
		e.hubs[r.Name] = h.LeafURL()
	}
	return nil
}

// embedded reports whether a remote is a hub in this process.
func embedded(r *config.Remote) bool { return r != nil && r.Kind == "nats" && r.Args.Bool("embedded") }

// links returns the links of all NATS remotes.
func (e *Engine) links(cfg *config.Config) ([]broker.Link, error) {
	var links []broker.Link
	for i := range cfg.Remotes {
		r := &cfg.Remotes[i]
		if r.Kind != "nats" {
			continue
		}
		path := pathsOf(r)
		link := broker.Link{
			Name: r.Name, Credentials: path(r.Args.String("credentials")), Compression: broker.Compression(r.Args.String("compression")),
		}
		if tls, ok := r.Args.Block("tls"); ok {
			link.TLS = broker.TLSFiles{CA: path(tls.String("ca")), Cert: path(tls.String("cert")), Key: path(tls.String("key"))}
		}
		if embedded(r) {
			link.URLs = []string{e.hubs[r.Name]}
			links = append(links, link)
			continue
		}
		for _, raw := range r.Args.Strings("urls") {
			u, err := url.Parse(raw)
			if err != nil {
				return nil, fmt.Errorf("remote %s: %w", r.Name, err)
			}
			if user := r.Args.String("user"); user != "" {
				u.User = url.UserPassword(user, r.Args.String("password"))
			}
			link.URLs = append(link.URLs, u.String())
		}
		links = append(links, link)
	}
	return links, nil
}

// pathsOf resolves paths against the file that declares the remote.
func pathsOf(r *config.Remote) func(string) string {
	base := filepath.Dir(r.Range.Filename)
	return func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(base, p)
	}
}

// openRemote opens what the remote's kind needs.
func (e *Engine) openRemote(ctx context.Context, cfg *config.Remote, rate *sync.Rate, log *slog.Logger) (sync.Remote, error) {
	switch cfg.Kind {
	case "nats":
		return sync.OpenNATS(sync.NATSOptions{
			Link: cfg.Name, Edge: e.config().Edge.DeviceID, Domain: cfg.Args.String("domain"), Broker: e.broker,
			Rate: rate, Now: e.now, Logger: log,
		})
	case "http":
		return e.openHTTP(ctx, cfg, rate, log)
	}
	return nil, fmt.Errorf("remote %s: there is no kind %q", cfg.Name, cfg.Kind)
}

// openRemotes makes monitor, sender and feeds of every remote that a pipeline
// syncs to.
func (e *Engine) openRemotes(ctx context.Context) error {
	e.onClose("remotes", func(context.Context) error {
		for _, r := range e.remotes() {
			r.remote.Close()
		}
		return nil
	})
	set := e.setup.Load()
	for i := range set.cfg.Remotes {
		cfg := &set.cfg.Remotes[i]
		if len(syncsTo(set, cfg)) == 0 {
			continue
		}
		r, err := e.newRemote(ctx, cfg)
		if err != nil {
			return err
		}
		e.addFeeds(set, r, nil)
		set.remotes = append(set.remotes, r)
	}
	for _, p := range set.pipelines { // the remotes know more exactly what was discarded
		p.base, _, _ = e.counts(p)
	}
	return nil
}

// syncsTo returns the pipelines that sync to a remote.
func syncsTo(set *setup, cfg *config.Remote) map[*pipeline]*config.Sync {
	syncs := map[*pipeline]*config.Sync{}
	for _, p := range set.pipelines {
		for j := range p.cfg.Syncs {
			if s := &p.cfg.Syncs[j]; s.RemoteKind == cfg.Kind && s.RemoteName == cfg.Name {
				syncs[p] = s
			}
		}
	}
	return syncs
}

// newRemote opens a remote with its monitor.
func (e *Engine) newRemote(ctx context.Context, cfg *config.Remote) (*remote, error) {
	log := e.log.With("remote", cfg.Name)
	r := &remote{cfg: cfg, rate: sync.NewRate(cfg.Args.Rate("max_rate"), e.now)}
	var err error
	if r.remote, err = e.openRemote(ctx, cfg, r.rate, log); err != nil {
		return nil, err
	}
	watch, _ := cfg.Args.Block("monitor") // without one all is at its default
	r.monitor = sync.NewMonitor(sync.MonitorOptions{
		Remote: r.remote, Logger: log, OnChange: e.publishChange, Every: watch.Duration("every"), Timeout: watch.Duration("timeout"),
		Slow: watch.Duration("slow"), OfflineAfter: int(watch.Int("failures")),
	})
	return r, nil
}

// addFeeds gives a remote its sender, with the feeds of the pipelines that sync
// to it. They go on where the feeds of old end, which runs no more; old may be nil.
func (e *Engine) addFeeds(set *setup, r, old *remote) {
	r.sender = sync.NewSender(sync.SenderOptions{
		Remote: r.remote, Monitor: r.monitor, Logger: e.log.With("remote", r.cfg.Name), Now: e.now, Rate: r.rate,
		Changed: []func() <-chan struct{}{e.records.Changed, e.queue.Log().Changed},
	})
	add := func(p *pipeline, f *sync.Feed, policy batch.Policy, every time.Duration) {
		e.state.recall(r.cfg.Name, f)
		next := &feed{pipeline: p}
		if before := old.feedOf(f); before != nil {
			next.before = before.Sent()
		}
		next.FeedSender = r.sender.Add(f, policy, every)
		r.feeds = append(r.feeds, next)
	}
	syncs := syncsTo(set, r.cfg)
	r.wants = wants(syncs, len(set.pipelines))
	for _, priority := range record.Priorities {
		f := &sync.Feed{Kind: sync.Messages, Lane: e.queue.Lane(priority), Want: r.want(), Expires: expires}
		add(nil, f, batch.Policy{}, 0)
	}
	for _, p := range set.pipelines {
		if s := syncs[p]; s != nil && p.keyed == nil {
			f := &sync.Feed{Kind: sync.Records, Lane: p.lane}
			b := p.cfg.Batch
			add(p, f, batch.Policy{MaxRecords: b.MaxRecords, MaxBytes: int(b.MaxBytes), MaxWait: b.MaxWait}, s.Every)
		}
	}
}

// feedOf returns the remote's feed of the same lane, or nil.
func (r *remote) feedOf(f *sync.Feed) *feed {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.feeds, func(b *feed) bool { return b.Feed.Kind == f.Kind && b.Feed.Lane == f.Lane })
	if i < 0 {
		return nil
	}
	return r.feeds[i]
}

// drain flushes every sender and waits until nothing waits any more, or ctx
// ends.
func (e *Engine) drain(ctx context.Context, failed <-chan error) error {
	for _, r := range e.remotes() {
		r.sender.Flush()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if e.drained() {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// drained reports whether every message is in the queue and every remote has
// everything.
func (e *Engine) drained() bool {
	if !e.keyedDrained() {
		return false
	}
	if e.queue.Moved() < e.records.NewestOutbox() {
		return false
	}
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.Waiting() > 0 {
				return false
			}
		}
	}
	return true
}

// removedLanes returns the lanes of pipelines that are no longer configured.
func (e *Engine) removedLanes() []*store.Lane {
	configured := map[string]bool{}
	for _, p := range e.pipelines() {
		configured[p.lane.Name()] = true
	}
	var removed []*store.Lane
	for _, lane := range e.records.Lanes() {
		if !configured[lane.Name()] {
			removed = append(removed, lane)
		}
	}
	return removed
}
