package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

var start = time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)

func full() engine.Counts {
	return engine.Counts{
		Collected: 18760, Transformed: 18760, Stored: 18760, Messages: 979,
		SyncedRecords: 18760, SyncedMessages: 979,
	}
}

func TestSummaryText(t *testing.T) {
	got := summaryText(engine.Summary{Counts: full(), ThisRun: full(), ElapsedSeconds: 1.25, Audited: true})
	want := `                       this run  in all
collected                18,760  18,760
transformed              18,760  18,760
stored                   18,760  18,760
alert messages              979     979
dead letters                  0       0
synced records           18,760  18,760
synced messages             979     979
waiting                               0
gaps at the hub                       0
duplicates at the hub                 0

18,760 records stored and 18,760 synced in 1.2 s.
Audited: every stored record is at the hub exactly once.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConclusion(t *testing.T) {
	waiting := full()
	waiting.SyncedRecords = 0
	some := engine.Counts{Collected: 1, Stored: 1}
	for name, c := range map[string]struct {
		summary engine.Summary
		want    []string
	}{
		"second run": {
			engine.Summary{Counts: full(), Audited: true},
			[]string{
				"Nothing new: all 18,760 records were collected, stored and synced by an earlier run.",
				"Audited: every stored record is at the hub exactly once.",
			},
		},
		"second run, link still down": {
			engine.Summary{Counts: waiting, Waiting: 18760, NotAudited: "hub: the leaf node is not connected"},
			[]string{
				"Nothing new: 18,760 records were collected and stored by an earlier run.",
				"18,760 records and messages wait for the link; the next run sends them.",
				"Not audited: a hub could not be asked (hub: the leaf node is not connected). Run 'edged audit' when it is online.",
			},
		},
		"nothing at all": {
			engine.Summary{Audited: true},
			[]string{"Nothing collected: the sources gave no records."},
		},
		"gap": {
			engine.Summary{Counts: some, ThisRun: some, ElapsedSeconds: 75, Audited: true, Gaps: 1},
			[]string{
				"1 record stored and 0 synced in 1m15s.",
				"The audit found 1 gap and 0 duplicates: 'edged audit' prints the ranges.",
			},
		},
		"dead letters": {
			engine.Summary{Counts: engine.Counts{DeadLetters: 2}, ThisRun: engine.Counts{DeadLetters: 2}, Audited: true},
			[]string{
				"0 records stored and 0 synced in 0.0 s.",
				"2 dead letters: records that a plugin refused or that could not be read, kept with the reason.",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, conclusion(c.summary)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func status(after time.Duration, stored uint64, link string) engine.Status {
	counts := engine.Counts{Collected: stored, Transformed: stored, Stored: stored, SyncedRecords: stored / 2}
	return engine.Status{
		Running: true, DeviceID: "edge-001", DataDir: "data", Version: "v1", Started: start, Time: start.Add(after),
		Totals: counts, ThisRun: counts, Waiting: stored / 2,
		Queue:   engine.QueueStatus{Waiting: 3, ByPriority: map[string]uint64{"low": 1, "critical": 2}},
		Storage: engine.StorageStatus{Bytes: 3 << 20, MaxBytes: 1 << 30},
		Pipelines: []engine.PipelineStatus{{
			Name: "cold_chain", Totals: counts,
			Sources: []engine.SourceStatus{{Kind: "file", Name: "rows", State: "failed", Error: "no\nsuch file"}},
			Kept: engine.KeptStatus{
				Records: stored - 1, Waiting: stored / 2, Synced: stored/2 - 1, Bytes: 2 << 20, Oldest: start, Newest: start.Add(after),
				WaitingSince: engine.WaitingSince{OldestWaiting: start.Add(after / 2), Seconds: after.Seconds() / 2},
			},
			Syncs: []engine.SyncStatus{{
				Remote: "hub", Status: engine.SyncWaiting, SyncedRecords: stored / 2, FailedRecords: 1, Waiting: stored / 2,
				WaitingSince: engine.WaitingSince{OldestWaiting: start.Add(after / 2), Seconds: after.Seconds() / 2},
			}},
		}},
		Remotes: []engine.RemoteStatus{{Kind: "nats", Name: "hub", State: link, Since: start, LastError: "connection refused"}},
		Plugins: []engine.PluginStatus{{
			Name: "dew_point", Pipeline: "p", SHA256: "0123456789abcdef", Records: stored, Faults: 2, Instances: 3, Fuel: 100 * stored,
			Breaker: "closed", FaultsByKind: map[string]uint64{"trap": 2}, Metrics: map[string]float64{"seen": 1.5}, LastFault: "trap fault: unreachable",
		}},
	}
}

func TestStatusText(t *testing.T) {
	want := `edge edge-001, edged v1, running 1m30s on data
local store 3.0 MiB of 1.0 GiB (0 %)

                      this run  in all
collected                4,000   4,000
transformed              4,000   4,000
stored                   4,000   4,000
alert messages               0       0
dead letters                 0       0
synced records           2,000   2,000
synced messages              0       0
waiting for the link             2,000

alert messages waiting: 2 critical, 1 low

REMOTE    STATE    FOR    CHANGES  LAST ERROR
nats hub  offline  1m30s        0  connection refused

PIPELINE     KEPT  WAITING  SYNCED  BYTES    OLDEST     NEWEST     LONGEST WAIT
cold_chain  3,999    2,000   1,999  2.0 MiB  1m30s ago  0.0 s ago  45 s

PIPELINE    STORED  REMOTE  STATUS   SYNCED  FAILED  WAITING  LONGEST WAIT  LAST SYNC  LAST ERROR
cold_chain   4,000  hub     waiting   2,000       1    2,000  45 s          never

PIPELINE    SOURCE     STATE   ERROR
cold_chain  file rows  failed  no such file

PLUGIN     PIPELINE  RECORDS  FAULTS  STATE  INSTANCES  FUEL/RECORD  SHA256        LAST FAULT
dew_point  p           4,000       2  works          3          100  0123456789ab  trap fault: unreachable

PLUGIN     PIPELINE  COUNTER      VALUE
dew_point  p         seen         1.5
dew_point  p         trap faults  2
`
	if diff := cmp.Diff(want, statusText(status(90*time.Second, 4000, "offline"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAuditText(t *testing.T) {
	row := engine.AuditPipeline{Pipeline: "cold_chain", Remote: "hub", Stored: 100, Synced: 90, AtHub: 90}
	torn := engine.AuditPipeline{
		Pipeline: "queue/high", Remote: "hub", Stored: 50, Synced: 50, AtHub: 48,
		Gaps: [][2]uint64{{7, 7}, {10, 12}}, Duplicates: [][2]uint64{{20, 21}},
	}
	dark := engine.AuditPipeline{Pipeline: "cold_chain", Remote: "http api", Stored: 100, Error: "offline"}
	for name, c := range map[string]struct {
		audit engine.Audit
		want  string
		code  int
	}{
		"clean, some wait": {
			engine.Audit{Pipelines: []engine.AuditPipeline{row}, Waiting: 10},
			`PIPELINE    REMOTE  STORED  SYNCED  AT HUB  GAPS  DUPLICATES
cold_chain  hub        100      90      90     0           0

No gaps, no duplicates. 10 records and messages wait for the link.
`, exitOK,
		},
		"torn": {
			engine.Audit{Pipelines: []engine.AuditPipeline{torn}, Gaps: 4, Duplicates: 2},
			`PIPELINE    REMOTE  STORED  SYNCED  AT HUB  GAPS  DUPLICATES
queue/high  hub         50      50      48     4           2

queue/high to hub: missing at the hub: 7, 10-12
queue/high to hub: more than once at the hub: 20-21
`, exitAudit,
		},
		"not asked": {
			engine.Audit{Pipelines: []engine.AuditPipeline{dark}},
			`PIPELINE    REMOTE    STORED  SYNCED  AT HUB  GAPS  DUPLICATES
cold_chain  http api     100  ?       ?       ?     ?

cold_chain to http api: not asked: offline
`, exitAudit,
		},
		"no sync": {engine.Audit{}, "Nothing to audit: no pipeline syncs to a hub.\n", exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, auditText(c.audit)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := codeOf(auditVerdict(c.audit)); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
		})
	}
}

func codeOf(err error) int {
	if failed, ok := err.(*exitError); ok { //nolint:errorlint // the verdict itself is meant, not what it wraps
		return failed.code
	}
	return exitOK
}

// TestProgressBlock draws two states on a live screen with a log line between
// them, as a terminal would get them.
func TestProgressBlock(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, live: true, width: func() int { return 39 }}
	states := []engine.Status{status(0, 0, "offline"), status(2*time.Second, 4000, "online")}
	p := &progress{screen: s, status: func() engine.Status {
		st := states[0]
		states = states[1:]
		return st
	}}
	ticks, stop, stopped := make(chan time.Time), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		p.run(ticks, stop)
	}()
	ticks <- start
	ticks <- start
	close(stop)
	<-stopped

	want := "edge edge-001, running 0.0 s\n" +
		"  collected  0    waiting    0\n" +
		"  stored     0    synced     0\n" +
		"  alerts     0    records/s  0\n" +
		"  nats hub  offline for 0.0 s: connec…\n" +
		"\r\x1b[5A\x1b[J" +
		"edge edge-001, running 2.0 s\n" +
		"  collected  4,000    waiting    2,000\n" +
		"  stored     4,000    synced     2,000\n" +
		"  alerts         0    records/s  2,000\n" +
		"  nats hub  online for 2.0 s\n" +
		"\r\x1b[5A\x1b[J"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestScreenKeepsLogsAbove(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, live: true, width: func() int { return 80 }}
	s.draw([]string{"one", "two"})
	if n, err := s.Write([]byte("log\n")); n != 4 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	want := "one\ntwo\n" + "\r\x1b[2A\x1b[J" + "log\n" + "one\ntwo\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestScreenThatIsNotATerminal(t *testing.T) {
	if s := newScreen(&bytes.Buffer{}); s.live {
		t.Error("a buffer counts as a terminal")
	}
}

// TestProgressLines holds that a piped run tells a link change at once, keeps
// quiet while nothing changes, and speaks seldom after its first minute.
func TestProgressLines(t *testing.T) {
	var c cadence
	for _, step := range []struct {
		after  time.Duration
		stored uint64
		link   string
		want   bool
	}{
		{0, 0, "offline", false},
		{1 * time.Second, 10, "offline", false},
		{2 * time.Second, 20, "online", true},
		{6 * time.Second, 30, "online", false},
		{7 * time.Second, 30, "online", true},
		{20 * time.Second, 30, "online", false},
		{59 * time.Second, 40, "online", true},
		{90 * time.Second, 50, "online", false},
		{120 * time.Second, 60, "online", true},
		{121 * time.Second, 60, "degraded", true},
	} {
		if got := c.due(status(step.after, step.stored, step.link)); got != step.want {
			t.Errorf("after %v: due is %v, want %v", step.after, got, step.want)
		}
	}
	want := "collected 4,000, stored 4,000, alerts 0, waiting 2,000, synced 2,000, 250 records/s; hub online"
	if got := progressLine(status(time.Second, 4000, "online"), 249.6); got != want {
		t.Errorf("line is %q, want %q", got, want)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	for i, step := range []struct {
		after time.Duration
		n     uint64
		want  float64
	}{
		{0, 0, 0},
		{500 * time.Millisecond, 500, 1000},
		{time.Second, 1000, 1000},
		{2 * time.Second, 1000, 500},
		{3 * time.Second, 1000, 0},
		{4 * time.Second, 1000, 0},
	} {
		if got := m.add(start.Add(step.after), step.n); got != step.want {
			t.Errorf("step %d: %v/s, want %v/s", i, got, step.want)
		}
	}
}

func TestWording(t *testing.T) {
	for _, c := range [][2]string{
		{number(0), "0"},
		{number(999), "999"},
		{number(1000), "1,000"},
		{number(1234567), "1,234,567"},
		{plural(1, "gap"), "1 gap"},
		{plural(0, "gap"), "0 gaps"},
		{bytesize(1023), "1023 B"},
		{bytesize(1024), "1.0 KiB"},
		{bytesize(5 << 40), "5.0 TiB"},
		{bytesize(5 << 50), "5120.0 TiB"},
		{span(-time.Second), "0.0 s"},
		{span(12*time.Second + 900*time.Millisecond), "12 s"},
		{span(187 * time.Second), "3m07s"},
		{span(25*time.Hour + 3*time.Minute), "25h03m"},
		{span(50 * time.Hour), "2d02h"},
		{age(start, time.Time{}), "never"},
		{ranges([][2]uint64{{1, 1}, {3, 9}}), "1, 3-9"},
		{ranges(make([][2]uint64, 12)), "0, 0, 0, 0, 0, 0, 0, 0, 0, 0, and 2 more"},
		{wrap("aa bb cc", 5, "  "), "aa bb\n  cc"},
		{oneLine(" a\n  b "), "a b"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
}
