package engine

import (
	"context"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

const (
	// expireEvery is how often the queue is looked through for messages that have
	// passed their time to live; a full queue is at every housekeeping.
	expireEvery = time.Minute
	expireRead  = 1000 // messages looked at together
)

// expire frees the room of messages that have passed their time to live while no
// remote could be reached. It looks from the oldest of each priority on, as far as
// they have expired: what stands behind one that has not goes when that one has.
// Whether a message is sent does not depend on it: the sender looks at each.
func (k *keeper) expire(ctx context.Context) error {
	e := k.engine
	now := e.now()
	if full := e.queue.Log().Full(); !full && now.Sub(k.expired) < expireEvery {
		return nil
	}
	k.expired = now
	for _, p := range record.Priorities {
		lane := e.queue.Lane(p)
		first := e.passed(p) + 1
		last, err := expiredUpTo(ctx, lane, first, now)
		if err != nil {
			return err
		}
		if last < first {
			continue
		}
		if last, err = lane.Expire(ctx, first, last); err != nil {
			return err
		}
		if last > 0 {
			e.log.Warn("messages have expired before a remote could be reached", "priority", p, "first", first, "last", last)
		}
	}
	return nil
}

// expiredUpTo returns the last of the numbers from first on that have all
// expired; less than first: the first has not.
func expiredUpTo(ctx context.Context, lane *store.Lane, first uint64, now time.Time) (uint64, error) {
	reader := lane.NewReader(first - 1)
	defer reader.Close()
	last := uint64(0)
	var got []store.Stored
	for reader.Number() < lane.Last() {
		var err error
		if got, err = reader.Read(ctx, expireRead, 1<<20, got[:0]); err != nil {
			return 0, err
		}
		for i := range got {
			if at := expires(&got[i]); at.IsZero() || now.Before(at) {
				return last, nil
			}
			last = got[i].Number
		}
		if len(got) == 0 {
			break
		}
	}
	return last, nil
}
