package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

func newValidateCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate FILE|DIR...",
		Short: "Check pipeline files, and say what is wrong where",
		Long: `Check pipeline files without running anything: no connection is made, no file
is written, no plugin is started. All errors are reported at once, each with
file, line, column and what to do. A folder stands for the *.hcl files in it;
all files together are one configuration.

The exit code is 0 when an edge would accept the files, and 3 when it would not.`,
		Example: `  edged validate pipelines/quickstart.hcl
  edged validate /etc/edged

  # For an editor or a build
  edged validate /etc/edged --json | jq '.diagnostics[].range.start.line'`,
		Args:              needPaths,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if asJSON {
				return validateJSON(cmd.OutOrStdout(), paths)
			}
			cfg, err := loadConfig(cmd.ErrOrStderr(), paths)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "valid: %s, %s, %s\n",
				plural(uint64(len(cfg.Pipelines)), "pipeline"), plural(uint64(len(cfg.Remotes)), "remote"),
				plural(uint64(len(cfg.Plugins)), "plugin"))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the diagnostics as one JSON object")
	return cmd
}

// validation is the answer of `validate --json`.
type validation struct {
	Valid       bool             `json:"valid"`
	Errors      uint64           `json:"errors"`
	Warnings    uint64           `json:"warnings"`
	Diagnostics []diagnosticJSON `json:"diagnostics"`
}

type diagnosticJSON struct {
	Severity string     `json:"severity"` // error or warning
	Summary  string     `json:"summary"`
	Detail   string     `json:"detail,omitempty"`
	Range    *rangeJSON `json:"range,omitempty"`
}

type rangeJSON struct {
	Filename string       `json:"filename"`
	Start    positionJSON `json:"start"`
	End      positionJSON `json:"end"`
}

// positionJSON counts lines and columns from 1, bytes from 0.
type positionJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

func validateJSON(out io.Writer, paths []string) error {
	_, diags := load(paths)
	answer := validation{Valid: !diags.HasErrors(), Diagnostics: []diagnosticJSON{}}
	answer.Errors, answer.Warnings = count(diags)
	for _, d := range diags {
		one := diagnosticJSON{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			one.Severity = "warning"
		}
		if r := d.Subject; r != nil {
			one.Range = &rangeJSON{Filename: r.Filename, Start: positionJSON(r.Start), End: positionJSON(r.End)}
		}
		answer.Diagnostics = append(answer.Diagnostics, one)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		return fmt.Errorf("printing the diagnostics: %w", err)
	}
	if !answer.Valid {
		return failure(exitConfig, nil)
	}
	return nil
}

// loadConfig reads the pipeline files for a command that needs them whole. It
// prints every diagnostic to w; with an error among them it fails.
func loadConfig(w io.Writer, paths []string) (*config.Config, error) {
	cfg, diags := load(paths)
	if diags.HasErrors() {
		return nil, refuse(w, cfg, diags)
	}
	if err := printDiagnostics(w, cfg, diags); err != nil {
		return nil, err
	}
	return cfg, nil
}

// refuse prints what is wrong with the files and returns the failure.
func refuse(w io.Writer, cfg *config.Config, diags hcl.Diagnostics) error {
	if err := printDiagnostics(w, cfg, diags); err != nil {
		return err
	}
	errors, _ := count(diags)
	return failure(exitConfig, fmt.Errorf("the configuration has %s, printed above", plural(errors, "error")))
}

// count returns how many errors and warnings there are.
func count(diags hcl.Diagnostics) (errors, warnings uint64) {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// load is the one place that reads pipeline files.
func load(paths []string) (*config.Config, hcl.Diagnostics) {
	cfg, diags := config.Load(paths, engine.Catalog(), expr.Host{})
	if !diags.HasErrors() {
		diags = append(diags, cfg.CheckFiles(nil, engine.Builtins())...)
	}
	return cfg, diags
}

func printDiagnostics(w io.Writer, cfg *config.Config, diags hcl.Diagnostics) error {
	var files map[string]*hcl.File
	if cfg != nil {
		files = cfg.Files
	}
	width, color := 80, false
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		color = os.Getenv("NO_COLOR") == ""
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			width = columns
		}
	}
	return config.WriteDiagnostics(w, diags, files, color, width)
}
