package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/sdk"
)

func newPluginNewCommand() *cobra.Command {
	var lang, kind, name string
	cmd := &cobra.Command{
		Use:   "new [DIR]",
		Short: "Begin a plugin in an empty folder",
		Long: `Begin a plugin in this folder, or in DIR: a plugin that does something real and is
yours to change, its unit test, sample records with what is expected of them, a
pipeline file that runs it, a README, and a copy of the SDK. It takes no network,
and what it makes depends on nothing of edged but that copy.

No file is overwritten. The plugin is called after the folder, unless --name says
otherwise.`,
		Example: `  # From nothing to a pipeline that runs your plugin
  edged plugin new fahrenheit --lang c && cd fahrenheit
  edged plugin build
  edged plugin test
  edged run pipeline.hcl --until-drained

  edged plugin new work_order --lang assemblyscript --kind resolver`,
		Args:              oneFolder("plugin new makes one plugin"),
		ValidArgsFunction: completeFolders,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := folderOf(args)
			if lang == "" {
				return usage("plugin new needs --lang, one of: %s", strings.Join(sdk.Languages(), ", "))
			}
			if name == "" {
				var err error
				if name, err = plugindev.NameFor(dir); err != nil {
					return usage("%w; give --name", err)
				}
			}
			p, err := plugindev.CreateProject(dir, lang, kind, name)
			var failed *os.PathError
			switch {
			case errors.Is(err, plugindev.ErrExists):
				return failure(exitRuntime, fmt.Errorf("nothing was written to %s: %w", dir, err))
			case errors.As(err, &failed):
				return err
			case err != nil:
				return usage("%w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s, in %s, begun in %s\n\nNext:\n%s", kind, p.Name, lang, dir, nextSteps(p))
			if missing := p.MissingTools(); err == nil && missing != nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nBefore you build: %s\n", missing)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&lang, "lang", "", "the language: "+strings.Join(sdk.Languages(), ", "))
	f.StringVar(&kind, "kind", sdk.Transform, "what it does: "+strings.Join(sdk.Kinds(), ", "))
	f.StringVar(&name, "name", "", "the plugin's name: lower-case letters, digits, underscores (default: after the folder)")
	complete(cmd, "lang", sdk.Languages()...)
	complete(cmd, "kind", sdk.Kinds()...)
	return cmd
}

// oneFolder allows one argument, the folder that a command is about: this one when
// none is given. does says, of the command, what it does.
func oneFolder(does string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage("%s, and was given %q, too", does, args[1])
		}
		return nil
	}
}

func completeFolders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func folderOf(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return "."
}

func nextSteps(p *plugindev.Project) string {
	var steps []string
	if p.Dir != "." {
		steps = append(steps, "cd "+p.Dir)
	}
	steps = append(steps, "edged plugin build", "edged plugin test")
	if p.Kind == sdk.Transform {
		steps = append(steps, "edged run pipeline.hcl --until-drained")
	}
	return "  " + strings.Join(steps, "\n  ") + "\n"
}
