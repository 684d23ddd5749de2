package wasm

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"

	"github.com/tetratelabs/wazero/api"
)

const moduleExtism = "extism:host/env"

var (
	handleToHandle = signature{params: []api.ValueType{i64}, results: []api.ValueType{i64}}
	handleTo8      = signature{params: []api.ValueType{i64}, results: []api.ValueType{i32}}
	takesHandle    = signature{params: []api.ValueType{i64}}
	takesTwo       = signature{params: []api.ValueType{i64, i64}}
	givesHandle    = signature{results: []api.ValueType{i64}}
	gives32        = signature{results: []api.ValueType{i32}}
)

// extismFunctions are the functions of the Extism ABI. A guest that names
// memory it does not have is stopped: Extism's own kernel reads zeros there,
// and the guest goes on with what it does not know to be wrong.
var extismFunctions = map[string]hostFunction{
	"alloc":            {signature: handleToHandle, call: extismAlloc},
	"free":             {signature: takesHandle, call: func(inst *instance, _ api.Module, stack []uint64) { inst.extism.release(stack[0]) }},
	"length":           {signature: handleToHandle, call: extismLength},
	"length_unsafe":    {signature: handleToHandle, call: extismLength},
	"load_u8":          {signature: handleTo8, call: extismLoad(1, (*extismMemory).at)},
	"load_u64":         {signature: handleToHandle, call: extismLoad(8, (*extismMemory).at)},
	"input_load_u8":    {signature: handleTo8, call: extismLoad(1, (*extismMemory).inputAt)},
	"input_load_u64":   {signature: handleToHandle, call: extismLoad(8, (*extismMemory).inputAt)},
	"store_u8":         {signature: signature{params: []api.ValueType{i64, i32}}, call: extismStore8},
	"store_u64":        {signature: takesTwo, call: extismStore64},
	"input_length":     {signature: givesHandle, call: func(inst *instance, _ api.Module, stack []uint64) { stack[0] = inst.extism.input.size }},
	"input_offset":     {signature: givesHandle, call: func(inst *instance, _ api.Module, stack []uint64) { stack[0] = inst.extism.input.offset }},
	"output_set":       {signature: takesTwo, call: extismOutputSet},
	"error_set":        {signature: takesHandle, call: extismErrorSet},
	"config_get":       {signature: handleToHandle, call: extismConfigGet},
	"var_get":          {signature: handleToHandle, capability: CapabilityKV, call: extismVarGet},
	"var_set":          {signature: takesTwo, capability: CapabilityKV, call: extismVarSet},
	"http_request":     {signature: signature{params: []api.ValueType{i64, i64}, results: []api.ValueType{i64}}, call: extismHTTP},
	"http_status_code": {signature: gives32, call: extismNone},
	"http_headers":     {signature: givesHandle, call: extismNone},
	"log_trace":        {signature: takesHandle, capability: CapabilityLog, call: extismLog(slog.LevelDebug)},
	"log_debug":        {signature: takesHandle, capability: CapabilityLog, call: extismLog(slog.LevelDebug)},
	"log_info":         {signature: takesHandle, capability: CapabilityLog, call: extismLog(slog.LevelInfo)},
	"log_warn":         {signature: takesHandle, capability: CapabilityLog, call: extismLog(slog.LevelWarn)},
	"log_error":        {signature: takesHandle, capability: CapabilityLog, call: extismLog(slog.LevelError)},
	"get_log_level":    {signature: gives32, call: extismLogLevel},
}

// trap stops the guest that runs.
func trap(format string, args ...any) {
	panic(stopped{faultf(FaultTrap, format, args...)})
}

func extismNone(_ *instance, _ api.Module, stack []uint64) { stack[0] = 0 }

func extismAlloc(inst *instance, _ api.Module, stack []uint64) {
	size := stack[0]
	if stack[0] = inst.extism.alloc(size); stack[0] != 0 {
		inst.charge(int64(size) / perCopied)
	}
}

func extismLength(inst *instance, _ api.Module, stack []uint64) {
	size := uint64(0)
	if b := inst.extism.find(stack[0]); b != nil {
		size = b.size
	}
	stack[0] = size
}

func extismLoad(n uint64, from func(m *extismMemory, offset, n uint64) ([]byte, bool)) func(*instance, api.Module, []uint64) {
	return func(inst *instance, _ api.Module, stack []uint64) {
		b, ok := from(inst.extism, stack[0], n)
		if !ok {
			trap("it reads %d bytes at %d, which it was not given", n, stack[0])
		}
		stack[0] = loadLE(b)
	}
}

func extismStore8(inst *instance, _ api.Module, stack []uint64) {
	b, ok := inst.extism.at(stack[0], 1)
	if !ok {
		trap("it writes a byte at %d, which it was not given", stack[0])
	}
	b[0] = byte(stack[1])
}

func extismStore64(inst *instance, _ api.Module, stack []uint64) {
	b, ok := inst.extism.at(stack[0], 8)
	if !ok {
		trap("it writes 8 bytes at %d, which it was not given", stack[0])
	}
	binary.LittleEndian.PutUint64(b, stack[1])
}

func extismOutputSet(inst *instance, _ api.Module, stack []uint64) {
	out := extismBlock{offset: stack[0], size: stack[1]}
	if out.size > 0 {
		if _, ok := inst.extism.at(out.offset, out.size); !ok {
			trap("its output of %d bytes at %d lies outside what it was given", out.size, out.offset)
		}
	}
	inst.extism.out = out
}

func extismErrorSet(inst *instance, _ api.Module, stack []uint64) {
	inst.extism.failed = extismBlock{}
	if b := inst.extism.find(stack[0]); b != nil {
		inst.extism.failed = *b
	} else if stack[0] != 0 {
		trap("its error text at %d is no block that it was given", stack[0])
	}
}

// extismKey returns the text at a handle.
func (inst *instance) extismKey(what string, handle uint64) []byte {
	text, ok := inst.extism.text(handle)
	if !ok {
		trap("%s: %d is no block that it was given", what, handle)
	}
	inst.charge(int64(len(text)) / perCopied)
	return text
}

// extismGive answers with a block that holds value, or with 0.
func (inst *instance) extismGive(value []byte, found bool, stack []uint64) {
	if stack[0] = 0; found {
		inst.charge(int64(len(value)) / perCopied)
		stack[0] = inst.extism.put(value)
	}
}

func extismConfigGet(inst *instance, _ api.Module, stack []uint64) {
	value, found := inst.extism.config[string(inst.extismKey("config_get", stack[0]))]
	inst.extismGive(value, found, stack)
}

func extismVarGet(inst *instance, _ api.Module, stack []uint64) {
	name := inst.extismKey("var_get", stack[0])
	if inst.kv == nil {
		trap("var_get: it keeps no keys here")
	}
	value, found := inst.kv.get(name, inst.now)
	inst.extismGive(value, found, stack)
}

func extismVarSet(inst *instance, _ api.Module, stack []uint64) {
	name := inst.extismKey("var_set", stack[0])
	switch {
	case inst.kv == nil:
		trap("var_set: it keeps no keys here")
	case len(name) == 0 || len(name) > maxKVKey:
		trap("var_set: a name of %d bytes; 1 to %d are allowed", len(name), maxKVKey)
	case stack[1] == 0:
		inst.kv.del(name, inst.now)
		return
	}
	value := inst.extismKey("var_set", stack[1])
	if len(value) > maxKVValue {
		trap("var_set: a value of %d bytes; %d are allowed", len(value), maxKVValue)
	}
	if !inst.kv.put(name, value, 0, inst.now) {
		trap("var_set: the quota of %d bytes is used up", inst.plugin.limits.KV)
	}
}

func extismHTTP(*instance, api.Module, []uint64) {
	trap("http_request: a plugin has no network here")
}

func extismLog(level slog.Level) func(*instance, api.Module, []uint64) {
	return func(inst *instance, _ api.Module, stack []uint64) {
		text := inst.extismKey("log", stack[0])
		inst.logLine(level, text[:min(len(text), maxLogBytes)])
	}
}

// extismLogLevel answers with the lowest level that is kept, in Extism's count
// from trace, 0, to error, 4.
func extismLogLevel(inst *instance, _ api.Module, stack []uint64) {
	stack[0] = math.MaxInt32
	if !inst.plugin.mayLog {
		return
	}
	for i, level := range logLevels {
		if inst.plugin.host.log.Enabled(context.Background(), level) {
			stack[0] = uint64(i + 1)
			return
		}
	}
}
