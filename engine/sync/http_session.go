package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

const (
	httpMaxRecords  = 900 // what an ingest API must take at once
	httpMaxMessages = 20  // each is a request, so a push of many would hold up higher priorities
	stateTimeout    = 30 * time.Second
	// After so many entries refused in a row, with none taken between them, the
	// API rather than the entries is to blame: each then gets all its attempts.
	refusedInARow = 3
	deniedFactor  = 10 // a wrong token is tried so much slower
)

// httpSession pushes one feed.
type httpSession struct {
	remote  *HTTP
	feed    *Feed
	journal *journal

	chunk    int    // entries of the next batch; halved when one is refused
	attempts int    // in a row, of the batch under way
	refused  int    // entries refused in a row
	buried   uint64 // entries that became dead letters since the state was saved
	suspect  suspect
	suspects int    // entries put aside in a row because the API failed on them
	isolated uint64 // up to this number records are sent one by one
}

var _ Partial = (*httpSession)(nil)

// Session returns a session for one feed.
func (r *HTTP) Session(feed *Feed) Session {
	s := &httpSession{remote: r, feed: feed, journal: newJournal(r.opts.Conn, r.stream, r.opts.Name, feed)}
	s.chunk = s.MaxEntries()
	return s
}

// MaxEntries is how many entries fit a push.
func (s *httpSession) MaxEntries() int {
	if s.feed.Kind == Messages {
		return httpMaxMessages
	}
	return httpMaxRecords
}

// Position reads the feed's state from the local disk: it is as good as the
// API's own word, for what the API may have beyond it is sent again under the
// same key.
func (s *httpSession) Position(ctx context.Context) (Position, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s.buried = 0
	if err := s.journal.load(ctx, s.feed.Lane); err != nil {
		return Position{}, fmt.Errorf("reading what %s has of %s: %w", s.remote.opts.Name, s.feed, err)
	}
	return s.At(), nil
}

// At returns the position after the last call.
func (s *httpSession) At() Position { return s.journal.position() }

// Push sends the batch in order. What it has settled stays settled when it ends
// with an error.
func (s *httpSession) Push(ctx context.Context, b *Batch) error {
	if later := s.remote.resting(); later != nil {
		return later
	}
	if s.feed.Kind == Messages {
		if err := s.pushMessages(ctx, b); err != nil {
			return err
		}
		return s.pass(ctx, b)
	}
	for {
		chunk, err := s.next(ctx, b)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return s.pass(ctx, b)
		}
		if err := s.pushBatch(ctx, chunk); err != nil {
			return err
		}
	}
}

// pass settles numbers that are not this remote's, or are no longer there.
func (s *httpSession) pass(ctx context.Context, b *Batch) error {
	state := s.journal.state
	if state.Last >= b.Last {
		return nil
	}
	state.Expired += countWithin(b.Expired, state.Last+1, b.Last)
	state.Discarded += countWithin(b.Discarded, state.Last+1, b.Last)
	state.Epoch, state.Last, state.Sending = s.epochOf(b.Last), b.Last, nil
	return s.save(ctx, state, nil, nil)
}

// countWithin returns how many of the numbers from first to last ranges hold.
func countWithin(ranges [][2]uint64, first, last uint64) (n uint64) {
	for _, r := range ranges {
		if from, to := max(r[0], first), min(r[1], last); from <= to {
			n += to - from + 1
		}
	}
	return n
}

// next returns the entries of the batch to send: the one under way if there is
// one, else a new one, which it notes first.
func (s *httpSession) next(ctx context.Context, b *Batch) ([]store.Stored, error) {
	state := s.journal.state
	if state.Sending != nil {
		found, err := s.underWay(ctx, state.Sending, b.Entries)
		if err != nil || found != nil {
			return found, err
		}
		state.Sending = nil
	}
	entries, last := b.Entries, b.Last
	for len(entries) > 0 && entries[0].Number <= state.Last {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if most := s.atOnce(); len(entries) > most {
		entries = entries[:most]
		last = entries[len(entries)-1].Number
	}
	era, _ := s.feed.Lane.EraOf(state.Last + 1)
	at := Position{Last: state.Last, Total: state.Total}
	entry := newLedgerEntry(era, at, &Batch{Entries: entries, Last: last}, s.remote.opts.Now())
	state.Epoch, state.Sending = era.Epoch, &entry
	s.attempts = 0
	return entries, s.save(ctx, state, nil, nil)
}

// underWay returns exactly the entries of the batch under way, from those at
// hand or, when they are not all there, from the log. It returns nil when the
// log has dropped some of them for want of room: what is left then goes in
// another batch, and twice if the API had it already.
func (s *httpSession) underWay(ctx context.Context, under *LedgerEntry, entries []store.Stored) ([]store.Stored, error) {
	if found := among(entries, under); len(found) == under.Count {
		return found, nil
	}
	reader := s.feed.Lane.NewReader(under.First - 1)
	defer reader.Close()
	var found []store.Stored
	for reader.Number() < under.Last {
		got, err := reader.Read(ctx, httpMaxRecords, maxAsideBytes, nil)
		if err != nil {
			return nil, err
		}
		if len(got) == 0 {
			break
		}
		found = append(found, among(got, under)...)
	}
	if len(found) == under.Count {
		return found, nil
	}
	s.remote.opts.Logger.Warn("a batch under way is no longer whole in the store; what is left of it is sent anew",
		"feed", s.feed.String(), "first", under.First, "last", under.Last, "left", len(found))
	return nil, nil
}

// among returns the entries that belong to the batch.
func among(entries []store.Stored, e *LedgerEntry) []store.Stored {
	numbers := e.Numbers
	if numbers == nil {
		numbers = [][2]uint64{{e.First, e.Last}}
	}
	found := make([]store.Stored, 0, min(e.Count, len(entries)))
	for i := range entries {
		for _, r := range numbers {
			if n := entries[i].Number; n >= r[0] && n <= r[1] {
				found = append(found, entries[i])
				break
			}
		}
	}
	return found
}

// pushBatch sends the batch under way and settles it, or puts it off.
func (s *httpSession) pushBatch(ctx context.Context, batch []store.Stored) error {
	under := s.journal.state.Sending
	request := call{
		path: HTTPBatchPath, key: idempotencyKey(s.remote.opts.Edge, s.feed, under, 0),
		pipeline: s.feed.Lane.Name(), body: batchBody(batch), batch: true,
	}
	out, err := s.remote.post(ctx, request)
	if err != nil {
		return err
	}
	state := s.journal.state
	s.pastDropped(&state, under.Last, batch)
	state.Sending, state.Last = nil, under.Last
	var refusals map[int]string
	if out.verdict == taken {
		if refusals, err = failures(batch, out.failed); err != nil {
			out = outcome{verdict: failed, status: out.status, err: err}
		}
	}
	switch out.verdict {
	case taken:
		return s.settle(ctx, state, batch, refusals)
	case failed:
		return s.failedBatch(ctx, &request, batch, out)
	case refused:
		if len(batch) > 1 {
			// Nothing of it is stored: it may be sent in other batches.
			s.chunk = len(batch) / 2
			state.Last, state.Discarded = s.journal.state.Last, s.journal.state.Discarded
			return s.save(ctx, state, nil, nil)
		}
		if err := s.refuse(ctx, out, &batch[0]); err != nil {
			return err
		}
		return s.save(ctx, state, nil, nil)
	}
	return s.putOff(out)
}

// pastDropped counts what was dropped of the numbers that a batch settles, before
// state.Last is moved to last.
func (s *httpSession) pastDropped(state *feedState, last uint64, batch []store.Stored) {
	state.Discarded += CountRanges(without(s.feed.Lane.Discarded(state.Last+1, last), batch))
}

// settle notes that the API has answered for a batch: what it has not taken is
// put aside in the same write.
func (s *httpSession) settle(ctx context.Context, state feedState, batch []store.Stored, refusals map[int]string) error {
	bytes := 0
	for i := range refusals {
		bytes += len(batch[i].Data)
	}
	if len(refusals) > 0 && !s.journal.room(len(refusals), bytes) {
		return s.putOff(outcome{verdict: failed, err: fmt.Errorf(
			"%d entries of %s wait for another try; no more fit", len(s.journal.asides), s.feed)})
	}
	var put []*aside
	for i := range batch {
		why, bad := refusals[i]
		if !bad {
			state.Total++
			continue
		}
		a, err := s.setAside(ctx, &batch[i], why)
		if err != nil {
			return err
		}
		if a != nil {
			put = append(put, a)
		}
	}
	if len(refusals) < len(batch) {
		s.refused, s.suspects = 0, 0
	}
	if err := s.save(ctx, state, put, nil); err != nil {
		return err
	}
	s.chunk = min(2*s.chunk, s.MaxEntries())
	s.settled()
	return nil
}

// settled notes that the API has answered for what it was sent.
func (s *httpSession) settled() {
	s.attempts = 0
	s.remote.trouble.note(s, nil)
}

// pushMessages sends messages one by one. Their ids are their keys, so nothing
// need be noted before.
func (s *httpSession) pushMessages(ctx context.Context, b *Batch) error {
	state := s.journal.state
	var stop error
	for i := range b.Entries {
		e := &b.Entries[i]
		if e.Number <= state.Last {
			continue
		}
		put, took, err := s.pushMessage(ctx, e)
		if err != nil {
			stop = err
			break
		}
		state.Expired += countWithin(b.Expired, state.Last+1, e.Number)
		state.Discarded += countWithin(b.Discarded, state.Last+1, e.Number)
		state.Epoch, state.Last = s.epochOf(e.Number), e.Number
		if took {
			state.Total++
		}
		if put != nil {
			if err := s.save(ctx, state, []*aside{put}, nil); err != nil {
				return err
			}
		}
	}
	if state.Last != s.journal.state.Last {
		if err := s.save(context.WithoutCancel(ctx), state, nil, nil); err != nil {
			return errors.Join(stop, err)
		}
	}
	return stop
}

// pushMessage sends one message. It returns what to put aside, and whether the
// API took it; with neither it has become a dead letter.
func (s *httpSession) pushMessage(ctx context.Context, e *store.Stored) (put *aside, took bool, err error) {
	var m record.Message
	if err := json.Unmarshal(e.Data, &m); err != nil {
		out := outcome{verdict: refused, err: fmt.Errorf("reading the message: %w", err)}
		return nil, false, s.deadLetter(ctx, &aside{Number: e.Number, Data: e.Data, Attempts: 1}, out.err.Error())
	}
	request := messageCall(&m, e.Data)
	out, err := s.remote.post(ctx, request)
	if err != nil {
		return nil, false, err
	}
	switch {
	case out.verdict == taken:
		s.refused, s.suspects = 0, 0
		s.settled()
		return nil, true, nil
	case out.verdict == refused:
		return nil, false, s.refuse(ctx, out, e)
	case aboutTheMessage(out.status):
		if !s.journal.room(1, len(e.Data)) {
			break
		}
		put, err := s.setAside(ctx, e, out.err.Error())
		s.attempts = 0
		return put, false, err
	case out.verdict == failed:
		if put := s.suspected(&request, e, out); put != nil {
			return put, false, nil
		}
	}
	return nil, false, s.putOff(out)
}

func messageCall(m *record.Message, data []byte) call {
	return call{path: HTTPMessagePath + topicSegment(m.Topic), key: m.ID, pipeline: m.Pipeline, body: data}
}

// aboutTheMessage tells the refusals that speak of this one message or topic,
// like 404 or 409, from those that speak of the API or the moment.
func aboutTheMessage(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status/100 == 4
}

// refuse makes a dead letter of an entry that the API will never take, or
// returns when to try it again.
func (s *httpSession) refuse(ctx context.Context, out outcome, e *store.Stored) error {
	if s.refused >= refusedInARow && s.attempts+1 < s.remote.opts.MaxAttempts {
		out.err = fmt.Errorf("%w (it has refused %d in a row)", out.err, s.refused)
		return s.putOff(out)
	}
	if err := s.deadLetter(ctx, &aside{Number: e.Number, Data: e.Data, Attempts: s.attempts + 1}, out.err.Error()); err != nil {
		return err
	}
	s.refused++
	s.settled()
	return nil
}

// putOff returns when to try again.
func (s *httpSession) putOff(out outcome) error {
	if out.verdict == unsent {
		return out.err // the whole remote is away; its monitor says when it is back
	}
	now := s.remote.opts.Now()
	backoff := s.remote.opts.Backoff
	everyone := out.verdict == denied || out.verdict == busy
	if out.verdict == denied {
		backoff.Base *= deniedFactor
	}
	wait := backoff.Wait(s.attempts)
	if out.after > 0 {
		// All edges were told the same time.
		wait = out.after + s.remote.opts.Backoff.Wait(0)
	}
	s.attempts++
	later := &Later{Until: now.Add(wait), Err: out.err}
	s.remote.trouble.note(s, out.err)
	if everyone {
		s.remote.putOff(later)
	}
	s.remote.opts.Logger.Warn("sync put off", "feed", s.feed.String(),
		"in", wait.Round(time.Millisecond), "error", out.err)
	return later
}

// save writes the state even when ctx has ended: the API's answer is known now
// and need not be asked for again.
func (s *httpSession) save(ctx context.Context, state feedState, put []*aside, settled []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout)
	defer cancel()
	state.Failed = s.journal.state.Failed + s.buried
	s.buried = 0 // what is not saved comes again
	return s.journal.save(ctx, state, put, settled)
}
