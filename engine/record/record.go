// Package record defines what flows through edged: records, messages and dead
// letters, their JSON wire forms, and the reversible mapping of names to NATS
// subject tokens. It stands on the ground of the project and imports only the
// standard library.
package record

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Bounds of a record. A source refuses what exceeds them (see [Record.Check]).
const (
	// MaxNameBytes bounds ID, DeviceID and DataType, each, in bytes.
	MaxNameBytes = 255
	// MaxPayloadBytes bounds the payload. It keeps a record and its headers
	// below the 1 MiB default message limit of a NATS server.
	MaxPayloadBytes = 1<<20 - 16<<10
)

// Record is one observation on its way from a source to a remote.
//
// Payload holds one JSON object exactly as its source or transform wrote it:
// numbers keep their text. A Record does not own its Payload; who keeps a
// record beyond the call that handed it over copies the bytes (see
// [Record.Clone]).
type Record struct {
	ID        string
	DeviceID  string
	DataType  string
	Timestamp time.Time
	Payload   []byte
}

// ErrInvalid is wrapped by every error that says that bytes are no valid
// record, message or dead letter.
var ErrInvalid = errors.New("invalid record")

// Check reports what keeps r from being a valid record, or nil. It does not
// parse the payload; [ValidObject] does.
func (r *Record) Check() error {
	for _, f := range [...]struct{ name, value string }{
		{"id", r.ID}, {"device_id", r.DeviceID}, {"data_type", r.DataType},
	} {
		switch {
		case f.value == "":
			return fmt.Errorf("%w: %s is empty", ErrInvalid, f.name)
		case len(f.value) > MaxNameBytes:
			return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalid, f.name, len(f.value), MaxNameBytes)
		case !utf8.ValidString(f.value):
			return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, f.name)
		}
	}
	if r.Timestamp.IsZero() {
		return fmt.Errorf("%w: timestamp is missing", ErrInvalid)
	}
	if y := r.Timestamp.UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("%w: timestamp has the year %d, outside 1 to 9999", ErrInvalid, y)
	}
	if len(r.Payload) > MaxPayloadBytes {
		return fmt.Errorf("%w: payload has %d bytes, at most %d are allowed", ErrInvalid, len(r.Payload), MaxPayloadBytes)
	}
	if len(r.Payload) == 0 || r.Payload[0] != '{' {
		return fmt.Errorf("%w: payload is not a JSON object", ErrInvalid)
	}
	return nil
}

// Clone returns a copy of r that shares no bytes with it.
func (r *Record) Clone() Record {
	c := *r
	c.Payload = append([]byte(nil), r.Payload...)
	return c
}

// AppendJSON appends the wire form of r to dst and returns the result. The
// field order is fixed: id, device_id, data_type, timestamp, payload.
func (r *Record) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = AppendString(dst, r.ID)
	dst = append(dst, `,"device_id":`...)
	dst = AppendString(dst, r.DeviceID)
	dst = append(dst, `,"data_type":`...)
	dst = AppendString(dst, r.DataType)
	dst = append(dst, `,"timestamp":"`...)
	dst = AppendTime(dst, r.Timestamp)
	dst = append(dst, `","payload":`...)
	dst = append(dst, r.Payload...)
	return append(dst, '}')
}

// AppendTime appends t in UTC as RFC 3339 with as many digits of the second as
// it needs.
func AppendTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, time.RFC3339Nano)
}

// Parse reads the wire form of one record. Unknown members are refused, so
// that a misspelled field is not lost in silence; a repeated member is refused
// too. The payload aliases data; the other fields do not.
func Parse(data []byte) (Record, error) {
	var r Record
	var seen uint
	err := EachMember(data, func(key, value []byte) error {
		var bit uint
		var err error
		switch string(key) {
		case "id":
			bit = 1
			r.ID, err = Unquote(value)
		case "device_id":
			bit = 2
			r.DeviceID, err = Unquote(value)
		case "data_type":
			bit = 4
			r.DataType, err = Unquote(value)
		case "timestamp":
			bit = 8
			r.Timestamp, err = ParseTime(value)
		case "payload":
			bit = 16
			r.Payload = value
		default:
			return fmt.Errorf("unknown member %q; a record has id, device_id, data_type, timestamp, payload", key)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if seen&bit != 0 {
			return fmt.Errorf("member %q appears twice", key)
		}
		seen |= bit
		return nil
	})
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, r.Check()
}

// ParseTime reads a quoted RFC 3339 time.
func ParseTime(value []byte) (time.Time, error) {
	s, err := Unquote(value)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not an RFC 3339 time like 2026-11-22T06:15:00.123Z", s)
	}
	return t.UTC(), nil
}
