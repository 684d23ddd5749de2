package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	gosync "sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
)

const configPipeline = `
edge { device_id = "e" }
pipeline "p" {
  collect "file" "f" {
    path   = %s
    follow = true
  }
  alert "high" {
    when    = record.payload.n > config("limit", 100)
    message = { limit = config("limit", 100), site = config("site/name", "somewhere") }
  }
}`

// TestAChangeOfTheDeviceConfigurationIsSeenAtOnce holds that pipelines at work see
// what is set, by the next record, and that it is there after a restart.
func TestAChangeOfTheDeviceConfigurationIsSeenAtOnce(t *testing.T) {
	r := newRig(t)
	text := fmt.Sprintf(configPipeline, r.file("in.ndjson", lines("a", 10)))
	run := r.start(false, text, nil)
	collected := func(n uint64) {
		t.Helper()
		until(t, fmt.Sprintf("%d records are stored", n), func() bool { return run.Status().Totals.Stored == n })
	}
	collected(10)
	if n := run.Status().Totals.Messages; n != 0 {
		t.Errorf("%d alerts under the default", n)
	}
	device := run.DeviceConfig()
	for key, value := range map[string]string{"limit": "7.5", "site/name": "Cold store 7"} {
		if err := device.Set(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	r.append("in.ndjson", lines("b", 10))
	collected(20)
	if n := run.Status().Totals.Messages; n != 3 {
		t.Errorf("%d alerts with a limit of 7.5, want 3", n)
	}
	run.stop()

	run = r.start(false, text, nil)
	defer run.stop()
	device = run.DeviceConfig()
	if value, ok := device.Lookup("site/name"); !ok || string(value) != "Cold store 7" {
		t.Errorf("after a restart: %q, %v", value, ok)
	}
	if err := device.Unset(t.Context(), "limit"); err != nil {
		t.Fatal(err)
	}
	if _, ok := device.Lookup("limit"); ok {
		t.Error("an unset key is there")
	}
	if err := device.Unset(t.Context(), "limit"); !errors.Is(err, engine.ErrNoConfigKey) {
		t.Errorf("unset twice: %v", err)
	}
	r.append("in.ndjson", lines("c", 10))
	collected(30)
	if n := run.Status().Totals.Messages; n != 3 {
		t.Errorf("%d alerts in all after the limit was unset, want 3", n)
	}
}

// TestTheDeviceConfigurationIsBounded holds I9 for it: keys, values and the whole
// are refused with a reason when they are too large, and nothing of them is kept.
func TestTheDeviceConfigurationIsBounded(t *testing.T) {
	r := newRig(t)
	run := r.start(false, fmt.Sprintf(configPipeline, r.file("in.ndjson", lines("a", 1))), nil)
	defer run.stop()
	device := run.DeviceConfig()
	for _, c := range []struct{ key, value, want string }{
		{"a b", "x", "letters, digits"},
		{"a", strings.Repeat("x", 64<<10+1), "at most 65536 bytes"},
		{"a", "\xff", "UTF-8"},
	} {
		if err := device.Set(t.Context(), c.key, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %d bytes: %v, want …%s…", c.key, len(c.value), err, c.want)
		}
	}
	most := strings.Repeat("x", 64<<10)
	for i := range 15 {
		if err := device.Set(t.Context(), fmt.Sprintf("k%d", i), most); err != nil {
			t.Fatal(err)
		}
	}
	if err := device.Set(t.Context(), "one.more", most); err == nil || !strings.Contains(err.Error(), "all keys and values together") {
		t.Errorf("past the bound: %v", err)
	}
	for range 100 { // the bucket keeps one value a key, and marks of what was unset
		if err := device.Set(t.Context(), "k0", most); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(device.List()); n != 15 {
		t.Errorf("%d keys are set, want 15", n)
	}
}

// TestTheDeviceConfigurationServesManyAtOnce is for the race detector.
func TestTheDeviceConfigurationServesManyAtOnce(t *testing.T) {
	r := newRig(t)
	run := r.start(false, fmt.Sprintf(configPipeline, r.file("in.ndjson", lines("a", 1))), nil)
	defer run.stop()
	device := run.DeviceConfig()
	if err := device.Set(t.Context(), "k", "0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers gosync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if value, ok := device.Lookup("k"); !ok || len(value) != 1 {
					t.Errorf("got %q, %v", value, ok)
					return
				}
			}
		})
	}
	for i := range 20 {
		if err := device.Set(t.Context(), "k", fmt.Sprint(i%10)); err != nil {
			t.Error(err)
		}
	}
	cancel()
	readers.Wait()
	if diff := cmp.Diff("9", device.List()[0].Value); diff != "" {
		t.Error(diff)
	}
}
