package sync_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/sync"
)

// scripted is a remote whose connection the test makes and breaks.
type scripted struct {
	mu        gosync.Mutex
	reachable bool
	answer    error
	hang      bool
	redials   chan time.Time
	flaps     int           // looks that are left of a connection that is up for three and down for three
	steady    chan struct{} // closed when none are
}

var _ sync.Remote = (*scripted)(nil)

func (s *scripted) set(reachable bool, answer error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reachable, s.answer = reachable, answer
}

func (s *scripted) Name() string { return "hub" }

func (s *scripted) Reachable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flaps > 0 {
		if s.flaps--; s.flaps == 0 {
			close(s.steady)
		}
		return s.flaps%6 < 3
	}
	return s.reachable
}

func (s *scripted) Probe(ctx context.Context) error {
	s.mu.Lock()
	hang, answer := s.hang, s.answer
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return answer
}

func (s *scripted) Redial() error {
	s.redials <- time.Now()
	return nil
}

func (s *scripted) Session(*sync.Feed) sync.Session { return nil }
func (s *scripted) Close()                          {}

// watch runs a monitor of s and returns its changes.
func (s *scripted) watch(t *testing.T, opts sync.MonitorOptions) (*sync.Monitor, chan sync.Change) {
	t.Helper()
	s.redials = make(chan time.Time, 100)
	changes := make(chan sync.Change, 100)
	opts.Remote, opts.Logger, opts.Poll = s, slog.New(slog.DiscardHandler), time.Millisecond
	opts.OnChange = func(c sync.Change) {
		select {
		case changes <- c:
		default: // nobody reads any more
		}
	}
	if opts.Backoff.Base == 0 {
		opts.Backoff = sync.Backoff{Base: time.Millisecond, Max: 2 * time.Millisecond}
	}
	m := sync.NewMonitor(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m, changes
}

// expect reads one change.
func expect(t *testing.T, changes <-chan sync.Change, from, to sync.State, why string) {
	t.Helper()
	select {
	case c := <-changes:
		if c.Time.IsZero() || !strings.Contains(c.Error, why) {
			t.Errorf("the change says %+v, want %q as its reason", c, why)
		}
		if diff := cmp.Diff([]sync.State{from, to}, []sync.State{c.From, c.To}); diff != "" || c.Remote != "hub" {
			t.Fatalf("change of %q (-want +got):\n%s", c.Remote, diff)
		}
	case <-time.After(patience):
		t.Fatalf("no change from %s to %s", from, to)
	}
}

func TestMonitorFollowsTheConnection(t *testing.T) {
	t.Parallel()
	s := &scripted{}
	m, changes := s.watch(t, sync.MonitorOptions{Every: time.Millisecond})
	if state, _, _ := m.State(); state != sync.Offline {
		t.Errorf("before the first look it is %s", state)
	}
	s.set(true, nil)
	expect(t, changes, sync.Offline, sync.Online, "")
	up, cancel, err := m.WaitUp(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()

	s.set(true, errors.New("no"))
	expect(t, changes, sync.Online, sync.Degraded, "no")
	if up.Err() != nil {
		t.Error("sending stops while degraded")
	}
	expect(t, changes, sync.Degraded, sync.Offline, "no")
	<-up.Done()
	if _, _, err := m.State(); err == nil || err.Error() != "no" {
		t.Errorf("while offline it says %v", err)
	}
	s.set(true, nil)
	expect(t, changes, sync.Offline, sync.Online, "")
	if _, _, err := m.State(); err != nil {
		t.Errorf("online with %v", err)
	}
	s.set(false, nil)
	expect(t, changes, sync.Online, sync.Offline, "not connected")
	ended, end := context.WithCancel(t.Context())
	end()
	if _, _, err := m.WaitUp(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for it to come up ended with %v", err)
	}
}

// TestMonitorSeesSlowness holds that a slow remote is degraded and in use.
func TestMonitorSeesSlowness(t *testing.T) {
	t.Parallel()
	s := &scripted{reachable: true}
	_, changes := s.watch(t, sync.MonitorOptions{Every: time.Millisecond, Slow: time.Nanosecond})
	expect(t, changes, sync.Offline, sync.Degraded, "slowly")
}

// TestMonitorLooksWhileItAsks loses the connection while a probe hangs.
func TestMonitorLooksWhileItAsks(t *testing.T) {
	t.Parallel()
	s := &scripted{reachable: true}
	m, changes := s.watch(t, sync.MonitorOptions{Every: time.Hour, Timeout: time.Hour})
	expect(t, changes, sync.Offline, sync.Online, "")
	s.mu.Lock()
	s.hang = true
	s.mu.Unlock()
	m.Failed(errors.New("a push failed")) // it probes at once, and hangs
	expect(t, changes, sync.Online, sync.Degraded, "a push failed")
	s.set(false, nil)
	expect(t, changes, sync.Degraded, sync.Offline, "not connected")
}

// TestMonitorRedials holds that a connection that stays down is renewed, less
// and less often.
func TestMonitorRedials(t *testing.T) {
	t.Parallel()
	s := &scripted{}
	const first = 20 * time.Millisecond
	started := time.Now()
	_, changes := s.watch(t, sync.MonitorOptions{RedialAfter: first})
	last := started
	for i := range 4 {
		select {
		case at := <-s.redials:
			if least := first << i; at.Sub(last) < least-2*time.Millisecond {
				t.Errorf("redial %d came after %v, want %v at least", i, at.Sub(last), least)
			}
			last = at
		case <-time.After(patience):
			t.Fatalf("there is no redial %d", i)
		}
	}
	s.set(true, nil)
	expect(t, changes, sync.Offline, sync.Online, "")
}

// TestMonitorIsCalmWhenItFlaps lets the connection come and go every few
// milliseconds: the first return is met at once, those after it less and less
// often, and a connection that stays is used.
func TestMonitorIsCalmWhenItFlaps(t *testing.T) {
	t.Parallel()
	const pause = 100 * time.Millisecond
	s := &scripted{reachable: true, flaps: 3000, steady: make(chan struct{})}
	started := time.Now()
	m, changes := s.watch(t, sync.MonitorOptions{
		Every: time.Hour, Backoff: sync.Backoff{Base: pause / 2, Max: pause, Float64: func() float64 { return 1 }},
	})
	expect(t, changes, sync.Offline, sync.Online, "")
	<-s.steady
	stats, took := m.Stats(), time.Since(started)
	if most := 3 + uint64(took/pause); stats.Probes > most {
		t.Errorf("%d probes in %v, want %d at most", stats.Probes, took, most)
	}
	if stats.Changes == 0 || stats.FailedProbes != 0 {
		t.Errorf("the counters say %+v", stats)
	}
	for state, _, _ := m.State(); state != sync.Online; state, _, _ = m.State() {
		select {
		case <-changes:
		case <-time.After(patience):
			t.Fatal("the connection stays and is not used")
		}
	}
}

// TestBackoff holds full jitter below a bound that doubles.
func TestBackoff(t *testing.T) {
	b := sync.Backoff{Base: time.Second, Max: 10 * time.Second, Float64: func() float64 { return 0.5 }}
	var got []time.Duration
	for _, n := range []int{0, 1, 2, 3, 4, 31, 32, 1000} {
		got = append(got, b.Wait(n))
	}
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second}
	if !slices.Equal(want, got) {
		t.Errorf("waits %v, want %v", got, want)
	}
	// The defaults: within 5 min for ever, and a base that is not small does not
	// overflow into no wait at all.
	for _, base := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		b := sync.Backoff{Base: base, Max: 5 * time.Minute, Float64: func() float64 { return 1 }}
		for n := range 100 {
			if w, want := b.Wait(n), time.Duration(min(float64(base)*math.Pow(2, float64(n)), float64(5*time.Minute))); w != want {
				t.Fatalf("base %v: attempt %d waits at most %v, want %v", base, n, w, want)
			}
		}
	}
	b.Float64 = nil
	for n := range 40 {
		if w := b.Wait(n); w < 0 || w > b.Max {
			t.Errorf("attempt %d waits %v", n, w)
		}
	}
}
