package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// KeyPrefix begins a public key that is written in one line.
const KeyPrefix = "ed25519:"

// The types of PEM blocks that keys stand in, as OpenSSL writes them.
const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
)

// PublicKey is a public key of Ed25519. It can be compared.
type PublicKey [ed25519.PublicKeySize]byte

// String returns the key in one line: "ed25519:" and base64.
func (k PublicKey) String() string { return KeyPrefix + base64.StdEncoding.EncodeToString(k[:]) }

// ParsePublicKey reads a public key: one line as [PublicKey.String] writes it,
// or a PEM block as `openssl pkey -pubout` does.
func ParsePublicKey(data []byte) (PublicKey, error) {
	var k PublicKey
	text := strings.TrimSpace(string(data))
	if line, ok := strings.CutPrefix(text, KeyPrefix); ok {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(raw) != len(k) {
			return k, fmt.Errorf("a public key is %s and the base64 of %d bytes, in one line", KeyPrefix, len(k))
		}
		return PublicKey(raw), nil
	}
	block, _ := pem.Decode(data)
	if block != nil && block.Type == pemPrivate {
		return k, errors.New("this is a private key; keep it secret, and write the public key here")
	}
	if block == nil || block.Type != pemPublic {
		return k, fmt.Errorf("a public key begins with %s, or is a PEM block %q", KeyPrefix, pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return k, fmt.Errorf("reading the public key: %w", err)
	}
	pub, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return k, errors.New("the public key is of another kind than Ed25519")
	}
	return PublicKey(pub), nil
}

// GenerateKey makes a new private key.
func GenerateKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// PublicOf returns the public key that belongs to a private one.
func PublicOf(key ed25519.PrivateKey) PublicKey {
	return PublicKey(key.Public().(ed25519.PublicKey))
}

// EncodePrivateKey returns the content of a private key's file: PKCS #8 in PEM,
// not encrypted. The file should be readable by its owner only.
func EncodePrivateKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("writing a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// ParsePrivateKey reads what [EncodePrivateKey] or
// `openssl genpkey -algorithm ed25519` wrote.
func ParsePrivateKey(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPrivate {
		return nil, fmt.Errorf("a private key is a PEM block %q, not encrypted", pemPrivate)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is of another kind than Ed25519")
	}
	return key, nil
}
