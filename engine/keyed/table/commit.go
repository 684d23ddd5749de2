package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// commit is a group of transactions on its way to the stream.
type commit struct {
	changed  map[string][]byte
	order    []string
	bytes    int
	updates  []*update
	onCommit []func()
	messages []broker.Message
	at       []place
}

const (
	commitTimeout = 10 * time.Second
	retryWait     = 50 * time.Millisecond
	commitTries   = 3
)

// run is the committer: one transaction after the other, as many as wait in one
// commit.
func (t *Table) run() {
	defer close(t.done)
	ctx := context.Background()
	for {
		var u *update
		select {
		case u = <-t.in:
		case <-t.stop:
			select {
			case u = <-t.in:
			default:
				return
			}
		}
		c := &commit{changed: map[string][]byte{}}
		t.apply(ctx, c, u)
		for gathering := true; gathering && len(c.updates) < maxGroup && c.bytes < groupBytes; {
			select {
			case u = <-t.in:
				t.apply(ctx, c, u)
			default:
				gathering = false
			}
		}
		err := t.store(ctx, c)
		for _, u := range c.updates {
			u.done <- err
		}
		if err == nil {
			if err := t.compact(ctx); err != nil {
				t.opts.Logger.Warn("the keyed store could not be compacted", "stream", t.opts.Stream, "error", err)
			}
		}
	}
}

// apply runs one transaction. One that fails leaves nothing.
func (t *Table) apply(ctx context.Context, c *commit, u *update) {
	if !u.state.CompareAndSwap(updateWaits, updateRuns) {
		return
	}
	tx := &Tx{table: t, ctx: ctx, group: c, changed: map[string][]byte{}}
	err := u.change(tx)
	close(u.ran)
	if err != nil {
		u.done <- err
		return
	}
	for _, name := range tx.order {
		if _, again := c.changed[name]; !again {
			c.order = append(c.order, name)
		}
		c.changed[name] = tx.changed[name]
		c.bytes += len(name) + len(tx.changed[name]) + overhead
	}
	c.updates = append(c.updates, u)
	c.onCommit = append(c.onCommit, tx.onCommit...)
}

// store makes a commit durable, then visible.
func (t *Table) store(ctx context.Context, c *commit) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	if len(c.order) > 0 {
		var p packer
		for _, name := range c.order {
			p.add(name, c.changed[name])
		}
		p.seal()
		for _, data := range p.packs {
			c.messages = append(c.messages, broker.Message{Subject: t.opts.Subject, Data: data})
		}
		c.at = p.at
		if err := t.publish(ctx, c); err != nil {
			return err
		}
	}
	t.show(c)
	return nil
}

// publish stores a commit's messages, all or none. While the broker does not
// answer it asks again a few times; the expected sequence keeps the commit from
// being stored twice.
func (t *Table) publish(ctx context.Context, c *commit) error {
	for try := 1; ; try++ {
		attempt, cancel := context.WithTimeout(ctx, commitTimeout)
		_, err := broker.Publish(attempt, t.batch, c.messages, t.last)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			t.inDoubt = nil // it can come no more
			return nil
		case errors.As(err, &api) && (api.ErrorCode == broker.CodeMaxBytes || api.ErrorCode == broker.CodeNoResources):
			return fmt.Errorf("%w: %w", ErrFull, err)
		case errors.As(err, &api) && api.ErrorCode != broker.CodeWrongLastSequence:
			return fmt.Errorf("storing: %w", err)
		}
		stored, settleErr := t.stored(ctx, c)
		if settleErr == nil && stored {
			t.inDoubt = nil
			return nil
		}
		if settleErr == nil {
			settleErr = t.settle(ctx)
		}
		if try == commitTries || t.nc.IsClosed() {
			t.inDoubt = c
			return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(err, settleErr))
		}
		select {
		case <-time.After(retryWait):
		case <-ctx.Done():
		}
	}
}

// settle finds out about a commit that got no answer. One that was stored is
// shown, though its transactions were told that nobody knows. One that was not
// can still come, until another is stored in its place.
func (t *Table) settle(ctx context.Context) error {
	if t.inDoubt == nil {
		return nil
	}
	stored, err := t.stored(ctx, t.inDoubt)
	if err != nil || !stored {
		return err
	}
	t.show(t.inDoubt)
	t.inDoubt = nil
	return nil
}

// stored asks the stream whether a commit is its end.
func (t *Table) stored(ctx context.Context, c *commit) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	info, err := t.stream.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for the end of %s: %w", t.opts.Stream, err)
	}
	last := t.last + uint64(len(c.messages))
	if info.State.LastSeq != last {
		return false, nil
	}
	msg, err := t.stream.GetMsg(ctx, last)
	if err != nil {
		return false, fmt.Errorf("reading the end of %s: %w", t.opts.Stream, err)
	}
	return bytes.Equal(msg.Data, c.messages[len(c.messages)-1].Data), nil
}

// show makes a durable commit visible.
func (t *Table) show(c *commit) {
	t.mu.Lock()
	first := t.last + 1
	for _, m := range c.messages {
		size := int64(len(m.Data) + overhead)
		t.packs = append(t.packs, packInfo{size: size})
		t.used += size
	}
	t.last += uint64(len(c.messages))
	for i, name := range c.order {
		value := c.changed[name]
		t.place(name, value, first+uint64(c.at[i].pack), c.at[i].offset)
		if value == nil {
			t.cache.remove(name)
		} else {
			t.cache.put(name, value)
		}
	}
	t.mu.Unlock()
	for _, f := range c.onCommit {
		f()
	}
}

const (
	// compactAbove is how much may be overwritten before something is done.
	compactAbove = 4 << 20
	// A step of compaction reads no more than that, and carries forward no more
	// than a pack's worth; steps after one commit.
	compactRead  = 2 << 20
	compactSteps = 4
)

// compact frees the front of the stream while more than half of it counts no
// more.
func (t *Table) compact(ctx context.Context) error {
	for range compactSteps {
		if used, live := t.Used(); used <= 2*live+min(compactAbove, t.opts.MaxBytes/4) {
			return nil
		}
		if err := t.compactFront(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compactFront writes what counts of the oldest packs again and purges them.
func (t *Table) compactFront(ctx context.Context) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	c := &commit{changed: map[string][]byte{}}
	var read int64
	seq := t.first
	for ; seq < t.last && read < compactRead && c.bytes < packBytes; seq++ {
		info := t.packs[seq-t.first]
		if info.live == 0 {
			continue
		}
		read += info.size
		msg, err := t.stream.GetMsg(ctx, seq)
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.opts.Stream, err)
		}
		if err := unpack(msg.Data, func(name, value []byte, offset int) {
			if at := t.index[string(name)]; at.seq == seq && int(at.offset) == offset {
				c.order = append(c.order, string(name))
				c.changed[string(name)] = bytes.Clone(value)
				c.bytes += len(name) + len(value) + overhead
			}
		}); err != nil {
			return fmt.Errorf("reading %s at %d: %w", t.opts.Stream, seq, err)
		}
	}
	if err := t.store(ctx, c); err != nil {
		return err
	}
	if err := t.stream.Purge(ctx, jetstream.WithPurgeSequence(seq)); err != nil {
		return fmt.Errorf("purging %s below %d: %w", t.opts.Stream, seq, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.packs[:seq-t.first] {
		t.used -= p.size
	}
	t.packs = append([]packInfo(nil), t.packs[seq-t.first:]...)
	t.first = seq
	return nil
}
