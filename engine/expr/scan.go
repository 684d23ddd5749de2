package expr

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/unicode/norm"
)

// The scanner in this file walks JSON that has been checked before (a payload
// is, see record.ValidObject). On other bytes its answers are meaningless, but
// it stays within them.

const (
	ones    = 0x0101010101010101
	highs   = 0x8080808080808080
	quotes  = '"' * ones
	escapes = '\\' * ones
)

// stringEnd returns the position after the string that starts with the quote
// at data[i], and whether the string is plain: without escapes and only ASCII.
func stringEnd(data []byte, i int) (end int, isPlain bool) {
	isPlain = true
	i++
	for {
		if i+8 <= len(data) {
			// Eight bytes at once: which are a quote, an escape or not ASCII.
			// The lowest mark is always right; above it there may be false ones.
			w := binary.LittleEndian.Uint64(data[i:])
			q, e := w^quotes, w^escapes
			mark := ((q-ones)&^q | (e-ones)&^e | w) & highs
			if mark == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(mark) / 8
		} else if i >= len(data) {
			return len(data), false
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1, isPlain
		case c == '\\':
			isPlain = false
			i += 2
		case c >= utf8.RuneSelf:
			isPlain = false
			i++
		default:
			i++
		}
	}
}

// scalarEnd returns the position after the number or word at data[i].
func scalarEnd(data []byte, i int) int {
	for i < len(data) && !endsScalar[data[i]] {
		i++
	}
	return i
}

var endsScalar = [256]bool{',': true, '}': true, ']': true, ' ': true, '\n': true, '\r': true, '\t': true}

// valueEnd returns the position after the value at data[i].
func valueEnd(data []byte, i int) int {
	if i >= len(data) {
		return len(data)
	}
	switch data[i] {
	case '"':
		end, _ := stringEnd(data, i)
		return end
	case '{', '[':
		return containerEnd(data, i)
	}
	return scalarEnd(data, i)
}

func containerEnd(data []byte, i int) int {
	for depth := 0; i < len(data); {
		switch data[i] {
		case '"':
			i, _ = stringEnd(data, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return len(data)
}

// view returns the bytes as a string without copying. It is used within one
// evaluation only, while the bytes are borrowed from the caller and stay as
// they are; what leaves an evaluation is copied.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unquote returns the text of a JSON string, quotes included, as encoding/json
// reads it: half of a surrogate pair becomes U+FFFD. It copies only if there
// are escapes.
func unquote(quoted []byte) string {
	if len(quoted) < 2 {
		return ""
	}
	s := quoted[1 : len(quoted)-1]
	for i, c := range s {
		if c == '\\' {
			return string(appendUnescaped(append([]byte(nil), s[:i]...), s[i:]))
		}
	}
	return view(s)
}

func appendUnescaped(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 >= len(s) {
			dst = append(dst, s[i])
			i++
			continue
		}
		c := s[i+1]
		i += 2
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(s, i)
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+1 < len(s) && s[i] == '\\' && s[i+1] == 'u' {
					low = hex4(s, i+2)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func hex4(s []byte, i int) rune {
	if i+4 > len(s) {
		return utf8.RuneError
	}
	var r rune
	for _, c := range s[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

// nfc returns s in Unicode normal form C, as every cty string is.
func nfc(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			if norm.NFC.IsNormalString(s) {
				return s
			}
			return norm.NFC.String(s)
		}
	}
	return s
}

// viewBytes is the way back from [view]. The bytes are only read.
func viewBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// space returns the position of the first byte at or after i that is not white
// space.
func space(data []byte, i int) int {
	for i < len(data) && data[i] <= ' ' {
		i++
	}
	return i
}

// isKey reports whether the JSON string, quotes included, is the name, which is
// in normal form C.
func isKey(quoted []byte, isPlain bool, name string) bool {
	if isPlain || len(quoted) < 2 {
		return len(quoted) == len(name)+2 && string(quoted[1:len(quoted)-1]) == name
	}
	return nfc(unquote(quoted)) == name
}

// span is where a member's value stands.
type span struct {
	start, end int
	plain      bool // a string without escapes, all ASCII
}

// scanMembers finds the members of the object at data[i] that keys name, and
// puts them into spans, one for each key; of a member that stands twice the
// last. A key that is not there has an end of zero.
func scanMembers(data []byte, i int, keys []string, spans []span) {
	clear(spans)
	for i++; ; i++ {
		i = space(data, i)
		if i >= len(data) || data[i] != '"' {
			return
		}
		end, isPlain := stringEnd(data, i)
		found := -1
		for k, name := range keys {
			if isKey(data[i:end], isPlain, name) {
				found = k
				break
			}
		}
		if i = space(data, end); i >= len(data) {
			return
		}
		i = space(data, i+1)
		start := i
		isPlain = false
		if i < len(data) && data[i] == '"' {
			i, isPlain = stringEnd(data, i)
		} else if i < len(data) && data[i] < '[' { // a number
			i = scalarEnd(data, i)
		} else {
			i = valueEnd(data, i)
		}
		if found >= 0 {
			spans[found] = span{start, i, isPlain}
		}
		if i = space(data, i); i >= len(data) || data[i] != ',' {
			return
		}
	}
}

// element finds the n-th element of the array at data[0].
func element(data []byte, n int) (s span, ok bool) {
	i := space(data, 1)
	if i >= len(data) || data[i] == ']' {
		return span{}, false
	}
	for ; i < len(data); n-- {
		end, isPlain := 0, false
		if data[i] == '"' {
			end, isPlain = stringEnd(data, i)
		} else {
			end = valueEnd(data, i)
		}
		if n == 0 {
			return span{i, end, isPlain}, true
		}
		if i = space(data, end); i >= len(data) || data[i] != ',' {
			return span{}, false
		}
		i = space(data, i+1)
	}
	return span{}, false
}
