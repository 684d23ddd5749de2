// Package meter rewrites WebAssembly modules so that they can be stopped.
//
// Every function entry and every loop header takes the static number of
// instructions that follow from a counter, the fuel; instructions that work on
// as many bytes as they are told take fuel by that size. When the fuel is below
// zero, the module calls the host, which answers with more or stops the guest.
// Since every way to run for long goes through a loop header, a call or such an
// instruction, no guest runs for longer than about [Slice] instructions without
// the host being asked (I8).
//
// The fuel lives in a mutable global that is added behind the module's own and
// exported to the host as [ExportName]; nothing in the module can name it. A module with an instruction that is not
// known here is refused, with its code and place: what is not understood
// cannot be metered.
package meter

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// The function that a rewritten module imports: it gets the fuel that is left,
// below zero, as an i64, and returns the fuel to go on with.
const (
	ImportModule = "edged_meter"
	ImportName   = "refill"
)

// ExportName is the fuel that is left, an i64: what a host sets it to before a
// call and finds after it is what the call took.
const ExportName = "edged_meter_fuel"

// Slice is the least fuel that the host should hand out at a time; more, while
// the guest's deadline is far.
const Slice = 50000

// MaxTable bounds the elements of a module's table, which lie on the host's
// heap.
const MaxTable = 64 << 10

// maxLocals bounds the locals of a function; every call clears them.
const maxLocals = 50000

// ErrInvalid is wrapped by every error of [Rewrite].
var ErrInvalid = errors.New("invalid module")

// Section ids.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	sectionKinds
)

// order is the sequence in which sections stand in a file.
var order = [...]byte{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData}

// module is what has to be known of a module to rewrite its code.
type module struct {
	sections [sectionKinds]reader
	present  [sectionKinds]bool
	out      []byte

	params    []uint64 // of every type
	functions []uint32 // type of every function that is not imported
	imported  uint32   // functions
	globals   uint32
	refill    uint32 // index of the imported function
	fuel      uint32 // index of the global
}

// Rewrite returns a copy of code that meters itself. Custom sections are left
// out. It does not validate the module beyond what it has to understand: the
// compiler does that with what comes out, and rewriting makes no invalid module
// valid.
func Rewrite(code []byte) (out []byte, err error) {
	defer func() {
		// The reader panics with a syntaxError; anything else is a bug here,
		// which must not take the host down.
		switch r := recover().(type) {
		case nil:
		case syntaxError:
			out, err = nil, fmt.Errorf("%w: %s at byte %d", ErrInvalid, r.what, r.at)
		default:
			out, err = nil, fmt.Errorf("%w: the rewriter failed: %v", ErrInvalid, r)
		}
	}()
	m := &module{}
	m.split(code)
	m.out = append(make([]byte, 0, len(code)+len(code)/2+64), code[:8]...)
	for _, id := range order {
		if rewrite := m.rewriter(id); rewrite != nil {
			s := m.sections[id]
			section(&m.out, id, func(dst []byte) []byte { return rewrite(&s, dst) })
			s.finished()
		} else if m.present[id] {
			section(&m.out, id, func(dst []byte) []byte { return append(dst, m.sections[id].rest()...) })
		}
	}
	return m.out, nil
}

// split finds the sections and checks that each comes once, in order.
func (m *module) split(code []byte) {
	r := &reader{data: code}
	if string(r.bytes(8)) != "\x00asm\x01\x00\x00\x00" {
		r.fail(0, "it does not begin like a WebAssembly module of version 1")
	}
	for id := range m.sections {
		m.sections[id].data = []byte{0} // a section that is not there has no items
	}
	place := 0
	for r.at < len(r.data) {
		at := r.at
		id := r.byte()
		body := r.sub(int(r.u32()))
		if id == secCustom {
			if !utf8.ValidString(body.name()) {
				r.fail(at, "a custom section whose name is not valid UTF-8")
			}
			continue
		}
		for place < len(order) && order[place] != id {
			place++
		}
		if place == len(order) {
			r.fail(at, fmt.Sprintf("section %d is unknown, repeated or out of order", id))
		}
		place++
		m.sections[id], m.present[id] = body, true
	}
}

// rewriter returns what makes a section anew; nil: it is copied. The sections
// for the import and the global are made even where there are none, and so are the exports.
func (m *module) rewriter(id byte) func(r *reader, dst []byte) []byte {
	switch id {
	case secType:
		return m.types
	case secImport:
		return m.imports
	case secGlobal:
		return m.globalSection
	case secExport:
		return m.exports
	}
	if !m.present[id] {
		return nil
	}
	switch id {
	case secFunction:
		return m.functionSection
	case secTable:
		return m.tables
	case secStart:
		return func(r *reader, dst []byte) []byte { return appendU32(dst, m.function(r.u32())) }
	case secElement:
		return m.elements
	case secCode:
		return m.codeSection
	case secMemory:
		return m.memories
	case secData:
		return m.data
	}
	return nil
}

func (m *module) types(r *reader, dst []byte) []byte {
	n := r.u32()
	start := r.at
	for range n {
		at := r.at
		if r.byte() != 0x60 {
			r.fail(at, "a type that is no function type")
		}
		params := r.u32()
		r.bytes(int(params))
		r.bytes(int(r.u32()))
		m.params = append(m.params, uint64(params))
	}
	dst = appendU32(dst, n+1)
	dst = append(dst, r.data[start:r.at]...)
	return append(dst, 0x60, 1, typeI64, 1, typeI64) // (i64) -> i64
}

func (m *module) imports(r *reader, dst []byte) []byte {
	n := r.u32()
	start := r.at
	for range n {
		at := r.at
		from, name := r.name(), r.name()
		if from == ImportModule {
			r.fail(at, fmt.Sprintf("it imports %s.%s, which is the host's own", from, name))
		}
		if kind := r.byte(); kind != 0 {
			what := [...]string{"", "table", "memory", "global"}
			if int(kind) >= len(what) {
				r.fail(at, fmt.Sprintf("it imports %s.%s of the unknown kind %d", from, name, kind))
			}
			r.fail(at, fmt.Sprintf("it imports the %s %s.%s; a plugin imports functions only", what[kind], from, name))
		}
		m.typeIndex(r)
		m.imported++
	}
	m.refill = m.imported
	dst = appendU32(dst, n+1)
	dst = append(dst, r.data[start:r.at]...)
	dst = appendName(dst, ImportModule)
	dst = appendName(dst, ImportName)
	dst = append(dst, 0)
	return appendU32(dst, uint32(len(m.params)))
}

func (m *module) typeIndex(r *reader) uint32 {
	at := r.at
	t := r.u32()
	if int(t) >= len(m.params) {
		r.fail(at, fmt.Sprintf("type %d of %d", t, len(m.params)))
	}
	return t
}

func (m *module) functionSection(r *reader, dst []byte) []byte {
	for range r.u32() {
		m.functions = append(m.functions, m.typeIndex(r))
	}
	return append(dst, r.data[:r.at]...)
}

// function returns the new index of a function: the import moves those behind
// it by one.
func (m *module) function(index uint32) uint32 {
	if index >= m.refill {
		return index + 1
	}
	return index
}

// tables bounds every table, whatever it declares.
func (m *module) tables(r *reader, dst []byte) []byte {
	n := r.u32()
	dst = appendU32(dst, n)
	for range n {
		at := r.at
		kind, flags := r.byte(), r.byte()
		if flags > 1 {
			r.fail(at, fmt.Sprintf("a table with the limits %#x", flags))
		}
		low, high := r.u32(), uint32(MaxTable)
		if flags == 1 {
			high = min(r.u32(), high)
		}
		if low > MaxTable {
			r.fail(at, fmt.Sprintf("a table of %d elements, at most %d are allowed", low, MaxTable))
		}
		dst = append(dst, kind, 1)
		dst = appendU32(dst, low)
		dst = appendU32(dst, high)
	}
	return dst
}

// memories copies what it understands: the compiler makes room for as many
// items as a section announces, so no number may reach it unread.
func (m *module) memories(r *reader, dst []byte) []byte {
	at := r.at
	if n := r.u32(); n > 1 {
		r.fail(at, fmt.Sprintf("%d memories, at most 1 is allowed", n))
	} else if n == 1 {
		flags := r.byte()
		if flags > 1 {
			r.fail(at, fmt.Sprintf("a memory with the limits %#x", flags))
		}
		for range 1 + flags {
			r.u32()
		}
	}
	return append(dst, r.data[:r.at]...)
}

func (m *module) data(r *reader, dst []byte) []byte {
	n := r.u32()
	dst = appendU32(dst, n)
	for range n {
		at := r.at
		flags := r.u32()
		dst = appendU32(dst, flags)
		switch flags {
		case 0:
			dst = m.constant(r, dst)
		case 1:
		case 2:
			dst = m.constant(r, appendU32(dst, r.u32()))
		default:
			r.fail(at, fmt.Sprintf("a data segment of the unknown kind %d", flags))
		}
		size := r.u32()
		dst = append(appendU32(dst, size), r.bytes(int(size))...)
	}
	return dst
}

func (m *module) globalSection(r *reader, dst []byte) []byte {
	m.globals = r.u32()
	m.fuel = m.globals
	dst = appendU32(dst, m.globals+1)
	for range m.globals {
		dst = append(dst, r.bytes(2)...) // type and mutability
		dst = m.constant(r, dst)
	}
	return append(dst, typeI64, 1, opI64Const, 0, opEnd)
}

func (m *module) exports(r *reader, dst []byte) []byte {
	n := r.u32()
	dst = appendU32(dst, n+1)
	for range n {
		at := r.at
		name := r.name()
		if name == ExportName {
			r.fail(at, "it exports "+name+", which is the host's own")
		}
		dst = appendName(dst, name)
		at = r.at
		kind, index := r.byte(), r.u32()
		switch {
		case kind == 0:
			index = m.function(index)
		case kind == 3 && index >= m.globals:
			r.fail(at, fmt.Sprintf("global %d of %d", index, m.globals))
		}
		dst = append(dst, kind)
		dst = appendU32(dst, index)
	}
	dst = appendName(dst, ExportName)
	return appendU32(append(dst, 3), m.fuel)
}

func (m *module) elements(r *reader, dst []byte) []byte {
	n := r.u32()
	dst = appendU32(dst, n)
	for range n {
		at := r.at
		flags := r.u32()
		if flags > 7 {
			r.fail(at, fmt.Sprintf("an element segment of the unknown kind %d", flags))
		}
		dst = appendU32(dst, flags)
		if flags&1 == 0 { // active
			if flags&2 != 0 {
				dst = appendU32(dst, r.u32())
			}
			dst = m.constant(r, dst)
		}
		if flags&3 != 0 { // its element kind or type
			dst = append(dst, r.byte())
		}
		items := r.u32()
		dst = appendU32(dst, items)
		for range items {
			if flags&4 != 0 {
				dst = m.constant(r, dst)
			} else {
				dst = appendU32(dst, m.function(r.u32()))
			}
		}
	}
	return dst
}

// constant copies a constant expression.
func (m *module) constant(r *reader, dst []byte) []byte {
	for {
		start := r.at
		switch op := r.byte(); op {
		case opRefFunc:
			dst = appendU32(append(dst, op), m.function(r.u32()))
			continue
		case opGlobalGet:
			if r.u32() >= m.globals {
				r.fail(start, "a global that is not there")
			}
		case opEnd:
			return append(dst, op)
		default:
			r.immediates(op, start)
		}
		dst = append(dst, r.data[start:r.at]...)
	}
}

func (m *module) codeSection(r *reader, dst []byte) []byte {
	at := r.at
	n := r.u32()
	if int(n) != len(m.functions) {
		r.fail(at, fmt.Sprintf("%d functions have code, %d are declared", n, len(m.functions)))
	}
	dst = appendU32(dst, n)
	var buf []byte
	for _, typ := range m.functions {
		body := r.sub(int(r.u32()))
		f := function{module: m, body: &body, params: m.params[typ]}
		buf = f.rewrite(buf[:0])
		dst = appendU32(dst, uint32(len(buf)))
		dst = append(dst, buf...)
	}
	return dst
}
