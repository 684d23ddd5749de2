package wasm

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/edged/edged/engine/wasm/sign"
)

// TestTrust holds what is refused at load, and that it is said why.
func TestTrust(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	g := newGuest()
	g.importFunc(moduleEdged, "now_ns", nil, []byte{tI64})
	g.importFunc(moduleWASI, "sched_yield", nil, []byte{tI32})
	code := g.marker().allocAt(iconst(atInbox)).passUnless().build()
	signed := func(by ed25519.PrivateKey, kinds, capabilities string) []byte {
		s, err := sign.Sign(sign.Manifest{Name: "n", Version: "1.2", Kinds: strings.Fields(kinds), Capabilities: strings.Fields(capabilities)}, code, by)
		if err != nil {
			t.Fatal(err)
		}
		return s.Encode()
	}
	good := signed(key, "transform", "clock log")
	trust := Trust{Keys: []sign.PublicKey{sign.PublicOf(key)}}
	required := Trust{Keys: trust.Keys, Required: true}
	for name, c := range map[string]struct {
		signature []byte
		trust     Trust
		code      []byte
		want      string // empty: it is loaded
		signed    bool
	}{
		"signed":                 {signature: good, trust: trust, signed: true},
		"signed, required":       {signature: good, trust: required, signed: true},
		"unsigned":               {trust: trust},
		"nobody asks":            {signature: []byte("nonsense")},
		"unsigned, required":     {trust: required, want: "it is not signed"},
		"no keys, required":      {signature: good, trust: Trust{Required: true}, want: "is not trusted"},
		"stranger":               {signature: signed(stranger, "transform", "clock"), trust: trust, want: sign.PublicOf(stranger).String()},
		"nonsense":               {signature: []byte("nonsense"), trust: trust, want: "reading the signature"},
		"another module":         {signature: good, trust: trust, code: evilGuest().build(), want: "n 1.2 as signed"},
		"changed manifest":       {signature: bytes.Replace(good, []byte(`"clock"`), []byte(`"kv"`), 1), trust: trust, want: "changed after signing"},
		"more than its manifest": {signature: signed(key, "transform", "log"), trust: trust, want: `now_ns, which needs the capability "clock" that its signed manifest does not list`},
		"another kind":           {signature: signed(key, "resolve", "clock"), trust: trust, want: "exports edged_transform, but its signed manifest lists only: resolve"},
	} {
		t.Run(name, func(t *testing.T) {
			m := Module{Name: "p", Code: code, Signature: c.signature, Trust: c.trust, Allow: []string{CapabilityClock}}
			if c.code != nil {
				m.Code = c.code
			}
			p, err := testHost(t).Load(t.Context(), m)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := p.Signed(); (s != nil) != c.signed || s != nil && s.Manifest.Version != "1.2" {
				t.Errorf("the signature is %+v", s)
			}
		})
	}
}
