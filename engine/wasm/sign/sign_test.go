package sign_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/edged/edged/engine/wasm/sign"
)

var module = []byte("\x00asm and so on")

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func signed(t *testing.T) *sign.Signature {
	t.Helper()
	s, err := sign.Sign(sign.Manifest{
		Name: "deadband", Version: "1.2.0", Kinds: []string{"transform"}, Capabilities: []string{"log", "kv"},
	}, module, key(1))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVerify holds that a signature vouches for exactly what was signed.
func TestVerify(t *testing.T) {
	trusted := []sign.PublicKey{sign.PublicOf(key(9)), sign.PublicOf(key(1))}
	data := signed(t).Encode()
	change := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(from)) {
				t.Fatalf("the file has no %s:\n%s", from, b)
			}
			return bytes.Replace(b, []byte(from), []byte(to), 1)
		}
	}
	other := sign.PublicOf(key(9)).String()
	for name, c := range map[string]struct {
		change  func([]byte) []byte
		module  []byte
		trusted []sign.PublicKey
		want    error
		says    string
	}{
		"as signed":     {},
		"laid out anew": {change: compact},
		"other order":   {change: change(`"kv",`, `"log",`)}, // and the other below
		"module":        {module: []byte("\x00asm evil"), want: sign.ErrModule, says: "deadband 1.2.0"},
		"no module":     {module: []byte{}, want: sign.ErrModule, says: "get module and signature together"},
		"name":          {change: change(`"deadband"`, `"deadbond"`), want: sign.ErrManifest},
		"version":       {change: change(`"1.2.0"`, `"1.2.1"`), want: sign.ErrManifest},
		"kind":          {change: change(`"transform"`, `"resolve"`), want: sign.ErrManifest},
		"more kinds":    {change: change(`"transform"`, `"transform", "resolve"`), want: sign.ErrManifest},
		"capability":    {change: change(`"kv"`, `"clock"`), want: sign.ErrManifest},
		"boundary":      {change: change(`"kv"`, `"k", "v"`), want: sign.ErrManifest},
		"sum":           {change: change(`"sha256": "`+sum(t, data)[:2], `"sha256": "00`), want: sign.ErrManifest},
		"key":           {change: change(sign.PublicOf(key(1)).String(), other), want: sign.ErrManifest},
		"unknown key":   {trusted: trusted[:1], want: sign.ErrKey, says: sign.PublicOf(key(1)).String()},
		"no key":        {trusted: []sign.PublicKey{}, want: sign.ErrKey, says: "plugin_keys"},
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(data)
			if c.change != nil {
				data = c.change(data)
			}
			if name == "other order" {
				data = bytes.Replace(data, []byte("\"log\"\n"), []byte("\"kv\"\n"), 1)
			}
			if c.module == nil {
				c.module = module
			}
			if c.trusted == nil {
				c.trusted = trusted
			}
			s, err := sign.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Verify(c.module, c.trusted)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func compact(b []byte) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func sum(t *testing.T, data []byte) string {
	t.Helper()
	s, err := sign.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return s.Manifest.SHA256
}

// TestParseRefuses holds that nothing stands in a signature that nobody signed.
func TestParseRefuses(t *testing.T) {
	data := string(signed(t).Encode())
	for name, c := range map[string][2]string{
		"nothing":         {data, ""},
		"an array":        {data, "[]"},
		"more behind":     {data, data + "{}"},
		"unknown member":  {`"name"`, `"trusted": true, "name"`},
		"another format":  {sign.Format, "x"},
		"no name":         {`"deadband"`, `""`},
		"no version":      {`"1.2.0"`, `""`},
		"no kinds":        {`"transform"`, ``},
		"a strange kind":  {`"transform"`, `"root"`},
		"a short sum":     {`"sha256": "`, `"sha256": "0`},
		"a short key":     {sign.KeyPrefix, sign.KeyPrefix + "AAAA"},
		"no signature":    {`"signature": "`, `"signature": "!`},
		"far too long":    {"{", "{" + strings.Repeat(" ", 64<<10)},
		"not in hex case": {`"sha256": "` + sum(t, []byte(data)), `"sha256": "` + strings.ToUpper(sum(t, []byte(data)))},
	} {
		text := strings.Replace(data, c[0], c[1], 1)
		if _, err := sign.Parse([]byte(text)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	good := sign.Manifest{Name: "n", Version: "1", Kinds: []string{"resolve"}}
	for name, m := range map[string]sign.Manifest{
		"no name": {Version: "1", Kinds: good.Kinds}, "no version": {Name: "n", Kinds: good.Kinds}, "no kind": {Name: "n", Version: "1"},
	} {
		if _, err := sign.Sign(m, module, key(1)); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
	if _, err := sign.Sign(good, module, nil); err == nil {
		t.Error("it is signed without a key")
	}
}

func TestKeys(t *testing.T) {
	private, err := sign.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	file, err := sign.EncodePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	again, err := sign.ParsePrivateKey(file)
	if err != nil || !again.Equal(private) {
		t.Errorf("another private key is read: %v", err)
	}
	public, err := sign.ParsePublicKey([]byte(sign.PublicOf(private).String() + "\n"))
	if err != nil || public != sign.PublicOf(private) {
		t.Errorf("another public key is read: %v", err)
	}
	if _, err := sign.ParsePublicKey(file); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("a private key in place of a public one: %v", err)
	}
	// As openssl writes them, of a key whose seed is 32 zeros.
	const pemPrivate = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"
	const pemPublic = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=\n-----END PUBLIC KEY-----\n"
	private, err = sign.ParsePrivateKey([]byte(pemPrivate))
	if err != nil {
		t.Fatal(err)
	}
	public, err = sign.ParsePublicKey([]byte(pemPublic))
	if err != nil || public != sign.PublicOf(private) {
		t.Errorf("the keys of one pair differ: %v", err)
	}
	for _, text := range []string{"", "ed25519:", "ed25519:AA==", "hello", strings.Replace(pemPublic, "MCow", "MCox", 1)} {
		if _, err := sign.ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%q is read as a public key", text)
		}
		if _, err := sign.ParsePrivateKey([]byte(text)); err == nil {
			t.Errorf("%q is read as a private key", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	s, err := sign.Sign(sign.Manifest{Name: "n", Version: "1", Kinds: []string{"resolve"}}, module, key(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := sign.Parse(data)
		if err != nil {
			return
		}
		if again, err := sign.Parse(s.Encode()); err != nil || again.Manifest.SHA256 != s.Manifest.SHA256 {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}
