package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Stats tells what a lane keeps on disk.
type Stats struct {
	First uint64 // number of the oldest entry that is there; 0: none is
	Seq   uint64 // stream sequence of its pack
	Count uint64 // entries from there to the newest
	Bytes uint64 // what they take on disk, with their outboxes and commit entries, about
	// Oldest and Newest are when those entries were stored.
	Oldest time.Time
	Newest time.Time
}

// oldest is where the lane begins on disk.
type oldest struct {
	known bool
	first uint64 // number of the first entry, 0: there is none
	seq   uint64 // stream sequence of its pack
	time  time.Time
	bytes uint64 // the lane's bytes before its first pack
}

// Stats tells what the lane keeps. It reads a pack or two from disk after a
// purge, and answers from memory until the next: it may be asked often. Bytes
// are whole packs, as purges are.
func (l *Lane) Stats(ctx context.Context) (Stats, error) {
	at, err := l.findOldest(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("looking for the oldest entry of %s: %w", l.name, err)
	}
	now := l.snapshot()
	s := Stats{Bytes: now.bytes() - min(now.bytes(), at.bytes)}
	if at.first > 0 && at.first <= now.Last {
		s.First, s.Seq, s.Count = at.first, at.seq, now.Last-at.first+1
		s.Oldest, s.Newest = at.time, now.Stored
		if s.Newest.Before(s.Oldest) { // the server's clock reading is the later
			s.Newest = s.Oldest
		}
	}
	return s, nil
}

// StoredAt returns when the entry of that number was stored or, when it is gone,
// the next one that is there; the zero time when there is none. It answers from
// memory for the newest entries. From disk it reads one pack when seq says from
// which stream sequence on it stands, and some twenty when seq is 0.
func (l *Lane) StoredAt(ctx context.Context, number, seq uint64) (time.Time, error) {
	if t, ok := l.tailTime(number); ok {
		return t, nil
	}
	if seq == 0 {
		found, err := l.find(ctx, number)
		return found.time, err
	}
	for {
		found, err := l.at(ctx, seq)
		if err != nil || found.pack == nil || len(found.entries) > 0 {
			return found.time, err
		}
		seq = found.seq + 1
	}
}

// tailTime is StoredAt from memory.
func (l *Lane) tailTime(number uint64) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number > l.state.Last {
		return time.Time{}, true
	}
	for i := len(l.tail) - 1; i >= 0; i-- {
		if b := &l.tail[i]; b.first <= number {
			return b.time, b.last() >= number
		}
	}
	return time.Time{}, false
}

// findOldest looks where the lane begins on disk, unless that is known.
func (l *Lane) findOldest(ctx context.Context) (oldest, error) {
	l.mu.Lock()
	known, purges := l.oldest, l.purges
	l.mu.Unlock()
	if known.known {
		return known, nil
	}
	at := oldest{known: true}
	found, err := l.at(ctx, 1)
	if err != nil {
		return at, err
	}
	if found.pack != nil {
		if at.bytes, err = l.bytesBefore(ctx, found.seq); err != nil {
			return at, err
		}
	}
	for found.pack != nil && len(found.entries) == 0 {
		if found, err = l.at(ctx, found.seq+1); err != nil {
			return at, err
		}
	}
	if found.pack != nil {
		at.first, at.seq, at.time = found.first, found.seq, found.time
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.first > 0 && purges == l.purges { // one that comes is the first then
		l.oldest = at
	}
	return at, nil
}

// forgetOldest tells that the lane may begin elsewhere now.
func (l *Lane) forgetOldest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest = oldest{}
	l.purges++
}

// bytesBefore returns the lane's bytes before the pack at stream sequence seq,
// or the next one.
func (l *Lane) bytesBefore(ctx context.Context, seq uint64) (uint64, error) {
	var packs uint64
	for {
		found, err := l.at(ctx, seq)
		if err != nil {
			return 0, err
		}
		if found.pack == nil {
			now := l.snapshot()
			return now.bytes(), nil
		}
		packs += uint64(found.size() - len(found.commit))
		if len(found.commit) > 0 {
			var c commit
			if err := json.Unmarshal(found.commit, &c); err != nil {
				return 0, err
			}
			return c.Bytes - min(c.Bytes, packs), nil
		}
		seq = found.seq + 1
	}
}

// SequenceOf returns the stream sequence from which on the lane's part of the
// log before stream sequence end takes at most size bytes.
func (l *Lane) SequenceOf(ctx context.Context, size, end uint64) (uint64, error) {
	total, err := l.bytesBefore(ctx, end)
	if err != nil {
		return 0, fmt.Errorf("measuring %s: %w", l.name, err)
	}
	first, err := l.at(ctx, 1)
	if err != nil || first.pack == nil {
		return end, err
	}
	low, high := first.seq, end // the answer is in low..high
	for low < high {
		mid := low + (high-low)/2
		before, err := l.bytesBefore(ctx, mid)
		if err != nil {
			return 0, fmt.Errorf("measuring %s: %w", l.name, err)
		}
		if total-min(total, before) <= size {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}
