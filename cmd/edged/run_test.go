package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

const repository = "../.."

// summaryOf reads the one JSON object that `run --json` prints.
func summaryOf(t *testing.T, stdout string) engine.Summary {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	var s engine.Summary
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("%v: %q", err, stdout)
	}
	if decoder.More() {
		t.Fatalf("stdout has more than one JSON object: %q", stdout)
	}
	return s
}

// TestQuickstart runs what the README says, twice: the second run finds
// everything done and changes no total (I2).
func TestQuickstart(t *testing.T) {
	const records, messages = 18760, 979
	dir := t.TempDir()
	args := []string{"run", "pipelines/quickstart.hcl", "--until-drained", "--json", "--data-dir", dir}
	want := engine.Summary{
		Counts: engine.Counts{
			Collected: records, Transformed: records, Stored: records, Messages: messages,
			SyncedRecords: records, SyncedMessages: messages,
		},
		Audited: true,
	}

	want.ThisRun = want.Counts
	for _, run := range []string{"first", "second"} {
		r := edged(t, repository, "", args...)
		r.wantCode(t, exitOK)
		got := summaryOf(t, r.stdout)
		if got.ElapsedSeconds <= 0 {
			t.Errorf("%s run: elapsed_seconds is %v", run, got.ElapsedSeconds)
		}
		got.ElapsedSeconds = 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s run (-want +got):\n%s\nstderr: %s", run, diff, r.stderr)
		}
		want.ThisRun = engine.Counts{}
	}

	text := edged(t, repository, "", "run", "pipelines/quickstart.hcl", "--until-drained", "--data-dir", dir)
	text.wantCode(t, exitOK)
	const plain = "Nothing new: all 18,760 records were collected, stored and synced by an earlier run."
	if !strings.Contains(text.stdout, plain) {
		t.Errorf("stdout has no %q:\n%s", plain, text.stdout)
	}

	audit := edged(t, repository, "", "audit", "pipelines/quickstart.hcl", "--data-dir", dir, "--json")
	audit.wantCode(t, exitOK)
	var proof engine.Audit
	if err := json.Unmarshal([]byte(audit.stdout), &proof); err != nil {
		t.Fatal(err)
	}
	if len(proof.Pipelines) == 0 || proof.Gaps+proof.Duplicates+proof.Waiting != 0 {
		t.Errorf("audit: %+v", proof)
	}
}

// TestReadme holds that the README's pipeline is valid and formatted, and that
// its exit codes are all of them.
func TestReadme(t *testing.T) {
	readme := readFile(t, filepath.Join(repository, "README.md"))
	_, rest, found := strings.Cut(readme, "```hcl\n")
	pipeline, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README.md shows no pipeline")
	}
	edged(t, t.TempDir(), pipeline, "fmt", "--check", "-").wantCode(t, exitOK)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "readme.hcl"), pipeline)
	edged(t, dir, "", "validate", "readme.hcl").wantCode(t, exitOK)
	for _, c := range exitCodes {
		if !strings.Contains(readme, fmt.Sprintf("\n| %d | ", c.code)) {
			t.Errorf("README.md does not have exit code %d", c.code)
		}
	}
}

// endless collects until it is stopped, and syncs to nowhere.
const endless = `edge {
  device_id = "endless"
  data_dir  = "data"
}

pipeline "ticks" {
  collect "generator" "tick" {
    every     = "1ms"
    data_type = "tick"
    payload   = { value = round(uniform(0, 1), 3) }
  }
}
`

// TestInterrupt holds that the first signal stops in stages: everything that
// was collected is stored, and the exit code is 0. Before that it asks the
// running edge for its status.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "endless.hcl"), endless)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "run", "endless.hcl", "--json")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen engine.Status
	for seen.ThisRun.Stored == 0 && ctx.Err() == nil {
		r := edged(t, dir, "", "status", "endless.hcl", "--json")
		if r.code == exitNoEdge {
			continue // not up yet
		}
		r.wantCode(t, exitOK)
		if err := json.Unmarshal([]byte(r.stdout), &seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after SIGINT: %v\n%s", err, &stderr)
	}
	if seen.DeviceID != "endless" || len(seen.Pipelines) != 1 || seen.Pipelines[0].Name != "ticks" {
		t.Errorf("status: %+v", seen)
	}
	got := summaryOf(t, stdout.String())
	if got.Stored < seen.Totals.Stored || got.Collected != got.Stored || got.ThisRun != got.Counts {
		t.Errorf("summary %+v after status %+v: want all that was collected stored", got, seen.Totals)
	}
	if !strings.Contains(stderr.String(), "stopping (interrupt)") {
		t.Errorf("stderr does not say that it stops:\n%s", &stderr)
	}
	edged(t, dir, "", "status", "endless.hcl").wantCode(t, exitNoEdge)
}

// TestUntilDrainedRefusesEndless holds that a run which could never end says so.
func TestUntilDrainedRefusesEndless(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "endless.hcl"), endless)
	edged(t, dir, "", "validate", "endless.hcl").wantCode(t, exitOK)
	r := edged(t, dir, "", "run", "endless.hcl", "--until-drained")
	if r.code == exitOK || r.stdout != "" || !strings.Contains(r.stderr, "tick") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// TestHub starts a hub and stops it.
func TestHub(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "hub", "--leaf-listen", "127.0.0.1:0", "--client-listen", "127.0.0.1:0", "--data-dir", "hub")
	cmd.Dir, cmd.Stderr = t.TempDir(), &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 256)
	n, err := stdout.Read(line)
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if !strings.Contains(string(line[:n]), "127.0.0.1:") || strings.Contains(string(line[:n]), ":0\n") {
		t.Errorf("the hub says %q, want its addresses", line[:n])
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGINT: %v\n%s", err, &stderr)
	}
}

// TestKeyedPipeline runs the shipped pipeline with keyed records: its settings reach
// the hub, once.
func TestKeyedPipeline(t *testing.T) {
	t.Setenv("EDGED_API", "127.0.0.1:0")
	t.Setenv("EDGED_HUB_CLIENTS", "127.0.0.1:0")
	dir := filepath.Join(t.TempDir(), "data")
	for _, want := range []uint64{3, 0} {
		r := edged(t, repository, "", "run", "pipelines/keyed.hcl", "--until-drained", "--json", "--data-dir", dir)
		r.wantCode(t, exitOK)
		sum := summaryOf(t, r.stdout)
		if sum.ThisRun.Collected != want || sum.Collected != 3 || sum.DeadLetters != 0 || sum.Waiting != 0 {
			t.Errorf("%+v, want %d collected in this run", sum, want)
		}
	}
}
