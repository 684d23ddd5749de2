// Command edged runs event pipelines on a device with a bad network: it
// collects, transforms, stores with fsync, and syncs when the link is up.
//
// This package is the only place of the project that ends the process or takes
// its signals. Each command is one file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	boundHeap(context.Background())
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var failed *exitError
	if !errors.As(err, &failed) {
		failed = failure(exitRuntime, err)
	}
	if failed.err != nil {
		fmt.Fprintln(stderr, "edged:", failed)
	}
	return failed.code
}

// newRoot assembles the commands. A new command is its file and its name here.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "edged",
		Short: "Event pipelines for devices with a bad network",
		Long: `edged runs event pipelines on a device with a bad network.

A pipeline collects records, transforms them with WebAssembly plugins, raises
alerts, and stores everything with fsync before it acknowledges its source.
Whenever the link is up it syncs to a NATS hub or an HTTP API: each record
exactly once at the hub, however often the device, the link or the hub fails
in between.

Pipelines are written in HCL files. 'edged reference pipelines' prints every
block and argument.`,
		Example: `  # Check a pipeline file, run it until everything is synced, prove that it arrived
  edged validate pipelines/quickstart.hcl
  edged run pipelines/quickstart.hcl --until-drained
  edged audit pipelines/quickstart.hcl`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; 'edged help%s' lists the flags", err, strings.TrimPrefix(cmd.CommandPath(), "edged"))
	})
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"pipelines", "Write and run pipelines:", []*cobra.Command{newRunCommand(), newValidateCommand(), newFmtCommand()}},
		{"plugins", "Write and ship plugins:", []*cobra.Command{newPluginCommand()}},
		{"operate", "Operate edges and hubs:", []*cobra.Command{newStatusCommand(), newReloadCommand(), newEventsCommand(), newAuditCommand(), newDLQCommand(), newQueueCommand(), newStoreCommand(), newConfigCommand(), newConflictsCommand(), newHubCommand()}},
		{"about", "Know more:", []*cobra.Command{newReferenceCommand(), newVersionCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newExitCodesTopic())
	root.SetHelpCommandGroupID("about")
	root.SetCompletionCommandGroupID("about")
	return root
}

// noSuchCommand answers `edged rnu` and `edged dlq lss`.
func noSuchCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	inside := strings.TrimPrefix(parent.CommandPath(), "edged")
	if near := parent.SuggestionsFor(args[0]); len(near) > 0 {
		return usage("there is no command %q; did you mean %q?", strings.TrimSpace(inside+" "+args[0]), near[0])
	}
	return usage("there is no command %q; 'edged help%s' lists them", strings.TrimSpace(inside+" "+args[0]), inside)
}

// group makes a command of commands: alone it shows its help.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = noSuchCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

// needPaths asks for at least one pipeline file or folder.
func needPaths(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("%[1]s needs at least one pipeline file or folder: edged %[1]s pipelines/quickstart.hcl", cmd.Name())
	}
	return nil
}

// noArgs refuses positional arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no arguments, and was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// completePaths completes pipeline files and folders.
func completePaths(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
}
