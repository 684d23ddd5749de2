package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The server reads a block up to the first damaged record, cuts the file off
// there and says so in a warning at most: up to 8 MiB are gone for one bit. So
// the edge looks first, sets the file aside as it is, and leaves the server a
// block that has everything but the damaged records.

// Damage is one place where what was stored in a stream cannot be read any more.
// It is the report beside the file that was set aside.
type Damage struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	File   string    `json:"file"`   // of the stream's directory
	Offset int64     `json:"offset"` // of the damage in the file
	Bytes  int64     `json:"bytes"`
	Reason string    `json:"reason"`
	// After and Before are the nearest stream sequences that can be read; Before
	// is 0 when the damage is the stream's end.
	After  uint64 `json:"after"`
	Before uint64 `json:"before"`
	// Lost are the numbers that were lost with it, by lane, once they are known.
	Lost []LostNumbers `json:"lost"`
	// Settled says that Lost is known and noted in the store.
	Settled bool `json:"settled"`
	// Report is the path of this report.
	Report string `json:"report"`
}

// LostNumbers are numbers of one lane, first and last.
type LostNumbers struct {
	Lane  string `json:"lane"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Save writes the report, durably.
func (d *Damage) Save() error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(d.Report, append(data, '\n')); err != nil {
		return fmt.Errorf("writing a report of damage: %w", err)
	}
	return nil
}

// ReadQuarantine returns the reports below a quarantine directory, oldest first.
// One that cannot be read is passed over: what it is beside is still there.
func ReadQuarantine(dir string) ([]Damage, error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []Damage
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a report of damage: %w", err)
		}
		d := Damage{Report: file}
		if json.Unmarshal(data, &d) == nil {
			all = append(all, d)
		}
	}
	return all, nil
}

// cleanFile lists, below the server's directory, the blocks as they were when the
// server was stopped; it is there only while no server runs. A block that is as
// listed need not be read at the next start.
const cleanFile = "clean.json"

type fileState struct {
	Size int64     `json:"size"`
	Time time.Time `json:"time"`
}

// takeClean reads and removes the list; nil: the server was not stopped.
func (b *Broker) takeClean() (map[string]fileState, error) {
	path := filepath.Join(b.opts.Dir, cleanFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = errors.Join(os.Remove(path), flushDir(b.opts.Dir))
	}
	if err != nil {
		return nil, err
	}
	var clean map[string]fileState
	if json.Unmarshal(data, &clean) != nil {
		return nil, nil // then everything is read
	}
	return clean, nil
}

// leaveClean writes the list.
func (b *Broker) leaveClean() error {
	clean := map[string]fileState{}
	dirs, err := b.streamDirs()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		blocks, err := blocksIn(dir)
		if err != nil {
			return err
		}
		for _, block := range blocks {
			info, err := os.Stat(block.path)
			if err != nil {
				return err
			}
			clean[b.relative(block.path)] = fileState{info.Size(), info.ModTime()}
		}
	}
	data, err := json.Marshal(clean)
	if err != nil {
		return err
	}
	return writeDurably(filepath.Join(b.opts.Dir, cleanFile), data)
}

func (b *Broker) relative(path string) string {
	return filepath.ToSlash(strings.TrimPrefix(path, b.opts.Dir+string(filepath.Separator)))
}

// setAside looks for damage in the blocks of all streams, sets aside what it
// finds and repairs it. The server must not be running. It does not fail for
// what it finds: where it cannot mend, the server's own way is what is left.
func (b *Broker) setAside() error {
	if b.opts.Quarantine == "" {
		return nil
	}
	clean, err := b.takeClean()
	if err != nil {
		return err
	}
	dirs, err := b.streamDirs()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		s := &streamCheck{broker: b, dir: dir, name: filepath.Base(dir), clean: clean}
		if err := s.run(); err != nil {
			b.opts.Logger.Error("a damaged stream could not be set aside; what the server cannot read of it is cut off", "stream", s.name, "error", err)
		}
	}
	return nil
}

// streamCheck looks through one stream.
type streamCheck struct {
	broker *Broker
	dir    string
	name   string
	clean  map[string]fileState // nil: the server was not stopped
	blocks []block
	mended bool
}

func (s *streamCheck) run() (err error) {
	if s.blocks, err = blocksIn(s.dir); err != nil {
		return err
	}
	s.addMissing()
	for i := range s.blocks {
		if err := s.check(i); err != nil {
			return err
		}
	}
	if !s.mended {
		return nil
	}
	// It says of the blocks what they are no more.
	err = os.Remove(filepath.Join(s.dir, "msgs", "index.db"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, flushDir(filepath.Join(s.dir, "msgs")))
}

// addMissing adds the blocks that were there when the server was stopped.
func (s *streamCheck) addMissing() {
	prefix := s.broker.relative(filepath.Join(s.dir, "msgs")) + "/"
	for name := range s.clean {
		file, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		var index uint32
		if _, err := fmt.Sscanf(file, "%d.blk", &index); err != nil {
			continue
		}
		if !slices.ContainsFunc(s.blocks, func(b block) bool { return b.index == index }) {
			s.blocks = append(s.blocks, block{index, filepath.Join(s.dir, "msgs", file)})
		}
	}
	slices.SortFunc(s.blocks, func(a, b block) int { return int(a.index) - int(b.index) })
}

// check looks at one block and mends it.
func (s *streamCheck) check(i int) error {
	block := s.blocks[i]
	was, listed := s.clean[s.broker.relative(block.path)]
	info, err := os.Stat(block.path)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	if !gone && listed && info.Size() == was.Size && info.ModTime().Equal(was.Time) && !s.broker.opts.CheckAll {
		return nil
	}
	sum, err := blockHash(s.name, block.index)
	if err != nil {
		return err
	}
	buf, unread := readable(block.path)
	l := readLayout(buf, sum)
	// What follows the last whole record of an edge that was not stopped is a
	// write that was cut off, and was not acknowledged.
	if last := i == len(s.blocks)-1; last && s.clean == nil && unread == nil {
		if k := len(l.bad) - 1; k >= 0 && l.bad[k].to == len(buf) {
			l.bad, l.around = l.bad[:k], l.around[:k]
		}
	}
	if len(l.bad) == 0 && listed && int64(len(buf)) < was.Size {
		l.bad = append(l.bad, stretch{len(buf), int(was.Size)})
		l.around = append(l.around, [2]uint64{l.last, 0})
	}
	if len(l.bad) == 0 {
		return nil
	}
	return s.mend(i, buf, l, sum, reasonOf(gone, unread, listed && int64(len(buf)) < was.Size))
}

func reasonOf(gone bool, unread error, short bool) string {
	switch {
	case gone:
		return "the file is gone"
	case unread != nil:
		return "the disk cannot read it: " + unread.Error()
	case short:
		return "the file is shorter than it was"
	default:
		return "the checksum is another"
	}
}

// readable returns a file's bytes, with zeros for what the disk cannot read.
func readable(path string) (buf []byte, unread error) {
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			unread = err
		}
		return nil, unread
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	buf = make([]byte, info.Size())
	const step = 4 << 10
	if _, err := io.ReadFull(f, buf); err == nil {
		return buf, nil
	}
	for at := 0; at < len(buf); at += step {
		part := buf[at:min(at+step, len(buf))]
		if _, err := f.ReadAt(part, int64(at)); err != nil && !errors.Is(err, io.EOF) {
			clear(part)
			unread = err
		}
	}
	return buf, unread
}

// mend sets a block aside, with a report for each place that is damaged, and
// writes a block without them.
func (s *streamCheck) mend(i int, buf []byte, l layout, sum hash.Hash, reason string) error {
	b, block := s.broker, s.blocks[i]
	if err := os.MkdirAll(b.opts.Quarantine, 0o750); err != nil {
		return err
	}
	now := time.Now().UTC()
	base := filepath.Join(b.opts.Quarantine, fmt.Sprintf("%s-%s-%d", now.Format("20060102T150405.000000000"), s.name, block.index))
	if err := keepCopy(block.path, base+".blk"); err != nil {
		return err
	}
	for k, bad := range l.bad {
		d := Damage{
			Time: now, Stream: s.name, File: b.relative(block.path), Offset: int64(bad.from), Bytes: int64(bad.to - bad.from), Reason: reason,
			After: l.around[k][0], Before: l.around[k][1], Lost: []LostNumbers{}, Report: fmt.Sprintf("%s-%d.json", base, k),
		}
		var err error
		if d.After == 0 {
			d.After, err = s.nearest(i, -1)
		}
		if d.Before == 0 && err == nil {
			d.Before, err = s.nearest(i, 1)
		}
		if err == nil {
			err = d.Save()
		}
		if err != nil {
			return err
		}
		b.opts.Logger.Error("a part of the local store is damaged and was set aside",
			"stream", d.Stream, "file", d.File, "offset", d.Offset, "bytes", d.Bytes, "reason", d.Reason, "report", d.Report)
	}
	var whole []byte
	for _, g := range l.good {
		whole = append(whole, buf[g.from:g.to]...)
	}
	if i == len(s.blocks)-1 {
		// The sequences that were lost at the end must not be given out again.
		index, err := os.ReadFile(filepath.Join(s.dir, "msgs", "index.db"))
		if last := indexLast(s.name, index); err == nil && last > l.last {
			whole = append(whole, erased(last, sum)...)
		}
	}
	s.mended = true
	return writeDurably(block.path, whole)
}

// nearest returns the nearest sequence in the blocks before or behind block i; 0
// when there is none.
func (s *streamCheck) nearest(i, step int) (uint64, error) {
	for i += step; i >= 0 && i < len(s.blocks); i += step {
		sum, err := blockHash(s.name, s.blocks[i].index)
		if err != nil {
			return 0, err
		}
		buf, _ := readable(s.blocks[i].path)
		l := readLayout(buf, sum)
		if step < 0 && l.last > 0 {
			return l.last, nil
		}
		if step > 0 && l.first > 0 {
			return l.first, nil
		}
	}
	return 0, nil
}

// keepCopy gives a file a second name, or copies what can be read of it where the
// file system has no links. A file that is gone has none.
func keepCopy(path, to string) error {
	if err := os.Link(path, to); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	buf, _ := readable(path)
	return writeDurably(to, buf)
}

// writeDurably replaces a file so that after a crash either the old or the new
// content is there, whole.
func writeDurably(path string, data []byte) error {
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := flush(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return flushDir(filepath.Dir(path))
}
