package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/plugindev/conformance"
	"github.com/edged/edged/engine/wasm"
)

func newPluginVerifyCommand() *cobra.Command {
	var flags moduleFlags
	var opts conformance.Options
	var records, save string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE|builtin:NAME",
		Short: "Hold a plugin against the ABI, its limits and what resolvers promise",
		Long: `Hold a plugin against what sdk/abi.md asks of it: calls as a later host may make
them, unusual and random records, the largest ones, little memory, the same input
on fresh instances and in other splits, values that a careless decoder changes. Of
a resolver: that it is a function of the conflict, that it leaves alone what only
one side changed, that a merge loses nothing.

Random input comes from --seed: the same seed tries the same. Give it --records
such as the plugin is made for, and it breeds its random ones from those, too. When
a check fails, the smallest input that shows it is printed; --save keeps each in a
file that 'edged plugin test' runs.

A warning is for what is allowed and seldom meant, like a resolver that always
takes one side. The exit code is 7 when a check failed.`,
		Example: `  edged plugin verify builtin:merge
  edged plugin verify my-plugin.wasm --records testdata/records.ndjson --rounds 1000

  # Another seed each night; what fails can be run again
  edged plugin verify my-plugin.wasm --seed $RANDOM --save failures`,
		Args:              needModule,
		ValidArgsFunction: completeModules,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := flags.module(cmd, args[0])
			if err != nil {
				return err
			}
			opts.Module = m
			if opts.Rounds < 1 {
				return usage("--rounds is %d; it is at least 1", opts.Rounds)
			}
			if records != "" {
				if opts.Records, err = readRecords(cmd, records, "ndjson", nil, testTime()); err != nil {
					return err
				}
			}
			host, err := wasm.NewHost(cmd.Context(), wasm.Options{Workers: 1})
			if err != nil {
				return err
			}
			report, err := conformance.Verify(cmd.Context(), host, opts)
			if err = errors.Join(err, host.Close(context.WithoutCancel(cmd.Context()))); err != nil {
				return fmt.Errorf("verifying %s: %w", args[0], err)
			}
			saved, err := saveExamples(save, report)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), conformanceText(args[0], &opts, report, saved))
			}
			if err == nil && report.Failed > 0 {
				return failure(exitPlugin, fmt.Errorf("%s failed %s", args[0], plural(uint64(report.Failed), "check")))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&opts.Seed, "seed", 1, "seed of the random input")
	f.IntVar(&opts.Rounds, "rounds", 200, "how many random inputs each property is tried with")
	f.StringVar(&records, "records", "", "a file with records such as the plugin is made for, one a line")
	f.StringVar(&save, "save", "", "write the inputs that show failures and warnings into this folder")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	flags.register(cmd)
	return cmd
}

// saveExamples writes the inputs of checks into dir and returns the file of each
// check, by its name.
func saveExamples(dir string, report *conformance.Report) (map[string]string, error) {
	saved := map[string]string{}
	if dir == "" {
		return saved, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("saving what failed: %w", err)
	}
	for _, c := range report.Checks {
		if c.Records+c.Conflicts == "" {
			continue
		}
		short := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(c.Group+" "+c.Name), "-"), "-")
		name := filepath.Join(dir, short[:min(len(short), 60)]+".ndjson")
		if err := os.WriteFile(name, []byte(c.Records+c.Conflicts), 0o644); err != nil {
			return nil, fmt.Errorf("saving what failed: %w", err)
		}
		saved[c.Name] = name
	}
	return saved, nil
}

// exampleWidth bounds the input that is printed with a failed check.
const exampleWidth = 400

func conformanceText(module string, opts *conformance.Options, r *conformance.Report, saved map[string]string) string {
	t := table{}
	var details strings.Builder
	for _, c := range r.Checks {
		detail := ""
		if c.Status == conformance.Pass {
			detail = printable(oneLine(c.Detail))
		}
		t.add(string(c.Status), c.Group, c.Name, detail)
		if c.Status == conformance.Pass {
			continue
		}
		fmt.Fprintf(&details, "\n%s: %s: %s\n", c.Status, c.Name, printable(c.Detail))
		flag, example := "--records", c.Records
		if c.Conflicts != "" {
			flag, example = "--conflicts", c.Conflicts
		}
		if example == "" {
			continue
		}
		for line := range strings.Lines(example) {
			details.WriteString("  " + printable(shorten(strings.TrimRight(line, "\n"), exampleWidth)) + "\n")
		}
		if name := saved[c.Name]; name != "" {
			fmt.Fprintf(&details, "  edged plugin test %s %s %s%s\n", module, flag, name, configArgument(opts.Module))
		}
	}
	end := fmt.Sprintf("\n%s: %d passed, %d failed, %s (seed %d, %s)\n", module, r.Passed, r.Failed,
		plural(uint64(r.Warned), "warning"), opts.Seed, plural(uint64(opts.Rounds), "round"))
	return t.String() + details.String() + end
}

func configArgument(m *plugindev.Module) string {
	if m.Config == nil {
		return ""
	}
	return " --config '" + strings.ReplaceAll(string(m.Config), "'", `'\''`) + "'"
}
