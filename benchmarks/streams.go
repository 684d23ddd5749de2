package main

import (
	"context"
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
	Messages uint64 // read
	Distinct uint64 // different Edged-Number
	Marked   uint64 // for which mark was true
}

// count reads every message of stream on filter, one by one, as a client that
// knows nothing of edged but the header with the number.
func count(ctx context.Context, nc *nats.Conn, stream, filter string, mark func(data []byte) bool) (t tally, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return t, err
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return t, fmt.Errorf("counting %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return t, fmt.Errorf("counting %s: %w", stream, err)
	}
	var want uint64
	for _, n := range info.State.Subjects {
		want += n
	}
	if want == 0 {
		return t, nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		return t, fmt.Errorf("counting %s: %w", stream, err)
	}
	msgs, err := c.Messages(jetstream.PullMaxMessages(2000))
	if err != nil {
		return t, fmt.Errorf("counting %s: %w", stream, err)
	}
	defer msgs.Stop()
	seen := map[uint64]struct{}{}
	for t.Messages < want {
		m, err := msgs.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			return t, fmt.Errorf("counting %s: %d of %d read: %w", stream, t.Messages, want, err)
		}
		t.Messages++
		if n, err := strconv.ParseUint(m.Headers().Get("Edged-Number"), 10, 64); err == nil {
			seen[n] = struct{}{}
		}
		if mark != nil && mark(m.Data()) {
			t.Marked++
		}
	}
	t.Distinct = uint64(len(seen))
	return t, nil
}
