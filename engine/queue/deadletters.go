package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// Selection names dead letters: those with one of the IDs, or, without IDs,
// those that fit every filter that is set. The zero value is all of them.
type Selection struct {
	IDs      []string // or the beginnings of IDs, each of which names one ID
	Pipeline string
	Stage    string // "transform.dew_point", or "transform" for every transform
	Since    time.Time
	Contains string // in the error, the details or the raw bytes
}

// ErrNoDeadLetter says that an ID names no dead letter, or more than one.
var ErrNoDeadLetter = errors.New("no such dead letter")

// Buried is a dead letter as it is kept.
type Buried struct {
	record.DeadLetter
	Number uint64 `json:"number"` // in its pipeline

	found store.Found
}

// EachDeadLetter calls each for every dead letter of the selection, oldest
// first, up to the newest when it began. It reads from disk, about a megabyte at
// a time; [store.ErrEnough] from each ends it. progress is told of all that is
// read, twice when the selection has IDs. It needs no open [Queue].
func EachDeadLetter(ctx context.Context, nc *nats.Conn, sel Selection, progress store.Progress, each func(*Buried) error) error {
	ids, err := resolve(ctx, nc, sel.IDs, progress)
	if err != nil {
		return err
	}
	return scanDeadLetters(ctx, nc, progress, func(b *Buried) error {
		if len(sel.IDs) > 0 && !ids[b.ID] || len(sel.IDs) == 0 && !sel.fits(b) {
			return nil
		}
		return each(b)
	})
}

// scanDeadLetters passes over what is no dead letter: `edged store verify` tells
// of it.
func scanDeadLetters(ctx context.Context, nc *nats.Conn, progress store.Progress, each func(*Buried) error) error {
	err := store.Scan(ctx, nc, DeadLetterStream, DeadLetterSubject, progress, func(f *store.Found) error {
		b := Buried{Number: f.Number, found: *f}
		b.found.Data = nil
		if json.Unmarshal(f.Data, &b.DeadLetter) != nil {
			return nil
		}
		return each(&b)
	})
	if errors.Is(err, store.ErrNoStream) {
		return nil
	}
	return err
}

// resolve finds the whole IDs. The same ID may be kept several times.
func resolve(ctx context.Context, nc *nats.Conn, prefixes []string, progress store.Progress) (map[string]bool, error) {
	if len(prefixes) == 0 {
		return nil, nil
	}
	found := make([]map[string]bool, len(prefixes))
	err := scanDeadLetters(ctx, nc, progress, func(b *Buried) error {
		for i, p := range prefixes {
			// Two that fit are enough to know that the beginning is too short.
			if strings.HasPrefix(b.ID, p) && len(found[i]) < 2 {
				if found[i] == nil {
					found[i] = map[string]bool{}
				}
				found[i][b.ID] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	var errs []error
	for i, p := range prefixes {
		switch len(found[i]) {
		case 0:
			errs = append(errs, fmt.Errorf("%w: none has the ID %q", ErrNoDeadLetter, p))
		case 1:
			maps.Copy(ids, found[i])
		default:
			errs = append(errs, fmt.Errorf("%w: %q begins more than one ID, as %s; write more of it",
				ErrNoDeadLetter, p, strings.Join(slices.Sorted(maps.Keys(found[i])), " and ")))
		}
	}
	return ids, errors.Join(errs...)
}

// everything reports whether nothing is left out.
func (s *Selection) everything() bool {
	return len(s.IDs) == 0 && s.Pipeline+s.Stage+s.Contains == "" && s.Since.IsZero()
}

func (s *Selection) fits(b *Buried) bool {
	switch {
	case s.Pipeline != "" && s.Pipeline != b.Pipeline:
	case s.Stage != "" && s.Stage != b.Stage && !strings.HasPrefix(b.Stage, s.Stage+"."):
	case b.Time.Before(s.Since):
	case s.Contains != "" && !contains(&b.DeadLetter, s.Contains):
	default:
		return true
	}
	return false
}

func contains(d *record.DeadLetter, text string) bool {
	for _, v := range d.Detail {
		if strings.Contains(v, text) {
			return true
		}
	}
	return strings.Contains(d.Error, text) || bytes.Contains(d.Raw, []byte(text))
}

// removeAtOnce is how many dead letters go with one commit.
const removeAtOnce = 500

// DropDeadLetters removes the selected dead letters from their log and returns
// how many went; progress, which may be nil, is told after each step. What is
// buried while it works stays.
func DropDeadLetters(ctx context.Context, nc *nats.Conn, log *store.Log, sel Selection, progress func(dropped int) error) (int, error) {
	if sel.everything() {
		return dropAll(ctx, nc, log)
	}
	dropped := 0
	var chunk []store.Found
	flush := func() error {
		n, err := log.Remove(ctx, chunk)
		dropped, chunk = dropped+n, chunk[:0]
		if err == nil && progress != nil {
			err = progress(dropped)
		}
		return err
	}
	err := EachDeadLetter(ctx, nc, sel, nil, func(b *Buried) error {
		if chunk = append(chunk, b.found); len(chunk) == removeAtOnce {
			return flush()
		}
		return nil
	})
	if err == nil && len(chunk) > 0 {
		err = flush()
	}
	return dropped, err
}

// dropAll is quick however many there are.
func dropAll(ctx context.Context, nc *nats.Conn, log *store.Log) (n int, err error) {
	spans := map[string][2]uint64{}
	var newest uint64
	err = store.Scan(ctx, nc, DeadLetterStream, DeadLetterSubject, nil, func(f *store.Found) error {
		span, ok := spans[f.Lane]
		if !ok {
			span[0] = f.Number
		}
		span[1], newest = f.Number, f.Seq
		spans[f.Lane] = span
		n++
		return nil
	})
	if err != nil || n == 0 {
		return 0, err
	}
	if err := log.RemoveBefore(ctx, newest+1, spans); err != nil {
		return 0, err
	}
	return n, nil
}

// RemoveDeadLetters removes dead letters that were found, as far as they are
// still there.
func RemoveDeadLetters(ctx context.Context, log *store.Log, letters []*Buried) error {
	found := make([]store.Found, len(letters))
	for i, b := range letters {
		found[i] = b.found
	}
	_, err := log.Remove(ctx, found)
	return err
}

// OpenMessages opens only the messages, and only if they are there already:
// otherwise it is [store.ErrNoStream]. Close the log.
func OpenMessages(ctx context.Context, nc *nats.Conn, logger *slog.Logger) (*store.Log, error) {
	return store.Open(ctx, nc, store.Options{Stream: Stream, Subject: Subject, Existing: true, Logger: logger})
}

// OpenDeadLetters opens only the dead letters, and only if they are there
// already: otherwise it is [store.ErrNoStream]. Close the log.
func OpenDeadLetters(ctx context.Context, nc *nats.Conn, logger *slog.Logger) (*store.Log, error) {
	return store.Open(ctx, nc, store.Options{
		Stream: DeadLetterStream, Subject: DeadLetterSubject, Single: true, Existing: true, Logger: logger,
	})
}
