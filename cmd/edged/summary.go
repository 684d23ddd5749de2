package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/edged/edged/engine"
)

// summaryText is what `edged run` prints at its end for people.
func summaryText(s engine.Summary) string {
	t := table{head: []string{"", "this run", "in all"}}
	for _, row := range countRows(s.ThisRun, s.Counts) {
		t.add(row.name, number(row.run), number(row.totals))
	}
	t.add("waiting", "", number(s.Waiting))
	if s.Audited {
		t.add("gaps at the hub", "", number(s.Gaps))
		t.add("duplicates at the hub", "", number(s.Duplicates))
	}
	return t.String() + "\n" + strings.Join(conclusion(s), "\n") + "\n"
}

// countRow is one line of the table of counts.
type countRow struct {
	name        string
	run, totals uint64
}

// countRows names the counts, in the order of a record's way.
func countRows(run, totals engine.Counts) []countRow {
	rows := []countRow{
		{"collected", run.Collected, totals.Collected},
		{"transformed", run.Transformed, totals.Transformed},
		{"stored", run.Stored, totals.Stored},
		{"alert messages", run.Messages, totals.Messages},
		{"dead letters", run.DeadLetters, totals.DeadLetters},
		{"synced records", run.SyncedRecords, totals.SyncedRecords},
		{"synced messages", run.SyncedMessages, totals.SyncedMessages},
	}
	if totals.Expired > 0 {
		rows = append(rows, countRow{"expired messages", run.Expired, totals.Expired})
	}
	return rows
}

// conclusion says in sentences what the numbers mean.
func conclusion(s engine.Summary) []string {
	var says []string
	switch {
	case s.ThisRun != (engine.Counts{}):
		says = append(says, fmt.Sprintf("%s stored and %s synced in %s.",
			plural(s.ThisRun.Stored, "record"), number(s.ThisRun.SyncedRecords), span(elapsed(s))))
	case s.Stored == 0:
		says = append(says, "Nothing collected: the sources gave no records.")
	case s.Waiting == 0:
		says = append(says, fmt.Sprintf("Nothing new: all %s were collected, stored and synced by an earlier run.",
			plural(s.Stored, "record")))
	default:
		says = append(says, fmt.Sprintf("Nothing new: %s were collected and stored by an earlier run.",
			plural(s.Stored, "record")))
	}
	if s.DeadLetters > 0 {
		says = append(says, fmt.Sprintf("%s: records that a plugin refused or that could not be read, kept with the reason.",
			plural(s.DeadLetters, "dead letter")))
	}
	if s.Waiting > 0 {
		says = append(says, fmt.Sprintf("%s for the link; the next run sends them.", wait(s.Waiting)))
	}
	switch {
	case s.NotAudited != "":
		says = append(says, fmt.Sprintf("Not audited: a hub could not be asked (%s). Run 'edged audit' when it is online.", s.NotAudited))
	case !s.Audited && s.NoLedger:
		says = append(says, "Not audited: an HTTP API keeps no ledger; what it acknowledged counts as synced.")
	case s.Gaps > 0 || s.Duplicates > 0:
		says = append(says, fmt.Sprintf("The audit found %s and %s: 'edged audit' prints the ranges.",
			plural(s.Gaps, "gap"), plural(s.Duplicates, "duplicate")))
	case s.Waiting == 0 && s.Stored > 0:
		says = append(says, "Audited: every stored record is at the hub exactly once.")
	}
	return says
}

func wait(n uint64) string {
	if n == 1 {
		return "1 record or message waits"
	}
	return number(n) + " records and messages wait"
}

func elapsed(s engine.Summary) time.Duration {
	return time.Duration(s.ElapsedSeconds * float64(time.Second))
}
