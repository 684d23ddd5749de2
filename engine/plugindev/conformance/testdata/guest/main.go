//go:build wasip1

// A plugin that is right in everything but the one thing its config names:
// {"mode": "…"}.
package main

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unsafe"
)

func main() {}

var (
	le    = binary.LittleEndian
	mode  string
	inbox []byte
	out   []byte
	kept  [][]byte
	calls int
)

//go:wasmexport edged_abi_v1
func marker() {}

//go:wasmexport edged_alloc
func alloc(size uint32) uint32 {
	if size > 4<<20 {
		if mode == "trap on a large inbox" {
			panic("no room")
		}
		return 0
	}
	if len(inbox) < int(size)+8 || mode == "leaks" {
		inbox = make([]byte, size+8)
	}
	if mode == "leaks" {
		kept = append(kept, inbox)
	}
	ptr := (uint32(uintptr(unsafe.Pointer(&inbox[0]))) + 7) &^ 7
	if mode == "misaligned" {
		ptr += 4
	}
	return ptr
}

func input(ptr, size uint32) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(ptr))), size) }

func result(data []byte) uint64 {
	if len(data) == 0 {
		data = make([]byte, 8)[:0:8]
	}
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data))))<<32 | uint64(len(data))
}

//go:wasmexport edged_describe
func describe() uint64 {
	kinds := `["transform","resolve"]`
	if mode == "lies about its kinds" {
		kinds = `["transform"]`
	}
	return result([]byte(`{"name":"guest","version":"1.0.0","summary":"For tests","kinds":` + kinds + `,"config":{"mode":{"type":"string","default":"x"}}}`))
}

//go:wasmexport edged_configure
func configure(ptr, size uint32) uint64 {
	config := input(ptr, size)
	if i := bytes.Index(config, []byte(`"mode":"`)); i >= 0 {
		rest := config[i+8:]
		mode = string(rest[:bytes.IndexByte(rest, '"')])
	}
	if bytes.Contains(config, []byte("edged_verify_unknown")) && mode != "takes any config" {
		return result([]byte("unknown key edged_verify_unknown"))
	}
	return 0
}

func pad(n int) int { return (n + 7) &^ 7 }

// parts returns the payload of a record frame, and its size as its parts say.
func parts(frame []byte) (payload []byte, size int) {
	head := 64 + int(le.Uint16(frame[8:])) + int(le.Uint16(frame[10:])) + int(le.Uint16(frame[12:]))
	n := int(le.Uint32(frame[20:]))
	return frame[head : head+n], pad(head + n)
}

func answer(src uint32, action uint16, changed uint32, text []byte) {
	size := pad(40 + len(text))
	at := len(out)
	out = append(out, make([]byte, size)...)
	frame := out[at:]
	le.PutUint32(frame, uint32(size))
	le.PutUint32(frame[4:], src)
	le.PutUint16(frame[8:], action)
	le.PutUint32(frame[12:], changed)
	le.PutUint32(frame[28:], uint32(len(text)))
	copy(frame[40:], text)
}

const (
	emit          = 1
	pass          = 2
	drop          = 3
	fail          = 4
	changePayload = 32
)

//go:wasmexport edged_transform
func transform(ptr, size uint32) uint64 {
	call := input(ptr, size)
	count := le.Uint32(call[8:])
	out = out[:0]
	calls++
	if count == 0 && mode == "gives up on an empty call" {
		return 0
	}
	rest := call[32:]
	for i := range count {
		payload, byParts := parts(rest)
		one(call, rest, i, count, payload)
		if mode == "skips by its parts" {
			rest = rest[byParts:]
		} else {
			rest = rest[le.Uint32(rest):]
		}
	}
	return result(out)
}

func one(call, frame []byte, i, count uint32, payload []byte) {
	switch mode {
	case "reads reserved fields":
		if le.Uint64(call[24:]) != 0 || le.Uint64(frame[56:]) != 0 {
			answer(i, fail, 0, []byte("reserved"))
			return
		}
	case "remembers":
		answer(i, drop, 0, []byte("call "+strconv.Itoa(calls)))
		return
	case "looks at the whole call":
		answer(i, drop, 0, []byte("one of "+strconv.Itoa(int(count))))
		return
	case "forgets the fourth":
		if i == 3 {
			return
		}
	case "traps on a large number":
		if bytes.Contains(payload, []byte("1e400")) {
			panic("a number that is too large")
		}
	case "emits no object":
		if bytes.Contains(payload, []byte("1e400")) {
			answer(i, emit, changePayload, []byte("[1]"))
			return
		}
	case "reads numbers as floats":
		answer(i, emit, changePayload, bytes.ReplaceAll(payload, []byte("123456789012345678901234567890"), []byte("1.2345678901234568e+29")))
		return
	case "slow on large ones":
		n := 0
		for a := 0; a < len(payload); a += 512 {
			for b := range len(payload) / 512 {
				n += int(payload[b])
			}
		}
		answer(i, drop, 0, []byte(strconv.Itoa(n)))
		return
	}
	answer(i, pass, 0, nil)
}

const (
	local  = 1
	remote = 2
	merged = 3
	manual = 5
)

//go:wasmexport edged_resolve
func resolve(ptr, size uint32) uint64 {
	call := input(ptr, size)
	out = out[:0]
	calls++
	rest := call[32:]
	for i := range le.Uint32(call[8:]) {
		conflict := rest[:le.Uint32(rest)]
		versions := conflict[16:]
		var all [][]byte
		n := 2 + int(le.Uint32(conflict[4:])&1)
		for range n {
			all = append(all, versions[:le.Uint32(versions)])
			versions = versions[le.Uint32(versions):]
		}
		decide(i, all[n-2], all[n-1])
		rest = rest[len(conflict):]
	}
	return result(out)
}

func verdict(src uint32, action uint16, payload []byte) {
	size := pad(24 + len(payload))
	at := len(out)
	out = append(out, make([]byte, size)...)
	frame := out[at:]
	le.PutUint32(frame, uint32(size))
	le.PutUint32(frame[4:], src)
	le.PutUint16(frame[8:], action)
	le.PutUint32(frame[12:], uint32(len(payload)))
	copy(frame[24:], payload)
}

func decide(i uint32, l, r []byte) {
	switch mode {
	case "merges to a constant":
		verdict(i, merged, []byte(`{"k":1}`))
		return
	case "takes a side, or neither":
		if payload, _ := parts(l); len(payload)%5 == 0 {
			verdict(i, merged, []byte(`{"k":1}`))
			return
		}
		verdict(i, local, nil)
		return
	case "always local":
		verdict(i, local, nil)
		return
	case "asks a person":
		verdict(i, manual, []byte("who knows"))
		return
	case "remembers":
		verdict(i, manual, []byte("call "+strconv.Itoa(calls)))
		return
	case "traps on null":
		if payload, _ := parts(l); bytes.Contains(payload, []byte("null")) {
			panic("null")
		}
	}
	// The later one; of two of one time, the one that is greater byte by byte.
	ld, _ := parts(l)
	rd, _ := parts(r)
	lt, rt := le.Uint64(l[24:]), le.Uint64(r[24:])
	if lt > rt || lt == rt && bytes.Compare(ld, rd) > 0 {
		verdict(i, local, nil)
	} else {
		verdict(i, remote, nil)
	}
}
