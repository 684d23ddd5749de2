package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edged/edged/engine/broker"
)

// StateChange changes something that a lane keeps under a name beside its
// entries, in the commit of the group that it comes with: its entries and what
// they did to the state are both there after a crash or both not (I2).
//
// A state is a list of chunks whose meaning the store does not know: a whole one,
// and what changed since. Whoever changes it hands over a whole one now and then,
// so that the list stays short: all of it is kept in memory, and is read and
// joined together again when the lane is opened.
type StateChange struct {
	Name string
	// Whole says that Data replaces what the state was; else it comes behind it.
	Whole bool
	Data  []byte // owned by the log from Append on
}

// state is one state of a lane, as of its newest commit.
type state struct {
	chunks         [][]byte
	oldest, newest uint64 // stream sequences of the packs that hold the chunks
	err            error  // why the chunks could not be read
}

// packState is the part of a state that stands in one pack. What stands in the
// pack with the stream sequence prev comes before it; 0: nothing does.
type packState struct {
	name   string
	prev   uint64
	chunks [][]byte
}

// State returns the chunks of a state, the oldest first; none when it was never
// changed. They are shared: read only. The error says that some cannot be read
// any more; the next change must be a whole one.
func (l *Lane) State(name string) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.states[name]
	if s == nil {
		return nil, nil
	}
	return slices.Clone(s.chunks), s.err
}

// oldestState returns the lowest stream sequence that a state of the lane needs,
// 0 when there is none.
func (l *Lane) oldestState() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest uint64
	for _, s := range l.states {
		if s.err == nil && (oldest == 0 || s.oldest < oldest) {
			oldest = s.oldest
		}
	}
	return oldest
}

// readStates reads the states that the newest commit names; at is its stream
// sequence. One that cannot be read is told of by State, and does not keep the
// lane from opening.
func (l *Lane) readStates(ctx context.Context, at uint64) error {
	l.states = map[string]*state{}
	for name, seq := range l.state.States {
		if seq == 0 {
			seq = at
		}
		s := &state{newest: seq}
		l.states[name] = s
		for seq != 0 {
			part, err := l.statePart(ctx, name, seq)
			if errors.Is(err, errDamaged) {
				s.chunks, s.err = nil, fmt.Errorf("reading the state %s of %s: %w", name, l.name, err)
				break
			}
			if err != nil {
				return err
			}
			s.oldest, seq = seq, part.prev
			s.chunks = append(slices.Clone(part.chunks), s.chunks...)
		}
	}
	return nil
}

// statePart reads what the pack at seq holds of a state.
func (l *Lane) statePart(ctx context.Context, name string, seq uint64) (*packState, error) {
	msg, err := broker.NextMessage(ctx, l.log.nc, l.log.opts.Stream, l.filter(), seq)
	if err != nil {
		return nil, err
	}
	if msg == nil || msg.Seq != seq {
		return nil, fmt.Errorf("%w: the message %d is gone", errDamaged, seq)
	}
	p, err := decodePack(msg.Data, l.log.opts.Subject)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.states, func(s packState) bool { return s.name == name })
	if i < 0 || p.states[i].prev >= seq {
		return nil, fmt.Errorf("%w: the message %d does not hold it", errDamaged, seq)
	}
	return &p.states[i], nil
}

// stateParts lays out what a commit holds of the lane's states: what its groups
// change and, before a purge up to carry, all of what would fall.
func (l *Lane) stateParts(groups []*Group, carry uint64) []packState {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := map[string]*packState{}
	for name, s := range l.states {
		if s.err == nil && s.oldest < carry {
			parts[name] = &packState{name: name, chunks: slices.Clone(s.chunks)}
		}
	}
	for _, g := range groups {
		for i := range g.State {
			c := &g.State[i]
			part := parts[c.Name]
			if part == nil {
				part = &packState{name: c.Name}
				if s := l.states[c.Name]; s != nil && s.err == nil {
					part.prev = s.newest
				}
				parts[c.Name] = part
			}
			if c.Whole {
				part.prev, part.chunks = 0, nil
			}
			part.chunks = append(part.chunks, c.Data)
		}
	}
	var all []packState
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		all = append(all, *parts[name])
	}
	return all
}

// applyStates takes over what a stored commit holds in the pack at seq. The
// caller holds the lane's lock.
func (l *Lane) applyStates(parts []packState, seq uint64) {
	if len(parts) == 0 {
		return
	}
	l.state.States = maps.Clone(l.state.States)
	for i := range parts {
		part := &parts[i]
		l.state.States[part.name] = seq
		s := l.states[part.name]
		if s == nil || part.prev == 0 {
			s = &state{oldest: seq}
			l.states[part.name] = s
		}
		s.chunks, s.newest = append(s.chunks, part.chunks...), seq
	}
}
