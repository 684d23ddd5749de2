package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// delivery is one request, read and checked.
type delivery struct {
	stream   string
	ledger   string // prefix of the subject that remembers the request
	id       string // of a message: its key when the request has none
	messages []message
	status   int
	answer   []byte
	content  string // hash of the body
}

type message struct {
	subject string
	data    []byte
}

func (d *delivery) add(subject string, data []byte) {
	d.messages = append(d.messages, message{subject, data})
}

// name derives the ledger subject from edge and key. A request without a key,
// and without an id, is remembered under a name that nobody can repeat.
func (d *delivery) name(edge, key string, body []byte) {
	if key == "" {
		key = d.id
	}
	if key == "" {
		key = rand.Text()
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(edge), edge, len(key), key)
	d.ledger += hex.EncodeToString(h.Sum(nil)[:16])
	sum := sha256.Sum256(body)
	d.content = hex.EncodeToString(sum[:])
}

// remembered is the ledger message of one request: what was answered. It is the
// last message of the batch, so that it is there exactly when the records are (I2).
type remembered struct {
	Content string          `json:"content"`
	Count   int             `json:"count"`
	Status  int             `json:"status"`
	Answer  json.RawMessage `json:"answer"`
}

// store stores a delivery, or finds that it was stored before, and returns the
// answer, which is the same in both cases.
func (in *ingest) store(ctx context.Context, batch *broker.AtomicBatch, d *delivery) (int, []byte, error) {
	if status, answer, found, err := in.recall(ctx, d); found || err != nil {
		return status, answer, err
	}
	entry, err := json.Marshal(remembered{Content: d.content, Count: len(d.messages), Status: d.status, Answer: d.answer})
	if err != nil {
		return 0, nil, fmt.Errorf("encoding an answer: %w", err)
	}
	batch.Begin()
	for _, m := range d.messages {
		batch.Add(m.subject, m.data)
	}
	batch.Header("Nats-TTL", []string{strconv.Itoa(int(in.remember/time.Second)) + "s"})
	_, err = batch.Commit(ctx, d.ledger, entry, 0)
	if err == nil {
		return d.status, d.answer, nil
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case broker.CodeMaxBytes, broker.CodeNoResources:
			return 0, nil, &refusal{status: http.StatusServiceUnavailable, after: storeFullAfter, reason: "the hub's store is full"}
		case broker.CodeTooManyInFlight:
			return 0, nil, &refusal{status: http.StatusServiceUnavailable, after: busyAfter, reason: "too many requests at once"}
		}
	}
	// The same request may be under way twice, or this one was stored and its
	// answer lost: what stands in the ledger decides.
	status, answer, found, again := in.recall(ctx, d)
	if found || again != nil {
		return status, answer, again
	}
	return 0, nil, err
}

// recall looks for the answer that was given to the same key before.
func (in *ingest) recall(ctx context.Context, d *delivery) (status int, answer []byte, found bool, err error) {
	msg, err := broker.LastMessage(ctx, in.nc, "", d.stream, d.ledger)
	if err != nil || msg == nil {
		return 0, nil, false, err
	}
	var r remembered
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		return 0, nil, false, fmt.Errorf("reading a remembered answer: %w", err)
	}
	if r.Content != d.content {
		return 0, nil, false, refuse(http.StatusUnprocessableEntity, "the Idempotency-Key was used for another body")
	}
	return r.Status, r.Answer, true, nil
}
