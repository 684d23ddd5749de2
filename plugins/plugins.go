// Package plugins holds the plugins that edged ships, built. A pipeline file
// names one as module = "builtin:<name>". build.sh makes the .wasm files from
// the sources beside them; SHA256SUMS pins them.
package plugins

import _ "embed"

//go:embed dew_point/dew_point.wasm
var dewPoint []byte

// builtins lists what is shipped, by name in order. A new plugin is its folder
// and one line here.
var builtins = []struct {
	name string
	code []byte
}{
	{"dew_point", dewPoint},
}

// Builtin returns the module of that name. The bytes are shared: do not change
// them.
func Builtin(name string) (code []byte, ok bool) {
	for _, b := range builtins {
		if b.name == name {
			return b.code, true
		}
	}
	return nil, false
}

// Names lists the shipped plugins in order.
func Names() []string {
	names := make([]string, len(builtins))
	for i, b := range builtins {
		names[i] = b.name
	}
	return names
}
