package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
)

// benchInputs is how many records or conflicts are made when none are brought.
const benchInputs = 500

func newPluginBenchCommand() *cobra.Command {
	var flags moduleFlags
	var opts plugindev.BenchOptions
	var records, conflicts, format string
	var columns map[string]string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench FILE|builtin:NAME",
		Short: "Measure what a plugin costs",
		Long: `Measure what a plugin costs: time and fuel for a record, what metering adds, what
loading and starting it takes, memory, allocations. Beside it, in turns within the
same run, the same module without metering, the plugin once more (how far two
measurements of the same lie apart), and native Go that only checks and copies a
payload, or decodes it into a map and back.

Without --records or --conflicts it makes its own: 500 records of about 250 bytes,
or conflicts in which each side changed one member.`,
		Example: `  edged plugin bench builtin:dew_point
  edged plugin bench my-plugin.wasm --records readings.ndjson --config '{"field":"t"}'

  # For a regression check: fuel is the same on every machine
  edged plugin bench my-plugin.wasm --json | jq .fuel`,
		Args:              needModule,
		ValidArgsFunction: completeModules,
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Runs < 1 || opts.Slice <= 0 {
				return usage("--runs is at least 1, and --slice more than 0")
			}
			m, err := flags.module(cmd, args[0])
			if err != nil {
				return err
			}
			opts.Module = m
			switch {
			case conflicts != "":
				test := pluginTest{conflicts: conflicts}
				opts.Conflicts, err = test.readConflicts(cmd)
			case records != "":
				opts.Records, err = readRecords(cmd, records, format, columns, testTime())
			case m.Exports("edged_resolve") && !m.Exports("edged_transform"):
				opts.Conflicts = plugindev.SampleConflicts(benchInputs)
			default:
				opts.Records = plugindev.SampleRecords(benchInputs)
			}
			if err != nil {
				return err
			}
			b, err := plugindev.Measure(cmd.Context(), opts)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", args[0], err)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), b)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), benchText(args[0], &opts, b))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&records, "records", "", "a file with the records; '-' is standard input")
	f.StringVar(&conflicts, "conflicts", "", "a file with the conflicts; '-' is standard input")
	f.StringVar(&format, "format", "ndjson", "of --records: ndjson, payload or csv")
	f.StringToStringVar(&columns, "columns", nil, "types of CSV columns that are no strings: temperature=number,indoor=bool")
	f.DurationVar(&opts.Slice, "slice", 100*time.Millisecond, "how long one run takes")
	f.IntVar(&opts.Runs, "runs", 9, "how many runs there are of everything; the median counts")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	complete(cmd, "format", "ndjson", "payload", "csv")
	cmd.MarkFlagsMutuallyExclusive("records", "conflicts")
	flags.register(cmd)
	return cmd
}

func benchText(module string, opts *plugindev.BenchOptions, b *plugindev.Bench) string {
	thing := "record"
	if len(opts.Conflicts) > 0 {
		thing = "conflict"
	}
	var actions []string
	for _, action := range slices.Sorted(maps.Keys(b.Actions)) {
		actions = append(actions, number(uint64(b.Actions[action]))+" "+action)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s on %s of %s (%s), %s/%s, %s\n", module, plural(uint64(b.Inputs), thing), plural(uint64(b.InputBytes), "byte"),
		strings.Join(actions, ", "), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Fprintf(&out, "median of %s of %v each, in turns\n\n", plural(uint64(opts.Runs), "run"), opts.Slice)
	t := table{head: []string{"", "NS A " + strings.ToUpper(thing), "FASTEST", "SLOWEST", "A SECOND", "ALLOCATIONS"}}
	for _, a := range b.Arms {
		t.add(a.Name, number(uint64(a.NS)), number(uint64(a.Fastest)), number(uint64(a.Slowest)), number(uint64(a.PerSecond)), fmt.Sprintf("%.1f", a.Allocations))
	}
	out.WriteString(t.String())
	facts := table{}
	facts.add("metering", fmt.Sprintf("%+.0f %% (the control: %+.0f %%)", b.Metering, b.Control))
	facts.add("fuel", number(b.Fuel)+" a "+thing)
	facts.add("load", fmt.Sprintf("%s; %s with machine code from the cache", shortTime(b.LoadCold), shortTime(b.LoadCached)))
	facts.add("instance", fmt.Sprintf("%s to start, %s of memory", shortTime(b.Start), bytesize(uint64(b.Memory))))
	out.WriteString("\n" + facts.String())
	return out.String()
}

// shortTime writes a time with two digits or three.
func shortTime(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return d.String()
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
