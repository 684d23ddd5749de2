// Package edged is the SDK for plugins in Go: WebAssembly modules that
// transform the records of edged, or resolve conflicts between an edge and
// its hub. README.md is the guide; sdk/abi.md is the contract beneath it.
//
// A plugin is a package main that exports what it needs:
//
//	//go:wasmexport edged_transform
//	func edgedTransform(ptr, size uint32) uint64 { return edged.Transform(ptr, size, handle) }
//
// and is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o plugin.wasm
//
// Everything compiles natively, too, so that a plugin is tested with go test; see
// the package edgedtest.
//
// The package keeps to a subset that TinyGo is meant to compile, too, which is not
// tried: no reflection, no fmt, no encoding/json. JSON is read and changed without a tree: [Get], [Set],
// [Delete] and [Lookup] work on the bytes of a value as it stands.
//
// A module runs one call at a time. Nothing here is safe for many goroutines, and
// what a plugin keeps in variables between calls is a cache: instances come and
// go.
package edged

// The ABI passes addresses; these are what both sides of them read.
const (
	magic          = "EDG1"
	callHeader     = 32
	recordHeader   = 64
	outHeader      = 40
	conflictHeader = 16
	verdictHeader  = 24

	opTransform = 1
	opResolve   = 2
)

// noAnswer is what becomes of a record or conflict that the plugin forgot.
const noAnswer = "the plugin gave no answer"

// isCall reports whether the bytes are a call of this version.
func isCall(call []byte, op uint16) bool {
	return len(call) >= callHeader && string(call[:4]) == magic && u16(call[4:]) == 1 && u16(call[6:]) == op
}

// outbox collects the frames of an answer.
type outbox struct {
	data    []byte
	src     uint32
	answers int
}

// frame adds a cleared header and room for size bytes behind it, and returns both.
func (o *outbox) frame(header, size int, action, code uint16) []byte {
	begin, whole := len(o.data), (header+size+7)&^7
	if cap(o.data)-begin < whole {
		more := make([]byte, begin, 2*cap(o.data)+whole)
		copy(more, o.data)
		o.data = more
	}
	o.data = o.data[:begin+whole]
	frame := o.data[begin:]
	clear(frame[:header])
	clear(frame[whole-8:]) // the padding
	put32(frame, uint32(whole))
	put32(frame[4:], o.src)
	put16(frame[8:], action)
	put16(frame[10:], code)
	o.answers++
	return frame
}

// panicked says what a recovered panic was about.
func panicked(value any) string {
	switch v := value.(type) {
	case error:
		return "the plugin panicked: " + v.Error()
	case string:
		return "the plugin panicked: " + v
	}
	return "the plugin panicked"
}

func u16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }

func u32(b []byte) uint32 {
	_ = b[3]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func u64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func put16(b []byte, n uint16) { b[0], b[1] = byte(n), byte(n>>8) }

func put32(b []byte, n uint32) { put16(b, uint16(n)); put16(b[2:], uint16(n>>16)) }

func put64(b []byte, n uint64) { put32(b, uint32(n)); put32(b[4:], uint32(n>>32)) }
