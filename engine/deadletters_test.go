package engine_test

import (
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

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
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	stream, err := js.Stream(r.t.Context(), queue.DeadLetterStream)
	if err != nil {
		r.t.Fatal(err)
	}
	var letters []record.DeadLetter
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		if !strings.HasPrefix(msg.Subject, queue.DeadLetterSubject+".") {
			continue
		}
		var d record.DeadLetter
		if err := json.Unmarshal(msg.Data, &d); err != nil {
			r.t.Fatal(err)
		}
		letters = append(letters, d)
	}
	return letters
}
