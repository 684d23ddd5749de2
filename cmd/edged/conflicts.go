package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/store"
)

func newConflictsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "conflicts",
		Short: "See and settle conflicts of keyed records",
		Long: `See and settle conflicts of keyed records: values that were changed on this device
and at the hub at once. Most are settled by the pipeline's resolvers; what they
leave to a person waits here, and one of the two versions is served meanwhile.
Every decision, of a resolver or a person, stands in a journal.

The edge that runs on the data directory is asked; when none runs, the directory is
opened. Only 'resolve' needs the edge to run.`,
		Example: `  edged conflicts ls /etc/edged
  edged conflicts show 5f2c91 /etc/edged
  edged conflicts resolve 5f2c91 --take local --reason "measured on site" /etc/edged

  # Would another resolver have decided otherwise?
  edged conflicts replay /etc/edged --plugin my-resolver.wasm`,
	}, newConflictsListCommand(), newConflictsShowCommand(), newConflictsResolveCommand(), newConflictsReplayCommand(), newConflictsExportCommand())
}

// conflictKeeper is the part of a keeper that has the conflicts.
type conflictKeeper interface {
	Conflicts(ctx context.Context, f engine.ConflictFilter, each func(*engine.OpenConflict) error) error
	Decisions(ctx context.Context, f engine.ConflictFilter, each func(*engine.ConflictDecision) error) error
	ResolveConflict(ctx context.Context, c engine.ConflictChoice) error
}

// conflictFlags choose conflicts or decisions.
type conflictFlags struct {
	filter engine.ConflictFilter
	place
}

func (f *conflictFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.filter.Pipeline, "pipeline", "", "only those of this pipeline")
	cmd.Flags().StringVar(&f.filter.Prefix, "key", "", "only keys that begin like this: setpoint/ or setpoint/boiler-2")
	complete(cmd, "pipeline")
	complete(cmd, "key")
	f.place.register(cmd)
}

const noConflicts = "No conflict waits for a person.\n"

func newConflictsListCommand() *cobra.Command {
	var f conflictFlags
	var since sinceFlag
	var limit int
	var decided, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [FILE|DIR...]",
		Short: "List the conflicts that wait for a person, or the decisions",
		Long: `List the conflicts that wait for a person, by pipeline and key; with --decided the
decisions in the journal, oldest first, of which the newest --limit are shown. --json
prints one JSON object a line, with all versions.`,
		Example: `  edged conflicts ls /etc/edged
  edged conflicts ls --data-dir /var/lib/edged --decided --since 24h --key setpoint/

  # Which resolver has decided how often?
  edged conflicts ls /etc/edged --decided --limit 0 --json | jq -r .resolver.name | sort | uniq -c`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if limit < 0 {
				return usage("--limit is %d; it is 0 for all, or how many", limit)
			}
			if !since.IsZero() && !decided {
				return usage("--since goes with --decided")
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				filter := f.filter
				filter.Since = since.Time
				var text string
				var err error
				write := writeNDJSON(cmd.OutOrStdout())
				if !asJSON {
					write = nil
				}
				if decided {
					text, err = listDecisions(ctx, k, filter, limit, write)
				} else {
					text, err = listConflicts(ctx, k, filter, limit, write)
				}
				if err != nil {
					return fmt.Errorf("listing conflicts: %w", err)
				}
				_, err = io.WriteString(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&decided, "decided", false, "list the decisions in the journal instead")
	cmd.Flags().Var(&since, "since", "with --decided: only those since: 90m ago, or a time like 2026-11-22T06:15:00Z")
	cmd.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	f.register(cmd)
	return cmd
}

const keyWidth, reasonWidth = 48, 60

func listConflicts(ctx context.Context, k conflictKeeper, f engine.ConflictFilter, limit int, write func(any) error) (string, error) {
	t := table{head: []string{"ID", "PIPELINE", "KEY", "SINCE", "SERVES", "ASKED BY", "REASON"}}
	now, n := time.Now(), 0
	err := k.Conflicts(ctx, f, func(c *engine.OpenConflict) error {
		if n++; write != nil {
			if err := write(c); err != nil {
				return err
			}
		} else {
			t.add(c.ID, c.Pipeline, shorten(printable(c.Key), keyWidth), ago(now, c.Since), string(c.Serves), c.Resolver.Name, shorten(printable(oneLine(c.Reason)), reasonWidth))
		}
		if n == limit {
			return store.ErrEnough
		}
		return nil
	})
	switch {
	case err != nil || write != nil:
		return "", err
	case n == 0:
		return noConflicts, nil
	}
	return t.String(), nil
}

func listDecisions(ctx context.Context, k conflictKeeper, f engine.ConflictFilter, limit int, write func(any) error) (string, error) {
	var newest []*engine.ConflictDecision
	err := k.Decisions(ctx, f, func(d *engine.ConflictDecision) error {
		if newest = append(newest, d); limit > 0 && len(newest) > limit {
			newest[0] = nil
			newest = newest[1:]
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	t := table{head: []string{"NUMBER", "TIME", "PIPELINE", "KEY", "ACTION", "BY", "REASON"}}
	for _, d := range newest {
		if write != nil {
			if err := write(d); err != nil {
				return "", err
			}
			continue
		}
		t.add(fmt.Sprint(d.Number), d.Time.UTC().Format(time.RFC3339), d.Pipeline, shorten(printable(d.Key), keyWidth),
			string(d.Action), d.Resolver.Name, shorten(printable(oneLine(d.Reason)), reasonWidth))
	}
	switch {
	case write != nil:
		return "", nil
	case len(newest) == 0:
		return "The journal has no decisions.\n", nil
	}
	return t.String(), nil
}

func newConflictsShowCommand() *cobra.Command {
	var f conflictFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID... [FILE|DIR...]",
		Short: "Show conflicts whole, and how they came about",
		Long: `Show conflicts that wait, by their IDs or the beginnings of IDs: what both sides
came from, what each has made of it, and what the journal says of the key.

An argument of four or more hexadecimal digits is an ID, any other a pipeline file
or folder: write ./cafe for a folder of that name.`,
		Example: `  edged conflicts show 5f2c91 /etc/edged
  edged conflicts show 5f2c91 --data-dir /var/lib/edged --json | jq .local.body`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := f.filter
			var paths []string
			if filter.IDs, paths = split(args); len(filter.IDs) == 0 {
				return usage("%s needs an ID, as 'edged conflicts ls' lists them", cmd.CommandPath())
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				found, err := findConflicts(ctx, k, filter)
				if err != nil {
					return err
				}
				write, now := writeNDJSON(cmd.OutOrStdout()), time.Now()
				for i, c := range found {
					if asJSON {
						if err := write(c); err != nil {
							return err
						}
						continue
					}
					text, err := openConflictText(ctx, k, c, now)
					if i > 0 {
						text = "\n" + text
					}
					if err != nil {
						return err
					}
					if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	f.register(cmd)
	return cmd
}

// findConflicts returns the conflicts that the filter's IDs name, each of which
// must name one.
func findConflicts(ctx context.Context, k conflictKeeper, f engine.ConflictFilter) ([]*engine.OpenConflict, error) {
	var found []*engine.OpenConflict
	if err := k.Conflicts(ctx, f, func(c *engine.OpenConflict) error { found = append(found, c); return nil }); err != nil {
		return nil, fmt.Errorf("looking for conflicts: %w", err)
	}
	for _, id := range f.IDs {
		named := map[string]bool{}
		for _, c := range found {
			if strings.HasPrefix(c.ID, id) {
				named[c.ID] = true
			}
		}
		switch len(named) {
		case 0:
			return nil, fmt.Errorf("no conflict with the ID %q waits: it may be settled, or one of its versions has changed, which makes it another; 'edged conflicts ls' lists those that wait", id)
		case 1:
		default:
			return nil, usage("%q begins more than one ID; write more of it", id)
		}
	}
	return found, nil
}

// openConflictText is a conflict for people.
func openConflictText(ctx context.Context, k conflictKeeper, c *engine.OpenConflict, now time.Time) (string, error) {
	t := table{}
	t.add("id", c.ID)
	t.add("pipeline", c.Pipeline)
	t.add("key", printable(c.Key))
	t.add("waits", "since "+c.Since.UTC().Format(time.RFC3339)+", "+ago(now, c.Since))
	t.add("served meanwhile", string(c.Serves))
	t.add("asked by", resolverText(c.Resolver))
	t.add("reason", printable(oneLine(c.Reason)))
	t.add("local", versionText(&c.Local))
	t.add("remote", versionText(&c.Remote)+fmt.Sprintf(", revision %d", c.Revision))
	out := t.String() + "\n" + versionsText(c.Base, &c.Local, &c.Remote)
	history := table{}
	err := k.Decisions(ctx, engine.ConflictFilter{Pipeline: c.Pipeline, Prefix: c.Key}, func(d *engine.ConflictDecision) error {
		if d.Key == c.Key {
			history.add(fmt.Sprint(d.Number), d.Time.UTC().Format(time.RFC3339), string(d.Action), "by "+resolverText(d.Resolver), shorten(printable(oneLine(d.Reason)), reasonWidth))
		}
		return nil
	})
	if len(history.rows) > 0 {
		out += "\nJournal of the key:\n" + history.String()
	}
	return out, err
}

func resolverText(r keyed.ResolverID) string {
	text := r.Name
	if r.Version != "" {
		text += " " + r.Version
	}
	if len(r.SHA256) >= shortID {
		text += " (sha256 " + r.SHA256[:shortID] + ")"
	}
	return text
}

// versionText says who wrote a version and when.
func versionText(v *keyed.Value) string {
	text := "by " + printable(v.Op.Device) + ", " + time.Unix(0, v.HLC.Wall).UTC().Format(time.RFC3339Nano)
	if v.Deleted {
		text += ", deleted"
	}
	if v.Clock != keyed.Synced {
		text += ", clock " + string(v.Clock)
	}
	return text
}

// versionsText shows where the versions differ.
func versionsText(base, local, remote *keyed.Value) string {
	body := func(v *keyed.Value) []byte {
		if v == nil {
			return nil
		}
		return v.Body
	}
	const width = 40
	t := table{head: []string{"", "BASE", "LOCAL", "REMOTE"}}
	for _, row := range plugindev.SideBySide(body(base), body(local), body(remote)) {
		cells := []string{row.Path}
		if row.Path == "" {
			cells[0] = "value"
		}
		for _, v := range row.Values {
			if v == "" {
				v = "-"
			}
			cells = append(cells, shorten(printable(v), width))
		}
		t.add(cells...)
	}
	if len(t.rows) == 0 {
		return "The values are the same.\n"
	}
	return t.String()
}

func newConflictsExportCommand() *cobra.Command {
	var f conflictFlags
	var since sinceFlag
	var output, as string
	cmd := &cobra.Command{
		Use:   "export [FILE|DIR...]",
		Short: "Write the decisions out, with all versions",
		Long: `Write the decisions in the journal as NDJSON, oldest first: one JSON object a line
with base, local, remote, result, and who decided. With --as conflicts only what a
resolver is told, as 'edged plugin test --conflicts' reads it: real conflicts to test
a new resolver with.`,
		Example: `  edged conflicts export /etc/edged -o decisions.ndjson

  edged conflicts export /etc/edged --as conflicts -o conflicts.ndjson
  edged plugin test my-resolver.wasm --conflicts conflicts.ndjson`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if as != "decisions" && as != "conflicts" {
				return usage("--as is %q; it is decisions or conflicts", as)
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				filter := f.filter
				filter.Since = since.Time
				n := uint64(0)
				err := toFile(cmd, output, func(out io.Writer) error {
					write := writeNDJSON(out)
					return k.Decisions(ctx, filter, func(d *engine.ConflictDecision) error {
						if as == "decisions" {
							n++
							return write(d)
						}
						c, ok := d.Versions()
						if !ok {
							return nil
						}
						n++
						conflict := engine.WasmConflict(&c)
						_, err := out.Write(append(plugindev.AppendConflict(nil, &conflict), '\n'))
						return err
					})
				})
				if err != nil {
					return fmt.Errorf("exporting decisions: %w", err)
				}
				if output != "" {
					_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", plural(n, strings.TrimSuffix(as, "s")), output)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this file instead of standard output")
	cmd.Flags().StringVar(&as, "as", "decisions", "decisions, or conflicts as 'edged plugin test' reads them")
	cmd.Flags().Var(&since, "since", "only those since: 90m ago, or a time like 2026-11-22T06:15:00Z")
	complete(cmd, "as", "decisions", "conflicts")
	f.register(cmd)
	return cmd
}

var errNotSettled = errors.New("not every conflict was settled")
