package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/edged/edged/engine/disk"
)

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	r := disk.NewReserve(dir, 1<<20)
	if r.Held() {
		t.Error("held before it was made")
	}
	if err := r.Release(); err != nil {
		t.Error(err)
	}
	if err := r.Hold(); err != nil {
		t.Fatal(err)
	}
	if !r.Held() || disk.NewReserve(dir, 2<<20).Held() {
		t.Error("held is what is there, in its size")
	}
	if err := r.Release(); err != nil || r.Held() {
		t.Errorf("released: %v", err)
	}
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	if err := disk.Probe(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("a probe leaves %v, %v", left, err)
	}
	if err := disk.Probe(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
	if free, err := disk.Free(dir); err != nil || free == 0 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
		full bool
	}{
		{syscall.ENOSPC, "the disk is full", true},
		{syscall.EDQUOT, "the disk quota is used up", true},
		{syscall.EROFS, "the file system is read-only", false},
		{syscall.EIO, "the disk fails", false},
		{syscall.EACCES, "the data directory may not be written", false},
		{errors.New("something else"), "the local store cannot be written: something else", false},
	} {
		err := fmt.Errorf("writing: %w", &fs.PathError{Op: "write", Path: "/secret", Err: c.err})
		if got := disk.Explain(err); !strings.HasPrefix(got.Error(), strings.TrimSuffix(c.want, ": something else")) || !errors.Is(got, c.err) {
			t.Errorf("%v is explained as %q, want %q", c.err, got, c.want)
		}
		if disk.IsFull(err) != c.full {
			t.Errorf("%v: full is %t", c.err, disk.IsFull(err))
		}
	}
	if got := disk.Explain(&fs.PathError{Path: "/secret", Err: syscall.EIO}).Error(); strings.Contains(got, "secret") {
		t.Errorf("it shows a path: %s", got)
	}
}
