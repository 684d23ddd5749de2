// Package plugins holds the plugins that edged ships, built. A pipeline file
// names one as module = "builtin:<name>". build.sh makes the .wasm files from
// the sources beside them; SHA256SUMS pins them.
package plugins

import "embed"

//go:embed */*.wasm
var built embed.FS

// builtins lists what is shipped, in order. A new plugin is its folder and its
// name here.
var builtins = []string{
	"aggregate", "client_wins", "convert", "deadband", "dew_point", "fields", "flatten",
	"latest_wins", "manual", "merge", "server_wins",
}

// Builtin returns the module of that name.
func Builtin(name string) (code []byte, ok bool) {
	for _, b := range builtins {
		if b == name {
			code, err := built.ReadFile(name + "/" + name + ".wasm")
			return code, err == nil
		}
	}
	return nil, false
}

// Names lists the shipped plugins in order.
func Names() []string { return append([]string(nil), builtins...) }
