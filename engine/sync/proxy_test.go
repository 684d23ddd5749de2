package sync_test

import (
	"errors"
	"io"
	"net"
	gosync "sync"
	"testing"
	"time"
)

// proxy stands between an edge and its hub's leaf node port and does what bad
// networks do.
type proxy struct {
	t      *testing.T
	listen net.Listener
	all    gosync.WaitGroup

	mu      gosync.Mutex
	changed gosync.Cond
	state   linkState
	target  string
	conns   map[net.Conn]bool
	dead    map[net.Conn]bool // of conns: what is read of them is lost
	closed  bool
	dials   int   // connections that were accepted
	up      int64 // bytes to the hub
}

// linkState is what the network does now.
type linkState struct {
	refuse  bool          // new connections end at once
	mute    bool          // new connections are accepted, and nothing is ever said
	swallow bool          // what the hub says is lost
	deaf    bool          // what the edge says is lost
	stall   bool          // nothing moves, and nobody is told
	delay   time.Duration // of every chunk
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listen: l, target: target, conns: map[net.Conn]bool{}, dead: map[net.Conn]bool{}}
	p.changed.L = &p.mu
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "nats-leaf://" + p.listen.Addr().String() }

// set changes the network; connections that stand are kept.
func (p *proxy) set(s linkState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	p.changed.Broadcast()
}

// cut ends every connection, and then the network is as given.
func (p *proxy) cut(then linkState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = then
	p.drop()
}

// lead makes new connections lead elsewhere.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// forget lets the connections that stand die without a word to either side, as a
// lost address translation does. New ones work.
func (p *proxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.dead[c] = true
	}
}

// counts returns how often the edge has dialed, and the bytes it has sent.
func (p *proxy) counts() (dials int, up int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials, p.up
}

// drop is called with mu held.
func (p *proxy) drop() {
	for c := range p.conns {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			p.t.Error(err)
		}
	}
	clear(p.conns)
	p.changed.Broadcast()
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.drop()
	p.mu.Unlock()
	if err := p.listen.Close(); err != nil {
		p.t.Error(err)
	}
	p.all.Wait()
}

func (p *proxy) accept() {
	for {
		edge, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse, mute, target := p.state.refuse || p.closed, p.state.mute, p.target
		p.dials++
		if mute && !refuse {
			p.conns[edge] = true
		}
		p.mu.Unlock()
		if refuse {
			_ = edge.Close()
			continue
		}
		if mute {
			continue
		}
		hub, err := net.Dial("tcp", target)
		if err != nil {
			_ = edge.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			_ = edge.Close()
			_ = hub.Close()
		} else {
			p.conns[edge], p.conns[hub] = true, true
			p.all.Go(func() { p.pump(hub, edge, false) })
			p.all.Go(func() { p.pump(edge, hub, true) })
		}
		p.mu.Unlock()
	}
}

// pump copies from one side to the other; down is the direction to the edge.
func (p *proxy) pump(to, from net.Conn, down bool) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return
		}
		p.mu.Lock()
		for p.state.stall && p.conns[from] {
			p.changed.Wait()
		}
		state, open, dead := p.state, p.conns[from], p.dead[from]
		p.mu.Unlock()
		if !open {
			return
		}
		if state.delay > 0 {
			<-time.After(state.delay)
		}
		if !down {
			p.mu.Lock()
			p.up += int64(n)
			p.mu.Unlock()
		}
		if lost := down && state.swallow || !down && state.deaf; !dead && !lost {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
