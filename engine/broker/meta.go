package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

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
	kept := b.keptMeta()
	for name := range kept { // one that is gone is not found otherwise
		if file := filepath.Join(b.opts.Dir, filepath.FromSlash(name)); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, file := range files {
		err := b.restoreMeta(file, kept[b.relative(file)])
		if err == nil {
			err = b.repairMetaOf(file)
		}
		if err != nil {
			return fmt.Errorf("repairing %s: %w", file, err)
		}
	}
	return nil
}

// metaFile keeps, below the server's directory, a copy of the configuration of
// every stream: without it the server passes over a stream, or takes it out of
// service, however whole its messages are.
const metaFile = "meta.json"

// keptMeta reads the copies; a damaged file has none.
func (b *Broker) keptMeta() map[string]string {
	data, err := os.ReadFile(filepath.Join(b.opts.Dir, metaFile))
	var kept map[string]string
	if err != nil || json.Unmarshal(data, &kept) != nil {
		return nil
	}
	return kept
}

// keepMeta writes the copies when they have changed.
func (b *Broker) keepMeta(files []string) error {
	now := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		now[b.relative(file)] = string(data)
	}
	if maps.Equal(now, b.keptMeta()) {
		return nil
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(b.opts.Dir, metaFile), data)
}

// restoreMeta brings a configuration that is not what the server wrote back to the
// copy, if there is one: whoever changed it last sets it again when he starts.
func (b *Broker) restoreMeta(file, kept string) error {
	stream := filepath.Base(filepath.Dir(file))
	if kept == "" || !isMeta([]byte(kept), stream) {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, fs.ErrNotExist) {
		return nil // the stream was deleted
	}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		want, sumErr := metaSum(data, stream)
		have, err := os.ReadFile(filepath.Join(filepath.Dir(file), server.JetStreamMetaFileSum))
		if sumErr == nil && err == nil && string(have) == want && isMeta(data, stream) {
			return nil
		}
		if string(data) == kept { // only the checksum is wrong
			return nil
		}
	}
	b.opts.Logger.Error("the configuration of a stream is damaged and is taken from the copy", "stream", stream)
	return writeDurably(file, []byte(kept))
}

// metaSum is the checksum that the server keeps beside a configuration.
func metaSum(data []byte, stream string) (string, error) {
	key := sha256.Sum256([]byte(stream))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return "", err
	}
	if _, err := hash.Write(data); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// isMeta reports whether the server takes data for the configuration of a stream.
func isMeta(data []byte, stream string) bool {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var info server.FileStreamInfo
	return decoder.Decode(&info) == nil && info.Name == stream
}

func (b *Broker) repairMetaOf(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	stream := filepath.Base(filepath.Dir(file))
	if !isMeta(data, stream) {
		return nil // torn or foreign: the server says so, and nothing here knows better
	}
	want, err := metaSum(data, stream)
	if err != nil {
		return err
	}
	sumFile := filepath.Join(filepath.Dir(file), server.JetStreamMetaFileSum)
	have, err := os.ReadFile(sumFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || string(have) == want {
		return err
	}
	b.opts.Logger.Warn("the configuration of a stream was cut off while it was written and is completed", "stream", stream)
	return writeDurably(sumFile, []byte(want))
}

// FlushMeta makes the configuration of all streams durable, which the server
// leaves to the operating system when it does not fsync each write: without it a
// power cut would take away not the last seconds but whole streams. It also keeps
// the copy of them. Call it when streams were made or changed.
func (b *Broker) FlushMeta() error {
	files, err := metaFiles(b.opts.Dir)
	if err != nil {
		return fmt.Errorf("making the configuration of streams durable: %w", err)
	}
	if err := b.keepMeta(files); err != nil {
		b.opts.Logger.Warn("no copy of the configuration of the streams can be kept", "error", err)
	}
	if b.opts.Durability != Relaxed {
		return nil // the server does
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		if err := errors.Join(flush(file), flush(filepath.Join(dir, server.JetStreamMetaFileSum)), flushDir(dir)); err != nil {
			return fmt.Errorf("making the configuration of streams durable: %w", err)
		}
	}
	return nil
}

// FlushStream makes everything durable that a stream holds, which the server
// leaves to the operating system when it does not fsync each write.
func (b *Broker) FlushStream(name string) error {
	if b.opts.Durability != Relaxed {
		return nil // the server does
	}
	dirs, err := b.streamDirs()
	if err != nil {
		return fmt.Errorf("making the stream %s durable: %w", name, err)
	}
	for _, dir := range dirs {
		if filepath.Base(dir) != name {
			continue
		}
		blocks, err := blocksIn(dir)
		if err != nil {
			return fmt.Errorf("making the stream %s durable: %w", name, err)
		}
		for _, block := range blocks {
			err = errors.Join(err, flush(block.path))
		}
		if err = errors.Join(err, flushDir(filepath.Join(dir, "msgs"))); err != nil {
			return fmt.Errorf("making the stream %s durable: %w", name, err)
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
