package keyed

import (
	"context"
	"encoding/json"
	"slices"
)

// Version is one side of a conflict, as a resolver is told of it.
type Version struct {
	Key, Device, DataType string
	HLC                   HLC
	Clock                 Quality
	Deleted               bool
	Revision              uint64 // at the hub; 0: it was never there
	Body                  []byte
}

// Conflict is two versions of one key, and what both came from; Base is nil when
// nothing is known of that.
type Conflict struct {
	Base          *Version
	Local, Remote Version
}

// Action says how a conflict is settled.
type Action string

// The actions of a verdict.
const (
	TakeLocal  Action = "local"
	TakeRemote Action = "remote"
	TakeMerged Action = "merged" // Verdict.Body
	TakeDelete Action = "delete"
	// AskPerson leaves it to a person.
	AskPerson Action = "manual"
	// Pass hands the conflict to the next resolver: this one refused it, or rests.
	Pass Action = "pass"
	// Faulted is Pass, by a resolver that failed: it is not given this conflict
	// again.
	Faulted Action = "fault"
)

// Verdict is how one conflict is settled.
type Verdict struct {
	Action Action
	Body   []byte // of TakeMerged: one JSON value
	// ServeLocal, with AskPerson: until then the local version is served.
	ServeLocal bool
	Reason     string // for people
}

// Resolver settles conflicts. It is a function of the conflict alone, and safe
// for many goroutines.
type Resolver interface {
	ID() ResolverID
	// ReadsBodies reports whether the bodies count. Two equal values are only a
	// conflict for such a resolver: of two that both added one, the sum is two.
	ReadsBodies() bool
	// Resolve returns one verdict for each conflict, in their order. The error is
	// for what no conflict is to blame for.
	Resolve(ctx context.Context, conflicts []Conflict) ([]Verdict, error)
}

// OnDelete is what becomes of a key that one side deleted and the other changed.
type OnDelete string

// The policies for delete against update.
const (
	DeleteWins   OnDelete = "delete_wins"
	UpdateWins   OnDelete = "update_wins"
	DeleteManual OnDelete = "manual"
)

// Tried is one resolver that was asked and did not settle a conflict.
type Tried struct {
	Resolver ResolverID `json:"resolver"`
	Reason   string     `json:"reason"`
}

// Decision is how a chain has settled a conflict.
type Decision struct {
	Verdict
	Resolver ResolverID
	Tried    []Tried
	faults   []fault
}

// fault remembers that a resolver failed on a conflict, so that it is not given
// it again until it is another.
type fault struct {
	SHA256   string `json:"sha256"`
	Conflict string `json:"conflict"`
}

// The resolvers that are no modules.
var (
	policyResolver = ResolverID{Name: "on_delete"}
	manualResolver = ResolverID{Name: "manual"}
	personResolver = ResolverID{Name: "person"}
)

// Decide asks the resolvers in turn; what none of them settles is for a person,
// with the remote version served. A conflict of an update with a delete is for
// the policy, not for them. known are the faults of earlier rounds.
func Decide(ctx context.Context, c *Conflict, chain []Resolver, policy OnDelete) (Decision, error) {
	return decide(ctx, c, chain, policy, nil)
}

func decide(ctx context.Context, c *Conflict, chain []Resolver, policy OnDelete, known []fault) (Decision, error) {
	if c.Local.Deleted != c.Remote.Deleted {
		return decideDelete(c, policy), nil
	}
	var d Decision
	id := conflictID(c)
	for _, r := range chain {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		who := r.ID()
		this := fault{SHA256: who.SHA256, Conflict: id}
		if slices.Contains(known, this) {
			d.Tried = append(d.Tried, Tried{who, "it failed on this conflict before"})
			d.faults = append(d.faults, this)
			continue
		}
		verdicts, err := r.Resolve(ctx, []Conflict{*c})
		if err != nil {
			return d, err
		}
		v := check(verdicts)
		switch v.Action {
		case TakeLocal, TakeRemote, TakeMerged, TakeDelete, AskPerson:
			d.Verdict, d.Resolver = v, who
			return d, nil
		case Faulted:
			d.faults = append(d.faults, this)
		}
		d.Tried = append(d.Tried, Tried{who, v.Reason})
	}
	d.Verdict, d.Resolver = Verdict{Action: AskPerson, Reason: "no resolver settled it"}, manualResolver
	return d, nil
}

// check holds a verdict to what can be stored.
func check(verdicts []Verdict) Verdict {
	if len(verdicts) != 1 {
		return Verdict{Action: Faulted, Reason: "it gave no verdict"}
	}
	v := verdicts[0]
	if v.Action == TakeMerged {
		if _, err := newValue(v.Body, false); err != nil {
			return Verdict{Action: Faulted, Reason: "what it merged is " + err.Error()}
		}
	}
	return v
}

func decideDelete(c *Conflict, policy OnDelete) Decision {
	d := Decision{Resolver: policyResolver}
	switch {
	case policy == DeleteManual:
		d.Verdict = Verdict{Action: AskPerson, Reason: "deleted on one side and changed on the other"}
	case c.Local.Deleted == (policy == DeleteWins):
		d.Verdict = Verdict{Action: TakeLocal}
	default:
		d.Verdict = Verdict{Action: TakeRemote}
	}
	return d
}

// conflictID names a conflict by what a resolver is told of it.
func conflictID(c *Conflict) string {
	data, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return shortHash(data)
}
