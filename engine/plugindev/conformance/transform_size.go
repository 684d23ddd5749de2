// This file is the checks of what large records need: memory, and fuel.

package conformance

import (
	"fmt"
	"strings"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

func (s *suite) full() (*finding, error) {
	in := s.gen.records(64)
	rep, err := s.once(in, nil)
	if err != nil || rep.fault != nil {
		return faultFinding(rep.fault, "64 records: ", nil), err
	}
	for i := range in[:60] {
		in[i].Payload = fmt.Appendf(nil, `{"text":"%s","n":%d}`, strings.Repeat("x", 4200), i)
	}
	rep, err = s.once(in[:60], nil)
	return faultFinding(rep.fault, "60 records of 4 KiB: ", nil), err
}

// sized returns a record whose payload has members of text up to that many
// bytes.
func sized(bytes int) record.Record {
	var payload strings.Builder
	payload.WriteString(`{"first":1`)
	for i := 0; payload.Len()+1100 < bytes; i++ {
		fmt.Fprintf(&payload, `,"m%d":"%s"`, i, strings.Repeat("y", 1000))
	}
	if rest := bytes - payload.Len() - len(`,"last":""}`); rest > 0 {
		fmt.Fprintf(&payload, `,"last":"%s"`, strings.Repeat("z", rest))
	}
	payload.WriteString("}")
	return record.Record{ID: "large", DeviceID: "d", DataType: "t", Timestamp: epoch, Payload: []byte(payload.String())}
}

func (s *suite) largest() (*finding, error) {
	rep, err := s.once([]record.Record{s.large(record.MaxPayloadBytes - 4096)}, nil)
	switch {
	case err != nil || rep.fault == nil:
		return nil, err
	case rep.fault.Kind == wasm.FaultRecord:
		return warned("it makes a record that is too large of a large one: %s", rep.fault.Err), nil
	}
	return warned("a record of %d bytes, which is valid: %s; it would go to the dead letters", record.MaxPayloadBytes-4096, rep.fault), nil
}

// littleMemory starts the module with hardly more memory than it begins with and
// gives it larger and larger records. It may refuse them and it may trap; what it
// answers has to be what it answers with memory to spare.
func (s *suite) littleMemory() (*finding, error) {
	var started int64
	if err := s.with(func(p *wasm.Probe) error { started = int64(p.Memory()); return nil }); err != nil {
		return nil, err
	}
	m := *s.opts.Module
	m.Limits.Memory = started + 64<<10
	found := noted("%d KiB are enough", m.Limits.Memory>>10)
	err := s.load(&m, func(p *wasm.Plugin) error {
		small := *s
		small.plugin = p
		for size := 1 << 10; size <= record.MaxPayloadBytes; size *= 2 {
			in := []record.Record{s.large(size)}
			rep, err := small.once(in, nil)
			if err != nil {
				return err
			}
			if f := rep.fault; f != nil && (f.Kind == wasm.FaultMemory || f.Kind == wasm.FaultTrap) {
				found = noted("%s at a record of %d KiB, in %d KiB", f.Kind, size>>10, m.Limits.Memory>>10)
				return nil
			}
			whole, err := s.once(in, nil)
			if err != nil {
				return err
			}
			if what := differ(whole.answers, rep.answers); what != "" {
				found = failed("a record of %d KiB, with memory to spare and in %d KiB: %s", size>>10, m.Limits.Memory>>10, what)
				return nil
			}
		}
		return nil
	})
	if f := faultOf(err); f != nil {
		return noted("it does not start with only 64 KiB to spare: %s", f.Kind), nil
	}
	return found, err
}

// large is a record of that size which has what the plugin may look at.
func (s *suite) large(bytes int) record.Record {
	plausible := s.gen.plausible()
	r := sized(max(bytes-len(plausible), 64))
	r.Payload = join(append(split(plausible), split(r.Payload)...))
	return r
}

// growth compares the fuel for records of 10 and 100 KiB.
func (s *suite) growth() (*finding, error) {
	var fuel [2]int64
	for i, size := range []int{10 << 10, 100 << 10} {
		rep, err := s.once([]record.Record{s.large(size)}, nil)
		if err != nil || rep.fault != nil {
			return nil, err // another check's
		}
		fuel[i] = rep.fuel
	}
	if ratio := float64(fuel[1]) / float64(max(fuel[0], 1)); ratio > 25 {
		return warned("ten times the bytes take %.0f times the fuel", ratio), nil
	}
	return noted("%.1f fuel a byte", float64(fuel[1])/(100<<10)), nil
}
