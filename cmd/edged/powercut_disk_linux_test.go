package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// disk is a file system in memory that knows, of everything in it, what a power
// cut would leave. Its model is what ext4, XFS and btrfs have in common, without
// what only one of them adds on top:
//
//   - The content and the size of a file are durable after fsync or fdatasync of
//     that file, or a write through O_SYNC or O_DSYNC; not after close, not after
//     a rename over an older file, not after a while.
//   - A new name, a rename and a removal are durable after fsync of the directory
//     or of the file they speak of (a rename whole or not at all). Either makes
//     the directories above durable, and what was done earlier to the same name.
//
// A cut takes everything else back. A torn one lets some of it live: the oldest
// directory changes, and of each file any of the 512-byte sectors and any size
// on the way from the durable one to the newest.
type disk struct {
	mu      sync.Mutex
	root    *inode
	ids     uint64
	pending []change // of directories, oldest first
	left    int      // changes and flushes until the cut; 0: none is planned
	frozen  bool
	fault   fault

	cut      chan struct{} // closed when the disk freezes: nothing happens any more
	released chan struct{} // closed by thaw: what waited fails
}

const sectorSize = 512

// inode is a file, a directory or a socket. There are no hard links: it has
// one place, or none when it was removed.
type inode struct {
	id     uint64
	mode   uint32
	parent *inode
	name   string

	entries, durable map[string]*inode // of a directory: now, and after a cut

	data        []byte
	durableSize int
	old         map[int][]byte // durable content of each sector changed since
	// stale are changed sectors that a flush has failed on. As in Linux, which
	// takes them for written then, only another write makes them flush again.
	stale map[int]bool
}

// operation is what a fault can make fail.
type operation int

const (
	growing  operation = 1 << iota // a new name, or more bytes
	changing                       // any other change
	flushing
)

// fault is an error that operations on the disk meet.
type fault struct {
	errno syscall.Errno
	of    operation
}

// fail makes operations fail from now on, until it is called with the zero fault.
func (d *disk) fail(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// fails is the error that an operation meets now. The caller has begun it.
func (d *disk) fails(op operation) syscall.Errno {
	if d.fault.of&op != 0 {
		return d.fault.errno
	}
	return 0
}

// change is one operation on directories.
type change struct {
	node *inode // what it speaks of
	sets []entrySet
}

// entrySet gives a name to node, or takes it away (nil).
type entrySet struct {
	slot
	node *inode
}

type slot struct {
	dir  *inode
	name string
}

func newDisk() *disk {
	d := &disk{}
	d.root = d.newInode(syscall.S_IFDIR | 0o755)
	d.arm(0)
	return d
}

// arm plans the next cut after so many changes and flushes; 0: never.
func (d *disk) arm(after int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.frozen = after, false
	d.cut, d.released = make(chan struct{}), make(chan struct{})
}

// begin enters an operation; the caller unlocks. false: the power is cut. The
// answer then waits until the process is dead, as no program ever sees an error
// of a disk that lost its power together with the program.
func (d *disk) begin(changes bool) bool {
	d.mu.Lock()
	if changes && d.left > 0 && !d.frozen {
		if d.left--; d.left == 0 {
			d.frozen = true
			close(d.cut)
		}
	}
	if d.frozen {
		released := d.released
		d.mu.Unlock()
		<-released
		return false
	}
	return true
}

func (d *disk) newInode(mode uint32) *inode {
	d.ids++
	n := &inode{id: d.ids, mode: mode, old: map[int][]byte{}}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.entries, n.durable = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// make creates a file or directory.
func (d *disk) make(dir *inode, name string, mode uint32) *inode {
	n := d.newInode(mode)
	d.change(n, entrySet{slot{dir, name}, n})
	return n
}

// change does an operation on directories and notes it as not durable.
func (d *disk) change(node *inode, sets ...entrySet) {
	for _, s := range sets {
		if s.node == nil {
			delete(s.dir.entries, s.name)
			node.parent = nil
			continue
		}
		if replaced := s.dir.entries[s.name]; replaced != nil {
			replaced.parent = nil
		}
		s.dir.entries[s.name] = s.node
		s.node.parent, s.node.name = s.dir, s.name
	}
	d.pending = append(d.pending, change{node, sets})
}

func (d *disk) remove(dir *inode, name string) {
	d.change(dir.entries[name], entrySet{slot{dir, name}, nil})
}

func (d *disk) rename(from, to slot) {
	n := from.dir.entries[from.name]
	d.change(n, entrySet{from, nil}, entrySet{to, n})
}

// flush is fsync of a file or a directory.
func (d *disk) flush(n *inode) {
	n.durableSize = len(n.data)
	maps.DeleteFunc(n.old, func(s int, _ []byte) bool { return !n.stale[s] })
	of := map[*inode]bool{n: true}
	for up := n.parent; up != nil; up = up.parent {
		of[up] = true
	}
	d.settle(func(c change) bool {
		return of[c.node] || slices.ContainsFunc(c.sets, func(s entrySet) bool { return s.dir == n })
	})
}

// flushFailed is fsync that has met an error.
func (n *inode) flushFailed() {
	if n.stale == nil {
		n.stale = map[int]bool{}
	}
	for s := range n.old {
		n.stale[s] = true
	}
}

// settle makes the wanted directory changes durable, and before them those they
// rest on: earlier ones of the same name, and the making of their directory.
func (d *disk) settle(wanted func(change) bool) {
	places, dirs := map[slot]bool{}, map[*inode]bool{}
	take := make([]bool, len(d.pending))
	for i, c := range slices.Backward(d.pending) {
		take[i] = wanted(c) || dirs[c.node] || slices.ContainsFunc(c.sets, func(s entrySet) bool { return places[s.slot] })
		if take[i] {
			for _, s := range c.sets {
				places[s.slot], dirs[s.dir] = true, true
			}
		}
	}
	var rest []change
	for i, c := range d.pending {
		if !take[i] {
			rest = append(rest, c)
			continue
		}
		for _, s := range c.sets {
			if s.node == nil {
				delete(s.dir.durable, s.name)
			} else {
				s.dir.durable[s.name] = s.node
			}
		}
	}
	d.pending = rest
}

// write is pwrite.
func (n *inode) write(data []byte, off int) {
	if off > len(n.data) {
		n.truncate(off)
	}
	end := off + len(data)
	n.touch(off, end)
	if end > len(n.data) {
		n.data = append(n.data, make([]byte, end-len(n.data))...)
	}
	copy(n.data[off:], data)
}

func (n *inode) truncate(size int) {
	n.touch(min(size, len(n.data)), max(size, len(n.data)))
	if size <= len(n.data) {
		clear(n.data[size:]) // growing again within the capacity must show zeros
		n.data = n.data[:size]
		return
	}
	n.data = append(n.data, make([]byte, size-len(n.data))...)
}

// touch keeps the durable content of what is about to change.
func (n *inode) touch(from, to int) {
	for s := from / sectorSize; s*sectorSize < to; s++ {
		delete(n.stale, s)
		if _, ok := n.old[s]; !ok {
			end := min((s+1)*sectorSize, n.durableSize, len(n.data))
			n.old[s] = slices.Clone(n.data[min(s*sectorSize, end):end])
		}
	}
}

// thaw takes back what was not durable, after a cut. torn, when not nil, decides
// what lives all the same.
func (d *disk) thaw(torn *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.released)
	lives := 0
	if torn != nil {
		lives = torn.IntN(len(d.pending) + 1)
	}
	for _, c := range d.pending[:lives] { // a journal keeps their order
		for _, s := range c.sets {
			if s.node == nil {
				delete(s.dir.durable, s.name)
			} else {
				s.dir.durable[s.name] = s.node
			}
		}
	}
	d.pending = nil
	d.root.revert(torn)
}

// revert brings everything below n to what a cut leaves.
func (n *inode) revert(torn *rand.Rand) {
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		child := n.durable[name]
		child.parent, child.name = n, name
		child.revert(torn)
	}
	if n.entries != nil {
		n.entries = maps.Clone(n.durable)
		return
	}
	n.data = n.afterCut(torn)
	n.durableSize = len(n.data)
	clear(n.old)
	clear(n.stale)
}

func (n *inode) afterCut(torn *rand.Rand) []byte {
	size, lives := n.durableSize, 0.0
	if torn != nil && len(n.old) > 0 {
		low, high := min(n.durableSize, len(n.data)), max(n.durableSize, len(n.data))
		size = []int{low, high, low + torn.IntN(high-low+1)}[torn.IntN(3)]
		lives = torn.Float64()
	}
	data := make([]byte, size)
	copy(data, n.data)
	for _, s := range slices.Sorted(maps.Keys(n.old)) {
		if from := s * sectorSize; from < size && (torn == nil || torn.Float64() >= lives) {
			sector := data[from:min(from+sectorSize, size)]
			clear(sector[copy(sector, n.old[s]):])
		}
	}
	return data
}
