package wasm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edged/edged/engine/record"
)

// ExtismInput says what a module of the Extism ABI gets and gives back.
type ExtismInput string

// The inputs of a module of the Extism ABI.
const (
	// ExtismPayload: the function gets the record's payload, and what it returns
	// becomes the payload.
	ExtismPayload ExtismInput = "payload"
	// ExtismRecord: the function gets the record's wire form and returns one.
	ExtismRecord ExtismInput = "record"
)

// DefaultExtismFunction is what is called when [Extism.Function] is empty.
const DefaultExtismFunction = "transform"

// Extism says how a module that speaks the Extism ABI instead of ours is used
// as a transform. Such a module imports from "extism:host/env" and exports
// functions that take no parameters. See https://extism.org/docs/concepts/pdk;
// sdk/extism.md says what a module of this ABI can do here.
type Extism struct {
	// Function is the export that is called for every record.
	Function string
	// Input is ExtismPayload when empty.
	Input ExtismInput
}

// extismOf returns how a module of the Extism ABI is used; nil for one of ours.
func extismOf(m wazero.CompiledModule, given *Extism) (*Extism, error) {
	ours, theirs := m.ExportedFunctions()[exportMarker] != nil, false
	for _, def := range m.ImportedFunctions() {
		module, _, _ := def.Import()
		theirs = theirs || module == moduleExtism
	}
	if ours || !theirs {
		if given != nil {
			return nil, fmt.Errorf("it is told how to use the Extism ABI, which it does not speak: it imports nothing from %s", moduleExtism)
		}
		return nil, nil
	}
	e := Extism{Function: DefaultExtismFunction, Input: ExtismPayload}
	if given != nil {
		e.Function = cmp.Or(given.Function, e.Function)
		e.Input = cmp.Or(given.Input, e.Input)
	}
	return &e, nil
}

// checkExports checks what a module of the Extism ABI exports.
func (e *Extism) checkExports(m wazero.CompiledModule, limits Limits) error {
	if e.Input != ExtismPayload && e.Input != ExtismRecord {
		return fmt.Errorf("the Extism input is %q; it is %s or %s", e.Input, ExtismPayload, ExtismRecord)
	}
	def := m.ExportedFunctions()[e.Function]
	if def == nil {
		return fmt.Errorf("it speaks the Extism ABI and does not export %q; name the function that transforms a record", e.Function)
	}
	have := signature{def.ParamTypes(), def.ResultTypes()}
	if !have.equal(signature{results: []api.ValueType{i32}}) && !have.equal(signature{}) {
		return fmt.Errorf("it exports %s as %s, but a function of the Extism ABI is () -> (i32)", e.Function, have)
	}
	for _, mem := range m.ExportedMemories() {
		if need := int64(mem.Min()) * pageSize; need > limits.Memory {
			return fmt.Errorf("it needs at least %d bytes of memory, its limit is %d", need, limits.Memory)
		}
	}
	return nil
}

// extismConfig makes the texts of config_get out of an object: strings as they
// are, every other value as JSON.
func extismConfig(config json.RawMessage) (map[string][]byte, error) {
	values := map[string][]byte{}
	if config == nil {
		return values, nil
	}
	err := record.EachMember(config, func(key, value []byte) error {
		if value[0] == '"' {
			s, err := record.Unquote(value)
			values[string(key)] = []byte(s)
			return err
		}
		values[string(key)] = bytes.Clone(value)
		return nil
	})
	return values, err
}

// openExtism prepares an instance whose module speaks the Extism ABI.
func (inst *instance) openExtism() error {
	p := inst.plugin
	values, err := extismConfig(p.config)
	if err != nil {
		return fmt.Errorf("its config: %w", err)
	}
	inst.extism = &extismMemory{limit: uint64(p.limits.Memory), config: values}
	inst.transform = inst.mod.ExportedFunction(p.extism.Function)
	return nil
}

// serveExtism gives the next record of the exchange to a module of the Extism
// ABI and reads its answer as if it were an outbox of ours, so that both are
// held to the same rules.
func (r *run) serveExtism(ctx context.Context) error {
	inst, e := r.inst, r.plugin.extism
	src := &r.x.(*Output).in[len(r.x.(*Output).Results)]
	input := src.Payload
	if e.Input == ExtismRecord {
		input = src.AppendJSON(nil)
	}
	if !inst.extism.begin(input) {
		return faultf(FaultMemory, "its input of %d bytes does not fit its limit of %d bytes", len(input), inst.extism.limit)
	}
	result, err := inst.call(ctx, inst.transform)
	if err != nil {
		err = inst.blame(ctx, e.Function, err)
		if text := inst.extism.errorText(); text != "" {
			if f := asFault(err); f != nil {
				return faultf(f.Kind, "%w; it said: %s", f.Err, text)
			}
		}
		return err
	}
	var code int32
	if r.plugin.extismReturns {
		code = api.DecodeI32(result)
	}
	answer, err := inst.extismAnswer(code, src)
	if err != nil {
		return err
	}
	if fault := r.x.read(r, 1, answer); fault != nil {
		return fault
	}
	return nil
}

// extismAnswer turns what a function returned into out frames: an error for a
// code other than 0, a drop for no output, and a record for each object.
func (inst *instance) extismAnswer(code int32, src *record.Record) ([]byte, error) {
	m, e := inst.extism, inst.plugin.extism
	if code != 0 {
		reason := m.errorText()
		if reason == "" {
			reason = e.Function + " returned " + strconv.Itoa(int(code))
		}
		return appendOut(nil, &outFrame{action: actionError, code: uint16(min(max(code, 0), math.MaxUint16)), payload: []byte(reason)}), nil
	}
	output := m.output()
	if int64(len(output)) > inst.plugin.limits.Output {
		return nil, faultf(FaultOutput, "%s returned %d bytes, its limit is %d", e.Function, len(output), inst.plugin.limits.Output)
	}
	inst.charge(int64(len(output)) / perCopied)
	var frames []byte
	emit := func(object []byte) error {
		f := outFrame{action: actionEmit, changed: changedPayload, payload: object}
		if e.Input == ExtismRecord {
			made, err := record.Parse(object)
			if err != nil {
				return err
			}
			f = recordFrame(&made, src)
		}
		frames = appendOut(frames, &f)
		return nil
	}
	var err error
	switch at := record.SkipSpace(output, 0); {
	case at == len(output) || string(output[at:]) == "null":
	case output[at] == '[':
		err = record.EachElement(output, emit)
	default:
		err = emit(output)
	}
	if err != nil {
		return nil, faultf(FaultRecord, "what %s returned: %w", e.Function, err)
	}
	if frames == nil {
		frames = appendOut(nil, &outFrame{action: actionDrop, payload: []byte(e.Function + " returned nothing")})
	}
	return frames, nil
}

// recordFrame is the emit of a whole record.
func recordFrame(r, src *record.Record) outFrame {
	f := outFrame{action: actionEmit, changed: changedPayload, payload: r.Payload}
	change := func(to *[]byte, now, before string, bit uint32) {
		if now != before {
			*to, f.changed = []byte(now), f.changed|bit
		}
	}
	change(&f.id, r.ID, src.ID, changedID)
	change(&f.device, r.DeviceID, src.DeviceID, changedDevice)
	change(&f.typ, r.DataType, src.DataType, changedType)
	if ns, cut := saturatedNano(r.Timestamp); !cut && !r.Timestamp.Equal(src.Timestamp) {
		f.timestamp, f.changed = ns, f.changed|changedTimestamp
	}
	return f
}

// appendOut appends a frame that answers the first record of a call.
func appendOut(dst []byte, f *outFrame) []byte {
	le := binary.LittleEndian
	start := len(dst)
	size := pad8(outHeader + len(f.id) + len(f.device) + len(f.typ) + len(f.payload))
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint32(dst, f.src)
	dst = le.AppendUint16(dst, f.action)
	dst = le.AppendUint16(dst, f.code)
	dst = le.AppendUint32(dst, f.changed)
	for _, part := range [][]byte{f.id, f.device, f.typ} {
		dst = le.AppendUint16(dst, uint16(len(part)))
	}
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, 0) // meta_len
	dst = le.AppendUint32(dst, uint32(len(f.payload)))
	dst = le.AppendUint64(dst, uint64(f.timestamp))
	for _, part := range [][]byte{f.id, f.device, f.typ, f.payload} {
		dst = append(dst, part...)
	}
	return append(dst, make([]byte, start+size-len(dst))...)
}
