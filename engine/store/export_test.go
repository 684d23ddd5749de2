package store

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
)

// Unreadable walks through a stream and returns what cannot be read, and how much
// more, with or without the server's list of what was deleted.
func Unreadable(ctx context.Context, nc *nats.Conn, stream string, details bool) ([]uint64, uint64, error) {
	w, err := newWalk(ctx, nc, stream, details)
	if err != nil {
		return nil, 0, err
	}
	err = w.run(ctx, func(*broker.StreamMessage) error { return nil })
	return w.unreadable, w.unlocated(), err
}
