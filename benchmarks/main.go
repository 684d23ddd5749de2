// Command benchmarks measures edged and, in the same run, what its figures are
// held against. README.md tells the method.
//
//	go run . --out results/<date>-<commit>.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if len(os.Args) == 4 && os.Args[1] == "arm" {
		err = runArm(ctx, os.Args[2], os.Args[3])
	} else {
		err = execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	out, only, work, profiles, show string
	quick                           bool
	rounds, records, backlog        int
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.out, "out", "", "write the raw results to this `file`; a folder gets <date>-<commit>.json")
	flags.StringVar(&o.only, "only", "", "measure only these `workloads`, separated by commas")
	flags.StringVar(&o.work, "work", "work", "`folder` for scratch, on the disk to be measured")
	flags.StringVar(&o.profiles, "profiles", "", "make CPU and allocation profiles of every arm in this `folder`")
	flags.StringVar(&o.show, "show", "", "measure nothing; print the tables of this `file` of raw results")
	flags.BoolVar(&o.quick, "quick", false, "a smoke run in seconds: everything works, the figures mean nothing")
	flags.IntVar(&o.rounds, "rounds", 3, "samples of each arm")
	flags.IntVar(&o.records, "records", 500_000, "records through the pipeline")
	flags.IntVar(&o.backlog, "backlog", 200_000, "records that wait for the hub")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.rounds < 1 || o.records < 1 || o.backlog < 1 {
		return o, errors.New("--rounds, --records and --backlog must be at least 1")
	}
	for name := range strings.SplitSeq(o.only, ",") {
		known := name == ""
		for _, w := range workloads() {
			known = known || w.name == name
		}
		if !known {
			return o, fmt.Errorf("there is no workload %q", name)
		}
	}
	return o, nil
}

// execute runs the benchmarks and prints the report.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.show != "" {
		report, err := readReport(o.show)
		if err != nil {
			return err
		}
		_, err = io.WriteString(stdout, report.Markdown())
		return err
	}
	b := &bench{progress: stderr, rounds: o.rounds, sqlite: 5000, micro: 200_000, settle: 5 * time.Second}
	if o.quick {
		b.rounds, b.sqlite, b.micro, b.settle = 1, 200, 2000, 0
		o.records, o.backlog = 10_000, 5_000
	}
	report := &Report{Time: time.Now(), Quick: o.quick, Rounds: b.rounds, Backlog: o.backlog}
	report.Commit, report.Modified = commit(ctx)
	if err := b.prepare(ctx, o, report); err != nil {
		return err
	}
	var only []string
	if o.only != "" {
		only = strings.Split(o.only, ",")
	}
	if report.Workloads, err = b.run(ctx, only); err != nil {
		return err
	}
	report.Machine.LoadAfter = loadAverage()
	if _, err := io.WriteString(stdout, report.Markdown()); err != nil {
		return err
	}
	return report.write(o.out, "README.md")
}

// prepare makes the input, the binary and the description of the machine.
func (b *bench) prepare(ctx context.Context, o options, report *Report) (err error) {
	if b.work, err = filepath.Abs(o.work); err != nil {
		return err
	}
	if err := os.MkdirAll(b.work, 0o750); err != nil {
		return err
	}
	if o.profiles != "" {
		if b.profiles, err = filepath.Abs(o.profiles); err != nil {
			return err
		}
	}
	if report.Machine, err = describeMachine(b.work); err != nil {
		return err
	}
	if b.binary, err = buildEdged(ctx, b.work); err != nil {
		return err
	}
	if b.data, err = writeData(filepath.Join(b.work, "records.ndjson"), o.records); err != nil {
		return err
	}
	b.backlog, err = writeData(filepath.Join(b.work, "backlog.ndjson"), o.backlog)
	report.Data = b.data
	return err
}

func readReport(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reading results: %s: %w", path, err)
	}
	return &r, nil
}

// Between these lines the README shows the latest results.
const (
	resultsBegin = "<!-- results: `make bench` writes them -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

// write keeps the raw results. A folder as out gets a name of time and commit,
// and the readme then shows them.
func (r *Report) write(out, readme string) error {
	if out == "" {
		return nil
	}
	if info, err := os.Stat(out); err == nil && info.IsDir() {
		out = filepath.Join(out, r.Time.UTC().Format("2006-01-02-1504")+"-"+r.Commit+".json")
		if err := r.show(readme); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644) //nolint:gosec // results are for everyone
}

// show puts the tables into the readme.
func (r *Report) show(readme string) error {
	text, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("showing the results: %w", err)
	}
	before, rest, begins := strings.Cut(string(text), resultsBegin)
	_, after, ends := strings.Cut(rest, resultsEnd)
	if !begins || !ends {
		return fmt.Errorf("showing the results: %s has no place for them", readme)
	}
	return os.WriteFile(readme, []byte(before+resultsBegin+"\n"+r.Markdown()+"\n"+resultsEnd+after), 0o644) //nolint:gosec // for everyone
}
