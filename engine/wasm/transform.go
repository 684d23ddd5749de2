package wasm

import (
	"context"
	"fmt"
	"time"

	"github.com/edged/edged/engine/record"
)

// Transform gives in to the plugin and puts one result for each of its records
// into out, in their order. now is the time that the guest is told.
//
// A record on which the plugin fails gets a Faulted result; the others of in
// get theirs all the same (I6): the instance is thrown away and the call is
// replayed record by record on a fresh one. The error is for what no record is
// to blame for: ctx ended, the plugin is closed, or no instance could be
// started; then out holds nothing of use and in may be given again, after
// [KV.Undo] where there is a KV.
//
// Transform waits for a free instance when Options.Workers calls run already.
// in is not kept, but records in out may share its bytes.
func (p *Plugin) Transform(ctx context.Context, in []record.Record, now time.Time, out *Output) error {
	if !p.Transforms() {
		return fmt.Errorf("plugin %q: it cannot transform: it does not export %s", p.name, exportTransform)
	}
	out.reset(in)
	err := p.run(ctx, out, out.kv(p), unixNano(now))
	if out.in = nil; err != nil {
		return err
	}
	p.count(out.Results)
	return nil
}

func (p *Plugin) count(results []Result) {
	var n [Skipped + 1]uint64
	for i := range results {
		n[results[i].Action]++
	}
	p.records.Add(uint64(len(results)) - n[Skipped])
	p.skipped.Add(n[Skipped])
	p.passed.Add(n[Pass])
	p.emitted.Add(n[Emit])
	p.dropped.Add(n[Drop])
	p.failed.Add(n[Error])
	p.faults.Add(n[Faulted])
}

// kv returns what the plugin may keep keys in.
func (o *Output) kv(p *Plugin) *KV {
	if !p.keepsKeys {
		return nil
	}
	return o.KV
}

// next implements [exchange].
func (o *Output) next(limit int) (n, size int) {
	in := o.in[len(o.Results):]
	size = callHeader
	for i := range in {
		frame := recordFrameSize(&in[i])
		if n = i; i > 0 && (i == limit || size+frame > callBytes) {
			return n, size
		}
		size += frame
	}
	return len(in), size
}

// write implements [exchange].
func (o *Output) write(dst []byte, n, size int, now int64) {
	appendCall(dst, o.in[len(o.Results):][:n], size, now)
}

// read implements [exchange].
func (o *Output) read(r *run, n int, outbox []byte) *Fault {
	first := len(o.Results)
	if fault := o.decode(o.in[first:first+n], o.copies.add(outbox), &r.plugin.limits); fault != nil {
		return fault
	}
	for i := first; i < len(o.Results); i++ {
		if res := &o.Results[i]; res.Action == Faulted {
			res.Reason = r.blame(res.Fault)
		}
	}
	return nil
}

// fail implements [exchange].
func (o *Output) fail(f *Fault, reason string) {
	action := Faulted
	if f == nil {
		action = Skipped
	}
	o.Results = append(o.Results, Result{Action: action, Fault: f, Reason: reason})
}
