package config_test

import (
	"strings"
	"testing"

	"github.com/edged/edged/engine/config"
)

// TestParseSurvivesDepth hands over text that nests as deeply as a file can be
// long. A stack that overflows cannot be recovered from, so this test would
// end the whole run.
func TestParseSurvivesDepth(t *testing.T) {
	const n = 1 << 19
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
		"stray closes": "1\n" + fill("}"),
	} {
		t.Run(name, func(t *testing.T) {
			src := []byte("config = " + text + "\n")
			if _, diags := config.Parse(map[string][]byte{"x.hcl": src}, testCatalog(), testHost()); !diags.HasErrors() {
				t.Error("no error")
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
