package meter

import (
	"fmt"
	"strings"
)

// Contents lists what a module declares.
type Contents struct {
	Imports []Item
	Exports []Item
	// MemoryMin and MemoryMax are the pages of 64 KiB that its memory begins
	// with and may grow to; a MemoryMax of -1: it names no bound. Both are -1
	// when it has no memory.
	MemoryMin, MemoryMax int64
	// Functions counts those it defines; CodeBytes and DataBytes are what code
	// and data take of the file.
	Functions            int
	CodeBytes, DataBytes int
	// Producers says which compilers made it, when it tells.
	Producers []string
}

// Item is one import or export.
type Item struct {
	Module string // of an import
	Name   string
	Kind   string // func, table, memory or global
	// Type is a function's, like "(i32, i32) -> (i64)"; else empty.
	Type string
}

var itemKinds = [...]string{"func", "table", "memory", "global"}

// List reads what a module declares, without judging it: also of a module that
// [Rewrite] would refuse. With an error it returns what stands before the
// mistake.
func List(code []byte) (c Contents, err error) {
	c.MemoryMin, c.MemoryMax = -1, -1
	defer func() {
		switch r := recover().(type) {
		case nil:
		case syntaxError:
			err = fmt.Errorf("%w: %s at byte %d", ErrInvalid, r.what, r.at)
		default:
			err = fmt.Errorf("%w: it cannot be read: %v", ErrInvalid, r)
		}
	}()
	l := lister{Contents: &c}
	r := &reader{data: code}
	if string(r.bytes(8)) != "\x00asm\x01\x00\x00\x00" {
		r.fail(0, "it does not begin like a WebAssembly module of version 1")
	}
	for r.at < len(r.data) {
		id := r.byte()
		body := r.sub(int(r.u32()))
		l.section(id, &body)
	}
	return c, nil
}

// lister gathers the contents and what it needs to know for that.
type lister struct {
	*Contents
	types     []string
	functions []string // the types of all, imported ones first
}

func (l *lister) section(id byte, r *reader) {
	switch id {
	case secCustom:
		if r.name() == "producers" {
			l.producers(r)
		}
	case secType:
		for range r.u32() {
			l.types = append(l.types, functionType(r))
		}
	case secImport:
		for range r.u32() {
			l.imported(r)
		}
	case secFunction:
		n := r.u32()
		for range n {
			l.functions = append(l.functions, l.typeName(r))
		}
		l.Functions = int(n)
	case secMemory:
		for range r.u32() {
			l.MemoryMin, l.MemoryMax = limits(r)
		}
	case secExport:
		for range r.u32() {
			item := Item{Name: r.name(), Kind: kindName(r)}
			if index := r.u32(); item.Kind == "func" && uint64(index) < uint64(len(l.functions)) {
				item.Type = l.functions[index]
			}
			l.Exports = append(l.Exports, item)
		}
	case secCode:
		l.CodeBytes = len(r.data)
	case secData:
		l.DataBytes = len(r.data)
	}
}

func (l *lister) imported(r *reader) {
	item := Item{Module: r.name(), Name: r.name(), Kind: kindName(r)}
	switch item.Kind {
	case "func":
		item.Type = l.typeName(r)
		l.functions = append(l.functions, item.Type)
	case "table":
		r.byte()
		limits(r)
	case "memory":
		l.MemoryMin, l.MemoryMax = limits(r)
	case "global":
		r.bytes(2)
	}
	l.Imports = append(l.Imports, item)
}

func (l *lister) typeName(r *reader) string {
	at := r.at
	index := r.u32()
	if uint64(index) >= uint64(len(l.types)) {
		r.fail(at, fmt.Sprintf("type %d of %d", index, len(l.types)))
	}
	return l.types[index]
}

func (l *lister) producers(r *reader) {
	for range r.u32() {
		r.name() // language, processed-by, sdk
		for range r.u32() {
			name, version := r.name(), r.name()
			l.Producers = append(l.Producers, strings.TrimSpace(name+" "+version))
		}
	}
}

func kindName(r *reader) string {
	at := r.at
	kind := r.byte()
	if int(kind) >= len(itemKinds) {
		r.fail(at, fmt.Sprintf("an import or export of the unknown kind %d", kind))
	}
	return itemKinds[kind]
}

// limits reads the bounds of a table or memory; without an upper one it is -1.
func limits(r *reader) (low, high int64) {
	flags := r.byte()
	low, high = int64(r.u32()), -1
	if flags&1 != 0 {
		high = int64(r.u32())
	}
	return low, high
}

func functionType(r *reader) string {
	at := r.at
	if r.byte() != 0x60 {
		r.fail(at, "a type that is no function type")
	}
	return valueTypes(r) + " -> " + valueTypes(r)
}

func valueTypes(r *reader) string {
	names := make([]string, 0, 4)
	for range r.u32() {
		switch t := r.byte(); t {
		case 0x7f:
			names = append(names, "i32")
		case typeI64:
			names = append(names, "i64")
		case 0x7d:
			names = append(names, "f32")
		case 0x7c:
			names = append(names, "f64")
		default:
			names = append(names, fmt.Sprintf("%#x", t))
		}
	}
	return "(" + strings.Join(names, ", ") + ")"
}
