package broker_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
)

// TestWebsocketTLS links to the websocket port of a nats-server that has TLS: with
// the authority that vouches for it, and with a certificate where it asks for one.
// Who does not trust it, or is not trusted, is not linked.
func TestWebsocketTLS(t *testing.T) {
	ca, cert, client := certificates(t)
	withCA := func(f broker.TLSFiles) broker.TLSFiles { f.CA = ca; return f }
	for name, c := range map[string]struct {
		more      string // of the server's TLS
		good, bad broker.TLSFiles
	}{
		"an authority":           {good: broker.TLSFiles{CA: ca}, bad: broker.TLSFiles{}},
		"a client's certificate": {more: fmt.Sprintf("ca_file: %q, verify: true", ca), good: withCA(client), bad: broker.TLSFiles{CA: ca}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &server.Options{}
			if err := o.ProcessConfigString(fmt.Sprintf(
				`websocket { listen: "127.0.0.1:-1", tls { cert_file: %q, key_file: %q, %s } }`, cert.Cert, cert.Key, c.more)); err != nil {
				t.Fatal(err)
			}
			o.NoSigs, o.Host, o.Port = true, "127.0.0.1", server.RANDOM_PORT
			o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", server.RANDOM_PORT
			s, err := server.NewServer(o)
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			t.Cleanup(func() {
				s.Shutdown()
				s.WaitForShutdown()
			})
			if !s.ReadyForConnections(20*time.Second) || !strings.HasPrefix(s.WebsocketURL(), "wss://") {
				t.Fatalf("the server's websocket port is %q", s.WebsocketURL())
			}
			link := func(name string, tls broker.TLSFiles, errs chan<- string) *broker.Broker {
				return start(t, broker.Options{
					Name: name, Logger: slog.New(&errorsTo{lines: errs}),
					Links: []broker.Link{{Name: "hub", URLs: []string{s.WebsocketURL()}, TLS: tls}},
				})
			}
			edge := link("edge", c.good, nil)
			linked(t, edge, "hub")
			hubConn := connect(t, func() (*nats.Conn, error) { return nats.Connect(s.ClientURL()) })
			pings, err := hubConn.SubscribeSync("ping")
			if err == nil {
				err = hubConn.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			conn := connect(t, func() (*nats.Conn, error) { return edge.ConnectLink("hub") })
			var got *nats.Msg
			for end := time.Now().Add(20 * time.Second); got == nil; { // the interest may cross after the first
				if err := conn.Publish("ping", []byte("over wss")); err != nil {
					t.Fatal(err)
				}
				if got, err = pings.NextMsg(50 * time.Millisecond); err != nil && time.Now().After(end) {
					t.Fatal("nothing crosses")
				}
			}

			refused := make(chan string, 100)
			stranger := link("stranger", c.bad, refused)
			select {
			case why := <-refused:
				if !strings.Contains(why, "certificate") {
					t.Errorf("it is refused for %q", why)
				}
			case <-time.After(20 * time.Second):
				t.Error("nobody says that a stranger is refused")
			}
			if up, _ := stranger.LinkState("hub"); up {
				t.Error("a stranger is linked")
			}
		})
	}
}
