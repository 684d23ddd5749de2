package keyed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/edged/edged/engine/keyed/table"
)

// SyncOptions configures the sync of one store with one hub. Zero values mean
// the defaults.
type SyncOptions struct {
	Store  *Store
	Hub    Hub
	Logger *slog.Logger
	// WaitUp blocks until the hub can be reached and returns a context that ends
	// when it cannot any more; nil: it always can.
	WaitUp func(ctx context.Context) (context.Context, context.CancelFunc, error)
	// Backoff returns how long to wait before attempt n, from 0; nil: exponential
	// with full jitter from 10 ms to 5 s.
	Backoff func(n int) time.Duration
	// Workers is how many keys are on their way at once; 64.
	Workers int
	// Attempts is how often a key is tried against faster writers before it is
	// parked for ParkFor; 40 and 30 s.
	Attempts int
	ParkFor  time.Duration
	// Report is how often the hub is told of the position; 1 min.
	Report time.Duration
}

// Sync keeps one store and one hub equal. Run it once.
type Sync struct {
	opts  SyncOptions
	store *Store
	hub   Hub
	log   *slog.Logger

	taking   context.Context // ends when no more turns are to be taken
	finish   context.CancelFunc
	finished context.Context // ends when none is under way either
	idle     context.CancelFunc

	mu       sync.Mutex
	err      error // why it does not sync now
	caughtUp bool
	offset   time.Duration // of the hub's clock from ours
	turns    int           // under way
}

// NewSync returns a sync that has not begun.
func NewSync(opts SyncOptions) *Sync {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.WaitUp == nil {
		opts.WaitUp = func(ctx context.Context) (context.Context, context.CancelFunc, error) {
			up, cancel := context.WithCancel(ctx)
			return up, cancel, ctx.Err()
		}
	}
	if opts.Backoff == nil {
		opts.Backoff = fullJitter
	}
	if opts.Workers == 0 {
		opts.Workers = 64
	}
	if opts.Attempts == 0 {
		opts.Attempts = 40
	}
	if opts.ParkFor == 0 {
		opts.ParkFor = 30 * time.Second
	}
	if opts.Report == 0 {
		opts.Report = time.Minute
	}
	y := &Sync{opts: opts, store: opts.Store, hub: opts.Hub, log: opts.Logger}
	y.finished, y.idle = context.WithCancel(context.Background())
	y.taking, y.finish = context.WithCancel(context.Background())
	return y
}

// Finish has the sync take no more keys, and returns when it is done with those it
// has taken, or ctx ends. A conflict that is being decided is decided, stored and
// journaled then. Run is still to be ended.
func (y *Sync) Finish(ctx context.Context) {
	y.finish()
	y.turn(0)
	select {
	case <-y.finished.Done():
	case <-ctx.Done():
	}
}

// turn counts the turns under way; one that begins must not when it returns false.
func (y *Sync) turn(n int) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if n > 0 && y.taking.Err() != nil {
		return false
	}
	if y.turns += n; y.turns == 0 && y.taking.Err() != nil {
		y.idle()
	}
	return true
}

func fullJitter(n int) time.Duration {
	most := min(10*time.Millisecond<<min(n, 16), 5*time.Second)
	return rand.N(most)
}

// State returns whether everything that was at the hub when the connection came
// up has been seen, and why nothing is synced now, or nil.
func (y *Sync) State() (caughtUp bool, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.caughtUp, y.err
}

func (y *Sync) set(caughtUp bool, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.caughtUp, y.err = caughtUp, err
}

// Run syncs until ctx ends, through every loss of the connection.
func (y *Sync) Run(ctx context.Context) {
	for failures := 0; ; {
		up, cancel, err := y.opts.WaitUp(ctx)
		if err != nil {
			return
		}
		err = y.session(up)
		lost := up.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		y.set(false, err)
		if lost {
			failures = 0
			continue
		}
		y.log.Warn("keyed records are not synced now", "store", y.store.opts.Name, "error", err)
		select {
		case <-time.After(y.opts.Backoff(failures)):
		case <-ctx.Done():
			return
		}
		failures++
	}
}

// session syncs for as long as the hub is there.
func (y *Sync) session(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &session{Sync: y, queue: newQueue(), stop: stop}
	if err := s.start(ctx); err != nil {
		return err
	}
	y.store.watch(func(key string) { s.queue.push(key, nil, false) })
	defer y.store.watch(nil)
	defer s.queue.close()
	for _, key := range y.store.pendingKeys() {
		s.queue.push(key, nil, true)
	}
	var all sync.WaitGroup
	for range y.opts.Workers {
		all.Go(func() { s.work(ctx) })
	}
	all.Go(func() {
		if err := s.pull(ctx); err != nil {
			stop(err)
		}
	})
	all.Go(func() { s.report(ctx) })
	all.Wait()
	return context.Cause(ctx)
}

// watch says who is told of keys that have something to send.
func (s *Store) watch(f func(key string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher = f
}

func (s *Store) pendingKeys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key, in := range s.index {
		if in.pending {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// session is one connection.
type session struct {
	*Sync
	queue     *queue
	epoch     string // of the hub, as far as we can tell
	last      uint64 // the hub's newest revision when the session began
	from      uint64 // where pulling begins
	comparing bool   // everything is compared: what is not at the hub is gone
	seen      map[string]bool
	caught    chan struct{}
	asked     time.Time // by the hub's clock: when last was its newest revision
	stop      context.CancelCauseFunc
}

// start finds out what the hub is, against what it was.
func (s *session) start(ctx context.Context) error {
	now := s.store.opts.Now
	before := now()
	known := s.store.position()
	state, err := s.hub.State(ctx, known)
	if err != nil {
		return fmt.Errorf("asking the hub: %w", err)
	}
	s.mu.Lock()
	s.offset = state.Now.Sub(before.Add(now().Sub(before) / 2))
	s.mu.Unlock()
	s.last, s.asked, s.caught = state.Last, state.Now, make(chan struct{})
	interest := s.store.opts.Interest
	return s.store.table.Update(ctx, func(tx *table.Tx) error {
		return s.store.writeMeta(tx, func(m *meta) {
			compare, why := m.Comparing || m.Position.Revision == 0, ""
			switch {
			case m.Hub == "":
				m.Hub = state.Epoch
			case m.Hub != state.Epoch || state.Regressed:
				why = "the hub was made anew, or restored from a backup"
				m.Hub, m.Turn = state.Epoch, m.Turn+1
			case state.Collected > m.Position.Revision && m.Position.Revision > 0:
				why = "this edge was away for longer than deletes are remembered"
			case !slices.Equal(m.Interest, interest):
				compare = true
			}
			if why != "" {
				s.log.Warn("everything is compared with the hub", "store", s.store.opts.Name, "why", why)
				compare = true
			}
			if compare {
				m.Position = Position{}
			}
			m.Comparing, m.Interest, m.Collected = compare, interest, state.Collected
			s.epoch, s.from, s.comparing = m.epochName(), m.Position.Revision, compare
			s.seen = map[string]bool{}
		})
	})
}

func (s *Store) position() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.Position
}

// hubTime is the hub's time now, as far as we can tell.
func (y *Sync) hubTime() time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.store.opts.Now().Add(y.offset)
}

// work sends keys until ctx ends.
func (s *session) work(ctx context.Context) {
	for {
		t, err := s.queue.next(ctx)
		if err != nil || !s.turn(1) {
			return
		}
		err = s.send(ctx, t)
		s.turn(-1)
		switch {
		case err == nil:
			s.queue.done(t, false, 0)
		case errors.Is(err, errPark):
			t.again = true
			s.queue.done(t, true, s.opts.ParkFor)
		default:
			if ctx.Err() == nil {
				s.log.Debug("a key could not be synced", "store", s.store.opts.Name, "key", t.key, "error", err)
			}
			s.queue.done(t, true, s.opts.Backoff(t.attempt))
		}
	}
}

// errAnew ends a session: the hub is another than when it began.
var errAnew = errors.New("the hub was made anew, or restored from a backup")

// verify asks whether the hub is still what it was when the session began, and
// ends the session when it is not.
func (s *session) verify(ctx context.Context) error {
	state, err := s.hub.State(ctx, s.store.position())
	if err != nil {
		return fmt.Errorf("asking the hub: %w", err)
	}
	s.store.mu.Lock()
	hub := s.store.meta.Hub
	s.store.mu.Unlock()
	if state.Epoch == hub && !state.Regressed {
		return nil
	}
	s.stop(errAnew)
	return errAnew
}

// regressed ends the session: a key has an older revision than it once had.
func (s *session) regressed(ctx context.Context) error {
	err := s.store.table.Update(ctx, func(tx *table.Tx) error {
		return s.store.writeMeta(tx, func(m *meta) {
			if m.epochName() == s.epoch {
				m.Turn, m.Position, m.Comparing = m.Turn+1, Position{}, true
			}
		})
	})
	s.stop(errAnew)
	return errors.Join(errAnew, err)
}

// report tells the hub of the position, now and then, and sees that it is still
// the same.
func (s *session) report(ctx context.Context) {
	select {
	case <-s.caught:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(s.opts.Report)
	defer tick.Stop()
	for {
		r := Registration{Device: s.store.opts.Device, Position: s.store.position().Revision, Time: s.hubTime().UTC()}
		if err := s.hub.Report(ctx, r); err != nil && ctx.Err() == nil {
			s.log.Warn("the hub could not be told of the position", "store", s.store.opts.Name, "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := s.verify(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the hub does not answer", "store", s.store.opts.Name, "error", err)
		}
	}
}
