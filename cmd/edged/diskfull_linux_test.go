package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk mounts a tmpfs of so many bytes below the rig, instead of its disk.
func (p *powerCut) smallDisk(bytes int) {
	p.t.Helper()
	if err := p.server.Unmount(); err != nil {
		p.t.Fatal(err)
	}
	p.server = nil
	if err := syscall.Mount("tmpfs", p.dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		p.t.Fatalf("mounting a tmpfs: %v: a full disk cannot be tested here; run as root with CAP_SYS_ADMIN, or leave it out with %s=1", err, noFUSEVariable)
	}
	p.t.Cleanup(func() {
		if p.edge != nil {
			p.edge.kill()
		}
		if err := syscall.Unmount(p.dir, 0); err != nil {
			p.t.Error(err)
		}
	})
}

// fillUp writes a file until the disk takes no byte more.
func (p *powerCut) fillUp() (remove func()) {
	p.t.Helper()
	path := filepath.Join(p.dir, "someone-elses")
	f, err := os.Create(path)
	if err != nil {
		p.t.Fatal(err)
	}
	for buf := make([]byte, 64<<10); ; {
		if _, err := f.Write(buf); err == nil {
			continue
		}
		if buf = buf[:len(buf)/2]; len(buf) == 0 {
			break
		}
	}
	if err := f.Close(); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestDiskFull fills a real small file system under a working edge.
func TestDiskFull(t *testing.T) {
	withFUSE(t)
	// Others use up the disk to its last byte, faster than the edge looks.
	t.Run("by others", func(t *testing.T) {
		t.Parallel()
		p := newPowerCut(t, "fsync")
		p.smallDisk(64 << 20)
		p.startPosting(0)
		for range 2 {
			p.waitAcked(p.ackedNow() + 200)
			remove := p.fillUp()
			p.refused("the disk is full")
			remove()
			p.waitAcked(p.ackedNow() + 200)
		}
		remove := p.fillUp()
		p.stopPosting()
		p.startPosting(0) // on a full disk
		p.refused("the disk is full")
		remove()
		p.waitAcked(p.ackedNow() + 200)
		p.stopPosting()
		p.settled()
	})
	// The edge's own backlog uses it up while the hub is away, far below the
	// edge's budget: what is synced then makes room without anybody's help.
	t.Run("by itself", func(t *testing.T) {
		t.Parallel()
		p := newPowerCut(t, "fsync")
		p.smallDisk(64 << 20)
		p.pad = strings.Repeat("x", 8<<10)
		p.startPosting(0)
		p.waitAcked(200)
		p.hub.kill()
		p.refused("the disk is full")
		full := p.ackedNow()
		p.hub.start()
		p.waitAcked(full + full/2)
		p.stopPosting()
		p.settled()
	})
}
