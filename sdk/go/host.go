package edged

// What a plugin may keep and count, and what it may ask of the device. Each needs
// a grant in the pipeline file, like allow = ["kv"], if the plugin calls it.

// Level is how much a line of the log matters.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warn
	Failure
)

// LogEnabled reports whether a line of that level would be kept: ask before
// building a long one. It needs the grant log.
func LogEnabled(level Level) bool { return logEnabled(level) }

// Log writes a line. The host keeps the first 2 KiB of it and 32 lines a call. It
// needs the grant log.
func Log(level Level, line string) { logLine(level, line) }

// Now returns the time of the call in nanoseconds since 1970; Record.CallTime is
// the same and needs no grant. It needs the grant clock.
func Now() int64 { return now() }

// DeviceConfig returns a value of the device configuration (edged config set), and
// whether there is one. It needs the grant config.
func DeviceConfig(key string) (value string, ok bool) {
	data := fetch(key, configGet)
	return string(data), data != nil
}

// KVGet returns the value of a key of this plugin in this pipeline; nil: there is
// none. It needs the grant kv.
func KVGet(key string) []byte { return fetch(key, kvGet) }

// KVPut keeps a value, for ttl seconds or, with 0, for good. It becomes durable
// with the records of the call. False: the key is empty or too long, or the quota
// is used up. It needs the grant kv.
func KVPut(key string, value []byte, ttl int32) bool { return kvPut(key, value, ttl) == 0 }

// KVDelete removes a key. It needs the grant kv.
func KVDelete(key string) { kvDel(key) }

// Count adds to a counter of this plugin, which edged status shows. It needs the
// grant metric.
func Count(name string, delta float64) { metricAdd(name, delta) }

// fetch gets what the host writes into a buffer. Most values fit, and need one
// call.
func fetch(key string, get func(string, []byte) int32) []byte {
	buf := make([]byte, 256)
	size := get(key, buf)
	if int(size) > len(buf) {
		buf = make([]byte, size)
		size = get(key, buf)
	}
	if size < 0 {
		return nil
	}
	return buf[:size]
}
