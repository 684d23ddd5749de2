package main

import (
	"math"
	"runtime"
	"testing"
)

func TestLimitGivesWayWhenItCostsTooMuch(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit, want int64
		used        processor
	}{
		{"idle", heapLimit, heapLimit, processor{}},
		{"busy, collecting a little", heapLimit, heapLimit, processor{collecting: 0.1, all: 5}},
		{"busy, at the bound", heapLimit, heapLimit, processor{collecting: 1, all: 5}},
		{"busy collecting", heapLimit, heapLimit * 3 / 2, processor{collecting: 2.5, all: 5}},
		{"and again", heapLimit * 3 / 2, heapLimit * 9 / 4, processor{collecting: 2.5, all: 5}},
		{"no end", math.MaxInt64 - 1, math.MaxInt64 - 1, processor{collecting: 5, all: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextLimit(c.limit, c.used); got != c.want {
				t.Errorf("the limit is %d, want %d", got, c.want)
			}
		})
	}
}

func TestProcessorTimeIsRead(t *testing.T) {
	before := readProcessor()
	for range 3 {
		garbage = make([]byte, 1<<20)
		runtime.GC()
	}
	used := readProcessor().since(before)
	if used.collecting <= 0 || used.all < used.collecting {
		t.Errorf("used %+v after three collections", used)
	}
}

var garbage []byte
