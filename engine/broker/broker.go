// Package broker runs a nats-server inside the process: on an edge the durable
// local queue and record stream and the leaf-node links to the hubs; on a hub
// the cloud side of those links. It knows nothing of records.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// Durability says when a write is acknowledged.
type Durability string

// The durabilities. Fsync is the default and the only one that survives a
// power cut; Relaxed survives a process kill and may lose the last seconds
// when the power fails.
const (
	Fsync   Durability = "fsync"
	Relaxed Durability = "relaxed"
)

// relaxedSyncInterval bounds what Relaxed loses at a power cut.
const relaxedSyncInterval = 100 * time.Millisecond

const (
	localAccount = "EDGED"
	// pingInterval, the default, times three is how long a dead peer stays
	// unnoticed.
	pingInterval = 15 * time.Second
	dialTimeout  = 10 * time.Second
	startTimeout = 2 * time.Minute // a big store is scanned after a kill
	maxPayload   = 8 << 20
)

// Options configures one broker.
type Options struct {
	Name       string // server name, unique among all servers that meet
	Domain     string // JetStream domain, unique likewise
	Dir        string // store directory; locked while the broker runs
	Durability Durability
	MaxBytes   int64 // bound of all streams together, in bytes; 0: the free disk
	Logger     *slog.Logger
	Links      []Link  // hubs this broker joins as a leaf node
	Listen     *Listen // nil: no port is opened
	// Quarantine is the directory that damaged files are set aside in before the
	// server starts, with a [Damage] report each; empty: nobody looks for damage.
	Quarantine string
	// CheckAll looks at every file, also at what is as the server left it.
	CheckAll bool
	// PingInterval is the time between pings on a connection; after three that
	// nobody answered the peer is taken for dead. 0: 15 s.
	PingInterval time.Duration
}

// Listen opens the ports of a hub. An empty address opens no port; port 0
// takes any free one.
type Listen struct {
	Leaf   string // host:port for leaf nodes
	Client string // host:port for NATS clients
	// User and Password, when set, are required of leaf nodes and clients.
	User, Password string
	TLS            TLSFiles
	Compression    Compression // of leaf connections; empty: auto
}

// Link is one leaf-node connection to a hub. Each link lives in an account of
// its own, so that nothing but what is published through [Broker.ConnectLink]
// can cross it: local subjects stay local by construction.
type Link struct {
	Name        string
	URLs        []string // nats-leaf://, tls://, ws:// or wss://host:port
	Credentials string   // path of a .creds file, or empty
	TLS         TLSFiles
	Compression Compression // empty: auto
}

// Broker is a running server. Its methods may be called from any goroutine.
type Broker struct {
	opts   Options
	srv    *server.Server
	logger *serverLog
	lock   *os.File
	user   nkeys.KeyPair            // the in-process user of the local account
	reload sync.Mutex               // held while the server is given other options
	links  map[string]nkeys.KeyPair // the in-process user of each link's account; guarded by reload, like opts.Links
}

// Start locks the directory, starts the server and waits until JetStream has
// recovered its streams. It blocks for as long as recovery takes, up to two
// minutes or the end of ctx.
func Start(ctx context.Context, opts Options) (*Broker, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opts.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the broker's directory: %w", err)
	}
	// The server itself does not lock its store, and two servers would write
	// into one directory without noticing.
	lock, err := lockFile(filepath.Join(opts.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	b := &Broker{opts: opts, lock: lock, links: map[string]nkeys.KeyPair{}}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the broker %s: %w", opts.Name, err), lock.Close())
	}
	return b, nil
}

func (b *Broker) start(ctx context.Context) error {
	var err error
	if b.user, err = nkeys.CreateUser(); err != nil {
		return err
	}
	if err := b.nameUsers(b.opts.Links); err != nil {
		return err
	}
	if err := errors.Join(b.repairMeta(), b.setAside()); err != nil {
		return err
	}
	o, err := b.serverOptions(b.opts.Links, nil)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return err
	}
	logger := newServerLog(b.opts.Logger)
	srv.SetLoggerV2(logger, false, false, false)
	b.srv, b.logger = srv, logger
	// Start reports nothing: a failure is a fatal log line, and then JetStream
	// is simply not there. JetStream recovers its streams inside Start.
	srv.Start()
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		if err := logger.fatal(); err != nil || ctx.Err() != nil || time.Now().After(deadline) {
			srv.Shutdown()
			srv.WaitForShutdown()
			return errors.Join(errors.New("the server did not become ready"), err, ctx.Err())
		}
	}
	if !srv.JetStreamEnabled() {
		err := logger.fatal()
		srv.Shutdown()
		srv.WaitForShutdown()
		return errors.Join(errors.New("JetStream did not start"), err)
	}
	return nil
}

// serverOptions builds the server's options anew: the server keeps what it is
// given, so they cannot be used twice. Accounts come from configuration text
// because programmatic ones do not survive a reload. Links named in disabled
// are configured but not dialed.
func (b *Broker) serverOptions(links []Link, disabled map[string]bool) (*server.Options, error) {
	o := &server.Options{}
	if err := o.ProcessConfigString(b.configText()); err != nil {
		return nil, err
	}
	o.NoSigs = true
	o.DontListen = b.opts.Listen == nil || b.opts.Listen.Client == ""
	o.SyncAlways = b.opts.Durability != Relaxed
	if !o.SyncAlways {
		o.SyncInterval = relaxedSyncInterval
	}
	o.MaxPayload = maxPayload
	o.JetStreamLimits.MaxBatchSize = LocalMaxAtomic
	if o.PingInterval = b.opts.PingInterval; o.PingInterval == 0 {
		o.PingInterval = pingInterval
	}
	o.LeafNode.DialTimeout = dialTimeout
	o.LeafNode.ReconnectInterval = time.Second
	if l := b.opts.Listen; l != nil {
		if err := applyListen(o, l); err != nil {
			return nil, err
		}
	}
	for _, l := range links {
		compression, err := l.Compression.options()
		if err != nil {
			return nil, fmt.Errorf("link %s: %w", l.Name, err)
		}
		r := &server.RemoteLeafOpts{
			LocalAccount: linkAccount(l.Name),
			Credentials:  l.Credentials,
			Compression:  compression,
			DialTimeout:  dialTimeout,
			Disabled:     disabled[l.Name],
			// A hub advertises the addresses it sees itself. Behind a balancer or
			// NAT they lead nowhere, or to a stranger on the edge's own network who
			// would be shown the password: only what the user wrote is dialed.
			IgnoreDiscoveredServers: true,
		}
		for _, raw := range l.URLs {
			u, err := url.Parse(raw)
			if err != nil {
				return nil, fmt.Errorf("link %s: %w", l.Name, err)
			}
			r.URLs = append(r.URLs, u)
			r.TLS = r.TLS || u.Scheme == "tls" || u.Scheme == "wss"
		}
		if !l.TLS.empty() {
			cfg, err := l.TLS.client()
			if err != nil {
				return nil, fmt.Errorf("link %s: %w", l.Name, err)
			}
			r.TLS, r.TLSConfig = true, cfg
		}
		o.LeafNode.Remotes = append(o.LeafNode.Remotes, r)
	}
	return o, nil
}

func (b *Broker) configText() string {
	pub := func(kp nkeys.KeyPair) string { s, _ := kp.PublicKey(); return s } // a pair with a seed always has one
	text := "server_name: " + strconv.Quote(b.opts.Name) + "\n" +
		"jetstream { store_dir: " + strconv.Quote(b.opts.Dir) +
		", domain: " + strconv.Quote(b.opts.Domain) + ", max_memory_store: 0"
	if b.opts.MaxBytes > 0 {
		text += ", max_file_store: " + strconv.FormatInt(b.opts.MaxBytes, 10)
	}
	text += " }\naccounts {\n" + localAccount + " { jetstream: enabled, users: [ { nkey: " + pub(b.user) + " }"
	if l := b.opts.Listen; l != nil && l.User != "" {
		text += ", { user: " + strconv.Quote(l.User) + ", password: " + strconv.Quote(hashPassword(l.Password)) + " }"
	}
	text += " ] }\n"
	for _, name := range slices.Sorted(maps.Keys(b.links)) {
		text += linkAccount(name) + " { users: [ { nkey: " + pub(b.links[name]) + " } ] }\n"
	}
	text += "}\n"
	if l := b.opts.Listen; l != nil && l.User == "" {
		// Who comes without credentials is in the hub's one account.
		text += "no_auth_user: " + pub(b.user) + "\n"
	}
	return text
}

// hashPassword keeps the plain password out of the server, which warns of it.
// The hash is never written anywhere, so it need not be costly; and a fleet that
// reconnects at once must be let in before its time to log in is over.
func hashPassword(p string) string {
	h, err := bcrypt.GenerateFromPassword([]byte(p), bcrypt.MinCost)
	if err != nil { // longer than bcrypt takes; the server compares it as it is
		return p
	}
	return string(h)
}

func linkAccount(name string) string { return "LINK_" + name }

// Connect returns a new in-process connection to the local account. The caller
// closes it before the broker.
func (b *Broker) Connect(name string) (*nats.Conn, error) { return b.connect(name, b.user) }

// ConnectLink returns a new in-process connection to the account of that link:
// what is published there reaches the hub and nothing else.
func (b *Broker) ConnectLink(link string) (*nats.Conn, error) {
	b.reload.Lock()
	kp, ok := b.links[link]
	b.reload.Unlock()
	if !ok {
		return nil, fmt.Errorf("the broker has no link %q", link)
	}
	// Answers come to inboxes that no other edge may read.
	return b.connect("link "+link, kp, nats.CustomInboxPrefix(InboxPrefix(b.opts.Name)))
}

// InboxPrefix is what the inboxes of a broker's links start with.
func InboxPrefix(name string) string { return "_INBOX." + name }

func (b *Broker) connect(name string, kp nkeys.KeyPair, more ...nats.Option) (*nats.Conn, error) {
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, err
	}
	options := append(more, nats.InProcessServer(b.srv), nats.Name(name),
		nats.Nkey(pub, kp.Sign), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectBufSize(-1), nats.MaxPingsOutstanding(1000),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.opts.Logger.Warn("broker connection", "connection", name, "error", err)
		}))
	nc, err := nats.Connect("", options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the broker: %w", err)
	}
	return nc, nil
}

// Close stops the server, flushing its state, and unlocks the directory. Every
// connection should be closed before.
func (b *Broker) Close() error {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
	if b.opts.Quarantine != "" {
		if err := b.leaveClean(); err != nil {
			// Then the next start reads everything.
			b.opts.Logger.Warn("noting that the server was stopped", "error", err)
		}
	}
	return b.lock.Close()
}
