package engine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/store"
)

// sums is a pipeline that makes one record of every five of a device.
func sums(extra string, sources ...string) string {
	var b strings.Builder
	b.WriteString(`
plugin "aggregate" {
  module = "builtin:aggregate"
  allow  = ["kv"]
  config = { fields = ["n"], records = 5, calculate = ["sum", "count"], decimals = 0 }
  ` + extra + `
}
pipeline "p" {
`)
	for i, path := range sources {
		fmt.Fprintf(&b, "  collect \"file\" \"f%d\" { path = %s }\n", i, path)
	}
	b.WriteString("  transform \"sum\" { plugin = plugin.aggregate }\n}\n")
	return b.String()
}

// storedSums reads what the lane of the pipeline holds.
func (r *rig) storedSums() (sums []string) {
	for _, data := range storedRecords(r.t, r.data, "p") {
		var rec struct {
			ID      string
			Payload struct{ N struct{ Sum, Count int } }
		}
		if err := json.Unmarshal(data, &rec); err != nil {
			r.t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%s %d %d", rec.ID, rec.Payload.N.Sum, rec.Payload.N.Count))
	}
	return sums
}

// storedRecords reads the records of a pipeline on which nothing runs.
func storedRecords(t *testing.T, dataDir, pipeline string) (all [][]byte) {
	t.Helper()
	s, err := engine.OpenStore(t.Context(), dataDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Records(t.Context(), pipeline, nil, func(f *store.Found) error {
		all = append(all, bytes.Clone(f.Data))
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

func wantSums(n int) (want []string) {
	for last := 5; last <= n; last += 5 {
		want = append(want, fmt.Sprintf("r%d %d 5", last, 5*last-10))
	}
	return want
}

// TestKeysLastAcrossRestarts stops in the middle of windows: what the plugin
// keeps continues with the records, also after the log was purged.
func TestKeysLastAcrossRestarts(t *testing.T) {
	r := newRig(t)
	path := r.file("in.ndjson", "")
	all := strings.SplitAfter(strings.TrimSuffix(lines("r", 203), "\n"), "\n")
	for at := 0; at < len(all); at += 23 {
		r.append("in.ndjson", strings.TrimSuffix(strings.Join(all[at:min(at+23, len(all))], ""), "\n")+"\n")
		run := r.start(true, sums("", path), nil)
		if s := run.end(); s.Collected != uint64(min(at+23, len(all))) {
			t.Fatalf("summary %+v", s)
		}
	}
	if diff := cmp.Diff(wantSums(203), r.storedSums()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSourcesShareKeys runs two sources of one pipeline at once: no change of
// one is lost to the other, so that all windows are full.
func TestSourcesShareKeys(t *testing.T) {
	r := newRig(t)
	run := r.start(true, sums("", r.file("a.ndjson", lines("a", 5000)), r.file("b.ndjson", lines("b", 5000))), nil)
	if s := run.end(); s.Collected != 10_000 || s.Stored != 2000 || s.Dropped != 8000 {
		t.Errorf("summary %+v", s)
	}
	run = r.start(true, sums("", r.file("a.ndjson", ""), r.file("b.ndjson", "")), nil)
	run.end()
	sum := 0
	for _, data := range storedRecords(t, r.data, "p") {
		var rec struct {
			Payload struct{ N struct{ Sum, Count int } }
		}
		if err := json.Unmarshal(data, &rec); err != nil || rec.Payload.N.Count != 5 {
			t.Fatalf("%s: %v", data, err)
		}
		sum += rec.Payload.N.Sum
	}
	if want := 2 * 5000 * 5001 / 2; sum != want {
		t.Errorf("all windows come to %d, want %d", sum, want)
	}
}
