//go:build !wasip1

package edged

// Natives are the host's functions in a native test; the package edgedtest has
// some. What is nil answers as the host does to a plugin without the grant.
type Natives struct {
	Log       func(level Level, line string)
	Now       func() int64
	ConfigGet func(key string) (value []byte, ok bool)
	KVGet     func(key string) (value []byte, ok bool)
	KVPut     func(key string, value []byte, ttl int32) bool
	KVDel     func(key string)
	MetricAdd func(name string, delta float64)
}

var natives Natives

// SetNatives puts the host's functions in place and returns those before.
func SetNatives(n Natives) (before Natives) {
	before, natives = natives, n
	return before
}

const denied = -2

func logEnabled(Level) bool { return natives.Log != nil }

func logLine(level Level, line string) {
	if natives.Log != nil {
		natives.Log(level, line)
	}
}

func now() int64 {
	if natives.Now == nil {
		return 0
	}
	return natives.Now()
}

func give(get func(string) ([]byte, bool), key string, buf []byte) int32 {
	if get == nil {
		return denied
	}
	value, ok := get(key)
	if !ok {
		return -1
	}
	if len(value) <= len(buf) {
		copy(buf, value)
	}
	return int32(len(value))
}

func configGet(key string, buf []byte) int32 { return give(natives.ConfigGet, key, buf) }

func kvGet(key string, buf []byte) int32 { return give(natives.KVGet, key, buf) }

func kvPut(key string, value []byte, ttl int32) int32 {
	if natives.KVPut == nil || !natives.KVPut(key, value, ttl) {
		return denied
	}
	return 0
}

func kvDel(key string) {
	if natives.KVDel != nil {
		natives.KVDel(key)
	}
}

func metricAdd(name string, delta float64) {
	if natives.MetricAdd != nil {
		natives.MetricAdd(name, delta)
	}
}
