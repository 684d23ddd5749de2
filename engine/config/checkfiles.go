package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/wasm/sign"
)

// CheckFiles looks for what a checked configuration names outside itself: the
// plugins' modules and the keys that sign them. stat tells whether a file can be opened, nil asks the
// operating system; builtins are the names that may follow "builtin:". Apart
// from stat it touches nothing (I10).
func (c *Config) CheckFiles(stat func(path string) error, builtins []string) hcl.Diagnostics {
	if stat == nil {
		stat = statFile
	}
	var diags hcl.Diagnostics
	for i := range c.Plugins {
		p := &c.Plugins[i]
		at := p.Args.ArgRange("module")
		if name, ok := strings.CutPrefix(p.Module, builtinPrefix); ok {
			if !slices.Contains(builtins, name) {
				diags = append(diags, diagnostic("Unknown built-in plugin", fmt.Sprintf("There is no built-in plugin %q.%s The built-in plugins are: %s.", name, didYouMean(name, builtins), join(builtins)), at))
			}
			continue
		}
		err := stat(p.Module)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			hint := ""
			if slices.Contains(builtins, p.Args.String("module")) {
				hint = fmt.Sprintf(" The built-in plugin is written %q.", builtinPrefix+p.Args.String("module"))
			}
			diags = append(diags, diagnostic("Missing module", fmt.Sprintf("There is no file %q.%s A path is relative to the folder of the pipeline file.", p.Module, hint), at))
		default:
			diags = append(diags, diagnostic("Cannot read module", fmt.Sprintf("%q cannot be read: %s. Check the path and its permissions.", p.Module, reason(err)), at))
		}
	}
	for _, key := range c.Edge.PluginKeys {
		if strings.HasPrefix(key, sign.KeyPrefix) {
			continue
		}
		if err := stat(key); err != nil {
			diags = append(diags, diagnostic("Cannot read key", fmt.Sprintf("The key %q cannot be read: %s. A key is the path of a file, relative to the folder of the pipeline file, or %s and the base64 of the key.", key, reason(err), sign.KeyPrefix), c.Edge.KeysRange))
		}
	}
	return finish(diags, c.Files)
}

func statFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	return err
}
