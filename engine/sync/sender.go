package sync

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

const (
	// messageBatch and messageBytes bound one push of messages.
	messageBatch = 100
	messageBytes = 256 << 10
)

// shares is how many pushes each priority may have in one turn of the queue.
// With all of them waiting, the lowest still gets one in fifteen (I5).
var shares = [len(record.Priorities)]int{record.Critical: 8, record.High: 4, record.Normal: 2, record.Low: 1}

// SenderOptions configures a sender.
type SenderOptions struct {
	Remote  Remote
	Monitor *Monitor
	Logger  *slog.Logger
	Backoff Backoff // after a failed push; zero: 1 s to 5 min
	Rate    *Rate   // what the remote's sessions take from; bounds a push to a chunk
	Now     func() time.Time
	// Changed returns channels that are closed when there is something new in
	// one of the feeds' logs.
	Changed []func() <-chan struct{}
}

// Sender brings feeds to one remote: messages by priority and, beside them,
// records, each feed in order and with one push under way (I4, I5). Its methods may be
// called from any goroutine.
type Sender struct {
	opts     SenderOptions
	messages []*FeedSender // by priority
	records  []*FeedSender
	flush    atomic.Bool
	poke     chan struct{}
	progress store.Signal
}

// FeedSender is one feed of a sender. Its exported methods may be called from
// any goroutine.
type FeedSender struct {
	Feed   *Feed
	policy batch.Policy
	every  time.Duration

	session  Session
	reader   *store.Reader
	load     *load     // what goes next
	ahead    *load     // what goes after it and is on its way already; nil: nothing
	spare    *load     // memory for the one after
	round    time.Time // when the next round of an `every` begins
	later    time.Time // nothing is tried before
	opened   bool      // the session knows its position
	failures int       // in a row
	window   window

	mu       sync.Mutex
	at       Position
	past     Past
	met      bool   // this process has asked the remote what it has
	sent     uint64 // entries that the remote has taken since
	next     uint64 // stream sequence from which on the log is needed; 0: not known
	lastSync time.Time
	lastErr  error
	tries    tries
}

// NewSender returns a sender without feeds.
func NewSender(opts SenderOptions) *Sender {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Backoff.Base == 0 {
		opts.Backoff.Base, opts.Backoff.Max = time.Second, 5*time.Minute
	}
	return &Sender{opts: opts, poke: make(chan struct{}, 1)}
}

// Add adds a feed before Run. Feeds of messages are added highest priority
// first. every is the time between rounds, 0: a batch goes when it is due.
func (s *Sender) Add(feed *Feed, policy batch.Policy, every time.Duration) *FeedSender {
	f := &FeedSender{Feed: feed, policy: policy, every: every, at: feed.Known, past: feed.Past, met: feed.Met, lastSync: feed.LastSync, load: &load{}, spare: &load{}}
	if feed.LastError != "" {
		f.lastErr = errors.New(feed.LastError)
	}
	if feed.Kind == Messages {
		f.policy = batch.Policy{MaxRecords: messageBatch, MaxBytes: messageBytes}
		s.messages = append(s.messages, f)
	} else {
		s.records = append(s.records, f)
	}
	if chunk := s.opts.Rate.Chunk(); chunk > 0 {
		f.policy.MaxBytes = min(f.policy.MaxBytes, chunk)
	}
	return f
}

// Feeds returns all feeds, messages first.
func (s *Sender) Feeds() []*FeedSender {
	return append(append([]*FeedSender(nil), s.messages...), s.records...)
}

// Flush makes everything that waits go at once, from now on: no batch waits to
// become full.
func (s *Sender) Flush() {
	s.flush.Store(true)
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// Progress returns a channel that is closed when the next push has succeeded.
func (s *Sender) Progress() <-chan struct{} { return s.progress.Wait() }

// Run sends until ctx ends. A failure is never final: it backs off, and tries at
// once when the remote comes back.
func (s *Sender) Run(ctx context.Context) {
	defer func() {
		for _, f := range s.Feeds() {
			f.close()
		}
	}()
	var lines sync.WaitGroup
	lines.Go(func() { s.run(ctx, line{feeds: s.messages, turn: s.turnMessages}) })
	lines.Go(func() { s.run(ctx, line{feeds: s.records, turn: s.turnRecords, poke: s.poke}) })
	lines.Wait()
}

// line is a part of the feeds that is sent for itself. Messages and records have
// a line each: a message never waits for the answer to a batch of records, a
// trickle of messages does not slow a backlog of records down (I5), and trouble
// with one does not hold the other up (I6).
type line struct {
	feeds []*FeedSender
	turn  func(context.Context) (progress bool, wait time.Duration)
	poke  <-chan struct{}
}

// run sends a line until ctx ends. Coming online begins at once, whatever the
// feeds were waiting for.
func (s *Sender) run(ctx context.Context, l line) {
	for ctx.Err() == nil {
		up, cancel, err := s.opts.Monitor.WaitUp(ctx)
		if err != nil {
			return
		}
		for _, f := range l.feeds {
			f.opened, f.later = false, time.Time{}
		}
		s.serve(up, l)
		cancel()
	}
}

// serve takes turns until ctx ends.
func (s *Sender) serve(ctx context.Context, l line) {
	for ctx.Err() == nil {
		wake := make([]<-chan struct{}, 0, 3)
		for _, changed := range s.opts.Changed {
			wake = append(wake, changed())
		}
		progress, wait := l.turn(ctx)
		if !progress {
			sleep(ctx, wake, l.poke, wait)
		}
	}
}

// sleep waits until a log changes, poke is written to or wait is over.
func sleep(ctx context.Context, wake []<-chan struct{}, poke <-chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for len(wake) < 2 {
		wake = append(wake, nil)
	}
	select {
	case <-wake[0]:
	case <-wake[1]:
	case <-poke:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *Sender) open(ctx context.Context, f *FeedSender) error {
	if f.session == nil {
		f.session = s.opts.Remote.Session(f.Feed)
	}
	at, err := f.session.Position(ctx)
	if err != nil {
		return err
	}
	f.window.begin()
	f.ahead, f.round, f.later = nil, time.Time{}, time.Time{}
	f.load.reset(at.Last)
	f.mu.Lock()
	was, acked, met := f.at, f.past.Acked, f.met
	f.acknowledged(at)
	goneBack := at.Last < acked
	if at.Last == acked && was.Last > acked {
		// All in between belonged to other remotes, and may be gone by now.
		f.load.last, f.load.skipped = was.Last, [][2]uint64{{acked + 1, was.Last}}
		at.Last = was.Last
	}
	if at != was {
		f.next = 0
	}
	f.at, f.met = at, true
	f.mu.Unlock()
	if f.reader == nil {
		f.reader = f.Feed.Lane.NewReader(at.Last)
	}
	f.reader.Seek(at.Last)
	if goneBack {
		s.opts.Logger.Error("the remote has gone back: a restored backup, or a stream made anew; what it lost is sent again as far as it is kept",
			"feed", f.Feed.String(), "had", acked, "has", at.Last)
		if met { // other feeds may not have noticed
			s.opts.Monitor.Renew(errRenewed)
		}
	}
	return nil
}

// acknowledged notes a position that the remote itself has told. It is called
// with mu held.
func (f *FeedSender) acknowledged(at Position) {
	if f.met && at.Total > f.at.Total {
		f.sent += at.Total - f.at.Total
	}
	f.at.Total = at.Total
	f.past.Acked = at.Last
	f.past.Had = max(f.past.Had, at.Last)
}

const idle = time.Hour

// turnMessages gives every priority its share.
func (s *Sender) turnMessages(ctx context.Context) (progress bool, wait time.Duration) {
	wait = idle
	for i, f := range s.messages {
		for range shares[min(i, len(shares)-1)] {
			sent, due := s.try(ctx, f, true)
			if !sent {
				wait = min(wait, due)
				break
			}
			progress = true
		}
	}
	return progress, wait
}

// turnRecords gives each pipeline one batch.
func (s *Sender) turnRecords(ctx context.Context) (progress bool, wait time.Duration) {
	wait = idle
	for _, f := range s.records {
		sent, due := s.try(ctx, f, s.flush.Load())
		progress = progress || sent
		wait = min(wait, due)
	}
	return progress, wait
}

// try makes one attempt with a feed. When it fails, this feed backs off and is
// opened anew; the others go on (I6).
func (s *Sender) try(ctx context.Context, f *FeedSender, now bool) (sent bool, wait time.Duration) {
	clock := s.opts.Now()
	if clock.Before(f.later) {
		return false, f.later.Sub(clock)
	}
	var err error
	if !f.opened {
		if err = s.open(ctx, f); err == nil {
			f.opened = true
			s.progress.Broadcast()
		}
	}
	if err == nil {
		sent, wait, err = s.attempt(ctx, f, now)
	}
	if sent {
		f.failures = 0
	}
	if err == nil || ctx.Err() != nil {
		return sent, wait
	}
	backoff := s.opts.Backoff
	if crowded(err) {
		backoff = Backoff{Base: min(crowdedBase, backoff.Base), Max: min(crowdedMax, backoff.Max), Float64: backoff.Float64}
	}
	wait = backoff.Wait(f.failures)
	f.failures++
	f.opened, f.later = false, clock.Add(wait)
	if crowded(err) {
		s.opts.Logger.Debug("the hub has too many batches under way, trying again", "feed", f.Feed.String(), "in", wait)
		return sent, wait
	}
	f.note(err)
	f.tried(f.later)
	s.opts.Logger.Warn("sync failed, trying again", "feed", f.Feed.String(), "in", wait.Round(time.Millisecond), "error", err)
	s.opts.Monitor.Failed(err)
	return sent, wait
}

// How a feed backs off that a hub has no room for: others are served meanwhile.
const (
	crowdedBase = 50 * time.Millisecond
	crowdedMax  = 2 * time.Second
)

// step sends one batch of f if one is due, or says how long that may take.
func (s *Sender) step(ctx context.Context, f *FeedSender, now bool) (sent bool, wait time.Duration, err error) {
	clock := s.opts.Now()
	if f.every > 0 && !now {
		if clock.Before(f.round) {
			return false, f.round.Sub(clock), nil
		}
		now = true // a round sends whatever waits
	}
	if f.ahead != nil {
		f.load, f.ahead, f.spare = f.ahead, nil, f.load
	}
	l := f.load
	if l.made == nil {
		if err := f.fill(ctx, clock, l); err != nil {
			return false, 0, err
		}
	}
	l.expire(f.Feed, clock)
	b := f.batch(l)
	if len(l.entries)+len(b.Discarded)+len(b.Expired)+len(b.Lost) == 0 && len(l.skipped) < maxRanges {
		f.settle()
		if f.every > 0 {
			f.round = clock.Add(f.every)
			return false, f.every, nil
		}
		return false, idle, nil
	}
	due, wait := f.due(l, clock.Sub(l.oldest))
	if !due && !now && l.made == nil && len(l.entries) > 0 {
		return false, wait, nil
	}
	begun := s.opts.Now()
	if err := f.push(ctx, b, clock); err != nil {
		if !refusedBy(err) {
			f.window.failed(l.bytes)
		}
		return false, 0, err
	}
	f.window.took(s.opts.Now().Sub(begun), l.bytes)
	f.pushed(b, s.opts.Now())
	s.progress.Broadcast()
	return true, 0, nil
}

// push pushes b and, where the session can do that, has a full batch behind it
// on its way meanwhile.
func (f *FeedSender) push(ctx context.Context, b *Batch, now time.Time) error {
	session, ok := f.session.(Ahead)
	if !ok {
		return f.session.Push(ctx, b)
	}
	var failed error
	err := session.PushAhead(ctx, b, func() *Batch {
		l := f.spare
		l.reset(b.Last)
		failed = f.fill(ctx, now, l)
		f.ahead = l // what is read stays read, due or not
		if due, _ := f.due(l, 0); !due || failed != nil {
			return nil
		}
		l.made = f.batch(l)
		return l.made
	})
	return errors.Join(err, failed)
}

// settle notes that nothing is to be sent now: everything read belonged to other
// remotes, and an error of before is over unless something was put aside.
func (f *FeedSender) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at.Last = max(f.at.Last, f.load.last)
	if f.at.Aside == 0 {
		f.lastErr = nil
	}
}

func (f *FeedSender) pushed(b *Batch, now time.Time) {
	l := f.load
	f.mu.Lock()
	if session, ok := f.session.(Ahead); ok {
		at := session.At()
		f.acknowledged(at)
		f.at = at
	}
	f.at.Last, f.next, f.tries = l.last, 0, tries{}
	if n := len(l.entries); n > 0 {
		f.next = l.entries[n-1].Next
	}
	f.past.Lost = addRanges(f.past.Lost, b.HubLost)
	f.lastSync, f.lastErr = now, nil
	f.mu.Unlock()
	l.reset(l.last)
}

func (f *FeedSender) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastErr = err
}

func (f *FeedSender) close() {
	if f.reader != nil {
		f.reader.Close()
	}
}

// Status tells what the remote is known to have, and how the last push went.
func (f *FeedSender) Status() (at Position, lastSync time.Time, lastErr error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at, f.lastSync, f.lastErr
}

// Sent returns how many entries the remote has taken since this process first
// asked it.
func (f *FeedSender) Sent() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}

// Met reports whether this process has asked the remote; see [Feed.Met].
func (f *FeedSender) Met() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met
}

// Past returns what is known of the remote beside its position.
func (f *FeedSender) Past() Past {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.past
}

// Waiting returns how many entries the remote has yet to settle, those put
// aside for another try among them.
func (f *FeedSender) Waiting() uint64 {
	at, _, _ := f.Status()
	return f.behind() + at.Aside
}

// Floor returns the stream sequence from which on this feed still needs its
// log, given that everything up to durable was there before the call (I3).
func (f *FeedSender) Floor(durable uint64) uint64 {
	if f.behind() == 0 { // what was put aside is kept apart
		return durable + 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}
