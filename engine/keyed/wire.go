package keyed

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
)

// The JSON forms of the HTTP API of keyed records. A hub serves it below
// HTTPPath and the store's name, escaped as a subject token; the reference page of
// the remote "http" describes it.
const (
	HTTPPath = "/api/keyed/"

	// HTTPSwaps is how many records one request may store.
	HTTPSwaps = 256
	// HTTPSwapBytes bounds their values together, about.
	HTTPSwapBytes = 2 << 20
)

// SwapRequest asks to store values, each only if its key still has the revision.
type SwapRequest struct {
	Records []SwapRecord `json:"records"`
}

// SwapRecord is one value on its way.
type SwapRecord struct {
	Key      string          `json:"key"`
	Revision uint64          `json:"revision"` // that the key must have; 0: there is none
	Value    json.RawMessage `json:"value"`    // an envelope
}

// SwapAnswer has one result for each record of the request, in their order.
type SwapAnswer struct {
	Results []SwapResult `json:"results"`
}

// SwapResult is what became of one record: it is stored and has a Revision, or
// there is a Conflict, or it is Refused for good, or for now there is an Error.
type SwapResult struct {
	Revision uint64 `json:"revision,omitempty"`
	// Conflict is what the key has now, with revision 0 when there is nothing.
	Conflict *WireRemote `json:"conflict,omitempty"`
	Refused  string      `json:"refused,omitempty"`
	Error    string      `json:"error,omitempty"`
}

// WireRemote is a version of a key as it travels.
type WireRemote struct {
	Key      string    `json:"key"`
	Revision uint64    `json:"revision"`
	Received time.Time `json:"received"`
	Value    *Value    `json:"value,omitempty"`
	Error    string    `json:"error,omitempty"` // why there is no value
}

// Wire returns r as it travels.
func (r *Remote) Wire() WireRemote {
	w := WireRemote{Key: r.Key, Revision: r.Revision, Received: r.Received, Value: r.Value}
	if r.Err != nil {
		w.Error = r.Err.Error()
	}
	return w
}

// Remote returns the version that has traveled. It is checked like one that was
// read at a NATS hub: a body must be what its hash is of.
func (w *WireRemote) Remote() (Remote, error) {
	r := Remote{Key: w.Key, Revision: w.Revision, Received: w.Received, Value: w.Value}
	switch {
	case w.Revision == 0:
		return r, fmt.Errorf("the version of %q has no revision", w.Key)
	case CheckKey(w.Key) != nil:
		return r, CheckKey(w.Key)
	case w.Value == nil && w.Error == "":
		return r, fmt.Errorf("the version of %q has no value", w.Key)
	case w.Value == nil:
		r.Err = errors.New(w.Error)
		return r, nil
	}
	hash, err := hashOf(w.Value.Body, w.Value.Deleted)
	if err != nil {
		return r, fmt.Errorf("the version of %q: %w", w.Key, err)
	}
	if hash != w.Value.Hash {
		return r, fmt.Errorf("the version of %q is not what its hash is of", w.Key)
	}
	return r, nil
}

// WireChanges is one line of the stream of changes.
type WireChanges struct {
	Records  []WireRemote `json:"records"`
	CaughtUp bool         `json:"caught_up,omitempty"` // all that was there when the request came has been told
}

// WireState is [HubState] as it travels.
type WireState struct {
	Epoch     string    `json:"epoch"`
	Last      uint64    `json:"last"`
	Regressed bool      `json:"regressed,omitempty"`
	Now       time.Time `json:"now"`
	Collected uint64    `json:"collected,omitempty"`
}

// MarshalWire encodes what travels. Bodies stay as they are, byte for byte.
func MarshalWire(v any) ([]byte, error) { return marshal(v) }

// ParseSwap reads what a client wants to store. The value must be an envelope
// whose hash is that of its body: a client without envelopes cannot take part.
func ParseSwap(r *SwapRecord) (*Value, error) {
	if err := CheckKey(r.Key); err != nil {
		return nil, err
	}
	if err := record.ValidObject(r.Value); err != nil {
		return nil, fmt.Errorf("%w: the value is no envelope: %w", ErrRefused, err)
	}
	v, err := Decode(r.Value, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if v.Op.Device == HubDevice && v.Op.Seq == 0 {
		return nil, fmt.Errorf("%w: the value is no envelope, or its hash is not that of its body", ErrRefused)
	}
	return v, nil
}
