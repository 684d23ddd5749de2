package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// An HTTP API has no ledger, so the edge keeps one for it: stream EDGED_HTTP
// holds, per feed, where the API stands and what it has refused for now. Each
// change is one atomic batch with one flush, so that an entry is put aside and
// the position passes it together or not at all (I2, I3, I6).
const (
	HTTPStream  = "EDGED_HTTP"
	httpSubject = "edged.http"
)

// Bounds of what one feed may have put aside; at the bound the feed waits (I9).
const (
	maxAside      = 10_000
	maxAsideBytes = 16 << 20
)

// feedState is the newest known state of one feed at the API.
type feedState struct {
	Epoch string `json:"epoch"`
	Last  uint64 `json:"last"`
	Total uint64 `json:"total"`
	// Expired counts what had passed its time to live before the API took it.
	Expired uint64 `json:"expired,omitempty"`
	// Discarded counts what was dropped for want of room before it was sent.
	Discarded uint64 `json:"discarded,omitempty"`
	Failed    uint64 `json:"failed,omitempty"` // became dead letters
	// Sending is the batch under way, written before its first request. Until it
	// is answered for, exactly it is sent again, under the same key: what the API
	// may have stored is never sent in another batch.
	Sending *LedgerEntry `json:"sending,omitempty"`
}

// aside is an entry that the API has refused and that is to be sent again.
type aside struct {
	Epoch    string    `json:"epoch"`
	Number   uint64    `json:"number"`
	Attempts int       `json:"attempts"` // answered with a failure
	Most     int       `json:"max_attempts,omitempty"`
	Stored   time.Time `json:"stored,omitzero"` // by the edge
	First    time.Time `json:"first,omitzero"`  // when it was first answered with a failure
	Round    int       `json:"round"`           // part of the key: a request answered for needs a new one
	Key      string    `json:"key,omitempty"`   // of round 0, when the entry has been sent and not been answered for
	Next     time.Time `json:"next"`
	Error    string    `json:"error"`
	Data     []byte    `json:"data,omitempty"`

	size   int
	silent int    // tries that told nothing of this entry, since the start
	took   uint64 // requests like it that the API had taken at the last try
	tried  bool   // took is known
}

// name is the last two tokens of the entry's subject.
func (a *aside) name() string { return record.Token(a.Epoch) + "." + formatNumber(a.Number) }

// journal keeps one feed's state. One goroutine at a time.
type journal struct {
	nc      *nats.Conn
	stream  jetstream.Stream
	batch   *broker.AtomicBatch
	subject string
	seq     uint64 // of the state's message; 0: there is none
	loaded  bool   // by this process
	state   feedState
	asides  map[string]*aside // without Data
	bytes   int
}

func openHTTPStream(ctx context.Context, nc *nats.Conn) (jetstream.Stream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: HTTPStream, Subjects: []string{httpSubject + ".>"}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, AllowAtomicPublish: true,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the stream %s: %w", HTTPStream, err)
	}
	return stream, nil
}

func newJournal(nc *nats.Conn, stream jetstream.Stream, remote string, feed *Feed) *journal {
	kind := "records"
	if feed.Kind == Messages {
		kind = "queue"
	}
	return &journal{
		nc: nc, stream: stream, batch: broker.NewAtomicBatch(nc),
		subject: httpSubject + "." + record.Token(remote) + "." + kind + "." + record.Token(feed.Lane.Name()),
		asides:  map[string]*aside{}, loaded: feed.Met,
	}
}

func (j *journal) stateSubject() string            { return j.subject + ".state" }
func (j *journal) asideSubject(name string) string { return j.subject + ".aside." + name }
func (j *journal) position() Position {
	at := Position{Last: j.state.Last, Total: j.state.Total, Aside: uint64(len(j.asides)), Expired: j.state.Expired, Discarded: j.state.Discarded, Failed: j.state.Failed}
	for _, a := range j.asides {
		since := a.Stored
		if since.IsZero() { // put aside by an earlier version
			since = a.First
		}
		if at.AsideSince.IsZero() || since.Before(at.AsideSince) {
			at.AsideSince = since
		}
	}
	return at
}

// load reads the feed's state anew. Numbers that the lane has given again since
// count as new, after the store was lost or went back in time; what was put
// aside before is still to be sent.
func (j *journal) load(ctx context.Context, lane *store.Lane) error {
	msg, err := broker.LastMessage(ctx, j.nc, "", HTTPStream, j.stateSubject())
	if err != nil {
		return err
	}
	eras := lane.Eras()
	j.state, j.seq = feedState{Last: eras[0].From - 1}, 0
	if msg != nil {
		var saved feedState
		if err := json.Unmarshal(msg.Data, &saved); err != nil {
			return fmt.Errorf("reading %s: %w", msg.Subject, err)
		}
		j.seq = msg.Seq
		i := slices.IndexFunc(eras, func(e store.Era) bool { return e.Epoch == saved.Epoch })
		if i >= 0 {
			j.state = saved
		}
		newest := lane.Last()
		if !j.loaded { // written by an earlier process, when the lane was no longer than it was found
			newest = lane.Opened()
		}
		if i >= 0 && i < len(eras)-1 {
			newest = eras[i+1].From - 1
		}
		if under := j.state.Sending; under != nil && under.Last > newest {
			j.state.Sending = nil
		}
		j.state.Last = min(j.state.Last, newest)
	}
	j.loaded = true
	return j.loadAsides(ctx)
}

func (j *journal) loadAsides(ctx context.Context) error {
	clear(j.asides)
	j.bytes = 0
	info, err := j.stream.Info(ctx, jetstream.WithSubjectFilter(j.asideSubject(">")))
	if err != nil {
		return fmt.Errorf("reading %s: %w", HTTPStream, err)
	}
	for subject := range info.State.Subjects {
		a, err := j.read(ctx, strings.TrimPrefix(subject, j.asideSubject("")))
		if err != nil {
			return err
		}
		if a != nil {
			j.keep(a)
		}
	}
	return nil
}

// read returns an entry that was put aside, with its data, or nil when it has
// been settled.
func (j *journal) read(ctx context.Context, name string) (*aside, error) {
	subject := j.asideSubject(name)
	msg, err := broker.LastMessage(ctx, j.nc, "", HTTPStream, subject)
	if err != nil || msg == nil {
		return nil, err
	}
	if len(msg.Data) == 0 {
		return nil, j.purge(ctx, subject)
	}
	a := new(aside)
	if err := json.Unmarshal(msg.Data, a); err != nil {
		return nil, fmt.Errorf("reading %s: %w", subject, err)
	}
	a.size = len(a.Data)
	return a, nil
}

func (j *journal) keep(a *aside) {
	kept := *a
	kept.size, kept.Data = max(a.size, len(a.Data)), nil
	if old := j.asides[a.name()]; old != nil {
		j.bytes -= old.size
	}
	j.bytes += kept.size
	j.asides[a.name()] = &kept
}

// room reports whether n entries of that many bytes more may be put aside.
func (j *journal) room(n, bytes int) bool {
	return len(j.asides) == 0 || len(j.asides)+n <= maxAside && j.bytes+bytes <= maxAsideBytes
}

// next returns when the next entry put aside is due, the zero time when there
// is none.
func (j *journal) next() (next time.Time) {
	for _, a := range j.asides {
		if next.IsZero() || a.Next.Before(next) {
			next = a.Next
		}
	}
	return next
}

// save makes state, entries put aside and entries settled durable together.
// After an error the journal must be loaded again.
func (j *journal) save(ctx context.Context, state feedState, put []*aside, settled []string) error {
	data, err := json.Marshal(&state)
	if err != nil {
		return fmt.Errorf("encoding the state of a feed: %w", err)
	}
	j.batch.Begin()
	for _, a := range put {
		body, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encoding an entry put aside: %w", err)
		}
		j.batch.Add(j.asideSubject(a.name()), body)
	}
	for _, name := range settled {
		j.batch.Add(j.asideSubject(name), nil) // removed for good below
	}
	seq, err := j.batch.Commit(ctx, j.stateSubject(), data, j.seq)
	if err != nil {
		return fmt.Errorf("saving the state of a feed: %w", err)
	}
	j.seq, j.state = seq, state
	for _, a := range put {
		j.keep(a)
	}
	var errs []error
	for _, name := range settled {
		if old := j.asides[name]; old != nil {
			j.bytes -= old.size
			delete(j.asides, name)
		}
		errs = append(errs, j.purge(ctx, j.asideSubject(name)))
	}
	return errors.Join(errs...)
}

func (j *journal) purge(ctx context.Context, subject string) error {
	if err := j.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return fmt.Errorf("removing %s: %w", subject, err)
	}
	return nil
}
