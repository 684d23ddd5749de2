// Package hub is the cloud side: a NATS server that edges join as leaf nodes,
// with the streams they sync to.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// Options is what a hub is started with.
type Options struct {
	// LeafListen and ClientListen are host:port; port 0 takes a free one. An
	// empty ClientListen opens no port for clients.
	LeafListen, ClientListen string
	DataDir                  string // locked while the hub runs
	Domain                   string // JetStream domain; empty: "hub"

	User, Password         string // required of edges and clients when set
	TLSCert, TLSKey, TLSCA string // PEM files
	MaxBytes               int64  // bound of the streams on disk; 0: none
	// Compression of what goes to edges; empty: auto. Off is off both ways.
	Compression broker.Compression
	Logger      *slog.Logger

	// HTTPListen is where the ingest API listens; empty: there is none. It has
	// TLS when the hub has.
	HTTPListen string
	HTTPToken  string // bearer token required of its clients; empty: none
	// HTTPRemember is how long the API knows an Idempotency-Key; 0: 7 days.
	HTTPRemember time.Duration
	// KeyedAbsence is how long an edge may be away and still be told of deletes of
	// keyed records one by one; 0: 30 days.
	KeyedAbsence time.Duration
}

// Hub is one running hub.
type Hub struct {
	broker *broker.Broker
	ingest *ingest // nil: none
	disk   *diskGuard
	tls    bool

	stopCollecting func()
}

// Start starts a hub, recovers its streams and makes those that are missing. It
// fsyncs before it acknowledges.
func Start(ctx context.Context, opts Options) (*Hub, error) {
	if opts.Domain == "" {
		opts.Domain = sync.DefaultDomain
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	disk := newDiskGuard(opts)
	b, err := broker.Start(ctx, broker.Options{
		Name: "hub-" + record.Token(opts.Domain), Domain: opts.Domain, Dir: opts.DataDir,
		Durability: broker.Fsync, Logger: opts.Logger,
		Listen: &broker.Listen{
			Leaf: opts.LeafListen, Client: opts.ClientListen, User: opts.User, Password: opts.Password,
			TLS:         broker.TLSFiles{CA: opts.TLSCA, Cert: opts.TLSCert, Key: opts.TLSKey},
			Compression: opts.Compression,
		},
	})
	if err != nil {
		return nil, err
	}
	h := &Hub{broker: b, disk: disk, tls: opts.TLSCert != ""}
	nc, err := b.Connect("provisioning")
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	defer nc.Close()
	if err := Provision(ctx, nc, "", opts.MaxBytes); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := disk.start(b); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if h.stopCollecting, err = startCollecting(b, opts.KeyedAbsence, opts.Logger); err != nil {
		disk.stop()
		return nil, errors.Join(err, b.Close())
	}
	if opts.HTTPListen != "" {
		if opts.HTTPRemember == 0 {
			opts.HTTPRemember = 7 * 24 * time.Hour
		}
		if h.ingest, err = startIngest(b, disk, opts); err != nil {
			h.stopCollecting()
			disk.stop()
			return nil, errors.Join(err, b.Close())
		}
	}
	return h, nil
}

// Provision makes or updates the streams that edges sync to, on any hub with
// JetStream: domain "" is the one that nc is connected to. maxBytes bounds both
// together, 0 does not: six parts in ten for records, two for messages, two for
// keyed records.
func Provision(ctx context.Context, nc *nats.Conn, domain string, maxBytes int64) error {
	open := func() (jetstream.JetStream, error) {
		if domain == "" {
			return jetstream.New(nc)
		}
		return jetstream.NewWithDomain(nc, domain)
	}
	js, err := open()
	if err != nil {
		return fmt.Errorf("provisioning the hub: %w", err)
	}
	share := func(part int64) int64 {
		if maxBytes <= 0 {
			return -1
		}
		return maxBytes / 10 * part
	}
	for _, cfg := range []jetstream.StreamConfig{
		{Name: sync.HubRecordStream, Subjects: []string{sync.HubRecordSubject + ".>", sync.HubLedgerRecords + ".>", sync.HubLedgerHTTP + ".records.*"}, MaxBytes: share(6)},
		{Name: sync.HubQueueStream, Subjects: []string{sync.HubQueueSubject + ".>", sync.HubLedgerQueue + ".>", sync.HubLedgerHTTP + ".queue.*"}, MaxBytes: share(2)},
	} {
		cfg.Storage, cfg.Discard = jetstream.FileStorage, jetstream.DiscardNew
		cfg.AllowAtomicPublish, cfg.AllowDirect = true, true
		cfg.AllowMsgTTL = true // the ingest API forgets its keys by it
		if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("provisioning the hub: stream %s: %w", cfg.Name, err)
		}
	}
	if err := keyed.Provision(ctx, js, 0, share(2)); err != nil {
		return fmt.Errorf("provisioning the hub: %w", err)
	}
	return nil
}

// LeafURL is where edges connect.
func (h *Hub) LeafURL() string {
	if h.tls {
		return "tls://" + h.broker.LeafAddr()
	}
	return "nats-leaf://" + h.broker.LeafAddr()
}

// ClientURL is where NATS clients connect, or empty.
func (h *Hub) ClientURL() string {
	addr := h.broker.ClientAddr()
	switch {
	case addr == "":
		return ""
	case h.tls:
		return "tls://" + addr
	}
	return "nats://" + addr
}

// HTTPURL is where the ingest API is, or empty.
func (h *Hub) HTTPURL() string {
	switch {
	case h.ingest == nil:
		return ""
	case h.tls:
		return "https://" + h.ingest.addr
	}
	return "http://" + h.ingest.addr
}

// Close stops the hub, flushing its state.
func (h *Hub) Close() error {
	var err error
	if h.ingest != nil {
		err = h.ingest.close()
	}
	h.stopCollecting()
	h.disk.stop()
	return errors.Join(err, h.broker.Close())
}
