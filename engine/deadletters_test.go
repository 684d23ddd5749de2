package engine_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
)

// deadLetters reads what the edge's data directory holds while no edge runs on
// it.
func (r *restoreRig) deadLetters() []record.DeadLetter {
	r.t.Helper()
	b, err := broker.Start(r.t.Context(), broker.Options{Name: "look", Domain: "look", Dir: filepath.Join(r.dir, "jetstream")})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	nc, err := b.Connect("look")
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(r.t.Context(), nc, queue.Options{QueueBytes: 1 << 20, DeadLetterBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := q.Close(context.WithoutCancel(r.t.Context())); err != nil {
			r.t.Error(err)
		}
	}()
	var letters []record.DeadLetter
	for _, lane := range q.DeadLetters().Lanes() {
		reader := lane.NewReader(0)
		defer reader.Close()
		for reader.Number() < lane.Last() {
			got, err := reader.Read(r.t.Context(), 100, 1<<20, nil)
			if err != nil {
				r.t.Fatal(err)
			}
			for i := range got {
				var d record.DeadLetter
				if err := json.Unmarshal(got[i].Data, &d); err != nil {
					r.t.Fatal(err)
				}
				letters = append(letters, d)
			}
		}
	}
	return letters
}
