package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const noFUSEVariable = "EDGED_TEST_NO_FUSE"

// diskNode shows an inode of a disk to the kernel. Nothing is kept in caches
// that write later: each write(2) is a Write here before it returns.
type diskNode struct {
	fs.Inode
	d *disk
	n *inode
}

// diskFile is an open file.
type diskFile struct {
	n      *inode
	synced bool // opened with O_SYNC or O_DSYNC
}

var (
	_ fs.NodeLookuper  = (*diskNode)(nil)
	_ fs.NodeCreater   = (*diskNode)(nil)
	_ fs.NodeMkdirer   = (*diskNode)(nil)
	_ fs.NodeMknoder   = (*diskNode)(nil)
	_ fs.NodeUnlinker  = (*diskNode)(nil)
	_ fs.NodeRmdirer   = (*diskNode)(nil)
	_ fs.NodeRenamer   = (*diskNode)(nil)
	_ fs.NodeReaddirer = (*diskNode)(nil)
	_ fs.NodeOpener    = (*diskNode)(nil)
	_ fs.NodeReader    = (*diskNode)(nil)
	_ fs.NodeWriter    = (*diskNode)(nil)
	_ fs.NodeFsyncer   = (*diskNode)(nil) // of directories too
	_ fs.NodeGetattrer = (*diskNode)(nil)
	_ fs.NodeSetattrer = (*diskNode)(nil)
	_ fs.NodeStatfser  = (*diskNode)(nil)
)

// mount shows d at dir.
func (d *disk) mount(dir string) (*fuse.Server, error) {
	var none time.Duration
	return fs.Mount(dir, &diskNode{d: d, n: d.root}, &fs.Options{
		EntryTimeout: &none, AttrTimeout: &none, NegativeTimeout: &none,
		RootStableAttr: &fs.StableAttr{Ino: d.root.id, Mode: syscall.S_IFDIR},
		MountOptions:   fuse.MountOptions{DirectMountStrict: true, FsName: "powercut", Name: "powercut"},
	})
}

// mustMount is mount for a test, which does not pass where it cannot look.
func (d *disk) mustMount(t *testing.T, dir string) *fuse.Server {
	t.Helper()
	server, err := d.mount(dir)
	if err != nil {
		t.Fatalf("mounting a FUSE file system: %v: power cuts cannot be tested here; "+
			"run as root with /dev/fuse (docker: --device /dev/fuse --cap-add SYS_ADMIN), or leave them out with %s=1", err, noFUSEVariable)
	}
	return server
}

// withFUSE leaves the test out when, and only when, somebody chose so.
func withFUSE(t *testing.T) {
	t.Helper()
	if os.Getenv(noFUSEVariable) == "1" {
		fmt.Fprintf(os.Stderr, "%s is left out: %s=1\n", t.Name(), noFUSEVariable)
		t.SkipNow()
	}
}

func (p *diskNode) child(ctx context.Context, n *inode, out *fuse.EntryOut) *fs.Inode {
	n.attr(&out.Attr)
	return p.NewInode(ctx, &diskNode{d: p.d, n: n}, fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.id})
}

func (n *inode) attr(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink, out.Size = n.id, n.mode, 1, uint64(len(n.data))
	out.Blksize, out.Blocks = 4096, (out.Size+sectorSize-1)/sectorSize
}

func (p *diskNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if !p.d.begin(false) {
		return nil, syscall.EIO
	}
	defer p.d.mu.Unlock()
	n := p.n.entries[name]
	if n == nil {
		return nil, syscall.ENOENT
	}
	return p.child(ctx, n, out), 0
}

func (p *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if !p.d.begin(true) {
		return nil, nil, 0, syscall.EIO
	}
	defer p.d.mu.Unlock()
	n := p.n.entries[name]
	if errno := p.d.fails(growing); errno != 0 && n == nil {
		return nil, nil, 0, errno
	}
	switch {
	case n == nil:
		n = p.d.make(p.n, name, syscall.S_IFREG|mode&0o7777)
	case flags&syscall.O_EXCL != 0:
		return nil, nil, 0, syscall.EEXIST
	case flags&syscall.O_TRUNC != 0:
		n.truncate(0)
	}
	return p.child(ctx, n, out), newDiskFile(n, flags), 0, 0
}

func newDiskFile(n *inode, flags uint32) *diskFile {
	return &diskFile{n: n, synced: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

func (p *diskNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return p.Mknod(ctx, name, syscall.S_IFDIR|mode&0o7777, 0, out)
}

func (p *diskNode) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if !p.d.begin(true) {
		return nil, syscall.EIO
	}
	defer p.d.mu.Unlock()
	if p.n.entries[name] != nil {
		return nil, syscall.EEXIST
	}
	if errno := p.d.fails(growing); errno != 0 {
		return nil, errno
	}
	return p.child(ctx, p.d.make(p.n, name, mode), out), 0
}

func (p *diskNode) Unlink(_ context.Context, name string) syscall.Errno {
	if !p.d.begin(true) {
		return syscall.EIO
	}
	defer p.d.mu.Unlock()
	n := p.n.entries[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case len(n.entries) > 0:
		return syscall.ENOTEMPTY
	}
	if errno := p.d.fails(changing); errno != 0 {
		return errno
	}
	p.d.remove(p.n, name)
	return 0
}

func (p *diskNode) Rmdir(ctx context.Context, name string) syscall.Errno { return p.Unlink(ctx, name) }

func (p *diskNode) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if !p.d.begin(true) {
		return syscall.EIO
	}
	defer p.d.mu.Unlock()
	to := newParent.EmbeddedInode().Operations().(*diskNode).n
	n, replaced := p.n.entries[name], to.entries[newName]
	switch {
	case flags != 0:
		return syscall.EINVAL
	case n == nil:
		return syscall.ENOENT
	case replaced == n:
		return 0
	case replaced != nil && len(replaced.entries) > 0:
		return syscall.ENOTEMPTY
	}
	if errno := p.d.fails(changing); errno != 0 {
		return errno
	}
	p.d.rename(slot{p.n, name}, slot{to, newName})
	return 0
}

func (p *diskNode) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	if !p.d.begin(false) {
		return nil, syscall.EIO
	}
	defer p.d.mu.Unlock()
	var list []fuse.DirEntry
	for name, n := range p.n.entries {
		list = append(list, fuse.DirEntry{Name: name, Mode: n.mode, Ino: n.id})
	}
	return fs.NewListDirStream(list), 0
}

func (p *diskNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	truncates := flags&syscall.O_TRUNC != 0
	if !p.d.begin(truncates) {
		return nil, 0, syscall.EIO
	}
	defer p.d.mu.Unlock()
	if errno := p.d.fails(changing); errno == syscall.EROFS && flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, errno
	}
	if truncates {
		p.n.truncate(0)
	}
	return newDiskFile(p.n, flags), 0, 0
}

func (p *diskNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if !p.d.begin(false) {
		return nil, syscall.EIO
	}
	defer p.d.mu.Unlock()
	return fuse.ReadResultData(dest[:copy(dest, p.n.data[min(int(off), len(p.n.data)):])]), 0
}

func (p *diskNode) Write(_ context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if !p.d.begin(true) {
		return 0, syscall.EIO
	}
	defer p.d.mu.Unlock()
	op := changing
	if int(off)+len(data) > len(p.n.data) {
		op = growing
	}
	if errno := p.d.fails(op); errno != 0 {
		return 0, errno
	}
	p.n.write(data, int(off))
	if open, ok := f.(*diskFile); ok && open.synced {
		p.d.flush(p.n)
	}
	return uint32(len(data)), 0
}

func (p *diskNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if !p.d.begin(true) {
		return syscall.EIO
	}
	defer p.d.mu.Unlock()
	if errno := p.d.fails(flushing); errno != 0 {
		p.n.flushFailed()
		return errno
	}
	p.d.flush(p.n)
	return 0
}

func (p *diskNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if !p.d.begin(false) {
		return syscall.EIO
	}
	defer p.d.mu.Unlock()
	p.n.attr(&out.Attr)
	return 0
}

// Setattr changes sizes and permissions; times are not kept.
func (p *diskNode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	size, truncates := in.GetSize()
	if !p.d.begin(truncates) {
		return syscall.EIO
	}
	defer p.d.mu.Unlock()
	if truncates {
		if errno := p.d.fails(changing); errno != 0 {
			return errno
		}
		p.n.truncate(int(size))
	}
	if mode, ok := in.GetMode(); ok {
		p.n.mode = p.n.mode&syscall.S_IFMT | mode&0o7777
	}
	p.n.attr(&out.Attr)
	return 0
}

// Statfs says that there is room: the server sizes its storage by it.
func (p *diskNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 64 << 30 / 4096
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: 1 << 20, Ffree: 1 << 20, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return 0
}
