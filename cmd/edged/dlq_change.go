package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/queue"
)

// chosen is what a command that changes dead letters was told to change.
type chosen struct {
	place
	selectionFlags
	all bool
}

func (c *chosen) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.all, "all", false, "every dead letter")
	c.selectionFlags.register(cmd)
	c.place.register(cmd)
}

// split tells IDs from files: what is all hexadecimal digits is an ID.
func split(args []string) (ids, paths []string) {
	for _, arg := range args {
		if len(arg) >= 4 && len(arg) <= 64 && strings.Trim(arg, "0123456789abcdef") == "" {
			ids = append(ids, arg)
		} else {
			paths = append(paths, arg)
		}
	}
	return ids, paths
}

// choose makes a selection of the command line. Nothing is ever chosen by
// leaving something out.
func (c *chosen) choose(cmd *cobra.Command, args []string) (sel queue.Selection, paths []string, err error) {
	sel = c.selection()
	sel.IDs, paths = split(args)
	ways := 0
	for _, given := range []bool{len(sel.IDs) > 0, c.all, c.filtered()} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return sel, nil, usage("%s needs to know which: IDs as 'edged dlq ls' lists them, filters like --stage, or --all", cmd.CommandPath())
	case ways > 1:
		return sel, nil, usage("%s takes either IDs, or filters, or --all", cmd.CommandPath())
	}
	return sel, paths, nil
}

const howToChoose = `Name them by their IDs, or the beginnings of IDs; or with filters; or say --all.
An argument of four or more hexadecimal digits is an ID, any other a pipeline
file or folder: write ./cafe for a folder of that name.`

func newDLQDropCommand() *cobra.Command {
	var c chosen
	var yes bool
	cmd := &cobra.Command{
		Use:   "drop ID...|--all|FILTERS [FILE|DIR...]",
		Short: "Remove dead letters for good",
		Long: `Remove dead letters for good. 'edged dlq export' keeps a copy.

` + howToChoose + `

With filters or --all it only says how many would go, until --yes is given. That
they were dropped is noted in the store before they go.`,
		Example: `  edged dlq drop 4f1c22d09ab1 77e0 --data-dir /var/lib/edged

  # Keep a copy, then make room
  edged dlq export /etc/edged --stage collect -o unreadable.ndjson
  edged dlq drop /etc/edged --stage collect --yes`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, paths, err := c.choose(cmd, args)
			if err != nil {
				return err
			}
			return c.within(cmd, paths, func(ctx context.Context, k keeper) error {
				if len(sel.IDs) == 0 && !yes {
					n := uint64(0)
					if err := k.DeadLetters(ctx, sel, tellRead(cmd), func(*queue.Buried) error { n++; return nil }); err != nil {
						return fmt.Errorf("counting the dead letters: %w", err)
					}
					return usage("%s would be removed for good; add --yes to do it", plural(n, "dead letter"))
				}
				tell := newTeller(cmd)
				n, err := k.DropDeadLetters(ctx, sel, func(n int) error {
					tell.say("%s dropped so far", plural(uint64(n), "dead letter"))
					return nil
				})
				if err == nil || n > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s dropped.\n", plural(uint64(n), "dead letter"))
				}
				if err != nil {
					return fmt.Errorf("dropping dead letters: %w", err)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "drop what filters or --all choose")
	c.register(cmd)
	return cmd
}

func newDLQRetryCommand() *cobra.Command {
	var c chosen
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "retry ID...|--all|FILTERS [FILE|DIR...]",
		Short: "Send dead letters again",
		Long: `Send dead letters again, after what was wrong is mended. It needs the edge to
run, with the plugins and rules it has now.

What failed in a transform goes through that transform and those behind it, and
through the alert rules. What an HTTP remote did not take is stored, or queued,
once more: it goes to every remote of its pipeline. Each dead letter is removed
after its record is durable, and a kill in between does not store it twice. What
fails again is a dead letter anew. The record comes behind newer ones of its
device.

What a source could not read cannot be sent again, because only that source
knows how to read it: mend the mapping or the input, hand the input to the
source once more, and drop the dead letter.

` + howToChoose + `

The exit code is 1 when some were refused or failed again.`,
		Example: `  edged dlq retry 4f1c22d09ab1 --data-dir /var/lib/edged
  edged dlq retry /etc/edged --stage transform.dew_point --since 24h
  edged dlq retry /etc/edged --all --json`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, paths, err := c.choose(cmd, args)
			if err != nil {
				return err
			}
			dir, err := findDataDir(cmd.ErrOrStderr(), c.dataDir, paths)
			if err != nil {
				return err
			}
			client, err := dial(dir)
			if err != nil {
				return err
			}
			ctx, release := untilSignal(cmd.Context(), func(string) {})
			defer release()
			tell := newTeller(cmd)
			done, err := client.RetryDeadLetters(ctx, sel, func(r engine.Retried) error {
				tell.say("%s sent again so far", plural(r.Again+r.Failed, "dead letter"))
				return nil
			})
			err = errors.Join(err, client.Close())
			if asJSON {
				err = errors.Join(err, writeJSON(cmd.OutOrStdout(), done))
			} else {
				_, failed := io.WriteString(cmd.OutOrStdout(), retriedText(done))
				err = errors.Join(err, failed)
			}
			switch {
			case err != nil:
				return err
			case done.Failed+done.Refused > 0:
				return fmt.Errorf("%d failed again and %d were refused", done.Failed, done.Refused)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.register(cmd)
	return cmd
}

func retriedText(r engine.Retried) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s sent again.\n", plural(r.Again, "dead letter"))
	if r.Failed > 0 {
		fmt.Fprintf(&out, "%s failed again; 'edged dlq ls' says why.\n", plural(r.Failed, "dead letter"))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		fmt.Fprintf(&out, "%s left alone: %s\n", plural(r.Reasons[reason], "dead letter"), reason)
	}
	return out.String()
}
