package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/edged/edged/engine/broker"
)

// boxed is an outbox as it was committed.
type boxed struct {
	seq  uint64 // of the message that holds it
	prev uint64 // of the outbox before it
	data []byte
}

// maxBoxes bounds the outboxes kept in memory for a mover that keeps up.
const maxBoxes = 64

// keepBoxes remembers newly committed outboxes and wakes who waits for them.
func (l *Log) keepBoxes(boxes []boxed) {
	if len(boxes) == 0 {
		return
	}
	l.mu.Lock()
	for _, b := range boxes {
		b.prev = l.newest.Load()
		l.newest.Store(b.seq)
		l.boxes = append(l.boxes, b)
	}
	if n := len(l.boxes) - maxBoxes; n > 0 {
		l.boxes = append(l.boxes[:0], l.boxes[n:]...)
	}
	l.mu.Unlock()
	l.outbox.Broadcast()
}

// kept returns the outbox that follows seq, if memory has it.
func (l *Log) kept(seq uint64) (boxed, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.boxes {
		if b.seq > seq {
			return b, b.prev <= seq
		}
	}
	return boxed{}, false
}

// NextOutbox waits for the next outbox after stream sequence seq and returns it
// with its own sequence. It returns ctx's error when ctx ends.
func (l *Log) NextOutbox(ctx context.Context, seq uint64) (*Outbox, uint64, error) {
	for {
		changed := l.outbox.Wait()
		if seq < l.newest.Load() { // so there is one, and it is flushed
			b, ok := l.kept(seq)
			if !ok {
				var err error
				if b, err = l.readBox(ctx, seq); err != nil {
					return nil, 0, err
				}
			}
			if b.seq > 0 {
				var box Outbox
				if err := json.Unmarshal(b.data, &box); err != nil {
					return nil, 0, fmt.Errorf("reading outbox %d of %s: %w", b.seq, l.opts.Stream, err)
				}
				return &box, b.seq, nil
			}
		}
		select {
		case <-changed:
		case <-l.stop:
			return nil, 0, ErrClosed
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// readBox reads the outbox that follows seq from disk; its seq is 0 when there
// is none any more.
func (l *Log) readBox(ctx context.Context, seq uint64) (boxed, error) {
	newest := l.newest.Load()
	for {
		msg, err := broker.NextMessage(ctx, l.nc, l.opts.Stream, l.outboxFilter(), seq+1)
		if err != nil || msg == nil || msg.Seq > newest {
			return boxed{}, err
		}
		p, err := decodePack(msg.Data, l.opts.Subject)
		if err == nil {
			return boxed{seq: msg.Seq, data: p.outbox}, nil
		}
		l.opts.Logger.Error("a part of the local store is damaged; its messages and dead letters are lost",
			"stream", l.opts.Stream, "sequence", msg.Seq, "error", err)
		seq = msg.Seq
	}
}
