package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged/edged/engine"
)

// process is one edged process under test.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan struct{}
	err            error // of Wait, once ended is closed
}

// lockedBuffer may be read while a process writes it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*lockedBuffer)(nil)

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// launch starts the binary in dir. The test kills what still runs at its end.
func launch(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p, err := spawn(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spawn is launch for any goroutine.
func spawn(t *testing.T, dir string, args ...string) (*process, error) {
	p := &process{t: t, cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p, nil
}

// kill ends the process as a power switch would, and waits for its end.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	<-p.ended
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits for the process to end by itself, with exit code 0.
func (p *process) wait(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.t.Fatalf("the process runs after %v\nstderr: %s", within, tailOf(p.stderr.String()))
	}
	if p.err != nil {
		p.t.Fatalf("the process ended with %v\nstderr: %s", p.err, tailOf(p.stderr.String()))
	}
}

// stop asks the process to stop, as a service manager does.
func (p *process) stop(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	p.wait(time.Minute)
}

func tailOf(s string) string {
	const most = 4 << 10
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// eventually polls cond, which looks at other processes, until it holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it still does not hold that %s", what)
		}
	}
}

// statusOf asks the edge on dataDir; false: none answers.
func statusOf(dataDir string) (engine.Status, bool) {
	client, err := engine.Dial(dataDir)
	if err != nil {
		return engine.Status{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	status, err := client.Status(ctx)
	return status, errors.Join(err, client.Close()) == nil
}

// freeAddresses returns local addresses that nothing listens on. A hub that is
// killed and comes back must have the same one.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// hubProcess is an `edged hub` of its own at addresses that stay.
type hubProcess struct {
	*process
	t            *testing.T
	dir          string
	leaf, client string
}

func launchHub(t *testing.T, dir string) *hubProcess {
	t.Helper()
	addrs := freeAddresses(t, 2)
	h := &hubProcess{t: t, dir: dir, leaf: addrs[0], client: addrs[1]}
	h.start()
	return h
}

// start starts the hub and waits until it serves.
func (h *hubProcess) start() {
	h.t.Helper()
	h.process = launch(h.t, h.dir, h.args()...)
	eventually(h.t, "the hub serves", func() bool {
		if !h.running() {
			h.t.Fatalf("the hub ended: %v\n%s", h.err, h.stderr.String())
		}
		return strings.Contains(h.stdout.String(), h.client)
	})
}

func (h *hubProcess) args() []string {
	return []string{"hub", "--data-dir", h.dir, "--leaf-listen", h.leaf, "--client-listen", h.client}
}
