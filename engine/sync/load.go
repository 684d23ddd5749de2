package sync

import (
	"context"
	"slices"
	"time"

	"github.com/edged/edged/engine/store"
)

// most is how many bytes a push may bring now.
func (f *FeedSender) most() int { return f.window.most(f.policy.MaxBytes) }

// due reports whether a load goes now, or how long it may still wait.
func (f *FeedSender) due(l *load, age time.Duration) (bool, time.Duration) {
	policy := f.policy
	policy.MaxBytes = f.most()
	return policy.Due(len(l.entries), l.bytes, age)
}

// load is a batch in the making.
type load struct {
	after   uint64 // everything up to this number went before it
	last    uint64 // it reaches up to this number
	entries []store.Stored
	skipped [][2]uint64 // numbers for other remotes
	expired [][2]uint64 // numbers past their time to live
	bytes   int
	oldest  time.Time // when its oldest entry was first seen
	made    *Batch    // it is on its way as this batch
}

func (l *load) reset(after uint64) {
	clear(l.entries)
	*l = load{after: after, last: after, entries: l.entries[:0]}
}

// batch is the load as it goes.
func (f *FeedSender) batch(l *load) *Batch {
	if l.made != nil {
		return l.made
	}
	b := &Batch{Entries: l.entries, Last: l.last, Elsewhere: l.skipped, Expired: l.expired}
	if l.last > l.after+uint64(len(l.entries)) { // not all of them are here
		b.Discarded = without(f.Feed.Lane.Discarded(l.after+1, l.last), b.Entries)
		b.Lost = f.Feed.Lane.Lost(l.after+1, l.last)
		if gone := f.Feed.Lane.Expired(l.after+1, l.last); len(gone) > 0 {
			b.Expired = mergeRanges(b.Expired, gone)
		}
		b.HubLost = f.lostAtHub(l, b)
	}
	return b
}

// without returns ranges but for the numbers of entries, which rise: what was
// dropped after it was read goes all the same.
func without(ranges [][2]uint64, entries []store.Stored) (left [][2]uint64) {
	for _, r := range ranges {
		next := r[0]
		for i := range entries {
			n := entries[i].Number
			if n < next || n > r[1] {
				continue
			}
			if n > next {
				left = append(left, [2]uint64{next, n - 1})
			}
			next = n + 1
		}
		if next <= r[1] {
			left = append(left, [2]uint64{next, r[1]})
		}
	}
	return left
}

// lostAtHub returns the numbers of a load that are not there any more and that
// the remote has acknowledged once: it has lost them since.
func (f *FeedSender) lostAtHub(l *load, b *Batch) [][2]uint64 {
	f.mu.Lock()
	had := min(f.past.Had, l.last)
	f.mu.Unlock()
	if had <= l.after {
		return nil
	}
	var here [][2]uint64
	for i := range b.Entries {
		if n := b.Entries[i].Number; n <= had {
			here = addNumber(here, n)
		}
	}
	lost := unexplained(l.after+1, had, here, b.Elsewhere, b.Discarded, b.Expired)
	if k := len(lost) - 1; k >= 0 {
		lost[k][1] = min(lost[k][1], had) // what is explained may begin behind it
	}
	return lost
}

// expire takes out what has passed its time to live while it waited to be sent.
func (l *load) expire(feed *Feed, now time.Time) {
	if feed.Expires == nil || l.made != nil {
		return
	}
	kept := l.entries[:0]
	for _, e := range l.entries {
		if !feed.expired(&e, now) {
			kept = append(kept, e)
			continue
		}
		l.bytes -= len(e.Data)
		l.expired = addNumber(l.expired, e.Number)
	}
	clear(l.entries[len(kept):])
	if l.entries = kept; len(l.expired) > 1 {
		l.expired = mergeRanges(l.expired)
	}
}

// maxRanges bounds how many ranges of numbers a batch names beside its entries.
const maxRanges = 1000

// fill reads until the load is full or nothing more is there.
func (f *FeedSender) fill(ctx context.Context, now time.Time, l *load) error {
	most := min(f.policy.MaxRecords, f.session.MaxEntries())
	maxBytes := f.most()
	for len(l.entries) < most && l.bytes < maxBytes && len(l.skipped)+len(l.expired) < maxRanges {
		n := len(l.entries)
		// A batch belongs to one era: the ledger entry names its epoch.
		at, _, _ := f.Status()
		_, last := f.Feed.Lane.EraOf(max(at.Last, l.after) + 1)
		if f.reader.Number() >= last {
			return nil
		}
		most := int(min(uint64(most), uint64(n)+last-f.reader.Number()))
		var err error
		if l.entries, err = f.reader.Read(ctx, most-n, maxBytes-l.bytes, l.entries); err != nil {
			return err
		}
		l.last = f.reader.Number()
		got := l.entries[n:]
		if len(got) == 0 {
			return nil
		}
		if n == 0 {
			l.oldest = now
		}
		kept := n
		for i := range got {
			if f.Feed.Want == nil || f.Feed.Want(&got[i]) {
				l.entries[kept] = got[i]
				l.bytes += len(got[i].Data)
				kept++
			} else {
				l.skipped = addNumber(l.skipped, got[i].Number)
			}
		}
		l.entries = l.entries[:kept]
		l.expire(f.Feed, now)
	}
	return nil
}

// maxHubLost bounds how many ranges of numbers that the hub lost are remembered.
const maxHubLost = 64

// addRanges returns ranges with those that follow behind, in memory of its own;
// the oldest are forgotten.
func addRanges(ranges, more [][2]uint64) [][2]uint64 {
	if len(more) == 0 {
		return ranges
	}
	ranges = slices.Clone(ranges)
	for _, r := range more {
		if k := len(ranges) - 1; k >= 0 && ranges[k][0] <= r[0] && r[0] <= ranges[k][1]+1 {
			ranges[k][1] = max(ranges[k][1], r[1])
			continue
		}
		ranges = append(ranges, r)
	}
	return ranges[max(0, len(ranges)-maxHubLost):]
}
