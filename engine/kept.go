package engine

import (
	"context"
	"time"

	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// statTimeout bounds how long a status waits for the disk; what it has not
// learned by then it leaves out.
const statTimeout = 2 * time.Second

// KeptStatus tells what of one pipeline is on the device. Records = Waiting +
// Synced, except that a pipeline without a sync has nothing that waits. What was
// put aside for another try at an HTTP API is kept apart.
type KeptStatus struct {
	Records uint64    `json:"records"`
	Waiting uint64    `json:"waiting"` // a remote has yet to settle them
	Synced  uint64    `json:"synced"`  // every remote has settled them; they stay for keep and keep_bytes
	Bytes   uint64    `json:"bytes"`   // on disk, about
	Oldest  time.Time `json:"oldest,omitzero"`
	Newest  time.Time `json:"newest,omitzero"`
	WaitingSince
}

// WaitingSince tells of the oldest record that waits, put aside or not.
type WaitingSince struct {
	// OldestWaiting is when it was stored, zero when none waits, and Seconds how
	// long ago that is.
	OldestWaiting time.Time `json:"oldest_waiting,omitzero"`
	Seconds       float64   `json:"oldest_waiting_seconds"`
}

// earlier returns the one that has waited longer.
func (w WaitingSince) earlier(o WaitingSince) WaitingSince {
	if w.OldestWaiting.IsZero() || !o.OldestWaiting.IsZero() && o.OldestWaiting.Before(w.OldestWaiting) {
		return o
	}
	return w
}

func waitingSince(now, at time.Time) WaitingSince {
	if at.IsZero() {
		return WaitingSince{}
	}
	return WaitingSince{OldestWaiting: at.UTC(), Seconds: max(now.Sub(at).Seconds(), 0)}
}

// keptStatus tells what a lane keeps, of which everything up to the number
// settled is at every remote; synced is false for one without a remote.
func keptStatus(s store.Stats, last, settled uint64, synced bool) KeptStatus {
	k := KeptStatus{Records: s.Count, Bytes: s.Bytes, Oldest: s.Oldest.UTC(), Newest: s.Newest.UTC()}
	if s.Count == 0 {
		k.Oldest, k.Newest = time.Time{}, time.Time{}
		return k
	}
	if settled >= s.First {
		k.Synced = min(settled, last) - s.First + 1
	}
	if synced {
		k.Waiting = k.Records - min(k.Records, k.Synced)
	}
	return k
}

// oldestWaiting is what a feed found last, so that a status that is asked for
// every second looks once.
type oldestWaiting struct {
	number uint64
	at     time.Time
}

// waitingSince tells how long the oldest record that waits for the feed has
// done so.
func (f *feed) waitingSince(ctx context.Context, now time.Time) (WaitingSince, error) {
	lane := f.Feed.Lane
	at, _, _ := f.Status()
	if at.Last >= lane.Last() {
		return WaitingSince{}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oldest.number != at.Last+1 || f.oldest.at.IsZero() {
		stored, err := lane.StoredAt(ctx, at.Last+1, f.Floor(lane.Durable()))
		if err != nil {
			return WaitingSince{}, err
		}
		f.oldest = oldestWaiting{at.Last + 1, stored}
	}
	return waitingSince(now, f.oldest.at), nil
}

// pipelineKept tells what the edge keeps of a pipeline and how each of its syncs
// stands.
func (e *Engine) pipelineKept(ctx context.Context, p *pipeline, now time.Time) (KeptStatus, []SyncStatus) {
	var syncs []SyncStatus
	var since, aside WaitingSince
	settled := p.lane.Last()
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.pipeline != p {
				continue
			}
			s := e.syncStatus(ctx, r, f, now)
			at, _, _ := f.Status()
			settled = min(settled, at.Last)
			since = since.earlier(s.WaitingSince)
			aside = aside.earlier(waitingSince(now, at.AsideSince))
			syncs = append(syncs, s)
		}
	}
	k := e.laneKept(ctx, p.lane, settled, len(syncs) > 0)
	if k.WaitingSince = since; !since.OldestWaiting.IsZero() && since.OldestWaiting.Before(k.Oldest) {
		k.WaitingSince = waitingSince(now, k.Oldest) // the server read its clock later
	}
	k.WaitingSince = k.earlier(aside) // which is kept apart, for longer
	return k, syncs
}

func (e *Engine) laneKept(ctx context.Context, lane *store.Lane, settled uint64, synced bool) KeptStatus {
	if !synced {
		settled = 0
	}
	stats, err := lane.Stats(ctx)
	if err != nil {
		e.log.Debug("asking what a pipeline keeps", "pipeline", lane.Name(), "error", err)
		return KeptStatus{}
	}
	return keptStatus(stats, lane.Last(), settled, synced)
}

// States of a sync, by [SyncStatus].
const (
	SyncSynced  = "synced"  // nothing waits
	SyncWaiting = "waiting" // something does
	SyncFailing = "failing" // the last try ended with LastError
)

func (e *Engine) syncStatus(ctx context.Context, r *remote, f *feed, now time.Time) SyncStatus {
	at, last, err := f.Status()
	s := syncStatus(r.cfg.Name, at, f.Waiting(), last, err)
	s.HubLost = f.Past().Lost
	if s.WaitingSince, err = f.waitingSince(ctx, now); err != nil {
		e.log.Debug("asking how long records wait", "pipeline", f.Feed.Lane.Name(), "error", err)
	}
	s.WaitingSince = s.earlier(waitingSince(now, at.AsideSince))
	return s
}

func syncStatus(remote string, at sync.Position, waiting uint64, last time.Time, lastErr error) SyncStatus {
	s := SyncStatus{
		Remote: remote, Status: SyncSynced, SyncedRecords: at.Total, FailedRecords: at.Failed, Waiting: waiting,
	}
	if !last.IsZero() {
		s.LastSync = last.UTC()
	}
	if waiting > 0 {
		s.Status = SyncWaiting
	}
	if lastErr != nil {
		s.Status, s.LastError = SyncFailing, lastErr.Error()
	}
	return s
}

// removedStatus is what the edge keeps of a pipeline that is not configured: what
// no remote is known to have waits.
func (e *Engine) removedStatus(ctx context.Context, lane *store.Lane) PipelineStatus {
	known := max(e.knownSynced(lane), lane.GivenUp())
	s := PipelineStatus{
		Name: lane.Name(), Removed: true, Totals: laneCounts(lane), Released: lane.Released(),
		Kept: e.laneKept(ctx, lane, known, true),
	}
	s.Waiting = s.Kept.Waiting
	return s
}

// laneCounts are the counts that a lane keeps itself.
func laneCounts(lane *store.Lane) Counts {
	n := lane.Counts()
	return Counts{
		Collected: n.Collected, Transformed: n.Transformed, Stored: lane.Last(),
		Messages: n.Messages, DeadLetters: n.DeadLetters, Dropped: n.Dropped, Discarded: n.Discarded,
	}
}

// DeadLettersStatus tells what the dead letters take, and what of them had to
// go because they came to their bound.
type DeadLettersStatus struct {
	Bytes    uint64 `json:"bytes"`
	MaxBytes uint64 `json:"max_bytes"`
	// Evicted counts dead letters that were dropped, oldest first, to make room.
	Evicted uint64 `json:"evicted"`
	// EvictedRanges are the newest of their numbers, by pipeline.
	EvictedRanges map[string][][2]uint64 `json:"evicted_ranges,omitempty"`
}

func deadLettersStatus(log *store.Log) DeadLettersStatus {
	s := DeadLettersStatus{Bytes: log.Used(), MaxBytes: log.MaxBytes(), EvictedRanges: map[string][][2]uint64{}}
	for _, lane := range log.Lanes() {
		s.Evicted += lane.Counts().Evicted
		if ranges := lane.Evicted(); len(ranges) > 0 {
			s.EvictedRanges[lane.Name()] = ranges
		}
	}
	return s
}
