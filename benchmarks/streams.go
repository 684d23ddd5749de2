package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startServer starts a bare nats-server with JetStream in dir, as an edge's
// own is: one account for what is local, one for the link to a hub, fsync
// before every acknowledgement.
func startServer(dir, more string) (*server.Server, *nats.Conn, error) {
	o := &server.Options{}
	err := o.ProcessConfigString(fmt.Sprintf(`
server_name: bench
jetstream { store_dir: %q, domain: bench, max_memory_store: 0 }
accounts {
  EDGED { jetstream: enabled, users: [ { user: bench, password: bench } ] }
  LINK { users: [ { user: link, password: link } ] }
}
no_auth_user: bench
%s`, dir, more))
	if err != nil {
		return nil, nil, err
	}
	o.NoSigs, o.NoLog, o.SyncAlways, o.DontListen = true, true, true, true
	o.LeafNode.ReconnectInterval = 100 * time.Millisecond
	s, err := server.NewServer(o)
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) || !s.JetStreamEnabled() {
		stopServer(s)
		return nil, nil, fmt.Errorf("the server on %s did not start", dir)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.ReconnectBufSize(-1))
	if err != nil {
		stopServer(s)
		return nil, nil, err
	}
	return s, nc, nil
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// tally is what an independent reader found in a stream.
type tally struct {
	Records  int
	Distinct map[uint64]struct{} // their numbers
	Marked   int                 // records for which mark was true
}

// exactly returns an error unless every record was found once.
func (t *tally) exactly(records int, err error) error {
	if err == nil && (t.Records != records || len(t.Distinct) != records) {
		err = fmt.Errorf("%d records with %d different numbers arrived, want %d of each", t.Records, len(t.Distinct), records)
	}
	return err
}

func (t *tally) add(number uint64, data []byte, mark []byte) {
	if t.Distinct == nil {
		t.Distinct = map[uint64]struct{}{}
	}
	t.Records++
	t.Distinct[number] = struct{}{}
	if bytes.Contains(data, mark) {
		t.Marked++
	}
}

// countHub reads every message of a hub's stream on filter, one by one, as a
// client that knows nothing of edged but the header with the number.
func countHub(ctx context.Context, nc *nats.Conn, stream, filter string, mark []byte) (*tally, error) {
	t := &tally{}
	return t, eachMessage(ctx, nc, stream, filter, func(m jetstream.Msg) error {
		n, err := strconv.ParseUint(m.Headers().Get("Edged-Number"), 10, 64)
		t.add(n, m.Data(), mark)
		return err
	})
}

// countEdge reads every record of an edge's own stream, where a message holds
// many: see engine/store/pack.go. It shares no code with the edge.
func countEdge(ctx context.Context, nc *nats.Conn, mark []byte) (*tally, error) {
	t := &tally{}
	return t, eachMessage(ctx, nc, "EDGED_RECORDS", ">", func(m jetstream.Msg) error {
		rest, ok := bytes.CutPrefix(m.Data(), []byte("EDP1"))
		if !ok {
			return fmt.Errorf("message on %s is no pack", m.Subject())
		}
		number := func() (n uint64) {
			n, size := binary.Uvarint(rest)
			if size <= 0 {
				ok, rest = false, nil
				return 0
			}
			rest = rest[size:]
			return n
		}
		text := func() []byte {
			n := number()
			if n > uint64(len(rest)) {
				ok, rest = false, nil
				return nil
			}
			b := rest[:n]
			rest = rest[n:]
			return b
		}
		first := number()
		text() // the commit entry
		text() // the outbox
		for range number() {
			text() // a subject
		}
		entries := number()
		for i := uint64(0); i < entries && ok; i++ {
			number() // of the subject
			t.add(first+i, text(), mark)
		}
		if !ok || len(rest) != 4 { // the checksum
			return fmt.Errorf("the pack that begins with %d does not add up", first)
		}
		return nil
	})
}

// eachMessage reads all that the stream holds on filter now.
func eachMessage(ctx context.Context, nc *nats.Conn, stream, filter string, visit func(jetstream.Msg) error) error {
	fail := func(err error) error { return fmt.Errorf("counting %s: %w", stream, err) }
	js, err := jetstream.New(nc)
	if err != nil {
		return fail(err)
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fail(err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return fail(err)
	}
	var want uint64
	for _, n := range info.State.Subjects {
		want += n
	}
	if want == 0 {
		return nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		return fail(err)
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return fail(err)
	}
	defer messages.Stop()
	for read := range want {
		m, err := messages.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			return fail(fmt.Errorf("%d of %d read: %w", read, want, err))
		}
		if err := visit(m); err != nil {
			return fail(err)
		}
	}
	return nil
}
