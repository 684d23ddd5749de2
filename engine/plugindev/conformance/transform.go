package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

var transformChecks = []check{
	{group: "abi", name: "bytes it does not know, at the end of a frame", run: (*suite).unknownBytes, frames: true},
	{group: "abi", name: "reserved fields that are not zero", run: (*suite).reserved, frames: true},
	{group: "abi", name: "a call without records", run: (*suite).noRecords, frames: true},
	{group: "abi", name: "unusual records, one by one", run: (*suite).unusual},
	{group: "abi", name: "random records: each answered, none a fault", run: (*suite).random},
	{group: "abi", name: "full calls: 64 records, and 256 KiB", run: (*suite).full},
	{group: "limits", name: "the largest record, in the default memory", run: (*suite).largest},
	{group: "limits", name: "little memory: it refuses, traps, or answers as always", run: (*suite).littleMemory},
	{group: "limits", name: "what a record costs grows with its size, not faster", run: (*suite).growth},
	{group: "determinism", name: "fresh instances give the same answers, for the same fuel", run: (*suite).fresh},
	{group: "determinism", name: "an instance that was used before gives the same answers", run: (*suite).used},
	{group: "determinism", name: "however records are split into calls, the answers are the same", run: (*suite).splits},
	{group: "values", name: "numbers, text and members it does not know stay as they are", run: (*suite).preserves},
}

// guestTime is what guests are told.
var guestTime = epoch

// answer is what a guest made of one record, as a text that can be compared.
func answer(r *wasm.Result) string {
	if r.Fault != nil {
		return r.Fault.Error()
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %d %s", r.Action, r.Code, r.Reason)
	for i := range r.Records {
		fmt.Fprintf(&out, "\n%s", r.Records[i].AppendJSON(nil))
	}
	return out.String()
}

// reply is what came of one or more calls.
type reply struct {
	answers []string
	// changed are the payloads that came out, by record.
	changed [][]byte
	fuel    int64
	// fault is of the call as a whole, or of the first record that has one.
	fault *wasm.Fault
}

// newOutput returns room for results, with empty keys for a plugin that has some.
func (s *suite) newOutput() *wasm.Output {
	out := &wasm.Output{}
	if s.plugin.KeepsKeys() {
		out.KV = wasm.NewKV(int(s.plugin.Limits().KV))
	}
	return out
}

// call gives records to an instance in one call and adds to rep; edit changes
// the call before.
func (s *suite) call(p *wasm.Probe, out *wasm.Output, in []record.Record, edit func([]byte) []byte, rep *reply) error {
	call := wasm.EncodeTransform(in, guestTime)
	if edit != nil {
		call = edit(call)
	}
	err := p.Transform(s.ctx, in, call, guestTime, out)
	rep.fuel += p.Fuel()
	if err != nil {
		if rep.fault = faultOf(err); rep.fault == nil {
			return err
		}
		return nil
	}
	for i := range out.Results {
		r := &out.Results[i]
		if r.Fault != nil && rep.fault == nil {
			rep.fault = r.Fault
		}
		rep.answers = append(rep.answers, answer(r))
		var payload []byte
		if len(r.Records) > 0 {
			payload = slices.Clone(r.Records[0].Payload)
		}
		rep.changed = append(rep.changed, payload)
	}
	return nil
}

// once gives records to a fresh instance in one call.
func (s *suite) once(in []record.Record, edit func([]byte) []byte) (rep reply, err error) {
	err = s.with(func(p *wasm.Probe) error { return s.call(p, s.newOutput(), in, edit, &rep) })
	return rep, err
}

// rounds tries a property with random records, from few to many, and makes the
// input that breaks it smaller. wrong says what is wrong with an input.
func (s *suite) rounds(wrong func([]record.Record) (string, error)) (*finding, error) {
	for round := range s.opts.Rounds {
		in := s.gen.records(1 + round%12)
		what, err := wrong(in)
		if err != nil {
			return nil, err
		}
		if what == "" {
			continue
		}
		in = shrink(in, func(in []record.Record) bool {
			other, err := wrong(in)
			return err == nil && other != ""
		}, smallerRecords)
		if what, err = wrong(in); err != nil {
			return nil, err
		}
		return &finding{status: Fail, detail: what, records: in}, nil
	}
	return nil, nil
}

// differ says how answers differ; empty: they do not.
func differ(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("record %d: %s, and then %s", i+1, line(a[i]), line(b[i]))
		}
	}
	if len(a) != len(b) {
		return fmt.Sprintf("%d answers, and then %d", len(a), len(b))
	}
	return ""
}

// line is a text as one line of bounded length.
func line(text string) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// unusualPayloads are what the field may bring.
func unusualPayloads() []string {
	payloads := []string{
		"{}", "{ }", `{"":""}`, `{"a":{"b":{"c":{}}}}`, `{"deep":` + deep() + `}`,
		`{"\u0061":1,"a":2}`, `{"a":"` + strings.Repeat("é", 5000) + `"}`, "{\n\t\"a\" : [ 1 , 2 ]\r\n}",
		`{"` + strings.Repeat("n", 3000) + `":1}`,
	}
	for _, value := range precious {
		payloads = append(payloads, `{"a":`+value+`}`)
	}
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, `,"m%d":%d`, i, i)
	}
	return append(payloads, "{"+many.String()[1:]+"}")
}

func (s *suite) unusual() (*finding, error) {
	long := strings.Repeat("ü", record.MaxNameBytes/2)
	var records []record.Record
	for i, payload := range unusualPayloads() {
		records = append(records, record.Record{ID: fmt.Sprintf("r%d", i), DeviceID: "d", DataType: "t", Timestamp: epoch, Payload: []byte(payload)})
		for _, name := range s.gen.names[:min(len(s.gen.names), 8)] { // where the plugin looks
			if i < len(precious) {
				value := precious[i]
				records = append(records, record.Record{ID: "r", DeviceID: "d", DataType: "t", Timestamp: epoch, Payload: fmt.Appendf(nil, "{%s:%s}", record.AppendString(nil, name), value)})
			}
		}
	}
	for _, at := range []time.Time{time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Unix(0, 0)} {
		records = append(records, record.Record{ID: long, DeviceID: long, DataType: long, Timestamp: at, Payload: []byte(`{"a":1}`)})
	}
	faulty, err := s.firstFault(records)
	if err != nil || faulty < 0 {
		return noted("%d records", len(records)), err
	}
	in := shrink(records[faulty:faulty+1], func(in []record.Record) bool {
		rep, err := s.once(in, nil)
		return err == nil && rep.fault != nil
	}, smallerRecords)
	rep, err := s.once(in, nil)
	if rep.fault == nil {
		return &finding{status: Fail, detail: "a fault, which a fresh instance does not have", records: in}, err
	}
	return &finding{status: Fail, detail: rep.fault.Error(), records: in}, err
}

// firstFault gives records one by one to one instance and returns the first that
// is a fault; -1: none is.
func (s *suite) firstFault(records []record.Record) (int, error) {
	faulty := -1
	err := s.with(func(p *wasm.Probe) error {
		out := s.newOutput()
		for i := range records {
			var rep reply
			if err := s.call(p, out, records[i:i+1], nil, &rep); err != nil {
				return err
			}
			if rep.fault != nil {
				faulty = i
				return nil
			}
		}
		return nil
	})
	return faulty, err
}

func (s *suite) random() (*finding, error) {
	return s.rounds(func(in []record.Record) (string, error) {
		rep, err := s.once(in, nil)
		if err == nil && rep.fault != nil {
			return rep.fault.Error(), nil
		}
		return "", err
	})
}

func faultFinding(f *wasm.Fault, what string, in []record.Record) *finding {
	if f == nil {
		return nil
	}
	return &finding{status: Fail, detail: what + f.Error(), records: in}
}

func (s *suite) fresh() (*finding, error) {
	return s.rounds(func(in []record.Record) (string, error) {
		first, err := s.once(in, nil)
		if err != nil || first.fault != nil {
			return "", err
		}
		second, err := s.once(in, nil)
		if err != nil {
			return "", err
		}
		if what := differ(first.answers, second.answers); what != "" || second.fault != nil {
			return "two fresh instances answer differently: " + what, nil
		}
		if first.fuel != second.fuel {
			return fmt.Sprintf("the same records took %d and %d fuel on fresh instances", first.fuel, second.fuel), nil
		}
		return "", nil
	})
}

// used holds that what an instance did before changes nothing: the host throws
// instances away and starts others whenever it wants to.
func (s *suite) used() (*finding, error) {
	return s.rounds(func(in []record.Record) (string, error) {
		first, err := s.once(in, nil)
		if err != nil || first.fault != nil {
			return "", err
		}
		var again reply
		err = s.with(func(p *wasm.Probe) error {
			for range 2 {
				again = reply{}
				if err := s.call(p, s.newOutput(), in, nil, &again); err != nil || again.fault != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		if again.fault != nil {
			return "the same call to an instance that answered it before: " + again.fault.Error(), nil
		}
		if what := differ(first.answers, again.answers); what != "" {
			return "an instance remembers (what is to be kept belongs into kv): " + what, nil
		}
		return "", nil
	})
}

func (s *suite) splits() (*finding, error) {
	return s.rounds(func(in []record.Record) (string, error) {
		whole, err := s.once(in, nil)
		if err != nil || whole.fault != nil {
			return "", err
		}
		var parts reply
		err = s.with(func(p *wasm.Probe) error {
			out := s.newOutput()
			for i := range in {
				if err := s.call(p, out, in[i:i+1], nil, &parts); err != nil || parts.fault != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		if parts.fault != nil {
			return "one by one: " + parts.fault.Error(), nil
		}
		if what := differ(whole.answers, parts.answers); what != "" {
			return "in one call, and one by one: " + what, nil
		}
		return "", nil
	})
}

// unknownMember is one that no plugin can have a use for.
const unknownMember = "edged_verify_unknown"

// preserves gives values that a careless decoder changes, in a member that the
// plugin does not know. A transform may drop it; it should not alter it.
func (s *suite) preserves() (*finding, error) {
	seen := 0
	for _, value := range append(slices.Clone(precious), deep()) {
		base := s.gen.record(0)
		base.Payload = s.gen.plausible()
		if len(s.gen.samples) > 0 {
			base.Payload = s.gen.samples[s.gen.IntN(len(s.gen.samples))].Payload
		}
		base.Payload = join(append(split(base.Payload), item{`"` + unknownMember + `"`, value}))
		in := []record.Record{base}
		rep, err := s.once(in, nil)
		if err != nil {
			return nil, err
		}
		if rep.fault != nil || rep.changed[0] == nil {
			continue
		}
		got, there := memberOf(rep.changed[0], unknownMember)
		if !there {
			continue
		}
		if seen++; len(plugindev.Compare("", []byte(value), []byte(got))) > 0 {
			return &finding{status: Warn, detail: fmt.Sprintf("it made %s of %s in a member it does not know", line(got), line(value)), records: in}, nil
		}
	}
	if seen == 0 {
		return noted("nothing to see: it emits none of them"), nil
	}
	return nil, nil
}

func memberOf(object []byte, name string) (string, bool) {
	for _, it := range split(object) {
		if it.name == `"`+name+`"` {
			return it.value, true
		}
	}
	return "", false
}
