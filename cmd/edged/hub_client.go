package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// hubClient are the flags of a command that asks a hub as a NATS client.
type hubClient struct {
	url, credentials, user, passwordFile string
	ca, cert, key                        string
	domain                               string
}

func (h *hubClient) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&h.url, "hub", "", "address of the hub for NATS clients, like nats://hub.example.com:4222; several with commas")
	flags.StringVar(&h.credentials, "hub-creds", "", "credentials file (.creds) for the hub")
	flags.StringVar(&h.user, "hub-user", "", "user name at the hub")
	flags.StringVar(&h.passwordFile, "hub-password-file", "", "file with the password of --hub-user")
	flags.StringVar(&h.ca, "hub-tls-ca", "", "file with the authorities (PEM) that vouch for the hub")
	flags.StringVar(&h.cert, "hub-tls-cert", "", "certificate file (PEM) to show to the hub")
	flags.StringVar(&h.key, "hub-tls-key", "", "private key file (PEM) of --hub-tls-cert")
	flags.StringVar(&h.domain, "hub-domain", "", "JetStream domain of the hub, when --hub is a server beside it")
}

// check finds what can be wrong without a hub. A password in an address would
// be seen by everyone who lists processes.
func (h *hubClient) check() error {
	for address := range strings.SplitSeq(h.url, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.Host == "" {
			return usage("--hub is %q; an address looks like nats://hub.example.com:4222", address)
		}
		if _, given := u.User.Password(); given {
			return usage("--hub holds a password; use --hub-user and --hub-password-file")
		}
	}
	switch {
	case (h.user == "") != (h.passwordFile == ""):
		return usage("--hub-user and --hub-password-file go together")
	case (h.cert == "") != (h.key == ""):
		return usage("--hub-tls-cert and --hub-tls-key go together")
	}
	return nil
}

// connect tries every address once, 2 seconds each, and not again: a person
// waits.
func (h *hubClient) connect() (*nats.Conn, error) {
	options := []nats.Option{nats.Name("edged"), nats.RetryOnFailedConnect(false)}
	if h.credentials != "" {
		options = append(options, nats.UserCredentials(h.credentials))
	}
	if h.user != "" {
		content, err := os.ReadFile(h.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		options = append(options, nats.UserInfo(h.user, strings.TrimRight(string(content), "\r\n")))
	}
	if h.ca != "" {
		options = append(options, nats.RootCAs(h.ca))
	}
	if h.cert != "" {
		options = append(options, nats.ClientCert(h.cert, h.key))
	}
	nc, err := nats.Connect(h.url, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the hub %s: %w", h.url, err)
	}
	return nc, nil
}
