package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

// TestDeviceConfig holds that the device configuration is set, shown and removed
// the same way with an edge and without, and is there after a kill.
func TestDeviceConfig(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	ok := func(stdin string, args ...string) string {
		t.Helper()
		r := edged(t, dir, stdin, append([]string{"config"}, args...)...)
		r.wantCode(t, exitOK)
		return r.stdout
	}
	fails := func(code int, want string, args ...string) {
		t.Helper()
		r := edged(t, dir, "", append([]string{"config"}, args...)...)
		if r.wantCode(t, code); !strings.Contains(r.stderr, want) {
			t.Errorf("%v: stderr %q, want …%s…", args, r.stderr, want)
		}
	}
	fails(exitNoEdge, "no store is in it", "set", "a", "1", "p.hcl")

	edge := launchOps(t, dir, 3)
	ok("", "set", "alert.limit", "27.5", "p.hcl")
	ok("two\nlines", "set", "text", "-", "p.hcl")
	fails(exitUsage, "letters, digits", "set", "a b", "1", "p.hcl")
	fails(exitUsage, "needs a key and a value", "set", "a")
	fails(exitRuntime, "not set: other", "get", "other", "p.hcl")
	edge.kill()

	for _, running := range []bool{false, true} {
		if running {
			edge = relaunchOps(t, dir)
		}
		if diff := cmp.Diff("27.5\n", ok("", "get", "alert.limit", "p.hcl")); diff != "" {
			t.Errorf("running %v (-want +got):\n%s", running, diff)
		}
		entries := ndjson[engine.ConfigEntry](t, ok("", "ls", "--json", "p.hcl"))
		if len(entries) != 2 || entries[1].Key != "text" || entries[1].Value != "two\nlines" || entries[0].Set.IsZero() {
			t.Errorf("running %v: %+v", running, entries)
		}
		ok("", "set", "more", "x", "p.hcl")
		ok("", "unset", "more", "p.hcl")
		fails(exitRuntime, "not set: more", "unset", "more", "p.hcl")
		if text := ok("", "ls", "p.hcl"); strings.Contains(text, "more") || !strings.Contains(text, "two lines") {
			t.Errorf("running %v: %s", running, text)
		}
	}
	edge.stop(os.Interrupt)
}
