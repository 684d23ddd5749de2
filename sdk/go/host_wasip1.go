package edged

import "unsafe"

// A module imports those of them that it uses.

//go:wasmimport edged_v1 log
func hostLog(level int32, ptr unsafe.Pointer, size uint32)

//go:wasmimport edged_v1 log_enabled
func hostLogEnabled(level int32) int32

//go:wasmimport edged_v1 now_ns
func hostNow() int64

//go:wasmimport edged_v1 config_get
func hostConfigGet(key unsafe.Pointer, keySize uint32, buf unsafe.Pointer, room uint32) int32

//go:wasmimport edged_v1 kv_get
func hostKVGet(key unsafe.Pointer, keySize uint32, buf unsafe.Pointer, room uint32) int32

//go:wasmimport edged_v1 kv_put
func hostKVPut(key unsafe.Pointer, keySize uint32, ptr unsafe.Pointer, size uint32, ttl int32) int32

//go:wasmimport edged_v1 kv_del
func hostKVDel(key unsafe.Pointer, keySize uint32) int32

//go:wasmimport edged_v1 metric_add
func hostMetricAdd(name unsafe.Pointer, nameSize uint32, delta float64) int32

func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func data(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

func logEnabled(level Level) bool { return hostLogEnabled(int32(level)) != 0 }

func logLine(level Level, line string) {
	ptr, size := text(line)
	hostLog(int32(level), ptr, size)
}

func now() int64 { return hostNow() }

func configGet(key string, buf []byte) int32 {
	name, size := text(key)
	ptr, room := data(buf)
	return hostConfigGet(name, size, ptr, room)
}

func kvGet(key string, buf []byte) int32 {
	name, size := text(key)
	ptr, room := data(buf)
	return hostKVGet(name, size, ptr, room)
}

func kvPut(key string, value []byte, ttl int32) int32 {
	name, nameSize := text(key)
	ptr, size := data(value)
	return hostKVPut(name, nameSize, ptr, size, ttl)
}

func kvDel(key string) { hostKVDel(text(key)) }

func metricAdd(name string, delta float64) {
	ptr, size := text(name)
	hostMetricAdd(ptr, size, delta)
}
