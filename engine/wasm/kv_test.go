package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// counter is a plugin that counts the records whose id begins with X under the
// key "n", and then does evil.
func counter(evil ...[]byte) *guest {
	g := newGuest()
	g.importFunc(moduleEdged, "kv_get", []byte{tI32, tI32, tI32, tI32}, []byte{tI32})
	g.importFunc(moduleEdged, "kv_put", []byte{tI32, tI32, tI32, tI32, tI32}, []byte{tI32})
	g.segment(4096, []byte("n"))
	g.marker().allocAt(iconst(atInbox)).passUnless(
		storeAt(0, iconst(0)),
		iconst(4096), iconst(1), iconst(atData), iconst(4), callf(0), drop,
		storeAt(0, iconst(atData), load32(0), iconst(1), add),
		iconst(4096), iconst(1), iconst(atData), iconst(4), iconst(0), callf(1), when(unreachable),
		cat(evil...),
	)
	return g
}

func counted(t *testing.T, kv *KV) uint32 {
	t.Helper()
	value, ok := kv.get([]byte("n"), 0)
	if !ok {
		return 0
	}
	return binary.LittleEndian.Uint32(value)
}

func TestKeysAreKept(t *testing.T) {
	p := load(t, testHost(t), Module{Code: counter().build(), Allow: []string{CapabilityKV}})
	out := Output{KV: NewKV(0)}
	for range 3 {
		if err := p.Transform(t.Context(), testRecords("X1", "a", "X2"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if !out.KV.Changed() {
			t.Error("nothing was changed")
		}
		out.KV.Keep()
	}
	if n := counted(t, out.KV); n != 6 {
		t.Errorf("counted %d, want 6", n)
	}
	if err := p.Transform(t.Context(), testRecords("X1", "X2"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, out.KV); n != 8 {
		t.Errorf("counted %d before Undo, want 8", n)
	}
	if out.KV.Undo(); counted(t, out.KV) != 6 || out.KV.Changed() {
		t.Errorf("counted %d after Undo, want 6", counted(t, out.KV))
	}
	// Keys of another pipeline are others.
	other := Output{KV: NewKV(0)}
	if err := p.Transform(t.Context(), testRecords("X1"), testTime, &other); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, other.KV); n != 1 {
		t.Errorf("counted %d elsewhere, want 1", n)
	}
}

func TestFailedCallLeavesNoKeys(t *testing.T) {
	// Records whose second letter is T trap after they were counted.
	code := counter(get(3), load8(recordHeader+1), iconst('T'), eq, when(unreachable)).build()
	p := load(t, testHost(t), Module{Code: code, Allow: []string{CapabilityKV}})
	out := Output{KV: NewKV(0)}
	if err := p.Transform(t.Context(), testRecords("X1", "X2", "XT", "X3", "XT", "a"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, out.KV); n != 3 {
		t.Errorf("counted %d, want 3: the call that failed and its replay must not both count", n)
	}
}

func TestKVWithoutKeys(t *testing.T) {
	p := load(t, testHost(t), Module{Code: counter().build(), Allow: []string{CapabilityKV}})
	var out Output // kv_put says denied, and the guest traps
	if err := p.Transform(t.Context(), testRecords("X1"), testTime, &out); err != nil || out.Results[0].Action != Faulted {
		t.Errorf("got %v %+v", err, out.Results)
	}
}

func TestKVQuota(t *testing.T) {
	kv := NewKV(1000)
	now := int64(100)
	value := bytes.Repeat([]byte("v"), 300)
	for i, ok := range []bool{true, true, true, false} {
		if got := kv.put([]byte{byte(i)}, value, now+int64(i)+1, now); got != ok {
			t.Fatalf("key %d: %v, want %v", i, got, ok)
		}
	}
	if !kv.put([]byte{0}, bytes.Repeat([]byte("w"), 310), 0, now) {
		t.Error("a key could not be replaced within the quota")
	}
	if !kv.put([]byte("new"), value, 0, now+2) {
		t.Error("a key whose time is over made no room")
	}
	if _, ok := kv.get([]byte{2}, now+3); ok {
		t.Error("a key is there after its time")
	}
	kv.endCall(false)
	if keys, used := kv.Len(); keys != 0 || used != 0 {
		t.Errorf("%d keys, %d bytes are left of a call that failed", keys, used)
	}
}

// TestKVMemoryIsBounded holds that what is kept to take changes back does not
// grow with how often a guest changes keys.
func TestKVMemoryIsBounded(t *testing.T) {
	kv := NewKV(0)
	kv.put([]byte("old"), []byte("1"), 0, 0)
	kv.endCall(true)
	kv.Keep()
	for call := range 10 {
		for i := range 1000 {
			key := fmt.Append(nil, "k", call, i)
			kv.put(key, []byte("v"), 0, 0)
			kv.put([]byte("old"), key, 0, 0)
			kv.del(key, 0)
		}
		if len(kv.call) != 1 {
			t.Fatalf("call %d remembers %d keys, want 1", call, len(kv.call))
		}
		kv.endCall(true)
	}
	if len(kv.batch) != 1 {
		t.Errorf("%d keys are remembered, want 1", len(kv.batch))
	}
	kv.Undo()
	if v, _ := kv.get([]byte("old"), 0); string(v) != "1" {
		t.Errorf("the key holds %q after Undo", v)
	}
}

// TestKVModel compares with a plain map: random changes, calls that fail, batches
// that are undone, and what is written is read back.
func TestKVModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	kv := NewKV(4096)
	follows := NewKV(4096) // by changes alone
	batch := map[string]string{}
	for range 300 {
		done := maps.Clone(batch)
		for range rng.IntN(4) {
			call := maps.Clone(done)
			for range rng.IntN(8) {
				key := fmt.Sprint("k", rng.IntN(12))
				if rng.IntN(3) == 0 {
					_, there := call[key]
					if kv.del([]byte(key), 0) != there {
						t.Fatalf("deleting %s: it was there: %v", key, there)
					}
					delete(call, key)
				} else if value := fmt.Sprint(rng.Int()); kv.put([]byte(key), []byte(value), 0, 0) {
					call[key] = value
				}
			}
			if ok := rng.IntN(4) > 0; ok {
				kv.endCall(true)
				done = call
			} else {
				kv.endCall(false)
			}
		}
		if rng.IntN(4) > 0 {
			if changes := kv.EncodeChanges(); kv.Changed() != (len(changes) > 1) {
				t.Fatalf("changes of %d bytes, changed: %v", len(changes), kv.Changed())
			} else if err := follows.Decode(changes); err != nil {
				t.Fatal(err)
			}
			kv.Keep()
			batch = done
		} else {
			kv.Undo()
		}
		read := NewKV(0)
		if err := read.Decode(kv.Encode()); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for key, e := range read.entries {
			got[key] = string(e.value)
		}
		if diff := cmp.Diff(batch, got); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(follows.Encode(), kv.Encode()) || follows.bytes != kv.bytes {
			t.Fatal("changes alone lead elsewhere")
		}
		if _, size := kv.Len(); size != read.bytes {
			t.Fatalf("%d bytes are counted, there are %d", size, read.bytes)
		}
	}
}

func FuzzKVDecode(f *testing.F) {
	kv := NewKV(0)
	kv.put([]byte("a"), []byte("1"), 0, 0)
	kv.put([]byte("b"), nil, 1<<40, 0)
	f.Add(kv.Encode())
	f.Add([]byte{})
	kv.Keep()
	kv.del([]byte("a"), 0)
	kv.put([]byte("c"), []byte("3"), 0, 0)
	kv.endCall(true)
	f.Add(kv.EncodeChanges())
	f.Add([]byte{kvAll, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		kv := NewKV(0)
		kv.put([]byte("a"), []byte("before"), 0, 0)
		if kv.Decode(data) != nil {
			return
		}
		again := NewKV(0)
		if err := again.Decode(kv.Encode()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Encode(), kv.Encode()) || again.bytes != kv.bytes {
			t.Fatal("what was written is not what was read")
		}
	})
}

func TestKVImports(t *testing.T) {
	g := newGuest()
	i32s := func(n int) []byte { return bytes.Repeat([]byte{tI32}, n) }
	g.importFunc(moduleEdged, "kv_get", i32s(4), []byte{tI32})
	g.importFunc(moduleEdged, "kv_put", i32s(5), []byte{tI32})
	g.importFunc(moduleEdged, "kv_del", i32s(2), []byte{tI32})
	g.segment(4096, []byte("key value"))
	call := func(f int, args ...int64) []byte {
		var code []byte
		for _, a := range args {
			code = append(code, iconst(a)...)
		}
		return cat(code, callf(f))
	}
	at := func(off int, code []byte) []byte { // the result as one byte
		return cat(iconst(int64(atData+off)), code, op(0x3a, 0, 0))
	}
	reporting(g,
		at(0, call(0, 4096, 3, 8192, 16)),                                          // not found
		at(1, call(1, 4096, 3, 4100, 5, 0)),                                        // done
		at(2, call(0, 4096, 3, 8192, 4)),                                           // too long for the buffer
		at(3, cat(iconst(8192), load8(0))),                                         // nothing was written
		at(4, call(0, 4096, 3, 8192, 5)),                                           // fits
		at(5, cat(iconst(8192), load8(0))),                                         // "v"
		at(6, call(2, 4096, 3)),                                                    // deleted
		at(7, call(2, 4096, 3)),                                                    // not found
		at(8, call(1, 4096, 0, 4100, 5, 0)),                                        // empty key
		at(9, call(1, 4096, 256, 4100, 5, 0)),                                      // long key
		at(10, call(1, 4096, 3, -4, 5, 0)),                                         // value outside
		at(11, call(1, 4096, 3, 4100, maxKVValue+1, 0)),                            // long value
		at(12, call(1, 4096, 3, 4100, 5, -1)),                                      // a time to live below zero
		at(13, cat(call(1, 4096, 3, 4100, 5, 1), drop, call(0, 4096, 3, -4, 100))), // buffer outside
		at(14, call(1, -1, 3, 4100, 5, 0)),                                         // key outside
	)
	p := load(t, testHost(t), Module{Code: g.build(), Allow: []string{CapabilityKV}})
	out := Output{KV: NewKV(0)}
	if err := p.Transform(t.Context(), testRecords("x"), testTime, &out); err != nil {
		t.Fatal(err)
	}
	got := reported(t, &out)[:15]
	neg := func(v int8) byte { return byte(v) }
	want := []byte{neg(-1), 0, 5, 0, 5, 'v', 0, neg(-1), neg(-4), neg(-4), neg(-4), neg(-3), neg(-4), neg(-4), neg(-4)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, ok := out.KV.get([]byte("key"), testTime.Add(time.Second-1).UnixNano()); !ok {
		t.Error("the key was gone before its time")
	}
	if _, ok := out.KV.get([]byte("key"), testTime.Add(time.Second).UnixNano()); ok {
		t.Error("the key was there after its time")
	}
}
