package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/hub"
)

// TestHubOptions holds above all that an address without a host does not open
// the hub to the network.
func TestHubOptions(t *testing.T) {
	dir := t.TempDir()
	password := writeFile(t, filepath.Join(dir, "password"), " s3cret \r\n")
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n")
	for name, c := range map[string]struct {
		in   hubOptions
		want hub.Options
		err  string
	}{
		"no host": {
			in:   hubOptions{hub: hub.Options{LeafListen: ":7422", ClientListen: ":0"}},
			want: hub.Options{LeafListen: "127.0.0.1:7422", ClientListen: "127.0.0.1:0"},
		},
		"host": {
			in:   hubOptions{hub: hub.Options{LeafListen: "0.0.0.0:7422"}, maxBytes: "10GiB"},
			want: hub.Options{LeafListen: "0.0.0.0:7422", MaxBytes: 10 << 30},
		},
		"password without its line end": {
			in:   hubOptions{hub: hub.Options{User: "edges"}, passwordFile: password},
			want: hub.Options{User: "edges", Password: " s3cret "},
		},
		"no password":    {in: hubOptions{hub: hub.Options{User: "edges"}}, err: "go together"},
		"empty password": {in: hubOptions{hub: hub.Options{User: "edges"}, passwordFile: empty}, err: "is empty"},
		"lost password":  {in: hubOptions{hub: hub.Options{User: "edges"}, passwordFile: filepath.Join(dir, "x")}, err: "reading the password"},
		"key alone":      {in: hubOptions{hub: hub.Options{TLSKey: "k"}}, err: "go together"},
		"authority alone": {
			in: hubOptions{hub: hub.Options{TLSCA: "ca"}}, err: "--tls-ca needs --tls-cert",
		},
		"http on this machine": {
			in:   hubOptions{hub: hub.Options{HTTPListen: ":8080"}},
			want: hub.Options{HTTPListen: "127.0.0.1:8080"},
		},
		"http with a token": {
			in:   hubOptions{hub: hub.Options{HTTPListen: "0.0.0.0:8080"}, tokenFile: password},
			want: hub.Options{HTTPListen: "0.0.0.0:8080", HTTPToken: "s3cret"},
		},
		"http for everyone":    {in: hubOptions{hub: hub.Options{HTTPListen: "0.0.0.0:8080"}}, err: "needs --http-token-file"},
		"http without a port":  {in: hubOptions{hub: hub.Options{HTTPListen: "localhost"}}, err: "--http-listen"},
		"http empty token":     {in: hubOptions{hub: hub.Options{HTTPListen: ":0"}, tokenFile: empty}, err: "is empty"},
		"token and no http":    {in: hubOptions{tokenFile: password}, err: "needs --http-listen"},
		"deletes are not kept": {in: hubOptions{hub: hub.Options{KeyedAbsence: 60e9}}, err: "--keyed-absence"},
		"http forgets at once": {in: hubOptions{hub: hub.Options{HTTPListen: ":0", HTTPRemember: 1}}, err: "--http-remember"},
		"size":                 {in: hubOptions{maxBytes: "10"}, err: "--max-bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.in.complete()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want %q in it", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, c.in.hub); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
