package sync

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/edged/edged/engine/store"
)

// State is what a monitor thinks of its remote.
type State string

// The states. Sending goes on while degraded.
const (
	Online   State = "online"
	Degraded State = "degraded" // answers slowly, or failed less often than it takes to be offline
	Offline  State = "offline"
)

var errNotConnected = errors.New("not connected")

// MonitorOptions configures a monitor. Zero values mean the defaults.
type MonitorOptions struct {
	Remote       Remote
	Logger       *slog.Logger
	Poll         time.Duration // how often Reachable is asked; 200 ms
	Every        time.Duration // between probes while up; 15 s
	Timeout      time.Duration // of one probe; 5 s
	Slow         time.Duration // a probe that takes longer means degraded; 2 s
	OfflineAfter int           // failures in a row; 3
	RedialAfter  time.Duration // unreachable for so long: redial; 1 min
	Backoff      Backoff       // between probes while offline or flapping; 250 ms to 5 s
	Now          func() time.Time
	// OnChange, when not nil, is called after every change of state, in order.
	OnChange func(Change)
}

// Change is one change of state.
type Change struct {
	Remote string    `json:"remote"`
	From   State     `json:"from"`
	To     State     `json:"to"`
	Time   time.Time `json:"time"`
	Error  string    `json:"error,omitempty"`
}

// MonitorStats count what a monitor has seen and done since it was made.
type MonitorStats struct {
	Changes      uint64 `json:"changes"` // of state
	Probes       uint64 `json:"probes"`
	FailedProbes uint64 `json:"failed_probes"`
	Redials      uint64 `json:"redials"`
}

// Monitor watches one remote. Its methods may be called from any goroutine.
type Monitor struct {
	opts    MonitorOptions
	changed store.Signal
	poke    chan struct{}

	mu       sync.Mutex
	state    State
	since    time.Time
	err      error
	failures int
	stats    MonitorStats
	up       context.Context // ends when the remote goes offline
	down     context.CancelFunc
}

// NewMonitor returns a monitor that thinks its remote offline until Run has
// found otherwise.
func NewMonitor(opts MonitorOptions) *Monitor {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&opts.Poll, 200*time.Millisecond)
	set(&opts.Every, 15*time.Second)
	set(&opts.Timeout, 5*time.Second)
	set(&opts.Slow, 2*time.Second)
	set(&opts.RedialAfter, time.Minute)
	set(&opts.Backoff.Base, 250*time.Millisecond)
	set(&opts.Backoff.Max, 5*time.Second)
	if opts.OfflineAfter == 0 {
		opts.OfflineAfter = 3
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	m := &Monitor{opts: opts, poke: make(chan struct{}, 1), state: Offline, since: opts.Now()}
	m.up, m.down = context.WithCancel(context.Background())
	m.down()
	return m
}

// State returns the state, since when, and the last error while not online.
func (m *Monitor) State() (State, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.since, m.err
}

// WaitUp blocks until the remote is not offline and returns a context that ends
// when it goes offline or ctx ends. The caller calls the cancel function.
func (m *Monitor) WaitUp(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		changed := m.changed.Wait()
		m.mu.Lock()
		state, up := m.state, m.up
		m.mu.Unlock()
		if state != Offline {
			ctx, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(up, cancel)
			return ctx, func() { stop(); cancel() }, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// Failed tells the monitor that a push failed. Unless the remote has refused it,
// which shows that it is there, that counts; either way it probes soon.
func (m *Monitor) Failed(err error) {
	if !refusedBy(err) {
		m.failed(err)
	}
	m.Recheck()
}

// Renew makes everyone ask the remote anew what it has, as after an outage: it
// is offline, for that reason, until the next probe.
func (m *Monitor) Renew(why error) {
	m.set(Offline, why)
	m.Recheck()
}

// Recheck makes the next probe due soon.
func (m *Monitor) Recheck() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Stats returns the counters.
func (m *Monitor) Stats() MonitorStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

func (m *Monitor) count(n *uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*n++
}

// watch is what Run remembers from one look to the next.
type watch struct {
	probe    time.Time // when the next probe is due
	probed   time.Time // when the last one began
	lastSeen time.Time // when the remote was last reachable, or redialed
	up       bool      // it was, at the last look
	upSince  time.Time
	attempt  int // probes that failed, and connections that did not last, in a row
	redials  int // in a row
}

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	poll := time.NewTicker(m.opts.Poll)
	defer poll.Stop()
	now := m.opts.Now()
	w := watch{probe: now, lastSeen: now}
	for {
		m.look(ctx, &w, poll.C)
		select {
		case <-poll.C:
		case <-m.poke:
			// However many feeds fail at once, and however quickly, they are one reason.
			if soon := w.probed.Add(m.opts.Backoff.Base); w.up && soon.Before(w.probe) {
				w.probe = soon
			}
		case <-ctx.Done():
			return
		}
	}
}

// look looks at the connection once, and probes when that is due.
func (m *Monitor) look(ctx context.Context, w *watch, poll <-chan time.Time) {
	now := m.opts.Now()
	reachable := m.opts.Remote.Reachable()
	if reachable && !w.up {
		w.up, w.upSince = true, now
	}
	switch {
	case !reachable:
		m.set(Offline, errNotConnected)
		m.lost(w, now)
		if now.Sub(w.lastSeen) >= m.opts.RedialAfter<<min(w.redials, 4) {
			w.redials, w.lastSeen = w.redials+1, now
			m.count(&m.stats.Redials)
			if err := m.opts.Remote.Redial(); err != nil {
				m.opts.Logger.Warn("redialing failed", "error", err)
			}
		}
		return
	case !now.Before(w.probe):
		w.probed = now
		m.probe(ctx, poll)
		switch state, _, _ := m.State(); state {
		case Offline:
			w.probe = m.opts.Now().Add(m.opts.Backoff.Wait(w.attempt))
			w.attempt++
		case Degraded:
			w.probe = m.opts.Now().Add(m.opts.Every / 5)
		case Online:
			w.probe = m.opts.Now().Add(m.opts.Every)
		}
	}
	w.lastSeen, w.redials = now, 0
	if state, _, _ := m.State(); state != Offline && now.Sub(w.upSince) >= m.opts.Every {
		w.attempt = 0 // it lasts
	}
}

// lost notes that the connection is gone. The first probe after it has come back
// is due at once, unless it does not last: then it waits longer each time, so
// that a connection that flaps is not met with a storm of probes and requests.
func (m *Monitor) lost(w *watch, now time.Time) {
	if !w.up {
		return
	}
	w.up = false
	if now.Sub(w.upSince) >= m.opts.Every {
		w.attempt = 0
	}
	w.probe = now
	if w.attempt > 0 {
		w.probe = now.Add(m.opts.Backoff.Wait(w.attempt))
	}
	w.attempt++
}

// probe asks the remote once. Meanwhile it goes on looking at the connection:
// one that ends and is renewed while an answer is awaited must be noticed, for
// whatever was under way on it will never be answered.
func (m *Monitor) probe(parent context.Context, poll <-chan time.Time) {
	ctx, cancel := context.WithTimeout(parent, m.opts.Timeout)
	defer cancel()
	start := m.opts.Now()
	m.count(&m.stats.Probes)
	answer := make(chan error, 1)
	go func() { answer <- m.opts.Remote.Probe(ctx) }()
	var err error
	for waiting := true; waiting; {
		select {
		case err = <-answer:
			waiting = false
		case <-poll:
			if !m.opts.Remote.Reachable() {
				cancel()
				if err := <-answer; err == nil {
					m.opts.Logger.Debug("a probe was answered over a connection that is gone")
				}
				m.set(Offline, errNotConnected)
				return
			}
		}
	}
	if parent.Err() != nil {
		return // the monitor ends
	}
	if err != nil {
		m.count(&m.stats.FailedProbes)
		if errors.Is(err, errRenewed) {
			m.set(Offline, err)
		} else {
			m.failed(err)
		}
		return
	}
	m.mu.Lock()
	m.failures = 0
	m.mu.Unlock()
	if took := m.opts.Now().Sub(start); took > m.opts.Slow {
		m.set(Degraded, errors.New("answers slowly: "+took.Round(time.Millisecond).String()))
		return
	}
	if t, ok := m.opts.Remote.(troubled); ok {
		if err := t.Trouble(); err != nil {
			m.set(Degraded, err)
			return
		}
	}
	m.set(Online, nil)
}

func (m *Monitor) failed(err error) {
	m.mu.Lock()
	to := Degraded
	// A probe that times out on a connection that stands says slow, not gone: it
	// may stand behind a batch under way. Where the connection has pings of its
	// own, they tell gone.
	_, pings := m.opts.Remote.(pinged)
	if !pings || !errors.Is(err, context.DeadlineExceeded) || m.state == Offline {
		m.failures++
	}
	if m.failures >= m.opts.OfflineAfter || m.state == Offline {
		to = Offline
	}
	m.mu.Unlock()
	m.set(to, err)
}

func (m *Monitor) set(to State, err error) {
	m.mu.Lock()
	from := m.state
	if to == Offline && from == Offline && m.err != nil && errors.Is(err, errNotConnected) {
		err = m.err // the reason why it was lost says more
	}
	m.err = err
	if from == to {
		m.mu.Unlock()
		return
	}
	m.state, m.since = to, m.opts.Now()
	m.stats.Changes++
	change := Change{Remote: m.opts.Remote.Name(), From: from, To: to, Time: m.since}
	if err != nil {
		change.Error = err.Error()
	}
	if from == Offline {
		m.up, m.down = context.WithCancel(context.Background())
	}
	down := m.down
	m.mu.Unlock()
	if to == Offline {
		down()
	}
	m.opts.Logger.Info("connection", "from", from, "to", to, "error", change.Error)
	m.changed.Broadcast()
	if m.opts.OnChange != nil {
		m.opts.OnChange(change)
	}
}
