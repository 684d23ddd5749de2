package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/expr"
)

func newConfigCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Set what differs from device to device",
		Long: `Set what differs from device to device, so that many can run the same pipeline
files: limits, names, switches. Pipelines read a key with config("key", default)
and see a change at the next record, without a restart; plugins that were granted
it read it too. A key is up to 128 letters, digits, "-", "_", "/" and dots; a value
is text of up to 64 KiB; all together take up to 1 MiB.

What was set survives a power cut. The edge that runs on the data directory is
told; when none runs, the directory is opened.`,
		Example: `  edged config set alert.limit 27.5 --data-dir /var/lib/edged
  edged config get alert.limit --data-dir /var/lib/edged
  edged config ls /etc/edged`,
	}, newConfigGetCommand(), newConfigSetCommand(), newConfigListCommand(), newConfigUnsetCommand())
}

// needKey asks for a key and, with values, what they are called, before the files.
func needKey(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage("%s needs %s", cmd.CommandPath(), strings.Join(names, " and "))
		}
		if err := expr.CheckConfigKey(args[0]); err != nil {
			return usage("%v", err)
		}
		return nil
	}
}

// completeAfter completes paths behind the first n arguments.
func completeAfter(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) < n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completePaths(cmd, args, toComplete)
	}
}

func newConfigGetCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get KEY [FILE|DIR...]",
		Short: "Print what a key is set to",
		Long: `Print what a key is set to. A key that is not set is an error: the exit code is 1.
--json prints the key, its value and when it was set.`,
		Example:           `  edged config get alert.limit --data-dir /var/lib/edged`,
		Args:              needKey("a key"),
		ValidArgsFunction: completeAfter(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := at.config(cmd, args[1:])
			if err != nil {
				return err
			}
			for _, e := range entries {
				if e.Key != args[0] {
					continue
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), e)
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), e.Value)
				return err
			}
			return fmt.Errorf("%w: %s", engine.ErrNoConfigKey, args[0])
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	at.register(cmd)
	return cmd
}

// config reads the device configuration.
func (p *place) config(cmd *cobra.Command, paths []string) (entries []engine.ConfigEntry, err error) {
	err = p.within(cmd, paths, func(ctx context.Context, k keeper) (err error) {
		entries, err = k.Config(ctx)
		return err
	})
	return entries, err
}

func newConfigSetCommand() *cobra.Command {
	var at place
	cmd := &cobra.Command{
		Use:   "set KEY VALUE [FILE|DIR...]",
		Short: "Set a key",
		Long: `Set a key. The value is text, also where a pipeline reads it as a number or as
true or false; "-" takes it from the standard input, as it is.

It is on the disk, and a running edge sees it, when the command has ended.`,
		Example: `  edged config set alert.limit 27.5 --data-dir /var/lib/edged
  edged config set site.name "Cold store 7" /etc/edged
  edged config set model.json - --data-dir /var/lib/edged < model.json`,
		Args:              needKey("a key", "a value"),
		ValidArgsFunction: completeAfter(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, value := args[0], args[1]
			if value == "-" {
				data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
				if err != nil {
					return fmt.Errorf("reading the value: %w", err)
				}
				value = string(data)
			}
			err := at.within(cmd, args[2:], func(ctx context.Context, k keeper) error { return k.SetConfig(ctx, key, value) })
			if err != nil {
				return fmt.Errorf("setting the device configuration: %w", err)
			}
			return nil
		},
	}
	at.register(cmd)
	return cmd
}

func newConfigListCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "ls [FILE|DIR...]",
		Short:             "List every key that is set",
		Long:              `List every key that is set, by name. --json prints one JSON object a line.`,
		Example:           `  edged config ls --data-dir /var/lib/edged`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			entries, err := at.config(cmd, paths)
			if err != nil {
				return err
			}
			if asJSON {
				write := writeNDJSON(cmd.OutOrStdout())
				for _, e := range entries {
					if err := write(e); err != nil {
						return err
					}
				}
				return nil
			}
			t := table{head: []string{"KEY", "VALUE", "SET"}}
			for _, e := range entries {
				t.add(e.Key, oneLine(e.Value), e.Set.Format("2006-01-02 15:04:05Z"))
			}
			text := t.String()
			if len(entries) == 0 {
				text = "Nothing is set.\n"
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	at.register(cmd)
	return cmd
}

func newConfigUnsetCommand() *cobra.Command {
	var at place
	cmd := &cobra.Command{
		Use:   "unset KEY [FILE|DIR...]",
		Short: "Remove a key",
		Long: `Remove a key, so that pipelines go on with the default. A key that is not set is
an error: the exit code is 1.`,
		Example:           `  edged config unset alert.limit --data-dir /var/lib/edged`,
		Args:              needKey("a key"),
		ValidArgsFunction: completeAfter(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := at.within(cmd, args[1:], func(ctx context.Context, k keeper) error { return k.UnsetConfig(ctx, args[0]) })
			if err != nil && !errors.Is(err, engine.ErrNoConfigKey) {
				return fmt.Errorf("changing the device configuration: %w", err)
			}
			return err
		},
	}
	at.register(cmd)
	return cmd
}
