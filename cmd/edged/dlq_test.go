package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
)

// The rows that an edge of these tests reads: three records (two of them hot),
// two rows that the source cannot read, two that the plugin refuses.
const (
	badNumber = "3,hot,50"
	tooShort  = "4,\x1b[2J"
	rows      = "n,t,h\n1,20,50\n2,30,50\n" + badNumber + "\n" + tooShort + "\n5,20,500\n6,31,60\n7,20,0\n"
)

// writeOpsPipeline makes a folder with the rows and a pipeline that cannot reach
// its hub. onError is of its transform.
func writeOpsPipeline(t *testing.T, onError string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in.csv"), rows)
	writeOpsFile(t, dir, onError)
	return dir
}

func writeOpsFile(t *testing.T, dir, onError string) {
	t.Helper()
	writeFile(t, filepath.Join(dir, "p.hcl"), fmt.Sprintf(`
edge {
  device_id = "d"
}
remote "nats" "hub" {
  urls = ["nats-leaf://127.0.0.1:1"]
}
plugin "dew_point" {
  module = "builtin:dew_point"
}
pipeline "p" {
  collect "file" "rows" {
    path      = "in.csv"
    format    = "csv"
    columns   = { n = "number", t = "number", h = "number" }
    id        = "r-${input.n}"
    device_id = "x"
    data_type = "reading"
    payload   = { temperature = input.t, humidity = input.h, n = input.n }
  }
  transform "dew_point" {
    plugin   = plugin.dew_point
    on_error = %q
  }
  alert "hot" {
    when     = record.payload.temperature > 25
    topic    = "alerts"
    priority = "high"
    message  = { n = record.payload.n }
  }
  sync {
    to = remote.nats.hub
  }
}
`, onError))
}

// launchOps runs the edge in dir until it has stored so many records and
// everything else is where it belongs.
func launchOps(t *testing.T, dir string, stored uint64) *process {
	t.Helper()
	p := launch(t, dir, "run", "p.hcl", "--no-progress")
	eventually(t, "the edge has read everything", func() bool {
		if !p.running() {
			t.Fatalf("the edge ended: %v\n%s", p.err, p.stderr.String())
		}
		s, ok := statusOf(filepath.Join(dir, "data"))
		return ok && s.Totals.Stored == stored && s.Queue.Waiting == 2 && s.Totals.DeadLetters == 4
	})
	return p
}

// relaunchOps runs the edge in dir until it answers.
func relaunchOps(t *testing.T, dir string) *process {
	t.Helper()
	p := launch(t, dir, "run", "p.hcl", "--no-progress")
	eventually(t, "the edge answers", func() bool { _, ok := statusOf(filepath.Join(dir, "data")); return ok })
	return p
}

// listDeadLetters asks `edged dlq ls --json`.
func listDeadLetters(t *testing.T, dir string, args ...string) []buriedJSON {
	t.Helper()
	r := edged(t, dir, "", append([]string{"dlq", "ls", "p.hcl", "--json"}, args...)...)
	r.wantCode(t, exitOK)
	return ndjson[buriedJSON](t, r.stdout)
}

// waitForDeadLetters waits until so many have reached their log.
func waitForDeadLetters(t *testing.T, dir string, n int) []buriedJSON {
	t.Helper()
	var letters []buriedJSON
	eventually(t, fmt.Sprintf("there are %d dead letters", n), func() bool {
		letters = listDeadLetters(t, dir)
		return len(letters) == n
	})
	return letters
}

func ndjson[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(text) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, v)
	}
	return all
}

func stagesOf(letters []buriedJSON) []string {
	var stages []string
	for _, b := range letters {
		stages = append(stages, b.Stage)
	}
	return stages
}

// TestDeadLettersAreSeen holds that what could not go on (I6) is listed, shown
// and exported byte for byte, whether the edge runs or not.
func TestDeadLettersAreSeen(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	look := func(t *testing.T) {
		letters := waitForDeadLetters(t, dir, 4)
		want := []string{"collect.rows", "collect.rows", "transform.dew_point", "transform.dew_point"}
		if diff := cmp.Diff(want, stagesOf(letters)); diff != "" {
			t.Errorf("stages (-want +got):\n%s", diff)
		}
		for name, c := range map[string]struct {
			args []string
			want []uint64
		}{
			"newest":             {[]string{"--limit", "3"}, []uint64{2, 3, 4}},
			"kind of stage":      {[]string{"--stage", "transform"}, []uint64{3, 4}},
			"stage":              {[]string{"--stage", "collect.rows"}, []uint64{1, 2}},
			"beginning of stage": {[]string{"--stage", "collect.row"}, nil},
			"error":              {[]string{"--contains", "is 500"}, []uint64{3}},
			"bytes":              {[]string{"--contains", "3,hot"}, []uint64{1}},
			"detail":             {[]string{"--contains", "r-7"}, []uint64{4}},
			"pipeline":           {[]string{"--pipeline", "q"}, nil},
			"since":              {[]string{"--since", "1h", "--pipeline", "p"}, []uint64{1, 2, 3, 4}},
			"since then":         {[]string{"--since", "2999-01-01"}, nil},
		} {
			var numbers []uint64
			for _, b := range listDeadLetters(t, dir, c.args...) {
				numbers = append(numbers, b.Number)
			}
			if diff := cmp.Diff(c.want, numbers); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}

		text := edged(t, dir, "", "dlq", "ls", "p.hcl")
		text.wantCode(t, exitOK)
		for _, b := range letters {
			if !strings.Contains(text.stdout, b.ID[:shortID]+"  ") || !strings.Contains(text.stdout, b.Error) {
				t.Errorf("the table has not %s, %s:\n%s", b.ID, b.Error, text.stdout)
			}
		}

		shown := edged(t, dir, "", "dlq", "show", letters[0].ID[:shortID], "p.hcl")
		shown.wantCode(t, exitOK)
		for _, want := range []string{letters[0].ID, letters[0].Error, "\n  line    4\n", "8 bytes:\n" + badNumber + "\n"} {
			if !strings.Contains(shown.stdout, want) {
				t.Errorf("show has no %q:\n%s", want, shown.stdout)
			}
		}
		// What would clear the operator's terminal is shown in base64.
		shown = edged(t, dir, "", "dlq", "show", letters[1].ID, "p.hcl")
		shown.wantCode(t, exitOK)
		if strings.Contains(shown.stdout, "\x1b") || !strings.Contains(shown.stdout, "6 bytes, in base64:\nNCwbWzJK\n") {
			t.Errorf("show: %q", shown.stdout)
		}
		for i, want := range []string{badNumber, tooShort} {
			raw := edged(t, dir, "", "dlq", "show", letters[i].ID, "p.hcl", "--raw")
			raw.wantCode(t, exitOK)
			if raw.stdout != want {
				t.Errorf("raw is %q, want %q", raw.stdout, want)
			}
		}
		whole := edged(t, dir, "", "dlq", "show", letters[1].ID, "p.hcl", "--json")
		whole.wantCode(t, exitOK)

		edged(t, dir, "", "dlq", "export", "p.hcl", "-o", "letters.ndjson").wantCode(t, exitOK)
		exported := ndjson[record.DeadLetter](t, readFile(t, filepath.Join(dir, "letters.ndjson")))
		if len(exported) != 4 || string(exported[0].Raw) != badNumber || string(exported[1].Raw) != tooShort {
			t.Errorf("exported: %+v", exported)
		}
		for i := range exported[2:] {
			if r, err := record.Parse(exported[2+i].Raw); err != nil || r.DeviceID != "x" {
				t.Errorf("the bytes of a refused record are %q: %v", exported[2+i].Raw, err)
			}
		}
		if line := strings.Split(readFile(t, filepath.Join(dir, "letters.ndjson")), "\n")[1] + "\n"; line != whole.stdout {
			t.Errorf("exported %q, shown %q", line, whole.stdout)
		}

		none := edged(t, dir, "", "dlq", "show", "0000000000000000", "p.hcl")
		none.wantCode(t, exitRuntime)
		if !strings.Contains(none.stderr, "none has the ID") {
			t.Errorf("stderr: %q", none.stderr)
		}
	}
	t.Run("running", look)
	edge.kill()
	t.Run("killed", look)
	if _, err := os.Stat(filepath.Join(dir, "data", "control.sock")); err != nil {
		t.Errorf("the killed edge's socket should be left: %v", err)
	}
}

// TestDeadLettersAreDropped holds that exactly those go that were named, that
// they stay away after kills, and that the next ones get numbers of their own.
func TestDeadLettersAreDropped(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	letters := waitForDeadLetters(t, dir, 4)

	for name, args := range map[string][]string{
		"nothing named":     {"dlq", "drop", "p.hcl"},
		"two ways":          {"dlq", "drop", "p.hcl", "--all", "--stage", "collect"},
		"all without yes":   {"dlq", "drop", "p.hcl", "--all"},
		"stage without yes": {"dlq", "drop", "p.hcl", "--stage", "transform"},
		"one unknown ID":    {"dlq", "drop", "p.hcl", letters[0].ID, "00000000"},
	} {
		r := edged(t, dir, "", args...)
		if r.code == exitOK {
			t.Errorf("%s: was done: %s", name, r.stdout)
		}
		if name == "stage without yes" && !strings.Contains(r.stderr, "2 dead letters would be removed for good; add --yes") {
			t.Errorf("stderr: %q", r.stderr)
		}
	}
	if diff := cmp.Diff(letters, listDeadLetters(t, dir)); diff != "" {
		t.Fatalf("a refused drop has changed something (-before +after):\n%s", diff)
	}

	// The newest, while the edge runs; then it is killed.
	r := edged(t, dir, "", "dlq", "drop", letters[3].ID[:shortID], "p.hcl")
	r.wantCode(t, exitOK)
	if r.stdout != "1 dead letter dropped.\n" {
		t.Errorf("stdout: %q", r.stdout)
	}
	if diff := cmp.Diff(letters[:3], listDeadLetters(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	edge.kill()
	if diff := cmp.Diff(letters[:3], listDeadLetters(t, dir)); diff != "" {
		t.Errorf("after a kill (-want +got):\n%s", diff)
	}

	// One in the middle, while none runs.
	edged(t, dir, "", "dlq", "drop", letters[1].ID, "p.hcl").wantCode(t, exitOK)
	want := []buriedJSON{letters[0], letters[2]}
	if diff := cmp.Diff(want, listDeadLetters(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// What comes next is numbered behind what was dropped.
	f, err := os.OpenFile(filepath.Join(dir, "in.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("8,20,700\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	edge = relaunchOps(t, dir)
	again := waitForDeadLetters(t, dir, 3)
	if diff := cmp.Diff(want, again[:2]); diff != "" || again[2].Number != 5 {
		t.Errorf("the new one has number %d, want 5 (-want +got):\n%s", again[2].Number, diff)
	}
	edge.stop(os.Interrupt)

	verify := edged(t, dir, "", "store", "verify", "p.hcl", "--json")
	verify.wantCode(t, exitOK)
	var v engine.Verification
	if err := json.Unmarshal([]byte(verify.stdout), &v); err != nil {
		t.Fatal(err)
	}
	if lane := v.Logs[2].Lanes[0]; lane.Last != 5 || lane.Count != 3 || !slices.Equal(lane.Removed, [][2]uint64{{2, 2}, {4, 4}}) {
		t.Errorf("verify says %+v", lane)
	}

	all := edged(t, dir, "", "dlq", "drop", "p.hcl", "--all", "--yes")
	if all.wantCode(t, exitOK); all.stdout != "3 dead letters dropped.\n" {
		t.Errorf("stdout: %q", all.stdout)
	}
	if left := listDeadLetters(t, dir); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	empty := edged(t, dir, "", "dlq", "ls", "p.hcl")
	if empty.wantCode(t, exitOK); empty.stdout != "No dead letters.\n" {
		t.Errorf("stdout: %q", empty.stdout)
	}
}

// TestDeadLettersAreRetried holds that a record whose transform was mended goes
// on and is a dead letter no more, and that nothing else is touched.
func TestDeadLettersAreRetried(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	letters := waitForDeadLetters(t, dir, 4)

	// Nothing is mended: they fail again, and are there again.
	r := edged(t, dir, "", "dlq", "retry", "p.hcl", "--stage", "transform", "--json")
	r.wantCode(t, exitRuntime)
	var done engine.Retried
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || done.Failed != 2 || done.Again != 0 || done.Refused != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	anew := waitForDeadLetters(t, dir, 4)
	if anew[2].ID != letters[2].ID || anew[3].ID != letters[3].ID || anew[3].Number != 6 {
		t.Errorf("they should be the same and stored anew: %+v", anew)
	}
	edge.stop(os.Interrupt)

	stopped := edged(t, dir, "", "dlq", "retry", "p.hcl", "--all")
	stopped.wantCode(t, exitNoEdge)

	// Mended: the transform lets them pass.
	writeOpsFile(t, dir, "pass")
	edge = relaunchOps(t, dir)
	r = edged(t, dir, "", "dlq", "retry", "p.hcl", "--all")
	r.wantCode(t, exitRuntime)
	for _, want := range []string{"2 dead letters sent again.\n", "2 dead letters left alone: collect.rows could not read it"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("stdout has no %q: %s", want, r.stdout)
		}
	}
	if left := listDeadLetters(t, dir); !slices.Equal(stagesOf(left), []string{"collect.rows", "collect.rows"}) {
		t.Errorf("left: %+v", left)
	}
	all := edged(t, dir, "", "dlq", "drop", "p.hcl", "--all", "--yes")
	if all.wantCode(t, exitOK); all.stdout != "2 dead letters dropped.\n" {
		t.Errorf("stdout: %q", all.stdout)
	}
	edge.kill() // what was removed was durable before
	if left := listDeadLetters(t, dir); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}

	export := edged(t, dir, "", "store", "export", "p.hcl", "--from", "4")
	export.wantCode(t, exitOK)
	var ids []string
	for _, s := range ndjson[storedJSON](t, export.stdout) {
		parsed, err := record.Parse(s.Record)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parsed.ID)
	}
	if diff := cmp.Diff([]string{"r-5", "r-7"}, ids); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// TestQueueIsSeen holds that what waits for the link is shown, with a running
// edge and without.
func TestQueueIsSeen(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	look := func(t *testing.T) {
		for name, c := range map[string]struct {
			args []string
			want []string
		}{
			"all":            {nil, []string{`{"n":2}`, `{"n":6}`}},
			"limit":          {[]string{"--limit", "1"}, []string{`{"n":2}`}},
			"priority":       {[]string{"--priority", "high", "--topic", "alerts"}, []string{`{"n":2}`, `{"n":6}`}},
			"other priority": {[]string{"--priority", "critical"}, nil},
			"other topic":    {[]string{"--topic", "alert"}, nil},
		} {
			r := edged(t, dir, "", append([]string{"queue", "ls", "p.hcl", "--json"}, c.args...)...)
			r.wantCode(t, exitOK)
			var bodies []string
			for _, m := range ndjson[queue.Waiting](t, r.stdout) {
				bodies = append(bodies, string(m.Body))
			}
			if diff := cmp.Diff(c.want, bodies); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		r := edged(t, dir, "", "queue", "stats", "p.hcl", "--json")
		r.wantCode(t, exitOK)
		var stats queue.Stats
		if err := json.Unmarshal([]byte(r.stdout), &stats); err != nil {
			t.Fatal(err)
		}
		if stats.Waiting != 2 || len(stats.Topics) != 1 || stats.Topics[0].Topic != "alerts" || stats.Topics[0].Priority != record.High || stats.Oldest.IsZero() {
			t.Errorf("stats %+v", stats)
		}
		for topic, want := range map[string]string{"alerts": "2 messages wait", "alert": "No messages wait"} {
			r := edged(t, dir, "", "queue", "stats", "p.hcl", "--topic", topic)
			if r.wantCode(t, exitOK); !strings.Contains(r.stdout, want) {
				t.Errorf("topic %s: %s", topic, r.stdout)
			}
		}
		lookAtOne(t, dir)
		text := edged(t, dir, "", "queue", "stats", "p.hcl")
		if text.wantCode(t, exitOK); !strings.Contains(text.stdout, "2 messages wait for the link") {
			t.Errorf("stdout: %s", text.stdout)
		}
	}
	t.Run("running", look)
	edge.stop(os.Interrupt)
	t.Run("stopped", look)
	wrong := edged(t, dir, "", "queue", "ls", "p.hcl", "--priority", "urgent")
	if wrong.wantCode(t, exitUsage); !strings.Contains(wrong.stderr, "critical, high, normal or low") {
		t.Errorf("stderr: %q", wrong.stderr)
	}
}

// lookAtOne holds what `queue peek` shows of the two messages that wait.
func lookAtOne(t *testing.T, dir string) {
	t.Helper()
	next := edged(t, dir, "", "queue", "peek", "p.hcl")
	next.wantCode(t, exitOK)
	for _, want := range []string{"topic alerts", "priority high", "number 1", `{ "n": 2 }`} {
		if !strings.Contains(squeezed(next.stdout), want) {
			t.Errorf("stdout has no %q: %s", want, next.stdout)
		}
	}
	if strings.Contains(next.stdout, `"n": 6`) {
		t.Errorf("it shows more than the next: %s", next.stdout)
	}
	both := ndjson[queue.Waiting](t, edged(t, dir, "", "queue", "peek", "p.hcl", "--limit", "0", "--json").stdout)
	if len(both) != 2 {
		t.Fatalf("it shows %+v", both)
	}
	// Only an edge that runs knows why it waits.
	if d := both[0].Deliveries; strings.HasSuffix(t.Name(), "running") != (len(d) == 1 && d[0].Remote == "hub" && d[0].LastError != "") {
		t.Errorf("of its delivery it says %+v", d)
	}
	second := edged(t, dir, "", "queue", "peek", both[1].ID[:10], "p.hcl", "--json")
	second.wantCode(t, exitOK)
	if got := ndjson[queue.Waiting](t, second.stdout); len(got) != 1 || string(got[0].Body) != `{"n":6}` {
		t.Errorf("it shows %+v", got)
	}
	gone := edged(t, dir, "", "queue", "peek", "0123456789", "p.hcl")
	if gone.wantCode(t, exitRuntime); !strings.Contains(gone.stderr, "no message with the ID 0123456789 waits") {
		t.Errorf("stderr: %q", gone.stderr)
	}
}

// squeezed is text with single spaces, as a table's columns may be of any width.
func squeezed(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestNoStoreIsMade holds that looking never makes a store.
func TestNoStoreIsMade(t *testing.T) {
	for _, args := range [][]string{
		{"dlq", "ls"},
		{"dlq", "export"},
		{"dlq", "show", "abcd"},
		{"queue", "ls"},
		{"queue", "stats"},
		{"queue", "peek"},
		{"dlq", "drop", "--all", "--yes"},
		{"dlq", "retry", "--all"},
		{"store", "verify"},
		{"store", "export"},
	} {
		dir := t.TempDir()
		r := edged(t, dir, "", append(args, "--data-dir", "data")...)
		r.wantCode(t, exitNoEdge)
		if r.stdout != "" || !strings.Contains(r.stderr, `"data"`) {
			t.Errorf("%v: stdout %q, stderr %q", args, r.stdout, r.stderr)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%v left something behind: %v %v", args, entries, err)
		}
	}
}
