package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/keyed"
)

func newConflictsResolveCommand() *cobra.Command {
	var f conflictFlags
	var take, merged, reason string
	var all, yes bool
	cmd := &cobra.Command{
		Use:   "resolve ID...|--all [FILE|DIR...]",
		Short: "Settle conflicts",
		Long: `Settle conflicts: take the local or the remote version, delete the key, or give the
value that both become. It needs the edge to run. The choice is an edit on top of
the version at the hub. When either version has changed since it was looked at, the
choice is refused: the conflict is another one, with another ID.

Name them by IDs, or the beginnings of IDs, as 'edged conflicts ls' lists them; or all
that --pipeline and --key choose, with --all. With --all it only says how many would be
settled, until --yes is given.`,
		Example: `  edged conflicts resolve 5f2c91 --take local --reason "measured on site" /etc/edged
  edged conflicts resolve 5f2c91 --merged '{"target":21.5}' --data-dir /var/lib/edged
  edged conflicts resolve --all --key setpoint/ --take remote --yes /etc/edged`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			choice, err := readChoice(take, merged)
			if err != nil {
				return err
			}
			choice.Reason = reason
			filter := f.filter
			var paths []string
			filter.IDs, paths = split(args)
			switch {
			case len(filter.IDs) == 0 && !all:
				return usage("%s needs to know which: IDs as 'edged conflicts ls' lists them, or --all", cmd.CommandPath())
			case len(filter.IDs) > 0 && all:
				return usage("%s takes either IDs or --all", cmd.CommandPath())
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				found, err := findConflicts(ctx, k, filter)
				if err != nil {
					return err
				}
				if all && !yes && len(found) > 0 {
					return usage("%s would be settled; add --yes to do it", plural(uint64(len(found)), "conflict"))
				}
				return settle(ctx, cmd, k, found, choice)
			})
		},
	}
	cmd.Flags().StringVar(&take, "take", "", "local, remote or delete")
	cmd.Flags().StringVar(&merged, "merged", "", "the value that both become: JSON, or @FILE")
	cmd.Flags().StringVar(&reason, "reason", "", "who decides and why, for the journal")
	cmd.Flags().BoolVar(&all, "all", false, "all that wait, or that --pipeline and --key choose")
	cmd.Flags().BoolVar(&yes, "yes", false, "settle what --all chooses")
	complete(cmd, "take", "local", "remote", "delete")
	f.register(cmd)
	return cmd
}

// readChoice makes a choice of the command line.
func readChoice(take, merged string) (c engine.ConflictChoice, err error) {
	switch {
	case (take == "") == (merged == ""):
		return c, usage("say what becomes of it: either --take local, remote or delete, or --merged VALUE")
	case take != "":
		c.Take = keyed.Action(take)
		if c.Take != keyed.TakeLocal && c.Take != keyed.TakeRemote && c.Take != keyed.TakeDelete {
			return c, usage("--take is %q; it is local, remote or delete", take)
		}
		return c, nil
	}
	c.Take, c.Body = keyed.TakeMerged, json.RawMessage(merged)
	if file, ok := strings.CutPrefix(merged, "@"); ok {
		if c.Body, err = os.ReadFile(file); err != nil {
			return c, usage("--merged: %w", err)
		}
	}
	if !json.Valid(c.Body) {
		return c, usage("--merged is no JSON value; a text is written '\"like this\"'")
	}
	return c, nil
}

// settle makes the same choice of every conflict. One that has changed meanwhile
// does not keep the others.
func settle(ctx context.Context, cmd *cobra.Command, k conflictKeeper, found []*engine.OpenConflict, choice engine.ConflictChoice) error {
	settled, stale := uint64(0), 0
	for _, c := range found {
		choice.Pipeline, choice.Key, choice.ID = c.Pipeline, c.Key, c.ID
		err := k.ResolveConflict(ctx, choice)
		switch {
		case errors.Is(err, engine.ErrStaleConflict):
			stale++
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: one of its versions has changed since; look at it again with 'edged conflicts ls'\n", printable(c.Key))
		case err != nil:
			return fmt.Errorf("settling the conflict of %s: %w", printable(c.Key), err)
		default:
			settled++
		}
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s settled.\n", plural(settled, "conflict")); err != nil {
		return err
	}
	if stale > 0 {
		return errNotSettled
	}
	return nil
}
