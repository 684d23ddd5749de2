//go:build !wasip1

package edgedtest

import (
	"testing"

	edged "github.com/edged/edged/sdk/go"
)

// Host is the host's side of what needs a grant. It serves one test at a time.
type Host struct {
	// Now is the time of the calls that follow, in nanoseconds since 1970.
	Now int64
	// Device is the device configuration, KV what the plugin keeps, Metrics what it
	// counts.
	Device  map[string]string
	KV      map[string]string
	Metrics map[string]float64
	// Logs are the lines that it logged.
	Logs []string
}

// NewHost grants everything until the test ends.
func NewHost(t testing.TB) *Host {
	h := &Host{Device: map[string]string{}, KV: map[string]string{}, Metrics: map[string]float64{}}
	until := map[string]int64{}
	before := edged.SetNatives(edged.Natives{
		Now: func() int64 { return h.Now },
		Log: func(_ edged.Level, line string) { h.Logs = append(h.Logs, line) },
		ConfigGet: func(key string) ([]byte, bool) {
			value, ok := h.Device[key]
			return []byte(value), ok
		},
		KVGet: func(key string) ([]byte, bool) {
			value, ok := h.KV[key]
			return []byte(value), ok && (until[key] == 0 || h.Now < until[key])
		},
		KVPut: func(key string, value []byte, ttl int32) bool {
			if key == "" || len(key) > 255 {
				return false
			}
			h.KV[key], until[key] = string(value), 0
			if ttl > 0 {
				until[key] = h.Now + int64(ttl)*1e9
			}
			return true
		},
		KVDel:     func(key string) { delete(h.KV, key) },
		MetricAdd: func(name string, delta float64) { h.Metrics[name] += delta },
	})
	t.Cleanup(func() { edged.SetNatives(before) })
	return h
}
