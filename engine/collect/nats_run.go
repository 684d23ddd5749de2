package collect

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/record"
)

// natsRun is one run of a NATS source.
type natsRun struct {
	src  *natsSource
	nc   *nats.Conn
	sub  *nats.Subscription
	sink Sink
	// ctx ends when nothing may be waited for any more.
	ctx context.Context
	// stop ends the taking of messages.
	stop    context.CancelCauseFunc
	mapper  *mapper
	dropped int // messages whose loss was reported
	// slots holds one token for each batch in flight; done has room for all of
	// them, so that Batch.Done does not block.
	slots chan struct{}
	done  chan natsDone
	over  chan struct{} // closed: no answer is wanted any more

	mu     sync.Mutex
	flight map[*natsFlight]bool // with the sink
}

// natsFlight is a batch that the sink has and that is not durable yet.
type natsFlight struct {
	items []natsItem
	since time.Time
	told  bool // its senders were told to come again; the replier's
}

// natsItem is what became of one message.
type natsItem struct {
	reply    string // subject, or empty
	record   record.Record
	rejected *record.DeadLetter // instead of record
}

// natsDone tells what became of a batch.
type natsDone struct {
	flight *natsFlight
	err    error
}

// take hands messages on until ctx ends.
func (r *natsRun) take(ctx context.Context) error {
	r.mapper = newMapper(r.src.opts, r.src.args, func() string { return uniqueID(r.src.opts.Host.Now()) })
	for {
		first, err := r.sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil && first == nil:
			return nil
		case errors.Is(err, nats.ErrSlowConsumer):
			if items := r.drops(nil); len(items) > 0 {
				r.store(items)
			}
			continue
		case err != nil:
			return err
		}
		r.store(r.gather(first))
		if ctx.Err() != nil {
			return nil
		}
	}
}

// drain ends the subscription and hands on what was delivered to it.
func (r *natsRun) drain() {
	if r.nc.IsConnected() {
		err := r.sub.Drain()
		if err == nil {
			// The answer comes behind every message that was on its way.
			err = r.nc.FlushTimeout(stopGrace)
		}
		if err != nil {
			r.src.opts.Logger.Warn("ending the subscription", "error", err)
		}
	}
	for r.ctx.Err() == nil {
		first := r.ready()
		if first == nil {
			return
		}
		r.store(r.gather(first))
	}
}

// ready returns a message that has arrived, or nil.
func (r *natsRun) ready() *nats.Msg {
	for {
		if n, _, err := r.sub.Pending(); err != nil || n == 0 {
			return nil
		}
		m, err := r.sub.NextMsg(time.Second)
		if err == nil {
			return m
		}
		if !errors.Is(err, nats.ErrSlowConsumer) {
			return nil
		}
	}
}

// gather maps first and whatever else has arrived, as far as it fits in one
// batch.
func (r *natsRun) gather(first *nats.Msg) []natsItem {
	r.mapper.freshArena()
	var items []natsItem
	size := 0
	for m := first; m != nil; m = r.ready() {
		items = append(items, r.item(m))
		if size += len(m.Data); len(items) >= batchRecords || size >= batchBytes {
			break
		}
	}
	return r.drops(items)
}

// drops adds the trace of messages that were dropped since the last one. When
// some are, the next call for a message says so, and comes here.
func (r *natsRun) drops(items []natsItem) []natsItem {
	n, err := r.sub.Dropped()
	if err != nil || n == r.dropped {
		return items
	}
	r.src.opts.Logger.Warn("messages were dropped because the store is too slow for them", "subject", r.src.subject, "dropped", n-r.dropped)
	items = append(items, r.src.rejectDropped(n-r.dropped))
	r.dropped = n
	return items
}

func (r *natsRun) item(m *nats.Msg) natsItem {
	rec, err := r.mapper.apply(m.Data)
	if err == nil {
		return natsItem{reply: m.Reply, record: rec}
	}
	if len(m.Data) == 0 {
		err = errEmptyInput
	}
	d := r.src.opts.reject(m.Data, m.Subject, err, map[string]string{"subject": m.Subject})
	d.Headers = keptHeaders(m.Header)
	return natsItem{reply: m.Reply, rejected: &d}
}

// maxHeaderBytes bounds the headers that a dead letter keeps.
const maxHeaderBytes = 16 << 10

// keptHeaders returns a message's headers in the order of their names, as far as
// they are text and together no longer than a dead letter may keep.
func keptHeaders(h nats.Header) map[string][]string {
	var kept map[string][]string
	size := 0
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			if size += len(name) + len(value); size > maxHeaderBytes {
				return kept
			}
			if kept == nil {
				kept = map[string][]string{}
			}
			kept[name] = append(kept[name], validText(value))
		}
	}
	return kept
}

// store hands items on. When the store has no room for them within the wait,
// the requests among them are refused, and the others, whose senders cannot be
// told, wait on.
func (r *natsRun) store(items []natsItem) {
	select {
	case r.slots <- struct{}{}:
	case <-r.ctx.Done():
		r.lost(items, r.ctx.Err())
		return
	}
	for {
		b := natsBatch(items)
		f := &natsFlight{items: items, since: time.Now()}
		r.fly(f, true)
		b.Done = func(err error) { r.done <- natsDone{flight: f, err: err} }
		ctx, cancel := context.WithTimeout(r.ctx, r.src.wait)
		err := r.sink.Put(ctx, b)
		full := errors.Is(err, ErrFull) || ctx.Err() != nil
		cancel()
		if err == nil {
			return
		}
		r.fly(f, false)
		if !full {
			r.stop(errRefused{err})
		}
		r.answer(items, err)
		items = slices.DeleteFunc(slices.Clone(items), func(i natsItem) bool { return i.reply != "" })
		if len(items) == 0 || !full || r.ctx.Err() != nil {
			<-r.slots
			r.lost(items, err)
			return
		}
		if errors.Is(err, ErrFull) {
			r.src.opts.Sleep(r.ctx, fullPause)
		}
	}
}

func natsBatch(items []natsItem) *Batch {
	b := &Batch{Records: make([]record.Record, 0, len(items))}
	for i := range items {
		if items[i].rejected != nil {
			b.Rejected = append(b.Rejected, *items[i].rejected)
		} else {
			b.Records = append(b.Records, items[i].record)
		}
	}
	return b
}

// lost reports messages that are gone and whose senders cannot know.
func (r *natsRun) lost(items []natsItem, err error) {
	n := 0
	for i := range items {
		if items[i].reply == "" {
			n++
		}
	}
	if n > 0 {
		r.src.opts.Logger.Error("messages without a reply subject are lost", "subject", r.src.subject, "lost", n, "error", err)
	}
}

// reply answers the requests of batches as they become durable. It ends after
// finish.
//
// When the sink has a batch for the time of a wait and is in trouble, the requests
// in it are told so, though they may be stored later.
func (r *natsRun) reply() {
	tick := time.NewTicker(r.src.wait)
	defer tick.Stop()
	for {
		select {
		case d := <-r.done:
			r.fly(d.flight, false)
			if !d.flight.told {
				r.answer(d.flight.items, d.err)
			}
			if d.err != nil {
				r.lost(d.flight.items, d.err)
				r.stop(errRefused{d.err})
			}
			<-r.slots
		case <-tick.C:
			if err := r.sink.Trouble(); err != nil {
				r.tellLate(err)
			}
		case <-r.over:
			return
		}
	}
}

// fly notes that the sink has a batch, or has it no more.
func (r *natsRun) fly(f *natsFlight, has bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if has {
		r.flight[f] = true
	} else {
		delete(r.flight, f)
	}
}

// tellLate answers the requests that have waited with the sink for long.
func (r *natsRun) tellLate(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range r.flight {
		if !f.told && time.Since(f.since) >= r.src.wait {
			f.told = true
			r.answer(f.items, err)
		}
	}
}

// finish waits until every batch is durable or refused and answered, or the
// grace is over.
func (r *natsRun) finish() {
	for range natsInFlight {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
		}
	}
	close(r.over)
}

// answer tells the senders of the requests among items how they ended (I1).
func (r *natsRun) answer(items []natsItem, err error) {
	for i := range items {
		if items[i].reply == "" {
			continue
		}
		if pubErr := r.nc.Publish(items[i].reply, natsAnswer(&items[i], err)); pubErr != nil {
			r.src.opts.Logger.Warn("answering a request", "error", pubErr)
		}
	}
}

func natsAnswer(item *natsItem, err error) []byte {
	var a struct {
		OK         bool   `json:"ok,omitempty"`
		ID         string `json:"id,omitempty"`
		Error      string `json:"error,omitempty"`
		DeadLetter string `json:"dead_letter,omitempty"`
	}
	switch {
	case errors.Is(err, ErrFull), errors.Is(err, context.DeadlineExceeded):
		a.Error = validText(fullReason(err)) + "; send it again later"
	case err != nil:
		a.Error = "it could not be stored; send it again later: " + validText(err.Error())
	case item.rejected != nil:
		a.Error, a.DeadLetter = item.rejected.Error, item.rejected.ID
	default:
		a.OK, a.ID = true, item.record.ID
	}
	body, marshalErr := json.Marshal(a)
	if marshalErr != nil {
		panic("collect: an answer that is no JSON: " + marshalErr.Error())
	}
	return body
}
