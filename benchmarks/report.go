package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Report is the raw result of one run, as it is kept in results/.
type Report struct {
	Time      time.Time  `json:"time"`
	Commit    string     `json:"commit"`
	Modified  bool       `json:"modified"` // the working tree had changes beside the commit
	Quick     bool       `json:"quick"`    // a smoke run: its figures mean nothing
	Rounds    int        `json:"rounds"`
	Machine   Machine    `json:"machine"`
	Data      dataSet    `json:"data"`
	Backlog   int        `json:"backlog"` // records
	Workloads []Workload `json:"workloads"`
}

// Workload is one group of things measured beside each other.
type Workload struct {
	Name        string       `json:"name"`
	Series      []Series     `json:"series"`
	Comparisons []Comparison `json:"comparisons"`
}

// Summary orders samples.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func summarize(samples []float64) Summary {
	s := slices.Clone(samples)
	slices.Sort(s)
	n := len(s)
	return Summary{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

// Series is one arm's samples, one a round.
type Series struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	// CPU is the processor time of the arm's process in microseconds a record,
	// reading the input and counting at the end included. It varies less than
	// the rate on a busy machine.
	CPU []float64 `json:"cpu_us_per_record,omitempty"`
	Summary
}

// Comparison holds a figure to its goal. A ratio is taken between two arms of
// the same round, so that what slows a round slows both.
type Comparison struct {
	What    string    `json:"what"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	Summary
	Floor   float64 `json:"floor,omitempty"` // 0: none
	Reach   float64 `json:"reach,omitempty"`
	Less    bool    `json:"less_is_better"`
	Verdict string  `json:"verdict"`
}

// The verdicts.
const (
	reached = "reach"
	held    = "floor"
	missed  = "MISSED"
	noGoal  = ""
	control = "control"
)

// goal is what a figure is held to.
type goal struct {
	floor, reach float64
	less         bool
}

func (g goal) verdict(v float64) string {
	better := func(bound float64) bool { return v >= bound != g.less || v == bound }
	switch {
	case g.floor == 0:
		return noGoal
	case better(g.reach):
		return reached
	case better(g.floor):
		return held
	}
	return missed
}

// figure compares samples to their goal.
func figure(what, unit string, samples []float64, g goal) Comparison {
	c := Comparison{What: what, Unit: unit, Samples: samples, Summary: summarize(samples), Floor: g.floor, Reach: g.reach, Less: g.less}
	c.Verdict = g.verdict(c.Median)
	return c
}

// ratio compares two arms round by round.
func ratio(what string, of, against Series, g goal) Comparison {
	samples := make([]float64, len(of.Samples))
	for i := range samples {
		samples[i] = of.Samples[i] / against.Samples[i]
	}
	return figure(what, "x", samples, g)
}

// measure takes one sample.
type measure struct {
	name, unit string
	take       func() (sample, cpu float64, err error)
}

// alternate takes a sample of each arm in every round, in turned order in every
// other one.
func alternate(progress io.Writer, rounds int, arms []measure) ([]Series, error) {
	series := make([]Series, len(arms))
	for i, a := range arms {
		series[i] = Series{Name: a.name, Unit: a.unit}
	}
	for round := range rounds {
		for k := range arms {
			i := k
			if round%2 == 1 {
				i = len(arms) - 1 - k
			}
			sample, cpu, err := arms[i].take()
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", arms[i].name, round+1, err)
			}
			series[i].Samples = append(series[i].Samples, sample)
			if cpu > 0 {
				series[i].CPU = append(series[i].CPU, cpu)
			}
			fmt.Fprintf(progress, "  %d/%d %-40s %s %s\n", round+1, rounds, arms[i].name, digits(sample), arms[i].unit)
		}
	}
	for i := range series {
		series[i].Summary = summarize(series[i].Samples)
	}
	return series, nil
}

// digits writes v with three significant digits, and whole from 100 on.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10000:
		return fmt.Sprintf("%.0fk", v/1000)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Markdown writes the report as tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	m := r.Machine
	if r.Quick {
		b.WriteString("**A smoke run: these figures mean nothing.**\n\n")
	}
	changed := ""
	if r.Modified {
		changed = " (with changes)"
	}
	fmt.Fprintf(&b, "Commit `%s`%s, %s. %s, %d CPUs, %s, %s, %s; an fsync of 4 KiB takes %s µs (p99 %s µs). %d rounds; %d records of %d bytes; load average %s before, %s after.\n\n",
		r.Commit, changed, r.Time.UTC().Format("2006-01-02 15:04 UTC"), m.CPU, m.CPUs, m.Memory, m.OS, m.Go,
		digits(m.FsyncMedian), digits(m.FsyncP99), r.Rounds, r.Data.Records, r.Data.Bytes/int64(max(1, r.Data.Records)), m.LoadBefore, m.LoadAfter)
	b.WriteString("| figure | median | min – max | floor | reach | |\n|---|---|---|---|---|---|\n")
	for _, w := range r.Workloads {
		for _, c := range w.Comparisons {
			bound := func(v float64) string {
				if c.Floor == 0 {
					return ""
				}
				return digits(v) + " " + c.Unit
			}
			fmt.Fprintf(&b, "| %s | %s %s | %s – %s | %s | %s | %s |\n", c.What, digits(c.Median), c.Unit, digits(c.Min), digits(c.Max),
				bound(c.Floor), bound(c.Reach), cmp.Or(c.Verdict, "–"))
		}
	}
	if below := r.Missed(); len(below) > 0 {
		fmt.Fprintf(&b, "\nBelow the floor: %s.\n", strings.Join(below, "; "))
	} else {
		b.WriteString("\nNothing is below its floor.\n")
	}
	b.WriteString("\n| measured | unit | median | min – max | CPU µs a record |\n|---|---|---|---|---|\n")
	for _, w := range r.Workloads {
		for _, s := range w.Series {
			cpu := ""
			if len(s.CPU) > 0 {
				cpu = digits(summarize(s.CPU).Median)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s – %s | %s |\n", s.Name, s.Unit, digits(s.Median), digits(s.Min), digits(s.Max), cpu)
		}
	}
	return b.String()
}

// Missed lists the figures below their floor.
func (r *Report) Missed() (what []string) {
	for _, w := range r.Workloads {
		for _, c := range w.Comparisons {
			if c.Verdict == missed {
				what = append(what, c.What)
			}
		}
	}
	return what
}
