package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

func newPluginCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "plugin",
		Short: "Write, test and ship plugins",
		Long: `Write, test and ship plugins: WebAssembly modules that transform records or
resolve conflicts. All of it works offline, and on the same host that runs
plugins in a pipeline: same limits, same checks.

FILE is a .wasm file, or builtin:NAME for a plugin that edged ships.`,
		Example: `  # From an empty folder to a plugin that works
  edged plugin new --lang assemblyscript && edged plugin build && edged plugin test

  # What is it, and what does it do with my records?
  edged plugin inspect builtin:dew_point
  edged plugin test builtin:dew_point --records readings.ndjson

  # Is it fit for devices that nobody watches?
  edged plugin verify my-plugin.wasm`,
	}, newPluginNewCommand(), newPluginBuildCommand(), newPluginTestCommand(), newPluginVerifyCommand(), newPluginBenchCommand(),
		newPluginInspectCommand(), newPluginKeygenCommand(), newPluginSignCommand())
}

const builtinPrefix = "builtin:"

// needModule asks for exactly one module.
func needModule(cmd *cobra.Command, args []string) error {
	name := strings.TrimPrefix(cmd.CommandPath(), "edged ")
	switch len(args) {
	case 0:
		return usage("%[1]s needs a .wasm file, or builtin:NAME: edged %[1]s builtin:dew_point", name)
	case 1:
		return nil
	}
	return usage("%s takes one .wasm file, and was given %q, too", name, args[1])
}

// completeModules completes .wasm files and the names of shipped plugins.
func completeModules(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) > 0:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case typed != "" && strings.HasPrefix(builtinPrefix, typed[:min(len(typed), len(builtinPrefix))]):
		var names []string
		for _, name := range plugins.Names() {
			names = append(names, builtinPrefix+name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"wasm"}, cobra.ShellCompDirectiveFilterFileExt
}

// readModule reads the code that a command line names.
func readModule(name string) (code []byte, err error) {
	if builtin, ok := strings.CutPrefix(name, builtinPrefix); ok {
		if code, ok = plugins.Builtin(builtin); !ok {
			return nil, usage("there is no built-in plugin %q; there are: %s", builtin, strings.Join(plugins.Names(), ", "))
		}
		return code, nil
	}
	if code, err = os.ReadFile(name); err != nil {
		return nil, usage("reading the module: %w", err)
	}
	return code, nil
}

// moduleFlags say how a module is to run.
type moduleFlags struct {
	config string
	allow  []string
	limits map[string]string
	extism wasm.Extism
	input  string // of extism
}

func (f *moduleFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "the plugin's config: a JSON object, or @FILE with one")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "capabilities to grant: "+strings.Join(wasm.Capabilities(), ", ")+" (default: what it imports)")
	cmd.Flags().StringToStringVar(&f.limits, "limits", nil, "limits as a pipeline has them: memory=16MiB,time=50ms,fuel=1000000,output=1MiB,kv=64KiB")
	cmd.Flags().StringVar(&f.extism.Function, "extism-function", "", "of a module of the Extism ABI: the function to call (default "+wasm.DefaultExtismFunction+")")
	cmd.Flags().StringVar(&f.input, "extism-input", "", "of a module of the Extism ABI: what the function gets, payload or record (default payload)")
	complete(cmd, "allow", wasm.Capabilities()...)
	complete(cmd, "extism-input", string(wasm.ExtismPayload), string(wasm.ExtismRecord))
}

// module reads the module that a command line names, with its flags.
func (f *moduleFlags) module(cmd *cobra.Command, name string) (*plugindev.Module, error) {
	code, err := readModule(name)
	if err != nil {
		return nil, err
	}
	m := &plugindev.Module{Name: strings.TrimSuffix(filepath.Base(strings.TrimPrefix(name, builtinPrefix)), ".wasm"), Code: code}
	if cmd.Flags().Changed("allow") {
		m.Allow = []string{}
		for _, capability := range f.allow {
			if !slices.Contains(wasm.Capabilities(), capability) {
				return nil, usage("--allow names %q; there are: %s", capability, strings.Join(wasm.Capabilities(), ", "))
			}
			m.Allow = append(m.Allow, capability)
		}
	}
	if m.Config, err = readConfig(f.config); err != nil {
		return nil, err
	}
	if f.extism.Function+f.input != "" {
		f.extism.Input = wasm.ExtismInput(f.input)
		m.Extism = &f.extism
	}
	m.Limits, err = parseLimits(f.limits)
	return m, err
}

func readConfig(text string) (json.RawMessage, error) {
	if text == "" {
		return nil, nil
	}
	data := []byte(text)
	if name, ok := strings.CutPrefix(text, "@"); ok {
		var err error
		if data, err = os.ReadFile(name); err != nil {
			return nil, usage("--config: %w", err)
		}
	}
	if err := record.ValidObject(data); err != nil {
		return nil, usage("--config: %w", err)
	}
	return data, nil
}

// parseLimits reads --limits in the words of a pipeline's limits block.
func parseLimits(texts map[string]string) (l wasm.Limits, err error) {
	for name, text := range texts {
		switch name {
		case "memory":
			l.Memory, err = config.ParseSize(text)
		case "output":
			l.Output, err = config.ParseSize(text)
		case "kv":
			l.KV, err = config.ParseSize(text)
		case "time":
			l.Time, err = time.ParseDuration(text)
		case "fuel":
			l.Fuel, err = strconv.ParseInt(text, 10, 64)
		default:
			return l, usage("--limits names %q; there are: memory, time, fuel, output, kv", name)
		}
		if err != nil {
			return l, usage("--limits %s=%s: %w", name, text, err)
		}
	}
	return l, nil
}

// readInput reads a file, or standard input for "-".
func readInput(cmd *cobra.Command, flag, name string) ([]byte, error) {
	if name == "-" {
		data, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usage("--%s: %w", flag, err)
	}
	return data, nil
}

// testTime is the time of records that have none, and what guests are told, when
// a test says no other.
func testTime() time.Time {
	at, err := time.Parse(time.RFC3339, plugindev.TestTime)
	if err != nil {
		panic(err)
	}
	return at
}
