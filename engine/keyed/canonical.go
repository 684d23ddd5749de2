package keyed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/edged/edged/engine/record"
)

// hashOf returns the hash of a value's body, or of a delete: SHA-256 in
// hexadecimal over canonical JSON. Two texts that say the same have the same
// hash; numbers count by their text, because 1.0 and 1.00 are not the same to
// everyone.
func hashOf(body []byte, deleted bool) (string, error) {
	if deleted {
		return deletedHash, nil
	}
	canonical, err := appendCanonical(nil, body)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// deletedHash is no SHA-256, so that no body has it.
const deletedHash = "deleted"

// appendCanonical appends the canonical form of one JSON value: no white space,
// members in the order of their names, each string written one way, numbers as
// they are. A name that stands twice in an object is an error: readers differ in
// which of the two they believe.
func appendCanonical(dst, body []byte) ([]byte, error) {
	if err := record.Valid(body); err != nil {
		return nil, err
	}
	return appendValue(dst, bytes.Trim(body, " \t\r\n"))
}

// appendValue is given valid JSON.
func appendValue(dst, value []byte) ([]byte, error) {
	switch value[0] {
	case '{':
		return appendObject(dst, value)
	case '[':
		return appendArray(dst, value)
	case '"':
		text, err := record.Unquote(value)
		if err != nil {
			return nil, err
		}
		return record.AppendString(dst, text), nil
	}
	return append(dst, value...), nil
}

func appendArray(dst, value []byte) ([]byte, error) {
	dst = append(dst, '[')
	at := record.SkipSpace(value, 1)
	for first := true; value[at] != ']'; first = false {
		if !first {
			dst = append(dst, ',')
			at = record.SkipSpace(value, at+1)
		}
		end, err := record.SkipValue(value, at)
		if err != nil {
			return nil, err
		}
		if dst, err = appendValue(dst, value[at:end]); err != nil {
			return nil, err
		}
		at = record.SkipSpace(value, end)
	}
	return append(dst, ']'), nil
}

type member struct {
	name  string
	value []byte
}

func appendObject(dst, value []byte) ([]byte, error) {
	var members []member
	if err := record.EachMember(value, func(name, value []byte) error {
		members = append(members, member{string(name), value})
		return nil
	}); err != nil {
		return nil, err
	}
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			if members[i-1].name == m.name {
				return nil, fmt.Errorf("%w: the name %q stands twice in one object", record.ErrJSON, m.name)
			}
			dst = append(dst, ',')
		}
		dst = append(record.AppendString(dst, m.name), ':')
		var err error
		if dst, err = appendValue(dst, m.value); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}
