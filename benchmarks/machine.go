package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine is what the figures depend on.
type Machine struct {
	CPU         string  `json:"cpu"`
	CPUs        int     `json:"cpus"`
	Memory      string  `json:"memory"`
	OS          string  `json:"os"`
	Go          string  `json:"go"`
	FsyncMedian float64 `json:"fsync_us_median"` // appending 4 KiB
	FsyncP99    float64 `json:"fsync_us_p99"`
	LoadBefore  string  `json:"load_before"`
	LoadAfter   string  `json:"load_after"`
}

// describeMachine measures the disk that work is on.
func describeMachine(work string) (Machine, error) {
	m := Machine{
		CPU: procLine("/proc/cpuinfo", "model name"), CPUs: runtime.GOMAXPROCS(0),
		Memory: procLine("/proc/meminfo", "MemTotal"), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		LoadBefore: loadAverage(),
	}
	var err error
	m.FsyncMedian, m.FsyncP99, err = fsyncLatency(filepath.Join(work, "fsync"))
	return m, err
}

// procLine returns the value behind the first line of a /proc file that begins
// with key.
func procLine(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// fsyncLatency appends 4 KiB and fsyncs, many times, and returns microseconds.
func fsyncLatency(path string) (median, p99 float64, err error) {
	const times = 300
	f, err := os.Create(path)
	if err != nil {
		return 0, 0, fmt.Errorf("measuring the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	block := make([]byte, 4096)
	took := make([]float64, times)
	for i := range took {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, 0, fmt.Errorf("measuring the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, 0, fmt.Errorf("measuring the disk: %w", err)
		}
		took[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	slices.Sort(took)
	return took[times/2], took[times*99/100], nil
}

// commit returns the commit of the source and whether files differ from it.
func commit(ctx context.Context) (id string, modified bool) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown", false
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	return strings.TrimSpace(string(out)), err != nil || len(changes) > 0
}
