package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// commit is the commit entry of one lane.
type commit struct {
	Eras      []Era                      `json:"eras"`
	Last      uint64                     `json:"last"` // the lane's highest number
	Count     int                        `json:"count"`
	Counts    Counts                     `json:"counts"`
	Positions map[string]json.RawMessage `json:"positions,omitempty"`
	// Discarded are the numbers that were dropped by policy before every remote
	// had them (I7), oldest first; the oldest ranges are forgotten.
	Discarded [][2]uint64 `json:"discarded,omitempty"`
	// Expired are likewise those that were dropped because they had passed their
	// time to live.
	Expired  [][2]uint64 `json:"expired,omitempty"`
	Evicted  [][2]uint64 `json:"evicted,omitempty"`  // likewise by a log that drops its oldest (I7)
	Released []Release   `json:"released,omitempty"` // those of Discarded that were given up on request
	// States has the stream sequence of the newest pack that holds a part of each
	// state; 0: this one.
	States map[string]uint64 `json:"states,omitempty"`
	// Bytes is what all the lane's packs took on disk, those that are gone too,
	// about: the difference between two commits is what stands between them.
	Bytes   uint64    `json:"bytes"`
	Segment segment   `json:"segment"`
	Stored  time.Time `json:"stored,omitzero"` // when the newest entry was

	// Losses are numbers that damage has taken, oldest first; the oldest are
	// forgotten.
	Losses []Loss `json:"losses,omitempty"`

	own int // bytes of this commit entry itself, which Bytes does not have yet
}

// bytes is what the lane's packs took, this commit's among them.
func (c *commit) bytes() uint64 { return c.Bytes + uint64(c.own) }

const (
	outboxBytes = 512 << 10 // an outbox is cut when it has become larger
	packBytes   = 4 << 20   // likewise a pack
)

// run is the committer: it takes every group that waits, as far as one commit
// goes, and stores them with one flush (I1). While it waits for the disk the
// next groups gather, so the slower the disk, the larger the commits.
func (l *Log) run() {
	defer close(l.done)
	var held *Group
	for {
		var g *Group
		if g, held = held, nil; g == nil {
			select {
			case g = <-l.in:
			case <-l.stop:
				select {
				case g = <-l.in:
				default:
					return
				}
			}
		}
		groups := []*Group{g}
		entries, bytes := len(g.Entries), g.bytes()
		for held == nil {
			select {
			case g = <-l.in:
				if entries += len(g.Entries); entries > groupEntries || bytes > l.groupBytes() {
					held = g
					continue
				}
				bytes += g.bytes()
				groups = append(groups, g)
				continue
			default:
			}
			break
		}
		err := l.store(groups)
		for _, g := range groups {
			if g.Done != nil {
				g.Done(err)
			}
		}
	}
}

// groupBytes keeps a commit small against the bound of the log, so that it fits
// once there is some room.
func (l *Log) groupBytes() int { return int(min(groupBytes, l.opts.MaxBytes/8)) }

// laneCommit is what one commit does to one lane.
type laneCommit struct {
	lane   *Lane
	next   commit
	carry  uint64
	groups []*Group
	packs  []pack
}

// store commits groups; it waits for room and retries until they are stored, the
// log takes nothing and no longer waits, or it is closed hard.
func (l *Log) store(groups []*Group) error {
	if l.refused {
		return ErrNoRoom
	}
	var bytes int64
	for _, g := range groups {
		bytes += int64(g.bytes() + 4*len(g.Entries) + entryOverhead)
	}
	wait := retryFirst
	told := false
	for {
		purged, changed := l.room.Wait(), l.opts.Gate.Changed()
		full, err := l.attempt(groups, bytes)
		if !full && err == nil {
			l.full.Store(false)
			return nil
		}
		if l.nc.IsClosed() || errors.Is(err, nats.ErrConnectionClosed) {
			return errors.Join(ErrClosed, err)
		}
		var refusal *Refusal
		refused := errors.As(err, &refusal)
		if !told || !full && !refused {
			l.opts.Logger.Warn("the local store takes nothing now, trying again", "stream", l.opts.Stream, "full", full, "error", err)
			told = true
		}
		l.full.Store(full)
		l.filled.Broadcast()
		var hurry <-chan struct{}
		if full || refused {
			hurry = l.hurry
		}
		select {
		case <-purged:
		case <-changed:
		case <-time.After(wait):
		case <-hurry:
			l.refused = true
			return errors.Join(ErrNoRoom, err)
		}
		wait = min(2*wait, retryMost)
	}
}

// attempt tries to commit groups once. full says that the log is at its bound.
func (l *Log) attempt(groups []*Group, bytes int64) (full bool, err error) {
	if err := l.opts.Gate.refuses(l.opts.Reserved); err != nil {
		return false, err
	}
	ctx := context.Background()
	room, err := l.hasRoom(ctx, bytes)
	if err == nil && !room {
		return true, nil
	}
	if err == nil {
		err = l.commit(ctx, groups)
	}
	return isFull(err), err
}

func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == broker.CodeMaxBytes || api.ErrorCode == broker.CodeNoResources)
}

// commit stores groups with one atomic batch and makes them visible.
func (l *Log) commit(ctx context.Context, groups []*Group) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	plan, err := l.plan(groups)
	if err != nil {
		return err
	}
	seq, err := l.try(ctx, plan)
	if err == nil {
		l.apply(plan, seq)
	}
	return err
}

// note adds what a group says of numbers, beside its entries.
func (c *commit) note(g *Group) {
	for _, d := range g.discard {
		c.Counts.Discarded += d[1] - d[0] + 1
		c.Discarded = addRange(c.Discarded, d)
	}
	for _, d := range g.expire {
		c.Counts.Expired += d[1] - d[0] + 1
		c.Expired = addRange(c.Expired, d)
	}
	for _, d := range g.evict {
		c.Counts.Evicted += d[1] - d[0] + 1
		c.Evicted = addRange(c.Evicted, d)
	}
	if g.loss != nil {
		losses := append(slices.Clone(c.Losses), *g.loss)
		c.Losses = losses[max(0, len(losses)-maxLosses):]
	}
	if g.release != nil {
		all := append(slices.Clone(c.Released), *g.release)
		c.Released = all[max(0, len(all)-maxDiscarded):]
	}
	if g.era != nil {
		eras := append(slices.Clone(c.Eras), *g.era)
		c.Eras = eras[max(0, len(eras)-maxEras):]
	}
}

// plan groups by lane, in order of first appearance, and assigns the numbers.
func (l *Log) plan(groups []*Group) ([]*laneCommit, error) {
	var plan []*laneCommit
	byLane := map[*Lane]*laneCommit{}
	for _, g := range groups {
		c := byLane[g.lane]
		if c == nil {
			now := g.lane.snapshot()
			c = &laneCommit{lane: g.lane, next: now}
			c.next.Count = 0
			c.next.Bytes, c.next.own = now.bytes(), 0
			if c.next.Bytes-c.next.Segment.From >= l.segmentBytes() {
				c.next.Segment = segment{Number: c.next.Segment.Number + 1, From: c.next.Bytes}
			}
			c.next.Positions = maps.Clone(now.Positions)
			byLane[g.lane] = c
			plan = append(plan, c)
		}
		c.groups = append(c.groups, g)
		c.carry = max(c.carry, g.carry)
		c.next.note(g)
		c.next.Last += uint64(len(g.Entries))
		c.next.Count += len(g.Entries)
		c.next.Counts.add(g.Counts)
		if g.Position != nil {
			if c.next.Positions == nil {
				c.next.Positions = map[string]json.RawMessage{}
			}
			c.next.Positions[g.Source] = g.Position
		}
	}
	now := time.Now().UTC()
	for _, c := range plan {
		for _, g := range c.groups {
			// A repeat must be what the first attempt was, byte for byte: by that it
			// is known when the first was stored after all.
			if g.planned.IsZero() {
				g.planned = now
			}
			if len(g.Entries) > 0 {
				c.next.Stored = g.planned
			}
		}
		if err := l.pack(c); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// pack lays a lane's part of a commit out: entries in packs of bounded size,
// and in the last one the commit entry. Most commits are one pack.
func (l *Log) pack(c *laneCommit) error {
	cur := pack{first: c.next.Last - uint64(c.next.Count) + 1}
	size := 0
	cut := func() {
		c.next.Bytes += uint64(cur.size())
		c.packs = append(c.packs, cur)
		cur, size = pack{first: cur.last() + 1}, 0
	}
	var outbox Outbox
	for _, g := range c.groups {
		outbox.Messages = append(outbox.Messages, g.Outbox.Messages...)
		outbox.DeadLetters = append(outbox.DeadLetters, g.Outbox.DeadLetters...)
		for i := range g.Entries {
			n := len(g.Entries[i].Data)
			if len(cur.entries) > 0 && (size+n > packBytes || l.opts.Single) {
				cut()
			}
			cur.entries = append(cur.entries, g.Entries[i])
			size += n
		}
	}
	if l.opts.Single && len(cur.entries) > 0 {
		cut()
	}
	boxes, err := outbox.encode()
	if err != nil {
		return err
	}
	for i, box := range boxes {
		if cur.outbox = box; i < len(boxes)-1 {
			cut()
		}
	}
	if cur.states = c.lane.stateParts(c.groups, c.carry); len(cur.states) > 0 {
		c.next.States = maps.Clone(c.next.States)
		if c.next.States == nil {
			c.next.States = map[string]uint64{}
		}
		for i := range cur.states {
			c.next.States[cur.states[i].name] = 0
		}
	}
	c.next.Bytes += uint64(cur.size())
	if cur.commit, err = json.Marshal(&c.next); err != nil {
		return fmt.Errorf("encoding a commit: %w", err)
	}
	c.next.own = len(cur.commit)
	c.packs = append(c.packs, cur)
	return nil
}

// maxDiscarded bounds how many ranges of discarded numbers a lane remembers.
const maxDiscarded = 64

// addRange returns ranges with r behind them, in memory of its own. Single
// entries are removed in any order, so that r may stand before the last.
func addRange(ranges [][2]uint64, r [2]uint64) [][2]uint64 {
	ranges = slices.Clone(ranges)
	if k := len(ranges) - 1; k >= 0 && ranges[k][0] <= r[0] && r[0] <= ranges[k][1]+1 {
		ranges[k][1] = max(ranges[k][1], r[1])
		return ranges
	}
	ranges = append(ranges, r)
	return ranges[max(0, len(ranges)-maxDiscarded):]
}

// encode returns the outbox as messages of bounded size.
func (o *Outbox) encode() ([][]byte, error) {
	var out [][]byte
	var part Outbox
	size := 0
	flush := func() error {
		if part.empty() {
			return nil
		}
		data, err := json.Marshal(&part)
		if err != nil {
			return fmt.Errorf("encoding the outbox: %w", err)
		}
		out, part, size = append(out, data), Outbox{}, 0
		return nil
	}
	for i := range o.Messages {
		part.Messages = append(part.Messages, o.Messages[i])
		if size += len(o.Messages[i].Body) + 256; size > outboxBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	for i := range o.DeadLetters {
		part.DeadLetters = append(part.DeadLetters, o.DeadLetters[i])
		if size += len(o.DeadLetters[i].Raw)*4/3 + 512; size > outboxBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	return out, flush()
}

// try publishes the plan: one pack as one message, several as one atomic batch.
// Either is stored whole or not at all, with one flush. The log is the stream's
// only writer, so the sequence it expects makes a repeat safe: if an earlier
// attempt was stored after all, the repeat is refused, and the newest pack found
// there is ours.
func (l *Log) try(ctx context.Context, plan []*laneCommit) (uint64, error) {
	ctx, done, err := l.opts.Gate.write(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var messages []broker.Message
	for _, c := range plan {
		for i := range c.packs {
			messages = append(messages, broker.Message{
				Subject: l.packSubject(c, &c.packs[i]),
				Data:    encodePack(&c.packs[i], l.opts.Subject),
			})
		}
	}
	expect := l.durable.Load()
	seq, err := broker.Publish(ctx, l.batch, messages, expect)
	if err == nil {
		return seq, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode != broker.CodeWrongLastSequence {
		return 0, err
	}
	last := &messages[len(messages)-1]
	found, readErr := broker.LastMessage(ctx, l.nc, "", l.opts.Stream, last.Subject)
	if readErr != nil {
		return 0, errors.Join(err, readErr)
	}
	if found != nil && found.Seq == expect+uint64(len(messages)) && string(found.Data) == string(last.Data) {
		return found.Seq, nil
	}
	return 0, err
}

// apply makes a stored commit visible to readers. seq is the sequence of its
// last message; the others stand directly before it.
func (l *Log) apply(plan []*laneCommit, seq uint64) {
	total, bytes := 0, int64(0)
	for _, c := range plan {
		total += len(c.packs)
		for i := range c.packs {
			bytes += int64(c.packs[i].size())
		}
	}
	at := seq - uint64(total) + 1
	var boxes []boxed
	for _, c := range plan {
		for i := range c.packs {
			if len(c.packs[i].outbox) > 0 {
				boxes = append(boxes, boxed{seq: at + uint64(i), data: c.packs[i].outbox})
			}
		}
		c.lane.apply(c, at)
		at += uint64(len(c.packs))
	}
	l.mu.Lock()
	l.used += bytes
	l.mu.Unlock()
	l.durable.Store(seq)
	for _, c := range plan {
		c.lane.changed.Broadcast()
	}
	l.changed.Broadcast()
	l.keepBoxes(boxes)
}
