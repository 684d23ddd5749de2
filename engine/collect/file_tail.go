package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/edged/edged/engine/record"
)

// A read is at least and at most this long; between, it is as long as a full
// batch of lines as long as those before.
const (
	minRead = 16 << 10
	maxRead = batchBytes
)

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	errTooLong    = errors.New("the line is longer than max_line")
	errRowTooLong = errors.New("a quoted field is not closed within max_line")
)

// tail is one run over a file and its successors.
type tail struct {
	src  *fileSource
	f    *os.File
	info os.FileInfo
	at   filePosition // of text[0]; the fingerprints are those of seen
	seen tracker
	// text is what was read and not yet taken. Its memory goes to the batch
	// whose records point into it.
	text []byte
	want int // bytes to have in text
	// over: another file has the name, or the content was replaced. Sealed: what
	// the file holds now must not be appended to text.
	over, sealed bool
	waited       bool // for more data, so that the content may be another

	format format
	csv    *csvFormat // nil for NDJSON
	mapper *mapper
	entry  entry // being mapped
	// scratch holds a CSV row as JSON while expressions work on it.
	scratch []byte

	batch *Batch
	size  int // bytes in batch
}

func newTail(s *fileSource, at filePosition) *tail {
	t := &tail{src: s, at: at, want: minRead, format: ndjson{}, batch: &Batch{}}
	if s.args.String("format") == formatCSV {
		t.csv = &csvFormat{delimiter: s.args.String("delimiter")[0], types: s.args.Map("columns")}
		t.format = t.csv
	}
	t.mapper = newMapper(s.opts, s.args, t.lineID)
	return t
}

func (t *tail) close() error {
	if t.f == nil {
		return nil
	}
	f := t.f
	t.f = nil
	return f.Close()
}

// run reads until the file is at its end for good or d is over.
func (t *tail) run(d *delivery) error {
	if ok, err := t.begin(d.ctx); !ok || err != nil {
		return err
	}
	for d.ctx.Err() == nil {
		more, err := t.read()
		if err != nil {
			return err
		}
		atEnd := !more && (!t.src.following || t.over)
		if !more && !atEnd {
			if err := t.wait(d.ctx, t.at.Offset+int64(len(t.text))); err != nil {
				return err
			}
			continue
		}
		if err := t.take(d.ctx, atEnd); err != nil {
			return err
		}
		if !t.flush(d) {
			return nil
		}
		if atEnd && len(t.text) == 0 {
			if !t.over {
				return nil
			}
			if err := t.close(); err != nil {
				return err
			}
			t.startOver()
			if ok, err := t.begin(d.ctx); !ok || err != nil {
				return err
			}
		}
	}
	return nil
}

// begin opens the file and finds the position in it. False: the context ended
// first.
func (t *tail) begin(ctx context.Context) (bool, error) {
	f, err := t.src.waitForFile(ctx)
	if f == nil || err != nil {
		return false, err
	}
	t.f = f
	if t.info, err = f.Stat(); err != nil {
		return false, err
	}
	reason, err := t.seen.recognize(f, t.at)
	if err != nil {
		return false, err
	}
	if reason != "" {
		t.src.opts.Logger.Warn("the file was truncated or replaced; the source reads it from the beginning",
			"path", t.src.path, "reason", reason, "offset", t.at.Offset)
		t.startOver()
	}
	if t.csv == nil {
		return true, nil
	}
	names := t.at.Header
	if given := t.src.args.Strings("header"); len(given) > 0 {
		names = given
	}
	t.csv.header = nil
	if names == nil {
		// A position without a header is that of another format: read it anew.
		if t.at.Offset > 0 {
			t.startOver()
		}
		return true, nil
	}
	return true, t.csv.setHeader(names)
}

// startOver sets the position to the beginning of the next generation.
func (t *tail) startOver() {
	t.at = filePosition{Generation: t.at.Generation + 1}
	t.seen = tracker{}
	t.text, t.over, t.sealed, t.waited = nil, false, false, false
}

// read fills text from the file, in new memory. False: there is no more.
func (t *tail) read() (bool, error) {
	if len(t.text) >= t.want {
		t.text = append(make([]byte, 0, len(t.text)), t.text...)
		return true, nil
	}
	if t.sealed {
		return false, nil
	}
	end := t.at.Offset + int64(len(t.text))
	info, err := t.f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() <= end {
		return false, nil
	}
	if t.waited {
		t.waited = false
		intact, err := t.seen.intact(t.f, t.at.Offset)
		if err != nil {
			return false, err
		}
		if !intact {
			t.supersede("the bytes before the position are others", true)
			return false, nil
		}
	}
	room := int(min(int64(t.want-len(t.text)), info.Size()-end))
	text := append(make([]byte, 0, len(t.text)+room), t.text...)
	n, err := t.f.ReadAt(text[len(text):cap(text)], end)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	t.text = text[:len(text)+n]
	return n > 0, nil
}

// wait looks whether the file was rotated or truncated, and waits if not. End
// is the offset behind the last byte that was read.
func (t *tail) wait(ctx context.Context, end int64) error {
	if !t.over {
		info, err := os.Stat(t.src.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// In the middle of a rotation: the open file may still grow.
		case err != nil:
			return err
		case !os.SameFile(info, t.info):
			t.supersede("another file has its name", false)
			return nil
		case info.Size() < end:
			t.supersede("it became shorter", true)
			return nil
		}
	}
	t.src.opts.Sleep(ctx, t.src.poll)
	t.waited = true
	return nil
}

// supersede ends the present file; what is left of it is taken first.
func (t *tail) supersede(reason string, sealed bool) {
	t.src.opts.Logger.Warn("the file was rotated, truncated or replaced; the source goes on with the beginning of the new one",
		"path", t.src.path, "reason", reason, "offset", t.at.Offset)
	t.over, t.sealed = true, sealed
}

// take moves entries from text to the batch until the batch is full or text
// holds no whole entry.
func (t *tail) take(ctx context.Context, atEnd bool) error {
	if !t.skipByteOrderMark(atEnd) {
		return nil
	}
	t.mapper.freshArena()
	whole, overlong := t.text, false
	for !t.full() && len(t.text) > 0 {
		e := t.next(atEnd)
		if e.size == 0 && len(t.text) > t.src.maxLine {
			overlong = true
			break
		}
		if e.size == 0 {
			break
		}
		if err := t.accept(e); err != nil {
			return err
		}
		t.at.Offset += int64(e.size)
		t.at.Line += int64(e.lines)
		t.text = t.text[e.size:]
	}
	taken := len(whole) - len(t.text)
	t.seen.add(whole[:taken])
	if overlong && t.empty() {
		return t.skipLine(ctx)
	}
	t.adapt(taken)
	return nil
}

// next finds the entry that text begins with. It looks at no more than an entry
// may have, so that what it finds does not depend on how much was read at once.
func (t *tail) next(atEnd bool) entry {
	limit := t.src.maxLine
	if len(t.text) <= limit {
		return t.format.next(t.text, atEnd)
	}
	e := t.format.next(t.text[:limit+1], false)
	if e.size > 0 && e.size <= limit {
		return e
	}
	e = lineEntry(t.text, atEnd)
	if e.err = errRowTooLong; e.size > limit {
		e.err = errTooLong
	}
	return e
}

// adapt chooses how much text to have for the next batch.
func (t *tail) adapt(taken int) {
	entries := len(t.batch.Records) + len(t.batch.Rejected)
	if entries > 0 {
		perBatch := taken / entries * (batchRecords + batchRecords/8)
		t.want = min(max(perBatch, minRead), maxRead)
	}
	if !t.full() {
		// Nothing more can be taken of what is there.
		t.want = max(t.want, len(t.text)+max(minRead, len(t.text)/2))
	}
}

func (t *tail) empty() bool { return len(t.batch.Records)+len(t.batch.Rejected) == 0 }

func (t *tail) full() bool {
	return len(t.batch.Records)+len(t.batch.Rejected) >= batchRecords || t.size >= batchBytes
}

// flush hands the batch on. False: the run is over.
func (t *tail) flush(d *delivery) bool {
	if t.empty() {
		return true
	}
	t.at.Head, t.at.Tail = t.seen.marks()
	position, err := json.Marshal(t.at)
	if err != nil {
		panic("collect: a position that is no JSON: " + err.Error())
	}
	b := t.batch
	b.Position = position
	t.batch, t.size = &Batch{}, 0
	return d.put(b)
}

// skipByteOrderMark passes over the mark at the beginning of a file. False:
// that takes more text.
func (t *tail) skipByteOrderMark(atEnd bool) bool {
	if t.at.Offset > 0 {
		return true
	}
	n := min(len(t.text), len(byteOrderMark))
	if !bytes.Equal(t.text[:n], byteOrderMark[:n]) {
		return true
	}
	if n < len(byteOrderMark) {
		return atEnd
	}
	t.seen.add(t.text[:n])
	t.at.Offset += int64(n)
	t.text = t.text[n:]
	return true
}

// accept puts one entry into the batch, or takes it as the header. Only a
// header can be an error.
func (t *tail) accept(e entry) error {
	if t.csv != nil && t.csv.header == nil {
		return t.acceptHeader(e)
	}
	if len(e.raw) == 0 {
		return nil
	}
	t.size += len(e.raw)
	t.entry = e
	r, err := t.record(e)
	if err != nil {
		t.reject(e.raw, len(e.raw), err)
		return nil
	}
	if t.batch.Records == nil {
		t.batch.Records = make([]record.Record, 0, batchRecords)
	}
	t.batch.Records = append(t.batch.Records, r)
	return nil
}

// record makes a record of an entry.
func (t *tail) record(e entry) (record.Record, error) {
	if e.err != nil {
		return record.Record{}, e.err
	}
	if t.csv == nil {
		return t.mapper.apply(e.raw)
	}
	// An input that becomes the payload belongs to the batch.
	to := &t.scratch
	if t.mapper.payload == nil {
		to = &t.mapper.arena
	} else {
		t.scratch = t.scratch[:0]
	}
	start := len(*to)
	grown, err := t.csv.appendInput(*to)
	if err != nil {
		return record.Record{}, err
	}
	*to = grown
	return t.mapper.apply(grown[start:len(grown):len(grown)])
}

func (t *tail) acceptHeader(e entry) error {
	if e.err != nil {
		return fmt.Errorf("reading the header in line %d: %w", t.at.Line+1, e.err)
	}
	if len(e.raw) == 0 {
		return nil
	}
	names := make([]string, len(t.csv.fields))
	for i, f := range t.csv.fields {
		names[i] = string(bytes.TrimSpace(f))
	}
	if err := t.csv.setHeader(names); err != nil {
		return fmt.Errorf("reading the header in line %d: %w", t.at.Line+1, err)
	}
	t.at.Header = names
	return nil
}

// origin tells where the entry at the position stands, for ids.
func (t *tail) origin() string {
	b := strconv.AppendInt(make([]byte, 0, 24), t.at.Generation, 10)
	return string(strconv.AppendInt(append(b, ':'), t.at.Offset, 10))
}

func (t *tail) lineID() string {
	return stableID("record", t.src.opts, t.origin(), t.entry.raw)
}

// reject adds the entry at the position to the dead letters. Size is its
// length when raw is only its beginning.
func (t *tail) reject(raw []byte, size int, err error) {
	detail := map[string]string{
		"file": t.src.written,
		"line": strconv.FormatInt(t.at.Line+1, 10),
		"byte": strconv.FormatInt(t.at.Offset, 10),
	}
	if size > len(raw) {
		detail["bytes"] = strconv.Itoa(size)
	}
	t.batch.Rejected = append(t.batch.Rejected, t.src.opts.reject(raw, t.origin(), err, detail))
}

// skipLine passes over the line at the position, which is longer than may be
// held in memory (I9), and keeps its beginning as a dead letter. What is kept
// does not depend on how much was read at once.
func (t *tail) skipLine(ctx context.Context) error {
	kept := bytes.Clone(t.text[:min(len(t.text), maxRawBytes)])
	size, lines := len(t.text), 0
	t.seen.add(t.text)
	t.text = nil
	chunk := make([]byte, maxRead)
	for lines == 0 && !t.sealed {
		n, err := t.f.ReadAt(chunk, t.at.Offset+int64(size))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			if !t.src.following || t.over {
				break
			}
			if err := t.wait(ctx, t.at.Offset+int64(size)); err != nil || ctx.Err() != nil {
				return err
			}
			continue
		}
		part := chunk[:n]
		if i := bytes.IndexByte(part, '\n'); i >= 0 {
			part, lines = part[:i+1], 1
		}
		t.seen.add(part)
		kept = append(kept, part[:min(len(part), maxRawBytes-len(kept))]...)
		size += len(part)
	}
	length := size - lines
	if bytes.HasSuffix(t.seen.tail[:len(t.seen.tail)-lines], []byte{'\r'}) {
		length--
	}
	t.reject(kept[:min(len(kept), length)], length, errTooLong)
	t.at.Offset += int64(size)
	t.at.Line += int64(lines)
	return nil
}
