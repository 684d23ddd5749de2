package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
)

func newPluginInspectCommand() *cobra.Command {
	var flags moduleFlags
	var asJSON bool
	var trust []string
	cmd := &cobra.Command{
		Use:   "inspect FILE|builtin:NAME",
		Short: "Show what a plugin is, and what it needs",
		Long: `Show what a module is and what it needs: its kinds, description and config, the
capabilities a pipeline has to grant, size and SHA-256, memory, what metering adds
to it, imports and exports. One instance is started with the limits of a pipeline.

A signature beside it (FILE.sig) is held against the module and the keys of --trust.

It looks into modules that no edge would load, too: then it says why. The exit code
is 7 then, and when a signature is refused.`,
		Example: `  edged plugin inspect builtin:dew_point
  edged plugin inspect my-plugin.wasm --config '{"field":"t"}'

  # Pin it in a pipeline file
  edged plugin inspect my-plugin.wasm --json | jq -r .sha256`,
		Args:              needModule,
		ValidArgsFunction: completeModules,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := flags.module(cmd, args[0])
			if err != nil {
				return err
			}
			m.Name = args[0]
			keys, err := readKeys(trust)
			if err != nil {
				return err
			}
			report, err := plugindev.Inspect(cmd.Context(), m)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(args[0], builtinPrefix) {
				if report.Signature, err = plugindev.CheckSignature(args[0], m.Code, keys); err != nil {
					return err
				}
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), reportText(report))
			}
			switch {
			case err != nil:
				return err
			case len(report.Problems) > 0:
				return failure(exitPlugin, fmt.Errorf("%s cannot be loaded", args[0]))
			case report.Signature != nil && report.Signature.State == plugindev.SignatureRefused:
				return failure(exitPlugin, fmt.Errorf("the signature of %s is refused", args[0]))
			case report.ConfigError != "" && m.Config != nil:
				return failure(exitPlugin, fmt.Errorf("%s does not accept this config", args[0]))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringSliceVar(&trust, "trust", nil, "a public key whose signature is trusted: ed25519:..., or a file with one")
	flags.register(cmd)
	return cmd
}

// reportText is a report for people. What the module says of itself must not
// steer their terminal.
func reportText(r *plugindev.Report) string {
	var out strings.Builder
	facts := table{}
	facts.add("file", r.File)
	if d := r.Description; d != nil {
		facts.add("name", printable(strings.TrimSpace(d.Name+" "+d.Version)))
		if d.Summary != "" {
			facts.add("summary", printable(oneLine(d.Summary)))
		}
	}
	facts.add("kinds", orNone(r.Kinds))
	if r.ABI == "extism" {
		facts.add("abi", "Extism")
	}
	facts.add("needs", needsText(r))
	facts.add("size", fmt.Sprintf("%s; code %s in %s, data %s", bytesize(uint64(r.Bytes)), bytesize(uint64(r.CodeBytes)), plural(uint64(r.Functions), "function"), bytesize(uint64(r.DataBytes))))
	facts.add("sha256", r.SHA256)
	if r.Signature != nil {
		facts.add("signature", signatureText(r.Signature))
	}
	if r.MeteredBytes > 0 {
		facts.add("metered", fmt.Sprintf("%s, %+.0f %%", bytesize(uint64(r.MeteredBytes)), 100*float64(r.MeteredBytes-r.Bytes)/float64(r.Bytes)))
	}
	if r.Memory != nil {
		facts.add("memory", memoryText(r.Memory))
	}
	if len(r.Producers) > 0 {
		facts.add("made by", printable(strings.Join(r.Producers, ", ")))
	}
	out.WriteString(facts.String())
	if d := r.Description; d != nil && len(d.Config) > 0 {
		out.WriteString("\n" + configText(d.Config))
	}
	if r.ConfigError != "" {
		out.WriteString("\nIt refuses the config: " + printable(oneLine(r.ConfigError)) + "\n")
	}
	if len(r.Imports) > 0 {
		t := table{head: []string{"IMPORT", "TYPE", "CAPABILITY"}}
		for _, i := range r.Imports {
			capability := i.Capability
			if !i.Known {
				capability = "unknown to this host"
			}
			t.add(printable(i.Module+"."+i.Name), i.Type, capability)
		}
		out.WriteString("\n" + t.String())
	}
	if len(r.Exports) > 0 {
		t := table{head: []string{"EXPORT", "TYPE"}}
		for _, e := range r.Exports {
			t.add(printable(e.Name), strings.TrimSpace(e.Kind+" "+e.Type))
		}
		out.WriteString("\n" + t.String())
	}
	if len(r.Problems) > 0 {
		out.WriteString("\nAn edge would not load it:\n")
		for _, p := range r.Problems {
			out.WriteString("  " + printable(p) + "\n")
		}
	}
	return out.String()
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func needsText(r *plugindev.Report) string {
	switch {
	case len(r.Capabilities) > 0:
		quoted := make([]string, len(r.Capabilities))
		for i, c := range r.Capabilities {
			quoted[i] = `"` + c + `"`
		}
		return "allow = [" + strings.Join(quoted, ", ") + "]"
	case len(r.Problems) > 0:
		return "no capability that is known"
	}
	return "no capability"
}

func memoryText(m *plugindev.Memory) string {
	text := bytesize(uint64(m.Min)) + " declared"
	if m.Max > 0 {
		text += ", at most " + bytesize(uint64(m.Max))
	}
	if m.Started > 0 {
		text += "; " + bytesize(uint64(m.Started)) + " once started"
	}
	return text
}

// configText is the config that a module describes, as a table when it has the
// usual form.
func configText(schema json.RawMessage) string {
	type argument struct {
		Type    string          `json:"type"`
		Default json.RawMessage `json:"default"`
		Doc     string          `json:"doc"`
	}
	var arguments map[string]argument
	if err := json.Unmarshal(schema, &arguments); err != nil {
		return "config  " + printable(oneLine(string(schema))) + "\n"
	}
	if len(arguments) == 0 {
		return "It takes no config.\n"
	}
	t := table{head: []string{"CONFIG", "TYPE", "DEFAULT", ""}}
	for _, name := range slices.Sorted(maps.Keys(arguments)) {
		a := arguments[name]
		t.add(printable(name), printable(a.Type), printable(shorten(string(a.Default), 24)), printable(oneLine(a.Doc)))
	}
	return t.String()
}
