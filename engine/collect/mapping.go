package collect

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

const defaultDataType = "reading"

// maxRawBytes bounds the input kept in a dead letter: in base64 and with its
// frame it stays below the 1 MiB message limit of a NATS server. A longer input
// is cut, and the detail "bytes" tells its length.
const maxRawBytes = 512 << 10

// mappingDoc is the part of every kind's page that tells how input becomes a
// record.
const mappingDoc = `An input becomes a record like this. If it is in record form it is taken as it is: an object with
the members id, device_id, data_type, timestamp (RFC 3339) and payload (an object). An object that has
a payload object and only some of the other four is completed with the defaults below. Every other
object becomes the payload of a new record. With the argument payload the input counts as foreign in
any case; the other arguments replace one member each. In the expressions, "input" is the input.`

// rejectDoc follows it for the kinds that keep what they cannot map.
const rejectDoc = `
An input that gives no valid record goes to the dead letters with its bytes and the reason; those
behind it go on.`

// mappingArgs declares the arguments that make a record, for one root.
func mappingArgs(root expr.Root, idDefault string) []config.Arg {
	from := "from the input in record form, else "
	payloadDefault := from + "the whole input"
	if root == expr.None {
		from, payloadDefault = "", ""
	}
	return []config.Arg{
		{Name: "id", Type: config.Expression, Root: root, Doc: "The record's id, unique for ever. Default: " + from + idDefault + "."},
		{Name: "device_id", Type: config.Expression, Root: root, Doc: "The device the record is about. Default: " + from + "the edge's device_id."},
		{Name: "data_type", Type: config.Expression, Root: root, Doc: "What kind of data the record holds. Default: " + from + `"` + defaultDataType + `".`},
		{Name: "timestamp", Type: config.Expression, Root: root, Doc: "When it was observed, in RFC 3339. Default: " + from + "now."},
		{
			Name: "payload", Type: config.Expression, Root: root, Required: root == expr.None,
			Doc: "The record's payload, an object." + defaultSentence(payloadDefault),
		},
	}
}

func defaultSentence(text string) string {
	if text == "" {
		return ""
	}
	return " Default: " + text + "."
}

// mapper makes records of inputs. One goroutine at a time.
type mapper struct {
	opts Options
	ev   *expr.Evaluator
	// The expressions the user wrote; nil: the default.
	id, deviceID, dataType, timestamp, payload *expr.Program
	// newID makes the id of a record whose input has none.
	newID func() string
	// arena holds the bytes of payloads that are not part of the input. It
	// belongs to the batch under construction; take starts a new one.
	arena         []byte
	device, dtype interned
}

func newMapper(opts Options, args config.Args, newID func() string) *mapper {
	return &mapper{
		opts: opts, ev: expr.NewEvaluator(opts.Host), newID: newID,
		id: args.Expr("id"), deviceID: args.Expr("device_id"), dataType: args.Expr("data_type"),
		timestamp: args.Expr("timestamp"), payload: args.Expr("payload"),
	}
}

// freshArena starts the payload memory of a new batch. The former one stays
// with its batch; its size is the guess for the new one.
func (m *mapper) freshArena() {
	if len(m.arena) > 0 {
		m.arena = make([]byte, 0, len(m.arena)+len(m.arena)/8)
	}
}

// apply makes a record of one JSON value. The record's payload aliases input
// or the arena.
func (m *mapper) apply(input []byte) (record.Record, error) {
	input = trimSpace(input)
	var r record.Record
	if m.payload == nil {
		if err := m.recordForm(input, &r); err != nil {
			return r, err
		}
	} else if err := record.Valid(input); err != nil {
		return r, err
	}
	return r, m.complete(&r, expr.Value{JSON: input})
}

// generate makes a record of expressions alone.
func (m *mapper) generate() (record.Record, error) {
	var r record.Record
	return r, m.complete(&r, expr.Value{})
}

// complete evaluates what the user wrote, fills in defaults, and checks.
func (m *mapper) complete(r *record.Record, v expr.Value) error {
	if m.payload != nil {
		start := len(m.arena)
		out, err := m.payload.AppendJSON(m.ev, m.arena, v)
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		m.arena = out
		r.Payload = out[start:len(out):len(out)]
	}
	for _, f := range [...]struct {
		name    string
		program *expr.Program
		to      *string
	}{
		{"id", m.id, &r.ID},
		{"device_id", m.deviceID, &r.DeviceID},
		{"data_type", m.dataType, &r.DataType},
	} {
		if f.program == nil {
			continue
		}
		s, err := f.program.Text(m.ev, v)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if s == "" {
			return fmt.Errorf("%w: %s is empty", record.ErrInvalid, f.name)
		}
		*f.to = s
	}
	if m.timestamp != nil {
		t, err := m.timestamp.Time(m.ev, v)
		if err != nil {
			return fmt.Errorf("timestamp: %w", err)
		}
		r.Timestamp = t.UTC()
	}
	if r.ID == "" {
		r.ID = m.newID()
	}
	if r.DeviceID == "" {
		r.DeviceID = m.opts.DeviceID
	}
	if r.DataType == "" {
		r.DataType = defaultDataType
	}
	if r.Timestamp.IsZero() {
		r.Timestamp = m.opts.Host.Now().UTC()
	}
	return r.Check()
}

// interned keeps the last of a text that rarely changes, so that a record
// does not cost an allocation for it.
type interned struct{ last string }

func (t *interned) text(quoted []byte) (string, error) {
	if n := len(quoted); n >= 2 && quoted[0] == '"' && string(quoted[1:n-1]) == t.last {
		return t.last, nil
	}
	s, err := record.Unquote(quoted)
	if err == nil && !containsEscape(quoted) {
		t.last = s
	}
	return s, err
}

func containsEscape(quoted []byte) bool {
	for _, c := range quoted {
		if c == '\\' {
			return true
		}
	}
	return false
}

// Bits of the members of a record.
const (
	hasID = 1 << iota
	hasDeviceID
	hasDataType
	hasTimestamp
	hasPayload
	hasAll = 1<<iota - 1
)

// recordForm fills r from input, which must be a JSON object: from its members
// when it is in record form, else with input as the payload. Members that are
// missing stay zero. One pass checks and takes apart.
//
//nolint:gocyclo // one case a member, on the path of every record
func (m *mapper) recordForm(input []byte, r *record.Record) error {
	var id, device, dtype, timestamp, payload []byte
	seen, foreign := 0, false
	err := record.EachMember(input, func(key, value []byte) error {
		var bit int
		switch string(key) {
		case "id":
			bit, id = hasID, value
		case "device_id":
			bit, device = hasDeviceID, value
		case "data_type":
			bit, dtype = hasDataType, value
		case "timestamp":
			bit, timestamp = hasTimestamp, value
		case "payload":
			bit, payload = hasPayload, value
		default:
			foreign = true
			return nil
		}
		foreign = foreign || seen&bit != 0
		seen |= bit
		return nil
	})
	switch {
	case err != nil:
		return err
	case foreign && seen == hasAll:
		// A record with a member too many is a mistake, not data. Parse names it.
		if _, err := record.Parse(input); err != nil {
			return err
		}
		return fmt.Errorf("%w: too many members", record.ErrInvalid)
	case foreign || seen&hasPayload == 0 || seen != hasAll && payload[0] != '{':
		r.Payload = input[:len(input):len(input)]
		return nil
	}
	r.Payload = payload
	if id != nil {
		if r.ID, err = nonEmpty("id", id, record.Unquote); err != nil {
			return err
		}
	}
	if device != nil {
		if r.DeviceID, err = nonEmpty("device_id", device, m.device.text); err != nil {
			return err
		}
	}
	if dtype != nil {
		if r.DataType, err = nonEmpty("data_type", dtype, m.dtype.text); err != nil {
			return err
		}
	}
	if timestamp != nil {
		if r.Timestamp, err = record.ParseTime(timestamp); err != nil {
			return fmt.Errorf("%w: timestamp: %w", record.ErrInvalid, err)
		}
	}
	return nil
}

// nonEmpty reads a member that, when written, must say something: an empty id
// is a mistake of the sender and not a wish for the default.
func nonEmpty(name string, value []byte, unquote func([]byte) (string, error)) (string, error) {
	s, err := unquote(value)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %s: %w", record.ErrInvalid, name, err)
	case s == "":
		return "", fmt.Errorf("%w: %s is empty", record.ErrInvalid, name)
	}
	return s, nil
}

// trimSpace cuts JSON white space off both ends.
func trimSpace(data []byte) []byte {
	data = data[record.SkipSpace(data, 0):]
	for n := len(data); n > 0; n-- {
		if c := data[n-1]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return data[:n]
		}
	}
	return nil
}

// reject makes the dead letter of an input (I6). Origin tells inputs with equal
// bytes apart when the source knows where each stands, so that the same input
// read again after a crash has the same id.
func (o Options) reject(raw []byte, origin string, reason error, detail map[string]string) record.DeadLetter {
	if len(raw) > maxRawBytes {
		detail = maps.Clone(detail)
		if detail == nil {
			detail = map[string]string{}
		}
		if _, known := detail["bytes"]; !known {
			detail["bytes"] = strconv.Itoa(len(raw))
		}
		raw = raw[:maxRawBytes]
	}
	return record.DeadLetter{
		ID:       stableID("dead_letter", o, origin, raw),
		Pipeline: o.Pipeline,
		Stage:    o.stage(),
		Error:    validText(reason.Error()),
		Detail:   detail,
		Time:     o.Host.Now().UTC(),
		Raw:      append([]byte{}, raw...),
	}
}

func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// stableID names an input for ever: it is made of what the input is and where
// it stands, so that reading it again gives the same id.
func stableID(use string, o Options, origin string, raw []byte) string {
	var scratch [512]byte
	b := scratch[:0]
	for _, part := range [...]string{use, o.DeviceID, o.Pipeline, o.Name, origin} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	var sum [sha256.Size]byte
	if len(b)+len(raw) <= len(scratch) {
		sum = sha256.Sum256(append(b, raw...))
	} else {
		h := sha256.New()
		h.Write(b)
		h.Write(raw)
		h.Sum(sum[:0])
	}
	var text [32]byte
	hex.Encode(text[:], sum[:16])
	return string(text[:])
}

// uniqueID returns a UUID of version 7: 48 bits of time in milliseconds, then
// random bits. Such ids sort roughly by age.
func uniqueID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16|rand.Uint64()&0x0fff)
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	b[6] |= 0x70
	b[8] = b[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// errEmptyInput says that there is no value where one is expected.
var errEmptyInput = errors.New("the input is empty; a JSON object is expected")
