package record

import (
	"encoding/json"
	"fmt"
	"time"
)

// Priority orders messages. Lower values go first.
type Priority uint8

// The priorities of a message, first to last.
const (
	Critical Priority = iota
	High
	Normal
	Low
)

// Priorities lists every priority, first to last.
var Priorities = [...]Priority{Critical, High, Normal, Low}

var priorityNames = [...]string{"critical", "high", "normal", "low"}

// String returns the priority's name as it stands in pipeline files and
// subjects.
func (p Priority) String() string {
	if int(p) < len(priorityNames) {
		return priorityNames[p]
	}
	return fmt.Sprintf("priority(%d)", uint8(p))
}

// ParsePriority returns the priority of that name.
func ParsePriority(name string) (Priority, error) {
	for i, n := range priorityNames {
		if n == name {
			return Priority(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a priority; use critical, high, normal or low", name)
}

// MarshalText and UnmarshalText carry a priority by name.
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a priority's name.
func (p *Priority) UnmarshalText(text []byte) error {
	v, err := ParsePriority(string(text))
	*p = v
	return err
}

// Message is what the queue holds: something a remote should hear of apart
// from, and before, the records. Its JSON form is the wire form.
type Message struct {
	// ID names the message for ever: the same event has the same ID however
	// often it is evaluated.
	ID       string    `json:"id"`
	Topic    string    `json:"topic"`
	Priority Priority  `json:"priority"`
	Pipeline string    `json:"pipeline"`
	Created  time.Time `json:"created"`
	// Expires is when the message is of no use any more, by the edge's clock; the
	// zero time: never.
	Expires time.Time       `json:"expires,omitzero"`
	Body    json.RawMessage `json:"body"`
}

// DeadLetter is input that could not go on, with the reason and the original
// bytes (I6).
type DeadLetter struct {
	// ID names the dead letter for ever: the same input that fails at the same
	// stage has the same ID.
	ID       string `json:"id"`
	Pipeline string `json:"pipeline"`
	// Stage says where it failed, as kind and name: "collect.motes",
	// "transform.dew_point", "sync.hub".
	Stage string `json:"stage"`
	// Error is the reason, for a person.
	Error string `json:"error"`
	// Detail holds facts about the failure: plugin, sha256, line, attempts.
	Detail map[string]string `json:"detail,omitempty"`
	Time   time.Time         `json:"time"`
	// Headers came with the input, as of a NATS message; nil: none did.
	Headers map[string][]string `json:"headers,omitempty"`
	// Raw is the input, byte for byte.
	Raw []byte `json:"raw"`
}
