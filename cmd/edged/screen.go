package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is standard error with, on a terminal, a block of lines at its end
// that is redrawn in place. What is written to it (logs) scrolls above the
// block. Safe for many goroutines.
type screen struct {
	live  bool       // a terminal that can be redrawn
	width func() int // columns

	mu    sync.Mutex
	out   io.Writer
	block []string // as drawn now
}

// newScreen finds out what out is.
func newScreen(out io.Writer) *screen {
	s := &screen{out: out, width: func() int { return 80 }}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.live = true
	s.width = func() int {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return columns
		}
		return 80
	}
	return s
}

// Write prints p above the block.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var buf bytes.Buffer
	s.erase(&buf)
	buf.Write(p)
	if len(s.block) > 0 && !bytes.HasSuffix(p, []byte("\n")) {
		buf.WriteByte('\n')
	}
	s.paint(&buf)
	if _, err := s.out.Write(buf.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// draw replaces the block; without lines it is gone. Not for a screen that is
// not live.
func (s *screen) draw(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var buf bytes.Buffer
	s.erase(&buf)
	s.block = lines
	s.paint(&buf)
	// A terminal that went away is no reason to stop collecting.
	_, _ = s.out.Write(buf.Bytes())
}

// erase moves to the first line of the block and clears to the end.
func (s *screen) erase(buf *bytes.Buffer) {
	if len(s.block) > 0 {
		fmt.Fprintf(buf, "\r\x1b[%dA\x1b[J", len(s.block))
	}
}

// paint writes the block, no line wider than the terminal: a wrapped line
// would make the next erase miss one.
func (s *screen) paint(buf *bytes.Buffer) {
	columns := s.width() - 1
	for _, line := range s.block {
		if utf8.RuneCountInString(line) > columns {
			line = string([]rune(line)[:max(columns-1, 0)]) + "…"
		}
		buf.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
