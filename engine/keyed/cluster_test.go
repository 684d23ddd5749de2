package keyed_test

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edged/edged/engine/keyed"
)

// startCluster is a hub of three servers with three replicas of everything.
func startCluster(t testing.TB) *testHub {
	t.Helper()
	routes := make([]string, 3)
	for i := range routes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	servers := make([]*server.Server, 3)
	for i := range servers {
		o := &server.Options{}
		if err := o.ProcessConfigString(fmt.Sprintf(`
server_name: hub%d
listen: "127.0.0.1:-1"
jetstream { store_dir: %q, domain: hub }
cluster { name: hub, listen: %q, routes: ["nats-route://%s", "nats-route://%s", "nats-route://%s"] }
leafnodes { listen: "127.0.0.1:-1" }
accounts { HUB { jetstream: enabled, users: [ { user: u, password: p } ] }, SYS { users: [ { user: s, password: p } ] } }
system_account: SYS
no_auth_user: u
`, i, filepath.Join(dir, fmt.Sprint(i)), routes[i], routes[0], routes[1], routes[2])); err != nil {
			t.Fatal(err)
		}
		o.NoSigs, o.NoLog = true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		servers[i] = s
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
	}
	h := &testHub{t: t, dir: dir}
	for _, s := range servers {
		if !s.ReadyForConnections(patience) {
			t.Fatal("a server of the cluster does not start")
		}
	}
	eventually(t, "the cluster has a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() {
				return s.JetStreamIsCurrent()
			}
		}
		return false
	})
	h.connect(servers[0].ClientURL())
	t.Cleanup(h.close)
	var err error
	for end := time.Now().Add(patience); ; {
		if err = keyed.Provision(within(t), h.js, 3, 0); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	v, err := servers[1].Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.leaf = fmt.Sprintf("nats-leaf://u:p@127.0.0.1:%d", v.LeafNode.Port)
	return h
}
