package wasm

import (
	"math"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// The capabilities of this file.
const (
	// CapabilityConfig lets a guest read the device configuration.
	CapabilityConfig = "config"
	// CapabilityKV lets a guest keep keys of its own.
	CapabilityKV = "kv"
	// CapabilityMetric lets a guest count for the operator.
	CapabilityMetric = "metric"
)

// Results of the functions of this file, beside lengths.
const (
	resultDone     = 0
	resultNotFound = -1
	resultDenied   = -2
	resultQuota    = -3
	resultBad      = -4
)

// perCopied is how many bytes that are copied for a guest cost one fuel.
const perCopied = 16

// Bounds of a plugin's metrics.
const (
	maxMetrics    = 32
	maxMetricName = 64
)

func status(params ...api.ValueType) signature {
	return signature{params: params, results: []api.ValueType{i32}}
}

var stateFunctions = map[string]hostFunction{
	"config_get": {signature: status(i32, i32, i32, i32), capability: CapabilityConfig, call: importConfigGet},
	"kv_get":     {signature: status(i32, i32, i32, i32), capability: CapabilityKV, call: importKVGet},
	"kv_put":     {signature: status(i32, i32, i32, i32, i32), capability: CapabilityKV, call: importKVPut},
	"kv_del":     {signature: status(i32, i32), capability: CapabilityKV, call: importKVDel},
	"metric_add": {signature: status(i32, i32, f64), capability: CapabilityMetric, call: importMetricAdd},
}

func result(stack []uint64, v int32) { stack[0] = api.EncodeI32(v) }

// key returns the key of a call, which aliases the guest's memory.
func key(mod api.Module, ptr, size uint64) ([]byte, bool) {
	n := api.DecodeU32(size)
	if n == 0 || n > maxKVKey {
		return nil, false
	}
	return mod.Memory().Read(api.DecodeU32(ptr), n)
}

// give writes value to a guest's buffer if it fits, and returns its length.
func (inst *instance) give(mod api.Module, value []byte, buf, capacity uint64) int32 {
	if len(value) <= int(api.DecodeU32(capacity)) {
		inst.charge(int64(len(value)) / perCopied)
		if !mod.Memory().Write(api.DecodeU32(buf), value) {
			return resultBad
		}
	}
	return int32(len(value))
}

func importConfigGet(inst *instance, mod api.Module, stack []uint64) {
	name, ok := key(mod, stack[0], stack[1])
	if !ok {
		result(stack, resultBad)
		return
	}
	var value []byte
	found := false
	if inst.plugin.host.config != nil {
		value, found = inst.plugin.host.config(string(name))
	}
	if !found {
		result(stack, resultNotFound)
		return
	}
	result(stack, inst.give(mod, value, stack[2], stack[3]))
}

func importKVGet(inst *instance, mod api.Module, stack []uint64) {
	name, ok := key(mod, stack[0], stack[1])
	switch {
	case !ok:
		result(stack, resultBad)
		return
	case inst.kv == nil:
		result(stack, resultDenied)
		return
	}
	value, found := inst.kv.get(name, inst.now)
	if !found {
		result(stack, resultNotFound)
		return
	}
	result(stack, inst.give(mod, value, stack[2], stack[3]))
}

func importKVPut(inst *instance, mod api.Module, stack []uint64) {
	name, ok := key(mod, stack[0], stack[1])
	size := api.DecodeU32(stack[3])
	var value []byte
	if ok && size <= maxKVValue {
		value, ok = mod.Memory().Read(api.DecodeU32(stack[2]), size)
	}
	ttl := api.DecodeI32(stack[4])
	switch {
	case !ok || ttl < 0:
		result(stack, resultBad)
		return
	case inst.kv == nil:
		result(stack, resultDenied)
		return
	case size > maxKVValue:
		result(stack, resultQuota)
		return
	}
	inst.charge(int64(size) / perCopied)
	expires := int64(0)
	if ttl > 0 {
		if expires = inst.now + int64(ttl)*int64(time.Second); expires < inst.now {
			expires = math.MaxInt64
		}
	}
	if !inst.kv.put(name, value, expires, inst.now) {
		// It looked at every key for one whose time is over.
		inst.charge(int64(len(inst.kv.entries)))
		result(stack, resultQuota)
		return
	}
	result(stack, resultDone)
}

func importKVDel(inst *instance, mod api.Module, stack []uint64) {
	name, ok := key(mod, stack[0], stack[1])
	switch {
	case !ok:
		result(stack, resultBad)
	case inst.kv == nil:
		result(stack, resultDenied)
	case !inst.kv.del(name, inst.now):
		result(stack, resultNotFound)
	default:
		result(stack, resultDone)
	}
}

// metricDelta is what a call has added to a metric. It counts when the call
// succeeds, so that a replay does not count twice.
type metricDelta struct {
	name  string
	delta float64
}

func importMetricAdd(inst *instance, mod api.Module, stack []uint64) {
	size, delta := api.DecodeU32(stack[1]), api.DecodeF64(stack[2])
	var name []byte
	ok := size > 0 && size <= maxMetricName && !math.IsNaN(delta) && !math.IsInf(delta, 0)
	if ok {
		name, ok = mod.Memory().Read(api.DecodeU32(stack[0]), size)
	}
	for _, c := range name {
		ok = ok && (c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok {
		result(stack, resultBad)
		return
	}
	for i := range inst.metrics {
		if inst.metrics[i].name == string(name) {
			inst.metrics[i].delta += delta
			result(stack, resultDone)
			return
		}
	}
	if !inst.plugin.mayCount(string(name), inst.metrics) {
		result(stack, resultQuota)
		return
	}
	inst.metrics = append(inst.metrics, metricDelta{string(name), delta})
	result(stack, resultDone)
}

// mayCount reports whether there is room for a metric of that name beside the
// others of the call that runs.
func (p *Plugin) mayCount(name string, running []metricDelta) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.metrics[name]; known {
		return true
	}
	n := len(p.metrics)
	for _, d := range running {
		if _, known := p.metrics[d.name]; !known {
			n++
		}
	}
	return n < maxMetrics
}

// addMetrics counts what a call that succeeded has added.
func (p *Plugin) addMetrics(deltas []metricDelta) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range deltas {
		if _, known := p.metrics[d.name]; !known && len(p.metrics) >= maxMetrics {
			continue // another worker's call was quicker
		}
		if p.metrics == nil {
			p.metrics = map[string]float64{}
		}
		p.metrics[d.name] += d.delta
	}
}
