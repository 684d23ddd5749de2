package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
)

// hubOptions are the flags of `edged hub`.
type hubOptions struct {
	hub          hub.Options
	passwordFile string
	tokenFile    string
	maxBytes     string
	compression  string
	log          logFlags
}

func newHubCommand() *cobra.Command {
	var opts hubOptions
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Run a hub: the NATS side that edges sync to",
		Long: `Run a hub: a NATS server with JetStream that edges join as leaf nodes, with the
streams they sync to. It fsyncs before it acknowledges.

It serves a trial, a test, or a small fleet. A NATS cluster of your own does the
same: edges need JetStream there, a leaf node listener, and a user each for which
'edged hub permissions' prints the least that it may do.

While its disk is full, or fails, it refuses edges and clients with that reason,
and takes everything again once there is room.

With --http-listen it also serves the HTTP ingest API that a remote "http" sends
to, storing into the same streams. It knows the Idempotency-Key of a request for
--http-remember: within that time a request sent again is answered the same and
stored once. It answers 413 above 900 records or 8 MiB, and with TLS it uses the
hub's certificate.

Deletes of keyed records are kept for --keyed-absence, and until every edge that
the hub heard of in that time has seen them. An edge that comes back later compares
all its keyed records with the hub's.

An address without a host listens on this machine only; to let edges in from
elsewhere, name one ("0.0.0.0:7422"), and set --user and TLS. The first Ctrl-C
(or SIGTERM) stops it; a second one ends it at once.`,
		Example: `  # A hub to try things with, on this machine only
  edged hub --data-dir /tmp/hub

  # A hub that edges reach through the network
  edged hub --leaf-listen 0.0.0.0:7422 --data-dir /var/lib/edged-hub \
    --user edges --password-file /etc/edged/hub.password \
    --tls-cert /etc/edged/hub.crt --tls-key /etc/edged/hub.key

  # For edges and others that can only speak HTTP
  edged hub --http-listen 0.0.0.0:8443 --http-token-file /etc/edged/http.token \
    --tls-cert /etc/edged/hub.crt --tls-key /etc/edged/hub.key`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return opts.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.hub.LeafListen, "leaf-listen", "127.0.0.1:7422", "address for edges")
	flags.StringVar(&opts.hub.ClientListen, "client-listen", "127.0.0.1:4222", "address for NATS clients, which read what arrived")
	flags.StringVar(&opts.hub.DataDir, "data-dir", "hub-data", "where the hub keeps its streams")
	flags.StringVar(&opts.hub.Domain, "domain", "hub", "JetStream domain of the hub")
	flags.StringVar(&opts.hub.User, "user", "", "user name that edges and clients must give")
	flags.StringVar(&opts.passwordFile, "password-file", "", "file with the password of --user")
	flags.StringVar(&opts.hub.TLSCert, "tls-cert", "", "certificate file (PEM); turns TLS on")
	flags.StringVar(&opts.hub.TLSKey, "tls-key", "", "private key file (PEM) of --tls-cert")
	flags.StringVar(&opts.hub.TLSCA, "tls-ca", "", "certificate authority file (PEM); edges must then show a certificate it signed")
	flags.StringVar(&opts.hub.HTTPListen, "http-listen", "", "address of the HTTP ingest API (default: none)")
	flags.StringVar(&opts.tokenFile, "http-token-file", "", "file with the bearer token that the HTTP ingest API requires")
	flags.DurationVar(&opts.hub.HTTPRemember, "http-remember", 7*24*time.Hour, "how long the HTTP ingest API knows an Idempotency-Key")
	flags.DurationVar(&opts.hub.KeyedAbsence, "keyed-absence", keyed.DefaultAbsence, "how long an edge may be away and still be told of deleted keyed records one by one; deletes are kept that long")
	flags.StringVar(&opts.compression, "leaf-compression", "auto", "compression of what goes to edges: off, auto, fast, better or best; off is off both ways")
	flags.StringVar(&opts.maxBytes, "max-bytes", "", "disk budget of the streams, like 10GiB (default: no bound)")
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err)
	}
	complete(cmd, "leaf-compression", "off", "auto", "fast", "better", "best")
	opts.log.register(cmd)
	cmd.AddCommand(newHubPermissionsCommand())
	return cmd
}

func (o *hubOptions) run(cmd *cobra.Command) error {
	if err := o.complete(); err != nil {
		return err
	}
	logger, err := o.log.logger(cmd.ErrOrStderr(), false)
	if err != nil {
		return err
	}
	o.hub.Logger = logger

	ctx, release := untilSignal(cmd.Context(), func(name string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "stopping (%s); press Ctrl-C again to stop at once\n", name)
	})
	defer release()
	h, err := hub.Start(ctx, o.hub)
	if err != nil {
		return fmt.Errorf("starting the hub: %w", err)
	}
	defer h.Close()
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "edges connect to    %s\nclients connect to  %s\n", h.LeafURL(), h.ClientURL()); err != nil {
		return err
	}
	if url := h.HTTPURL(); url != "" {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "HTTP goes to        %s\n", url); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// complete turns the flags that need it into hub options.
func (o *hubOptions) complete() error {
	for _, listen := range []*string{&o.hub.LeafListen, &o.hub.ClientListen, &o.hub.HTTPListen} {
		if strings.HasPrefix(*listen, ":") {
			*listen = "127.0.0.1" + *listen
		}
	}
	o.hub.Compression = broker.Compression(o.compression)
	switch {
	case o.hub.KeyedAbsence != 0 && o.hub.KeyedAbsence < time.Hour:
		return usage("--keyed-absence is %s; at least 1h is needed", o.hub.KeyedAbsence)
	case o.compression != "" && !slices.Contains(broker.Compressions, o.hub.Compression):
		return usage("--leaf-compression is %q; it is one of off, auto, fast, better, best", o.compression)
	case (o.hub.User == "") != (o.passwordFile == ""):
		return usage("--user and --password-file go together")
	case (o.hub.TLSCert == "") != (o.hub.TLSKey == ""):
		return usage("--tls-cert and --tls-key go together")
	case o.hub.TLSCA != "" && o.hub.TLSCert == "":
		return usage("--tls-ca needs --tls-cert and --tls-key")
	}
	if err := o.completeHTTP(); err != nil {
		return err
	}
	if o.maxBytes != "" {
		n, err := config.ParseSize(o.maxBytes)
		if err != nil {
			return usage("--max-bytes is %q: %w", o.maxBytes, err)
		}
		o.hub.MaxBytes = n
	}
	if o.passwordFile != "" {
		content, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return fmt.Errorf("reading the password: %w", err)
		}
		o.hub.Password = strings.TrimRight(string(content), "\r\n")
		if o.hub.Password == "" {
			return usage("--password-file %s is empty", o.passwordFile)
		}
	}
	return nil
}

// completeHTTP checks the flags of the ingest API. Without a token it serves
// this machine only: whoever reaches it may write.
func (o *hubOptions) completeHTTP() error {
	if o.hub.HTTPListen == "" {
		if o.tokenFile != "" {
			return usage("--http-token-file needs --http-listen")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(o.hub.HTTPListen)
	switch ip := net.ParseIP(host); {
	case err != nil:
		return usage("--http-listen is %q: %w", o.hub.HTTPListen, err)
	case o.tokenFile == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return usage("--http-listen %s can be reached from elsewhere and needs --http-token-file", o.hub.HTTPListen)
	case o.hub.HTTPRemember != 0 && o.hub.HTTPRemember < time.Minute:
		return usage("--http-remember is %s; at least 1m is needed", o.hub.HTTPRemember)
	case o.tokenFile == "":
		return nil
	}
	content, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	if o.hub.HTTPToken = strings.TrimSpace(string(content)); o.hub.HTTPToken == "" {
		return usage("--http-token-file %s is empty", o.tokenFile)
	}
	return nil
}
