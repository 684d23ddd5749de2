package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/record"
)

// askTimeout bounds a question to an edge on the same machine.
const askTimeout = 10 * time.Second

func newStatusCommand() *cobra.Command {
	var at place
	var asJSON, offline bool
	cmd := &cobra.Command{
		Use:   "status [FILE|DIR...]",
		Short: "Ask a running edge how it is",
		Long: `Ask the edge that runs on this machine how it is: what it collected, stored and
synced, what waits, how its links and sources are. It is found by its data
directory: the one of --data-dir, or that of the given files, or "data".

The exit code is 5 when no edge runs there. With --offline the data directory is
opened then: what it keeps of each pipeline, and how the syncs stood when the edge
last ran. No edge can start there in that moment.`,
		Example: `  edged status /etc/edged
  edged status --data-dir /var/lib/edged

  # Watch what waits for the link
  watch -n 2 "edged status --data-dir /var/lib/edged --json | jq .waiting"`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			status, err := at.status(cmd, paths, offline)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), status)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), statusText(status))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&offline, "offline", false, "open the data directory when no edge runs there")
	at.register(cmd)
	return cmd
}

// status asks the edge that runs or, with offline and when none does, opens the
// data directory.
func (p *place) status(cmd *cobra.Command, paths []string, offline bool) (status engine.Status, err error) {
	if offline {
		err = p.within(cmd, paths, func(ctx context.Context, k keeper) (err error) {
			status, err = k.Status(ctx)
			return err
		})
		return status, err
	}
	dir, err := findDataDir(cmd.ErrOrStderr(), p.dataDir, paths)
	if err != nil {
		return status, err
	}
	client, err := dial(dir)
	if err != nil {
		return status, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
	defer cancel()
	status, err = client.Status(ctx)
	if err := errors.Join(err, client.Close()); err != nil {
		return status, fmt.Errorf("asking the edge for its status: %w", err)
	}
	return status, nil
}

// findDataDir answers which data directory is meant, without opening it.
func findDataDir(stderr io.Writer, flag string, paths []string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if len(paths) == 0 {
		return "data", nil
	}
	cfg, err := loadConfig(stderr, paths)
	if err != nil {
		return "", err
	}
	return cfg.Edge.DataDir, nil
}

// dial connects to the edge that runs on dir.
func dial(dir string) (*engine.Client, error) {
	client, err := engine.Dial(dir)
	if errors.Is(err, engine.ErrNotRunning) {
		return nil, failure(exitNoEdge, fmt.Errorf(
			"no edge runs on the data directory %q: start one with 'edged run', or name the right one with --data-dir", dir))
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the edge on %q: %w", dir, err)
	}
	return client, nil
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// statusText is a status for people.
func statusText(st engine.Status) string {
	var out strings.Builder
	if st.Running {
		fmt.Fprintf(&out, "edge %s, edged %s, running %s on %s\n", st.DeviceID, st.Version, age(st.Time, st.Started), st.DataDir)
	} else {
		fmt.Fprintf(&out, "no edge runs on %s; it keeps:\n", st.DataDir)
	}
	fmt.Fprintf(&out, "local store %s\n\n", storageText(st.Storage))

	if r := st.Reload; r != nil {
		what := fmt.Sprintf("configuration loaded anew %s", ago(st.Time, r.Time))
		if r.Error != "" {
			what = fmt.Sprintf("configuration refused %s, what ran before runs on: %s", ago(st.Time, r.Time), oneLine(r.Error))
		}
		fmt.Fprintf(&out, "%s\n\n", what)
	}

	totals := table{head: []string{"", "this run", "in all"}}
	for _, row := range countRows(st.ThisRun, st.Totals) {
		totals.add(row.name, number(row.run), number(row.totals))
	}
	totals.add("waiting for the link", "", number(st.Waiting))
	out.WriteString(totals.String())

	if st.Queue.Waiting > 0 {
		fmt.Fprintf(&out, "\nalert messages waiting: %s\n", priorities(st.Queue.ByPriority))
	}
	if n := st.DeadLetters.Evicted; n > 0 {
		fmt.Fprintf(&out, "\n%s dropped, oldest first: the dead letters take all of their %s\n", plural(n, "dead letter"), bytesize(st.DeadLetters.MaxBytes))
	}
	section(&out, remotesTable(st))
	section(&out, keptTable(st))
	section(&out, syncsTable(st))
	section(&out, keyedTable(st))
	for _, p := range st.Pipelines {
		for _, s := range p.Syncs {
			if len(s.HubLost) > 0 {
				fmt.Fprintf(&out, "\n%s: %s had and lost, and this edge no longer keeps: %s\n", p.Name, s.Remote, ranges(s.HubLost))
			}
		}
	}
	section(&out, sourcesTable(st))
	section(&out, pluginsTable(st))
	section(&out, countersTable(st))
	return out.String()
}

func section(out *strings.Builder, t table) {
	if len(t.rows) > 0 {
		out.WriteString("\n" + t.String())
	}
}

func remotesTable(st engine.Status) table {
	t := table{head: []string{"REMOTE", "STATE", "FOR", "CHANGES", "LAST ERROR"}}
	for _, r := range st.Remotes {
		t.add(r.Kind+" "+r.Name, r.State, age(st.Time, r.Since), number(r.Changes), oneLine(r.LastError))
	}
	return t
}

func keptTable(st engine.Status) table {
	t := table{head: []string{"PIPELINE", "KEPT", "WAITING", "SYNCED", "BYTES", "OLDEST", "NEWEST", "LONGEST WAIT"}}
	for _, p := range st.Pipelines {
		name, k := p.Name, p.Kept
		if p.Removed {
			name += " (removed)"
		}
		if k.Records == 0 {
			t.add(name, "0", "0", "0", bytesize(k.Bytes))
			continue
		}
		wait := ""
		if !k.OldestWaiting.IsZero() {
			wait = age(st.Time, k.OldestWaiting)
		}
		t.add(name, number(k.Records), number(k.Waiting), number(k.Synced), bytesize(k.Bytes), ago(st.Time, k.Oldest), ago(st.Time, k.Newest), wait)
	}
	return t
}

func syncsTable(st engine.Status) table {
	t := table{head: []string{"PIPELINE", "STORED", "REMOTE", "STATUS", "SYNCED", "FAILED", "WAITING", "LONGEST WAIT", "LAST SYNC", "LAST ERROR"}}
	for _, p := range st.Pipelines {
		for _, s := range p.Syncs {
			wait := ""
			if !s.OldestWaiting.IsZero() {
				wait = age(st.Time, s.OldestWaiting)
			}
			t.add(p.Name, number(p.Totals.Stored), s.Remote, s.Status, number(s.SyncedRecords), number(s.FailedRecords), number(s.Waiting),
				wait, ago(st.Time, s.LastSync), oneLine(s.LastError))
		}
		if len(p.Syncs) == 0 && p.Keyed == nil {
			t.add(p.Name, number(p.Totals.Stored), "none")
		}
	}
	return t
}

// keyedTable tells of the keyed records; those that wait for a person are for
// 'edged conflicts'.
func keyedTable(st engine.Status) table {
	t := table{head: []string{"PIPELINE", "KEYS", "WAITING", "CONFLICTS", "PARKED", "SETTLED", "HUB", "LAST ERROR"}}
	for _, p := range st.Pipelines {
		k := p.Keyed
		if k == nil {
			continue
		}
		hub := "none"
		if k.CaughtUp != nil {
			if hub = "behind"; *k.CaughtUp {
				hub = "caught up"
			}
		}
		t.add(p.Name, number(uint64(k.Keys)), number(uint64(k.Pending)), number(uint64(k.Conflicts)), number(uint64(k.Parked)),
			number(k.Resolved), hub, oneLine(k.LastError))
	}
	return t
}

func sourcesTable(st engine.Status) table {
	t := table{head: []string{"PIPELINE", "SOURCE", "STATE", "ERROR"}}
	for _, p := range st.Pipelines {
		for _, s := range p.Sources {
			t.add(p.Name, s.Kind+" "+s.Name, s.State, oneLine(s.Error))
		}
	}
	return t
}

func pluginsTable(st engine.Status) table {
	t := table{head: []string{"PLUGIN", "PIPELINE", "RECORDS", "FAULTS", "STATE", "INSTANCES", "FUEL/RECORD", "SHA256", "LAST FAULT"}}
	for _, p := range st.Plugins {
		fuel := ""
		if n := p.Records + p.Conflicts; n > 0 {
			fuel = number(p.Fuel / n)
		}
		t.add(p.Name, pluginUser(p), number(p.Records+p.Conflicts), number(p.Faults), pluginState(st.Time, p), number(p.Instances),
			fuel, p.SHA256[:min(12, len(p.SHA256))], oneLine(p.LastFault))
	}
	return t
}

// pluginUser is the pipeline whose plugin it is, or whose stores' resolver.
func pluginUser(p engine.PluginStatus) string {
	if p.Pipeline != "" {
		return p.Pipeline
	}
	return strings.Join(p.Stores, ", ")
}

// pluginState says whether a plugin works or rests after too many faults.
func pluginState(now time.Time, p engine.PluginStatus) string {
	switch {
	case p.Breaker == "closed":
		return "works"
	case p.RestsUntil.After(now):
		return "rests for " + age(p.RestsUntil, now)
	}
	return "is tried"
}

// countersTable shows what the plugins count for the operator, and what they
// may have logged too much.
func countersTable(st engine.Status) table {
	t := table{head: []string{"PLUGIN", "PIPELINE", "COUNTER", "VALUE"}}
	for _, p := range st.Plugins {
		for _, name := range slices.Sorted(maps.Keys(p.Metrics)) {
			t.add(p.Name, pluginUser(p), name, strconv.FormatFloat(p.Metrics[name], 'g', -1, 64))
		}
		for _, kind := range slices.Sorted(maps.Keys(p.FaultsByKind)) {
			t.add(p.Name, pluginUser(p), kind+" faults", number(p.FaultsByKind[kind]))
		}
		if p.LogLinesDropped > 0 {
			t.add(p.Name, pluginUser(p), "log lines left out", number(p.LogLinesDropped))
		}
	}
	return t
}

func storageText(s engine.StorageStatus) string {
	text := bytesize(s.Bytes)
	if s.MaxBytes > 0 {
		text += fmt.Sprintf(" of %s (%d %%)", bytesize(s.MaxBytes), s.Bytes*100/s.MaxBytes)
	}
	if s.Full {
		text += ", full: sources wait"
	}
	if s.Trouble != "" {
		text += "\nsources wait: " + oneLine(s.Trouble)
	}
	return text
}

// priorities lists the queue with the most urgent first.
func priorities(waiting map[string]uint64) string {
	var parts []string
	for _, p := range record.Priorities {
		if n := waiting[p.String()]; n > 0 {
			parts = append(parts, number(n)+" "+p.String())
		}
	}
	return strings.Join(parts, ", ")
}

func ago(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return age(now, at) + " ago"
}
