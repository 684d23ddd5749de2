// Package collect holds the sources of records, one file per kind. A source
// reads foreign input, maps it to records with expressions, and hands batches
// to a sink; it is told when a batch is durable, and only then acknowledges
// its own source (I1).
package collect

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// Batch is what a source hands on. Most hold about 500 records or 256 KiB at
// most; one request over HTTP is one batch, however many records it has. A sink
// that commits in smaller steps calls Done after the last of them.
type Batch struct {
	// Records in source order. The batch owns their bytes: the source neither
	// reads nor writes them after Put.
	Records []record.Record
	// Rejected holds inputs that could not become records (I6).
	Rejected []record.DeadLetter
	// Position is where the source continues after this batch, committed
	// together with the records; nil for a source without one.
	Position json.RawMessage
	// Done is called exactly once, from any goroutine, when the batch is durable
	// (nil) or has been refused. It must not block. It may be nil.
	Done func(error)
}

// ErrFull is returned by [Sink.Put] when storage is at its bound, or the disk
// takes nothing, and the wait ended before that changed; the source tells its own
// source to wait (I9).
var ErrFull = errors.New("the local store is full")

// Unstorable is an [ErrFull] that says what the store suffers from.
type Unstorable struct{ Why error }

func (u *Unstorable) Error() string { return "the local store takes nothing now: " + u.Why.Error() }
func (u *Unstorable) Unwrap() error { return u.Why }

// Is reports that it is an [ErrFull].
func (u *Unstorable) Is(target error) bool { return target == ErrFull }

// fullReason tells a sender why its records were not taken for now.
func fullReason(err error) string {
	var why *Unstorable
	if errors.As(err, &why) {
		return why.Error()
	}
	return "the local store is full or busy"
}

// Sink takes batches from a source.
type Sink interface {
	// Put hands b on. It blocks while the pipeline is busy or the store is full,
	// until ctx ends. An error means b was not taken and Done is not called;
	// after one that is neither [ErrFull] nor ctx's own, Run ends with it. Put
	// may be called from many goroutines, and never after Run has returned.
	//
	// When a batch is refused, by Put or by Done, the sink refuses every later
	// one of the same Run as well: the position of a later one would skip it. Run
	// then ends with an error and may be called again.
	Put(ctx context.Context, b *Batch) error
	// Trouble returns why nothing is stored at present, as an [ErrFull], and nil
	// when it is. A source that answers for a batch asks when that takes long.
	Trouble() error
}

// Source is one running source.
type Source interface {
	// Run reads from position (nil: from the beginning) until ctx ends or the
	// input ends. It returns nil when the input is at its end for good or ctx
	// ended; every Put has returned by then, though not every Done was called.
	// Another error means that the source cannot go on by itself; the caller may
	// call Run again with the last durable position.
	Run(ctx context.Context, position json.RawMessage, sink Sink) error
}

// Options is what the host gives a source.
type Options struct {
	Pipeline string
	Name     string       // the collect block's name
	DeviceID string       // the edge's own device id: the default of device_id
	Logger   *slog.Logger // nil: silent
	Host     expr.Host
	BaseDir  string // relative paths in the file are relative to this folder
	// UntilEnd asks a source to end when its input is exhausted instead of
	// waiting for more; one that can never end refuses to open.
	UntilEnd bool
	// Connect opens a new connection to the edge's own broker. The source
	// closes it. Nil: there is none.
	Connect func() (*nats.Conn, error)
	// Listen opens a listener; nil is [net.Listen].
	Listen func(network, address string) (net.Listener, error)
	// Sleep waits for d or until ctx ends, whichever is first; nil uses the real
	// clock. A virtual clock gives its own.
	Sleep func(ctx context.Context, d time.Duration)
}

// Kind declares one kind of source.
type Kind struct {
	Spec config.Spec
	// Open checks what only the running machine can tell and returns the source.
	// It holds nothing open: what a source needs it opens in Run and closes
	// before Run returns.
	Open func(opts Options, args config.Args) (Source, error)
}

// Kinds lists every kind of source.
func Kinds() []Kind {
	return []Kind{
		{Spec: fileSpec(), Open: openFile},
		{Spec: generatorSpec(), Open: openGenerator},
		{Spec: httpSpec(), Open: openHTTP},
		{Spec: natsSpec(), Open: openNATS},
	}
}

// A batch is handed on when it holds this many records and dead letters, or
// this many bytes.
const (
	batchRecords = 500
	batchBytes   = 256 << 10
)

// stopGrace bounds how long a source finishes what is in flight once its
// context has ended.
const stopGrace = 10 * time.Second

// fullPause is the wait before a batch that found the store full is offered
// again.
const fullPause = time.Second

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Host.Now == nil {
		o.Host.Now = time.Now
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return o
}

// stage names the block in dead letters and messages.
func (o Options) stage() string { return "collect." + o.Name }

// resolve returns path relative to the pipeline file's folder.
func (o Options) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.BaseDir, path)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// delivery puts the batches of a source that has a position. When one is
// refused it ends the run, so that the source begins again after the last
// durable batch instead of skipping the refused one.
type delivery struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	sink   Sink
	opts   Options
}

func newDelivery(ctx context.Context, sink Sink, opts Options) *delivery {
	ctx, cancel := context.WithCancelCause(ctx)
	return &delivery{ctx: ctx, cancel: cancel, sink: sink, opts: opts}
}

// errRefused is the cause of a run that ended because of a refused batch.
type errRefused struct{ err error }

func (e errRefused) Error() string { return "storing a batch: " + e.err.Error() }
func (e errRefused) Unwrap() error { return e.err }

// put hands b on, and again while the store is full. False: the run is over.
func (d *delivery) put(b *Batch) bool {
	b.Done = func(err error) {
		if err != nil {
			d.cancel(errRefused{err})
		}
	}
	for {
		err := d.sink.Put(d.ctx, b)
		switch {
		case err == nil:
			return d.ctx.Err() == nil
		case d.ctx.Err() != nil:
			return false
		case !errors.Is(err, ErrFull):
			d.cancel(errRefused{err})
			return false
		}
		d.opts.Logger.Warn("the source waits", "error", err)
		d.opts.Sleep(d.ctx, fullPause)
	}
}

// end returns what Run returns: nil, unless a batch was refused.
func (d *delivery) end() error {
	var refused errRefused
	errors.As(context.Cause(d.ctx), &refused)
	d.cancel(nil)
	if refused.err != nil {
		return refused
	}
	return nil
}
