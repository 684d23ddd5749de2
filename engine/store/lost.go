package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edged/edged/engine/broker"
)

// Loss is a range of numbers, first and last, that were durable in this lane and
// are lost, with what is known of the cause.
type Loss struct {
	Epoch string `json:"epoch"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Cause string `json:"cause"`
}

// maxLosses bounds how many losses a lane remembers.
const maxLosses = 64

// Losses returns the lane's losses that are noted, oldest first.
func (l *Lane) Losses() []Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Loss(nil), l.state.Losses...)
}

// NoteLost notes that numbers were lost; it returns when that is durable. What is
// noted already is not noted again.
func (l *Lane) NoteLost(ctx context.Context, loss Loss) error {
	for _, known := range l.Losses() {
		if known.Epoch == loss.Epoch && known.First <= loss.First && loss.Last <= known.Last {
			return nil
		}
	}
	if err := l.log.commit(ctx, []*Group{{lane: l, loss: &loss}}); err != nil {
		return fmt.Errorf("noting that %s %d to %d are lost: %w", l.name, loss.First, loss.Last, err)
	}
	return nil
}

// Lost returns the numbers from first to last that are noted as lost.
func (l *Lane) Lost(first, last uint64) [][2]uint64 {
	var out [][2]uint64
	for _, loss := range l.Losses() {
		if era, _ := l.EraOf(loss.First); era.Epoch == loss.Epoch && loss.Last >= first && loss.First <= last {
			out = append(out, [2]uint64{max(loss.First, first), min(loss.Last, last)})
		}
	}
	return out
}

// Missing are numbers that a lane does not hold. They would stand between the
// stream sequences After and Before.
type Missing struct {
	Lane          string
	First, Last   uint64
	After, Before uint64
	// Head says that they stand before the first that is there: then most of them
	// were purged.
	Head bool
}

// Missing reads the log from disk and returns what is missing between the numbers
// that are there and before them, but for what was discarded. It takes time in
// proportion to what is stored.
func (l *Log) Missing(ctx context.Context) ([]Missing, error) {
	w, err := newWalk(ctx, l.nc, l.opts.Stream, false)
	if err != nil {
		return nil, err
	}
	type place struct{ number, seq uint64 }
	at := map[string]place{}
	var all []Missing
	err = w.run(ctx, func(msg *broker.StreamMessage) error {
		name, err := laneOf(msg.Subject, l.opts.Subject)
		if err != nil {
			return nil
		}
		p, err := decodePack(msg.Data, l.opts.Subject)
		if err != nil || len(p.entries) == 0 {
			return nil
		}
		before, met := at[name]
		if p.first > before.number+1 {
			all = append(all, Missing{
				Lane: name, First: before.number + 1, Last: p.first - 1, After: before.seq, Before: msg.Seq, Head: !met,
			})
		}
		at[name] = place{max(before.number, p.last()), msg.Seq}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, lane := range l.Lanes() {
		// A commit entry that was carried forward may know of more.
		if last, seen := lane.Last(), at[lane.name]; seen.number < last {
			all = append(all, Missing{
				Lane: lane.name, First: seen.number + 1, Last: last, After: seen.seq, Before: lane.commitSeq(), Head: seen.number == 0,
			})
		}
	}
	return l.unexplained(ctx, all)
}

// unexplained leaves out what was discarded.
func (l *Log) unexplained(ctx context.Context, all []Missing) ([]Missing, error) {
	var out []Missing
	for _, m := range all {
		lane, err := l.Lane(ctx, m.Lane)
		if err != nil {
			return nil, err
		}
		next := m.First
		for _, d := range append(lane.accounted(m.First, m.Last), [2]uint64{m.Last + 1, m.Last + 1}) {
			if d[0] > next {
				part := m
				part.First, part.Last = next, d[0]-1
				out = append(out, part)
			}
			next = max(next, d[1]+1)
		}
	}
	return out, nil
}

// accounted returns the ranges from first to last that went for a reason that is
// noted, sorted.
func (l *Lane) accounted(first, last uint64) [][2]uint64 {
	l.mu.Lock()
	all := slices.Concat(l.state.Discarded, l.state.Expired, l.state.Evicted)
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	return within(all, first, last)
}

// newestOf reads what the newest messages of a lane say of it. Normally the last
// one has the commit entry. When damage has taken it, or has left a part of a
// commit, the lane is read from its beginning: its newest commit entry counts,
// and behind it every entry that is there.
func (l *Log) newestOf(ctx context.Context, lane *Lane, found *broker.StreamMessage) (state commit, seq uint64, err error) {
	if p, err := decodePack(found.Data, l.opts.Subject); err == nil && json.Unmarshal(p.commit, &state) == nil {
		state.own = len(p.commit)
		return state, found.Seq, nil
	}
	l.opts.Logger.Error("the newest part of a lane is damaged; the one before it counts", "stream", l.opts.Stream, "lane", lane.name)
	state = commit{}
	for next := uint64(1); ; {
		at, err := lane.at(ctx, next)
		if err != nil {
			return state, 0, err
		}
		if at.pack == nil {
			return state, seq, nil
		}
		var c commit
		if len(at.commit) > 0 && json.Unmarshal(at.commit, &c) == nil {
			state, seq = c, at.seq
			state.own = len(at.commit)
		}
		if len(at.entries) > 0 {
			state.Last = max(state.Last, at.last())
		}
		next = at.seq + 1
	}
}
