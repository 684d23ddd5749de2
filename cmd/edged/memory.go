package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The bounds of the Go heap. Devices are short of memory, and what is live here
// is small, so collecting twice as often as Go does costs a few percent of
// processor time and takes about a tenth off the memory with a backlog. What
// comes to most while a backlog drains are the server's blocks, 8 MiB each, that
// it keeps only until they are collected: a soft limit sees to that in time.
const (
	heapGrowth  = 50       // percent, as GOGC
	heapLimit   = 64 << 20 // bytes that Go holds, as GOMEMLIMIT
	limitPeriod = 5 * time.Second
	// costlyShare is the part of the processor time used that collecting may
	// take before the limit gives way: an edge with more alive than fits under
	// the limit would do little else.
	costlyShare = 0.2
)

// boundHeap sets the bounds that the environment does not set, and lets the limit
// rise, by half each time, while it costs too much. It returns at once; ctx ends
// the watch.
func boundHeap(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(heapLimit)
	go func() {
		limit := int64(heapLimit)
		tick := time.NewTicker(limitPeriod)
		defer tick.Stop()
		for last := readProcessor(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := readProcessor()
			if next := nextLimit(limit, now.since(last)); next != limit {
				limit = next
				debug.SetMemoryLimit(limit)
			}
			last = now
		}
	}()
}

// nextLimit is the limit after a period in which the processor was used so.
func nextLimit(limit int64, used processor) int64 {
	if used.collecting <= costlyShare*used.all || limit > math.MaxInt64/2 {
		return limit
	}
	return limit + limit/2
}

// processor is processor time in seconds: what collecting garbage took, and all.
type processor struct{ collecting, all float64 }

func (p processor) since(o processor) processor {
	return processor{p.collecting - o.collecting, p.all - o.all}
}

// readProcessor reads what the process has used so far. Collecting in time that
// nobody else wanted is not counted: it keeps nobody waiting.
func readProcessor() processor {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	idleMark := s[1].Value.Float64()
	return processor{
		collecting: s[0].Value.Float64() - idleMark,
		all:        s[2].Value.Float64() - s[3].Value.Float64() - idleMark,
	}
}
