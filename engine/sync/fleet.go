package sync

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/record"
)

// EdgeAudit is a FeedAudit made at the hub, of one feed of one edge.
type EdgeAudit struct {
	Edge string
	Kind Kind
	Lane string // a pipeline or a priority
	FeedAudit
	Time time.Time // of the newest ledger entry, by the edge's clock
	// Unsettled counts messages with numbers that no ledger entry follows: no
	// batch ends so.
	Unsettled uint64
	// Err is a ledger entry that cannot be read.
	Err error
}

// Name names the feed as [Feed.String] does.
func (a *EdgeAudit) Name() string { return feedName(a.Kind, a.Lane) }

// FleetOptions says what AuditFleet reads.
type FleetOptions struct {
	Domain string   // JetStream domain of the hub; empty: the one that the connection is in
	Edges  []string // device ids; none: every edge
	// Progress, when not nil, is called with the messages read so far, of both
	// streams, and how many there are.
	Progress func(read, of uint64)
}

// AuditFleet reads all that a hub holds, each stream once and in order, and
// compares every feed of every edge with its ledger. It needs nothing of the
// edges: what it cannot see is what they have not yet sent. It takes time in
// proportion to what the hub holds, and memory in proportion to the feeds. The
// feeds come sorted by edge and name.
func AuditFleet(ctx context.Context, nc *nats.Conn, opts FleetOptions) ([]EdgeAudit, error) {
	fail := func(err error) ([]EdgeAudit, error) { return nil, fmt.Errorf("auditing the hub: %w", err) }
	js, err := jetstream.New(nc)
	if opts.Domain != "" {
		js, err = jetstream.NewWithDomain(nc, opts.Domain)
	}
	if err != nil {
		return fail(err)
	}
	kinds := []Kind{Records, Messages}
	states := make([]jetstream.StreamState, len(kinds))
	var read, all uint64
	for i, kind := range kinds {
		stream, err := js.Stream(ctx, kind.hubStream())
		if err != nil {
			if missing := noStream(err, kind.hubStream()); missing != nil {
				err = missing
			}
			return fail(err)
		}
		states[i] = stream.CachedInfo().State
		all += states[i].Msgs
	}
	var found []EdgeAudit
	for i, kind := range kinds {
		f := fleet{kind: kind, firstSeq: states[i].FirstSeq, feeds: map[string]*fleetFeed{}}
		if states[i].Msgs == 0 {
			continue
		}
		err := readHub(ctx, js, kind.hubStream(), kind.hubSubjects(opts.Edges), states[i].LastSeq, func(msg jetstream.Msg, seq uint64) error {
			f.take(msg, seq)
			if read++; opts.Progress != nil && read%1000 == 0 {
				opts.Progress(read, all)
			}
			return nil
		})
		if err != nil {
			return fail(err)
		}
		found = append(found, f.results()...)
	}
	slices.SortFunc(found, func(a, b EdgeAudit) int {
		return cmp.Or(cmp.Compare(a.Edge, b.Edge), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Lane, b.Lane))
	})
	return found, nil
}

// fleet sorts the messages of one stream by feed.
type fleet struct {
	kind     Kind
	firstSeq uint64
	feeds    map[string]*fleetFeed // by "<edge>.<lane>", as tokens
}

type fleetFeed struct {
	auditor *auditor
	err     error
}

// take finds the feed by the subject: <prefix>.<edge>.<lane>, and more if it is
// not the ledger's.
func (f *fleet) take(msg jetstream.Msg, seq uint64) {
	subject, ledger := strings.CutPrefix(msg.Subject(), f.kind.ledgerPrefix()+".")
	if !ledger {
		subject = strings.TrimPrefix(subject, f.kind.hubPrefix()+".")
	}
	name := subject
	if i := strings.IndexByte(subject, '.'); i >= 0 {
		if j := strings.IndexByte(subject[i+1:], '.'); j >= 0 {
			name = subject[:i+1+j]
		}
	}
	feed := f.feeds[name]
	if feed == nil {
		feed = &fleetFeed{auditor: newAuditor(f.firstSeq)}
		f.feeds[strings.Clone(name)] = feed
	}
	if !ledger {
		feed.auditor.entry(msg.Headers().Get(HeaderNumber), msg.Data())
	} else if err := feed.auditor.settle(msg.Data(), seq); err != nil && feed.err == nil {
		feed.err = fmt.Errorf("stream sequence %d: %w", seq, err)
	}
}

func (f *fleet) results() []EdgeAudit {
	found := make([]EdgeAudit, 0, len(f.feeds))
	for name, feed := range f.feeds {
		edge, lane, _ := strings.Cut(name, ".")
		audit := EdgeAudit{
			Edge: untoken(edge), Kind: f.kind, Lane: untoken(lane),
			FeedAudit: feed.auditor.result, Time: feed.auditor.newest, Err: feed.err,
		}
		for _, n := range feed.auditor.numbers {
			if n > audit.Last {
				audit.Unsettled++
			} else {
				audit.Duplicates = addNumber(audit.Duplicates, n)
			}
		}
		found = append(found, audit)
	}
	return found
}

// untoken shows a token that is none, put there by another program, as it is.
func untoken(token string) string {
	if name, err := record.Untoken(token); err == nil {
		return name
	}
	return token
}
