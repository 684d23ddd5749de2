package main

import (
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// logFlags choose how a command logs to standard error.
type logFlags struct {
	level  string
	format string
}

func (f *logFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "",
		"debug, info, warn or error (default: warn while a live status is shown, otherwise info)")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
	complete(cmd, "log-level", "debug", "info", "warn", "error")
	complete(cmd, "log-format", "text", "json")
}

// logger writes to w; quiet means that something else shows what is going on.
func (f *logFlags) logger(w io.Writer, quiet bool) (*slog.Logger, error) {
	level := slog.LevelInfo
	switch f.level {
	case "":
		if quiet {
			level = slog.LevelWarn
		}
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(strings.ToUpper(f.level))); err != nil {
			return nil, err
		}
	default:
		return nil, usage("--log-level is %q; it is one of debug, info, warn, error", f.level)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, usage("--log-format is %q; it is text or json", f.format)
}

// complete offers fixed values for a flag. It panics when there is no such
// flag, which every test of the command tree would see.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}
