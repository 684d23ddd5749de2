package record

import (
	"fmt"
	"strings"
)

// AppendToken appends name to dst as one NATS subject token. The mapping is
// reversible and never maps two names to one token: ASCII letters, digits, '-'
// and '_' stay; every other byte, and '=' itself, becomes '=' and two lower
// case hexadecimal digits. The empty name becomes "=".
func AppendToken(dst []byte, name string) []byte {
	if name == "" {
		return append(dst, '=')
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// Token returns name as one NATS subject token; see [AppendToken].
func Token(name string) string { return string(AppendToken(nil, name)) }

// Untoken returns the name that [Token] made tok from.
func Untoken(tok string) (string, error) {
	if tok == "=" {
		return "", nil
	}
	if !strings.ContainsRune(tok, '=') {
		return tok, nil
	}
	out := make([]byte, 0, len(tok))
	for i := 0; i < len(tok); i++ {
		if tok[i] != '=' {
			out = append(out, tok[i])
			continue
		}
		if i+2 >= len(tok) {
			return "", fmt.Errorf("subject token %q ends inside an escape", tok)
		}
		hi, lo := strings.IndexByte(hexDigits, tok[i+1]), strings.IndexByte(hexDigits, tok[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("subject token %q has an escape that is not two hexadecimal digits", tok)
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	return string(out), nil
}
