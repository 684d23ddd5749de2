package sync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/record"
)

// FeedAudit is what a hub holds of one feed, held against its ledger. Ranges
// are numbers, first and last.
type FeedAudit struct {
	Epoch      string
	Last       uint64      // the newest number in the ledger
	AtHub      uint64      // messages found in the hub's stream
	Foreign    uint64      // messages beside them that no ledger numbers: by the HTTP API, or by others
	Expired    uint64      // settled once, removed since by the hub's own limits
	Discarded  [][2]uint64 // dropped by the edge's policy for want of room, and said so
	PastTTL    [][2]uint64 // not sent because they had passed their time to live
	Gaps       [][2]uint64 // settled in the ledger and not in the stream, or never settled
	Lost       [][2]uint64 // of the gaps: what damage at the edge has taken
	HubLost    [][2]uint64 // of the gaps: what the hub had, lost, and the edge no longer kept
	Duplicates [][2]uint64 // in the stream or the ledger more than once
	Damaged    [][2]uint64 // batches whose content is not what the edge sent
}

// Audit reads all that the hub holds of a feed, in order, and compares it with
// the ledger: numbers, order, counts and content. It takes time in proportion
// to what the hub holds.
func (r *NATS) Audit(ctx context.Context, feed *Feed) (FeedAudit, error) {
	fail := func(err error) (FeedAudit, error) {
		return FeedAudit{}, fmt.Errorf("auditing %s at %s: %w", feed, r.name, err)
	}
	js, err := jetstream.NewWithDomain(r.nc, r.domain)
	if err != nil {
		return fail(err)
	}
	stream, err := js.Stream(ctx, feed.hubStream())
	if err != nil {
		return fail(err)
	}
	ledger := feed.ledgerSubject(r.edge)
	newest, err := stream.GetLastMsgForSubject(ctx, ledger)
	if err == jetstream.ErrMsgNotFound { //nolint:errorlint // compared as the library documents it
		return FeedAudit{}, nil
	}
	if err != nil {
		return fail(err)
	}
	a := newAuditor(stream.CachedInfo().State.FirstSeq)
	entries := feed.hubPrefix(r.edge) + "." + record.Token(feed.Lane.Name()) + ".>"
	err = readHub(ctx, js, feed.hubStream(), []string{entries, ledger}, newest.Sequence, func(msg jetstream.Msg, seq uint64) error {
		if msg.Subject() == ledger {
			return a.settle(msg.Data(), seq)
		}
		a.entry(msg.Headers().Get(HeaderNumber), msg.Data())
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return a.result, nil
}

// readHub calls each for every message of a stream below some subjects, in order,
// until sequence last has been passed. It holds a thousand messages at a time.
func readHub(ctx context.Context, js jetstream.JetStream, stream string, subjects []string, last uint64, each func(jetstream.Msg, uint64) error) error {
	consumer, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	if info.NumPending == 0 && info.Delivered.Consumer == 0 {
		return nil
	}
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if seq := meta.Sequence.Stream; seq <= last {
			if err := each(msg, seq); err != nil {
				return err
			}
		}
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return nil
		}
	}
}

// auditor follows a feed's messages in stream order.
type auditor struct {
	firstSeq uint64
	result   FeedAudit
	numbers  []uint64  // since the last ledger entry
	content  hash.Hash // likewise, as the ledger hashes it
	newest   time.Time // of the newest ledger entry
}

func newAuditor(firstSeq uint64) *auditor { return &auditor{firstSeq: firstSeq, content: sha256.New()} }

func (a *auditor) entry(number string, data []byte) {
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		a.result.Foreign++
		return
	}
	a.result.AtHub++
	a.numbers = append(a.numbers, n)
	a.content.Write(binary.LittleEndian.AppendUint64(nil, n))
	a.content.Write(data)
}

// settle holds what was read since the entry before against a ledger entry.
func (a *auditor) settle(data []byte, seq uint64) error {
	e, err := parseLedgerEntry(data)
	if err != nil {
		return err
	}
	numbers := a.numbers
	sum := hex.EncodeToString(a.content.Sum(nil))
	a.numbers = a.numbers[:0]
	a.content.Reset()
	if e.Epoch != a.result.Epoch {
		first := a.result.Epoch == ""
		a.result.Epoch, a.result.Last = e.Epoch, max(e.Since, 1)-1
		if first && a.firstSeq > 1 { // the hub has dropped its oldest: its memory begins here
			a.result.Last = e.First - 1
		}
	}
	switch next := a.result.Last + 1; {
	case e.First > next:
		a.result.Gaps = append(a.result.Gaps, [2]uint64{next, e.First - 1})
	case e.First < next:
		a.result.Duplicates = append(a.result.Duplicates, [2]uint64{e.First, min(a.result.Last, e.Last)})
	}
	a.result.Last, a.newest = max(a.result.Last, e.Last), e.Time
	a.result.Discarded = append(a.result.Discarded, e.Discarded...)
	a.result.HubLost = append(a.result.HubLost, e.HubLost...)
	a.result.Lost = append(a.result.Lost, e.Lost...)
	a.result.PastTTL = append(a.result.PastTTL, e.Expired...)
	want := e.Numbers
	if want == nil && e.Count > 0 {
		want = [][2]uint64{{e.First, e.Last}}
	}
	a.result.Gaps = append(a.result.Gaps, unexplained(e.First, e.Last, want, e.Elsewhere, e.Discarded, e.Expired)...)
	missing, extra := compare(want, numbers)
	if first := seq - uint64(e.Count); first < a.firstSeq {
		// The hub's limits have taken the head of this batch.
		for _, m := range missing {
			a.result.Expired += m[1] - m[0] + 1
		}
		missing = nil
	} else if len(missing)+len(extra) == 0 && sum != e.Hash {
		a.result.Damaged = append(a.result.Damaged, [2]uint64{e.First, e.Last})
	}
	a.result.Gaps = append(a.result.Gaps, missing...)
	a.result.Duplicates = append(a.result.Duplicates, extra...)
	return nil
}

// unexplained returns the numbers from first to last that stand in none of the
// given ranges: the edge had lost them when it sent the batch.
func unexplained(first, last uint64, explained ...[][2]uint64) (missing [][2]uint64) {
	all := slices.Concat(explained...)
	slices.SortFunc(all, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	next := first
	for _, r := range all {
		if r[0] > next {
			missing = append(missing, [2]uint64{next, r[0] - 1})
		}
		next = max(next, r[1]+1)
	}
	if next <= last {
		missing = append(missing, [2]uint64{next, last})
	}
	return missing
}

// compare returns the numbers of want that got lacks, and those that got has
// twice or beyond want.
func compare(want [][2]uint64, got []uint64) (missing, extra [][2]uint64) {
	sorted := slices.Clone(got)
	slices.Sort(sorted)
	i := 0
	for _, w := range want {
		for n := w[0]; n <= w[1]; n++ {
			for i < len(sorted) && sorted[i] < n {
				extra = addNumber(extra, sorted[i])
				i++
			}
			if i < len(sorted) && sorted[i] == n {
				i++
			} else {
				missing = addNumber(missing, n)
			}
		}
	}
	for ; i < len(sorted); i++ {
		extra = addNumber(extra, sorted[i])
	}
	return missing, extra
}

func addNumber(ranges [][2]uint64, n uint64) [][2]uint64 {
	if k := len(ranges) - 1; k >= 0 && ranges[k][1]+1 == n {
		ranges[k][1] = n
		return ranges
	}
	return append(ranges, [2]uint64{n, n})
}

// mergeRanges returns the numbers of all ranges, in order and each once.
func mergeRanges(ranges ...[][2]uint64) (merged [][2]uint64) {
	all := slices.Concat(ranges...)
	slices.SortFunc(all, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for _, r := range all {
		if k := len(merged) - 1; k >= 0 && r[0] <= merged[k][1]+1 {
			merged[k][1] = max(merged[k][1], r[1])
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// CountRanges returns how many numbers ranges hold.
func CountRanges(ranges [][2]uint64) (n uint64) {
	for _, r := range ranges {
		n += r[1] - r[0] + 1
	}
	return n
}
