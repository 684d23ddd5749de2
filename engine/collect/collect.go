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

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// Batch is what a source hands on.
type Batch struct {
	// Records in source order. The batch owns their bytes.
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

// ErrFull is returned by [Sink.Put] when storage is at its bound and the wait
// ended before there was room; the source tells its own source to wait (I9).
var ErrFull = errors.New("the local store is full")

// Sink takes batches from a source.
type Sink interface {
	// Put hands b on. It blocks while the pipeline is busy or the store is full,
	// until ctx ends. An error means b was not taken and Done is not called.
	Put(ctx context.Context, b *Batch) error
}

// Source is one running source.
type Source interface {
	// Run reads from position (nil: from the beginning) until ctx ends or the
	// input ends. It returns nil when the input is at its end for good or ctx
	// ended; every Put has returned by then, though not every Done was called.
	Run(ctx context.Context, position json.RawMessage, sink Sink) error
}

// Options is what the host gives a source.
type Options struct {
	Pipeline string
	Name     string       // the collect block's name
	DeviceID string       // the edge's own device id: the default of device_id
	Logger   *slog.Logger // never nil
	Host     expr.Host
	BaseDir  string // relative paths in the file are relative to this folder
	// UntilEnd asks a source to end when its input is exhausted instead of
	// waiting for more; one that can never end refuses to open.
	UntilEnd bool
}

// Kind declares one kind of source.
type Kind struct {
	Spec config.Spec
	// Open checks what only the running machine can tell (it may open files and
	// listeners) and returns the source.
	Open func(opts Options, args config.Args) (Source, error)
}

// Kinds lists every kind of source.
func Kinds() []Kind { return nil }
