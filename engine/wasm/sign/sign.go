// Package sign makes and checks the signatures of plugins. It imports the
// standard library only.
//
// A signature vouches for a [Manifest]: what the plugin is called, what it does,
// which capabilities it may use, and the SHA-256 of its module. It is an Ed25519
// signature and stands as JSON in a file beside the module, x.wasm.sig for
// x.wasm ([Extension]):
//
//	{
//	  "format": "edged-plugin-signature-v1",
//	  "manifest": {
//	    "name": "deadband",
//	    "version": "1.2.0",
//	    "kinds": ["transform"],
//	    "capabilities": ["kv"],
//	    "sha256": "9f86d081884c7d65…"
//	  },
//	  "key": "ed25519:l6lBO6lk…",
//	  "signature": "vPp2N0…"
//	}
//
// Spaces and the order of members do not matter: what is signed is made from the
// values. It is the format's name and a line feed, then name, version, the number
// of kinds and each kind, the number of capabilities and each of them, and the
// sha256, each written as its length in bytes, a colon, its bytes, and a line
// feed; kinds and capabilities in alphabetical order, numbers in decimal. Members
// that are not listed here make a signature invalid, for nobody has signed them.
//
// A command that signs calls [Sign] and writes [Signature.Encode]; one that checks
// calls [Parse] and [Signature.Verify]. Keys: [GenerateKey], [ParsePrivateKey],
// [ParsePublicKey].
package sign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Extension is what a signature's file has behind the name of its module.
const Extension = ".sig"

// Format names the one form of signature that there is.
const Format = "edged-plugin-signature-v1"

// maxBytes bounds a signature's file.
const maxBytes = 64 << 10

// Manifest is what a signature vouches for.
type Manifest struct {
	// Name and Version are for people. Neither is empty.
	Name    string `json:"name"`
	Version string `json:"version"`
	// Kinds are "transform", "resolve" or both: what the plugin may be used for.
	Kinds []string `json:"kinds"`
	// Capabilities are all that the plugin may use; none: it uses none.
	Capabilities []string `json:"capabilities"`
	// SHA256 is the module's, in lower case hexadecimal. [Sign] sets it.
	SHA256 string `json:"sha256"`
}

// Signature is a signed manifest. It is made by [Sign] or [Parse].
type Signature struct {
	Manifest Manifest
	// Key is who signed, as it says itself: [Signature.Verify] tells whether that
	// is true and whether the key is trusted.
	Key       PublicKey
	signature []byte
}

// The errors of [Signature.Verify]; the text around them says what to do.
var (
	// ErrModule says that the module is not the one that was signed.
	ErrModule = errors.New("the module is not the one that was signed")
	// ErrManifest says that the manifest is not the one that was signed.
	ErrManifest = errors.New("the manifest is not the one that was signed")
	// ErrKey says that the key is not among the trusted ones.
	ErrKey = errors.New("the key that signed it is not trusted")
)

// Sign signs a manifest for a module. It sets m.SHA256 and puts kinds and
// capabilities in order.
func Sign(m Manifest, module []byte, key ed25519.PrivateKey) (*Signature, error) {
	sum := sha256.Sum256(module)
	m.SHA256 = hex.EncodeToString(sum[:])
	m.Kinds, m.Capabilities = ordered(m.Kinds), ordered(m.Capabilities)
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("signing: this is no private key of Ed25519")
	}
	return &Signature{Manifest: m, Key: PublicOf(key), signature: ed25519.Sign(key, m.message())}, nil
}

func ordered(words []string) []string {
	words = append([]string{}, words...)
	slices.Sort(words)
	return slices.Compact(words)
}

// check says what is wrong with a manifest.
func (m *Manifest) check() error {
	sum, err := hex.DecodeString(m.SHA256)
	switch {
	case m.Name == "":
		return errors.New("the manifest has no name")
	case m.Version == "":
		return errors.New("the manifest has no version")
	case len(m.Kinds) == 0:
		return errors.New("the manifest has no kinds")
	case err != nil || len(sum) != sha256.Size || m.SHA256 != strings.ToLower(m.SHA256):
		return errors.New("the manifest's sha256 is not 64 lower case hexadecimal digits")
	}
	for _, kind := range m.Kinds {
		if kind != "transform" && kind != "resolve" {
			return fmt.Errorf("the manifest has the kind %q; the kinds are transform and resolve", kind)
		}
	}
	return nil
}

// message is what is signed.
func (m *Manifest) message() []byte {
	b := []byte(Format + "\n")
	add := func(words ...string) {
		for _, w := range words {
			b = strconv.AppendInt(b, int64(len(w)), 10)
			b = append(append(append(b, ':'), w...), '\n')
		}
	}
	add(m.Name, m.Version)
	for _, list := range [][]string{ordered(m.Kinds), ordered(m.Capabilities)} {
		add(strconv.Itoa(len(list)))
		add(list...)
	}
	add(m.SHA256)
	return b
}

// file is a signature's JSON form.
type file struct {
	Format    string   `json:"format"`
	Manifest  Manifest `json:"manifest"`
	Key       string   `json:"key"`
	Signature string   `json:"signature"`
}

// Encode returns the content of the signature's file.
func (s *Signature) Encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	f := file{Format, s.Manifest, s.Key.String(), base64.StdEncoding.EncodeToString(s.signature)}
	if err := enc.Encode(&f); err != nil {
		panic("sign: a struct of strings cannot be encoded: " + err.Error())
	}
	return b.Bytes()
}

// Parse reads the content of a signature's file. It checks its form only.
func Parse(data []byte) (*Signature, error) {
	s, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading the signature: %w; have the plugin signed again", err)
	}
	return s, nil
}

func parse(data []byte) (*Signature, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxBytes)
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind its JSON object")
	}
	if f.Format != Format {
		return nil, fmt.Errorf("its format is %q, this edged knows %q", f.Format, Format)
	}
	if err := f.Manifest.check(); err != nil {
		return nil, err
	}
	key, err := ParsePublicKey([]byte(f.Key))
	if err != nil {
		return nil, err
	}
	s := &Signature{Manifest: f.Manifest, Key: key}
	if s.signature, err = base64.StdEncoding.DecodeString(f.Signature); err != nil || len(s.signature) != ed25519.SignatureSize {
		return nil, fmt.Errorf("its signature is not the base64 of %d bytes", ed25519.SignatureSize)
	}
	return s, nil
}

// Verify holds the signature against a module and the trusted keys. The error
// is one of [ErrManifest], [ErrKey] and [ErrModule], wrapped in what was found
// and what to do.
func (s *Signature) Verify(module []byte, trusted []PublicKey) error {
	if !ed25519.Verify(s.Key[:], s.Manifest.message(), s.signature) {
		return fmt.Errorf("%w: it, the key or the signature was changed after signing; get the signature anew from who signed it", ErrManifest)
	}
	if !slices.Contains(trusted, s.Key) {
		return fmt.Errorf("%w: it was signed with %s; if you trust who has that key, add it to plugin_keys", ErrKey, s.Key)
	}
	sum := sha256.Sum256(module)
	if have := hex.EncodeToString(sum[:]); have != s.Manifest.SHA256 {
		return fmt.Errorf("%w: its sha256 is %s, that of %s %s as signed is %s; get module and signature together",
			ErrModule, have, s.Manifest.Name, s.Manifest.Version, s.Manifest.SHA256)
	}
	return nil
}
