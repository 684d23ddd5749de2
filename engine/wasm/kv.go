package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Bounds of a [KV]. Keys and values count against the quota, and each key
// kvOverhead more.
const (
	// DefaultKV is the quota when none is given, in bytes.
	DefaultKV = 64 << 10
	// MaxKV bounds what a quota can grant: the keys are committed as a whole.
	MaxKV = 256 << 10

	maxKVKey   = 255
	maxKVValue = 16 << 10
	kvOverhead = 16
)

// KV holds the keys of one plugin in one pipeline: what kv_get, kv_put and
// kv_del reach. [Plugin.Transform] changes it through [Output.KV]; a call that
// fails leaves it as it was. Whoever owns it makes changes durable together with
// the records of the calls: [KV.EncodeChanges] or [KV.Encode] and then [KV.Keep], or
// [KV.Undo] when they were not stored or a Transform returned an error. It serves one goroutine
// at a time.
type KV struct {
	quota   int
	bytes   int
	entries map[string]kvEntry
	// What keys held before the call that runs, and before the first call since
	// Keep. Each key is in either once: however often a guest changes keys,
	// they hold about two quotas at most (I9).
	call, batch map[string]kvBefore
}

type kvEntry struct {
	value   []byte // never changed in place
	expires int64  // Unix nanoseconds; 0: never
}

// kvBefore is what a key held before it was changed.
type kvBefore struct {
	kvEntry
	existed bool
}

// NewKV returns an empty KV with that quota in bytes; 0: [DefaultKV].
func NewKV(quota int) *KV {
	if quota <= 0 {
		quota = DefaultKV
	}
	return &KV{quota: min(quota, MaxKV), entries: map[string]kvEntry{}, call: map[string]kvBefore{}, batch: map[string]kvBefore{}}
}

// Len returns how many keys there are, and their bytes as the quota counts them.
func (kv *KV) Len() (keys, bytes int) { return len(kv.entries), kv.bytes }

// Changed reports whether anything was changed since the last Keep or Undo.
func (kv *KV) Changed() bool { return len(kv.batch) > 0 }

// Keep makes the changes so far final.
func (kv *KV) Keep() { clear(kv.batch) }

// Undo takes back every change since the last Keep.
func (kv *KV) Undo() { kv.restore(kv.batch) }

func (kv *KV) restore(before map[string]kvBefore) {
	for key, b := range before {
		kv.replace(key, b.kvEntry, b.existed)
	}
	clear(before)
}

// endCall keeps or takes back what the call that ran has changed. A nil KV has
// nothing to do.
func (kv *KV) endCall(ok bool) {
	switch {
	case kv == nil:
	case !ok:
		kv.restore(kv.call)
	default:
		for key, b := range kv.call {
			remember(kv.batch, key, b, kv.entries)
		}
		clear(kv.call)
	}
}

// remember notes what a key held first. A key that was not there before and is
// not there now has not changed.
func remember(in map[string]kvBefore, key string, b kvBefore, now map[string]kvEntry) {
	first, noted := in[key]
	if !noted {
		first = b
	}
	if _, there := now[key]; !there && !first.existed {
		delete(in, key)
	} else if !noted {
		in[key] = b
	}
}

func kvSize(key string, e kvEntry) int { return kvOverhead + len(key) + len(e.value) }

// replace sets or removes a key and keeps count.
func (kv *KV) replace(key string, e kvEntry, exists bool) {
	if old, ok := kv.entries[key]; ok {
		kv.bytes -= kvSize(key, old)
		delete(kv.entries, key)
	}
	if exists {
		kv.entries[key] = e
		kv.bytes += kvSize(key, e)
	}
}

func (kv *KV) change(key string, e kvEntry, exists bool) {
	before, existed := kv.entries[key]
	kv.replace(key, e, exists)
	remember(kv.call, key, kvBefore{before, existed}, kv.entries)
}

func (kv *KV) get(key []byte, now int64) ([]byte, bool) {
	e, ok := kv.entries[string(key)]
	if !ok || e.expires != 0 && e.expires <= now {
		return nil, false
	}
	return e.value, true
}

// put reports whether there is room. Keys whose time is over make some first.
func (kv *KV) put(key, value []byte, expires, now int64) bool {
	e := kvEntry{value: slices.Clone(value), expires: expires}
	need := kvSize(string(key), e)
	room := func() bool {
		old := 0
		if before, ok := kv.entries[string(key)]; ok {
			old = kvSize(string(key), before)
		}
		return kv.bytes-old+need <= kv.quota
	}
	if !room() {
		if kv.expire(now); !room() {
			return false
		}
	}
	kv.change(string(key), e, true)
	return true
}

func (kv *KV) expire(now int64) {
	for key, e := range kv.entries {
		if e.expires != 0 && e.expires <= now {
			kv.change(key, kvEntry{}, false)
		}
	}
}

func (kv *KV) del(key []byte, now int64) bool {
	if _, ok := kv.get(key, now); !ok {
		return false
	}
	kv.change(string(key), kvEntry{}, false)
	return true
}

// What an encoding begins with.
const (
	kvAll     = 1
	kvChanges = 2
)

// Encode returns all keys in a form that [KV.Decode] reads: a byte 1, then for
// every key in order its length, the value's length and 1, when it expires, the
// key and the value. Numbers are varints.
func (kv *KV) Encode() []byte {
	b := append(make([]byte, 0, kv.bytes+1), kvAll)
	for _, key := range slices.Sorted(maps.Keys(kv.entries)) {
		b = appendKV(b, key, kv.entries[key])
	}
	return b
}

// EncodeChanges returns what has changed since the last Keep, as [KV.Encode]
// returns all keys, but with a byte 2, and a 0 for the value's length of a key
// that was removed.
func (kv *KV) EncodeChanges() []byte {
	b := []byte{kvChanges}
	for _, key := range slices.Sorted(maps.Keys(kv.batch)) {
		if e, ok := kv.entries[key]; ok {
			b = appendKV(b, key, e)
		} else {
			b = append(binary.AppendUvarint(b, uint64(len(key))), 0, 0)
			b = append(b, key...)
		}
	}
	return b
}

func appendKV(b []byte, key string, e kvEntry) []byte {
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(e.value))+1)
	b = binary.AppendVarint(b, e.expires)
	return append(append(b, key...), e.value...)
}

// Decode takes over what was encoded: all keys in place of those that are there,
// or changes on top of them. What was stored is read whatever the quota says now.
// After an error nothing has changed; without one there is nothing to Undo.
func (kv *KV) Decode(data []byte) error {
	if len(data) == 0 || data[0] != kvAll && data[0] != kvChanges {
		return errors.New("reading a plugin's keys: this is no form of them that is known")
	}
	to := &KV{entries: map[string]kvEntry{}}
	if data[0] == kvChanges {
		to.entries, to.bytes = maps.Clone(kv.entries), kv.bytes
	}
	seen := map[string]bool{}
	for data = data[1:]; len(data) > 0; {
		var key string
		var e kvEntry
		var exists bool
		var err error
		if key, e, exists, data, err = nextKV(data); err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("reading a plugin's keys: %q is there twice", key)
		}
		seen[key] = true
		to.replace(key, e, exists)
	}
	kv.entries, kv.bytes = to.entries, to.bytes
	clear(kv.call)
	clear(kv.batch)
	return nil
}

var errKVData = errors.New("reading a plugin's keys: they end too early or are damaged")

func nextKV(data []byte) (key string, e kvEntry, exists bool, rest []byte, err error) {
	size, n := binary.Uvarint(data)
	data = data[max(n, 0):]
	value, m := binary.Uvarint(data)
	data = data[max(m, 0):]
	expires, k := binary.Varint(data)
	if n <= 0 || m <= 0 || k <= 0 || size == 0 || size > maxKVKey || value > maxKVValue+1 {
		return "", e, false, nil, errKVData
	}
	data = data[k:]
	if exists = value > 0; exists {
		value--
	}
	if uint64(len(data)) < size+value {
		return "", e, false, nil, errKVData
	}
	key, data = string(data[:size]), data[size:]
	e = kvEntry{value: slices.Clone(data[:value]), expires: expires}
	return key, e, exists, data[value:], nil
}
