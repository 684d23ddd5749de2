package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Results of WASI calls.
const (
	wasiOK    = 0
	wasiBadF  = 8
	wasiFault = 21
	wasiInval = 28
)

// Bounds of what one WASI call may make the host do.
const (
	maxIOVec       = 64
	maxPoll        = 64
	maxRandomBytes = 64 << 10
	// maxStderrBytes of what a call writes to its standard streams are kept.
	maxStderrBytes = 1024
)

// errExit stops a guest that called proc_exit.
var errExit = errors.New("the plugin called proc_exit")

// wasiFunctions is the part of WASI that language runtimes import whatever the
// program does. None of it reaches the outside: there are no files, arguments,
// environment or sockets; the clock is the call's own time; random_get gives
// the same bytes to every instance of a module, so that a plugin stays a
// function of its input; what it prints goes to the log where log is granted,
// and explains a trap.
var wasiFunctions = map[string]hostFunction{
	"args_get":            {signature: errno(i32, i32), call: wasiNothing},
	"args_sizes_get":      {signature: errno(i32, i32), call: wasiZeroSizes},
	"environ_get":         {signature: errno(i32, i32), call: wasiNothing},
	"environ_sizes_get":   {signature: errno(i32, i32), call: wasiZeroSizes},
	"clock_res_get":       {signature: errno(i32, i32), call: wasiClockRes},
	"clock_time_get":      {signature: errno(i32, i64, i32), call: wasiClockTime},
	"fd_close":            {signature: errno(i32), call: wasiNoFile},
	"fd_fdstat_get":       {signature: errno(i32, i32), call: wasiFDStat},
	"fd_fdstat_set_flags": {signature: errno(i32, i32), call: wasiNoFile},
	"fd_prestat_get":      {signature: errno(i32, i32), call: wasiNoFile},
	"fd_prestat_dir_name": {signature: errno(i32, i32, i32), call: wasiNoFile},
	"fd_read":             {signature: errno(i32, i32, i32, i32), call: wasiNoFile},
	"fd_seek":             {signature: errno(i32, i64, i32, i32), call: wasiNoFile},
	"fd_write":            {signature: errno(i32, i32, i32, i32), call: wasiWrite},
	"poll_oneoff":         {signature: errno(i32, i32, i32, i32), call: wasiPoll},
	"proc_exit":           {signature: signature{params: []api.ValueType{i32}}, call: wasiExit},
	"random_get":          {signature: errno(i32, i32), call: wasiRandom},
	"sched_yield":         {signature: errno(), call: wasiNothing},
}

func errno(params ...api.ValueType) signature {
	return signature{params: params, results: []api.ValueType{i32}}
}

func defineWASI(ctx context.Context, r wazero.Runtime) error {
	return define(ctx, r, moduleWASI, wasiFunctions)
}

func wasiNothing(_ *instance, _ api.Module, stack []uint64) { stack[0] = wasiOK }
func wasiNoFile(_ *instance, _ api.Module, stack []uint64)  { stack[0] = wasiBadF }
func wasiExit(*instance, api.Module, []uint64)              { panic(errExit) }

func wasiZeroSizes(_ *instance, mod api.Module, stack []uint64) {
	mem := mod.Memory()
	ok := mem.WriteUint32Le(api.DecodeU32(stack[0]), 0) && mem.WriteUint32Le(api.DecodeU32(stack[1]), 0)
	stack[0] = wasiResult(ok)
}

func wasiResult(ok bool) uint64 {
	if ok {
		return wasiOK
	}
	return wasiFault
}

func wasiClockRes(_ *instance, mod api.Module, stack []uint64) {
	stack[0] = wasiResult(mod.Memory().WriteUint64Le(api.DecodeU32(stack[1]), 1))
}

// wasiClockTime says the time of the call. The monotonic clock moves a little
// whenever it is read, and by as much as the guest wants to sleep: a language
// runtime that waits for time to pass goes on, and yet sees the same times in
// every run. It never says zero, which Go's runtime takes for a broken clock.
func wasiClockTime(inst *instance, mod api.Module, stack []uint64) {
	t := uint64(inst.now)
	if api.DecodeU32(stack[0]) != 0 {
		inst.monotonic += uint64(time.Microsecond)
		t = inst.monotonic
	}
	stack[0] = wasiResult(mod.Memory().WriteUint64Le(api.DecodeU32(stack[2]), max(t, 1)))
}

// wasiPoll lets every subscription come true at once.
func wasiPoll(inst *instance, mod api.Module, stack []uint64) {
	const subscription, event = 48, 32
	in, out, n, count := api.DecodeU32(stack[0]), api.DecodeU32(stack[1]), api.DecodeU32(stack[2]), api.DecodeU32(stack[3])
	if n == 0 || n > maxPoll {
		stack[0] = wasiInval
		return
	}
	inst.charge(int64(n) * 8)
	mem := mod.Memory()
	for i := range n {
		sub, ok := mem.Read(in+i*subscription, subscription)
		if !ok {
			stack[0] = wasiFault
			return
		}
		var e [event]byte
		copy(e[:8], sub[:8]) // user data
		e[10] = sub[8]       // kind
		if timeout := binary.LittleEndian.Uint64(sub[24:]); sub[8] == 0 {
			if sub[40]&1 != 0 { // absolute
				inst.monotonic = max(inst.monotonic, timeout)
			} else {
				inst.monotonic += timeout
			}
		}
		if !mem.Write(out+i*event, e[:]) {
			stack[0] = wasiFault
			return
		}
	}
	stack[0] = wasiResult(mem.WriteUint32Le(count, n))
}

// wasiFDStat says of the standard streams that they are character devices.
func wasiFDStat(_ *instance, mod api.Module, stack []uint64) {
	if api.DecodeU32(stack[0]) > 2 {
		stack[0] = wasiBadF
		return
	}
	var stat [24]byte
	stat[0] = 2
	stack[0] = wasiResult(mod.Memory().Write(api.DecodeU32(stack[1]), stat[:]))
}

func wasiWrite(inst *instance, mod api.Module, stack []uint64) {
	fd, vecs, count, written := api.DecodeU32(stack[0]), api.DecodeU32(stack[1]), api.DecodeU32(stack[2]), api.DecodeU32(stack[3])
	if fd != 1 && fd != 2 {
		stack[0] = wasiBadF
		return
	}
	if count > maxIOVec {
		stack[0] = wasiInval
		return
	}
	inst.charge(int64(count) * 8)
	mem := mod.Memory()
	total := uint32(0)
	for i := range count {
		vec, ok := mem.Read(vecs+8*i, 8)
		if !ok {
			stack[0] = wasiFault
			return
		}
		ptr, size := binary.LittleEndian.Uint32(vec), binary.LittleEndian.Uint32(vec[4:])
		total += size
		text, ok := mem.Read(ptr, min(size, maxStderrBytes-uint32(len(inst.stderr))))
		if !ok {
			stack[0] = wasiFault
			return
		}
		inst.stderr = append(inst.stderr, text...)
	}
	stack[0] = wasiResult(mem.WriteUint32Le(written, total))
}

func wasiRandom(inst *instance, mod api.Module, stack []uint64) {
	size := api.DecodeU32(stack[1])
	if size > maxRandomBytes { // the host's own time is not metered
		stack[0] = wasiInval
		return
	}
	inst.charge(int64(size) / 4)
	buf, ok := mod.Memory().Read(api.DecodeU32(stack[0]), size)
	if ok {
		_, _ = inst.random.Read(buf) // never fails, by its documentation
	}
	stack[0] = wasiResult(ok)
}
