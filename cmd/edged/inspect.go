package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/store"
)

// keeper shows and changes what an edge keeps beside the records.
type keeper interface {
	configKeeper
	conflictKeeper
	Status(ctx context.Context) (engine.Status, error)
	Release(ctx context.Context, pipeline string, remotes []string) (engine.Released, error)
	DeadLetters(ctx context.Context, sel queue.Selection, progress store.Progress, each func(*queue.Buried) error) error
	DropDeadLetters(ctx context.Context, sel queue.Selection, progress func(dropped int) error) (int, error)
	Messages(ctx context.Context, filter queue.MessageFilter, each func(*queue.Waiting) error) error
	QueueStats(ctx context.Context, filter queue.MessageFilter) (queue.Stats, error)
	Close() error
}

// configKeeper is the part of a keeper that has the device configuration.
type configKeeper interface {
	Config(ctx context.Context) ([]engine.ConfigEntry, error)
	SetConfig(ctx context.Context, key, value string) error
	UnsetConfig(ctx context.Context, key string) error
}

var (
	_ keeper = (*engine.Client)(nil)
	_ keeper = (*engine.Store)(nil)
)

// place says which data directory a command looks into.
type place struct {
	dataDir string
	log     logFlags
}

func (p *place) register(cmd *cobra.Command) {
	dataDirFlag(cmd, &p.dataDir)
	p.log.register(cmd)
}

// within calls do with the edge that runs on the data directory or, when none
// runs, with its opened store. The context ends with the first signal.
func (p *place) within(cmd *cobra.Command, paths []string, do func(context.Context, keeper) error) error {
	dir, err := findDataDir(cmd.ErrOrStderr(), p.dataDir, paths)
	if err != nil {
		return err
	}
	ctx, release := untilSignal(cmd.Context(), func(string) {})
	defer release()
	var k keeper
	client, err := engine.Dial(dir)
	switch {
	case err == nil:
		k = client
	case !errors.Is(err, engine.ErrNotRunning):
		return fmt.Errorf("connecting to the edge on %q: %w", dir, err)
	default:
		if k, err = p.open(ctx, cmd, dir); err != nil {
			return err
		}
	}
	return errors.Join(do(ctx, k), k.Close())
}

// offline calls do with the opened store of an edge that does not run.
func (p *place) offline(cmd *cobra.Command, paths []string, do func(context.Context, *engine.Store) error) error {
	dir, err := findDataDir(cmd.ErrOrStderr(), p.dataDir, paths)
	if err != nil {
		return err
	}
	if client, err := engine.Dial(dir); err == nil {
		return errors.Join(fmt.Errorf("an edge runs on %q: %s reads the files themselves; stop the edge first, or give it a copy of the data directory",
			dir, cmd.CommandPath()), client.Close())
	}
	ctx, release := untilSignal(cmd.Context(), func(string) {})
	defer release()
	s, err := p.open(ctx, cmd, dir)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, s), s.Close())
}

func (p *place) open(ctx context.Context, cmd *cobra.Command, dir string) (*engine.Store, error) {
	logger, err := p.log.logger(cmd.ErrOrStderr(), true)
	if err != nil {
		return nil, err
	}
	s, err := engine.OpenStore(ctx, dir, logger)
	if errors.Is(err, engine.ErrNoStore) {
		return nil, failure(exitNoEdge, fmt.Errorf(
			"no edge runs on the data directory %q and no store is in it: name the right one with --data-dir, or start an edge with 'edged run'", dir))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the data directory %q: %w", dir, err)
	}
	return s, nil
}

// sinceFlag is a time, or how long ago.
type sinceFlag struct{ time.Time }

// Set implements [pflag.Value].
func (f *sinceFlag) Set(text string) error {
	if d, err := time.ParseDuration(text); err == nil {
		f.Time = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			f.Time = t
			return nil
		}
	}
	return errors.New("it is how long ago, like 90m or 36h, or a time like 2026-11-22 or 2026-11-22T06:15:00Z")
}

func (f *sinceFlag) String() string {
	if f.IsZero() {
		return ""
	}
	return f.Format(time.RFC3339)
}

// Type names what the help shows.
func (*sinceFlag) Type() string { return "time" }

// writeNDJSON writes values as one line each.
func writeNDJSON(out io.Writer) func(value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode
}

// toFile calls write with standard output or, when name is not empty, with a
// file that gets its name when it is whole. Only its owner may read it.
func toFile(cmd *cobra.Command, name string, write func(io.Writer) error) (err error) {
	if name == "" {
		return write(cmd.OutOrStdout())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), os.Rename(f.Name(), name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return f.Close()
}
