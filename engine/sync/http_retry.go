package sync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// retriesAtOnce bounds one call of Retry, so that new entries are not held up.
const retriesAtOnce = 32

// setAside returns the entry as it is to be kept for another try, or nil when
// it has had its attempts and has become a dead letter.
func (s *httpSession) setAside(ctx context.Context, e *store.Stored, why string) (*aside, error) {
	if s.remote.opts.MaxAttempts <= 1 {
		return nil, s.deadLetter(ctx, &aside{Number: e.Number, Data: e.Data, Attempts: 1}, why)
	}
	now := s.remote.opts.Now()
	return &aside{
		Epoch: s.epochOf(e.Number), Number: e.Number, Attempts: 1, Most: s.remote.opts.MaxAttempts, Round: 1, Error: why, Data: e.Data,
		Stored: e.Time.UTC(), First: now.UTC(), Next: now.Add(s.remote.opts.Backoff.Wait(0)).UTC(),
	}, nil
}

func (s *httpSession) epochOf(number uint64) string {
	era, _ := s.feed.Lane.EraOf(number)
	return era.Epoch
}

// NextRetry tells when the next entry put aside is due.
func (s *httpSession) NextRetry() time.Time { return s.journal.next() }

// Retry sends entries that are due, one by one, longest due first.
func (s *httpSession) Retry(ctx context.Context) (bool, error) {
	if s.remote.resting() != nil {
		return false, nil // Push says so
	}
	now := s.remote.opts.Now()
	due := slices.DeleteFunc(slices.Collect(maps.Values(s.journal.asides)), func(a *aside) bool { return a.Next.After(now) })
	slices.SortFunc(due, func(a, b *aside) int { return a.Next.Compare(b.Next) })
	some := false
	for _, a := range due[:min(len(due), retriesAtOnce)] {
		settled, err := s.retry(ctx, a.name())
		if err != nil {
			return some, err
		}
		some = some || settled
	}
	return some, nil
}

// retry sends one entry again. It reports whether that was the last time.
func (s *httpSession) retry(ctx context.Context, name string) (bool, error) {
	a, err := s.journal.read(ctx, name)
	if err != nil {
		return false, err
	}
	state := s.journal.state
	if a == nil {
		return true, s.save(ctx, state, nil, []string{name})
	}
	entry := []store.Stored{{Number: a.Number, Data: a.Data}}
	if s.feed.expired(&entry[0], s.remote.opts.Now()) {
		state.Expired++
		return true, s.save(ctx, state, nil, []string{name})
	}
	request, err := s.retryCall(a, entry)
	if err != nil {
		return true, s.bury(ctx, a, err.Error())
	}
	out, err := s.remote.post(ctx, request)
	if err != nil {
		return false, err
	}
	switch out.verdict {
	case taken:
		failed, err := failures(entry, out.failed)
		if err == nil && len(failed) == 0 {
			state.Total++
			s.refused = 0
			s.remote.trouble.note(s, nil)
			return true, s.save(ctx, state, nil, []string{name})
		}
		if err != nil {
			return false, s.again(ctx, a, err.Error(), false)
		}
		return false, s.again(ctx, a, failed[0], true)
	case refused:
		a.Attempts++
		return true, s.bury(ctx, a, out.err.Error())
	case failed:
		known := s.journal.asides[name]
		if about := aboutTheMessage(out.status); about || s.countsAgainst(known, &request) {
			return false, s.again(ctx, a, out.err.Error(), about)
		}
		// It may have arrived, or the API may be down: its attempts do not grow.
		known.silent++
		known.Next = s.remote.opts.Now().Add(s.remote.opts.Backoff.Wait(max(a.Attempts-1, 0) + known.silent))
		return false, nil
	}
	return false, s.putOff(out)
}

// retryCall is the request for one entry put aside. Its key is another one
// than that of any request that was answered for.
func (s *httpSession) retryCall(a *aside, entry []store.Stored) (call, error) {
	if s.feed.Kind == Messages {
		var m record.Message
		if err := json.Unmarshal(a.Data, &m); err != nil {
			return call{}, fmt.Errorf("reading the message: %w", err)
		}
		return messageCall(&m, a.Data), nil
	}
	e := newLedgerEntry(store.Era{Epoch: a.Epoch}, Position{Last: a.Number - 1}, &Batch{Entries: entry, Last: a.Number}, s.remote.opts.Now())
	key := a.Key
	if a.Round > 0 || key == "" {
		key = idempotencyKey(s.remote.opts.Edge, s.feed, &e, a.Round)
	}
	return call{
		path: HTTPBatchPath, key: key,
		pipeline: s.feed.Lane.Name(), body: batchBody(entry), batch: true,
	}, nil
}

// again keeps the entry for another try, or buries it after the last.
func (s *httpSession) again(ctx context.Context, a *aside, why string, answered bool) error {
	a.Attempts++
	if answered {
		a.Round++
	}
	if a.Attempts >= s.remote.opts.MaxAttempts {
		return s.bury(ctx, a, why)
	}
	a.Error, a.Most = why, s.remote.opts.MaxAttempts
	a.Next = s.remote.opts.Now().Add(s.remote.opts.Backoff.Wait(a.Attempts - 1)).UTC()
	if old := s.journal.asides[a.name()]; old != nil {
		a.took, a.tried = old.took, old.tried
	}
	return s.save(ctx, s.journal.state, []*aside{a}, nil)
}

// bury makes a dead letter of an entry and forgets it.
func (s *httpSession) bury(ctx context.Context, a *aside, why string) error {
	if err := s.deadLetter(ctx, a, why); err != nil {
		return err
	}
	return s.save(ctx, s.journal.state, nil, []string{a.name()})
}

// deadLetter keeps what the API does not take, durably, before the position
// passes it (I6). After a kill in between it comes again, under the same id.
func (s *httpSession) deadLetter(ctx context.Context, a *aside, why string) error {
	number, raw := a.Number, a.Data
	d := record.DeadLetter{
		Pipeline: s.feed.Lane.Name(), Stage: "sync." + s.remote.opts.Name, Error: why,
		Time: s.remote.opts.Now().UTC(), Raw: raw,
		Detail: map[string]string{
			"remote": s.remote.opts.Name, "attempts": strconv.Itoa(a.Attempts), "number": formatNumber(number),
		},
	}
	if !a.First.IsZero() {
		d.Detail["first_attempt"] = a.First.Format(time.RFC3339Nano)
	}
	if s.feed.Kind == Messages {
		var m record.Message
		d.Detail["priority"] = s.feed.Lane.Name()
		d.Pipeline = "$sync" // no pipeline has that name
		if json.Unmarshal(raw, &m) == nil {
			d.Pipeline, d.Detail["message_id"], d.Detail["topic"] = m.Pipeline, m.ID, m.Topic
		}
	} else if r, err := record.Parse(raw); err == nil {
		d.Detail["record_id"] = r.ID
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s%d %s%s %d ", len(d.Pipeline), d.Pipeline, len(d.Stage), d.Stage, s.epochOf(number), number)
	sum.Write(raw)
	d.ID = hex.EncodeToString(sum.Sum(nil)[:16])
	if err := s.remote.opts.DeadLetter(ctx, d); err != nil {
		return fmt.Errorf("keeping a dead letter: %w", err)
	}
	s.buried++
	s.remote.opts.Logger.Warn("the remote does not take it, kept as a dead letter",
		"feed", s.feed.String(), "number", number, "attempts", a.Attempts, "error", why)
	return nil
}
