package collect

import "bytes"

// entry is one input found in a text, or what stands in its place.
type entry struct {
	// size is the number of bytes it takes, its line end included. Zero: the
	// text ends before the entry does and more of it is needed.
	size int
	// lines is the number of line ends among them.
	lines int
	// raw is the entry without its last line end. Empty: there is nothing here.
	raw []byte
	// err tells why raw cannot be read.
	err error
}

// format takes the text of a file apart. One goroutine at a time.
type format interface {
	// next finds the entry that data begins with. With atEnd nothing follows
	// data, and an entry that is not closed is an entry all the same.
	next(data []byte, atEnd bool) entry
}

// lineEntry is the entry that ends with the first line end of data.
func lineEntry(data []byte, atEnd bool) entry {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return entry{size: i + 1, lines: 1, raw: trimCR(data[:i])}
	}
	if atEnd && len(data) > 0 {
		return entry{size: len(data), raw: trimCR(data)}
	}
	return entry{}
}

func trimCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// ndjson is one JSON value a line: an entry's raw bytes are the input.
type ndjson struct{}

var _ format = ndjson{}

func (ndjson) next(data []byte, atEnd bool) entry {
	e := lineEntry(data, atEnd)
	if len(trimSpace(e.raw)) == 0 {
		e.raw = nil
	}
	return e
}
