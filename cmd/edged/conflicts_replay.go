package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/wasm"
)

// replayed is one decision as another resolver would have made it.
type replayed struct {
	Pipeline string           `json:"pipeline"`
	Number   uint64           `json:"number"`
	Time     time.Time        `json:"time"`
	Key      string           `json:"key"`
	Was      keyed.ResolverID `json:"was"`
	// Before and After are what both sides became, null for a delete; without a
	// value when it was left to a person or to the next resolver.
	Before  *outcomeJSON `json:"before"`
	After   *outcomeJSON `json:"after"`
	Differs bool         `json:"differs"`
}

type outcomeJSON struct {
	Action string `json:"action"`
	Body   string `json:"body,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func newConflictsReplayCommand() *cobra.Command {
	var f conflictFlags
	var since sinceFlag
	var flags moduleFlags
	var plugin string
	var differing, asJSON bool
	cmd := &cobra.Command{
		Use:   "replay --plugin FILE|builtin:NAME [FILE|DIR...]",
		Short: "Show what another resolver would have decided",
		Long: `Give the conflicts in the journal to a resolver, in the sandbox that a pipeline
runs it in, and show what it would have decided beside what was decided. Nothing is
changed. The exit code is 7 when the resolver failed on some.`,
		Example: `  edged conflicts replay /etc/edged --plugin builtin:latest_wins
  edged conflicts replay --data-dir /var/lib/edged --plugin my-resolver.wasm --config @rules.json --differing

  edged conflicts replay /etc/edged --plugin my-resolver.wasm --json | jq 'select(.differs)'`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if plugin == "" {
				return usage("%s needs a resolver: --plugin my-resolver.wasm, or --plugin builtin:latest_wins", cmd.CommandPath())
			}
			module, err := flags.module(cmd, plugin)
			if err != nil {
				return err
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				filter := f.filter
				filter.Since = since.Time
				rows, faults, err := replay(ctx, k, filter, module)
				if err != nil {
					return err
				}
				if err := writeReplay(cmd.OutOrStdout(), rows, differing, asJSON, faults); err != nil {
					return err
				}
				if faults > 0 {
					return failure(exitPlugin, fmt.Errorf("the resolver failed on %s", plural(faults, "conflict")))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&plugin, "plugin", "", "the resolver: a .wasm file, or builtin:NAME")
	cmd.Flags().Var(&since, "since", "only decisions since: 90m ago, or a time like 2026-11-22T06:15:00Z")
	cmd.Flags().BoolVar(&differing, "differing", false, "show only those it would have decided otherwise")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	flags.register(cmd)
	f.register(cmd)
	return cmd
}

// replayBatch is how many conflicts are resolved at once.
const replayBatch = 256

// replay runs the journal's conflicts through a module.
func replay(ctx context.Context, k conflictKeeper, f engine.ConflictFilter, m *plugindev.Module) (rows []replayed, faults uint64, err error) {
	err = m.With(ctx, wasm.Options{Logger: slog.New(slog.DiscardHandler)}, func(p *wasm.Plugin) error {
		if err := p.CanResolve(); err != nil {
			return err
		}
		var out wasm.ResolveOutput
		var conflicts []wasm.Conflict
		var waiting []*engine.ConflictDecision
		flush := func() error {
			if len(conflicts) == 0 {
				return nil
			}
			if err := p.Resolve(ctx, conflicts, &out); err != nil {
				return err
			}
			for i, d := range waiting {
				after := verdictOutcome(&conflicts[i], &out.Verdicts[i])
				if out.Verdicts[i].Fault != nil {
					faults++
				}
				before := decisionOutcome(d)
				rows = append(rows, replayed{
					Pipeline: d.Pipeline, Number: d.Number, Time: d.Time, Key: d.Key, Was: d.Resolver, Before: before, After: after,
					Differs: before.Body != after.Body || (before.Action == string(keyed.AskPerson)) != (after.Action == string(keyed.AskPerson)),
				})
			}
			conflicts, waiting = conflicts[:0], waiting[:0]
			return nil
		}
		err := k.Decisions(ctx, f, func(d *engine.ConflictDecision) error {
			c, ok := d.Versions()
			if !ok || c.Local.Deleted != c.Remote.Deleted { // a delete against a change is for the policy
				return nil
			}
			conflicts, waiting = append(conflicts, engine.WasmConflict(&c)), append(waiting, d)
			if len(conflicts) < replayBatch {
				return nil
			}
			return flush()
		})
		if err != nil {
			return err
		}
		return flush()
	})
	if err != nil {
		return nil, 0, fmt.Errorf("replaying the journal: %w", err)
	}
	return rows, faults, nil
}

func decisionOutcome(d *engine.ConflictDecision) *outcomeJSON {
	o := &outcomeJSON{Action: string(d.Action), Reason: d.Reason}
	if d.Result != nil && !d.Result.Deleted {
		o.Body = string(d.Result.Body)
	}
	return o
}

func verdictOutcome(c *wasm.Conflict, v *wasm.Verdict) *outcomeJSON {
	o := &outcomeJSON{Action: v.Action.String(), Reason: v.Reason}
	o.Body = string(plugindev.Settled(c, v))
	return o
}

func writeReplay(out io.Writer, rows []replayed, differing, asJSON bool, faults uint64) error {
	write := writeNDJSON(out)
	const width = 44
	t := table{head: []string{"NUMBER", "PIPELINE", "KEY", "", "DECIDED BY", "WAS", "WOULD BE"}}
	same, other := uint64(0), uint64(0)
	for i := range rows {
		r := &rows[i]
		mark := "same"
		if r.Differs {
			mark = "differs"
			other++
		} else {
			same++
		}
		switch {
		case differing && !r.Differs:
		case asJSON:
			if err := write(r); err != nil {
				return err
			}
		default:
			t.add(fmt.Sprint(r.Number), r.Pipeline, shorten(printable(r.Key), keyWidth), mark, r.Was.Name, replayText(r.Before, width), replayText(r.After, width))
		}
	}
	if asJSON {
		return nil
	}
	text := ""
	if len(t.rows) > 0 {
		text = t.String() + "\n"
	}
	_, err := fmt.Fprintf(out, "%s%s: %d decided the same, %d otherwise, of these the resolver failed on %d.\n", text, plural(same+other, "conflict"), same, other, faults)
	return err
}

func replayText(o *outcomeJSON, width int) string {
	text := o.Action
	switch {
	case o.Body != "":
		text += " " + o.Body
	case o.Reason != "":
		text += ": " + oneLine(o.Reason)
	}
	return shorten(printable(text), width)
}
