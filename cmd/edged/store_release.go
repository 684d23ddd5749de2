package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
)

func newStoreReleaseCommand() *cobra.Command {
	var at place
	var yes bool
	cmd := &cobra.Command{
		Use:   "release PIPELINE [FILE|DIR...]",
		Short: "Give up the records of a removed pipeline, or of one without a sync",
		Long: `Give up the records that only this device has: of a pipeline that was removed from
the files before every remote had them, or of one without a sync. They are kept for
good otherwise, for deleting data is never a side effect of an edit. Their space is
free when the command has ended.

It only says how many would go, until --yes is given; 'edged store export' keeps a
copy. That they were given up, and when, is noted in the store before they go, and
'edged status --json' shows it.

The edge that runs on the data directory is asked. When none runs, the directory is
opened; then the pipeline files must be given, for they say whether the pipeline
has a sync. One that has is refused: what waits is still to be sent.`,
		Example: `  edged store release old_sensors /etc/edged
  edged store release old_sensors /etc/edged --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("%s needs the name of a pipeline, as 'edged status' shows it", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeAfter(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, paths := args[0], args[1:]
			var remotes []string
			if len(paths) > 0 {
				cfg, err := loadConfig(cmd.ErrOrStderr(), paths)
				if err != nil {
					return err
				}
				if remotes, err = remotesFor(cfg, name); err != nil {
					return err
				}
			}
			return at.within(cmd, paths, func(ctx context.Context, k keeper) error {
				if _, offline := k.(*engine.Store); offline && len(paths) == 0 {
					return usage("no edge runs: %s needs the pipeline files, which say whether %q has a sync", cmd.CommandPath(), name)
				}
				if !yes {
					return wouldGo(ctx, k, name)
				}
				r, err := k.Release(ctx, name, remotes)
				if err != nil {
					return fmt.Errorf("giving up records: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s of %s given up: numbers %d to %d.\n", plural(r.Records, "record"), r.Pipeline, r.First, r.Last)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	at.register(cmd)
	return cmd
}

// remotesFor returns the remotes that a configuration has, unless the pipeline
// of that name syncs to one.
func remotesFor(cfg *config.Config, pipeline string) (remotes []string, err error) {
	for i := range cfg.Pipelines {
		if p := &cfg.Pipelines[i]; p.Name == pipeline && len(p.Syncs) > 0 {
			return nil, fmt.Errorf("giving up records: %w: the pipeline %q syncs to %s in these files; remove its sync blocks first",
				engine.ErrNotReleased, pipeline, p.Syncs[0].RemoteName)
		}
	}
	for i := range cfg.Remotes {
		remotes = append(remotes, cfg.Remotes[i].Name)
	}
	return remotes, nil
}

// wouldGo says what a release would give up.
func wouldGo(ctx context.Context, k keeper, pipeline string) error {
	st, err := k.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking what is kept: %w", err)
	}
	for _, p := range st.Pipelines {
		if p.Name == pipeline && p.Kept.Records > p.Kept.Synced {
			return usage("%s of %s would be given up for good; add --yes to do it", plural(p.Kept.Records-p.Kept.Synced, "record"), pipeline)
		}
	}
	return errors.New("nothing is kept of the pipeline " + pipeline + " that no remote has")
}
