package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"
	"time"
)

// TestLongWorkTellsHowFarItIs holds that reading the logs says on standard error
// how much was read of how much, whoever reads them, and nothing while it is quick.
func TestLongWorkTellsHowFarItIs(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	waitForDeadLetters(t, dir, 4)
	t.Cleanup(func() { tellEvery = firstLines })
	last := regexp.MustCompile(`(?:^|\n)(\d+) of (\d+) messages? read so far\n$`)
	tell := func(every time.Duration, args ...string) {
		t.Helper()
		tellEvery = every
		var stdout, stderr bytes.Buffer
		root := newRoot()
		root.SetArgs(append(args, "--data-dir", dir+"/data"))
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		told := last.FindStringSubmatch(stderr.String())
		if every > 0 && stderr.Len() > 0 || every == 0 && (told == nil || told[1] != told[2]) {
			t.Errorf("%v tells %q", args, &stderr)
		}
		if stdout.Len() == 0 {
			t.Errorf("%v prints nothing", args)
		}
	}
	look := func() {
		t.Helper()
		for _, what := range []string{"ls", "export"} {
			tell(0, "dlq", what, "--stage", "transform")
			tell(time.Hour, "dlq", what)
		}
	}
	look()
	edge.stop(os.Interrupt)
	look()
	tell(0, "store", "export")
	tell(0, "store", "verify")
}
