package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON that is accepted from outside.
const maxDepth = 128

// ErrJSON is wrapped by every error about text that is not JSON.
var ErrJSON = errors.New("not valid JSON")

func jsonError(data []byte, at int, what string) error {
	if at >= len(data) {
		return fmt.Errorf("%w: %s at the end (byte %d)", ErrJSON, what, at)
	}
	return fmt.Errorf("%w: %s at byte %d", ErrJSON, what, at)
}

// SkipSpace returns the position of the first byte at or after i that is not
// JSON white space.
func SkipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// SkipValue checks the JSON value that starts at data[i] against RFC 8259 and
// returns the position after it. Leading white space is not skipped. Nesting
// deeper than 128 levels and invalid UTF-8 are errors.
func SkipValue(data []byte, i int) (int, error) { return skipValue(data, i, 0) }

func skipValue(data []byte, i, depth int) (int, error) {
	if i >= len(data) {
		return i, jsonError(data, i, "a value is missing")
	}
	switch c := data[i]; {
	case c == '"':
		return skipString(data, i)
	case c == '{' || c == '[':
		if depth >= maxDepth {
			return i, jsonError(data, i, "nested too deeply")
		}
		return skipContainer(data, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(data, i)
	case c == 't':
		return skipWord(data, i, "true")
	case c == 'f':
		return skipWord(data, i, "false")
	case c == 'n':
		return skipWord(data, i, "null")
	}
	return i, jsonError(data, i, fmt.Sprintf("unexpected %q", data[i]))
}

func skipWord(data []byte, i int, word string) (int, error) {
	if len(data)-i < len(word) || string(data[i:i+len(word)]) != word {
		return i, jsonError(data, i, "unexpected text")
	}
	return i + len(word), nil
}

func skipContainer(data []byte, i, depth int) (int, error) {
	object := data[i] == '{'
	closing := byte(']')
	if object {
		closing = '}'
	}
	i = SkipSpace(data, i+1)
	if i < len(data) && data[i] == closing {
		return i + 1, nil
	}
	for {
		var err error
		if object {
			if i >= len(data) || data[i] != '"' {
				return i, jsonError(data, i, "a member name is missing")
			}
			if i, err = skipString(data, i); err != nil {
				return i, err
			}
			if i = SkipSpace(data, i); i >= len(data) || data[i] != ':' {
				return i, jsonError(data, i, "a colon is missing")
			}
			i = SkipSpace(data, i+1)
		}
		if i, err = skipValue(data, i, depth); err != nil {
			return i, err
		}
		i = SkipSpace(data, i)
		switch {
		case i < len(data) && data[i] == ',':
			i = SkipSpace(data, i+1)
		case i < len(data) && data[i] == closing:
			return i + 1, nil
		default:
			return i, jsonError(data, i, "a comma or closing bracket is missing")
		}
	}
}

func skipString(data []byte, i int) (int, error) {
	start := i
	for i++; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			if i++; i >= len(data) {
				return i, jsonError(data, i, "a string is not closed")
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if i+4 >= len(data) || !isHex(data[i+1]) || !isHex(data[i+2]) || !isHex(data[i+3]) || !isHex(data[i+4]) {
					return i, jsonError(data, i, "a \\u escape needs four hexadecimal digits")
				}
				i += 4
			default:
				return i, jsonError(data, i, "unknown escape")
			}
		case c < 0x20:
			return i, jsonError(data, i, "a control character must be escaped")
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				return i, jsonError(data, i, "invalid UTF-8")
			}
			i += n - 1
		}
	}
	return i, jsonError(data, start, "a string is not closed")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func skipNumber(data []byte, i int) (int, error) {
	start := i
	digits := func() bool {
		from := i
		for i < len(data) && data[i] >= '0' && data[i] <= '9' {
			i++
		}
		return i > from
	}
	if data[i] == '-' {
		i++
	}
	if i < len(data) && data[i] == '0' {
		i++
	} else if !digits() {
		return start, jsonError(data, start, "malformed number")
	}
	if i < len(data) && data[i] == '.' {
		if i++; !digits() {
			return start, jsonError(data, start, "malformed number")
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		if i++; i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if !digits() {
			return start, jsonError(data, start, "malformed number")
		}
	}
	return i, nil
}

// Valid reports, as an error, why data is not exactly one JSON value with
// optional white space around it.
func Valid(data []byte) error {
	i, err := SkipValue(data, SkipSpace(data, 0))
	if err != nil {
		return err
	}
	if i = SkipSpace(data, i); i < len(data) {
		return jsonError(data, i, "text after the value")
	}
	return nil
}

// ValidObject is [Valid] for a value that must be a JSON object.
func ValidObject(data []byte) error {
	if i := SkipSpace(data, 0); i < len(data) && data[i] != '{' {
		return jsonError(data, i, "an object is expected")
	}
	return Valid(data)
}

// EachMember checks that data is one JSON object and calls visit for each of
// its members in order, with the unquoted key and the raw value. Both alias
// data or a temporary and are valid until visit returns. It stops at the first
// error, visit's included.
func EachMember(data []byte, visit func(key, value []byte) error) error {
	i := SkipSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		return jsonError(data, i, "an object is expected")
	}
	i = SkipSpace(data, i+1)
	if i < len(data) && data[i] == '}' {
		return onlySpace(data, i+1)
	}
	for {
		if i >= len(data) || data[i] != '"' {
			return jsonError(data, i, "a member name is missing")
		}
		end, err := skipString(data, i)
		if err != nil {
			return err
		}
		key := data[i+1 : end-1]
		if hasEscape(key) {
			s, err := Unquote(data[i:end])
			if err != nil {
				return err
			}
			key = []byte(s)
		}
		if i = SkipSpace(data, end); i >= len(data) || data[i] != ':' {
			return jsonError(data, i, "a colon is missing")
		}
		i = SkipSpace(data, i+1)
		if end, err = skipValue(data, i, 1); err != nil {
			return err
		}
		if err := visit(key, data[i:end:end]); err != nil {
			return err
		}
		i = SkipSpace(data, end)
		switch {
		case i < len(data) && data[i] == ',':
			i = SkipSpace(data, i+1)
		case i < len(data) && data[i] == '}':
			return onlySpace(data, i+1)
		default:
			return jsonError(data, i, "a comma or closing bracket is missing")
		}
	}
}

// EachElement checks that data is one JSON array and calls visit for each of its
// elements in order. It stops at the first error, visit's included.
func EachElement(data []byte, visit func(value []byte) error) error {
	i := SkipSpace(data, 0)
	if i >= len(data) || data[i] != '[' {
		return jsonError(data, i, "an array is expected")
	}
	i = SkipSpace(data, i+1)
	if i < len(data) && data[i] == ']' {
		return onlySpace(data, i+1)
	}
	for {
		end, err := skipValue(data, i, 1)
		if err != nil {
			return err
		}
		if err := visit(data[i:end:end]); err != nil {
			return err
		}
		i = SkipSpace(data, end)
		switch {
		case i < len(data) && data[i] == ',':
			i = SkipSpace(data, i+1)
		case i < len(data) && data[i] == ']':
			return onlySpace(data, i+1)
		default:
			return jsonError(data, i, "a comma or closing bracket is missing")
		}
	}
}

func onlySpace(data []byte, i int) error {
	if i = SkipSpace(data, i); i < len(data) {
		return jsonError(data, i, "text after the value")
	}
	return nil
}

func hasEscape(s []byte) bool {
	for _, c := range s {
		if c == '\\' {
			return true
		}
	}
	return false
}

// Unquote returns the text of a JSON string value.
func Unquote(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errors.New("a string is expected")
	}
	if inner := value[1 : len(value)-1]; !hasEscape(inner) {
		return string(inner), nil
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", fmt.Errorf("%w: %w", ErrJSON, err)
	}
	return s, nil
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Bytes that are not valid UTF-8
// become U+FFFD. Unlike encoding/json it does not escape <, > and &.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
