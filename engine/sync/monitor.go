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
	Backoff      Backoff       // between probes while offline; 250 ms to 5 s
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

// Failed tells the monitor that a push failed: it counts and probes soon.
func (m *Monitor) Failed(err error) {
	m.failed(err)
	m.Recheck()
}

// Recheck makes the next probe due now.
func (m *Monitor) Recheck() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	poll := time.NewTicker(m.opts.Poll)
	defer poll.Stop()
	probe := m.opts.Now() // when the next probe is due
	lastSeen := probe
	redials, attempt := 0, 0
	for {
		now := m.opts.Now()
		switch {
		case !m.opts.Remote.Reachable():
			m.set(Offline, errNotConnected)
			probe, attempt = now, 0
			if now.Sub(lastSeen) >= m.opts.RedialAfter<<min(redials, 4) {
				redials, lastSeen = redials+1, now
				if err := m.opts.Remote.Redial(); err != nil {
					m.opts.Logger.Warn("redialling failed", "error", err)
				}
			}
		case !now.Before(probe):
			lastSeen, redials = now, 0
			if m.probe(ctx, poll.C); ctx.Err() != nil {
				return
			}
			if after, _, _ := m.State(); after == Offline {
				probe = m.opts.Now().Add(m.opts.Backoff.Wait(attempt))
				attempt++
			} else {
				attempt = 0
				probe = m.opts.Now().Add(m.opts.Every)
				if after == Degraded {
					probe = m.opts.Now().Add(m.opts.Every / 5)
				}
			}
		default:
			lastSeen, redials = now, 0
		}
		select {
		case <-poll.C:
		case <-m.poke:
			probe = m.opts.Now()
		case <-ctx.Done():
			return
		}
	}
}

// probe asks the remote once. Meanwhile it goes on looking at the connection:
// one that ends and is renewed while an answer is awaited must be noticed, for
// whatever was under way on it will never be answered.
func (m *Monitor) probe(ctx context.Context, poll <-chan time.Time) {
	ctx, cancel := context.WithTimeout(ctx, m.opts.Timeout)
	defer cancel()
	start := m.opts.Now()
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
	if err != nil {
		m.failed(err)
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
	// may stand behind a batch under way. The connection's own pings tell gone.
	if !errors.Is(err, context.DeadlineExceeded) || m.state == Offline {
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
