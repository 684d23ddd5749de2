package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
)

func newPluginBuildCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build the plugin of this folder",
		Long: `Build the plugin of this folder, or of DIR, with its language's own tools, and
check that an edge would load what comes out. The language is told by
edged-plugin.json, or by asconfig.json, Cargo.toml, go.mod or plugin.c. When a tool
is missing it says what to install.

The exit code is 7 when the module is built and no edge would load it.`,
		Example: `  edged plugin build
  edged plugin build plugins/fahrenheit --json | jq -r .sha256`,
		Args:              oneFolder("plugin build builds one folder"),
		ValidArgsFunction: completeFolders,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := folderOf(args)
			p, err := plugindev.OpenProject(dir)
			if err != nil {
				return usage("%w", err)
			}
			if err := p.Build(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			return reportBuilt(cmd, p.Module(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what 'plugin inspect --json' would")
	return cmd
}

// reportBuilt checks a module that was built and prints what matters of it.
func reportBuilt(cmd *cobra.Command, module string, asJSON bool) error {
	code, err := readModule(module)
	if err != nil {
		return err
	}
	r, err := plugindev.Inspect(cmd.Context(), &plugindev.Module{Name: filepath.ToSlash(module), Code: code})
	if err != nil {
		return err
	}
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), r)
	} else {
		t := table{}
		t.add("module", r.File)
		t.add("kinds", orNone(r.Kinds))
		t.add("needs", needsText(r))
		t.add("size", bytesize(uint64(r.Bytes)))
		t.add("sha256", r.SHA256)
		_, err = fmt.Fprint(cmd.OutOrStdout(), t.String())
	}
	if err == nil && len(r.Problems) > 0 {
		return failure(exitPlugin, fmt.Errorf("it is built, and no edge would load it: %s", printable(strings.Join(r.Problems, "; "))))
	}
	return err
}
