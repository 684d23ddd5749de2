package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// ErrNoStore is returned by [OpenStore] when the data directory holds no store.
var ErrNoStore = errors.New("there is no store in this data directory")

// Store is the data directory of an edge that does not run, opened to look at
// what it keeps: without remotes, sources or plugins. Its methods may be called
// from any goroutine.
type Store struct {
	dir    string
	log    *slog.Logger
	broker *broker.Broker
	nc     *nats.Conn
	saved  map[string]savedPosition   // by what saveState calls them
	passed map[record.Priority]uint64 // by every remote, as last saved
}

// OpenStore locks dataDir and starts its broker, which recovers the streams as
// it does for [Open]: what it finds cut off at the end of a file it leaves out.
// Nothing else is changed. It never makes a store: without one it returns
// [ErrNoStore]. logger may be nil.
func OpenStore(ctx context.Context, dataDir string, logger *slog.Logger) (_ *Store, err error) {
	s := &Store{log: logger, passed: map[record.Priority]uint64{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.dir, err = filepath.Abs(dataDir); err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	streams := filepath.Join(s.dir, "jetstream")
	if info, err := os.Stat(filepath.Join(streams, "jetstream")); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%w: %s", ErrNoStore, dataDir)
	} else if err != nil {
		return nil, fmt.Errorf("opening the data directory: %w", err)
	}
	s.broker, err = broker.Start(ctx, broker.Options{
		Name: "edged-store", Domain: "edged-store", Dir: streams, Logger: s.log.With("part", "broker"),
		Quarantine: quarantineDir(s.dir), CheckAll: true,
	})
	if errors.Is(err, broker.ErrLocked) {
		return nil, fmt.Errorf("another edged is about to start or to stop there, or looks into it; try again in a moment: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if s.nc, err = s.broker.Connect("edged"); err == nil {
		err = s.readPassed(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close stops the broker and unlocks the data directory.
func (s *Store) Close() error {
	if s.nc != nil {
		s.nc.Close()
	}
	return s.broker.Close()
}

// readPassed finds what the remotes are known to have of the queue. A position
// of another epoch says nothing.
func (s *Store) readPassed(ctx context.Context) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, stateBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the bucket %s: %w", stateBucket, err)
	}
	saved, err := readState(ctx, kv)
	if err != nil {
		return err
	}
	s.saved = saved
	log, err := queue.OpenMessages(ctx, s.nc, s.log)
	if err != nil {
		// Damaged or not there: what is there to be seen is shown as waiting.
		if !errors.Is(err, store.ErrNoStream) {
			s.log.Warn("it is not known what the remotes have of the queue", "error", err)
		}
		return nil
	}
	for _, lane := range log.Lanes() {
		priority, err := record.ParsePriority(lane.Name())
		if err != nil {
			continue
		}
		found := false
		for key, p := range saved {
			if !strings.HasSuffix(key, ".queue."+lane.Name()) {
				continue
			}
			if p.Epoch != epochOf(lane) {
				p.Last = 0
			}
			if !found || p.Last < s.passed[priority] {
				s.passed[priority], found = p.Last, true
			}
		}
	}
	return log.Close(ctx)
}

// DeadLetters is as [queue.EachDeadLetter].
func (s *Store) DeadLetters(ctx context.Context, sel queue.Selection, progress store.Progress, each func(*queue.Buried) error) error {
	return queue.EachDeadLetter(ctx, s.nc, sel, progress, each)
}

// DropDeadLetters is as [queue.DropDeadLetters].
func (s *Store) DropDeadLetters(ctx context.Context, sel queue.Selection, progress func(int) error) (n int, err error) {
	log, err := queue.OpenDeadLetters(ctx, s.nc, s.log)
	if errors.Is(err, store.ErrNoStream) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	return queue.DropDeadLetters(ctx, s.nc, log, sel, progress)
}

// Messages is as [queue.EachWaiting]. What the remotes have is known as far as
// the edge had noted it, every two seconds and when it stopped.
func (s *Store) Messages(ctx context.Context, filter queue.MessageFilter, each func(*queue.Waiting) error) error {
	standing, err := s.standing(ctx)
	if err != nil {
		return err
	}
	return queue.EachWaiting(ctx, s.nc, standing, filter, each)
}

// QueueStats is as [queue.WaitingStats], with what [Store.Messages] says.
func (s *Store) QueueStats(ctx context.Context, filter queue.MessageFilter) (queue.Stats, error) {
	standing, err := s.standing(ctx)
	if err != nil {
		return queue.Stats{}, err
	}
	return queue.WaitingStats(ctx, s.nc, standing, filter)
}

// standing knows nothing of how a running edge would fare.
func (s *Store) standing(ctx context.Context) (queue.Standing, error) {
	asides, err := sync.Asides(ctx, s.nc)
	return queue.Standing{Passed: func(p record.Priority) uint64 { return s.passed[p] }, Aside: asides}, err
}

// Records calls each for the stored records of a pipeline ("" is every one), in
// the order of storing, as the wire JSON in Data; [store.ErrEnough] ends it.
func (s *Store) Records(ctx context.Context, pipeline string, progress store.Progress, each func(*store.Found) error) error {
	err := store.Scan(ctx, s.nc, recordStream, recordSubject, progress, func(f *store.Found) error {
		if pipeline != "" && f.Lane != pipeline {
			return nil
		}
		return each(f)
	})
	if errors.Is(err, store.ErrNoStream) {
		return nil
	}
	return err
}

// Verification is what [Store.Verify] found.
type Verification struct {
	DataDir string         `json:"data_dir"`
	Logs    []store.Report `json:"logs"`
	// Lost are numbers that are known to have been durable, from outside the
	// streams, and that the streams know nothing of.
	Lost []Lost `json:"lost"`
	// Quarantine lists what was damaged and set aside, now or before. What was
	// lost with it is named by the next run of the edge.
	Quarantine []broker.Damage `json:"quarantine"`
	// Damaged sums up everything that is not as it should be; 0: all is well.
	Damaged uint64 `json:"damaged"`
}

// Lost is a range of numbers of one lane, named as in "records/<pipeline>".
type Lost struct {
	Lane  string `json:"lane"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Verify reads everything in the three logs and holds it against the high-water
// marks. It takes time in proportion to what is stored; progress begins anew with
// each log.
func (s *Store) Verify(ctx context.Context, progress store.Progress) (Verification, error) {
	v := Verification{DataDir: s.dir, Logs: []store.Report{}, Lost: []Lost{}}
	newest := map[string]waterMark{}
	for _, l := range []struct {
		opts  store.Options
		check func(*store.Found) error
		mark  string // how the high-water marks name its lanes
	}{
		{store.Options{Stream: recordStream, Subject: recordSubject}, checkRecord, "records/"},
		{store.Options{Stream: queue.Stream, Subject: queue.Subject}, checkJSON[record.Message], "queue/"},
		{store.Options{Stream: queue.DeadLetterStream, Subject: queue.DeadLetterSubject, Single: true}, checkJSON[record.DeadLetter], ""},
	} {
		report, err := store.Verify(ctx, s.nc, l.opts, progress, l.check)
		if errors.Is(err, store.ErrNoStream) {
			continue // an edge killed in its first second; the marks know better
		}
		if err != nil {
			return Verification{}, err
		}
		v.Logs = append(v.Logs, report)
		v.Damaged += length(report.Unreadable) + report.Unlocated
		for _, lane := range report.Lanes {
			v.Damaged += length(lane.Gaps) + length(lane.Damaged) + lane.DamagedPacks
			if l.mark != "" {
				newest[l.mark+lane.Lane] = waterMark{Epoch: lane.Epoch, Last: lane.Last}
			}
		}
	}
	marks, err := readHighWater(s.dir)
	if err != nil && !errors.Is(err, errMarks) {
		return Verification{}, err
	}
	if v.Quarantine, err = broker.ReadQuarantine(quarantineDir(s.dir)); err != nil {
		return Verification{}, err
	}
	for _, d := range v.Quarantine {
		if !d.Settled {
			v.Damaged++
		}
	}
	v.addLost(marks, newest)
	return v, nil
}

// addLost compares what the lanes have given out with the marks. A mark of an
// older epoch is of numbers that an edge has already found lost and told of.
func (v *Verification) addLost(marks, newest map[string]waterMark) {
	for _, name := range slices.Sorted(maps.Keys(marks)) {
		mark, lane := marks[name], newest[name]
		if name == outboxMark { // no lane's
			continue
		}
		if lane.Epoch != "" && lane.Epoch != mark.Epoch || mark.Last <= lane.Last {
			continue
		}
		v.Lost = append(v.Lost, Lost{Lane: name, First: lane.Last + 1, Last: mark.Last})
		v.Damaged += mark.Last - lane.Last
	}
}

func length(ranges [][2]uint64) (n uint64) {
	for _, r := range ranges {
		n += r[1] - r[0] + 1
	}
	return n
}

func checkRecord(f *store.Found) error {
	_, err := record.Parse(f.Data)
	return err
}

func checkJSON[T any](f *store.Found) error { return json.Unmarshal(f.Data, new(T)) }
