package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// pluginTest is one call of `edged plugin test`.
type pluginTest struct {
	flags                       moduleFlags
	records, conflicts, expect  string
	format                      string
	columns                     map[string]string
	now                         string
	asJSON, update, brief, logs bool
	unit                        bool // run the project's own tests, too
}

func newPluginTestCommand() *cobra.Command {
	var t pluginTest
	cmd := &cobra.Command{
		Use:   "test [FILE|builtin:NAME]",
		Short: "Run a plugin on records or conflicts, and show what becomes of each",
		Long: `Run a plugin on records from a file, as a pipeline would, and show what becomes of
each: what changed, what was dropped and why, errors, faults. With --conflicts it
is run as a resolver.

--records has one JSON object a line: a record (id, device_id, data_type,
timestamp, payload), or a payload alone. --format csv reads a table with a header;
--format payload takes every object as a payload, whatever it looks like.

--conflicts has one object a line with "local", "remote", and if there is one
"base" and "key". A version is its value, or {"body": VALUE} or {"deleted": true}
with any of device, data_type, time, counter, clock and revision beside it.

--expect compares with a file. Either its lines have an "action" (one for each
input, as --update writes them), or they are the records that come out, in order.
Only what a line has is compared.

Without FILE, in a plugin's folder, it runs the plugin's unit tests (--unit=false
leaves them out) and then its module on what is in testdata: records.ndjson or
conflicts.ndjson, config.json, and expected.ndjson.

The exit code is 7 when a record was a fault, or not as expected.`,
		Example: `  edged plugin test builtin:dew_point --records readings.ndjson
  edged plugin test my-plugin.wasm --records table.csv --format csv --columns t=number --config '{"field":"t"}'
  edged plugin test builtin:merge --conflicts conflicts.ndjson --config @rules.json

  # Keep what comes out now, and compare from then on
  edged plugin test my-plugin.wasm --records in.ndjson --expect expected.ndjson --update
  edged plugin test my-plugin.wasm --records in.ndjson --expect expected.ndjson`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return needModule(cmd, args)
		},
		ValidArgsFunction: completeModules,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return t.run(cmd, args[0])
			}
			module, err := t.fromFolder(cmd)
			if err != nil {
				return err
			}
			return t.run(cmd, module)
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.records, "records", "", "the file with the records; '-' is standard input")
	f.StringVar(&t.conflicts, "conflicts", "", "the file with the conflicts; '-' is standard input")
	f.StringVar(&t.expect, "expect", "", "compare with this file")
	f.BoolVar(&t.update, "update", false, "write what comes out into the --expect file")
	f.StringVar(&t.format, "format", "ndjson", "of --records: ndjson, payload or csv")
	f.StringToStringVar(&t.columns, "columns", nil, "types of CSV columns that are no strings: temperature=number,indoor=bool")
	f.StringVar(&t.now, "now", plugindev.TestTime, "the time that the plugin is told, and that of records without one")
	f.BoolVar(&t.unit, "unit", true, "without FILE: run the plugin's unit tests first")
	f.BoolVar(&t.brief, "brief", false, "show only errors, faults, and what is not as expected")
	f.BoolVar(&t.logs, "logs", false, "print what the plugin logs, to standard error")
	f.BoolVar(&t.asJSON, "json", false, "print one JSON object")
	complete(cmd, "format", "ndjson", "payload", "csv")
	cmd.MarkFlagsMutuallyExclusive("records", "conflicts")
	cmd.MarkFlagsMutuallyExclusive("json", "brief")
	t.flags.register(cmd)
	return cmd
}

// fromFolder runs the unit tests of the plugin in this folder, and takes what is
// not said from its testdata.
func (t *pluginTest) fromFolder(cmd *cobra.Command) (module string, err error) {
	p, err := plugindev.OpenProject(".")
	if err != nil {
		return "", usage("%w; name a module: edged plugin test FILE --records records.ndjson", err)
	}
	if t.unit {
		if err := p.UnitTest(cmd.Context(), cmd.ErrOrStderr()); err != nil {
			return "", failure(exitPlugin, fmt.Errorf("its unit tests: %w", err))
		}
	}
	if _, err := os.Stat(p.Module()); err != nil {
		return "", usage("there is no %s: build it first, with 'edged plugin build'", p.Module())
	}
	found := func(name string) string {
		name = filepath.Join("testdata", name)
		if _, err := os.Stat(name); err != nil {
			return ""
		}
		return name
	}
	if t.records == "" && t.conflicts == "" {
		if t.records = found("records.ndjson"); t.records == "" {
			t.conflicts = found("conflicts.ndjson")
		}
		if t.expect == "" {
			if t.expect = found("expected.ndjson"); t.expect == "" && t.update {
				t.expect = filepath.Join("testdata", "expected.ndjson")
			}
		}
	}
	if name := found("config.json"); name != "" && t.flags.config == "" {
		t.flags.config = "@" + name
	}
	return p.Module(), nil
}

// testAnswer is the answer of `plugin test --json`.
type testAnswer struct {
	Plugin  string               `json:"plugin"`
	Granted []string             `json:"granted"`
	Passed  bool                 `json:"passed"`
	Summary *plugindev.Summary   `json:"summary"`
	Results []*plugindev.Outcome `json:"results"`
	// Mismatches are what is not as expected, by the input they belong to; 0:
	// expected, and nothing came for it.
	Mismatches []mismatch `json:"mismatches,omitempty"`
}

// mismatch is one thing that is not as expected.
type mismatch struct {
	Number   int    `json:"number"`
	Path     string `json:"path"`
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
}

func (t *pluginTest) run(cmd *cobra.Command, name string) error {
	if t.records == "" && t.conflicts == "" {
		return usage("plugin test needs --records FILE or --conflicts FILE")
	}
	if t.update && t.expect == "" {
		return usage("--update writes the file of --expect, and there is none")
	}
	m, err := t.flags.module(cmd, name)
	if err != nil {
		return err
	}
	seen := trial{test: t, out: cmd.OutOrStdout(), answer: testAnswer{Plugin: name, Granted: m.Granted(), Results: []*plugindev.Outcome{}}}
	if t.expect != "" && !t.update {
		data, err := readInput(cmd, "expect", t.expect)
		if err != nil {
			return err
		}
		if seen.expected, err = plugindev.ParseExpected(data); err != nil {
			return usage("%s: %w", t.expect, err)
		}
	}
	if err := t.feed(cmd, m, &seen); err != nil {
		return err
	}
	if seen.expected != nil {
		if err := seen.mismatched(0, seen.expected.Missing()); err != nil {
			return err
		}
	}
	if t.update {
		if err := os.WriteFile(t.expect, seen.written, 0o644); err != nil {
			return fmt.Errorf("writing what comes out: %w", err)
		}
	}
	return seen.end()
}

// feed reads the input and runs the plugin over it.
func (t *pluginTest) feed(cmd *cobra.Command, m *plugindev.Module, seen *trial) error {
	log := slog.New(slog.DiscardHandler)
	if t.logs {
		log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if t.conflicts != "" {
		conflicts, err := t.readConflicts(cmd)
		if err == nil {
			seen.answer.Summary, err = plugindev.Resolve(cmd.Context(), m, conflicts, log, seen.visit)
		}
		return err
	}
	now, err := time.Parse(time.RFC3339Nano, t.now)
	if err != nil {
		return usage("--now is %q; it is a time like 2026-11-22T06:15:00Z", t.now)
	}
	var records []record.Record
	if records, err = readRecords(cmd, t.records, t.format, t.columns, now); err == nil {
		seen.answer.Summary, err = plugindev.Transform(cmd.Context(), m, records, now, log, seen.visit)
	}
	return err
}

func (t *pluginTest) readConflicts(cmd *cobra.Command) ([]wasm.Conflict, error) {
	data, err := readInput(cmd, "conflicts", t.conflicts)
	if err != nil {
		return nil, err
	}
	conflicts, err := plugindev.ParseConflicts(data)
	if err != nil {
		return nil, usage("%s: %w", t.conflicts, err)
	}
	return conflicts, nil
}

// readRecords reads the file of a --records flag. now is the time of records
// that have none.
func readRecords(cmd *cobra.Command, name, format string, columns map[string]string, now time.Time) ([]record.Record, error) {
	text := collect.Text{DeviceID: "edge-001", Now: now, Columns: columns}
	switch format {
	case "ndjson":
	case "payload":
		text.Payloads = true
	case "csv":
		text.CSV = true
	default:
		return nil, usage("--format is %q; it is ndjson, payload or csv", format)
	}
	if len(columns) > 0 && !text.CSV {
		return nil, usage("--columns is for --format csv")
	}
	data, err := readInput(cmd, "records", name)
	if err != nil {
		return nil, err
	}
	records, err := text.Records(data)
	if err != nil {
		return nil, usage("%s: %w", name, err)
	}
	return records, nil
}

// trial is a test that runs: it shows outcomes as they come, and compares.
type trial struct {
	test     *pluginTest
	out      io.Writer
	answer   testAnswer
	expected *plugindev.Expected
	written  []byte // of --update
}

func (t *trial) visit(o *plugindev.Outcome) error {
	var changes []plugindev.Change
	if t.expected != nil {
		changes = t.expected.Check(o)
	}
	if t.test.update {
		t.written = plugindev.AppendExpected(t.written, o)
	}
	switch {
	case t.test.asJSON:
		kept := *o
		kept.Body = slices.Clone(o.Body)
		t.answer.Results = append(t.answer.Results, &kept)
	case !t.test.brief || len(changes) > 0 || o.Fault != nil || o.Action == "error":
		if _, err := io.WriteString(t.out, outcomeText(o)); err != nil {
			return err
		}
	}
	return t.mismatched(o.Number, changes)
}

// mismatched notes what is not as expected of one input.
func (t *trial) mismatched(number int, changes []plugindev.Change) error {
	for _, c := range changes {
		t.answer.Mismatches = append(t.answer.Mismatches, mismatch{number, c.Path, c.Before, c.After})
		if t.test.asJSON {
			continue
		}
		text := fmt.Sprintf("     not as expected: %s is %s, and should be %s\n", c.Path, shown(c.After, "not there"), shown(c.Before, "not there"))
		if number == 0 {
			text = fmt.Sprintf("not as expected: nothing came for %s: %s\n", c.Path, shown(c.Before, ""))
		}
		if _, err := io.WriteString(t.out, text); err != nil {
			return err
		}
	}
	return nil
}

// end shows the summary and says whether the test has passed.
func (t *trial) end() error {
	sum := t.answer.Summary
	sum.Mismatches = len(t.answer.Mismatches)
	t.answer.Passed = sum.Faults+sum.Mismatches == 0
	var err error
	if t.test.asJSON {
		err = writeJSON(t.out, t.answer)
	} else {
		_, err = io.WriteString(t.out, t.summaryText())
	}
	switch {
	case err != nil:
		return err
	case sum.Faults > 0 && sum.Mismatches > 0:
		return failure(exitPlugin, fmt.Errorf("%s, and %s not as expected", plural(uint64(sum.Faults), "fault"), number(uint64(sum.Mismatches))))
	case sum.Faults > 0:
		return failure(exitPlugin, errors.New(plural(uint64(sum.Faults), "fault")))
	case sum.Mismatches > 0:
		return failure(exitPlugin, fmt.Errorf("%s not as expected", plural(uint64(sum.Mismatches), "thing")))
	}
	return nil
}

func (t *trial) summaryText() string {
	sum := t.answer.Summary
	thing, result := "record", "record"
	if t.test.conflicts != "" {
		thing, result = "conflict", "value"
	}
	var parts []string
	for _, action := range slices.Sorted(maps.Keys(sum.Actions)) {
		parts = append(parts, number(uint64(sum.Actions[action]))+" "+action)
	}
	text := fmt.Sprintf("\n%s", plural(uint64(sum.Inputs), thing))
	if len(parts) > 0 {
		text += fmt.Sprintf(" (%s), %s out, %s fuel a %s", strings.Join(parts, ", "), plural(uint64(sum.Outputs), result), number(sum.FuelPerInput), thing)
	}
	text += "\n"
	for _, name := range slices.Sorted(maps.Keys(sum.Metrics)) {
		text += fmt.Sprintf("metric %s: %v\n", name, sum.Metrics[name])
	}
	if len(t.answer.Granted) > 0 {
		text += "granted: " + strings.Join(t.answer.Granted, ", ") + "; a pipeline has to, with allow\n"
	}
	if t.expected != nil && sum.Mismatches == 0 {
		text += "All as expected.\n"
	}
	if t.test.update {
		text += "Written to " + t.test.expect + ": read it before you trust it.\n"
	}
	return text
}

// shown is a JSON value in a line for people; none: what to say when there is
// nothing.
func shown(value, none string) string {
	if value == "" {
		return none
	}
	return printable(shorten(value, 120))
}

// outcomeText is what became of one record or conflict.
func outcomeText(o *plugindev.Outcome) string {
	var out strings.Builder
	action := o.Action
	if len(o.Out) > 1 {
		action = fmt.Sprintf("%s %d records", action, len(o.Out))
	}
	why := o.Reason
	if o.Fault != nil {
		why = string(o.Fault.Kind) + ": " + o.Fault.Error
	}
	if o.Code != 0 && o.Conflict == nil {
		why = strings.TrimSpace(fmt.Sprintf("%s (code %d)", why, o.Code))
	}
	fmt.Fprintf(&out, "%s\n", strings.TrimRight(fmt.Sprintf("%-4d %s  %s  %s", o.Number, printable(o.ID), action, printable(why)), " "))
	if o.Conflict != nil {
		out.WriteString(conflictText(o))
		return out.String()
	}
	if o.Action != wasm.Emit.String() {
		return out.String()
	}
	before := o.In.AppendJSON(nil)
	for i := range o.Out {
		indent := "     "
		if len(o.Out) > 1 {
			fmt.Fprintf(&out, "     record %d\n", i+1)
			indent = "       "
		}
		changes := plugindev.Compare("", before, o.Records[i])
		if len(changes) == 0 {
			out.WriteString(indent + "as it was\n")
		}
		for _, c := range changes {
			out.WriteString(indent + changeText(c))
		}
	}
	return out.String()
}

func changeText(c plugindev.Change) string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s  %s\n", printable(c.Path), shown(c.After, ""))
	case c.After == "":
		return fmt.Sprintf("- %s  %s\n", printable(c.Path), shown(c.Before, ""))
	}
	return fmt.Sprintf("~ %s  %s -> %s\n", printable(c.Path), shown(c.Before, ""), shown(c.After, ""))
}

// conflictText shows side by side what the versions differ in, and the result.
func conflictText(o *plugindev.Outcome) string {
	c := o.Conflict
	t := table{head: []string{"", "BASE", "LOCAL", "REMOTE", "RESULT"}}
	var base []byte
	if c.Base != nil {
		base = c.Base.Body
	} else {
		t.head[1] = "NO BASE"
	}
	if c.Local.Deleted {
		t.head[2] = "LOCAL DELETED"
	}
	if c.Remote.Deleted {
		t.head[3] = "REMOTE DELETED"
	}
	for _, row := range plugindev.SideBySide(base, c.Local.Body, c.Remote.Body, o.Body) {
		cells := []string{printable(row.Path)}
		for _, value := range row.Values {
			cells = append(cells, printable(shorten(value, 40)))
		}
		t.add(cells...)
	}
	if len(t.rows) == 0 && !c.Local.Deleted && !c.Remote.Deleted {
		return "     all the same\n"
	}
	var out strings.Builder
	for line := range strings.Lines(t.String()) {
		out.WriteString("     " + line)
	}
	return out.String()
}
