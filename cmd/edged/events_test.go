package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/sync"
)

// TestEvents follows a running edge while its hub comes and goes, until the edge
// stops.
func TestEvents(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.until("the edge runs", remoteIs("offline"))
	follow := launch(t, t.TempDir(), "events", "--data-dir", o.dataDir, "--json")
	become := func(want ...sync.State) {
		t.Helper()
		eventually(t, "the events show it", func() bool {
			var got []sync.State
			for _, c := range changes(t, follow.stdout.String()) {
				if c.Remote != "hub" || c.Time.IsZero() {
					t.Fatalf("an event says %+v", c)
				}
				if len(got) == 0 || got[len(got)-1] != c.To {
					got = append(got, c.To)
				}
			}
			return len(got) >= len(want) && strings.Join(states(got[:len(want)]), " ") == strings.Join(states(want), " ")
		})
	}
	become(sync.Offline)
	o.hub.start()
	become(sync.Offline, sync.Online)
	o.hub.kill()
	o.until("the edge knows that the hub is away", remoteIs("offline"))
	s, ok := statusOf(o.dataDir)
	if !ok || s.Remotes[0].Changes < 2 || s.Remotes[0].Probes == 0 {
		t.Errorf("the status counts %+v", s.Remotes)
	}
	o.edge.stop(syscall.SIGTERM)
	follow.wait(time.Minute)
	if follow.err != nil {
		t.Errorf("when the edge has stopped: %v\n%s", follow.err, follow.stderr.String())
	}
	edged(t, t.TempDir(), "", "events", "--data-dir", o.dataDir).wantCode(t, exitNoEdge)
}

func states(of []sync.State) (names []string) {
	for _, s := range of {
		names = append(names, string(s))
	}
	return names
}

// changes reads the whole lines of `edged events --json`.
func changes(t *testing.T, stdout string) (all []sync.Change) {
	t.Helper()
	lines := strings.Split(stdout, "\n")
	for _, line := range lines[:len(lines)-1] {
		var e engine.Event
		var c sync.Change
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Subject != "edged.events.connection.hub" {
			t.Errorf("an event comes from %s", e.Subject)
		}
		if err := json.Unmarshal(e.Data, &c); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, c)
	}
	return all
}

func TestEventText(t *testing.T) {
	for data, want := range map[string]string{
		`{"remote":"hub","from":"online","to":"offline","time":"2026-11-22T06:00:00Z","error":"not connected"}`: "2026-11-22T06:00:00Z  hub online -> offline: not connected",
		`{"remote":"hub","from":"online","to":"online","time":"2026-11-22T06:00:00Z"}`:                          "2026-11-22T06:00:00Z  hub is online",
	} {
		if got := eventText(&engine.Event{Subject: "edged.events.connection.hub", Data: []byte(data)}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := eventText(&engine.Event{Subject: "edged.events.other", Data: []byte(`{"n":1}`)}); got != `edged.events.other {"n":1}` {
		t.Errorf("another event is shown as %q", got)
	}
}
