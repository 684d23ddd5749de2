package sync_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// operator is a hub that knows its users by JWTs that an operator has signed.
type operator struct {
	t       *testing.T
	account nkeys.KeyPair
	server  *server.Server
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// startOperator starts the hub; listen is added to its configuration.
func startOperator(t *testing.T, listen string) *operator {
	t.Helper()
	op := must(nkeys.CreateOperator())(t)
	public := func(kp nkeys.KeyPair) string { return must(kp.PublicKey())(t) }
	claims := jwt.NewOperatorClaims(public(op))
	system, app := must(nkeys.CreateAccount())(t), must(nkeys.CreateAccount())(t)
	claims.SystemAccount = public(system)
	accounts := ""
	for kp, limits := range map[nkeys.KeyPair]jwt.JetStreamLimits{system: {}, app: {MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}} {
		c := jwt.NewAccountClaims(public(kp))
		c.Limits.JetStreamLimits = limits
		accounts += fmt.Sprintf("%s: %s\n", public(kp), must(c.Encode(op))(t))
	}
	return &operator{t: t, account: app, server: natsServer(t, fmt.Sprintf(`
server_name: hub
operator: %s
system_account: %s
resolver: MEMORY
resolver_preload: { %s }
jetstream { store_dir: %q, domain: hub }
%s`, must(claims.Encode(op))(t), public(system), accounts, t.TempDir(), listen))}
}

// credentials writes a .creds file for a user with these permissions.
func (o *operator) credentials(p *sync.Permissions) string {
	o.t.Helper()
	user := must(nkeys.CreateUser())(o.t)
	claims := jwt.NewUserClaims(must(user.PublicKey())(o.t))
	if p != nil {
		claims.Pub.Allow, claims.Sub.Allow = p.Publish, p.Subscribe
	}
	content := must(jwt.FormatUserConfig(must(claims.Encode(o.account))(o.t), must(user.Seed())(o.t)))(o.t)
	path := filepath.Join(o.t.TempDir(), "edge.creds")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// TestCredentials syncs with a .creds file whose user may do the least that an
// edge needs, and holds that this is the least: it may touch nothing of another
// edge.
func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, scheme := range map[string]string{"leaf node port": "nats-leaf", "websocket": "ws"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := ""
			if scheme == "ws" {
				listen = `websocket { listen: "127.0.0.1:-1", no_tls: true }`
			}
			o := startOperator(t, listen)
			h := natsHub(t, o.server, nats.UserCredentials(o.credentials(nil)))
			addr := leafAddr(t, o.server)
			if scheme == "ws" {
				addr = strings.TrimPrefix(o.server.WebsocketURL(), "ws://")
			}
			p := sync.EdgePermissions("edge 1", "hub", true)
			creds := o.credentials(&p)
			e := startEdge(t, "edge 1", t.TempDir(), broker.Link{Name: "hub", URLs: []string{scheme + "://" + addr}, Credentials: creds})
			a := e.lane("a.b")
			e.put(a, 500)
			e.message(record.Critical, "a.b", 20)
			r := e.prepare(remoteOptions{lanes: lanes(a)}).run()
			r.until("everything is at the hub", r.drained)
			h.holds("edge 1", "records", "a.b", 500)
			h.holds("edge 1", "queue", "critical", 20)
			if got := r.audit("a.b"); got.Last != 500 || got.AtHub != 500 || len(got.Gaps) != 0 {
				t.Errorf("the audit finds %+v", got)
			}
			o.keepsOut(creds)
		})
	}
}

// keepsOut holds that who has these credentials reaches nothing of others, nor more.
func (o *operator) keepsOut(credentials string, more ...string) {
	o.t.Helper()
	violations := make(chan string, 100)
	nc, err := nats.Connect(o.server.ClientURL(), nats.UserCredentials(credentials),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err.Error() }))
	if err != nil {
		o.t.Fatal(err)
	}
	defer nc.Close()
	for _, subject := range append(more,
		sync.HubRecordSubject+".edge-2.a.t.d", sync.HubLedgerRecords+".edge-2.a", sync.HubQueueSubject+".edge-2.high.t",
		"$JS.hub.API.STREAM.DELETE.EDGED_RECORDS", "$JS.hub.API.STREAM.PURGE.EDGED_RECORDS", "$JS.hub.API.STREAM.NAMES",
		"$JS.hub.API.DIRECT.GET.EDGED_RECORDS."+sync.HubLedgerRecords+".edge-2.a", "anything",
	) {
		if err := nc.Publish(subject, nil); err != nil {
			o.t.Fatal(err)
		}
		// The server names what a domain's prefix is mapped to.
		o.violates(violations, `Publish to "`+strings.NewReplacer("$JS.hub.API.$KV", "$KV", "$JS.hub.", "$JS.").Replace(subject)+`"`)
	}
	for _, subject := range []string{"_INBOX.>", broker.InboxPrefix("edge-2") + ".>", sync.HubRecordSubject + ".>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			o.t.Fatal(err)
		}
		o.violates(violations, `Subscription to "`+subject+`"`)
	}
}

func (o *operator) violates(violations <-chan string, what string) {
	o.t.Helper()
	select {
	case v := <-violations:
		if !strings.Contains(strings.ToLower(v), strings.ToLower(what)) {
			o.t.Errorf("the hub refuses %q, want %s", v, what)
		}
	case <-time.After(patience):
		o.t.Fatalf("the hub lets it in: %s", what)
	}
}
