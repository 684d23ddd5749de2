// Package sync brings what the edge has stored to its remotes: a monitor of the
// connection, a sender that orders the work, and one file per kind of remote.
package sync

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// Names at the hub.
const (
	HubRecordStream  = "EDGED_RECORDS"
	HubQueueStream   = "EDGED_QUEUE"
	HubRecordSubject = "edged.hub.records"
	HubQueueSubject  = "edged.hub.queue"
	HubLedgerRecords = "edged.hub.ledger.records"
	HubLedgerQueue   = "edged.hub.ledger.queue"
	HubLedgerHTTP    = "edged.hub.ledger.http" // .records or .queue, and a hash of edge and key
)

// HeaderNumber carries an entry's number at the hub.
const HeaderNumber = "Edged-Number"

// LedgerEntry is the last message of every batch at the hub. It commits
// together with the batch, so the newest entry on a feed's ledger subject is
// the truth about what the hub has (I2).
type LedgerEntry struct {
	Epoch string `json:"epoch"`
	// Since is the first number of the epoch.
	Since uint64 `json:"since"`
	// First and Last bound the numbers this batch settles. They follow on the
	// entry before without a hole.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Count int    `json:"count"`
	// Numbers are the numbers in the batch, as ranges, when it does not hold
	// every one from First to Last.
	Numbers [][2]uint64 `json:"numbers,omitempty"`
	// Elsewhere are numbers that belong to another remote, Discarded those that
	// the edge dropped by policy for want of room, Expired those that had passed
	// their time to live before they could be sent (I7). A number from First to
	// Last that stands nowhere is lost.
	Elsewhere [][2]uint64 `json:"elsewhere,omitempty"`
	Discarded [][2]uint64 `json:"discarded,omitempty"`
	Expired   [][2]uint64 `json:"expired,omitempty"`
	// HubLost are numbers that the hub has acknowledged before and then lost, by a
	// restore from a backup or a stream that was made anew, and that the edge no
	// longer keeps.
	HubLost [][2]uint64 `json:"hub_lost,omitempty"`
	// Lost are numbers that damage at the edge has taken before they were sent, as
	// far as it knows.
	Lost [][2]uint64 `json:"lost,omitempty"`
	// Total counts what the hub has had of this feed, ExpiredTotal what expired
	// before it was sent and DiscardedTotal what was dropped before, this batch
	// included.
	Total          uint64 `json:"total"`
	ExpiredTotal   uint64 `json:"expired_total,omitempty"`
	DiscardedTotal uint64 `json:"discarded_total,omitempty"`
	// Hash is SHA-256 over number (8 bytes, little-endian) and data of each
	// message in order, in hexadecimal.
	Hash string `json:"hash"`
	// Time is the edge's clock when it sent the batch.
	Time time.Time `json:"time"`
}

func newLedgerEntry(era store.Era, at Position, b *Batch, now time.Time) LedgerEntry {
	e := LedgerEntry{
		Epoch: era.Epoch, Since: era.From, First: max(at.Last+1, era.From), Last: b.Last, Count: len(b.Entries),
		Total: at.Total + uint64(len(b.Entries)), ExpiredTotal: at.Expired + CountRanges(b.Expired), DiscardedTotal: at.Discarded + CountRanges(b.Discarded),
		Elsewhere: b.Elsewhere, Discarded: b.Discarded, Expired: b.Expired, HubLost: b.HubLost, Lost: b.Lost, Time: now.UTC(),
	}
	h := sha256.New()
	var number [8]byte
	for i := range b.Entries {
		n := b.Entries[i].Number
		binary.LittleEndian.PutUint64(number[:], n)
		h.Write(number[:])
		h.Write(b.Entries[i].Data)
		e.Numbers = addNumber(e.Numbers, n)
	}
	if len(e.Numbers) == 1 && e.Numbers[0] == [2]uint64{e.First, e.Last} {
		e.Numbers = nil
	}
	e.Hash = hex.EncodeToString(h.Sum(nil))
	return e
}

func parseLedgerEntry(data []byte) (LedgerEntry, error) {
	var e LedgerEntry
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("reading a ledger entry: %w", err)
	}
	return e, nil
}

// Kind says which log a feed reads.
type Kind int

// The kinds of feed.
const (
	Records  Kind = iota // Lane is a pipeline
	Messages             // Lane is a priority
)

// Feed is one lane on its way to one remote.
type Feed struct {
	Kind Kind
	Lane *store.Lane
	// Known is what the remote was known to have when the process last ran, and
	// Past what else was known of it; LastSync and LastError say how it went then,
	// and are told until something goes well, or nothing waits.
	Known     Position
	Past      Past
	LastSync  time.Time
	LastError string
	// Met says that this process has asked the remote already, through a feed in
	// whose place this one comes: then the remote may have what was stored since.
	Met bool
	// Want, when not nil, says which entries belong to this remote.
	Want func(*store.Stored) bool
	// Expires, when not nil, says from when on an entry is not to be sent any
	// more; the zero time: never.
	Expires func(*store.Stored) time.Time
}

// expired reports whether an entry is not to be sent any more.
func (f *Feed) expired(e *store.Stored, now time.Time) bool {
	if f.Expires == nil {
		return false
	}
	at := f.Expires(e)
	return !at.IsZero() && !now.Before(at)
}

// hubStream is the hub's stream for feeds of this kind.
func (k Kind) hubStream() string {
	if k == Messages {
		return HubQueueStream
	}
	return HubRecordStream
}

// hubPrefix is what the subjects of entries start with at the hub, and
// ledgerPrefix those of ledger entries; edge and lane follow.
func (k Kind) hubPrefix() string {
	if k == Messages {
		return HubQueueSubject
	}
	return HubRecordSubject
}

func (k Kind) ledgerPrefix() string {
	if k == Messages {
		return HubLedgerQueue
	}
	return HubLedgerRecords
}

// hubSubjects covers all that some edges have at the hub, without any named
// that of all edges.
func (k Kind) hubSubjects(edges []string) []string {
	if len(edges) == 0 {
		return []string{k.hubPrefix() + ".>", k.ledgerPrefix() + ".>"}
	}
	var subjects []string
	for _, edge := range edges {
		subjects = append(subjects, k.hubPrefix()+"."+record.Token(edge)+".>", k.ledgerPrefix()+"."+record.Token(edge)+".>")
	}
	return subjects
}

func (f *Feed) hubStream() string { return f.Kind.hubStream() }

// localPrefix is what an entry's subject starts with in the local log.
func (f *Feed) localPrefix() string { return f.Lane.Prefix() }

// hubPrefix is what replaces the log's own prefix in an entry's subject.
func (f *Feed) hubPrefix(edge string) string { return f.Kind.hubPrefix() + "." + record.Token(edge) }

func (f *Feed) ledgerSubject(edge string) string {
	return f.Kind.ledgerPrefix() + "." + record.Token(edge) + "." + record.Token(f.Lane.Name())
}

// String names the feed for people.
func (f *Feed) String() string { return feedName(f.Kind, f.Lane.Name()) }

func feedName(kind Kind, lane string) string {
	if kind == Messages {
		return "queue/" + lane
	}
	return lane
}

// Past is what a feed knows of its remote beside the position.
type Past struct {
	// Acked is the number up to which the remote itself last said that it has
	// everything. From there to the position all belonged to other remotes.
	Acked uint64 `json:"acked,omitempty"`
	// Had is the highest number that it ever said so of. It is more than Acked
	// while a hub that was restored from a backup is sent again what it lost.
	Had uint64 `json:"had,omitempty"`
	// Lost are numbers that it had and lost, and that this edge no longer kept; at
	// most 64 ranges, the newest.
	Lost [][2]uint64 `json:"hub_lost,omitempty"`
}

// Position is what a remote has of a feed.
type Position struct {
	Last  uint64 // everything up to this number is settled
	Total uint64 // entries the remote has had
	Aside uint64 // entries up to Last that it has refused and that are to be sent again
	// AsideSince is when the oldest of those was stored here.
	AsideSince time.Time
	// Seq is the stream sequence of the hub's newest ledger entry; 0: there is
	// none, or no ledger.
	Seq uint64
	// Expired counts entries that had passed their time to live and were not sent.
	Expired uint64
	// Discarded counts entries that were dropped for want of room and not sent.
	// What was dropped while it was on its way, and has arrived, is not among them.
	Discarded uint64
	Failed    uint64 // entries that it does not take and that became dead letters
}
