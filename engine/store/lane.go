package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
)

// tailBytes bounds, per lane, the entries kept in memory for readers that keep
// up.
const tailBytes = 4 << 20

// entryMemory is what an entry takes in memory beside its data, about.
const entryMemory = 64

// Lane is one numbered sequence of a log. All methods may be called from any
// goroutine.
type Lane struct {
	log     *Log
	name    string
	token   string
	changed Signal

	opened uint64 // the highest number when this process opened the lane

	mu     sync.Mutex
	state  commit
	seq    uint64 // of the newest commit entry; 0: there is none
	states map[string]*state
	box    uint64 // stream sequence of the newest outbox
	tail   []block
	inTail int // bytes
	oldest oldest
	purges uint64 // since the lane was opened
}

// block is a pack's entries in memory.
type block struct {
	first   uint64    // number of the first entry
	seq     uint64    // the pack's stream sequence
	time    time.Time // when it was stored
	entries []Entry
	bytes   int
}

func (b *block) last() uint64 { return b.first + uint64(len(b.entries)) - 1 }

// stored returns entry j of the block.
func (b *block) stored(j int) Stored {
	next := b.seq
	if j == len(b.entries)-1 {
		next++
	}
	return Stored{Number: b.first + uint64(j), Next: next, Subject: b.entries[j].Subject, Time: b.time, Data: b.entries[j].Data}
}

// Lane opens the lane of that name, making it when it is new.
func (l *Log) Lane(ctx context.Context, name string) (*Lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[name]; lane != nil {
		return lane, nil
	}
	lane := &Lane{log: l, name: name, token: record.Token(name)}
	found, err := broker.LastMessage(ctx, l.nc, "", l.opts.Stream, lane.filter())
	if err != nil {
		return nil, fmt.Errorf("opening lane %s: %w", name, err)
	}
	if found != nil {
		if lane.state, lane.seq, err = l.newestOf(ctx, lane, found); err != nil {
			return nil, fmt.Errorf("opening lane %s: %w", name, err)
		}
		lane.opened = lane.state.Last
	}
	box, err := broker.LastMessage(ctx, l.nc, "", l.opts.Stream, l.opts.Subject+"."+lane.token+".*"+tokenOutbox)
	if err != nil {
		return nil, fmt.Errorf("opening lane %s: %w", name, err)
	}
	if box != nil {
		lane.box = box.Seq
	}
	if err := lane.readStates(ctx, lane.seq); err != nil {
		return nil, fmt.Errorf("opening lane %s: %w", name, err)
	}
	if len(lane.state.Eras) == 0 {
		lane.state.Eras = []Era{{Epoch: l.epoch, From: 1}}
	}
	l.lanes[name] = lane
	return lane, nil
}

// Era is a stretch of a lane's numbers that belong to one epoch, from From to
// the next era.
type Era struct {
	Epoch string `json:"epoch"`
	From  uint64 `json:"from"`
}

// maxEras bounds how many eras a lane remembers.
const maxEras = 16

// Eras returns the lane's eras, oldest first: one, unless the store was found
// to have gone back in time.
func (l *Lane) Eras() []Era {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.state.Eras)
}

// EraOf returns the era that number belongs to, and that era's last possible
// number.
func (l *Lane) EraOf(number uint64) (Era, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := uint64(math.MaxUint64)
	for i := len(l.state.Eras) - 1; i > 0; i-- {
		if e := l.state.Eras[i]; number >= e.From {
			return e, last
		}
		last = l.state.Eras[i].From - 1
	}
	return l.state.Eras[0], last
}

// NewEra begins an era with the number after: from there on the lane's numbers
// have a new epoch, so that a remote that has seen later numbers of the old one
// cannot take the new for them. It returns when that is durable.
func (l *Lane) NewEra(ctx context.Context, after uint64) error {
	epoch, err := newEpoch()
	if err != nil {
		return err
	}
	err = l.log.commit(ctx, []*Group{{lane: l, era: &Era{Epoch: epoch, From: after + 1}}})
	if err == nil && l.log.opts.Flush != nil {
		err = l.log.opts.Flush(l.log.opts.Stream)
	}
	if err != nil {
		return fmt.Errorf("beginning a new epoch of %s: %w", l.name, err)
	}
	return nil
}

// Discarded returns the ranges of numbers from first to last that were dropped
// by policy before they were synced.
func (l *Lane) Discarded(first, last uint64) [][2]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return within(l.state.Discarded, first, last)
}

// Expired returns the ranges of numbers from first to last that were dropped
// because they had passed their time to live; see [Lane.Expire].
func (l *Lane) Expired(first, last uint64) [][2]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return within(l.state.Expired, first, last)
}

// within returns what ranges hold of the numbers from first to last.
func within(ranges [][2]uint64, first, last uint64) (out [][2]uint64) {
	for _, d := range ranges {
		if d[1] >= first && d[0] <= last {
			out = append(out, [2]uint64{max(d[0], first), min(d[1], last)})
		}
	}
	return out
}

// Evicted returns the ranges of numbers that went because the log was full, of a
// log whose Options say DropOldest: the newest of them, for only so many are
// remembered; [Counts] has how many there were in all.
func (l *Lane) Evicted() [][2]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.state.Evicted)
}

// GivenUp returns the number up to which the lane's entries were discarded last;
// 0: none were.
func (l *Lane) GivenUp() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.state.Discarded); n > 0 {
		return l.state.Discarded[n-1][1]
	}
	return 0
}

// Released returns what was given up on request, oldest first; only so many are
// remembered.
func (l *Lane) Released() []Release {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.state.Released)
}

// NewestOutbox returns the stream sequence of the lane's newest outbox, 0 when
// there is none.
func (l *Lane) NewestOutbox() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.box
}

// Opened returns the highest number that was durable when this process opened
// the lane.
func (l *Lane) Opened() uint64 { return l.opened }

// Name returns the lane's name.
func (l *Lane) Name() string { return l.name }

// Durable is as [Log.Durable] of the lane's log.
func (l *Lane) Durable() uint64 { return l.log.Durable() }

// Prefix returns the subject prefix of the lane's log.
func (l *Lane) Prefix() string { return l.log.opts.Subject }

// Subject returns the full local subject of an entry of this lane.
func (l *Lane) Subject(tokens ...string) string {
	b := append([]byte(l.log.opts.Subject), '.')
	b = append(b, l.token...)
	for _, t := range tokens {
		b = record.AppendToken(append(b, '.'), t)
	}
	return string(b)
}

// Last returns the highest number that is durable; 0 before the first.
func (l *Lane) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Last
}

// Counts returns the lane's counters as of its newest commit.
func (l *Lane) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Counts
}

// Position returns where that source continues, nil when it has never said.
func (l *Lane) Position(source string) json.RawMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Positions[source]
}

// Changed returns a channel that is closed at the next commit of this lane.
func (l *Lane) Changed() <-chan struct{} { return l.changed.Wait() }

func (l *Lane) snapshot() commit {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *Lane) commitSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// apply takes over a stored commit whose first pack has the stream sequence at.
func (l *Lane) apply(c *laneCommit, at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.seq = c.next, at+uint64(len(c.packs))-1
	l.applyStates(c.packs[len(c.packs)-1].states, l.seq)
	for i := range c.packs {
		p := &c.packs[i]
		if len(p.outbox) > 0 {
			l.box = at + uint64(i)
		}
		if len(p.entries) == 0 {
			continue
		}
		b := block{first: p.first, seq: at + uint64(i), time: c.next.Stored, entries: p.entries}
		for j := range p.entries {
			b.bytes += len(p.entries[j].Data) + entryMemory
		}
		l.tail = append(l.tail, b)
		l.inTail += b.bytes
	}
	for l.inTail > tailBytes && len(l.tail) > 1 {
		l.inTail -= l.tail[0].bytes
		l.tail[0] = block{}
		l.tail = l.tail[1:]
	}
}

// fromTail returns entries after number from memory, and whether memory
// reaches back that far.
func (l *Lane) fromTail(number uint64, limit, bytes int, out []Stored) ([]Stored, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tail) == 0 || number+1 < l.tail[0].first {
		return out, number >= l.state.Last
	}
	had := len(out)
	from := sort.Search(len(l.tail), func(i int) bool { return l.tail[i].last() > number })
	for i := from; i < len(l.tail); i++ {
		b := &l.tail[i]
		for j := int(number + 1 - b.first); j < len(b.entries); j++ {
			e := &b.entries[j]
			if n := len(out) - had; n >= limit || n > 0 && bytes < len(e.Data) {
				return out, true
			}
			bytes -= len(e.Data)
			number++
			out = append(out, b.stored(j))
		}
	}
	return out, true
}
