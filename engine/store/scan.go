package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
)

// ErrEnough ends a scan without an error when the function that the scan calls
// returns it.
var ErrEnough = errors.New("enough")

// ErrNoStream says that a log was never made.
var ErrNoStream = errors.New("the log does not exist")

// Found is one entry as a scan meets it. Its bytes are the receiver's.
type Found struct {
	Lane    string
	Number  uint64
	Seq     uint64    // stream sequence of its pack
	Time    time.Time // when it was stored
	Subject string
	Data    []byte
}

// Progress is told how many messages of a stream have been read, and how many
// there were to read, after each: it must be quick. nil wants to know nothing.
type Progress func(read, all uint64)

// Scan calls each for every entry of the log on stream, in the order of storing,
// up to the newest when it began. It reads from disk, about a megabyte at a time,
// holds nothing back and needs no open [Log]: it is for looking, beside a log at
// work or at one that does not open any more. What cannot be read is passed over;
// [Verify] tells of it. A log that was never made is [ErrNoStream].
func Scan(ctx context.Context, nc *nats.Conn, stream, subject string, progress Progress, each func(*Found) error) error {
	w, err := newWalk(ctx, nc, stream, false)
	if err != nil {
		return err
	}
	w.progress = progress
	err = w.run(ctx, func(msg *broker.StreamMessage) error {
		lane, err := laneOf(msg.Subject, subject)
		if err != nil {
			return nil
		}
		p, err := decodePack(msg.Data, subject)
		if err != nil {
			return nil
		}
		for i := range p.entries {
			e := &p.entries[i]
			f := Found{
				Lane: lane, Number: p.first + uint64(i), Seq: msg.Seq, Time: msg.Time, Subject: e.Subject, Data: e.Data,
			}
			if err := each(&f); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

// laneOf reads the lane's name from the subject of a pack.
func laneOf(subject, prefix string) (string, error) {
	token, _, _ := strings.Cut(strings.TrimPrefix(subject, prefix+"."), ".")
	return record.Untoken(token)
}

// walk goes through the messages of a stream.
type walk struct {
	nc         *nats.Conn
	stream     string
	state      jetstream.StreamState
	unreadable []uint64 // sequences that are neither deleted nor can be read
	details    bool     // state says which sequences were deleted
	read       uint64   // messages
	direct     bool     // many messages can be had with one request
	progress   Progress
}

// mostDetails bounds how many deleted sequences the server is asked to name: it
// answers with one message. What a purge of single lanes leaves behind one that
// keeps everything can be far more.
const mostDetails = 1 << 20

// newWalk begins a walk; without details it does not tell what is unreadable.
func newWalk(ctx context.Context, nc *nats.Conn, stream string, details bool) (*walk, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoStream, stream)
	}
	if err != nil {
		return nil, fmt.Errorf("opening stream %s: %w", stream, err)
	}
	w := &walk{nc: nc, stream: stream, state: s.CachedInfo().State, direct: s.CachedInfo().Config.AllowDirect}
	if !details || w.state.NumDeleted > mostDetails {
		return w, nil
	}
	info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, fmt.Errorf("asking for the state of stream %s: %w", stream, err)
	}
	w.state, w.details = info.State, true
	return w, nil
}

// How much a walk has read ahead at most, but one message.
const (
	walkMessages = 1000
	walkBytes    = 1 << 20
)

// run calls each for every message. The server says of a message whose checksum
// is wrong only that there is none, sometimes also of those behind it: so the
// walk asks for the next one, until it is past the last.
func (w *walk) run(ctx context.Context, each func(*broker.StreamMessage) error) error {
	for seq := w.state.FirstSeq; seq <= w.state.LastSeq && w.state.Msgs > 0; {
		found, err := w.next(ctx, seq)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil || len(found) == 0 {
			w.missing(seq, seq)
			seq++
			continue
		}
		for _, msg := range found {
			if msg.Seq > w.state.LastSeq {
				w.missing(seq, w.state.LastSeq)
				return nil
			}
			w.missing(seq, msg.Seq-1)
			w.read++
			if w.progress != nil {
				w.progress(w.read, w.state.Msgs)
			}
			if err := each(msg); err != nil {
				return err
			}
			seq = msg.Seq + 1
		}
	}
	return nil
}

// next returns the messages from seq on that can be had with one request. What a
// batch does not get at is asked for alone.
func (w *walk) next(ctx context.Context, seq uint64) ([]*broker.StreamMessage, error) {
	if w.direct {
		found, err := broker.NextMessages(ctx, w.nc, w.stream, seq, walkMessages, walkBytes)
		if err == nil && len(found) > 0 || ctx.Err() != nil {
			return found, err
		}
	}
	msg, err := broker.NextMessage(ctx, w.nc, w.stream, ">", seq)
	if err != nil || msg == nil {
		return nil, err
	}
	return []*broker.StreamMessage{msg}, nil
}

// missing notes those of first to last that nobody deleted, if that is known.
func (w *walk) missing(first, last uint64) {
	for seq := first; w.details && seq <= last; seq++ {
		if _, deleted := slices.BinarySearch(w.state.Deleted, seq); !deleted {
			w.unreadable = append(w.unreadable, seq)
		}
	}
}

// unlocated is how many messages could not be read beside those in unreadable,
// after a whole walk.
func (w *walk) unlocated() uint64 {
	return w.state.Msgs - min(w.state.Msgs, w.read+uint64(len(w.unreadable)))
}
