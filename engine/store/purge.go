package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// A lane's packs stand in segments: the subject names which. A purge of one lane
// asks the server for one segment after the other, because it reads every block
// that holds a message of the subject, also those behind the last that goes.
const (
	segmentParts = 64 // segments in a log that one lane fills
	leastSegment = 64 << 10
	mostSegment  = 8 << 20 // the size of the server's blocks
	// purgeTimeout bounds a purge of one segment on a slow disk.
	purgeTimeout = time.Minute
	// evictAtOnce bounds how many messages are looked at in one step.
	evictAtOnce = 4096
)

// segment is the stretch of a lane that new packs belong to.
type segment struct {
	Number uint64 `json:"number"`
	From   uint64 `json:"from"` // the lane's bytes when it began
}

func (l *Log) segmentBytes() uint64 {
	return uint64(min(max(l.opts.MaxBytes/segmentParts, leastSegment), mostSegment))
}

// subject is where the packs of a segment stand, without the last token.
func (l *Lane) subject(s segment) string {
	return l.log.opts.Subject + "." + l.token + "." + strconv.FormatUint(s.Number, 10)
}

// filter matches the lane's messages.
func (l *Lane) filter() string { return l.log.opts.Subject + "." + l.token + ".>" }

// Purge removes everything before stream sequence seq, except that the newest
// commit entry of each lane, and its states, are written anew first so that they
// stay. It is quick however much it removes, and works while the log is full. The caller sees to
// it that nothing is still needed (I3).
func (l *Log) Purge(ctx context.Context, seq uint64) error {
	l.mu.Lock()
	var behind []*Group
	for _, lane := range l.lanes {
		if lane.standsBelow(seq) {
			behind = append(behind, &Group{lane: lane, carry: seq})
		}
	}
	l.mu.Unlock()
	if len(behind) > 0 {
		if err := l.commit(ctx, behind); err != nil {
			return fmt.Errorf("purging %s below %d: %w", l.opts.Stream, seq, err)
		}
	}
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(seq)); err != nil {
		return fmt.Errorf("purging %s below %d: %w", l.opts.Stream, seq, err)
	}
	return l.purged(ctx)
}

// purged takes notice that there is more room.
func (l *Log) purged(ctx context.Context) error {
	for _, lane := range l.Lanes() {
		lane.forgetOldest()
	}
	err := l.measure(ctx)
	l.room.Broadcast()
	return err
}

// Purge removes the lane's part of the log before stream sequence seq and leaves
// the other lanes alone. As with [Log.Purge] the newest commit entry and the states
// stay, it works while the log is full, and the caller sees to it that nothing is still
// needed (I3). It costs the server a look at the blocks in which something goes.
func (l *Lane) Purge(ctx context.Context, seq uint64) error {
	if l.standsBelow(seq) {
		if err := l.log.commit(ctx, []*Group{{lane: l, carry: seq}}); err != nil {
			return fmt.Errorf("purging %s below %d: %w", l.name, seq, err)
		}
	}
	if err := l.purgeBelow(ctx, seq); err != nil {
		return fmt.Errorf("purging %s below %d: %w", l.name, seq, err)
	}
	return l.log.purged(ctx)
}

// standsBelow reports whether the newest commit entry or a part of a state
// stands before stream sequence seq.
func (l *Lane) standsBelow(seq uint64) bool {
	commit, state := l.commitSeq(), l.oldestState()
	return commit != 0 && commit < seq || state != 0 && state < seq
}

// purgeBelow removes the lane's messages before seq, segment by segment.
func (l *Lane) purgeBelow(ctx context.Context, seq uint64) error {
	purge := func(subject string) error {
		ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
		defer cancel()
		return l.log.stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(seq))
	}
	for before := ""; ; {
		msg, err := broker.NextMessage(ctx, l.log.nc, l.log.opts.Stream, l.filter(), 1)
		if err != nil {
			return err
		}
		if msg == nil { // the lane has a commit entry, so its first message cannot be read
			return purge(l.filter())
		}
		subject := msg.Subject[:strings.LastIndexByte(msg.Subject, '.')]
		if msg.Seq >= seq || subject == before {
			return nil
		}
		if err := purge(subject + ".*"); err != nil {
			return err
		}
		before = subject
	}
}

// Discard drops the lane's oldest entries before they are synced, to make room:
// the numbers from first to about last, for only whole packs go. That they were
// dropped is durable first (I7). It returns the last number that went, and works
// while the log is full. Nothing goes that stands at stream sequence before or
// behind it: up to there the outboxes have been taken. When that leaves nothing it
// returns first - 1.
func (l *Lane) Discard(ctx context.Context, first, last, before uint64) (uint64, error) {
	return l.discard(ctx, first, last, before, time.Time{})
}

// Release is Discard on request: that and when it was asked for is noted too.
func (l *Lane) Release(ctx context.Context, first, last, before uint64, now time.Time) (uint64, error) {
	return l.discard(ctx, first, last, before, now)
}

func (l *Lane) discard(ctx context.Context, first, last, before uint64, released time.Time) (uint64, error) {
	log, newest, below := l.log, l.Last(), before
	found, err := l.find(ctx, last+1)
	if err == nil && (found.pack == nil || found.seq >= before) {
		found, err = l.at(ctx, before)
		if last = newest; found.pack != nil {
			last = found.first - 1
		}
	} else if err == nil {
		if last, below = found.first-1, found.seq; last < first { // all in one pack: it goes whole
			last, below = found.last(), found.seq+1
		}
	}
	if err != nil || last < first {
		return first - 1, err
	}
	g := &Group{lane: l, discard: [][2]uint64{{first, last}}, carry: below}
	if !released.IsZero() {
		g.release = &Release{First: first, Last: last, Time: released.UTC()}
	}
	if err := log.commit(ctx, []*Group{g}); err != nil {
		return 0, fmt.Errorf("discarding %s %d to %d: %w", l.name, first, last, err)
	}
	l.forget(last)
	if err := l.purgeBelow(ctx, below); err != nil {
		return 0, fmt.Errorf("discarding %s %d to %d: %w", l.name, first, last, err)
	}
	return last, log.purged(ctx)
}

// forget takes the entries up to number out of memory: they are counted as
// dropped, and a sender must not find them any more.
func (l *Lane) forget(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.tail) > 0 && l.tail[0].last() <= number {
		l.inTail -= l.tail[0].bytes
		l.tail[0] = block{}
		l.tail = l.tail[1:]
	}
}

// Release says that the numbers from First to Last were given up on request.
type Release struct {
	First uint64    `json:"first"`
	Last  uint64    `json:"last"`
	Time  time.Time `json:"time"`
}

// SequenceAt returns the stream sequence of the first message stored at or
// after t, or the one behind the newest when there is none.
func (l *Log) SequenceAt(ctx context.Context, t time.Time) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("looking for %s in %s: %w", t, l.opts.Stream, err)
	}
	low, high := info.State.FirstSeq, info.State.LastSeq+1 // the answer is in low..high
	for low < high {
		mid := low + (high-low)/2
		msg, err := broker.NextMessage(ctx, l.nc, l.opts.Stream, ">", mid)
		if err != nil {
			return 0, err
		}
		if msg == nil || !msg.Time.Before(t) {
			high = mid
		} else {
			low = msg.Seq + 1
		}
	}
	return low, nil
}

// dropOldest removes up to an eighth of the log, the oldest, until enough is gone or
// nothing is left. The server could do that itself (DiscardOld), but it would
// drop the commit entries of lanes that stand still: their numbers would begin
// anew and their next commit be refused for ever. What goes is durably noted in
// its lane's commit entry first (I7).
func (l *Log) dropOldest(ctx context.Context, enough func() bool) error {
	last := l.Durable()
	for !enough() {
		info, err := l.stream.Info(ctx)
		if err != nil {
			return fmt.Errorf("asking for the size of %s: %w", l.opts.Stream, err)
		}
		first := info.State.FirstSeq
		if first > last {
			return nil
		}
		next := first + min(max((last-first+1)/8, 1), evictAtOnce)
		dropped, err := l.noteEvicted(ctx, first, next)
		if err != nil {
			return err
		}
		if err := l.Purge(ctx, next); err != nil {
			return err
		}
		if dropped > 0 {
			l.opts.Logger.Warn("the log is full, its oldest entries are dropped", "stream", l.opts.Stream, "dropped", dropped)
		}
	}
	return nil
}

// noteEvicted notes the entries from stream sequence first to before next as
// evicted, and returns how many they are.
func (l *Log) noteEvicted(ctx context.Context, first, next uint64) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	byLane := map[string]*Group{}
	var groups []*Group
	w := walk{nc: l.nc, stream: l.opts.Stream, state: jetstream.StreamState{FirstSeq: first, LastSeq: next - 1, Msgs: 1}}
	err = w.run(ctx, func(msg *broker.StreamMessage) error {
		name, err := laneOf(msg.Subject, l.opts.Subject)
		if err != nil {
			return err
		}
		p, err := decodePack(msg.Data, l.opts.Subject)
		if err != nil {
			return nil // what it held cannot be told; [Verify] does as far as it goes
		}
		for i := range p.entries {
			g := byLane[name]
			if g == nil {
				lane, err := l.Lane(ctx, name)
				if err != nil {
					return err
				}
				g = &Group{lane: lane}
				byLane[name] = g
				groups = append(groups, g)
			}
			g.evict = addNumber(g.evict, p.first+uint64(i))
			n++
		}
		return nil
	})
	if err == nil && n > 0 {
		err = l.commit(ctx, groups)
	}
	if err != nil {
		return 0, fmt.Errorf("dropping the oldest of %s: %w", l.opts.Stream, err)
	}
	return n, nil
}
