package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// add sums up counts field by field.
func (c *Counts) add(d Counts) {
	c.Collected += d.Collected
	c.Transformed += d.Transformed
	c.Stored += d.Stored
	c.Messages += d.Messages
	c.DeadLetters += d.DeadLetters
	c.SyncedRecords += d.SyncedRecords
	c.SyncedMessages += d.SyncedMessages
	c.Dropped += d.Dropped
	c.Discarded += d.Discarded
	c.Expired += d.Expired
}

// since returns what has come since base; synced counts are set by the caller.
func (c Counts) since(base Counts) Counts {
	return Counts{
		Collected: c.Collected - base.Collected, Transformed: c.Transformed - base.Transformed,
		Stored: c.Stored - base.Stored, Messages: c.Messages - base.Messages,
		DeadLetters: c.DeadLetters - base.DeadLetters, Dropped: c.Dropped - base.Dropped,
		Discarded: c.Discarded - min(c.Discarded, base.Discarded), Expired: c.Expired - min(c.Expired, base.Expired),
	}
}

// counts returns a pipeline's totals. A record is synced when every remote of
// the pipeline has it.
func (e *Engine) counts(p *pipeline) (c Counts, sent uint64, waiting uint64) {
	c = laneCounts(p.lane)
	first := true
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.pipeline != p {
				continue
			}
			at, _, _ := f.Status()
			if first {
				c.SyncedRecords, c.Discarded, sent, first = at.Total, 0, f.Sent(), false
			}
			c.Discarded = max(c.Discarded, discarded(p.lane, at))
			c.SyncedRecords = min(c.SyncedRecords, at.Total)
			sent = min(sent, f.Sent())
			waiting = max(waiting, f.Waiting())
		}
	}
	return c, sent, waiting
}

// discarded counts what was dropped for want of room and did not reach a remote
// that is at that position: up to there by its ledger, which knows what of it was
// on its way and arrived, and behind it by the lane.
func discarded(lane *store.Lane, at sync.Position) uint64 {
	return at.Discarded + sync.CountRanges(lane.Discarded(at.Last+1, lane.Last()))
}

// totals are the counts of all pipelines together.
func (e *Engine) totals() (c Counts) {
	for _, p := range e.pipelines() {
		n, _, _ := e.counts(p)
		c.add(n)
	}
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			if f.pipeline == nil {
				at, _, _ := f.Status()
				c.SyncedMessages += at.Total
				// Those behind at are dropped here, and not yet in the ledger.
				c.Expired += at.Expired + sync.CountRanges(f.Feed.Lane.Expired(at.Last+1, f.Feed.Lane.Last()))
			}
		}
	}
	return c
}

// Status may be called at any time from any goroutine, and often: it reads from
// disk only where the oldest records stand, when that has changed.
func (e *Engine) Status() Status {
	ctx, cancel := context.WithTimeout(context.Background(), statTimeout)
	defer cancel()
	s := Status{
		Running:  true,
		DeviceID: e.config().Edge.DeviceID, DataDir: e.dataDir, Version: e.opts.Version,
		Started: e.started.UTC(), Time: e.now().UTC(), Totals: e.totals(),
		Queue:   QueueStatus{ByPriority: map[string]uint64{}},
		Storage: StorageStatus{MaxBytes: uint64(max(e.config().Edge.MaxBytes, 0)), Full: e.records.Full() || e.queue.Log().Full()},
	}
	if _, why := e.disk.Gate().State(); why != nil {
		s.Storage.Trouble = why.Error()
	}
	var base Counts
	for _, p := range e.pipelines() {
		base.add(p.base)
	}
	s.ThisRun = s.Totals.since(base)
	s.Storage.Bytes = e.records.Used() + e.queue.Log().Used() + e.queue.DeadLetters().Used()
	if e.keyed != nil {
		s.Storage.Bytes += uint64(e.keyed.stores.Used())
	}
	for _, p := range e.pipelines() {
		c, sent, waiting := e.counts(p)
		s.ThisRun.SyncedRecords += sent
		s.Waiting += waiting
		ps := PipelineStatus{Name: p.cfg.Name, Totals: c, Waiting: waiting, Released: p.lane.Released(), Alerts: p.rules.Stats(), Keyed: e.keyedStatus(p)}
		ps.Kept, ps.Syncs = e.pipelineKept(ctx, p, s.Time)
		for _, src := range p.sources {
			ps.Sources = append(ps.Sources, src.status())
		}
		s.Pipelines = append(s.Pipelines, ps)
	}
	for _, lane := range e.removedLanes() {
		if ps := e.removedStatus(ctx, lane); ps.Kept.Records > 0 || len(ps.Released) > 0 {
			s.Pipelines = append(s.Pipelines, ps)
		}
	}
	for _, r := range e.remotes() {
		state, since, err := r.monitor.State()
		rs := RemoteStatus{Kind: r.cfg.Kind, Name: r.cfg.Name, State: string(state), Since: since.UTC(), MonitorStats: r.monitor.Stats()}
		if err != nil {
			rs.LastError = err.Error()
		}
		s.Remotes = append(s.Remotes, rs)
		for _, f := range r.feeds {
			if f.pipeline == nil {
				s.ThisRun.SyncedMessages += f.Sent()
				name, n := f.Feed.Lane.Name(), f.Waiting()
				s.Queue.ByPriority[name] = max(s.Queue.ByPriority[name], n)
			}
		}
	}
	for _, n := range s.Queue.ByPriority {
		s.Queue.Waiting += n
	}
	s.Queue.Waiting += e.unmoved(s.Totals.Messages)
	s.Waiting += s.Queue.Waiting
	s.DeadLetters = deadLettersStatus(e.queue.DeadLetters())
	s.Plugins, s.Reload = e.pluginStatus(), e.reloads.status()
	return s
}

// Audit compares the edge's ledger with every hub's, reading all that a hub
// holds of this edge: it takes time in proportion to that. A hub that cannot be
// asked is reported in the row's Error, a remote without a ledger by NoLedger.
func (e *Engine) Audit(ctx context.Context) (Audit, error) {
	var a Audit
	for _, r := range e.remotes() {
		for _, f := range r.feeds {
			row := AuditPipeline{
				Pipeline: f.Feed.String(), Remote: r.cfg.Name, Epoch: epochOf(f.Feed.Lane), Stored: f.Feed.Lane.Last(),
				Discarded: [][2]uint64{}, PastTTL: [][2]uint64{}, Gaps: [][2]uint64{}, Duplicates: [][2]uint64{}, Damaged: [][2]uint64{},
				HubLost: [][2]uint64{},
			}
			row.Lost = append([]store.Loss{}, f.Feed.Lane.Losses()...)
			if err := e.auditFeed(ctx, r, f, &row); err != nil {
				row.Error = err.Error()
			}
			a.Gaps += sync.CountRanges(row.Gaps)
			a.Duplicates += sync.CountRanges(row.Duplicates)
			a.Damaged += sync.CountRanges(row.Damaged)
			a.Waiting += f.Waiting()
			a.Pipelines = append(a.Pipelines, row)
		}
	}
	return a, ctx.Err()
}

// syncedIn returns up to which of the lane's numbers a ledger reaches whose newest
// entry is of that epoch: after an edge has begun a new one and has nothing to
// send yet, that is the one before.
func syncedIn(lane *store.Lane, epoch string, last uint64) uint64 {
	eras := lane.Eras()
	for i, era := range eras {
		switch {
		case era.Epoch != epoch:
		case i == len(eras)-1:
			return last
		default:
			return min(last, eras[i+1].From-1)
		}
	}
	return 0
}

func (e *Engine) auditFeed(ctx context.Context, r *remote, f *feed, row *AuditPipeline) error {
	ledger, ok := r.remote.(auditor)
	if !ok {
		// What it acknowledged is all that can be known.
		at, _, _ := f.Status()
		row.NoLedger, row.Synced = true, at.Last
		return nil
	}
	if err := r.remote.Probe(ctx); err != nil {
		return err
	}
	found, err := ledger.Audit(ctx, f.Feed)
	if err != nil {
		return err
	}
	row.AtHub, row.Expired = found.AtHub, found.Expired
	row.Discarded = append(row.Discarded, found.Discarded...)
	row.PastTTL = append(row.PastTTL, found.PastTTL...)
	row.Gaps = append(row.Gaps, found.Gaps...)
	row.HubLost = append(row.HubLost, found.HubLost...)
	row.Duplicates = append(row.Duplicates, found.Duplicates...)
	row.Damaged = append(row.Damaged, found.Damaged...)
	row.Synced = syncedIn(f.Feed.Lane, found.Epoch, found.Last)
	// What the edge was told is settled and the hub does not know is lost.
	// Up to the position all may belong to other remotes; of that it knows nothing.
	if acked := f.Past().Acked; acked > row.Synced {
		row.Gaps = append(row.Gaps, [2]uint64{row.Synced + 1, acked})
	}
	return nil
}

// unmoved returns how many of all messages are still on their way from the record
// log to the queue. After many short runs these can be many: waiting that leaves
// them out would call an edge drained that is not.
func (e *Engine) unmoved(messages uint64) uint64 {
	if len(e.remotes()) == 0 || e.queue.Moved() >= e.records.NewestOutbox() {
		return 0
	}
	var taken uint64
	for _, p := range record.Priorities {
		taken += e.queue.Lane(p).Last()
	}
	return messages - min(messages, taken)
}

// connectGrace is how long after its start an edge waits for its hubs before it
// sums up: a run that has nothing to send is through before a leaf node joins.
const connectGrace = 5 * time.Second

// awaitHubs waits until all hubs can be asked, at most until the given time.
func (e *Engine) awaitHubs(ctx context.Context, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, r := range e.remotes() {
		for !r.remote.Reachable() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Summary returns the totals. It audits the hubs that can be asked, and within
// the first seconds of a run waits for them; ctx bounds how long that may take.
func (e *Engine) Summary(ctx context.Context) Summary {
	st := e.Status()
	s := Summary{Counts: st.Totals, ThisRun: st.ThisRun, Waiting: st.Waiting, ElapsedSeconds: st.Time.Sub(st.Started).Seconds()}
	e.awaitHubs(ctx, st.Started.Add(connectGrace))
	a, err := e.Audit(ctx)
	asked := 0
	if err != nil {
		s.NotAudited = err.Error()
	}
	for _, row := range a.Pipelines {
		if row.Error != "" && s.NotAudited == "" {
			s.NotAudited = fmt.Sprintf("%s: %s", row.Remote, row.Error)
		}
		if !row.NoLedger {
			asked++
		}
	}
	s.Audited, s.NoLedger = s.NotAudited == "" && asked > 0, asked < len(a.Pipelines)
	if s.Audited {
		s.Gaps, s.Duplicates = a.Gaps+a.Damaged, a.Duplicates
	}
	return s
}
