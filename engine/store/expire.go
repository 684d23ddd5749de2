package store

import (
	"context"
	"fmt"
)

// Expire drops the numbers from first to last, the oldest that the lane holds,
// because their time to live is over. Only packs that end up to last go, and the
// lane's newest never does, so that a [Reader] that has yet to come to it does not
// wait in vain. That they have expired is durable first (I7). It returns the last
// number that went, 0 when none did, and works while the log is full.
func (l *Lane) Expire(ctx context.Context, first, last uint64) (uint64, error) {
	found, err := l.find(ctx, min(last+1, l.Last()))
	if err != nil || found.pack == nil || found.first <= first { // nil: purged meanwhile
		return 0, err
	}
	last = found.first - 1
	if err := l.log.commit(ctx, []*Group{{lane: l, expire: [][2]uint64{{first, last}}}}); err != nil {
		return 0, fmt.Errorf("expiring %s %d to %d: %w", l.name, first, last, err)
	}
	if err := l.purgeBelow(ctx, found.seq); err != nil {
		return 0, fmt.Errorf("expiring %s %d to %d: %w", l.name, first, last, err)
	}
	return last, l.log.purged(ctx)
}
