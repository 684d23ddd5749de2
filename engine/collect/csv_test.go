package collect

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged/edged/engine/record"
)

func TestCSVFiles(t *testing.T) {
	tests := []struct {
		name, text, args string
		want             []string
		rejected         []string // line, byte, and part of the error
		raw              []string
	}{
		{name: "empty file"},
		{name: "header alone", text: "a,b\n"},
		{name: "header without a line end", text: "a,b"},
		{name: "text", text: "a,b\n1,x\n,\n", want: []string{`{"a":"1","b":"x"}`, `{"a":"","b":""}`}},
		{name: "last line without an end", text: "a,b\n1,x", want: []string{`{"a":"1","b":"x"}`}},
		{name: "CRLF, blank lines and a byte order mark", text: "\xef\xbb\xbf\r\na,b\r\n\r\n1,\r\n\"2\",\"y\"\r\n", want: []string{`{"a":"1","b":""}`, `{"a":"2","b":"y"}`}},
		{name: "spaces in the header", text: " a , b\n1, x \n", want: []string{`{"a":"1","b":" x "}`}},
		{name: "no name in the header", text: ",b\n0,x\n", want: []string{`{"column_1":"0","b":"x"}`}},
		{
			name: "quotes", text: "a,b\n\"x,y\",\"say \"\"hi\"\"\"\n\"\",\"two\nlines\"\n\"\"\"\",z\n",
			want: []string{`{"a":"x,y","b":"say \"hi\""}`, `{"a":"","b":"two\nlines"}`, `{"a":"\"","b":"z"}`},
		},
		{name: "a name that JSON must escape", text: "\"a\"\"\",b\n1,\\\n", want: []string{`{"a\"":"1","b":"\\"}`}},
		{name: "a single column", text: "a\n1\n\n\"\"\n", want: []string{`{"a":"1"}`, `{"a":""}`}},
		{name: "header given", text: "1;2\n3;4\n", args: "header = [\"a\", \"b\"]\ndelimiter = \";\"", want: []string{`{"a":"1","b":"2"}`, `{"a":"3","b":"4"}`}},
		{name: "tabs", text: "a\tb\n1\tx,y\n", args: `delimiter = "\t"`, want: []string{`{"a":"1","b":"x,y"}`}},
		{
			name: "types", args: `columns = { a = "number", b = "bool" }`,
			text: "a,b,c\n1.50,true,1\n -2e3 ,0,2\n,,3\n+5,TRUE,4\n.5,1,5\n007,False,6\n",
			want: []string{
				`{"a":1.50,"b":true,"c":"1"}`, `{"a":-2e3,"b":false,"c":"2"}`, `{"a":null,"b":null,"c":"3"}`,
				`{"a":5,"b":true,"c":"4"}`, `{"a":0.5,"b":true,"c":"5"}`, `{"a":7,"b":false,"c":"6"}`,
			},
		},
		{
			name: "bad values", args: `columns = { a = "number", b = "bool" }`,
			text: "a,b\nNaN,1\n0x10,1\n1e+-9,1\n1_0,1\n1,yes\n1,1\n--,1\n",
			want: []string{`{"a":1,"b":true}`},
			rejected: []string{
				`2 4 column "a" has "NaN", which is not a number`, `3 10 not a number`, `4 17 not a number`, `5 25 not a number`,
				`6 31 column "b" has "yes"`, `8 41 not a number`,
			},
			raw: []string{"NaN,1", "0x10,1", "1e+-9,1", "1_0,1", "1,yes", "--,1"},
		},
		{
			name: "bad lines", text: "a,b\n1\n1,2,3\r\n\xff,2\nx\"y,2\n\"x\"y,2\n1,2\n", want: []string{`{"a":"1","b":"2"}`},
			rejected: []string{"2 4 has 1 fields, the header has 2", "3 6 has 3 fields", "4 13 not valid UTF-8", "5 17 quote stands inside", "6 23 text follows a quoted field"},
			raw:      []string{"1", "1,2,3", "\xff,2", "x\"y,2", "\"x\"y,2"},
		},
		{
			name: "a lost quote does not swallow the lines behind it", text: "a,b\n\"1,2\n3,4\n5,6\n", want: []string{`{"a":"3","b":"4"}`, `{"a":"5","b":"6"}`},
			rejected: []string{"2 4 not closed"}, raw: []string{"\"1,2"},
		},
		{
			name: "a lost quote meets another quote", text: "a,b\n\"1,2\n3,\"4\"\n5,6\n", want: []string{`{"a":"3","b":"4"}`, `{"a":"5","b":"6"}`},
			rejected: []string{"2 4 text follows a quoted field"}, raw: []string{"\"1,2"},
		},
		{
			name: "a lost quote far from the end", text: "a,b\n\"1,2\n" + strings.Repeat("3,4\n", 600), args: `max_line = "1KiB"`, want: repeated(`{"a":"3","b":"4"}`, 600),
			rejected: []string{"2 4 not closed within max_line"}, raw: []string{"\"1,2"},
		},
		{
			name: "a long row", text: "a,b\n" + strings.Repeat("x", 1100) + ",2\n3,4\n", args: `max_line = "1KiB"`, want: []string{`{"a":"3","b":"4"}`},
			rejected: []string{"2 4 longer than max_line"}, raw: []string{strings.Repeat("x", 1100) + ",2"},
		},
		{
			name: "a long row of many lines", text: "a,b\n\"" + strings.Repeat("x\n", 1000) + "\",2\n3,4\n", args: `max_line = "4KiB"`,
			want: []string{`{"a":"` + strings.Repeat(`x\n`, 1000) + `","b":"2"}`, `{"a":"3","b":"4"}`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sink := sample(t, test.text, "format = \"csv\"\n"+test.args)
			diff(t, "payloads", test.want, sink.payloads())
			checkRejected(t, sink, test.rejected, test.raw)
		})
	}
}

func repeated(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func TestBadHeaders(t *testing.T) {
	for text, want := range map[string]string{
		"a,a\n1,2\n":   `columns 1 and 2 of the header are both named "a"`,
		"a,\"b\n1,2\n": "a quoted field is not closed",
		"a,b\n1,2\n":   `names "c", but the header has a, b`,
		"\xff,c\n":     "not valid UTF-8",
	} {
		path := filepath.Join(t.TempDir(), "in.csv")
		write(t, path, text)
		var sink memorySink
		err := openedFile(t, newStepClock(), "path = %q\nformat = \"csv\"\ncolumns = { c = \"number\" }", path).Run(t.Context(), nil, &sink)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || len(sink.all()) > 0 {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestFollowCSV(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.csv")
	write(t, path, "a")
	f := follow(t, path, `format = "csv"`)
	f.step()
	appendTo(t, path, ",b\n1,\"x")
	f.wake()
	f.step()
	appendTo(t, path, "\ny\"")
	f.wake()
	f.step() // the quote may be the first of two
	appendTo(t, path, "\"z\"\r")
	f.wake()
	f.step() // the line may not be over
	appendTo(t, path, "\n2,y\n")
	f.wake()
	f.step(`{"a":"1","b":"x\ny\"z"}`, `{"a":"2","b":"y"}`)

	// The next file has its own header.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "b,a\n1,2\n")
	f.wake()
	f.step(`{"b":"1","a":"2"}`)
}

// entries takes a whole text apart, offering it in pieces of that size.
func entries(f format, text []byte, piece int) []entry {
	var all []entry
	for known := min(piece, len(text)); len(text) > 0; {
		atEnd := known == len(text)
		e := f.next(text[:known], atEnd)
		if e.size == 0 {
			if atEnd {
				return append(all, entry{err: errors.New("no progress at the end")})
			}
			known = min(known+piece, len(text))
			continue
		}
		if e.size > known || e.size < len(e.raw) || !bytes.HasPrefix(text, e.raw) {
			return append(all, entry{err: errors.New("an entry that is not in the text")})
		}
		if n := bytes.Count(text[:e.size], []byte{'\n'}); n != e.lines {
			return append(all, entry{err: errors.New("wrong number of lines")})
		}
		if c, ok := f.(*csvFormat); ok && e.err == nil {
			// What the fields are must not depend on the pieces either.
			e.raw = append(bytes.Join(c.fields, []byte{0}), e.raw...)
		}
		all = append(all, e)
		text, known = text[e.size:], max(known-e.size, min(piece, len(text)-e.size))
	}
	return all
}

// Every byte is in exactly one entry, and where the text is cut when it is read
// makes no difference.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "a,b\n1,2\n", "a\r\n\r\nb", "\"a\"\"b\",\"c\nd\"\r\n", "\"open\nline\n", "\"x\"y\n1\n", "x\"y\n", "\"a\"\r", "\"a\"\rb\n", "\"\"\"", "\xff\n", ",", "\"", "a,\"\n\",b",
		"{\"n\":1}\n{\"n\"",
	} {
		f.Add([]byte(seed), 3, byte(','))
	}
	f.Fuzz(func(t *testing.T, text []byte, piece int, delimiter byte) {
		if piece < 1 || delimiter >= 0x80 || delimiter == '"' || delimiter == '\n' || delimiter == '\r' {
			return
		}
		for _, format := range []format{ndjson{}, &csvFormat{delimiter: delimiter}} {
			whole, pieces := entries(format, text, max(1, len(text))), entries(format, text, piece)
			size := 0
			for i, e := range whole {
				size += e.size
				if i >= len(pieces) || !sameEntry(e, pieces[i]) {
					t.Fatalf("%T: entry %d is %+v, in pieces %+v", format, i, e, pieces)
				}
			}
			if size != len(text) || len(pieces) != len(whole) {
				t.Fatalf("%T: %d of %d bytes, %d entries, in pieces %d: %+v", format, size, len(text), len(whole), len(pieces), whole)
			}
		}
	})
}

func sameEntry(a, b entry) bool {
	return a.size == b.size && a.lines == b.lines && bytes.Equal(a.raw, b.raw) && errors.Is(b.err, a.err)
}

// Where encoding/csv reads a text without error, so do we, and the same; and a
// row always gives JSON.
func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "\"a\"\"b\",\"c\nd\"\r\n,\n", "x\n\ny", "\"\"\n", "é,\u2028\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &csvFormat{delimiter: ','}
		var rows [][]string
		for rest := text; len(rest) > 0; {
			e := c.next(rest, true)
			if e.err != nil {
				return
			}
			if len(e.raw) > 0 {
				var row []string
				for _, field := range c.fields {
					row = append(row, string(field))
				}
				rows = append(rows, row)
				checkRow(t, c, row)
			}
			rest = rest[e.size:]
		}
		reader := csv.NewReader(bytes.NewReader(text))
		reader.FieldsPerRecord = -1
		for i := 0; ; i++ {
			want, err := reader.Read()
			if errors.Is(err, io.EOF) {
				if i != len(rows) {
					t.Fatalf("%d rows %q, want %d", len(rows), rows, i)
				}
				return
			}
			// encoding/csv turns CRLF inside quotes into LF; we keep the bytes.
			if err != nil || bytes.Contains(text, []byte("\r")) {
				return
			}
			if i >= len(rows) || strings.Join(rows[i], "\x00") != strings.Join(want, "\x00") {
				t.Fatalf("row %d is not %q: %q", i, want, rows)
			}
		}
	})
}

func checkRow(t *testing.T, c *csvFormat, row []string) {
	t.Helper()
	names := make([]string, len(row))
	columns := &csvFormat{fields: c.fields}
	if err := columns.setHeader(names); err != nil {
		t.Fatal(err)
	}
	object, err := columns.appendInput(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := record.ValidObject(object); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	var back map[string]string
	if err := json.Unmarshal(object, &back); err != nil || len(back) != len(row) || back["column_1"] != row[0] {
		t.Fatalf("%s: %v, want %q", object, err, row)
	}
}
