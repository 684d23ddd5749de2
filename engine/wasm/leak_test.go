//go:build linux

package wasm

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// addressSpace returns the bytes of address space this process has mapped.
func addressSpace(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func TestInstancesLeaveNoMemoryBehind(t *testing.T) {
	h := testHost(t)
	bad := evilGuest()
	bad.start = bad.fn("", nil, nil, 0, 0, unreachable)
	limits := Limits{Time: time.Second, Memory: 64 << 20}
	p := load(t, h, Module{Code: evilGuest(unreachable).build(), Limits: limits})
	var out Output
	before := addressSpace(t)
	for range 100 {
		if err := p.Transform(t.Context(), testRecords("X"), testTime, &out); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Load(t.Context(), Module{Name: "bad", Code: bad.build(), Limits: limits}); err == nil {
			t.Fatal("it was loaded")
		}
	}
	// 200 instances have come and gone, each with 64 MiB of addresses.
	if grown := addressSpace(t) - before; grown > 1<<30 {
		t.Errorf("%d MiB of addresses were left behind", grown>>20)
	}
}
