package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes, which scripts and service managers rely on. They are part of
// the interface: none changes its meaning.
const (
	exitOK          = 0
	exitRuntime     = 1
	exitUsage       = 2
	exitConfig      = 3
	exitAudit       = 4
	exitNoEdge      = 5
	exitDamaged     = 6
	exitPlugin      = 7
	exitInterrupted = 130
)

// exitCodes documents them, for help and the reference page.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done; 'run' and 'hub' also after the first Ctrl-C or SIGTERM, with everything acknowledged stored"},
	{exitRuntime, "a failure while running; 'fmt --check': a file is not formatted; 'run --until-drained': stopped before everything was synced"},
	{exitUsage, "the command line is wrong"},
	{exitConfig, "the pipeline files are wrong; each error is printed with file, line and column"},
	{exitAudit, "the audit found gaps, duplicates or damage; 'audit': or could not ask every hub"},
	{exitNoEdge, "no edge runs on that data directory; 'dlq', 'queue', 'store': and there is no store in it"},
	{exitDamaged, "the store is damaged, 'store verify' found: something is missing or is not what was stored"},
	{exitPlugin, "a plugin is not fit: 'plugin inspect', 'build' and 'sign': it cannot be loaded, or its signature is refused; 'test': a fault, or something is not as expected; 'verify': a check failed; 'conflicts replay': it failed on some"},
	{exitInterrupted, "stopped at once by a second Ctrl-C or SIGTERM; what was acknowledged is stored, and the next run goes on from there"},
}

// exitError carries the exit code of a failure up to main. Without err, what
// was wrong has been printed already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func failure(code int, err error) *exitError { return &exitError{code: code, err: err} }

// usage is a wrong command line.
func usage(format string, args ...any) error {
	return failure(exitUsage, fmt.Errorf(format, args...))
}

// newExitCodesTopic is `edged help exit-codes`: a page, not a command.
func newExitCodesTopic() *cobra.Command {
	var page strings.Builder
	page.WriteString("What the exit codes of edged mean.\n\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&page, "%5d  %s\n", c.code, wrap(c.meaning, 70, "       "))
	}
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  strings.TrimRight(page.String(), "\n"),
	}
}

// wrap breaks text into lines of at most width, the later ones after indent.
func wrap(text string, width int, indent string) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			out.WriteString("\n" + indent)
			column = 0
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	return out.String()
}
