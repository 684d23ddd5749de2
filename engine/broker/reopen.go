package broker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// After an error of the disk the server writes to that stream no more, nor purges
// it, until JetStream is started anew. It tells its publishers nothing.

// Fault returns why a stream takes nothing any more, nil: all do. [Broker.Reopen]
// mends it once the disk is well.
func (b *Broker) Fault() error {
	if !b.srv.JetStreamEnabled() {
		return errors.New("the server has shut JetStream down")
	}
	// A stream that is just being made is in there too, as one that could not be
	// recovered.
	for _, e := range b.srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

// Troubled returns a channel that gets a value when the server reports an error:
// then is the time to look at [Broker.Fault].
func (b *Broker) Troubled() <-chan struct{} { return b.logger.troubled }

// Reopen starts JetStream anew on what the disk holds, while connections and
// links stand. Nobody may rely on what was not acknowledged. Consumers that lived
// in memory are gone. When it fails JetStream stays down; try again later.
func (b *Broker) Reopen() error {
	b.reload.Lock()
	defer b.reload.Unlock()
	if err := b.srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("closing JetStream: %w", err)
	}
	if err := b.rewriteTails(); err != nil {
		return fmt.Errorf("reopening JetStream: %w", err)
	}
	if err := b.repairMeta(); err != nil {
		return fmt.Errorf("reopening JetStream: %w", err)
	}
	o, err := b.serverOptions(b.opts.Links, nil)
	if err != nil {
		return fmt.Errorf("reopening JetStream: %w", err)
	}
	// As the server itself does when its options are loaded again.
	err = b.srv.EnableJetStream(&server.JetStreamConfig{
		StoreDir: o.StoreDir, SyncInterval: o.SyncInterval, SyncAlways: o.SyncAlways,
		MaxMemory: o.JetStreamMaxMemory, MaxStore: o.JetStreamMaxStore, Domain: o.JetStreamDomain, Strict: !o.NoJetStreamStrict,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("reopening JetStream: %w", err), b.srv.ShutdownJetStream())
	}
	if !b.srv.JetStreamEnabled() {
		return errors.New("reopening JetStream: it did not start")
	}
	return nil
}

// tailBlocks is how many of a stream's newest files may hold writes that were not
// flushed: the one that was written to, and the one before it when the server had
// just begun a new one.
const tailBlocks = 2

// rewriteTails writes the newest blocks of every stream again, with the bytes that
// are there, and flushes them. When a flush has failed the system takes what it
// could not write for written: it shows it to readers, and another flush does
// nothing and succeeds. A record found there would be acknowledged and lost at
// the next power cut (I1).
func (b *Broker) rewriteTails() error {
	dirs, err := b.streamDirs()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		blocks, err := blocksIn(dir)
		if err != nil {
			return err
		}
		for _, block := range blocks[max(0, len(blocks)-tailBlocks):] {
			if err := rewrite(block.path); err != nil {
				return fmt.Errorf("writing the newest part of a stream again: %w", err)
			}
		}
		// What it says of the blocks is of a server that had failed.
		if err := os.Remove(filepath.Join(dir, "msgs", "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rewrite dirties and flushes every byte of a file without changing any.
func rewrite(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 256<<10)
	for at := int64(0); ; {
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return f.Sync()
		}
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
}

// streamDirs returns the directory of every stream, but for those that the server
// was about to delete.
func (b *Broker) streamDirs() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(escapeGlob(b.opts.Dir), server.JetStreamStoreDir, "*", "streams", "*"))
	return slices.DeleteFunc(dirs, func(dir string) bool { return strings.HasPrefix(filepath.Base(dir), ".") }), err
}

// block is one file of a stream's messages.
type block struct {
	index uint32
	path  string
}

// blocksIn returns the blocks of a stream, oldest first.
func blocksIn(dir string) ([]block, error) {
	files, err := os.ReadDir(filepath.Join(dir, "msgs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var blocks []block
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".blk")
		if !ok {
			continue
		}
		index, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		blocks = append(blocks, block{uint32(index), filepath.Join(dir, "msgs", f.Name())})
	}
	slices.SortFunc(blocks, func(a, b block) int { return int(a.index) - int(b.index) })
	return blocks, nil
}
