package collect

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// A file is known again by its first bytes and by the last ones before the
// position, at most so many of each.
const (
	headBytes = 1 << 10
	tailBytes = 256
)

// filePosition tells where a file source continues. It holds no inode number:
// a file that was copied or restored with the same content is the same file.
type filePosition struct {
	// Offset is the first byte that was not read, Line the number of lines
	// before it.
	Offset int64 `json:"offset"`
	Line   int64 `json:"line"`
	// Generation counts how often the file was found truncated or replaced. It
	// keeps the ids of equal lines in two files of one name apart.
	Generation int64 `json:"generation,omitempty"`
	// Header holds the column names of a CSV file.
	Header []string `json:"header,omitempty"`
	// Head and Tail are the bytes at the file's beginning and before Offset.
	Head fingerprint `json:"head"`
	Tail fingerprint `json:"tail"`
}

// fingerprint identifies a run of bytes.
type fingerprint struct {
	Bytes int    `json:"bytes"`
	Hash  string `json:"hash"` // the first half of the SHA-256, hexadecimal
}

func fingerprintOf(b []byte) fingerprint {
	sum := sha256.Sum256(b)
	return fingerprint{Bytes: len(b), Hash: hex.EncodeToString(sum[:16])}
}

func parseFilePosition(data json.RawMessage) (filePosition, error) {
	var p filePosition
	if len(data) == 0 {
		return p, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("not a position in a file: %w", err)
	}
	if p.Offset < 0 || p.Line < 0 || p.Head.Bytes < 0 || p.Head.Bytes > headBytes || p.Tail.Bytes < 0 || p.Tail.Bytes > tailBytes ||
		int64(p.Head.Bytes) > p.Offset || int64(p.Tail.Bytes) > p.Offset {
		return p, errors.New("not a position in a file: it has numbers out of range")
	}
	return p, nil
}

// tracker follows what was read of a file to make its fingerprints.
type tracker struct {
	head, tail []byte
	headMark   fingerprint // of head, when its length fits
}

// add takes the bytes that follow those added before.
func (t *tracker) add(b []byte) {
	if room := headBytes - len(t.head); room > 0 {
		t.head = append(t.head, b[:min(room, len(b))]...)
	}
	if len(b) >= tailBytes {
		t.tail = append(t.tail[:0], b[len(b)-tailBytes:]...)
		return
	}
	if over := len(t.tail) + len(b) - tailBytes; over > 0 {
		t.tail = append(t.tail[:0], t.tail[over:]...)
	}
	t.tail = append(t.tail, b...)
}

func (t *tracker) marks() (head, tail fingerprint) {
	if t.headMark.Bytes != len(t.head) || t.headMark.Hash == "" {
		t.headMark = fingerprintOf(t.head)
	}
	return t.headMark, fingerprintOf(t.tail)
}

// recognize reads the bytes before p from f into t. A reason means that f is
// not the file, or no longer the content, that p was made of.
func (t *tracker) recognize(f *os.File, p filePosition) (reason string, err error) {
	if p.Offset == 0 { // every file has these first bytes
		return "", nil
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() < p.Offset {
		return fmt.Sprintf("it has %d bytes, fewer than the %d already read", info.Size(), p.Offset), nil
	}
	head, err := readRange(f, 0, min(p.Offset, headBytes))
	if err != nil {
		return "", err
	}
	if len(head) < p.Head.Bytes || fingerprintOf(head[:p.Head.Bytes]) != p.Head {
		return "it begins with other bytes", nil
	}
	n := min(p.Offset, tailBytes)
	tail, err := readRange(f, p.Offset-n, n)
	if err != nil {
		return "", err
	}
	if len(tail) < p.Tail.Bytes || fingerprintOf(tail[len(tail)-p.Tail.Bytes:]) != p.Tail {
		return "the bytes before the position are others", nil
	}
	t.head, t.tail = head, tail
	return "", nil
}

// intact reports whether f still holds the tail before offset.
func (t *tracker) intact(f *os.File, offset int64) (bool, error) {
	got, err := readRange(f, offset-int64(len(t.tail)), int64(len(t.tail)))
	return err == nil && bytes.Equal(got, t.tail), err
}

// readRange reads n bytes at offset, fewer when the file ends before.
func readRange(f *os.File, offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:got], err
}
