package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
)

// Report is what [Verify] found in one log.
type Report struct {
	Stream   string `json:"stream"`
	Messages uint64 `json:"messages"` // of the stream
	Bytes    uint64 `json:"bytes"`
	// Unreadable are stream sequences whose message the server cannot read: its
	// own checksum found them damaged.
	Unreadable [][2]uint64 `json:"unreadable"`
	// Unlocated counts such messages when it cannot be told where they are, because
	// more than a million of those between others were deleted. What they held
	// is in the lanes' gaps.
	Unlocated uint64       `json:"unlocated,omitempty"`
	Lanes     []LaneReport `json:"lanes"`
}

// LaneReport is what [Verify] found in one lane. Ranges are numbers of entries,
// first and last.
type LaneReport struct {
	Lane  string `json:"lane"`
	Epoch string `json:"epoch,omitempty"` // of the newest era
	First uint64 `json:"first"`           // lowest that is there, 0: none is
	Last  uint64 `json:"last"`            // highest that was given out
	Count uint64 `json:"count"`           // entries that are there
	// Gaps are missing between First and Last, and nothing says why.
	Gaps [][2]uint64 `json:"gaps"`
	// Removed are missing between First and Last because they were dropped: by
	// policy, or one by one in a log that allows it.
	Removed [][2]uint64 `json:"removed"`
	// Damaged are there and not what they should be: of another form, or given
	// out twice.
	Damaged [][2]uint64 `json:"damaged"`
	// DamagedPacks counts packs whose checksum is another; what they held is in
	// Gaps.
	DamagedPacks uint64 `json:"damaged_packs"`
}

// Verify reads a whole log from disk and reports what is not as it should be. It
// needs no open [Log] and changes nothing. check says what is wrong with one
// entry. Of a sparse log single entries may have been removed, so that its gaps
// are no damage. A log that was never made is [ErrNoStream].
func Verify(ctx context.Context, nc *nats.Conn, opts Options, progress Progress, check func(*Found) error) (Report, error) {
	w, err := newWalk(ctx, nc, opts.Stream, true)
	if err != nil {
		return Report{}, err
	}
	w.progress = progress
	v := verifier{opts: opts, check: check, lanes: map[string]*laneCheck{}}
	if err := w.run(ctx, v.message); err != nil {
		return Report{}, err
	}
	r := Report{
		Stream: opts.Stream, Messages: w.state.Msgs, Bytes: w.state.Bytes,
		Unreadable: [][2]uint64{}, Lanes: []LaneReport{},
	}
	r.Unlocated = w.unlocated()
	for _, seq := range w.unreadable {
		r.Unreadable = addNumber(r.Unreadable, seq)
	}
	for _, name := range slices.Sorted(maps.Keys(v.lanes)) {
		r.Lanes = append(r.Lanes, v.lanes[name].end(opts.Single))
	}
	return r, nil
}

type verifier struct {
	opts  Options
	check func(*Found) error
	lanes map[string]*laneCheck
}

// laneCheck follows one lane through the log.
type laneCheck struct {
	LaneReport
	next   uint64 // the number that should come next; 0: any
	commit commit // the newest that was met
}

func (v *verifier) message(msg *broker.StreamMessage) error {
	name, err := laneOf(msg.Subject, v.opts.Subject)
	if err != nil {
		name = strings.TrimPrefix(msg.Subject, v.opts.Subject+".")
	}
	c := v.lanes[name]
	if c == nil {
		c = &laneCheck{LaneReport: LaneReport{Lane: name, Gaps: [][2]uint64{}, Removed: [][2]uint64{}, Damaged: [][2]uint64{}}}
		v.lanes[name] = c
	}
	p, err := decodePack(msg.Data, v.opts.Subject)
	if err != nil {
		c.DamagedPacks++
		return nil
	}
	if len(p.commit) > 0 {
		var newest commit
		if json.Unmarshal(p.commit, &newest) != nil {
			c.DamagedPacks++
		} else {
			c.commit = newest
		}
	}
	for i := range p.entries {
		e := &p.entries[i]
		c.entry(&Found{Lane: name, Number: p.first + uint64(i), Seq: msg.Seq, Time: msg.Time, Subject: e.Subject, Data: e.Data}, v.check)
	}
	return nil
}

func (c *laneCheck) entry(f *Found, check func(*Found) error) {
	c.Count++
	switch {
	case c.next == 0:
		c.First = f.Number
	case f.Number > c.next:
		c.Gaps = append(c.Gaps, [2]uint64{c.next, f.Number - 1})
	case f.Number < c.next:
		c.Damaged = addNumber(c.Damaged, f.Number)
		return
	}
	c.next = f.Number + 1
	if check(f) != nil {
		c.Damaged = addNumber(c.Damaged, f.Number)
	}
}

// end settles what the newest commit entry says.
func (c *laneCheck) end(sparse bool) LaneReport {
	if n := len(c.commit.Eras); n > 0 {
		c.Epoch = c.commit.Eras[n-1].Epoch
	}
	c.Last = c.commit.Last
	if c.next > 0 {
		c.Last = max(c.Last, c.next-1)
		if c.next <= c.Last {
			c.Gaps = append(c.Gaps, [2]uint64{c.next, c.Last})
		}
	}
	if sparse {
		c.Gaps, c.Removed = c.Removed, c.Gaps
		return c.LaneReport
	}
	for _, d := range c.commit.Discarded {
		var gaps [][2]uint64
		for _, g := range c.Gaps {
			first, last := max(g[0], d[0]), min(g[1], d[1])
			if first > last {
				gaps = append(gaps, g)
				continue
			}
			c.Removed = append(c.Removed, [2]uint64{first, last})
			if g[0] < first {
				gaps = append(gaps, [2]uint64{g[0], first - 1})
			}
			if last < g[1] {
				gaps = append(gaps, [2]uint64{last + 1, g[1]})
			}
		}
		c.Gaps = append([][2]uint64{}, gaps...)
	}
	return c.LaneReport
}

// addNumber adds a number to ranges that rise.
func addNumber(ranges [][2]uint64, n uint64) [][2]uint64 {
	if k := len(ranges) - 1; k >= 0 && ranges[k][1]+1 == n {
		ranges[k][1] = n
		return ranges
	}
	return append(ranges, [2]uint64{n, n})
}
