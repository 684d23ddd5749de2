package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/edged/edged/engine/broker"
)

// Remove deletes single entries of a log whose Options say Single, as a scan has
// found them, and returns how many were still there. Their numbers are noted as
// discarded, durably, before anything goes (I7), and no commit entry goes with
// them. It works while the log is full. A [Reader] that has yet to come to the
// lane's newest entry waits in vain when just that is removed.
func (l *Log) Remove(ctx context.Context, entries []Found) (int, error) {
	if !l.opts.Single {
		return 0, fmt.Errorf("removing from %s: its entries are not stored one by one", l.opts.Stream)
	}
	var there []Found
	byLane := map[string]*Group{}
	var groups []*Group
	for i := range entries {
		e := &entries[i]
		if ok, err := l.alone(ctx, e); err != nil {
			return 0, err
		} else if !ok {
			continue
		}
		g := byLane[e.Lane]
		if g == nil {
			lane, err := l.Lane(ctx, e.Lane)
			if err != nil {
				return 0, err
			}
			g = &Group{lane: lane}
			byLane[e.Lane] = g
			groups = append(groups, g)
		}
		g.discard = addNumber(g.discard, e.Number)
		there = append(there, *e)
	}
	if len(there) == 0 {
		return 0, nil
	}
	if err := l.commit(ctx, groups); err != nil {
		return 0, fmt.Errorf("removing from %s: %w", l.opts.Stream, err)
	}
	for _, g := range groups {
		g.lane.forgetTail()
	}
	var errs []error
	removed := 0
	for i := range there {
		if err := l.stream.DeleteMsg(ctx, there[i].Seq); err != nil {
			errs = append(errs, fmt.Errorf("removing %s %d from %s: %w", there[i].Lane, there[i].Number, l.opts.Stream, err))
			break
		}
		removed++
	}
	errs = append(errs, l.measure(ctx))
	l.room.Broadcast()
	return removed, errors.Join(errs...)
}

// alone reports whether e is still where it was found, with nothing beside it.
func (l *Log) alone(ctx context.Context, e *Found) (bool, error) {
	msg, err := broker.NextMessage(ctx, l.nc, l.opts.Stream, ">", e.Seq)
	if err != nil {
		return false, err
	}
	if msg == nil || msg.Seq != e.Seq {
		return false, nil
	}
	p, err := decodePack(msg.Data, l.opts.Subject)
	if err != nil {
		return false, fmt.Errorf("removing %s %d from %s: %w", e.Lane, e.Number, l.opts.Stream, err)
	}
	return len(p.entries) == 1 && p.first == e.Number && len(p.commit) == 0 && len(p.outbox) == 0, nil
}

// forgetTail makes readers go to the disk for what is stored by now.
func (l *Lane) forgetTail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail, l.inTail = nil, 0
}

// RemoveBefore deletes everything before stream sequence seq of a log whose
// Options say Single, at once. spans holds, by lane, the first and the last
// number that goes; they are noted as discarded, durably, before (I7).
func (l *Log) RemoveBefore(ctx context.Context, seq uint64, spans map[string][2]uint64) error {
	if !l.opts.Single {
		return fmt.Errorf("removing from %s: its entries are not stored one by one", l.opts.Stream)
	}
	var groups []*Group
	for name, span := range spans {
		lane, err := l.Lane(ctx, name)
		if err != nil {
			return err
		}
		groups = append(groups, &Group{lane: lane, discard: [][2]uint64{span}})
	}
	if err := l.commit(ctx, groups); err != nil {
		return fmt.Errorf("removing from %s: %w", l.opts.Stream, err)
	}
	for _, g := range groups {
		g.lane.forgetTail()
	}
	return l.Purge(ctx, seq) // which carries the commit entries forward
}
