package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// TLSFiles names PEM files. CA verifies the peer; Cert and Key are shown to
// it. Empty means: the system's roots, no certificate.
type TLSFiles struct{ CA, Cert, Key string }

func (f TLSFiles) empty() bool { return f == TLSFiles{} }

func (f TLSFiles) load() (*tls.Config, *x509.CertPool, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if (f.Cert == "") != (f.Key == "") {
		return nil, nil, errors.New("a TLS certificate needs its key, and a key its certificate")
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("loading the TLS certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if f.CA == "" {
		return cfg, nil, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("loading the TLS authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("loading the TLS authorities: %s holds no PEM certificate", f.CA)
	}
	return cfg, pool, nil
}

func (f TLSFiles) client() (*tls.Config, error) {
	cfg, pool, err := f.load()
	if err == nil {
		cfg.RootCAs = pool
	}
	return cfg, err
}

// server returns the listener's side; a CA there means that peers must show a
// certificate it signed.
func (f TLSFiles) server() (*tls.Config, error) {
	if f.Cert == "" {
		return nil, errors.New("listening with TLS needs a certificate and its key")
	}
	cfg, pool, err := f.load()
	if err == nil && pool != nil {
		cfg.ClientCAs, cfg.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return cfg, err
}

func applyListen(o *server.Options, l *Listen) error {
	set := func(what, addr string, host *string, port *int) error {
		h, p, err := net.SplitHostPort(addr)
		if err != nil {
			return fmt.Errorf("%s address: %w", what, err)
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return fmt.Errorf("%s address %q: the port is not a number from 0 to 65535", what, addr)
		}
		*host, *port = h, int(n)
		if n == 0 {
			*port = server.RANDOM_PORT
		}
		return nil
	}
	if l.Client != "" {
		if err := set("client", l.Client, &o.Host, &o.Port); err != nil {
			return err
		}
	}
	if l.Leaf == "" {
		return nil
	}
	if err := set("leaf node", l.Leaf, &o.LeafNode.Host, &o.LeafNode.Port); err != nil {
		return err
	}
	// Edges have no business with each other.
	o.LeafNode.IsolateLeafnodeInterest = true
	var err error
	if o.LeafNode.Compression, err = l.Compression.options(); err != nil {
		return err
	}
	if l.TLS.empty() {
		return nil
	}
	cfg, err := l.TLS.server()
	if err != nil {
		return err
	}
	o.LeafNode.TLSConfig, o.LeafNode.TLSTimeout = cfg, dialTimeout.Seconds()
	if l.Client != "" {
		o.TLSConfig, o.TLSTimeout = cfg.Clone(), dialTimeout.Seconds()
	}
	return nil
}

// LeafAddr is the address that leaf nodes dial, or empty.
func (b *Broker) LeafAddr() string {
	if l := b.opts.Listen; l == nil || l.Leaf == "" {
		return ""
	}
	v, err := b.srv.Varz(nil)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(v.LeafNode.Host, strconv.Itoa(v.LeafNode.Port))
}

// ClientAddr is the address that NATS clients dial, or empty.
func (b *Broker) ClientAddr() string {
	if a, ok := b.srv.Addr().(*net.TCPAddr); ok && a != nil {
		return a.String()
	}
	return ""
}
