package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
)

// The server keeps a stream's configuration in two files, and writes one after
// the other. When the power fails between the two they do not belong together,
// and the server passes over the stream, at this start and at every later one:
// what it acknowledged would be out of sight.

// metaFiles returns the configuration file of every stream below dir.
func metaFiles(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(escapeGlob(dir), server.JetStreamStoreDir, "*", "streams", "*", server.JetStreamMetaFile))
}

// escapeGlob makes a pattern that matches path alone.
func escapeGlob(path string) string {
	if runtime.GOOS == "windows" { // no escapes there
		return path
	}
	var out []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			out = append(out, '\\')
		}
		out = append(out, path[i])
	}
	return string(out)
}

// repairMeta completes what the server was writing when the power failed (I2).
// The server must not be running.
func (b *Broker) repairMeta() error {
	files, err := metaFiles(b.opts.Dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := b.repairMetaOf(file); err != nil {
			return fmt.Errorf("repairing %s: %w", file, err)
		}
	}
	return nil
}

func (b *Broker) repairMetaOf(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	stream := filepath.Base(filepath.Dir(file))
	var info server.FileStreamInfo
	if json.Unmarshal(data, &info) != nil || info.Name != stream {
		return nil // torn or foreign: the server says so, and nothing here knows better
	}
	key := sha256.Sum256([]byte(stream))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	if _, err := hash.Write(data); err != nil {
		return err
	}
	want := hex.EncodeToString(hash.Sum(nil))
	sumFile := filepath.Join(filepath.Dir(file), server.JetStreamMetaFileSum)
	have, err := os.ReadFile(sumFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(have) == want {
		return err
	}
	b.opts.Logger.Warn("the configuration of a stream was cut off while it was written and is completed", "stream", stream)
	temporary := sumFile + ".tmp"
	if err := os.WriteFile(temporary, []byte(want), 0o600); err != nil {
		return err
	}
	if err := flush(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, sumFile); err != nil {
		return err
	}
	return flushDir(filepath.Dir(file))
}

// FlushMeta makes the configuration of all streams durable, which the server
// leaves to the operating system when it does not fsync each write: without it a
// power cut would take away not the last seconds but whole streams. Call it when
// streams were made or changed.
func (b *Broker) FlushMeta() error {
	if b.opts.Durability != Relaxed {
		return nil // the server does
	}
	files, err := metaFiles(b.opts.Dir)
	if err != nil {
		return fmt.Errorf("making the configuration of streams durable: %w", err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		if err := errors.Join(flush(file), flush(filepath.Join(dir, server.JetStreamMetaFileSum)), flushDir(dir)); err != nil {
			return fmt.Errorf("making the configuration of streams durable: %w", err)
		}
	}
	return nil
}

func flush(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// flushDir makes renames in dir durable. Windows cannot be asked to.
func flushDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
