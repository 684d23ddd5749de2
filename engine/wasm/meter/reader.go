package meter

import "fmt"

// syntaxError is what a reader panics with; [Rewrite] recovers it. Passing an
// error up from each of the hundreds of reads would hide what is read.
type syntaxError struct {
	at   int
	what string
}

// reader reads a part of a module. at counts from the start of data; base is
// where data begins in the file.
type reader struct {
	data []byte
	at   int
	base int
}

func (r *reader) fail(at int, what string) {
	panic(syntaxError{at: r.base + at, what: what})
}

func (r *reader) finished() {
	if r.at != len(r.data) {
		r.fail(r.at, fmt.Sprintf("%d bytes too many in a section", len(r.data)-r.at))
	}
}

func (r *reader) rest() []byte { return r.data[r.at:] }

func (r *reader) byte() byte {
	if r.at >= len(r.data) {
		r.fail(r.at, "it ends too early")
	}
	r.at++
	return r.data[r.at-1]
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.data)-r.at {
		r.fail(r.at, "it ends too early")
	}
	r.at += n
	return r.data[r.at-n : r.at]
}

// sub returns a reader of the next n bytes.
func (r *reader) sub(n int) reader {
	base := r.base + r.at
	return reader{data: r.bytes(n), base: base}
}

func (r *reader) name() string { return string(r.bytes(int(r.u32()))) }

func (r *reader) u32() uint32 {
	start := r.at
	var v uint64
	for shift := 0; ; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 28 {
			r.fail(start, "a number of more than 32 bits")
		}
	}
	if v > 1<<32-1 {
		r.fail(start, "a number of more than 32 bits")
	}
	return uint32(v)
}

// skipLEB passes a number of at most n bytes whose value does not matter here.
func (r *reader) skipLEB(n int) {
	start := r.at
	for range n {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail(start, "a number that is too long")
}

func appendU32(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func appendS64(dst []byte, v int64) []byte {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

func appendName(dst []byte, s string) []byte {
	return append(appendU32(dst, uint32(len(s))), s...)
}

// section appends a section whose body fill appends.
func section(dst *[]byte, id byte, fill func([]byte) []byte) {
	body := fill(nil)
	*dst = append(*dst, id)
	*dst = appendU32(*dst, uint32(len(body)))
	*dst = append(*dst, body...)
}
