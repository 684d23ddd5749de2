// Package alert evaluates the alert rules of a pipeline on its records. A rule
// that fires makes a message for the queue.
//
// # The id of a message
//
// The same rule and the same record always make the same message id, so that a
// record that is evaluated again after a crash cannot raise an alert twice: the
// queue and the hub know messages by their id. The id is the first 16 bytes, in
// lower case hexadecimal, of the SHA-256 of these texts in this order, each
// preceded by its length in bytes as an unsigned varint:
//
//	"edged alert 1", pipeline, rule, record id, device id, data type, timestamp
//
// with the timestamp in its wire form. The payload does not count: two records
// that differ in nothing else are the same event.
package alert

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// Rules are the alert rules of one pipeline with their counts. They are safe
// for many goroutines; each evaluates with an [Evaluator] of its own.
type Rules struct {
	pipeline string
	host     expr.Host
	rules    []*rule
}

type rule struct {
	config.Alert
	fired, failed atomic.Uint64
	firstError    atomic.Pointer[string]
}

func (r *rule) fail(err error) {
	r.failed.Add(1)
	if r.firstError.Load() == nil {
		text := err.Error()
		r.firstError.CompareAndSwap(nil, &text)
	}
}

// New returns the rules of the named pipeline. host is what their expressions
// may know of the world.
func New(pipeline string, alerts []config.Alert, host expr.Host) *Rules {
	rs := &Rules{pipeline: pipeline, host: host}
	for _, a := range alerts {
		rs.rules = append(rs.rules, &rule{Alert: a})
	}
	return rs
}

func (rs *Rules) now() time.Time {
	if rs.host.Now == nil {
		return time.Now()
	}
	return rs.host.Now()
}

// Stat counts what became of one rule since [New].
type Stat struct {
	Name string `json:"name"`
	// Fired is how many records it fired on.
	Fired uint64 `json:"fired"`
	// Failed is how often its condition or its message could not be evaluated.
	Failed uint64 `json:"failed"`
	// FirstError is the first of these failures.
	FirstError string `json:"first_error,omitempty"`
}

// Stats returns the counts of every rule, in the order of the file.
func (rs *Rules) Stats() []Stat {
	stats := make([]Stat, len(rs.rules))
	for i, r := range rs.rules {
		stats[i] = Stat{Name: r.Name, Fired: r.fired.Load(), Failed: r.failed.Load()}
		if text := r.firstError.Load(); text != nil {
			stats[i].FirstError = *text
		}
	}
	return stats
}

// Evaluator evaluates the rules. One goroutine at a time.
type Evaluator struct {
	rules   *Rules
	expr    *expr.Evaluator
	scratch []byte
}

// NewEvaluator returns an evaluator of the rules.
func (rs *Rules) NewEvaluator() *Evaluator {
	return &Evaluator{rules: rs, expr: expr.NewEvaluator(rs.host)}
}

// Append evaluates every rule on r and appends the messages of those that fire
// to dst, in the order of the file. The messages share no bytes with r.
//
// A rule whose condition cannot be evaluated, for instance because the payload
// lacks the attribute, does not fire; it is counted, see [Rules.Stats]. A rule
// that fires but whose message cannot be evaluated, or has become larger than a
// record may be, is counted too, and raised with the default body and the
// reason in `message_error`: the alert matters more than its wording.
func (e *Evaluator) Append(dst []record.Message, r *record.Record) []record.Message {
	v := expr.Value{Record: r}
	for _, rule := range e.rules.rules {
		fires, err := rule.When.Bool(e.expr, v)
		if err != nil {
			rule.fail(err)
			continue
		}
		if !fires {
			continue
		}
		rule.fired.Add(1)
		m := record.Message{
			ID:       e.id(rule, r),
			Topic:    rule.Topic,
			Priority: rule.Priority,
			Pipeline: e.rules.pipeline,
			Created:  r.Timestamp.UTC(),
			Body:     bytes.Clone(e.body(rule, r)),
		}
		if rule.TTL > 0 { // by this device's clock: the record's may be of anything
			m.Expires = e.rules.now().Add(rule.TTL).UTC()
		}
		dst = append(dst, m)
	}
	return dst
}

// body returns what the rule's message says of r, in the evaluator's memory.
func (e *Evaluator) body(rule *rule, r *record.Record) []byte {
	if rule.Message == nil {
		return e.defaultBody(rule, r, nil)
	}
	body, err := rule.Message.AppendJSON(e.expr, e.scratch[:0], expr.Value{Record: r})
	e.scratch = body
	if err == nil && len(body) > record.MaxPayloadBytes {
		err = fmt.Errorf("%s: the message has %d bytes, at most %d are allowed", rule.Message.Range(), len(body), record.MaxPayloadBytes)
	}
	if err != nil {
		rule.fail(err)
		return e.defaultBody(rule, r, err)
	}
	return body
}

// defaultBody names the rule and the record, and holds no value of the payload.
func (e *Evaluator) defaultBody(rule *rule, r *record.Record, err error) []byte {
	body := record.AppendString(append(e.scratch[:0], `{"rule":`...), rule.Name)
	body = record.AppendString(append(body, `,"pipeline":`...), e.rules.pipeline)
	body = record.AppendString(append(body, `,"record_id":`...), r.ID)
	body = record.AppendString(append(body, `,"device_id":`...), r.DeviceID)
	body = record.AppendString(append(body, `,"data_type":`...), r.DataType)
	body = record.AppendTime(append(body, `,"timestamp":"`...), r.Timestamp)
	body = append(body, '"')
	if err != nil {
		body = record.AppendString(append(body, `,"message_error":`...), err.Error())
	}
	e.scratch = append(body, '}')
	return e.scratch
}

// id is the formula of the package comment.
func (e *Evaluator) id(rule *rule, r *record.Record) string {
	var text [64]byte
	b := e.scratch[:0]
	for _, part := range [...]string{idVersion, e.rules.pipeline, rule.Name, r.ID, r.DeviceID, r.DataType} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	timestamp := record.AppendTime(text[:0], r.Timestamp)
	b = append(binary.AppendUvarint(b, uint64(len(timestamp))), timestamp...)
	e.scratch = b
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// idVersion begins what an id is made of. It never changes without a reason: a
// new one makes every alert a new event.
const idVersion = "edged alert 1"
