package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// ErrLocked says that another process runs on the directory.
var ErrLocked = errors.New("another process is using it")

// MaxAtomic is how many messages one atomic batch may hold on a server with
// default limits, LocalMaxAtomic on the brokers that this package starts.
const (
	MaxAtomic      = 1000
	LocalMaxAtomic = 16384
)

// JetStream's codes for refusals that callers handle.
const (
	CodeWrongLastSequence jetstream.ErrorCode = 10071
	CodeMaxBytes          jetstream.ErrorCode = 10077
	CodeNoResources       jetstream.ErrorCode = 10023
	CodeTooManyInFlight   jetstream.ErrorCode = 10210
	// CodeIncompleteBatch refuses the commit of a batch that the server has not
	// begun, because too many were in flight, or has dropped, because nothing of it
	// came for ten seconds or another server leads the stream now.
	CodeIncompleteBatch jetstream.ErrorCode = 10176
)

// AtomicBatch publishes messages to one stream, all or none, by JetStream's
// atomic batch publish (NATS ADR-50). With fsync durability the stream's
// server flushes once for the whole batch before it acknowledges. One
// goroutine at a time.
//
// Only the last message asks for an answer: a refusal of an earlier one makes
// the server refuse the last, so that a batch costs one round trip.
type AtomicBatch struct {
	nc    *nats.Conn
	ids   *nuid.NUID
	msg   nats.Msg
	id    []string
	seq   []string
	count int
	err   error

	answers *nats.Subscription // lives as long as the connection
	inbox   string
	asked   uint64
}

// NewAtomicBatch returns a publisher of atomic batches on nc.
func NewAtomicBatch(nc *nats.Conn) *AtomicBatch {
	return &AtomicBatch{nc: nc, ids: nuid.New(), id: []string{""}, seq: []string{""}}
}

// Begin starts a batch. A batch begun and not committed is dropped by the
// server after its time-out.
func (b *AtomicBatch) Begin() {
	b.id[0], b.count, b.err = b.ids.Next(), 0, nil
	b.msg.Reply = ""
	b.msg.Header = nats.Header{"Nats-Batch-Id": b.id, "Nats-Batch-Sequence": b.seq}
}

// Header sets a header for the messages that follow; value is shared, so that
// a caller may change it in place between calls of Add.
func (b *AtomicBatch) Header(key string, value []string) { b.msg.Header[key] = value }

// Add publishes one message of the batch. The first error is kept for Commit.
func (b *AtomicBatch) Add(subject string, data []byte) {
	if b.err == nil {
		b.next(subject, data)
		b.err = b.nc.PublishMsg(&b.msg)
	}
}

func (b *AtomicBatch) next(subject string, data []byte) {
	b.count++
	b.seq[0] = strconv.Itoa(b.count)
	b.msg.Subject, b.msg.Data = subject, data
}

// Commit publishes the last message and waits for the server's answer. The
// batch is stored only if the newest message on subject has the stream sequence
// expect (0: there is none). Commit returns the stream sequence of that last
// message; the others stand directly before it.
//
// An error that is a *jetstream.APIError means that this attempt stored
// nothing; with [CodeWrongLastSequence] an earlier one may have. Any other
// error leaves the outcome unknown: read the newest message on subject.
func (b *AtomicBatch) Commit(ctx context.Context, subject string, data []byte, expect uint64) (uint64, error) {
	if err := b.Ask(subject, data, expect); err != nil {
		return 0, err
	}
	return b.Answer(ctx)
}

// Ask is the first half of [AtomicBatch.Commit]: it publishes the last message
// and does not wait. Answer is the other half. Between them nothing else may be
// done with b.
func (b *AtomicBatch) Ask(subject string, data []byte, expect uint64) error {
	if b.err != nil {
		return fmt.Errorf("publishing a batch: %w", b.err)
	}
	b.next(subject, data)
	b.msg.Header["Nats-Batch-Commit"] = []string{"1"}
	b.msg.Header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(expect, 10)}
	return b.ask()
}

// request publishes the last message and reads the answer.
func (b *AtomicBatch) request(ctx context.Context) (uint64, error) {
	if err := b.ask(); err != nil {
		return 0, err
	}
	return b.Answer(ctx)
}

// ask publishes the last message with a reply subject of its own, so that a late
// answer to an earlier one is not taken for its answer.
func (b *AtomicBatch) ask() error {
	if b.answers == nil {
		inbox := b.nc.NewInbox()
		sub, err := b.nc.SubscribeSync(inbox + ".*")
		if err != nil {
			return fmt.Errorf("committing a batch: %w", err)
		}
		b.answers, b.inbox = sub, inbox
	}
	b.asked++
	b.msg.Reply = b.inbox + "." + strconv.FormatUint(b.asked, 10)
	err := b.nc.PublishMsg(&b.msg)
	if err != nil {
		err = fmt.Errorf("committing a batch: %w", err)
	}
	return err
}

// Answer waits for the server's answer to what was asked last; see
// [AtomicBatch.Commit] about its result.
func (b *AtomicBatch) Answer(ctx context.Context) (uint64, error) {
	var answer *nats.Msg
	for answer == nil || answer.Subject != b.msg.Reply {
		var err error
		if answer, err = b.answers.NextMsgWithContext(ctx); err != nil {
			return 0, fmt.Errorf("committing a batch: %w", err)
		}
	}
	if len(answer.Data) == 0 && answer.Header.Get("Status") == "503" {
		return 0, fmt.Errorf("committing a batch: %w", nats.ErrNoResponders)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Count int                 `json:"count"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("committing a batch: reading the answer: %w", err)
	}
	if ack.Error != nil {
		return 0, fmt.Errorf("committing a batch: %w", ack.Error)
	}
	if ack.Seq == 0 || ack.Count != b.count {
		return 0, fmt.Errorf("committing a batch: the server acknowledged %d messages of %d", ack.Count, b.count)
	}
	return ack.Seq, nil
}

// Message is one message to publish.
type Message struct {
	Subject string
	Data    []byte
}

// Publish stores messages in one stream, all or none, if the newest message of
// the whole stream has the sequence expect. One message is published alone,
// several as an atomic batch. It returns the sequence of the last. About errors
// see [AtomicBatch.Commit].
func Publish(ctx context.Context, b *AtomicBatch, messages []Message, expect uint64) (uint64, error) {
	guard := []string{strconv.FormatUint(expect, 10)}
	b.Begin()
	if len(messages) == 1 {
		b.msg.Header = nats.Header{headerExpectedLast: guard}
		b.msg.Subject, b.msg.Data, b.count = messages[0].Subject, messages[0].Data, 0
		return b.request(ctx)
	}
	b.Header(headerExpectedLast, guard) // the batch's first message carries it
	last := len(messages) - 1
	for i := range messages[:last] {
		b.Add(messages[i].Subject, messages[i].Data)
		delete(b.msg.Header, headerExpectedLast)
	}
	if b.err != nil {
		return 0, fmt.Errorf("publishing a batch: %w", b.err)
	}
	b.next(messages[last].Subject, messages[last].Data)
	b.msg.Header["Nats-Batch-Commit"] = []string{"1"}
	return b.request(ctx)
}

const headerExpectedLast = "Nats-Expected-Last-Sequence"

// LastMessage returns the newest message on subject of a stream, asking
// through the API prefix of a JetStream domain ("" is the local one), or nil
// when there is none.
func LastMessage(ctx context.Context, nc *nats.Conn, domain, stream, subject string) (*StreamMessage, error) {
	return FindMessage(ctx, nc, domain, stream, Query{Last: subject})
}

// NextMessage returns the first message at or after seq whose subject matches
// filter, or nil when there is none.
func NextMessage(ctx context.Context, nc *nats.Conn, stream, filter string, seq uint64) (*StreamMessage, error) {
	return FindMessage(ctx, nc, "", stream, Query{Next: filter, Seq: seq})
}

// NextMessages returns the messages at or after seq that fit into count and,
// but for the last of them, into bytes; none when there is none. The stream must
// allow direct access. Their Header is left out.
func NextMessages(ctx context.Context, nc *nats.Conn, stream string, seq uint64, count, bytes int) ([]*StreamMessage, error) {
	query, err := json.Marshal(map[string]any{"seq": seq, "batch": count, "max_bytes": bytes})
	if err != nil {
		return nil, err
	}
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // fails with the connection only
	if err := nc.PublishRequest(APIPrefix("")+"DIRECT.GET."+stream, answers.Subject, query); err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	var found []*StreamMessage
	for {
		answer, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		switch status := answer.Header.Get("Status"); status {
		case "":
		case "204", "404": // the end of the batch; there is none
			return found, nil
		default:
			return nil, fmt.Errorf("reading stream %s: the server answers %s %s", stream, status, answer.Header.Get("Description"))
		}
		msg := &StreamMessage{Subject: answer.Header.Get("Nats-Subject"), Data: answer.Data}
		if msg.Seq, err = strconv.ParseUint(answer.Header.Get("Nats-Sequence"), 10, 64); err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		if msg.Time, err = time.Parse(time.RFC3339Nano, answer.Header.Get("Nats-Time-Stamp")); err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		found = append(found, msg)
	}
}

// Query says which message of a stream is looked for: the newest on the subject
// Last; or the first on a subject that Next matches, from a sequence or a time
// on.
type Query struct {
	Last  string     `json:"last_by_subj,omitempty"`
	Next  string     `json:"next_by_subj,omitempty"`
	Seq   uint64     `json:"seq,omitempty"`
	Since *time.Time `json:"start_time,omitempty"`
}

// StreamMessage is one stored message.
type StreamMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Data    []byte    `json:"data"`
	Header  []byte    `json:"hdrs"`
	Time    time.Time `json:"time"`
}

// FindMessage returns the message that a query finds in a stream of a JetStream
// domain, or nil when there is none. The stream's leader answers, not a copy that
// may lag behind.
func FindMessage(ctx context.Context, nc *nats.Conn, domain, stream string, q Query) (*StreamMessage, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := nc.RequestWithContext(ctx, APIPrefix(domain)+"STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	var reply struct {
		Message *StreamMessage      `json:"message"`
		Error   *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	if reply.Error != nil {
		if reply.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil
		}
		return nil, fmt.Errorf("reading stream %s: %w", stream, reply.Error)
	}
	return reply.Message, nil
}

// APIPrefix is the subject prefix of JetStream's API in a domain; "" is the
// local one.
func APIPrefix(domain string) string {
	if domain == "" {
		return "$JS.API."
	}
	return "$JS." + domain + ".API."
}
