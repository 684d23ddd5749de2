package edged

import "unicode/utf8"

// AsString returns the text of a JSON string; ok says whether the value is one.
func AsString(value []byte) (s string, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	for _, c := range inner {
		if c == '\\' {
			return string(unescape(inner)), true
		}
	}
	return string(inner), true
}

// unescape returns the UTF-8 of what stands between two quotes.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for p := 0; p < len(b); {
		c := b[p]
		p++
		if c != '\\' || p == len(b) {
			out = append(out, c)
			continue
		}
		c = b[p]
		p++
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, size := unicodeEscape(b[p:])
			out = utf8.AppendRune(out, r)
			p += size
			continue
		}
		out = append(out, c)
	}
	return out
}

// unicodeEscape reads what follows \u, both halves of a pair; a lone one is U+FFFD.
func unicodeEscape(b []byte) (r rune, size int) {
	r = hex4(b)
	switch {
	case r < 0:
		return utf8.RuneError, 0
	case r < 0xd800 || r >= 0xe000:
		return r, 4
	case r < 0xdc00 && len(b) >= 10 && b[4] == '\\' && b[5] == 'u':
		if low := hex4(b[6:]); low >= 0xdc00 && low < 0xe000 {
			return 0x10000 + (r-0xd800)<<10 + low - 0xdc00, 10
		}
	}
	return utf8.RuneError, 4
}

// hex4 reads four digits; -1: they are none.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var n rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		n = n<<4 | rune(c)
	}
	return n
}

// Quote returns the text as a JSON string, quoted and escaped.
func Quote(s string) []byte { return AppendQuoted(make([]byte, 0, len(s)+2), s) }

// AppendQuoted appends the text as a JSON string, quoted and escaped.
func AppendQuoted(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
