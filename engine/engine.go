// Package engine assembles the parts of an edge and runs them: broker, store,
// queue, plugins, pipelines, remotes. A Go program can embed it.
package engine

import (
	"context"
	"log/slog"

	"github.com/edged/edged/engine/config"
)

// Options is what the host gives an engine.
type Options struct {
	DataDir      string // overrides the file's data_dir when not empty
	UntilDrained bool   // Run returns when every source has ended and everything is synced
	Logger       *slog.Logger
	Version      string
}

// Engine is one running edge.
type Engine struct{}

// Catalog lists the kinds of blocks this engine offers to pipeline files.
func Catalog() config.Catalog { return config.Catalog{} }

// Open locks the data directory, starts the broker, loads the plugins and
// opens the store. It does not start collecting.
func Open(ctx context.Context, cfg *config.Config, opts Options) (*Engine, error) {
	return &Engine{}, nil
}

// Run collects, stores and syncs until ctx ends (then it stops in stages and
// loses nothing) or, with UntilDrained, until everything is synced.
func (e *Engine) Run(ctx context.Context) error { return nil }

// Close stops what Open started. Canceling ctx stops hard.
func (e *Engine) Close(ctx context.Context) error { return nil }

// Status may be called at any time from any goroutine.
func (e *Engine) Status() Status { return Status{} }

// Audit compares the edge's ledger with the hubs'. See [Audit].
func (e *Engine) Audit(ctx context.Context) (Audit, error) { return Audit{}, nil }

// Summary returns the totals; it audits the hubs that are online.
func (e *Engine) Summary(ctx context.Context) Summary { return Summary{} }

// Audit is the comparison of edge and hub ledgers.
type Audit struct {
	Pipelines  []AuditPipeline `json:"pipelines"`
	Gaps       uint64          `json:"gaps"`
	Duplicates uint64          `json:"duplicates"`
	Waiting    uint64          `json:"waiting"`
}

// AuditPipeline compares one pipeline at one remote.
type AuditPipeline struct {
	Pipeline   string      `json:"pipeline"` // or "queue/<priority>"
	Remote     string      `json:"remote"`
	Epoch      string      `json:"epoch"`
	Stored     uint64      `json:"stored"` // highest record number at the edge
	Synced     uint64      `json:"synced"` // highest record number in the hub's ledger
	AtHub      uint64      `json:"at_hub"` // records found in the hub's stream
	Gaps       [][2]uint64 `json:"gaps"`   // record numbers, first and last
	Duplicates [][2]uint64 `json:"duplicates"`
	Error      string      `json:"error,omitempty"`
}
