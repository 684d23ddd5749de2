package keyed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// state is all that is kept of one key. Every step of the algorithm is one
// change of it in one commit.
type state struct {
	// Base is what the hub had when both last agreed; nil: nothing yet.
	Base *base `json:"base,omitempty"`
	// Local is the value here while it differs from the base.
	Local *Value `json:"local,omitempty"`
	// Pending are the operations that made Local and are not at the hub yet.
	Pending *pending `json:"pending,omitempty"`
	// Sent is what may be at the hub already, when Local has changed since it was
	// sent; nil: it is Local.
	Sent   *sent      `json:"sent,omitempty"`
	Parked *parked    `json:"parked,omitempty"`
	Open   *openState `json:"open,omitempty"`
	Faults []fault    `json:"faults,omitempty"`
}

type base struct {
	Hub      string `json:"hub"`      // the hub's epoch
	Revision uint64 `json:"revision"` // 0: the hub had nothing
	Value    Value  `json:"value"`
}

type pending struct {
	Op    Op        `json:"op"` // the newest
	Since time.Time `json:"since"`
	// Resend: nothing was changed here. The hub has lost what it had
	// acknowledged, and Op is whoever's made it.
	Resend bool `json:"resend,omitempty"`
}

// sent is the value of an attempt.
type sent struct {
	Op    Op    `json:"op"`
	Value Value `json:"value"`
}

// parked is why a key waits.
type parked struct {
	Why      string    `json:"why"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision,omitempty"` // at the hub, when that is why
}

// Why a key is parked.
const (
	parkedPoison   = "poison"   // what is at the hub cannot be read
	parkedSchema   = "schema"   // the hub has a newer schema than this edge knows
	parkedAttempts = "attempts" // others were always faster
	parkedRefused  = "refused"  // the hub does not take the value
)

// openState is a conflict that waits for a person.
type openState struct {
	ID         string     `json:"id"`
	Since      time.Time  `json:"since"`
	Base       *Value     `json:"base,omitempty"`
	Remote     Value      `json:"remote"`
	Hub        string     `json:"hub"`
	Revision   uint64     `json:"revision"`
	ServeLocal bool       `json:"serve_local,omitempty"`
	Reason     string     `json:"reason"`
	Resolver   ResolverID `json:"resolver"`
}

// served is the value that readers get; nil: there is none.
func (s *state) served() *Value {
	switch {
	case s.Open != nil && !s.Open.ServeLocal:
		return &s.Open.Remote
	case s.Local != nil:
		return s.Local
	case s.Base != nil:
		return &s.Base.Value
	}
	return nil
}

// attempt is what is to be sent, or was.
func (s *state) attempt() sent {
	if s.Sent != nil {
		return *s.Sent
	}
	return sent{Op: s.Pending.Op, Value: *s.Local}
}

// revision is the hub's revision that the key is based on, if that is of the
// hub's epoch.
func (s *state) revision(hub string) (revision uint64, known bool) {
	switch {
	case s.Base == nil:
		return 0, true
	case s.Base.Hub == hub:
		return s.Base.Revision, true
	}
	return 0, false
}

// change makes v the local value by op. attempted: what was pending may be at
// the hub.
func (s *state) change(v *Value, op Op, now time.Time, attempted bool) {
	switch {
	case s.Pending == nil:
		s.Pending = &pending{Since: now}
	case attempted && s.Sent == nil:
		s.Sent = &sent{Op: s.Pending.Op, Value: *s.Local}
	}
	s.Pending.Op, s.Pending.Resend = op, false
	s.Local = v
	if s.Parked != nil && s.Parked.Why != parkedSchema && s.Parked.Why != parkedPoison {
		s.Parked = nil
	}
	s.Faults = nil
	if s.Open != nil {
		s.Open.ID = s.openID()
	}
}

// openID names an open conflict by the versions that stand against each other:
// a choice between others is none.
func (s *state) openID() string {
	op := s.Pending.Op
	return shortHash(fmt.Appendf(nil, "%s %s %d %s %s %d", op.Device, op.Epoch, op.Seq, s.Open.Remote.Hash, s.Open.Hub, s.Open.Revision))
}

// empty reports whether there is nothing to keep of the key.
func (s *state) empty() bool { return s.served() == nil && s.Parked == nil }

// closed is the state in which the hub's version is the only one.
func (s *state) closed(hub string, revision uint64, v *Value) {
	*s = state{Base: &base{Hub: hub, Revision: revision, Value: *v}}
}

func shortHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func decodeState(data []byte) (*state, error) {
	s := &state{}
	if data == nil {
		return s, nil
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("reading a key's state: %w", err)
	}
	return s, nil
}
