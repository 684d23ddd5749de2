package engine_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// evilModule is the quoted path of a plugin that traps on ids that begin with
// XT, loops on XL, answers garbage on XG and passes all others.
func evilModule(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("testdata/evil.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q", path)
}

// TestARestingPlugin holds both values of when_resting: eleven records in a row
// on which the plugin traps, then five that are good.
func TestARestingPlugin(t *testing.T) {
	for policy, want := range map[string]struct {
		stored    uint64
		kinds     map[string]int
		notAsked  bool
		restsLeft bool
	}{
		"wait":     {stored: 5, kinds: map[string]int{"trap fault": 11}, notAsked: true},
		"on_error": {stored: 0, kinds: map[string]int{"trap fault": 10, "rests after": 6}, notAsked: true, restsLeft: true},
	} {
		t.Run(policy, func(t *testing.T) {
			r := newRig(t)
			run := r.start(true, fmt.Sprintf(`
plugin "evil" {
  module = %s
}
pipeline "p" {
  collect "file" "f" {
    path      = %s
    id        = input.id
    data_type = "t"
  }
  transform "evil" {
    plugin       = plugin.evil
    when_resting = %q
  }
}`, evilModule(t), r.file("in.ndjson", lines("XT", 11)+lines("r", 5)), policy), nil)
			s := run.end()
			if s.Stored != want.stored || s.Collected != 16 || s.DeadLetters != 16-want.stored {
				t.Errorf("summary %+v", s)
			}
			st := run.Status().Plugins[0]
			open := st.Breaker == "open"
			if st.Name != "evil" || st.Pipeline != "p" || st.Rests == 0 || st.FaultsByKind["trap"] != st.Faults ||
				(st.NotAsked > 0) != want.notAsked || open != want.restsLeft || open == st.RestsUntil.IsZero() || !strings.Contains(st.LastFault, "trap fault") {
				t.Errorf("status %+v", st)
			}
			kinds := map[string]int{}
			for _, d := range r.letters() {
				for kind := range want.kinds {
					if strings.Contains(d.Error, kind) && strings.Contains(d.Error, st.SHA256) && d.Detail["plugin"] == "evil" && d.Detail["sha256"] == st.SHA256 {
						kinds[kind]++
					}
				}
			}
			if diff := cmp.Diff(want.kinds, kinds); diff != "" {
				t.Errorf("dead letters (-want +got):\n%s", diff)
			}
		})
	}
}

// refused opens a configuration that cannot be opened, and returns what is told.
func (r *rig) refused(text string) hcl.Diagnostics {
	r.t.Helper()
	cfg, diags := config.Parse(map[string][]byte{filepath.Join(r.dir, "test.hcl"): []byte(text)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		r.t.Fatal(diags)
	}
	_, err := engine.Open(r.t.Context(), cfg, engine.Options{DataDir: r.data})
	if !errors.As(err, &diags) {
		r.t.Fatalf("got %v, want diagnostics", err)
	}
	return diags
}

// TestAResolverIsNoTransform holds that a plugin block may be a resolver only,
// and that a transform that names it is told so at its place.
func TestAResolverIsNoTransform(t *testing.T) {
	r := newRig(t)
	source := `collect "generator" "g" {
    every   = "1h"
    payload = {}
  }`
	run := r.start(false, `
plugin "merge" { module = "builtin:merge" }
pipeline "p" {
  `+source+`
}`, nil)
	if st := run.Status().Plugins; len(st) != 1 || st[0].Name != "merge" || st[0].Pipeline != "" {
		t.Errorf("status %+v", st)
	}
	run.stop()
	diags := r.refused(`
plugin "merge" { module = "builtin:merge" }
pipeline "p" {
  ` + source + `
  transform "t" { plugin = plugin.merge }
}`)
	if len(diags) != 1 || diags[0].Subject.Start.Line != 8 || !strings.Contains(diags[0].Detail, "does not export edged_transform") {
		t.Errorf("told %v", diags)
	}
}

// TestPluginErrorsHavePlaces holds what only the loaded module can tell.
func TestPluginErrorsHavePlaces(t *testing.T) {
	r := newRig(t)
	diags := r.refused(`
plugin "a" {
  module = "builtin:deadband"
}
plugin "b" {
  module = "builtin:dew_point"
  sha256 = "` + strings.Repeat("0", 64) + `"
}
pipeline "p" {
  collect "generator" "g" {
    every   = "1h"
    payload = {}
  }
  transform "a" { plugin = plugin.a }
  transform "b" { plugin = plugin.b }
}`)
	if len(diags) != 2 || diags[0].Subject.Start.Line != 2 || diags[1].Subject.Start.Line != 5 {
		t.Fatalf("told %v", diags)
	}
	if !strings.Contains(diags[1].Detail, strings.Repeat("0", 64)) || strings.Count(diags[1].Detail, "sha256") < 1 {
		t.Errorf("told %s", diags[1].Detail)
	}
}
