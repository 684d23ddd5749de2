package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the process that an arm runs in.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "arm" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestQuick runs every workload once, small. Each counts what arrived, so this
// fails when one no longer does what it is said to measure.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	args := []string{"--quick", "--work", filepath.Join(dir, "work"), "--out", filepath.Join(dir, "out.json")}
	if err := execute(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	r, err := readReport(filepath.Join(dir, "out.json"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range r.Workloads {
		names = append(names, w.Name)
		if len(w.Comparisons) == 0 {
			t.Errorf("%s compares nothing", w.Name)
		}
		for _, s := range w.Series {
			if s.Min <= 0 || len(s.Samples) == 0 {
				t.Errorf("%s: %s has the samples %v", w.Name, s.Name, s.Samples)
			}
		}
	}
	for _, w := range workloads() {
		if !slices.Contains(names, w.name) {
			t.Errorf("%s did not run; there are %v", w.name, names)
		}
	}
	if stdout.String() != r.Markdown() {
		t.Error("the tables of the raw results are not those that were printed")
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	var files [2][]byte
	for i := range files {
		path := filepath.Join(t.TempDir(), "records.ndjson")
		d, err := writeData(path, 3000)
		if err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if size := len(files[i]) / 3000; size < 240 || size > 270 || d.Bytes != int64(len(files[i])) {
			t.Errorf("%d bytes a record, %d of %d in all", size, d.Bytes, len(files[i]))
		}
		if d.Alerts == 0 || d.Alerts > 60 {
			t.Errorf("%d alerts in 3000 records", d.Alerts)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two files of one seed differ")
	}
}

func TestVerdict(t *testing.T) {
	more, less := goal{floor: 0.5, reach: 0.9}, goal{floor: 300, reach: 100, less: true}
	for _, c := range []struct {
		goal goal
		v    float64
		want string
	}{
		{more, 0.95, reached},
		{more, 0.9, reached},
		{more, 0.89, held},
		{more, 0.5, held},
		{more, 0.49, missed},
		{less, 99, reached},
		{less, 100, reached},
		{less, 101, held},
		{less, 300, held},
		{less, 301, missed},
		{goal{}, 1, noGoal},
	} {
		if got := c.goal.verdict(c.v); got != c.want {
			t.Errorf("%v against %+v is %q, want %q", c.v, c.goal, got, c.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Summary
	}{
		{[]float64{3, 1, 2}, Summary{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, Summary{2.5, 1, 4}},
		{[]float64{7}, Summary{7, 7, 7}},
	} {
		if got := summarize(c.samples); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.samples, got, c.want)
		}
	}
}

func TestShowReplacesWhatWasThere(t *testing.T) {
	readme := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+resultsBegin+"old\n"+resultsEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &Report{Commit: "abc"}
	for range 2 {
		if err := r.show(readme); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + resultsBegin + "\n" + r.Markdown() + "\n" + resultsEnd + "after\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(readme, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.show(readme); err == nil {
		t.Error("results were shown where there is no place for them")
	}
}

// TestReadmeShowsTheLatestResults holds the README to the raw results.
func TestReadmeShowsTheLatestResults(t *testing.T) {
	files, err := filepath.Glob("results/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no results: %v", err)
	}
	r, err := readReport(slices.Max(files))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), r.Markdown()) {
		t.Errorf("README.md does not show %s; `make bench` writes both, `go run . --show %s` prints the tables", slices.Max(files), slices.Max(files))
	}
}
