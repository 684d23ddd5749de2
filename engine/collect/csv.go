package collect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/edged/edged/engine/record"
)

// The types a CSV column may be declared with.
const (
	columnString = "string"
	columnNumber = "number"
	columnBool   = "bool"
)

var columnTypes = []string{columnString, columnNumber, columnBool}

// csvFormat reads comma separated values by RFC 4180, with any delimiter and
// either line end. It is its own and not encoding/csv because it must know the
// exact bytes and lines of an entry, go on behind a broken one, and wait in the
// middle of one.
type csvFormat struct {
	delimiter byte
	// types holds the declared columns by name.
	types map[string]string
	// header holds the column names; nil until the header line was read.
	header  []string
	columns []csvColumn
	// fields are those of the last entry, unquoted; they alias it or scratch.
	fields  [][]byte
	scratch []byte
}

type csvColumn struct {
	name string // as a JSON member: `"name":`
	kind string
}

var _ format = (*csvFormat)(nil)

// setHeader takes the column names.
func (c *csvFormat) setHeader(names []string) error {
	columns := make([]csvColumn, len(names))
	at := make(map[string]int, len(names))
	for i, name := range names {
		if name == "" {
			// Tables written with an index column have no name for it.
			name = "column_" + strconv.Itoa(i+1)
		}
		if first, twice := at[name]; twice {
			return fmt.Errorf("columns %d and %d of the header are both named %q; rename one of them", first+1, i+1, name)
		}
		at[name] = i
		kind := c.types[name]
		if kind == "" {
			kind = columnString
		}
		columns[i] = csvColumn{name: string(append(record.AppendString(nil, name), ':')), kind: kind}
	}
	for _, name := range slices.Sorted(maps.Keys(c.types)) {
		if _, known := at[name]; !known {
			return fmt.Errorf("the argument columns names %q, but the header has %s; correct the name or the file", name, strings.Join(names, ", "))
		}
	}
	c.header, c.columns = names, columns
	return nil
}

var (
	errQuoteOpen  = errors.New("a quoted field is not closed")
	errQuoteAfter = errors.New("text follows a quoted field; quotes inside it must be doubled")
	errBareQuote  = errors.New("a quote stands inside a field that does not begin with one; quote the field and double the quote")
	errUTF8       = errors.New("the line is not valid UTF-8")
)

// next finds one entry. When quotes are not closed, or closed in the middle of
// a field, only the first line is the broken entry: a lost quote must not
// swallow the lines behind it.
func (c *csvFormat) next(data []byte, atEnd bool) entry {
	c.fields, c.scratch = c.fields[:0], c.scratch[:0]
	for i, lines := 0, 0; ; {
		if i < len(data) && data[i] == '"' {
			field, after, crossed, err := c.quoted(data, i, atEnd)
			if err != nil {
				e := lineEntry(data, atEnd)
				e.err = err
				return e
			}
			if after < 0 {
				return entry{}
			}
			c.fields = append(c.fields, field)
			i, lines = after, lines+crossed
		} else {
			n := c.bare(data[i:])
			if i+n == len(data) && !atEnd {
				return entry{}
			}
			field := data[i : i+n]
			if i+n == len(data) || data[i+n] == '\n' {
				field = trimCR(field)
			}
			if bytes.IndexByte(field, '"') >= 0 {
				e := lineEntry(data, atEnd)
				e.err = errBareQuote
				return e
			}
			c.fields = append(c.fields, field)
			i += n
		}
		if i < len(data) && data[i] == c.delimiter {
			i++
			continue
		}
		return c.finish(data, i, lines)
	}
}

// finish closes the entry whose last field ends at i.
func (c *csvFormat) finish(data []byte, i, lines int) entry {
	e := entry{size: i, lines: lines, raw: trimCR(data[:i])}
	if i < len(data) && data[i] == '\r' {
		i++
	}
	if i < len(data) && data[i] == '\n' {
		i, e.lines = i+1, lines+1
	}
	e.size = i
	if len(c.fields) == 1 && len(c.fields[0]) == 0 && len(e.raw) == 0 {
		return e
	}
	if !utf8.Valid(e.raw) {
		e.err = errUTF8
	}
	return e
}

// bare returns the length of the field that begins data without a quote.
func (c *csvFormat) bare(data []byte) int {
	for i, b := range data {
		if b == c.delimiter || b == '\n' {
			return i
		}
	}
	return len(data)
}

// quoted reads the field whose opening quote stands at data[i]. It returns the
// position of the delimiter or line end behind it, -1 when more data is needed,
// and the line ends inside.
func (c *csvFormat) quoted(data []byte, i int, atEnd bool) (field []byte, after, lines int, err error) {
	i++
	start, doubled := i, false
	for {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 || i+n+1 == len(data) && !atEnd {
			// A quote at the end of what is known may be the first of two.
			if atEnd {
				return nil, 0, 0, errQuoteOpen
			}
			return nil, -1, 0, nil
		}
		i += n + 1
		if i < len(data) && data[i] == '"' {
			i, doubled = i+1, true
			continue
		}
		break
	}
	field = data[start : i-1]
	lines = bytes.Count(field, []byte{'\n'})
	switch rest := data[i:]; {
	case len(rest) == 0, rest[0] == c.delimiter, rest[0] == '\n':
	case rest[0] == '\r' && len(rest) == 1 && !atEnd:
		return nil, -1, 0, nil
	case rest[0] == '\r' && (len(rest) == 1 || rest[1] == '\n'):
	default:
		return nil, 0, 0, errQuoteAfter
	}
	if doubled {
		from := len(c.scratch)
		for {
			n := bytes.IndexByte(field, '"')
			if n < 0 {
				break
			}
			c.scratch = append(c.scratch, field[:n+1]...)
			field = field[n+2:]
		}
		c.scratch = append(c.scratch, field...)
		field = c.scratch[from:len(c.scratch):len(c.scratch)]
	}
	return field, i, lines, nil
}

// appendInput appends the entry that next returned last as one JSON object, in
// the header's order.
func (c *csvFormat) appendInput(dst []byte) ([]byte, error) {
	if len(c.fields) != len(c.columns) {
		return dst, fmt.Errorf("the line has %d fields, the header has %d", len(c.fields), len(c.columns))
	}
	separator := byte('{')
	for i := range c.columns {
		column := &c.columns[i]
		dst = append(append(dst, separator), column.name...)
		var err error
		if dst, err = appendField(dst, column.kind, c.fields[i]); err != nil {
			return dst, fmt.Errorf("column %s %w", strings.TrimSuffix(column.name, ":"), err)
		}
		separator = ','
	}
	return append(dst, '}'), nil
}

func appendField(dst []byte, kind string, field []byte) ([]byte, error) {
	if kind == columnString {
		return appendBytes(dst, field), nil
	}
	field = bytes.TrimSpace(field)
	if len(field) == 0 {
		return append(dst, "null"...), nil
	}
	if kind == columnBool {
		switch strings.ToLower(string(field)) {
		case "true", "1":
			return append(dst, "true"...), nil
		case "false", "0":
			return append(dst, "false"...), nil
		}
		return dst, fmt.Errorf("has %q, which is neither true, false, 1 nor 0", field)
	}
	if field[0] == '-' || field[0] >= '0' && field[0] <= '9' {
		if end, err := record.SkipValue(field, 0); err == nil && end == len(field) {
			return append(dst, field...), nil
		}
	}
	// What is a number to people but not to JSON: +5, .5, 5., 007.
	for _, b := range field {
		if (b < '0' || b > '9') && b != '.' && b != '-' && b != '+' && b != 'e' && b != 'E' {
			return dst, fmt.Errorf("has %q, which is not a number", field)
		}
	}
	f, err := strconv.ParseFloat(string(field), 64)
	if err != nil {
		return dst, fmt.Errorf("has %q, which is not a number", field)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64), nil
}

// appendBytes is record.AppendString for valid UTF-8 that is not a string yet;
// most fields need no escape and are copied at once.
func appendBytes(dst, field []byte) []byte {
	for _, c := range field {
		if c < 0x20 || c == '"' || c == '\\' {
			return record.AppendString(dst, string(field))
		}
	}
	dst = append(dst, '"')
	dst = append(dst, field...)
	return append(dst, '"')
}
