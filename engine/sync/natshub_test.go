package sync_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/batch"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// natsServer starts a nats-server as operators run it, from configuration text.
func natsServer(t *testing.T, text string) *server.Server {
	t.Helper()
	o := &server.Options{}
	if err := o.ProcessConfigString(text); err != nil {
		t.Fatal(err)
	}
	o.NoSigs = true
	if o.LeafNode.Port == 0 {
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", server.RANDOM_PORT
	}
	o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not become ready")
	}
	return s
}

// leafAddr is where edges reach a server.
func leafAddr(t *testing.T, s *server.Server) string {
	t.Helper()
	v, err := s.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", v.LeafNode.Host, v.LeafNode.Port)
}

// natsHub connects to a server, makes the streams there and returns it as a hub
// to read from.
func natsHub(t *testing.T, s *server.Server, options ...nats.Option) *testHub {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	h := &testHub{t: t, nc: nc, stop: nc.Close}
	if h.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := hub.Provision(ctx, nc, "", 0)
		cancel()
		if err == nil {
			return h
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestAHubWithLittleRoom lets eight edges with two pipelines and messages each
// push at once to a hub that takes three batches at a time. They stand back for
// each other: nobody calls that an error, and everything arrives once.
func TestAHubWithLittleRoom(t *testing.T) {
	t.Parallel()
	s := natsServer(t, fmt.Sprintf(`
server_name: hub
jetstream { store_dir: %q, domain: hub, limits { batch { max_inflight_per_stream: 3 } } }`, t.TempDir()))
	h := natsHub(t, s)
	const edges, each = 8, 60
	var all []*testRemote
	var begin gosync.WaitGroup
	for i := range edges {
		id := fmt.Sprintf("edge-%d", i)
		e := startEdge(t, id, t.TempDir(), link("hub", newProxy(t, leafAddr(t, s))))
		a, b := e.lane("a"), e.lane("b")
		e.put(a, each)
		e.put(b, each)
		e.message(record.High, "a", 50)
		all = append(all, e.prepare(remoteOptions{
			lanes: lanes(a, b), policy: batch.Policy{MaxRecords: 20, MaxBytes: 1 << 20, MaxWait: time.Millisecond},
			backoff: sync.Backoff{Base: time.Second, Max: 5 * time.Minute},
		}))
	}
	for _, r := range all {
		begin.Go(func() { r.run() })
	}
	begin.Wait()
	var tried, pushed int
	for i, r := range all {
		r.until("everything is at the hub", r.drained)
		id := fmt.Sprintf("edge-%d", i)
		h.holds(id, "records", "a", each)
		h.holds(id, "records", "b", each)
		h.holds(id, "queue", "high", 50)
		for name, f := range r.feeds {
			if _, _, err := f.Status(); err != nil && strings.Contains(err.Error(), "atomic publish") {
				t.Errorf("%s of %s: %v", name, id, err)
			}
		}
		for len(r.changes) > 0 {
			if c := <-r.changes; strings.Contains(c.Error, "atomic publish") { // a busy machine may be slow
				t.Errorf("%s became %s: %s", id, c.To, c.Error)
			}
		}
		pushes, n, _ := r.account()
		tried, pushed = tried+n, pushed+len(pushes)
	}
	t.Logf("%d pushes for %d batches", tried, pushed)
	if tried == pushed {
		t.Error("the hub had room for all: the test shows nothing")
	}
	found, err := sync.AuditFleet(t.Context(), h.nc, sync.FleetOptions{})
	if err != nil || len(found) != edges*3 {
		t.Fatalf("the fleet's audit finds %d feeds, %v", len(found), err)
	}
	for i := range found {
		f := &found[i]
		if len(f.Gaps)+len(f.Duplicates)+len(f.Damaged) != 0 || f.Unsettled != 0 || f.Err != nil {
			t.Errorf("the fleet's audit finds %+v", f)
		}
	}
}

// TestAClusteredHub pushes into a hub of three servers with three replicas, while
// the streams change their leader and the server that the edge is connected to
// goes: exactly once.
func TestAClusteredHub(t *testing.T) {
	t.Parallel()
	servers, restart := natsCluster(t)
	h := natsHub(t, servers[0])
	for _, name := range []string{sync.HubRecordStream, sync.HubQueueStream} {
		h.replicate(name, 3)
	}
	p := newProxy(t, leafAddr(t, servers[1]))
	e := startEdge(t, "edge", t.TempDir(), link("hub", p))
	a := e.lane("a")
	r := e.prepare(remoteOptions{
		lanes: lanes(a), policy: batch.Policy{MaxRecords: 20, MaxBytes: 1 << 20, MaxWait: time.Millisecond}, timeout: time.Second,
	}).run()
	at := func(n uint64) func() bool {
		return func() bool { at, _, _ := r.feeds["a"].Status(); return at.Last >= n }
	}
	for i := range uint64(4) {
		e.put(a, 1500)
		e.message(record.High, "a", 40)
		r.until("some of it is at the hub", at(1500*i+200))
		if i == 2 { // the edge's own server goes, and another takes over
			p.lead(leafAddr(t, servers[2]))
			restart(1)
		} else {
			h.stepDown(sync.HubRecordStream)
			h.stepDown(sync.HubQueueStream)
		}
	}
	r.until("everything is at the hub", r.drained)
	_, tried, lost := r.account()
	t.Logf("%d pushes, %d answers lost", tried, lost)
	h.holds("edge", "records", "a", 6000)
	h.holds("edge", "queue", "high", 160)
	if got := r.audit("a"); got.Last != 6000 || len(got.Gaps)+len(got.Duplicates)+len(got.Damaged) != 0 {
		t.Errorf("the audit finds %+v", got)
	}
}

// natsCluster starts three servers that know each other; restart stops one and
// starts it again on its data.
func natsCluster(t *testing.T) (servers []*server.Server, restart func(int)) {
	t.Helper()
	const size = 3
	var texts []string
	var routes []string
	ports := freePorts(t, size)
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", port))
	}
	dir := t.TempDir()
	for i := range size {
		texts = append(texts, fmt.Sprintf(`
server_name: hub-%d
jetstream { store_dir: %q, domain: hub }
cluster { name: hubs, listen: "127.0.0.1:%d", routes: [ %s ] }`,
			i, filepath.Join(dir, fmt.Sprint(i)), ports[i], strings.Join(routes, ", ")))
	}
	for _, text := range texts {
		servers = append(servers, natsServer(t, text))
	}
	return servers, func(i int) {
		servers[i].Shutdown()
		servers[i].WaitForShutdown()
		servers[i] = natsServer(t, texts[i])
	}
}

// replicate gives a stream so many replicas and waits until they are current.
func (h *testHub) replicate(name string, replicas int) {
	h.t.Helper()
	current := func(info *jetstream.StreamInfo) bool {
		n := 0
		for _, peer := range info.Cluster.Replicas {
			if peer.Current {
				n++
			}
		}
		return info.Cluster.Leader != "" && n == replicas-1
	}
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
		stream, err := h.js.Stream(ctx, name)
		if err == nil {
			cfg := stream.CachedInfo().Config
			if cfg.Replicas != replicas {
				cfg.Replicas = replicas
				_, err = h.js.UpdateStream(ctx, cfg)
			} else if current(stream.CachedInfo()) {
				cancel()
				return
			}
		}
		cancel()
		last = err
	}
	h.t.Fatalf("the stream %s does not get %d replicas: %v", name, replicas, last)
}

// stepDown makes a stream choose another leader.
func (h *testHub) stepDown(stream string) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		answer, err := h.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, 5*time.Second)
		if err == nil && strings.Contains(string(answer.Data), `"success":true`) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the leader of %s does not step down: %v", stream, err)
		}
	}
}

// freePorts returns ports that nothing listens on.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
