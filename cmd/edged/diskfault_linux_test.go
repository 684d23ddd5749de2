package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edged/edged/engine"
)

// TestDiskFaults holds that an edge whose disk fails under load refuses with the
// reason, goes on by itself in the same process when the disk is well again, and
// has lost nothing that it acknowledged: not even when the power is cut later,
// which finds what was only seen to be written (I1, I2, I9).
func TestDiskFaults(t *testing.T) {
	withFUSE(t)
	for name, c := range map[string]struct {
		fault fault
		says  string
	}{
		"full":          {fault{syscall.ENOSPC, growing}, "the disk is full"},
		"read-only":     {fault{syscall.EROFS, growing | changing}, "read-only"},
		"writes fail":   {fault{syscall.EIO, growing | changing}, "the disk fails"},
		"flushes fail":  {fault{syscall.EIO, flushing}, "the disk fails"},
		"full at flush": {fault{syscall.ENOSPC, flushing}, "the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPowerCut(t, "fsync")
			p.disk.arm(0)
			p.startPosting(0)
			for range 2 {
				p.waitAcked(p.ackedNow() + 200)
				p.disk.fail(c.fault)
				p.refused(c.says)
				p.disk.fail(fault{})
				p.waitAcked(p.ackedNow() + 200)
				if s, ok := statusOf(p.dataDir()); !ok || s.Storage.Trouble != "" {
					t.Errorf("the disk is well, the status says %q", s.Storage.Trouble)
				}
			}
			p.disk.arm(1 + p.rng.IntN(100))
			<-p.disk.cut
			p.powerOff(nil)
			p.posters.Wait()
			p.account()
			p.server = p.disk.mustMount(t, p.dir)
			p.settled()
		})
	}
}

// settled drains the edge and holds what arrived against what was acknowledged.
func (p *powerCut) settled() {
	p.t.Helper()
	s := p.drain()
	got := p.arrived()
	p.t.Logf("%d acknowledged: %+v", len(p.acked), got)
	if got != (wrong{}) || p.reported != 0 {
		p.t.Errorf("of %d acknowledged records at the hub: %+v; %d losses reported", len(p.acked), got, p.reported)
	}
	if !s.Audited || s.Gaps != 0 || s.Duplicates != 0 || s.Waiting != 0 {
		p.t.Errorf("summary %+v", s)
	}
}

func (p *powerCut) ackedNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

func (p *powerCut) waitAcked(n int) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("edge: %s", tailOf(p.edge.stderr.String()))
		}
	}()
	eventually(p.t, fmt.Sprintf("%d records are acknowledged", n), func() bool { return p.alive() && p.ackedNow() >= n })
}

func (p *powerCut) alive() bool {
	p.t.Helper()
	if !p.edge.running() {
		p.t.Fatalf("the edge ended: %v\n%s", p.edge.err, tailOf(p.edge.stderr.String()))
	}
	return true
}

// refused waits until a request is refused as it should be, and the status says
// why too.
func (p *powerCut) refused(says string) {
	p.t.Helper()
	var said string
	eventually(p.t, "a request is refused because "+says, func() bool {
		p.alive()
		n := p.posted.Add(1)
		client := http.Client{Timeout: 20 * time.Second}
		resp, err := client.Post(p.url, "application/x-ndjson", strings.NewReader(fmt.Sprintf("{\"n\":%d}\n", n)))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return false
		}
		if resp.StatusCode == http.StatusOK { // this once more
			p.mu.Lock()
			p.acked = append(p.acked, fmt.Sprintf("r-%d", n))
			p.mu.Unlock()
			return false
		}
		var a struct {
			Error string `json:"error"`
		}
		if err := json.Unmarshal(body, &a); err != nil {
			p.t.Fatalf("%s: %v", body, err)
		}
		said = a.Error
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" && strings.Contains(said, says)
	})
	p.t.Logf("refused: %s", said)
	var s engine.Status
	eventually(p.t, "the status says so", func() bool {
		p.alive()
		s, _ = statusOf(p.dataDir())
		return strings.Contains(s.Storage.Trouble, says)
	})
}
