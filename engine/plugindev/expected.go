package plugindev

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edged/edged/engine/record"
)

// Expected is what should come out. Either every line is an outcome with an
// "action", one for each input, as [AppendExpected] writes it; or every line is a
// record, in the order in which they come out. Only what a line has is compared.
type Expected struct {
	lines    []expectedLine
	outcomes bool
	next     int
}

type expectedLine struct {
	number int
	json   []byte
}

// ParseExpected reads one JSON object a line.
func ParseExpected(data []byte) (*Expected, error) {
	e := &Expected{}
	n := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if err := record.ValidObject(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		values, names := members(line)
		outcome := values["action"] != nil
		if len(e.lines) > 0 && outcome != e.outcomes {
			return nil, fmt.Errorf(`line %d: some lines have an "action" and others have none`, n)
		}
		known := recordMembers
		if outcome {
			known = outcomeMembers
		}
		for _, name := range names {
			if !known[name] {
				return nil, fmt.Errorf("line %d: unknown member %q", n, name)
			}
		}
		e.outcomes = outcome
		e.lines = append(e.lines, expectedLine{n, line})
	}
	if len(e.lines) == 0 {
		return nil, errors.New("nothing is expected: there is no line")
	}
	return e, nil
}

var (
	recordMembers  = map[string]bool{"id": true, "device_id": true, "data_type": true, "timestamp": true, "payload": true}
	outcomeMembers = map[string]bool{"number": true, "id": true, "action": true, "records": true, "body": true, "code": true, "reason": true, "fault": true}
)

// AppendExpected appends an outcome as a line of an expectation.
func AppendExpected(dst []byte, o *Outcome) []byte {
	line := *o
	if o.Fault != nil {
		line.Fault = &Fault{Kind: o.Fault.Kind} // its text has numbers that change
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&line); err != nil {
		panic("plugindev: an outcome that is no JSON: " + err.Error())
	}
	return append(dst, buf.Bytes()...)
}

// Check compares an outcome with what is expected next and returns what
// differs: Before is what is expected, After what there is. Outcomes come in
// order.
func (e *Expected) Check(o *Outcome) []Change {
	if !e.outcomes {
		var changes []Change
		for i := range o.Out {
			got := o.Out[i].AppendJSON(nil)
			line, ok := e.take()
			if !ok {
				changes = append(changes, Change{"record", "", compact(got)})
				continue
			}
			changes = append(changes, partly("", line.json, got)...)
		}
		return changes
	}
	line, ok := e.take()
	if !ok {
		return []Change{{"action", "", o.Action}}
	}
	return o.differs(line.json)
}

func (e *Expected) take() (expectedLine, bool) {
	if e.next == len(e.lines) {
		return expectedLine{}, false
	}
	e.next++
	return e.lines[e.next-1], true
}

// Missing returns the lines that nothing came for, with their numbers.
func (e *Expected) Missing() []Change {
	var missing []Change
	for _, line := range e.lines[e.next:] {
		missing = append(missing, Change{fmt.Sprintf("line %d", line.number), compact(line.json), ""})
	}
	return missing
}

func (o *Outcome) differs(want []byte) []Change {
	got := AppendExpected(nil, o)
	changes := []Change{}
	values, names := members(want)
	all, _ := members(got)
	for _, name := range names {
		switch name {
		case "number":
		case "fault":
			changes = append(changes, partly("fault", values[name], all[name])...)
		case "records":
			changes = append(changes, recordsDiffer(values[name], o)...)
		case "body":
			changes = append(changes, Compare("body", values[name], o.Body)...)
		default:
			if value := all[name]; value != nil || string(values[name]) != "0" && string(values[name]) != `""` {
				changes = append(changes, Compare(name, values[name], value)...)
			}
		}
	}
	if values["fault"] == nil && o.Fault != nil {
		changes = append(changes, Change{"fault", "", o.Fault.Error})
	}
	return changes
}

func recordsDiffer(want []byte, o *Outcome) []Change {
	var list []json.RawMessage
	if err := json.Unmarshal(want, &list); err != nil {
		return []Change{{"records", compact(want), "a list is expected here"}}
	}
	var changes []Change
	for i := range max(len(list), len(o.Records)) {
		path := fmt.Sprintf("records.%d", i)
		switch {
		case i >= len(list):
			changes = append(changes, Change{path, "", compact(o.Records[i])})
		case i >= len(o.Records):
			changes = append(changes, Change{path, compact(list[i]), ""})
		default:
			changes = append(changes, partly(path, list[i], o.Records[i])...)
		}
	}
	return changes
}

// partly compares the members that want has.
func partly(path string, want, got []byte) []Change {
	if !isObject(want) || !isObject(got) {
		return Compare(path, want, got)
	}
	var changes []Change
	values, names := members(want)
	have, _ := members(got)
	for _, name := range names {
		changes = append(changes, Compare(member(path, name), values[name], have[name])...)
	}
	return changes
}
