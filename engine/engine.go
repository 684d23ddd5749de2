// Package engine assembles the parts of an edge and runs them: broker, store,
// queue, plugins, pipelines, remotes. A Go program can embed it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/guard"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// Local names of the record log.
const (
	recordStream  = "EDGED_RECORDS"
	recordSubject = "edged.records"
)

// Shares of the disk budget: messages and dead letters have room of their own,
// so that a backlog of records never keeps an alarm out (I9).
const (
	queueShare      = 10 // one part in ten
	deadLetterShare = 10
)

// unbounded is for the server, whose streams have bounds of their own: left to
// itself it would refuse everything when three quarters of the free disk are used.
const unbounded = 1 << 60

// Options is what the host gives an engine.
type Options struct {
	DataDir      string // overrides the file's data_dir when not empty
	UntilDrained bool   // Run returns when every source has ended and everything is synced
	Logger       *slog.Logger
	Version      string
	// Load reads the configuration anew for [Engine.Reload]. Nil: it cannot be.
	Load func() (*config.Config, hcl.Diagnostics)
	Host expr.Host // the world as expressions see it; zero: the real one
}

// Engine is one running edge. Its methods may be called from any goroutine.
type Engine struct {
	opts    Options
	log     *slog.Logger
	dataDir string
	started time.Time
	now     func() time.Time

	disk     *guard.Guard
	hubs     map[string]string // where the embedded hubs listen, by remote
	broker   *broker.Broker
	nc       *nats.Conn
	records  *store.Log
	queue    *queue.Queue
	state    *stateStore
	device   *DeviceConfig
	wasm     *wasm.Host
	uncached *wasm.Host // for modules that the cache stands in the way of
	setup    atomic.Pointer[setup]
	control  *control
	keyed    *keyedStores
	retrying gosync.Mutex // held for one retry of dead letters
	changing gosync.Mutex // held while what runs is changed
	crew     *crew        // nil: Run has not begun, or is at its end; guarded by changing
	reloads  reloads
	marks    map[string]waterMark // as last saved; Open's, then housekeeping's

	closers []closer
}

// setup is what a configuration asks for. Open fills it; from then on it is not
// changed, only replaced.
type setup struct {
	cfg       *config.Config
	trust     wasm.Trust
	plugins   map[string]*loadedPlugin   // those that no pipeline has for its own
	resolvers map[string]*loadedResolver // of the keyed stores, by the name they are written with
	pipelines []*pipeline
	remotes   []*remote
	syncs     []*keyedSync
}

func (e *Engine) config() *config.Config { return e.setup.Load().cfg }
func (e *Engine) pipelines() []*pipeline { return e.setup.Load().pipelines }
func (e *Engine) remotes() []*remote     { return e.setup.Load().remotes }

// closer undoes one step of Open.
type closer struct {
	name  string
	close func(ctx context.Context) error
}

// Catalog lists the kinds of blocks this engine offers to pipeline files.
func Catalog() config.Catalog {
	var c config.Catalog
	for _, k := range collect.Kinds() {
		c.Collects = append(c.Collects, k.Spec)
	}
	c.Remotes = sync.Specs()
	c.Strategies = plugins.Strategies()
	c.Capabilities = wasm.Capabilities()
	return c
}

// Builtins lists the names that may follow "builtin:" in a plugin's module.
func Builtins() []string { return plugins.Names() }

// Open locks the data directory, starts the broker, opens the store, loads the
// plugins and opens the sources. It does not start collecting. The order is
// that of use: each part stands on those before it, and Close goes backwards.
//
// When something in the files turns out wrong only now (a plugin that does not
// load, an unreadable file), the error is an hcl.Diagnostics.
func Open(ctx context.Context, cfg *config.Config, opts Options) (_ *Engine, err error) {
	e := &Engine{opts: opts, log: opts.Logger, now: opts.Host.Now}
	e.setup.Store(&setup{cfg: cfg, resolvers: map[string]*loadedResolver{}})
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.started = e.now()
	if e.dataDir = opts.DataDir; e.dataDir == "" {
		e.dataDir = cfg.Edge.DataDir
	}
	if e.dataDir, err = filepath.Abs(e.dataDir); err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	if err := os.MkdirAll(e.dataDir, 0o750); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []func(context.Context) error{
		e.openDisk,      // makes room, so that the others can start on a full disk
		e.openBroker,    // locks the directory; embedded hubs with it
		e.openStore,     // what was acknowledged before
		e.settleDamage,  // what could not be read of it any more
		e.checkStore,    // against what was acknowledged, as far as is known outside it
		e.openPlugins,   // compiled into the data directory
		e.openPipelines, // on plugins and store
		e.openKeyed,     // for pipelines, with plugins that resolve conflicts
		e.openRemotes,   // on pipelines and broker
		e.openKeyedSyncs,
		e.flushMeta,   // of the streams they have made
		e.openControl, // answers about all of it
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *Engine) onClose(name string, f func(ctx context.Context) error) {
	e.closers = append(e.closers, closer{name, f})
}

func (e *Engine) openDisk(context.Context) error {
	e.disk = guard.New(guard.Options{
		Dir: e.dataDir, MaxBytes: e.config().Edge.MaxBytes, Taker: "the edge", Logger: e.log.With("part", "disk"), Intact: e.intact,
	})
	return nil
}

// intact reports whether all logs hold what this process knows to be durable.
func (e *Engine) intact(ctx context.Context) (bool, error) {
	for _, log := range []*store.Log{e.records, e.queue.Log(), e.queue.DeadLetters()} {
		if ok, err := log.Intact(ctx); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (e *Engine) openBroker(ctx context.Context) error {
	if err := e.openHubs(ctx); err != nil {
		return err
	}
	links, err := e.links(e.config())
	if err != nil {
		return err
	}
	name := sync.BrokerName(e.config().Edge.DeviceID)
	e.broker, err = broker.Start(ctx, broker.Options{
		Name: name, Domain: name, Dir: filepath.Join(e.dataDir, "jetstream"),
		Durability: broker.Durability(e.config().Edge.Durability), MaxBytes: unbounded,
		Quarantine: quarantineDir(e.dataDir),
		Logger:     e.log.With("part", "broker"), Links: links,
	})
	if errors.Is(err, broker.ErrLocked) {
		return fmt.Errorf("another edged runs on %s (see `edged status`), or give this one its own --data-dir: %w", e.dataDir, err)
	}
	if err != nil {
		return err
	}
	e.onClose("broker", func(context.Context) error { return e.broker.Close() })
	if e.nc, err = e.broker.Connect("edged"); err != nil {
		return err
	}
	e.onClose("connection", func(context.Context) error { e.nc.Close(); return nil })
	return nil
}

func (e *Engine) flushMeta(context.Context) error { return e.broker.FlushMeta() }

func (e *Engine) openStore(ctx context.Context) error {
	budget := e.config().Edge.MaxBytes
	var err error
	e.records, err = store.Open(ctx, e.nc, store.Options{
		Stream: recordStream, Subject: recordSubject, Logger: e.log.With("part", "store"),
		MaxBytes: budgetOfRecords(e.config()), Gate: e.disk.Gate(), Flush: e.broker.FlushStream,
	})
	if err != nil {
		return err
	}
	e.onClose("record store", e.records.Close)
	e.queue, err = queue.Open(ctx, e.nc, queue.Options{
		QueueBytes: budget / queueShare, DeadLetterBytes: budget / deadLetterShare, Gate: e.disk.Gate(), Flush: e.broker.FlushStream, Logger: e.log.With("part", "queue"),
	})
	if err != nil {
		return err
	}
	e.onClose("queue", e.queue.Close)
	if e.state, err = openState(ctx, e.nc); err != nil {
		return err
	}
	if e.device, err = openDeviceConfig(ctx, e.nc); err != nil {
		return err
	}
	if e.opts.Host.Config == nil {
		e.opts.Host.Config = e.device.Text
	}
	return nil
}

// Run collects, stores and syncs until ctx ends or, with UntilDrained, until
// everything is synced. Then it stops in stages and loses nothing: sources take
// no more, what is in flight is stored and acknowledged, messages reach the
// queue, senders end. Run once.
func (e *Engine) Run(ctx context.Context) error {
	// What finishes work in flight must outlive ctx.
	after, hard := context.WithCancel(context.WithoutCancel(ctx))
	defer hard()
	background, stopBackground := context.WithCancel(after)
	defer stopBackground()
	// A full store may wait for a hub for weeks; a stop does not.
	defer context.AfterFunc(ctx, func() {
		e.records.StopWaiting()
		e.queue.StopWaiting()
	})()

	var parts gosync.WaitGroup
	failed := make(chan error, 1)
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error { return e.queue.Move(ctx, e.records) },
		func(ctx context.Context) error { return e.disk.Run(ctx, e.broker) },
	} {
		parts.Go(func() {
			if err := part(background); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	parts.Go(func() { e.housekeep(background) })
	parts.Go(func() { e.serveKeyed(background) })

	collecting, stopCollecting := context.WithCancel(ctx)
	defer stopCollecting()
	e.begin(&crew{collecting: collecting, hard: after, background: background})
	err := e.wait(ctx, failed)
	stopCollecting()
	err = errors.Join(err, e.end())
	stopBackground()
	for _, r := range e.remotes() {
		r.watching.wait()
		r.sending.wait()
	}
	for _, k := range e.setup.Load().syncs {
		k.running.wait()
	}
	parts.Wait()
	return errors.Join(err, e.saveState(after), e.saveHighWater())
}

// wait returns when the engine is to stop.
func (e *Engine) wait(ctx context.Context, failed <-chan error) error {
	if e.opts.UntilDrained {
		for _, p := range e.pipelines() {
			select {
			case err := <-failed:
				return err
			case <-p.collecting.ended:
			}
		}
		for _, p := range e.pipelines() {
			if p.failed != nil || ctx.Err() != nil {
				return nil // end tells
			}
		}
		return e.drain(ctx, failed)
	}
	// Sources may all have ended; what is stored is still to be synced.
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Close stops what Open started, in reverse. Run has returned, or was never
// called. When ctx ends first, what is left is stopped hard.
func (e *Engine) Close(ctx context.Context) error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		if err := e.closers[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("closing the %s: %w", e.closers[i].name, err))
		}
	}
	e.closers = nil
	return errors.Join(errs...)
}
