package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged/edged/engine"
)

// TestRelease holds that nothing is given up without --yes or while a remote is to
// get it, and that what was given up is gone and told (I7).
func TestRelease(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	release := func(code int, want string, args ...string) {
		t.Helper()
		r := edged(t, dir, "", append([]string{"store", "release"}, args...)...)
		if r.wantCode(t, code); !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%v: %q, want …%s…", args, r.stdout+r.stderr, want)
		}
	}
	offline := func() engine.Status {
		t.Helper()
		r := edged(t, dir, "", "status", "--offline", "--data-dir", "data", "--json")
		r.wantCode(t, exitOK)
		var st engine.Status
		if err := json.Unmarshal([]byte(r.stdout), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := offline(); !st.Running {
		t.Errorf("of a running edge: %+v", st)
	}
	release(exitUsage, "needs the name of a pipeline")
	edge.stop(os.Interrupt)

	st := offline()
	if st.Running || len(st.Pipelines) != 1 || st.Pipelines[0].Kept.Records == 0 {
		t.Fatalf("%+v", st)
	}
	name, kept := st.Pipelines[0].Name, st.Pipelines[0].Kept.Records
	down := edged(t, dir, "", "status", "--data-dir", "data")
	down.wantCode(t, exitNoEdge)
	release(exitUsage, "needs the pipeline files", name, "--data-dir", "data")
	other := filepath.Join(dir, "other.hcl")
	text := `
edge { data_dir = "data" }
pipeline "other" {
  collect "generator" "g" {
    every     = "1h"
    data_type = "t"
    payload   = {}
  }
}`
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	release(exitUsage, "add --yes to do it", name, other)
	release(exitRuntime, "nothing is kept", "none", other, "--yes")
	if st := offline(); st.Pipelines[0].Kept.Records != kept {
		t.Errorf("%d records of %d are left", st.Pipelines[0].Kept.Records, kept)
	}
	release(exitOK, "given up: numbers 1 to", name, other, "--yes")
	st = offline()
	if p := st.Pipelines[0]; p.Kept.Records != 0 || len(p.Released) != 1 || p.Totals.Discarded != kept {
		t.Errorf("%+v", p)
	}
	verify(t, dir, "data", exitOK)
}
