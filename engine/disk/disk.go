// Package disk looks at the file system that an edge's data is on: how much room
// it has, whether it can be written, and what an error of it means. It keeps a
// reserve that can be given up when nothing is left.
package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	reserveFile = "reserve"
	probeFile   = "probe"
	// probeBytes is what must be writable before the disk is taken for well.
	probeBytes = 256 << 10
)

// Probe writes, flushes and removes a small file in dir. Its error is what any
// write would meet now.
func Probe(dir string) (err error) {
	path := filepath.Join(dir, probeFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	return errors.Join(fill(f, probeBytes), f.Close())
}

// fill writes bytes that no file system compresses away, and flushes them.
func fill(f *os.File, bytes int64) error {
	if _, err := io.CopyN(f, rand.Reader, bytes); err != nil {
		return err
	}
	return f.Sync()
}

// Reserve is a file that takes up room, so that there is some when everything
// else is used up: by others, or by the edge. One goroutine at a time.
type Reserve struct {
	path  string
	bytes int64
}

// NewReserve returns the reserve of a directory; it neither makes nor removes it.
func NewReserve(dir string, bytes int64) *Reserve {
	return &Reserve{path: filepath.Join(dir, reserveFile), bytes: bytes}
}

// Held reports whether the reserve is there, whole.
func (r *Reserve) Held() bool {
	info, err := os.Stat(r.path)
	return err == nil && info.Size() == r.bytes
}

// Hold makes the reserve. When there is no room for it nothing is left behind.
func (r *Reserve) Hold() (err error) {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keeping room in reserve: %w", err)
	}
	if err := errors.Join(fill(f, r.bytes), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("keeping room in reserve: %w", err), r.Release())
	}
	return nil
}

// Release gives the reserve up; there need not be one.
func (r *Reserve) Release() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving up the reserve: %w", err)
	}
	return nil
}

// Bytes is the size of the reserve.
func (r *Reserve) Bytes() int64 { return r.bytes }

// IsFull reports whether err says that there is no room, or no more for this user.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || isSystemFull(err)
}

// Explain says in one sentence what an error of the disk means, with the system's
// own words behind it. They are shown to clients, which need not know any path.
func Explain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	for _, known := range []struct {
		is   bool
		text string
	}{
		{errors.Is(err, syscall.EDQUOT), "the disk quota is used up"},
		{IsFull(err), "the disk is full"},
		{errors.Is(err, syscall.EROFS), "the file system is read-only"},
		{errors.Is(err, syscall.EIO), "the disk fails"},
		{errors.Is(err, fs.ErrPermission), "the data directory may not be written"},
	} {
		if known.is {
			return fmt.Errorf("%s: %w", known.text, err)
		}
	}
	return fmt.Errorf("the local store cannot be written: %w", err)
}
