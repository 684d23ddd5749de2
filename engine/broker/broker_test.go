package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a broker that the test's end closes.
func start(t *testing.T, opts broker.Options) *broker.Broker {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.Domain == "" {
		opts.Domain = opts.Name
	}
	b, err := broker.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func connect(t *testing.T, dial func() (*nats.Conn, error)) *nats.Conn {
	t.Helper()
	nc, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// linked waits until the link stands.
func linked(t *testing.T, b *broker.Broker, link string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		if up, _ := b.LinkState(link); up {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the link does not come up")
		}
	}
}

// crosses holds that a request on the link's account reaches the hub.
func crosses(t *testing.T, hub, edge *broker.Broker) {
	t.Helper()
	hubConn := connect(t, func() (*nats.Conn, error) { return hub.Connect("test") })
	link := connect(t, func() (*nats.Conn, error) { return edge.ConnectLink("hub") })
	sub, err := hubConn.Subscribe("edged.hub.ping", func(m *nats.Msg) {
		if err := m.Respond([]byte("pong")); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is closed after
	if err := hubConn.Flush(); err != nil {
		t.Fatal(err)
	}
	// Interest crosses a moment after the subscription.
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := link.Request("edged.hub.ping", nil, 5*time.Second)
		if err == nil {
			return
		}
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	b, err := broker.Start(t.Context(), broker.Options{Name: "a", Domain: "a", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Start(t.Context(), broker.Options{Name: "b", Domain: "b", Dir: dir}); !errors.Is(err, broker.ErrLocked) {
		t.Errorf("a second broker on the directory: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, broker.Options{Name: "b", Dir: dir})
}

// TestDomain holds that JetStream answers in the broker's own domain and no
// other.
func TestDomain(t *testing.T) {
	b := start(t, broker.Options{Name: "edge-1", Domain: "edge=20one"})
	nc := connect(t, func() (*nats.Conn, error) { return b.Connect("test") })
	js, err := jetstream.NewWithDomain(nc, "edge=20one")
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.AccountInfo(t.Context())
	if err != nil || info.Domain != "edge=20one" {
		t.Errorf("account info %+v, %v", info, err)
	}
	other, err := jetstream.NewWithDomain(nc, "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.AccountInfo(t.Context()); err == nil {
		t.Error("another domain answers")
	}
}

// TestDurability holds that the mode reaches the running server, and that it is
// fsync when nothing was said.
func TestDurability(t *testing.T) {
	for _, mode := range []broker.Durability{broker.Fsync, broker.Relaxed, ""} {
		b := start(t, broker.Options{Name: "e", Durability: mode})
		if always, interval := b.SyncMode(); always != (mode != broker.Relaxed) || (!always && interval > time.Second) {
			t.Errorf("%q: the server syncs always %t, every %v", mode, always, interval)
		}
	}
}

// TestLocalSubjectsStayLocal holds that nothing published on the edge reaches
// the hub, but what goes through the link's own account.
func TestLocalSubjectsStayLocal(t *testing.T) {
	hub := start(t, broker.Options{Name: "hub", Listen: &broker.Listen{Leaf: "127.0.0.1:0"}})
	edge := start(t, broker.Options{Name: "edge", Links: []broker.Link{{Name: "hub", URLs: []string{"nats-leaf://" + hub.LeafAddr()}}}})
	linked(t, edge, "hub")
	hubConn := connect(t, func() (*nats.Conn, error) { return hub.Connect("test") })
	local := connect(t, func() (*nats.Conn, error) { return edge.Connect("test") })
	seen, err := hubConn.SubscribeSync("edged.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := hubConn.Flush(); err != nil {
		t.Fatal(err)
	}
	back, err := local.SubscribeSync("edged.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"edged.records.p.t.d", "edged.queue.high.alerts", "edged.events.connection.hub"} {
		if err := local.Publish(subject, []byte("local")); err != nil {
			t.Fatal(err)
		}
	}
	if err := hubConn.Publish("edged.records.from.the.hub", []byte("hub")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(local.Flush(), hubConn.Flush()); err != nil {
		t.Fatal(err)
	}
	crosses(t, hub, edge) // so everything before it would have crossed
	for {
		msg, err := seen.NextMsg(time.Second)
		if err != nil {
			t.Fatal("the hub does not see what goes through the link")
		}
		if msg.Subject == "edged.hub.ping" {
			break
		}
		if string(msg.Data) == "local" {
			t.Errorf("the hub sees %s", msg.Subject)
		}
	}
	for range 3 {
		if msg, err := back.NextMsg(time.Second); err != nil || string(msg.Data) != "local" {
			t.Fatalf("on the edge itself: %v, %v", msg, err)
		}
	}
	if n, _, err := back.Pending(); err != nil || n != 0 {
		t.Errorf("the edge sees %d messages of the hub, %v", n, err)
	}
}

// TestRedial renews a link, and local connections do not notice.
func TestRedial(t *testing.T) {
	hub := start(t, broker.Options{Name: "hub", Listen: &broker.Listen{Leaf: "127.0.0.1:0"}})
	edge := start(t, broker.Options{Name: "edge", Links: []broker.Link{{Name: "hub", URLs: []string{"nats-leaf://" + hub.LeafAddr()}}}})
	local := connect(t, func() (*nats.Conn, error) { return edge.Connect("test") })
	js, err := jetstream.New(local)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		linked(t, edge, "hub")
		crosses(t, hub, edge)
		if err := edge.Redial("hub"); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", nil); err != nil {
			t.Errorf("JetStream after a redial: %v", err)
		}
	}
	linked(t, edge, "hub")
	crosses(t, hub, edge)
	if n := local.Reconnects; n != 0 {
		t.Errorf("the local connection was lost %d times", n)
	}
	if _, err := edge.ConnectLink("nowhere"); err == nil {
		t.Error("there is a link to nowhere")
	}
}

// certificates makes an authority and certificates for server and client.
func certificates(t *testing.T) (ca string, server, client broker.TLSFiles) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var authority *x509.Certificate
	var authorityKey *ecdsa.PrivateKey
	issue := func(name string, usage x509.ExtKeyUsage) broker.TLSFiles {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
			BasicConstraintsValid: true, IsCA: authority == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		parent, parentKey := authority, authorityKey
		if parent == nil {
			parent, parentKey = template, key
			template.ExtKeyUsage = nil
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if authority == nil {
			if authority, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
			authorityKey = key
		}
		keyDER, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return broker.TLSFiles{Cert: write(name+".crt", "CERTIFICATE", der), Key: write(name+".key", "EC PRIVATE KEY", keyDER)}
	}
	ca = issue("ca", x509.ExtKeyUsageAny).Cert
	return ca, issue("server", x509.ExtKeyUsageServerAuth), issue("client", x509.ExtKeyUsageClientAuth)
}

// TestAccess goes through what a hub may ask of edges and clients, and holds
// that who does not have it stays out.
func TestAccess(t *testing.T) {
	ca, server, client := certificates(t)
	withCA := func(f broker.TLSFiles) broker.TLSFiles { f.CA = ca; return f }
	for name, c := range map[string]struct {
		listen  broker.Listen
		scheme  string
		user    string // as userinfo of the leaf URL
		good    broker.TLSFiles
		bad     broker.TLSFiles
		badUser string
	}{
		"user and password": {
			listen: broker.Listen{User: "edges", Password: "s3cret"}, scheme: "nats-leaf", user: "edges:s3cret@", badUser: "edges:wrong@",
		},
		"no user given": {
			listen: broker.Listen{User: "edges", Password: "s3cret"}, scheme: "nats-leaf", user: "edges:s3cret@", badUser: "",
		},
		"tls": {
			listen: broker.Listen{TLS: server}, scheme: "tls", good: broker.TLSFiles{CA: ca}, bad: broker.TLSFiles{},
		},
		"tls with client certificates": {
			listen: broker.Listen{TLS: withCA(server)}, scheme: "tls", good: withCA(client), bad: broker.TLSFiles{CA: ca},
		},
		"tls, user and password": {
			listen: broker.Listen{TLS: server, User: "edges", Password: "s3cret"}, scheme: "tls", user: "edges:s3cret@",
			good: broker.TLSFiles{CA: ca}, bad: broker.TLSFiles{CA: ca}, badUser: "edges:@",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.listen.Leaf, c.listen.Client = "127.0.0.1:0", "127.0.0.1:0"
			refused := make(chan string, 100)
			hub := start(t, broker.Options{Name: "hub", Listen: &c.listen, Logger: slog.New(&errorsTo{lines: refused})})
			edge := start(t, broker.Options{Name: "edge", Links: []broker.Link{
				{Name: "hub", URLs: []string{c.scheme + "://" + c.user + hub.LeafAddr()}, TLS: c.good},
			}})
			linked(t, edge, "hub")
			crosses(t, hub, edge)

			stranger := start(t, broker.Options{Name: "stranger", Links: []broker.Link{
				{Name: "hub", URLs: []string{c.scheme + "://" + c.badUser + hub.LeafAddr()}, TLS: c.bad},
			}})
			select {
			case <-refused:
			case <-time.After(20 * time.Second):
				t.Error("the hub does not say that it refused a stranger")
			}
			if up, _ := stranger.LinkState("hub"); up {
				t.Error("a stranger is linked")
			}

			var options []nats.Option
			url := "nats://" + hub.ClientAddr()
			if c.scheme == "tls" {
				options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}), nats.RootCAs(ca))
				if c.good.Cert != "" {
					options = append(options, nats.ClientCert(c.good.Cert, c.good.Key))
				}
			}
			if user, password, ok := strings.Cut(strings.TrimSuffix(c.user, "@"), ":"); ok {
				if nc, err := nats.Connect(url, options...); err == nil {
					nc.Close()
					t.Error("a client without a password is let in")
				}
				options = append(options, nats.UserInfo(user, password))
			}
			connect(t, func() (*nats.Conn, error) { return nats.Connect(url, options...) })
		})
	}
}

// errorsTo is a log handler that keeps the errors.
type errorsTo struct{ lines chan<- string }

func (e *errorsTo) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (e *errorsTo) Handle(_ context.Context, r slog.Record) error {
	select {
	case e.lines <- r.Message:
	default:
	}
	return nil
}
func (e *errorsTo) WithAttrs([]slog.Attr) slog.Handler { return e }
func (e *errorsTo) WithGroup(string) slog.Handler      { return e }

// TestWrongFiles holds that what is wrong with files or addresses is told at
// the start, and leaves nothing behind.
func TestWrongFiles(t *testing.T) {
	_, server, _ := certificates(t)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, c := range map[string]struct {
		opts broker.Options
		want string
	}{
		"certificate":        {broker.Options{Listen: &broker.Listen{Leaf: "127.0.0.1:0", TLS: broker.TLSFiles{Cert: missing, Key: missing}}}, "loading the TLS certificate"},
		"key alone":          {broker.Options{Listen: &broker.Listen{Leaf: "127.0.0.1:0", TLS: broker.TLSFiles{Key: server.Key}}}, "certificate"},
		"authorities":        {broker.Options{Links: []broker.Link{{Name: "x", URLs: []string{"tls://127.0.0.1:1"}, TLS: broker.TLSFiles{CA: missing}}}}, "link x"},
		"no certificate":     {broker.Options{Links: []broker.Link{{Name: "x", URLs: []string{"tls://127.0.0.1:1"}, TLS: broker.TLSFiles{CA: server.Key}}}}, "no PEM certificate"},
		"address":            {broker.Options{Listen: &broker.Listen{Leaf: "127.0.0.1"}}, "leaf node address"},
		"port":               {broker.Options{Listen: &broker.Listen{Client: "127.0.0.1:99999"}}, "port"},
		"port that is taken": {broker.Options{Listen: &broker.Listen{Leaf: taken(t)}}, "in use"},
	} {
		t.Run(name, func(t *testing.T) {
			c.opts.Name, c.opts.Domain, c.opts.Dir = "x", "x", t.TempDir()
			b, err := broker.Start(t.Context(), c.opts)
			if err == nil {
				t.Error(b.Close())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("it says %v, want %q in it", err, c.want)
			}
			start(t, broker.Options{Name: "x", Dir: c.opts.Dir}) // the lock is free
		})
	}
}

// taken returns an address that is listened on until the test's end.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
