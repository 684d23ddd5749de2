package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/store"
)

// ErrNotReleased is the reason why the records of a pipeline are not given up.
var ErrNotReleased = errors.New("its records are not given up")

// Released tells what was given up of a pipeline: the records from First to Last,
// as far as they were still kept.
type Released struct {
	Pipeline string `json:"pipeline"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Records  uint64 `json:"records"`
}

const (
	releasePath = "/v1/records/release" // POST
	// releaseWait bounds how long a release waits for messages to be taken over.
	releaseWait = 10 * time.Second
	releasePoll = 20 * time.Millisecond
)

// Release gives up the records that this edge keeps of a pipeline that was
// removed from the configuration, or that has no sync: those that no remote is
// known to have. That they were given up, and when, is durable before they go
// (I7), and their space is free when it returns. A pipeline with a sync is
// refused with [ErrNotReleased]: its records are on their way.
func (e *Engine) Release(ctx context.Context, pipeline string) (Released, error) {
	lane := findLane(e.records, pipeline)
	if lane == nil {
		return Released{}, fmt.Errorf("%w: nothing is kept of a pipeline %q", ErrNotReleased, pipeline)
	}
	known := lane.GivenUp()
	if p := e.pipelineOf(lane); p == nil {
		known = max(known, e.knownSynced(lane))
	} else if feeds := e.feedsOf(p); len(feeds) > 0 {
		return Released{}, fmt.Errorf("%w: the pipeline %q has a sync, and what waits is still to be sent; remove its sync blocks first", ErrNotReleased, pipeline)
	}
	last := lane.Last()
	before := e.records.Durable() + 1 // what comes from here on may have messages that have not moved
	if err := e.waitMoved(ctx, lane); err != nil {
		return Released{}, err
	}
	r, err := release(ctx, lane, known, last, before, e.now())
	if err == nil {
		e.log.Warn("the records of a pipeline were given up on request", "pipeline", pipeline, "first", r.First, "last", r.Last)
	}
	return r, err
}

// waitMoved waits until the lane's messages and dead letters have been taken
// over: they stand among the records that are to go.
func (e *Engine) waitMoved(ctx context.Context, lane *store.Lane) error {
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	tick := time.NewTicker(releasePoll)
	defer tick.Stop()
	for box := lane.NewestOutbox(); e.queue.Moved() < box; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: messages of the pipeline %q have yet to move to the queue; it may be full", ErrNotReleased, lane.Name())
		}
	}
	return nil
}

func findLane(log *store.Log, name string) *store.Lane {
	for _, lane := range log.Lanes() {
		if lane.Name() == name && lane.Last() > 0 {
			return lane
		}
	}
	return nil
}

// release gives up the numbers behind known up to last, which stand before that
// stream sequence.
func release(ctx context.Context, lane *store.Lane, known, last, before uint64, now time.Time) (Released, error) {
	stats, err := lane.Stats(ctx)
	if err != nil {
		return Released{}, err
	}
	r := Released{Pipeline: lane.Name(), First: max(known+1, stats.First)}
	if stats.Count == 0 || r.First > last {
		return Released{}, fmt.Errorf("%w: nothing is kept of the pipeline %q that no remote has", ErrNotReleased, lane.Name())
	}
	if r.Last, err = lane.Release(ctx, r.First, last, before, now); err != nil {
		return Released{}, err
	}
	r.Records = r.Last - r.First + 1
	return r, nil
}

// Release is as [Engine.Release]. Which remotes the configuration still has is
// for the caller to say, and that the pipeline has no sync.
func (s *Store) Release(ctx context.Context, pipeline string, remotes []string) (r Released, err error) {
	log, err := s.openRecords(ctx)
	if errors.Is(err, store.ErrNoStream) {
		return Released{}, fmt.Errorf("%w: nothing is kept of a pipeline %q", ErrNotReleased, pipeline)
	}
	if err != nil {
		return Released{}, err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	lane := findLane(log, pipeline)
	if lane == nil {
		return Released{}, fmt.Errorf("%w: nothing is kept of a pipeline %q", ErrNotReleased, pipeline)
	}
	moved, err := s.moved(ctx, log)
	if err != nil {
		return Released{}, err
	}
	if moved < lane.NewestOutbox() {
		return Released{}, fmt.Errorf("%w: messages of the pipeline %q have yet to move to the queue; run the edge for a moment, then try again", ErrNotReleased, pipeline)
	}
	somewhere, lowest := uint64(0), lane.Last()
	for remote, p := range s.positions(lane) {
		somewhere = max(somewhere, p.Last)
		for _, name := range remotes {
			if name == remote {
				lowest = min(lowest, p.Last)
			}
		}
	}
	return release(ctx, lane, max(lane.GivenUp(), min(somewhere, lowest)), lane.Last(), log.Durable()+1, time.Now())
}

// moved returns the outbox of the record log up to which all are known to have
// been taken over.
func (s *Store) moved(ctx context.Context, records *store.Log) (uint64, error) {
	marks, err := readHighWater(s.dir)
	if err != nil && !errors.Is(err, errMarks) {
		return 0, err
	}
	epochs := records.Epoch()
	for _, open := range []func(context.Context) (*store.Log, error){
		func(ctx context.Context) (*store.Log, error) { return queue.OpenMessages(ctx, s.nc, s.log) },
		func(ctx context.Context) (*store.Log, error) { return queue.OpenDeadLetters(ctx, s.nc, s.log) },
	} {
		err := s.with(ctx, open, func(log *store.Log) error {
			epochs += " " + log.Epoch()
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	if mark := marks[outboxMark]; mark.Epoch == epochs && mark.Last <= records.Durable() {
		return mark.Last, nil
	}
	return 0, nil
}

// answerRelease adds the endpoint of this file.
func (e *Engine) answerRelease(mux *http.ServeMux) {
	mux.HandleFunc("POST "+releasePath, func(w http.ResponseWriter, r *http.Request) {
		released, err := e.Release(r.Context(), r.URL.Query().Get("pipeline"))
		e.answer(w, released, err)
	})
}

// Release is as [Engine.Release]; remotes is not used, the edge knows them.
func (c *Client) Release(ctx context.Context, pipeline string, _ []string) (r Released, err error) {
	return r, c.request(ctx, http.MethodPost, releasePath, url.Values{"pipeline": {pipeline}}, nil, &r)
}
