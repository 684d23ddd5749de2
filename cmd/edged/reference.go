package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
)

// page is one reference page that is made from the code.
type page struct {
	name string // what the command calls it
	path string // where the repository keeps it
	text func(root *cobra.Command) string
}

// pages lists the reference pages; a test fails when one is stale.
var pages = []page{
	{"pipelines", "pipelines/REFERENCE.md", func(*cobra.Command) string { return string(config.Reference(engine.Catalog())) }},
	{"commands", "cmd/edged/REFERENCE.md", commandReference},
}

func newReferenceCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "reference [pipelines|commands]",
		Short: "Print the reference of the pipeline files, or of the commands",
		Long: `Print a reference page as Markdown: of every block and argument that a pipeline
file may have (the default), or of every command. Both are made from the code,
so they are those of this very binary.`,
		Example: `  edged reference | less
  edged reference commands

  # Write both pages into a checkout of edged
  edged reference --write .`,
		ValidArgs: []string{"pipelines", "commands"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" {
				return writePages(cmd.Root(), dir)
			}
			want := pages[0].name
			if len(args) > 0 {
				want = args[0]
			}
			for _, p := range pages {
				if p.name == want && len(args) <= 1 {
					_, err := fmt.Fprint(cmd.OutOrStdout(), p.text(cmd.Root()))
					return err
				}
			}
			return usage("reference takes one of: pipelines, commands")
		},
	}
	cmd.Flags().StringVar(&dir, "write", "", "write all pages below this folder, where the repository keeps them")
	if err := cmd.MarkFlagDirname("write"); err != nil {
		panic(err)
	}
	return cmd
}

func writePages(root *cobra.Command, dir string) error {
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(p.path)), []byte(p.text(root)), 0o644); err != nil {
			return fmt.Errorf("writing a reference page: %w", err)
		}
	}
	return nil
}

// commandReference writes every command as Markdown.
func commandReference(root *cobra.Command) string {
	var out strings.Builder
	out.WriteString("# Commands\n\nMade from the code by `make reference`; `edged help` says the same.\n\n")
	commands := referenced(root)
	for _, cmd := range commands {
		fmt.Fprintf(&out, "- [%s](#%s): %s\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
	}
	for _, cmd := range commands {
		writeCommand(&out, cmd)
	}
	out.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&out, "| %d | %s |\n", c.code, c.meaning)
	}
	return out.String()
}

// referenced lists the commands that have a section: all that run something
// and are ours.
func referenced(root *cobra.Command) []*cobra.Command {
	commands := []*cobra.Command{root}
	for _, cmd := range root.Commands() {
		if cmd.Runnable() && !cmd.Hidden && cmd.Name() != "help" && cmd.Name() != "completion" {
			commands = append(commands, referenced(cmd)...)
		}
	}
	return commands
}

func writeCommand(out *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(out, "\n## %s\n\n```\n%s\n```\n\n%s\n\n```sh\n%s\n```\n", cmd.CommandPath(), cmd.UseLine(), cmd.Long, unindent(cmd.Example))
	if !cmd.LocalFlags().HasAvailableFlags() {
		return
	}
	out.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value := ""
		if f.Value.Type() != "bool" && f.DefValue != "" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(out, "| `--%s` | %s | %s |\n", f.Name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
}

// unindent takes away the two spaces that help texts indent examples with.
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}
