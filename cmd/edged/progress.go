package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/store"
)

// How often the progress of a run is looked at and told. A piped run speaks
// seldom after its first minute, so that the journal of a service that runs
// for months stays short.
const (
	redrawEvery = 200 * time.Millisecond
	firstLines  = 5 * time.Second
	laterLines  = time.Minute
	rateWindow  = 2 * time.Second
)

// progress shows a run while it goes on: a block on a terminal, lines
// elsewhere.
type progress struct {
	screen *screen
	status func() engine.Status

	rate  meter
	lines cadence
}

// run shows the status at every tick, until stop is closed; then it takes the
// block away.
func (p *progress) run(ticks <-chan time.Time, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			if p.screen.live {
				p.screen.draw(nil)
			}
			return
		case <-ticks:
			p.show(p.status())
		}
	}
}

func (p *progress) show(st engine.Status) {
	perSecond := p.rate.add(st.Time, st.ThisRun.Stored)
	if p.screen.live {
		p.screen.draw(statusBlock(st, perSecond))
	} else if p.lines.due(st) {
		fmt.Fprintln(p.screen, progressLine(st, perSecond))
	}
}

// statusBlock is what a terminal shows: the counts, and a line per remote. It
// fits a narrow terminal, and its numbers do not jump about.
func statusBlock(st engine.Status, perSecond float64) []string {
	var numbers, remotes table
	numbers.add("  collected", number(st.Totals.Collected), "  waiting", number(st.Waiting))
	numbers.add("  stored", number(st.Totals.Stored), "  synced", number(st.Totals.SyncedRecords))
	numbers.add("  alerts", number(st.Totals.Messages), "  records/s", rounded(perSecond))
	for _, r := range st.Remotes {
		state := r.State + " for " + age(st.Time, r.Since)
		if r.State != "online" && r.LastError != "" {
			state += ": " + oneLine(r.LastError)
		}
		remotes.add("  "+r.Kind+" "+r.Name, state)
	}
	text := fmt.Sprintf("edge %s, running %s\n%s%s", st.DeviceID, age(st.Time, st.Started), &numbers, &remotes)
	if st.Storage.Full {
		text += fmt.Sprintf("  the local store is full (%s): sources wait\n", bytesize(st.Storage.MaxBytes))
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// progressLine is what a pipe or a journal gets.
func progressLine(st engine.Status, perSecond float64) string {
	line := fmt.Sprintf("collected %s, stored %s, alerts %s, waiting %s, synced %s, %s records/s",
		number(st.Totals.Collected), number(st.Totals.Stored), number(st.Totals.Messages),
		number(st.Waiting), number(st.Totals.SyncedRecords), rounded(perSecond))
	for _, r := range st.Remotes {
		line += "; " + r.Name + " " + r.State
	}
	return line
}

func rounded(perSecond float64) string { return number(uint64(perSecond + 0.5)) }

// oneLine keeps a foreign error text from breaking the block.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// tellEvery is how often work that is asked for on a command line says how far it
// is.
var tellEvery = firstLines

// teller says how far work is, on standard error, when it takes long.
type teller struct {
	out  io.Writer
	last time.Time
}

func newTeller(cmd *cobra.Command) *teller {
	return &teller{out: cmd.ErrOrStderr(), last: time.Now()}
}

func (t *teller) say(format string, args ...any) {
	if now := time.Now(); now.Sub(t.last) >= tellEvery {
		t.last = now
		fmt.Fprintf(t.out, format+"\n", args...)
	}
}

// tellRead says how much of a log was read. A message of a log is a dead letter,
// or the records of one commit.
func tellRead(cmd *cobra.Command) store.Progress {
	tell := newTeller(cmd)
	return func(read, all uint64) {
		tell.say("%s of %s read so far", number(read), plural(all, "message"))
	}
}

// meter computes a rate over the last [rateWindow].
type meter struct {
	samples []sample
}

type sample struct {
	at time.Time
	n  uint64
}

// add notes that the count was n at that time, and returns the rate per second.
func (m *meter) add(at time.Time, n uint64) float64 {
	m.samples = append(m.samples, sample{at, n})
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	if seconds := at.Sub(first.at).Seconds(); seconds > 0 && n > first.n {
		return float64(n-first.n) / seconds
	}
	return 0
}

// cadence decides when a run that is not on a terminal prints a line: every
// few seconds in the first minute, every minute later, only when something
// changed; and at once when a link changes.
type cadence struct {
	started time.Time
	last    time.Time
	totals  engine.Counts
	links   string
}

func (c *cadence) due(st engine.Status) bool {
	var links strings.Builder
	for _, r := range st.Remotes {
		links.WriteString(r.Name + "=" + r.State + " ")
	}
	if c.started.IsZero() {
		c.started, c.last, c.links = st.Time, st.Time, links.String()
		return false
	}
	every := firstLines
	if st.Time.Sub(c.started) > time.Minute {
		every = laterLines
	}
	changed := links.String() != c.links
	if !changed && (st.Time.Sub(c.last) < every || st.Totals == c.totals) {
		return false
	}
	c.last, c.totals, c.links = st.Time, st.Totals, links.String()
	return true
}
