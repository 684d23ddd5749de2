package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/sync"
)

// fleetAudit is what `edged audit --hub --json` prints.
type fleetAudit struct {
	Edges      []edgeAudit `json:"edges"`
	Gaps       uint64      `json:"gaps"`
	Duplicates uint64      `json:"duplicates"`
	Damaged    uint64      `json:"damaged"`
	Unreadable uint64      `json:"unreadable"` // feeds with a ledger that cannot be read
}

// edgeAudit is one feed of one edge. Ranges are record numbers, first and last.
type edgeAudit struct {
	DeviceID   string      `json:"device_id"`
	Pipeline   string      `json:"pipeline"` // or "queue/<priority>"
	Epoch      string      `json:"epoch"`
	Synced     uint64      `json:"synced"`
	LastSync   time.Time   `json:"last_sync,omitzero"`
	AtHub      uint64      `json:"at_hub"`
	Expired    uint64      `json:"expired"`
	Foreign    uint64      `json:"foreign"`
	Unsettled  uint64      `json:"unsettled"`
	Discarded  [][2]uint64 `json:"discarded"`
	PastTTL    [][2]uint64 `json:"past_ttl"`
	Gaps       [][2]uint64 `json:"gaps"`
	HubLost    [][2]uint64 `json:"hub_lost"` // of the gaps
	Duplicates [][2]uint64 `json:"duplicates"`
	Damaged    [][2]uint64 `json:"damaged"`
	Error      string      `json:"error,omitempty"`
}

func newFleetAudit(found []sync.EdgeAudit) fleetAudit {
	all := fleetAudit{Edges: []edgeAudit{}}
	some := func(ranges [][2]uint64) [][2]uint64 { return append([][2]uint64{}, ranges...) }
	for i := range found {
		f := &found[i]
		row := edgeAudit{
			DeviceID: f.Edge, Pipeline: f.Name(), Epoch: f.Epoch, Synced: f.Last, LastSync: f.Time.UTC(), AtHub: f.AtHub,
			Expired: f.Expired, Foreign: f.Foreign, Unsettled: f.Unsettled, Discarded: some(f.Discarded), PastTTL: some(f.PastTTL),
			Gaps: some(f.Gaps), HubLost: some(f.HubLost), Duplicates: some(f.Duplicates), Damaged: some(f.Damaged),
		}
		if f.Err != nil {
			row.Error = f.Err.Error()
			all.Unreadable++
		}
		all.Gaps += sync.CountRanges(f.Gaps)
		all.Duplicates += sync.CountRanges(f.Duplicates)
		all.Damaged += sync.CountRanges(f.Damaged)
		all.Edges = append(all.Edges, row)
	}
	return all
}

// fleet audits from the hub's side. The time-out is for the hub's answers, not
// for the reading, which takes as long as the hub holds much.
func (o *auditOptions) fleet(cmd *cobra.Command, paths []string) error {
	if len(paths) > 0 {
		return usage("--hub asks the hub and needs no pipeline files; leave %s out", paths[0])
	}
	if err := o.hub.check(); err != nil {
		return err
	}
	ctx, release := untilSignal(cmd.Context(), func(string) {})
	defer release()
	nc, err := o.hub.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, stalled := context.WithCancelCause(ctx)
	defer stalled(nil)
	watch := time.AfterFunc(o.timeout, func() { stalled(fmt.Errorf("the hub has not answered for %s", o.timeout)) })
	defer watch.Stop()
	tell := teller{out: cmd.ErrOrStderr()}
	found, err := sync.AuditFleet(ctx, nc, sync.FleetOptions{
		Domain: o.hub.domain, Edges: o.edges,
		Progress: func(read, of uint64) {
			watch.Reset(o.timeout)
			tell.say("%s of %s messages read", number(read), number(of))
		},
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("auditing the hub: %w", cause)
	}
	if err != nil {
		return err
	}
	audit := newFleetAudit(found)
	if o.asJSON {
		err = writeJSON(cmd.OutOrStdout(), audit)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), fleetText(audit))
	}
	if err != nil {
		return fmt.Errorf("printing the audit: %w", err)
	}
	return fleetVerdict(audit)
}

func fleetVerdict(audit fleetAudit) error {
	if audit.Gaps+audit.Duplicates+audit.Damaged > 0 {
		return failure(exitAudit, auditFound(audit.Gaps, audit.Duplicates, audit.Damaged))
	}
	if audit.Unreadable > 0 {
		return failure(exitAudit, errors.New("not every ledger can be read, so nothing is proven of those"))
	}
	return nil
}

func fleetText(audit fleetAudit) string {
	if len(audit.Edges) == 0 {
		return "The hub holds nothing of these edges.\n"
	}
	t := table{head: []string{"EDGE", "PIPELINE", "LAST SYNC", "SYNCED", "AT HUB", "GAPS", "DUPLICATES", "DAMAGED"}}
	var details strings.Builder
	edges := map[string]bool{}
	for i := range audit.Edges {
		r := &audit.Edges[i]
		edges[r.DeviceID] = true
		last := "never"
		if !r.LastSync.IsZero() {
			last = r.LastSync.Format(time.RFC3339)
		}
		t.add(r.DeviceID, r.Pipeline, last, number(r.Synced), number(r.AtHub),
			number(length(r.Gaps)), number(length(r.Duplicates)), number(length(r.Damaged)))
		tell := func(n uint64, format string, args ...any) {
			if n > 0 {
				fmt.Fprintf(&details, "%s, %s: %s\n", r.DeviceID, r.Pipeline, fmt.Sprintf(format, args...))
			}
		}
		tell(length(r.Gaps), "missing: %s", ranges(r.Gaps))
		tell(length(r.HubLost), "of these the hub had and lost, and the edge no longer kept: %s", ranges(r.HubLost))
		tell(length(r.Duplicates), "more than once: %s", ranges(r.Duplicates))
		tell(length(r.Damaged), "not what the edge sent: %s", ranges(r.Damaged))
		tell(length(r.Discarded), "dropped by the edge's policy: %s", ranges(r.Discarded))
		tell(length(r.PastTTL), "not sent because their time to live was over: %s", ranges(r.PastTTL))
		tell(r.Foreign, "%s by the HTTP API or by another program, which no ledger numbers", plural(r.Foreign, "message"))
		tell(r.Unsettled, "%s that no ledger entry follows", plural(r.Unsettled, "message"))
		if r.Error != "" {
			tell(1, "%s", oneLine(r.Error))
		}
	}
	text := t.String()
	if details.Len() > 0 {
		text += "\n" + details.String()
	}
	if fleetVerdict(audit) == nil {
		text += fmt.Sprintf("\nNo gaps, no duplicates: whatever %s settled is here exactly once.\n", plural(uint64(len(edges)), "edge"))
	}
	return text
}
