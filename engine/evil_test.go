package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine"
)

// TestAnEvilPipelineLeavesOthersAlone runs a pipeline whose plugin loops for ever
// on every record beside one that works: that one goes through all its records
// while the other's plugin has rested again and again, as the status says; the
// edge stops at once although records wait for the plugin, and they are there
// when it starts again.
func TestAnEvilPipelineLeavesOthersAlone(t *testing.T) {
	r := newRig(t)
	const good, evil = 20_000, 60
	config := func(limit string) string {
		return fmt.Sprintf(`
plugin "evil" {
  module = %s
  limits { time = %q }
}
pipeline "evil" {
  collect "file" "f" {
    path = %s
  }
  transform "evil" { plugin = plugin.evil }
}
pipeline "good" {
  collect "file" "f" {
    path = %s
  }
  transform "evil" { plugin = plugin.evil }
}`, evilModule(t), limit, r.file("evil.ndjson", lines("XL", evil)), r.file("good.ndjson", lines("r", good)))
	}
	run := r.start(false, config("100ms"), nil)
	var st engine.Status
	until(t, "the good pipeline is through and the evil one's plugin rests", func() bool {
		st = run.Status()
		return st.Pipelines[1].Sources[0].State == "ended" && st.Plugins[0].Breaker == "open"
	})
	bad, fine := st.Plugins[0], st.Plugins[1]
	if bad.Pipeline != "evil" || bad.FaultsByKind["time"] < 10 || bad.Rests == 0 || bad.RestsUntil.IsZero() || !strings.Contains(bad.LastFault, "took longer than 100ms") {
		t.Errorf("the evil plugin's status: %+v", bad)
	}
	if fine.Pipeline != "good" || fine.Faults != 0 || fine.Rests != 0 || fine.Breaker != "closed" || fine.Records != good {
		t.Errorf("the good plugin's status: %+v", fine)
	}
	if st.Pipelines[1].Totals.Stored != good || bad.Faults >= evil {
		t.Errorf("the good pipeline stored %d while the evil plugin had %d faults", st.Pipelines[1].Totals.Stored, bad.Faults)
	}
	began := time.Now()
	run.stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	// The batch that waited was not stored, so all of it comes again.
	if n := len(r.letters()); n != 0 {
		t.Errorf("%d dead letters of a batch that is not done", n)
	}
	if got := len(storedRecords(t, r.data, "good")); got != good {
		t.Errorf("%d records of the good pipeline are stored", got)
	}
}
