package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine"
)

// process is one running edged of its own.
type process struct {
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	started time.Time
	done    chan error
}

// startProcess runs the edged binary.
func startProcess(binary string, args ...string) (*process, error) {
	return watchProcess(func(error) {}, binary, args...)
}

// watchProcess runs the edged binary and calls exited when it has ended.
func watchProcess(exited func(error), binary string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), done: make(chan error, 1)}
	p.cmd.Stderr = &p.stderr
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := p.cmd.Wait()
		exited(p.ended(err))
		p.done <- err
	}()
	return p, nil
}

// stop asks the process to end, and makes it end if it does not.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", p.cmd.Args[1], err, p.stderr.String())
		}
		return nil
	case <-time.After(time.Minute):
		return errors.Join(fmt.Errorf("%s does not stop\n%s", p.cmd.Args[1], p.stderr.String()), p.cmd.Process.Kill())
	}
}

// memory reads a line of /proc/<pid>/status, in bytes.
func (p *process) memory(field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of edged: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("the system does not tell %s of a process", field)
}

// until waits for the edge on dataDir to say that ok holds.
func (p *process) until(ctx context.Context, dataDir string, ok func(engine.Status) bool) error {
	for {
		if client, err := engine.Dial(dataDir); err == nil {
			if s, err := client.Status(ctx); err == nil && ok(s) {
				return nil
			}
		}
		if err := p.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// ended is the error of a process that ended too early, with what it said.
func (p *process) ended(err error) error {
	if err == nil {
		return fmt.Errorf("edged ended\n%s", p.stderr.String())
	}
	return fmt.Errorf("edged ended: %w\n%s", err, p.stderr.String())
}

// pause waits, and returns an error when the process or ctx ends meanwhile.
func (p *process) pause(ctx context.Context, d time.Duration) error {
	select {
	case err := <-p.done:
		p.done <- err
		return p.ended(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// buildEdged builds the real binary, as `make build` does.
func buildEdged(ctx context.Context, work string) (string, error) {
	out, err := filepath.Abs(filepath.Join(work, "edged"))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, "./cmd/edged")
	cmd.Dir = ".." // with the versions of its own module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building edged: %w\n%s", err, text)
	}
	return out, nil
}

// measureIdle returns the resident memory of an edge that has its pipeline, its
// plugin and its remote, and nothing to do, after settle.
func measureIdle(ctx context.Context, binary, dir string, settle time.Duration) (float64, error) {
	addr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	f := edgeFile{source: httpSource(addr), transform: true, rules: true, remote: unreachable, batch: 500}
	path, err := f.write(dir)
	if err != nil {
		return 0, err
	}
	data := filepath.Join(dir, "data")
	p, err := startProcess(binary, "run", path, "--data-dir", data, "--no-progress")
	if err != nil {
		return 0, err
	}
	rss, err := func() (float64, error) {
		if err := p.until(ctx, data, func(s engine.Status) bool { return s.Pipelines[0].Sources[0].State == "running" }); err != nil {
			return 0, err
		}
		if err := p.pause(ctx, settle); err != nil {
			return 0, err
		}
		return p.memory("VmRSS")
	}()
	return rss, errors.Join(err, p.stop())
}

// unreachable is a remote where nothing listens.
const unreachable = `urls = ["nats-leaf://127.0.0.1:9"]`

func httpSource(addr string) string {
	return fmt.Sprintf("collect \"http\" \"input\" {\n    listen = %q\n  }", addr)
}

// backlogMemory is the resident memory of an edge whose remote is unreachable.
type backlogMemory struct {
	settled float64 // with everything stored and nothing to do
	peak    float64 // while the records came in
}

// measureBacklog stores all records of the data set and leaves them in dir, with
// the hub expected at leaf.
func measureBacklog(ctx context.Context, binary, dir string, d dataSet, leaf string, settle time.Duration) (m backlogMemory, err error) {
	path, err := drainFile(d, leaf).write(dir)
	if err != nil {
		return m, err
	}
	data := filepath.Join(dir, "data")
	p, err := startProcess(binary, "run", path, "--data-dir", data, "--no-progress")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	stored := func(s engine.Status) bool {
		return s.Totals.Stored == uint64(d.Records) && s.Waiting >= uint64(d.Records)
	}
	if err := p.until(ctx, data, stored); err != nil {
		return m, err
	}
	if err := p.pause(ctx, settle); err != nil {
		return m, err
	}
	if m.settled, err = p.memory("VmRSS"); err != nil {
		return m, err
	}
	m.peak, err = p.memory("VmHWM")
	return m, err
}

func drainFile(d dataSet, leaf string) edgeFile {
	// With follow, the run does not end with the file.
	source := fmt.Sprintf("collect \"file\" \"input\" {\n    path   = %q\n    follow = true\n  }", d.Path)
	return edgeFile{source: source, remote: fmt.Sprintf("urls = [%q]", "nats-leaf://"+leaf), batch: 999}
}

// measureStart returns the time from the start of the process until an HTTP
// client has the answer that its record is stored.
func measureStart(ctx context.Context, binary, dir string, f edgeFile) (took time.Duration, err error) {
	addr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	f.source = httpSource(addr)
	path, err := f.write(dir)
	if err != nil {
		return 0, err
	}
	const body = `{"id":"first","device_id":"mote-01","data_type":"sensor_reading","timestamp":"2026-11-22T06:15:00Z","payload":{"humidity":50,"temperature":20}}`
	p, err := startProcess(binary, "run", path, "--data-dir", filepath.Join(dir, "data"), "--no-progress")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		answer, err := client.Post("http://"+addr+"/records", "application/json", strings.NewReader(body))
		if err == nil {
			took = time.Since(p.started)
			if err := answer.Body.Close(); err != nil {
				return 0, err
			}
			if answer.StatusCode != http.StatusOK {
				return 0, fmt.Errorf("the edge answered %s", answer.Status)
			}
			return took, nil
		}
		if err := p.pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// sender starts what sends to the hub. It calls failed when that ends early;
// stop ends it.
type sender func(failed func(error)) (stop func() error, err error)

// measureDrain starts a hub of its own process, then what send starts, and
// returns how many records a second arrived at the hub, from the last moment it
// had none to the first it had all. Another client watches; at the end it reads
// every one.
func measureDrain(ctx context.Context, binary, dir, leaf string, records int, send sender) (rate float64, err error) {
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := freeAddress()
	if err != nil {
		return 0, err
	}
	hub, err := startProcess(binary, "hub", "--leaf-listen", leaf, "--client-listen", client, "--data-dir", filepath.Join(dir, "hub"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, hub.stop()) }()
	var nc *nats.Conn
	for nc == nil {
		if nc, err = nats.Connect("nats://" + client); err != nil {
			if err := hub.pause(ctx, 20*time.Millisecond); err != nil {
				return 0, err
			}
		}
	}
	defer nc.Close()
	stop, err := send(cancel)
	if err != nil {
		return 0, err
	}
	took, err := watchDrain(watch, nc, hub, uint64(records))
	if watch.Err() != nil {
		err = context.Cause(watch)
	}
	if err := errors.Join(err, stop()); err != nil {
		return 0, err
	}
	t, err := countHub(ctx, nc, "EDGED_RECORDS", "edged.hub.records.>", nil)
	return float64(records) / took.Seconds(), t.exactly(records, err)
}

func watchDrain(ctx context.Context, nc *nats.Conn, hub *process, records uint64) (time.Duration, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	var s jetstream.Stream
	for s == nil {
		if s, err = js.Stream(ctx, "EDGED_RECORDS"); err != nil {
			if err := hub.pause(ctx, 20*time.Millisecond); err != nil {
				return 0, err
			}
		}
	}
	empty := time.Now()
	for {
		at := time.Now()
		info, err := s.Info(ctx)
		if err != nil {
			return 0, fmt.Errorf("watching the hub: %w", err)
		}
		if info.State.Msgs == 0 {
			empty = at
		}
		// Ledger entries are among them; the exact count follows at the end.
		if info.State.Msgs > records+(records-1)/999 {
			return at.Sub(empty), nil
		}
		if err := hub.pause(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// drainEdge starts a real edge on a copy of the backlog.
func drainEdge(binary, dir, backlog string, d dataSet, leaf string, failed func(error)) (stop func() error, err error) {
	data := filepath.Join(dir, "data")
	if err := os.CopyFS(data, os.DirFS(filepath.Join(backlog, "data", "."))); err != nil {
		return nil, fmt.Errorf("copying the backlog: %w", err)
	}
	path, err := drainFile(d, leaf).write(dir)
	if err != nil {
		return nil, err
	}
	p, err := watchProcess(failed, binary, "run", path, "--data-dir", data, "--no-progress")
	if err != nil {
		return nil, err
	}
	return p.stop, nil
}
