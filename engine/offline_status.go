package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// openRecords opens the record log as it is; without one it is [store.ErrNoStream].
func (s *Store) openRecords(ctx context.Context) (*store.Log, error) {
	return store.Open(ctx, s.nc, store.Options{Stream: recordStream, Subject: recordSubject, Existing: true, Logger: s.log})
}

// Status tells what the data directory keeps, and how the syncs stood when the
// edge last ran. Which pipelines are configured is not known here, nor what the
// edge was called.
func (s *Store) Status(ctx context.Context) (st Status, err error) {
	st = Status{
		DataDir: s.dir, Time: time.Now().UTC(), Queue: QueueStatus{ByPriority: map[string]uint64{}},
		Pipelines: []PipelineStatus{}, Remotes: []RemoteStatus{}, Plugins: []PluginStatus{},
	}
	logs := []func(context.Context) error{
		func(ctx context.Context) error { return s.with(ctx, s.openRecords, st.addRecords(ctx, s)) },
		func(ctx context.Context) error {
			return s.with(ctx, func(ctx context.Context) (*store.Log, error) { return queue.OpenMessages(ctx, s.nc, s.log) }, st.addQueue(s))
		},
		func(ctx context.Context) error {
			return s.with(ctx, func(ctx context.Context) (*store.Log, error) { return queue.OpenDeadLetters(ctx, s.nc, s.log) },
				func(log *store.Log) error {
					st.add(log)
					st.DeadLetters = deadLettersStatus(log)
					return nil
				})
		},
	}
	for _, add := range logs {
		if err := add(ctx); err != nil {
			return Status{}, err
		}
	}
	return st, nil
}

// with calls do with an opened log, and counts what it takes; one that was never
// made is passed over.
func (s *Store) with(ctx context.Context, open func(context.Context) (*store.Log, error), do func(*store.Log) error) error {
	log, err := open(ctx)
	if errors.Is(err, store.ErrNoStream) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(do(log), log.Close(context.WithoutCancel(ctx)))
}

func (st *Status) add(log *store.Log) {
	st.Storage.Bytes += log.Used()
	st.Storage.MaxBytes += log.MaxBytes()
}

// addRecords tells of every pipeline that the record log holds.
func (st *Status) addRecords(ctx context.Context, s *Store) func(*store.Log) error {
	return func(log *store.Log) error {
		st.add(log)
		for _, lane := range log.Lanes() {
			ps := PipelineStatus{Name: lane.Name(), Totals: laneCounts(lane), Released: lane.Released()}
			settled, gone := lane.Last(), uint64(0)
			for key, p := range s.positions(lane) {
				at := p.position()
				waiting := lane.Last() - min(lane.Last(), at.Last)
				var lastErr error
				if p.LastError != "" {
					lastErr = errors.New(p.LastError)
				}
				sync := syncStatus(key, at, waiting+at.Aside, p.LastSync, lastErr)
				if waiting > 0 {
					stored, err := lane.StoredAt(ctx, at.Last+1, 0)
					if err != nil {
						return err
					}
					sync.WaitingSince = waitingSince(st.Time, stored)
				}
				sync.WaitingSince = sync.earlier(waitingSince(st.Time, at.AsideSince))
				ps.Syncs = append(ps.Syncs, sync)
				ps.Waiting = max(ps.Waiting, sync.Waiting)
				settled = min(settled, at.Last)
				gone = max(gone, discarded(lane, at))
			}
			slices.SortFunc(ps.Syncs, func(a, b SyncStatus) int { return strings.Compare(a.Remote, b.Remote) })
			if len(ps.Syncs) == 0 {
				settled, gone = 0, ps.Totals.Discarded
			}
			stats, err := lane.Stats(ctx)
			if err != nil {
				return err
			}
			ps.Kept = keptStatus(stats, lane.Last(), settled, len(ps.Syncs) > 0)
			for _, sync := range ps.Syncs {
				ps.Kept.WaitingSince = ps.Kept.earlier(sync.WaitingSince)
			}
			ps.Totals.SyncedRecords, ps.Totals.Discarded = leastTotal(ps.Syncs), gone
			st.Totals.add(ps.Totals)
			st.Waiting += ps.Waiting
			st.Pipelines = append(st.Pipelines, ps)
		}
		return nil
	}
}

// leastTotal is how many records every remote has had.
func leastTotal(syncs []SyncStatus) (n uint64) {
	for i, s := range syncs {
		if i == 0 || s.SyncedRecords < n {
			n = s.SyncedRecords
		}
	}
	return n
}

// positions are what is saved of a lane of the record log, by remote.
func (s *Store) positions(lane *store.Lane) map[string]savedPosition {
	found := map[string]savedPosition{}
	for key, p := range s.saved {
		token, ok := strings.CutSuffix(strings.TrimPrefix(key, "sync."), ".records."+record.Token(lane.Name()))
		if !ok {
			continue
		}
		remote, err := record.Untoken(token)
		if err != nil {
			remote = token
		}
		if p.Epoch != epochOf(lane) {
			p = savedPosition{LastSync: p.LastSync, LastError: p.LastError}
		}
		found[remote] = p
	}
	return found
}

// addQueue tells how many messages wait.
func (st *Status) addQueue(s *Store) func(*store.Log) error {
	return func(log *store.Log) error {
		st.add(log)
		for _, lane := range log.Lanes() {
			priority, err := record.ParsePriority(lane.Name())
			if err != nil {
				continue
			}
			passed := s.passed[priority]
			if n := lane.Last() - min(lane.Last(), passed); n > 0 {
				st.Queue.ByPriority[lane.Name()] = n
				st.Queue.Waiting += n
			}
		}
		st.Waiting += st.Queue.Waiting
		return nil
	}
}
