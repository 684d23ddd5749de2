package sync_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/edged/edged/engine/sync"
)

// failing is an API that answers 500 whenever the request holds a bad id, and to
// everything while it is down.
type failing struct {
	*cloud
	bad    map[string]bool
	down   bool
	stores bool // what it answers 500 to is stored all the same
}

func newFailing(t *testing.T, bad ...string) *failing {
	f := &failing{cloud: newCloud(t), bad: map[string]bool{}}
	for _, id := range bad {
		f.bad[id] = true
	}
	f.judge = func(ids []string) (int, string) {
		if f.down || slices.ContainsFunc(ids, func(id string) bool { return f.bad[id] }) {
			if f.stores {
				f.keep(ids)
			}
			return http.StatusInternalServerError, `{"error":"out of order"}`
		}
		return http.StatusOK, `{"failed_ids":[]}`
	}
	return f
}

// keep stores ids that it has not stored.
func (f *failing) keep(ids []string) {
	for _, id := range ids {
		if !slices.Contains(f.ids, id) {
			f.ids = append(f.ids, id)
		}
	}
}

// turns pushes and retries so often, moving the clock to what is due next.
func (e *apiEdge) turns(n int) {
	e.t.Helper()
	for range n {
		next := e.now.Add(5 * time.Minute)
		if err := e.push(); err != nil {
			var later *sync.Later
			if !errors.As(err, &later) {
				e.t.Fatalf("not put off: %v", err)
			}
			next = later.Until
		}
		if due := e.session.NextRetry(); !due.IsZero() && !due.After(e.now) {
			if _, err := e.session.Retry(e.t.Context()); err != nil {
				e.t.Fatal(err)
			}
		} else if !due.IsZero() && due.Before(next) {
			next = due
		}
		e.now = next
	}
}

// TestOneMessageTheAPIFailsOn gives an API a message that it answers 500 to. Those
// behind it go on, in order and once; it becomes a dead letter only while others
// like it are taken.
func TestOneMessageTheAPIFailsOn(t *testing.T) {
	api := newFailing(t, "m2")
	e := startAPIEdge(t, api.URL, sync.Messages, nil)
	e.say("a", "a", "a", "a")
	e.turns(20)
	api.wantIDs(t, "m1", "m3", "m4")
	if at := e.at(); at != (sync.Position{Last: 4, Total: 3, Aside: 1}) || e.dead != nil {
		t.Errorf("without traffic: the position is %+v, dead letters %+v", at, e.dead)
	}
	for range 3 { // max_attempts
		e.say("b") // of another topic, which may fare better
		e.turns(3)
	}
	if e.dead != nil {
		t.Errorf("while no message like it is taken: %+v", e.dead)
	}
	for range 5 {
		e.say("a")
		e.turns(3)
	}
	if at := e.session.At(); at.Aside != 0 || at.Last != 12 || len(e.dead) != 1 || e.dead[0].Detail["message_id"] != "m2" ||
		e.dead[0].Detail["attempts"] != "3" || e.dead[0].Detail["first_attempt"] == "" {
		t.Errorf("while others are taken: the position is %+v, dead letters %+v", at, e.dead)
	}
	api.wantIDs(t, numbered("m", 12, 2)...)
}

// TestOneRecordTheAPIFailsOn does that to records. What is alone in a request is
// put aside under the key it was sent with, so that it is not stored twice. A batch
// waits, as it may be stored; with on_server_error = "isolate" it is cut up.
func TestOneRecordTheAPIFailsOn(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		api := newFailing(t, "r2")
		api.stores = true
		e := startAPIEdge(t, api.URL, sync.Records, nil)
		e.put(2) // the first goes elsewhere
		reader := e.feed.Lane.NewReader(1)
		defer reader.Close()
		got, err := reader.Read(t.Context(), 1, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			err := e.session.Push(t.Context(), &sync.Batch{Entries: got, Last: 2, Elsewhere: [][2]uint64{{1, 1}}})
			if later := (*sync.Later)(nil); errors.As(err, &later) {
				e.now = later.Until
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if at := e.at(); at != (sync.Position{Last: 2, Aside: 1}) {
			t.Fatalf("the position is %+v", at)
		}
		e.restart()
		e.put(5)
		e.turns(4)
		key := api.seen[0].key
		for _, s := range api.seen {
			if slices.Contains(s.ids, "r2") && s.key != key {
				t.Errorf("another key: %+v", s)
			}
		}
		delete(api.bad, "r2")
		api.answers[key] = `200{"failed_ids":[]}` // it knows that it had stored it
		e.drive()
		api.wantIDs(t, numbered("r", 7, 1)...)
	})
	t.Run("wait", func(t *testing.T) {
		api := newFailing(t, "r4")
		e := startAPIEdge(t, api.URL, sync.Records, nil)
		e.put(6)
		e.turns(50)
		if at := e.session.At(); at != (sync.Position{}) || e.dead != nil {
			t.Errorf("the position is %+v, dead letters %+v", at, e.dead)
		}
		delete(api.bad, "r4")
		e.drive()
		api.wantIDs(t, numbered("r", 6)...)
	})
	t.Run("isolate", func(t *testing.T) {
		api := newFailing(t, "r4")
		e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.Isolate = true })
		e.put(6)
		e.turns(3)
		e.restart() // in the middle
		e.turns(20)
		api.wantIDs(t, numbered("r", 6, 4)...)
		for range 5 {
			e.put(1)
			e.turns(3)
		}
		api.wantIDs(t, numbered("r", 11, 4)...)
		if at := e.session.At(); at != (sync.Position{Last: 11, Total: 10, Failed: 1}) || len(e.dead) != 1 || e.dead[0].Detail["record_id"] != "r4" {
			t.Errorf("the position is %+v, dead letters %+v", at, e.dead)
		}
	})
}

// TestAnOutageBuriesNothing holds that an API that answers 500 to everything, for
// days, makes no dead letter, neither of what is sent first nor of what was put
// aside before, and that no more than a few entries lose their place.
func TestAnOutageBuriesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		kind    sync.Kind
		isolate bool
	}{"messages": {sync.Messages, false}, "records": {sync.Records, false}, "isolating": {sync.Records, true}} {
		t.Run(name, func(t *testing.T) {
			api := newFailing(t)
			e := startAPIEdge(t, api.URL, c.kind, func(o *sync.HTTPOptions) { o.Isolate = c.isolate })
			prefix, add := "r", func(n int) { e.put(n) }
			if c.kind == sync.Messages {
				prefix, add = "m", func(n int) {
					for range n {
						e.say("a")
					}
				}
			}
			add(3)
			e.drive()
			api.down = true
			add(30)
			start := e.now
			e.turns(540)
			e.restart()
			e.turns(60) // each reads from the disk
			if at := e.session.At(); e.dead != nil || at.Aside > 6 {
				t.Errorf("after %s the position is %+v, dead letters %+v", e.now.Sub(start), at, e.dead)
			}
			if took := e.now.Sub(start); took < 24*time.Hour {
				t.Errorf("600 turns took %s, want more pause", took)
			}
			aside := e.session.At().Aside
			api.down = false
			e.drive()
			got := slices.Clone(api.ids)
			slices.SortFunc(got, func(a, b string) int { return number(t, prefix, a) - number(t, prefix, b) })
			if want := numbered(prefix, 33); !slices.Equal(want, got) || e.dead != nil {
				t.Errorf("in the end the API has %v, dead letters %+v", api.ids, e.dead)
			}
			moved := 0
			for i := 1; i < len(api.ids); i++ {
				if number(t, prefix, api.ids[i]) < number(t, prefix, api.ids[i-1]) {
					moved++
				}
			}
			if moved > int(aside) {
				t.Errorf("%d lost their place, %d were put aside: %v", moved, aside, api.ids)
			}
		})
	}
}

func number(t *testing.T, prefix, id string) (n int) {
	if _, err := fmt.Sscanf(id, prefix+"%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
