package collect

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// Text says how [Text.Records] reads. The zero value reads NDJSON.
type Text struct {
	// CSV: the text is comma separated values with a header line.
	CSV bool
	// Columns are the types of CSV columns that are no strings: number or bool.
	Columns map[string]string
	// Payloads: every input is a payload, also one that looks like a record.
	Payloads bool
	// DeviceID is that of records whose input has none, and Now their time.
	DeviceID string
	Now      time.Time
}

// Records makes records of a whole text, as a file source without expressions
// of its own would, but for the id of an input that has none: that is its place,
// "line-7". The records share the bytes of data. The first input that cannot be
// read ends it with an error that names its line.
func (t Text) Records(data []byte) ([]record.Record, error) {
	line := 1
	m := &mapper{
		opts:  Options{DeviceID: t.DeviceID, Host: expr.Host{Now: func() time.Time { return t.Now }}},
		newID: func() string { return "line-" + strconv.Itoa(line) },
	}
	read := tail{mapper: m, format: ndjson{}}
	if t.CSV {
		for name, kind := range t.Columns {
			if kind != columnString && kind != columnNumber && kind != columnBool {
				return nil, fmt.Errorf("column %s has the type %q; there are: string, number, bool", name, kind)
			}
		}
		read.csv = &csvFormat{delimiter: ',', types: t.Columns}
		read.format = read.csv
	}
	var records []record.Record
	data = bytes.TrimPrefix(data, byteOrderMark)
	for len(data) > 0 {
		e := read.format.next(data, true)
		data = data[e.size:]
		if t.CSV && read.csv.header == nil {
			read.at.Line = int64(line - 1)
			if err := read.acceptHeader(e); err != nil {
				return nil, err
			}
		} else if len(e.raw) > 0 {
			r, err := read.one(e, t.Payloads)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			records = append(records, r)
		}
		line += e.lines
	}
	if t.CSV && read.csv.header == nil {
		return nil, errors.New("the header line is missing")
	}
	return records, nil
}

// one makes a record of an entry; with payload the input is its payload
// whatever it looks like.
func (t *tail) one(e entry, payload bool) (record.Record, error) {
	if e.err != nil || !payload || t.csv != nil {
		return t.record(e)
	}
	r := record.Record{Payload: trimSpace(e.raw)}
	if err := record.ValidObject(r.Payload); err != nil {
		return r, err
	}
	return r, t.mapper.complete(&r, expr.Value{})
}
