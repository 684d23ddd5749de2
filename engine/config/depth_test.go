package config_test

import (
	"strings"
	"testing"

	"github.com/edged/edged/engine/config"
)

// TestParseRefusesDepth hands over text that nests ever deeper. It must be
// refused before it is parsed: at the size a file may have, the parser's stack
// would overflow, and no program recovers from that.
func TestParseRefusesDepth(t *testing.T) {
	const n = 1 << 16
	fill := func(s string) string { return strings.Repeat(s, (n-100)/len(s)) }
	for name, text := range map[string]string{
		"brackets":     fill("["),
		"braces":       fill("{a="),
		"parentheses":  fill("("),
		"not":          fill("!"),
		"minus":        fill("-"),
		"sum":          "1" + fill("+1"),
		"conditional":  "1" + fill("?1"),
		"calls":        fill("f("),
		"templates":    fill("\"${"),
		"index":        "a" + fill("[b]"),
		"splat":        "a" + fill(".*"),
		"traversal":    "a" + fill(".b"),
		"if":           "\"" + fill("%{if true}"),
		"for":          fill("[for a in "),
		"blocks":       "1\n" + fill("b {\n"),
		"stray closes": "1\n" + fill("}") + fill("!"),
	} {
		t.Run(name, func(t *testing.T) {
			src := []byte("config = " + text + "\n")
			_, diags := config.Parse(map[string][]byte{"x.hcl": src}, testCatalog(), testHost())
			if len(diags) != 1 || diags[0].Summary != "Nested too deeply" {
				t.Errorf("got %v", diags)
			}
		})
	}
}

// TestParseDeepestAllowed evaluates what the bounds still let through.
func TestParseDeepestAllowed(t *testing.T) {
	text := strings.Repeat(strings.Repeat("!", 990)+"(", 95) + "true" + strings.Repeat(")", 95)
	src := "plugin \"p\" {\n  module = \"x\"\n  config = " + text + "\n}\n"
	_, diags := config.Parse(map[string][]byte{"x.hcl": []byte(src)}, testCatalog(), testHost())
	for _, d := range diags {
		if d.Summary != "No pipeline" && d.Summary != "Unused plugin" {
			t.Error(d)
		}
	}
}
