package engine_test

import (
	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
)

// deadLetters reads what the edge's data directory holds while no edge runs on
// it.
func (r *restoreRig) deadLetters() (letters []record.DeadLetter) {
	r.t.Helper()
	s, err := engine.OpenStore(r.t.Context(), r.dir, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.DeadLetters(r.t.Context(), queue.Selection{}, nil, func(b *queue.Buried) error {
		letters = append(letters, b.DeadLetter)
		return nil
	}); err != nil {
		r.t.Error(err)
	}
	if err := s.Close(); err != nil {
		r.t.Error(err)
	}
	return letters
}
