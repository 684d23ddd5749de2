package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versions is what this binary was built from.
type versions struct {
	Version    string `json:"version"`
	Revision   string `json:"revision,omitempty"`
	Modified   bool   `json:"modified,omitempty"` // built from a changed work tree
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	NATSServer string `json:"nats_server"`
	Wazero     string `json:"wazero"`
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and those of the parts that matter",
		Long: `Print the version of edged, and of what it is built on: Go, the embedded
nats-server, and wazero, which runs the plugins. A bug report wants all four.`,
		Example: `  edged version
  edged version --json | jq -r .version`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := readVersions()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), v)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// readVersions asks the build information that Go writes into every binary.
func readVersions() versions {
	v := versions{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		switch dep.Path {
		case "github.com/nats-io/nats-server/v2":
			v.NATSServer = dep.Version
		case "github.com/tetratelabs/wazero":
			v.Wazero = dep.Version
		}
	}
	return v
}

func (v versions) String() string {
	revision := v.Revision
	if v.Modified {
		revision += " (modified)"
	}
	out := fmt.Sprintf("edged %s\n", v.Version)
	for _, line := range [][2]string{
		{"revision", revision}, {"go", v.Go}, {"platform", v.Platform}, {"nats-server", v.NATSServer}, {"wazero", v.Wazero},
	} {
		if line[1] != "" {
			out += fmt.Sprintf("  %-12s %s\n", line[0], line[1])
		}
	}
	return out
}
