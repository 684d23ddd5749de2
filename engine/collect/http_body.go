package collect

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/edged/edged/engine/record"
)

// parseBody makes records of a request's body: of one JSON object or an array
// of them, or of one object a line. It takes all or none.
func parseBody(m *mapper, body []byte, lines bool, limit int) ([]record.Record, *answer) {
	p := bodyParser{mapper: m, body: body, limit: limit}
	var ok bool
	if lines {
		ok = p.lines()
	} else {
		ok = p.value()
	}
	if !ok {
		return nil, p.refused
	}
	return p.records, nil
}

type bodyParser struct {
	mapper  *mapper
	body    []byte
	limit   int
	records []record.Record
	refused *answer
}

// refuse says what is wrong with the record that begins at byte i.
func (p *bodyParser) refuse(i int, err error) bool {
	index, line := len(p.records), 1+bytes.Count(p.body[:i], []byte{'\n'})
	p.refused = &answer{
		status: http.StatusBadRequest, Index: &index, Line: &line,
		Error: validText(fmt.Sprintf("record %d (line %d): %s", index, line, err)),
	}
	return false
}

// add maps the record at body[i:end].
func (p *bodyParser) add(i, end int) bool {
	if len(p.records) >= p.limit {
		a := refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d records; send fewer at once", p.limit))
		p.refused = &a
		return false
	}
	r, err := p.mapper.apply(p.body[i:end:end])
	if err != nil {
		return p.refuse(i, err)
	}
	p.records = append(p.records, r)
	return true
}

func (p *bodyParser) lines() bool {
	for i := 0; i < len(p.body); {
		e := lineEntry(p.body[i:], true)
		if start := record.SkipSpace(e.raw, 0); start < len(e.raw) && !p.add(i+start, i+len(e.raw)) {
			return false
		}
		i += e.size
	}
	if len(p.records) == 0 {
		return p.refuse(len(p.body), errEmptyInput)
	}
	return true
}

func (p *bodyParser) value() bool {
	i := record.SkipSpace(p.body, 0)
	if i == len(p.body) {
		return p.refuse(i, errEmptyInput)
	}
	if p.body[i] != '[' {
		return p.add(i, len(p.body))
	}
	i = record.SkipSpace(p.body, i+1)
	if i < len(p.body) && p.body[i] == ']' {
		return p.nothingAfter(i + 1)
	}
	for {
		end, err := record.SkipValue(p.body, i)
		if err != nil {
			return p.refuse(i, err)
		}
		if !p.add(i, end) {
			return false
		}
		i = record.SkipSpace(p.body, end)
		switch {
		case i < len(p.body) && p.body[i] == ',':
			i = record.SkipSpace(p.body, i+1)
		case i < len(p.body) && p.body[i] == ']':
			return p.nothingAfter(i + 1)
		default:
			return p.refuse(i, fmt.Errorf("%w: a comma or closing bracket is missing at byte %d", record.ErrJSON, i))
		}
	}
}

func (p *bodyParser) nothingAfter(i int) bool {
	if i = record.SkipSpace(p.body, i); i < len(p.body) {
		return p.refuse(i, fmt.Errorf("%w: text after the value at byte %d", record.ErrJSON, i))
	}
	return true
}
