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
)

// auditAgainAfter is how long an audit waits for a remote before it asks again.
const auditAgainAfter = 500 * time.Millisecond

// auditOptions are the flags of `edged audit`.
type auditOptions struct {
	dataDir string
	timeout time.Duration
	asJSON  bool
	log     logFlags
	hub     hubClient
	edges   []string
}

func newAuditCommand() *cobra.Command {
	var opts auditOptions
	cmd := &cobra.Command{
		Use:   "audit FILE|DIR...|--hub URL",
		Short: "Prove that what the device acknowledged is at the hub, once",
		Long: `Compare the edge's own numbering with what is at each hub, and print the gaps
and duplicates: none, or the exact record numbers.

A gap is a record that counts as synced and is not at the hub. What a hub had and
lost, by a restore from a backup or a stream made anew, is sent again while the
edge keeps it; what it no longer keeps is a gap, named so (hub_lost). A duplicate is a
record that is there more than once. Damaged is a batch with other content than
was sent. Records that wait for the link are neither.
An HTTP API keeps no ledger: of it only what it acknowledged is shown.

A running edge is asked; when none runs, the data directory is opened, the
remotes are waited for up to --timeout, and nothing is collected.

With --hub the whole fleet is audited from the hub's side, without asking an edge
or knowing its pipelines: all that the hub holds is read once and compared with
the ledgers that the edges have written there. What an edge has not yet sent it
cannot see. --edge picks edges out.

The exit code is 0 when every hub was asked and there are no gaps, no duplicates
and no damage, otherwise 4.`,
		Example: `  edged audit pipelines/quickstart.hcl
  edged audit /etc/edged --data-dir /var/lib/edged --timeout 1m

  # Which records are missing?
  edged audit /etc/edged --json | jq '.pipelines[] | {pipeline, remote, gaps}'

  # Every edge of a hub; which has not synced since yesterday?
  edged audit --hub nats://hub.example.com:4222 --hub-creds ops.creds
  edged audit --hub nats://127.0.0.1:4222 --json |
    jq '.edges[] | select(.last_sync < (now - 86400 | todate)) | .device_id'`,
		Args: func(cmd *cobra.Command, paths []string) error {
			if opts.hub.url != "" {
				return nil
			}
			return needPaths(cmd, paths)
		},
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if opts.hub.url != "" {
				return opts.fleet(cmd, paths)
			}
			return opts.run(cmd, paths)
		},
	}
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 30*time.Second, "how long to wait for remotes; with --hub, for its next answer")
	cmd.Flags().StringSliceVar(&opts.edges, "edge", nil, "with --hub: only this device_id (may be given again)")
	opts.hub.register(cmd)
	cmd.Flags().BoolVar(&opts.asJSON, "json", false, "print one JSON object")
	dataDirFlag(cmd, &opts.dataDir)
	opts.log.register(cmd)
	return cmd
}

func (o *auditOptions) run(cmd *cobra.Command, paths []string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	ctx, release := untilSignal(ctx, func(string) {})
	defer release()

	audit, err := o.ask(ctx, cmd, paths)
	if err != nil {
		return err
	}
	if o.asJSON {
		err = writeJSON(cmd.OutOrStdout(), audit)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), auditText(audit))
	}
	if err != nil {
		return fmt.Errorf("printing the audit: %w", err)
	}
	return auditVerdict(audit)
}

// ask asks the edge that runs, or else opens the data directory itself.
func (o *auditOptions) ask(ctx context.Context, cmd *cobra.Command, paths []string) (engine.Audit, error) {
	cfg, err := loadConfig(cmd.ErrOrStderr(), paths)
	if err != nil {
		return engine.Audit{}, err
	}
	dir := o.dataDir
	if dir == "" {
		dir = cfg.Edge.DataDir
	}
	client, err := engine.Dial(dir)
	if err == nil {
		audit, err := untilAudited(ctx, client.Audit)
		return audit, errors.Join(err, client.Close())
	}
	if !errors.Is(err, engine.ErrNotRunning) {
		return engine.Audit{}, fmt.Errorf("connecting to the edge on %q: %w", dir, err)
	}

	logger, err := o.log.logger(cmd.ErrOrStderr(), true)
	if err != nil {
		return engine.Audit{}, err
	}
	edge, err := openEdge(ctx, cmd.ErrOrStderr(), cfg, engine.Options{DataDir: o.dataDir, Logger: logger})
	if err != nil {
		return engine.Audit{}, err
	}
	audit, err := untilAudited(ctx, edge.Audit)
	return audit, errors.Join(err, closeEdge(edge))
}

// untilAudited asks again while a hub cannot be asked, until ctx ends; then
// the last answer stands.
func untilAudited(ctx context.Context, ask func(context.Context) (engine.Audit, error)) (engine.Audit, error) {
	for {
		audit, err := ask(ctx)
		if err != nil {
			return engine.Audit{}, fmt.Errorf("auditing: %w", err)
		}
		if unasked(audit) == 0 {
			return audit, nil
		}
		select {
		case <-ctx.Done():
			return audit, nil
		case <-time.After(auditAgainAfter):
		}
	}
}

// unasked counts the comparisons that could not be made.
func unasked(audit engine.Audit) uint64 {
	var n uint64
	for _, p := range audit.Pipelines {
		if p.Error != "" {
			n++
		}
	}
	return n
}

// auditVerdict turns an audit into an exit code.
func auditVerdict(audit engine.Audit) error {
	switch {
	case audit.Gaps+audit.Duplicates+audit.Damaged > 0:
		return failure(exitAudit, auditFound(audit.Gaps, audit.Duplicates, audit.Damaged))
	case unasked(audit) > 0:
		return failure(exitAudit, errors.New("not every hub could be asked, so nothing is proven; try again when the link is up, or with a longer --timeout"))
	}
	return nil
}

func auditFound(gaps, duplicates, damaged uint64) error {
	text := fmt.Sprintf("the audit found %s and %s", plural(gaps, "gap"), plural(duplicates, "duplicate"))
	if damaged > 0 {
		text += fmt.Sprintf(", and %s at the hub that are not what the edge sent", plural(damaged, "record"))
	}
	return errors.New(text)
}

// auditText is an audit for people.
func auditText(audit engine.Audit) string {
	t := table{head: []string{"PIPELINE", "REMOTE", "STORED", "SYNCED", "AT HUB", "GAPS", "DUPLICATES"}}
	var details strings.Builder
	compared := 0
	for _, p := range audit.Pipelines {
		if p.Error != "" {
			t.add(p.Pipeline, p.Remote, number(p.Stored), "?", "?", "?", "?")
			fmt.Fprintf(&details, "%s to %s: not asked: %s\n", p.Pipeline, p.Remote, oneLine(p.Error))
			continue
		}
		if p.NoLedger {
			t.add(p.Pipeline, p.Remote, number(p.Stored), number(p.Synced), "-", "-", "-")
			continue
		}
		compared++
		t.add(p.Pipeline, p.Remote, number(p.Stored), number(p.Synced), number(p.AtHub),
			number(length(p.Gaps)), number(length(p.Duplicates)))
		if len(p.Gaps) > 0 {
			fmt.Fprintf(&details, "%s to %s: missing at the hub: %s\n", p.Pipeline, p.Remote, ranges(p.Gaps))
		}
		for _, l := range p.Lost {
			fmt.Fprintf(&details, "%s: lost at this edge: %s of epoch %s: %s\n", p.Pipeline, ranges([][2]uint64{{l.First, l.Last}}), l.Epoch, oneLine(l.Cause))
		}
		if len(p.HubLost) > 0 {
			fmt.Fprintf(&details, "%s to %s: of these the hub had and lost, and the edge no longer keeps: %s\n", p.Pipeline, p.Remote, ranges(p.HubLost))
		}
		if len(p.Duplicates) > 0 {
			fmt.Fprintf(&details, "%s to %s: more than once at the hub: %s\n", p.Pipeline, p.Remote, ranges(p.Duplicates))
		}
		if len(p.Damaged) > 0 {
			fmt.Fprintf(&details, "%s to %s: in batches that are not what was sent: %s\n", p.Pipeline, p.Remote, ranges(p.Damaged))
		}
	}
	if len(t.rows) == 0 {
		return "Nothing to audit: no pipeline syncs to a hub.\n"
	}
	text := t.String()
	if details.Len() > 0 {
		text += "\n" + details.String()
	}
	switch {
	case auditVerdict(audit) != nil:
	case compared == 0:
		text += "\nNothing to compare: an HTTP API keeps no ledger. What it acknowledged counts as synced.\n"
	case audit.Waiting > 0:
		text += fmt.Sprintf("\nNo gaps, no duplicates. %s for the link.\n", wait(audit.Waiting))
	default:
		text += "\nNo gaps, no duplicates: everything stored is at the hub exactly once.\n"
	}
	return text
}

// length counts the record numbers in the ranges.
func length(ranges [][2]uint64) uint64 {
	var n uint64
	for _, r := range ranges {
		n += r[1] - r[0] + 1
	}
	return n
}
