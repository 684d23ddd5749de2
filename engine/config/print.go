package config

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/text/width"
)

// WriteDiagnostics writes diags for a person: file, line and column in the
// form that editors jump to, the source with the place underlined, and what to
// do. width is the terminal's in columns, 0 or less for unlimited; color adds
// ANSI colors. Nothing else that could steer a terminal gets through.
func WriteDiagnostics(w io.Writer, diags hcl.Diagnostics, files map[string]*hcl.File, color bool, width int) error {
	p := printer{color: color, width: width}
	for i, d := range diags {
		if i > 0 {
			p.out.WriteByte('\n')
		}
		p.diagnostic(d, files)
	}
	if _, err := w.Write(p.out.Bytes()); err != nil {
		return fmt.Errorf("writing diagnostics: %w", err)
	}
	return nil
}

const (
	styleError   = "\x1b[1;31m"
	styleWarning = "\x1b[1;33m"
	styleBold    = "\x1b[1m"
	styleGutter  = "\x1b[34m"
	styleReset   = "\x1b[0m"
)

type printer struct {
	out   bytes.Buffer
	color bool
	width int
}

func (p *printer) styled(style, text string) {
	if p.color {
		p.out.WriteString(style + text + styleReset)
		return
	}
	p.out.WriteString(text)
}

func (p *printer) diagnostic(d *hcl.Diagnostic, files map[string]*hcl.File) {
	if d.Subject != nil {
		at := clean(d.Subject.Filename)
		if d.Subject.Start.Line > 0 {
			at = clean(place(*d.Subject))
		}
		p.styled(styleBold, at+": ")
	}
	severity, style := "error", styleError
	if d.Severity == hcl.DiagWarning {
		severity, style = "warning", styleWarning
	}
	p.styled(style, severity)
	p.styled(styleBold, ": "+clean(d.Summary))
	p.out.WriteByte('\n')
	if d.Subject != nil && files[d.Subject.Filename] != nil && d.Subject.Start.Line > 0 {
		p.snippet(d, files[d.Subject.Filename].Bytes, style)
	}
	for _, paragraph := range strings.Split(d.Detail, "\n") {
		p.wrap(clean(paragraph), "  ")
	}
}

// snippet shows the line the subject begins on, after the line that opens its
// block.
func (p *printer) snippet(d *hcl.Diagnostic, src []byte, style string) {
	line, start, ok := lineAt(src, d.Subject.Start.Byte)
	if !ok {
		return
	}
	digits := len(fmt.Sprint(d.Subject.Start.Line))
	if c := d.Context; c != nil && c.Filename == d.Subject.Filename && c.Start.Line < d.Subject.Start.Line {
		if opening, _, ok := lineAt(src, c.Start.Byte); ok {
			p.gutter(fmt.Sprintf("%*d", digits, c.Start.Line))
			p.out.WriteString(" " + p.cut(expand(opening), digits) + "\n")
		}
		if c.Start.Line+1 < d.Subject.Start.Line {
			p.gutter(strings.Repeat(".", digits))
			p.out.WriteByte('\n')
		}
	}
	from := d.Subject.Start.Byte - start
	to := min(max(d.Subject.End.Byte-start, from), len(line))
	before := columns(expand(line[:from]))
	marked := max(columns(expand(line[:to]))-before, 1)
	p.gutter(fmt.Sprintf("%*d", digits, d.Subject.Start.Line))
	shown, skipped := p.window(expand(line), before, digits)
	p.out.WriteString(" " + strings.TrimRight(shown, " ") + "\n")
	p.gutter(strings.Repeat(" ", digits))
	room := max(columns(shown)-(before-skipped), 1)
	p.out.WriteString(" " + strings.Repeat(" ", before-skipped))
	p.styled(style, strings.Repeat("^", min(marked, room)))
	p.out.WriteByte('\n')
}

func (p *printer) gutter(number string) { p.styled(styleGutter, "  "+number+" |") }

// window cuts a line that is wider than the terminal so that the column at is
// still seen; it returns how many columns fell away on the left.
func (p *printer) window(line string, at, digits int) (string, int) {
	skipped := 0
	if room := p.room(digits); room > 0 && at > room*2/3 && columns(line) > room {
		skipped = at - room/3
		for n := 0; n < skipped; {
			r, size := utf8.DecodeRuneInString(line)
			n += runeColumns(r)
			line = line[size:]
			skipped = max(skipped, n)
		}
		line = "…" + line
		skipped--
	}
	return p.cut(line, digits), skipped
}

func (p *printer) room(digits int) int {
	if p.width <= 0 {
		return 0
	}
	return max(p.width-digits-5, 20)
}

// cut shortens a line to the terminal's width.
func (p *printer) cut(line string, digits int) string {
	room := p.room(digits)
	if room == 0 || columns(line) <= room {
		return line
	}
	n := 0
	for i, r := range line {
		if n += runeColumns(r); n > room-1 {
			return line[:i] + "…"
		}
	}
	return line
}

// wrap writes text in lines that fit the terminal.
func (p *printer) wrap(text, indent string) {
	n := 0
	for _, word := range strings.Fields(text) {
		c := columns(word)
		switch {
		case n == 0:
			p.out.WriteString(indent)
			n = len(indent)
		case p.width > 0 && n+1+c > max(p.width, 20):
			p.out.WriteString("\n" + indent)
			n = len(indent)
		default:
			p.out.WriteByte(' ')
			n++
		}
		p.out.WriteString(word)
		n += c
	}
	if n > 0 {
		p.out.WriteByte('\n')
	}
}

// lineAt returns the line of src around a byte offset, without its end, and
// where it starts.
func lineAt(src []byte, offset int) (line []byte, start int, ok bool) {
	if offset < 0 || offset > len(src) {
		return nil, 0, false
	}
	start = bytes.LastIndexByte(src[:offset], '\n') + 1
	line = src[start:]
	if end := bytes.IndexByte(src[offset:], '\n'); end >= 0 {
		line = src[start : offset+end]
	}
	return bytes.TrimRight(line, "\r"), start, true
}

// expand makes a source line fit to print: tabs become spaces, invalid and
// control characters a replacement.
func expand(line []byte) string {
	return clean(strings.ReplaceAll(string(line), "\t", "    "))
}

func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

func columns(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
