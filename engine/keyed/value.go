package keyed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/edged/edged/engine/record"
)

// Bounds of what is stored.
const (
	MaxKeyBytes  = 512
	MaxBodyBytes = record.MaxPayloadBytes
)

// HubDevice is who a value is from that was put at the hub without an envelope.
const HubDevice = "hub"

// Op names one operation of one device. The epoch is that of the process that
// took it in: a store that is lost, or restored from an older copy, never gives
// a name out twice.
type Op struct {
	Device string `json:"device"`
	Epoch  string `json:"epoch,omitempty"`
	Seq    uint64 `json:"seq,omitempty"`
}

// Vector says which operations a value includes: of each device and epoch, those
// up to a number.
type Vector map[string]map[string]uint64

// maxEpochs is how many epochs of one device a vector remembers per key. More
// are of no use: an operation waits in one store, and that store's later epochs
// follow it.
const maxEpochs = 4

// Covers reports whether op is included.
func (v Vector) Covers(op Op) bool { return op.Seq > 0 && v[op.Device][op.Epoch] >= op.Seq }

// Contains reports whether all of o is included.
func (v Vector) Contains(o Vector) bool {
	for device, epochs := range o {
		for epoch, seq := range epochs {
			if v[device][epoch] < seq {
				return false
			}
		}
	}
	return true
}

// Union returns what either includes.
func (v Vector) Union(o Vector) Vector {
	u := make(Vector, len(v)+1)
	for device, epochs := range v {
		u[device] = maps.Clone(epochs)
	}
	for device, epochs := range o {
		if u[device] == nil {
			u[device] = map[string]uint64{}
		}
		for epoch, seq := range epochs {
			u[device][epoch] = max(u[device][epoch], seq)
		}
	}
	return u
}

// with returns v with op included. Of the device's epochs the newest stay.
func (v Vector) with(op Op) Vector {
	if op.Seq == 0 {
		return v
	}
	u := v.Union(Vector{op.Device: {op.Epoch: op.Seq}})
	own := u[op.Device]
	for len(own) > maxEpochs {
		oldest := ""
		for epoch, seq := range own {
			if epoch != op.Epoch && (oldest == "" || seq < own[oldest] || seq == own[oldest] && epoch < oldest) {
				oldest = epoch
			}
		}
		delete(own, oldest)
	}
	return u
}

// ResolverID says which code made a decision.
type ResolverID struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

// Value is one version of a key: a JSON value or a delete, and where it is from.
type Value struct {
	Body    json.RawMessage `json:"body,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
	// Schema is the writer's version of what the body means. Who knows only a
	// lower one passes the value on and does not merge it.
	Schema uint64  `json:"schema,omitempty"`
	HLC    HLC     `json:"hlc"`
	Clock  Quality `json:"clock,omitempty"`
	// Clamped: the clock was ahead of the hub's, and HLC is not what was written.
	Clamped bool   `json:"clamped,omitempty"`
	Op      Op     `json:"op"`
	VV      Vector `json:"vv,omitempty"`
	Hash    string `json:"hash"`
	// Resolver is set on a value that a resolver made of two.
	Resolver *ResolverID `json:"resolver,omitempty"`
}

// envelopeMark tells an envelope from a JSON value that somebody put as it is.
const envelopeMark = "edged/1"

type envelope struct {
	Envelope string `json:"envelope"`
	*Value
}

// Encode returns the value's envelope, as it stands at the hub.
func (v *Value) Encode() ([]byte, error) { return marshal(&envelope{envelopeMark, v}) }

// Decode reads what stands at the hub: an envelope, or a plain JSON value, which
// is an edit by the device "hub" at the time it was received. So is an envelope
// whose body is not the one that its hash is of. An error says that it is
// neither.
func Decode(data []byte, received time.Time) (*Value, error) {
	v := &Value{}
	e := envelope{Value: v}
	if bytes.Contains(data, []byte(`"envelope"`)) && json.Unmarshal(data, &e) == nil && e.Envelope == envelopeMark {
		hash, err := hashOf(v.Body, v.Deleted)
		if err != nil {
			return nil, fmt.Errorf("the body in its envelope: %w", err)
		}
		if v.Deleted {
			v.Body = nil
		}
		if hash != v.Hash {
			v.Hash, v.Resolver = hash, nil
			v.byHub(received)
		}
		return v, nil
	}
	hash, err := hashOf(data, false)
	if err != nil {
		return nil, err
	}
	*v = Value{Body: compact(data), Hash: hash}
	v.byHub(received)
	return v, nil
}

func (v *Value) byHub(received time.Time) {
	v.Op, v.HLC, v.Clock = Op{Device: HubDevice}, HLC{Wall: received.UnixNano()}, Synced
}

// deletedByHub is what a delete marker of a key-value client means.
func deletedByHub(received time.Time) *Value {
	v := &Value{Deleted: true, Hash: deletedHash}
	v.byHub(received)
	return v
}

// ErrRefused is wrapped by every error that says that a key or value cannot be
// stored; trying again is of no use.
var ErrRefused = errors.New("refused")

// newValue checks what somebody wants to store. body is nil for a delete.
func newValue(body []byte, deleted bool) (*Value, error) {
	if len(body) > MaxBodyBytes {
		return nil, fmt.Errorf("%w: the value has %d bytes, at most %d are allowed", ErrRefused, len(body), MaxBodyBytes)
	}
	hash, err := hashOf(body, deleted)
	if err != nil {
		return nil, fmt.Errorf("%w: the value is %w", ErrRefused, err)
	}
	v := &Value{Deleted: deleted, Hash: hash}
	if !deleted {
		v.Body = compact(body)
	}
	return v, nil
}

// compact takes the white space out of valid JSON.
func compact(body []byte) json.RawMessage {
	var b bytes.Buffer
	b.Grow(len(body))
	if err := json.Compact(&b, body); err != nil { // cannot be: it was checked
		return bytes.Clone(body)
	}
	return b.Bytes()
}

// marshal encodes JSON that holds raw bodies, which it leaves as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// CheckKey says why a string cannot be a key. A key is one or more parts with
// slashes between them; a part may hold any text.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: the key is empty", ErrRefused)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: the key has %d bytes, at most %d are allowed", ErrRefused, len(key), MaxKeyBytes)
	case !validText(key):
		return fmt.Errorf("%w: the key is not valid UTF-8, or has a control character", ErrRefused)
	}
	return nil
}

func validText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == '\ufffd' {
			return false
		}
	}
	return true
}

// DataType returns the first part of a key: what kind of thing it names.
func DataType(key string) string {
	first, _, _ := strings.Cut(key, "/")
	return first
}

// keySubject returns a key as subject tokens, one for each part, reversibly.
func keySubject(key string) string {
	var b []byte
	for i, part := range strings.Split(key, "/") {
		if i > 0 {
			b = append(b, '.')
		}
		b = record.AppendToken(b, part)
	}
	return string(b)
}

// subjectKey returns the key that keySubject made the tokens from. Tokens that
// another program made stay as they are.
func subjectKey(tokens string) (string, error) {
	parts := strings.Split(tokens, ".")
	for i, token := range parts {
		part, err := record.Untoken(token)
		if err != nil {
			return "", err
		}
		if record.Token(part) != token {
			return "", fmt.Errorf("the subject token %q is none that a key has", token)
		}
		parts[i] = part
	}
	return strings.Join(parts, "/"), nil
}
