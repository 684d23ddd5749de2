package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// highWaterFile stands outside JetStream, so that what happens to a stream does
// not happen to it.
const highWaterFile = "high-water.json"

// waterMark is the highest number of a lane known to have been durable.
type waterMark struct {
	Epoch string `json:"epoch"`
	Last  uint64 `json:"last"`
}

// checkStore holds every lane against its high-water mark. A lane that stands
// lower has lost acknowledged records (a power cut without fsync, a damaged
// block, an older copy of the store): that is reported, leaves a dead letter
// (I7), and begins a new epoch, because the lost numbers will be given out again
// and a hub may know them already.
func (e *Engine) checkStore(ctx context.Context) error {
	// Before anything else is written to the record log.
	if err := e.queue.Rewind(ctx, e.records.Durable()); err != nil {
		return err
	}
	var err error
	if e.marks, err = readHighWater(e.dataDir); errors.Is(err, errMarks) {
		// Only a hint: the hub's ledger still tells what it has.
		e.log.Warn("the high-water marks cannot be read and are begun anew", "file", highWaterFile, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	lost := false
	for name, lane := range e.lanes() {
		mark := e.marks[name]
		if mark.Epoch != epochOf(lane) || mark.Last <= lane.Last() {
			continue
		}
		lost = true
		e.log.Error("the local store has lost acknowledged records; a new epoch begins",
			"lane", name, "first", lane.Last()+1, "last", mark.Last)
		if err := e.reportLoss(ctx, name, lane, lane.Last()+1, mark.Last, ""); err != nil {
			return err
		}
		loss := store.Loss{Epoch: mark.Epoch, First: lane.Last() + 1, Last: mark.Last, Cause: "the end of the local store is gone"}
		if err := lane.NoteLost(ctx, loss); err != nil {
			return err
		}
		if err := lane.NewEra(ctx, lane.Last()); err != nil {
			return err
		}
	}
	// What is known to be moved need not be looked at again, unless one of the
	// logs is not what it was.
	if mark := e.marks[outboxMark]; !lost && mark.Epoch == e.logEpochs() && mark.Last <= e.records.Durable() {
		e.queue.Resume(mark.Last)
	}
	return nil
}

// outboxMark is the mark of the outboxes that were moved.
const outboxMark = "outbox"

// logEpochs names the incarnation of all logs together.
func (e *Engine) logEpochs() string {
	return e.records.Epoch() + " " + e.queue.Log().Epoch() + " " + e.queue.DeadLetters().Epoch()
}

// errMarks says that the file of the marks is not what was written.
var errMarks = errors.New("damaged high-water marks")

// readHighWater reads the marks of a data directory; there may be none yet.
func readHighWater(dataDir string) (map[string]waterMark, error) {
	data, err := os.ReadFile(filepath.Join(dataDir, highWaterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the high-water marks: %w", err)
	}
	var marks map[string]waterMark
	if err := json.Unmarshal(data, &marks); err != nil {
		return nil, fmt.Errorf("%w: %w", errMarks, err)
	}
	return marks, nil
}

// lanes returns every lane whose entries go to remotes, by a name of its own.
func (e *Engine) lanes() map[string]*store.Lane {
	all := map[string]*store.Lane{}
	for _, lane := range e.records.Lanes() {
		all["records/"+lane.Name()] = lane
	}
	for _, p := range record.Priorities {
		all["queue/"+p.String()] = e.queue.Lane(p)
	}
	return all
}

// saveHighWater writes the marks when they have changed.
func (e *Engine) saveHighWater() error {
	marks := map[string]waterMark{}
	for name, lane := range e.lanes() {
		if last := lane.Last(); last > 0 {
			marks[name] = waterMark{Epoch: epochOf(lane), Last: last}
		}
	}
	if moved := e.queue.Moved(); moved > 0 {
		marks[outboxMark] = waterMark{Epoch: e.logEpochs(), Last: moved}
	}
	if maps.Equal(marks, e.marks) {
		return nil
	}
	data, err := json.Marshal(marks)
	if err != nil {
		return fmt.Errorf("saving the high-water marks: %w", err)
	}
	if err := writeFileDurably(filepath.Join(e.dataDir, highWaterFile), data); err != nil {
		return fmt.Errorf("saving the high-water marks: %w", err)
	}
	e.marks = marks
	return nil
}

// writeFileDurably replaces a file so that after a crash either the old or the
// new content is there, whole.
func writeFileDurably(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}
