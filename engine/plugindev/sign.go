package plugindev

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/edged/edged/engine/wasm/sign"
)

// SignatureState is what [CheckSignature] finds beside a module.
type SignatureState struct {
	// State is none, unchecked (no key to trust was given), trusted or refused.
	State    string         `json:"state"`
	Key      string         `json:"key,omitempty"`
	Manifest *sign.Manifest `json:"manifest,omitempty"`
	// Reason says why it is refused.
	Reason string `json:"reason,omitempty"`
}

// The states of a signature.
const (
	SignatureNone      = "none"
	SignatureUnchecked = "unchecked"
	SignatureTrusted   = "trusted"
	SignatureRefused   = "refused"
)

// CheckSignature reads the signature in the file beside a module and holds it
// against the module and the trusted keys. The error is for a file that cannot be
// read; what is wrong with a signature is in its state.
func CheckSignature(file string, code []byte, trusted []sign.PublicKey) (*SignatureState, error) {
	data, err := os.ReadFile(file + sign.Extension)
	if errors.Is(err, fs.ErrNotExist) {
		return &SignatureState{State: SignatureNone}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the signature: %w", err)
	}
	s, err := sign.Parse(data)
	if err != nil {
		return &SignatureState{State: SignatureRefused, Reason: err.Error()}, nil
	}
	state := &SignatureState{State: SignatureTrusted, Key: s.Key.String(), Manifest: &s.Manifest}
	given := trusted
	if len(trusted) == 0 {
		// Whether it fits the module does not depend on whom one trusts.
		given = []sign.PublicKey{s.Key}
	}
	if err := s.Verify(code, given); err != nil {
		state.State, state.Reason = SignatureRefused, err.Error()
	} else if len(trusted) == 0 {
		state.State = SignatureUnchecked
	}
	return state, nil
}

// Sign makes the signature of a module. What the manifest does not say is taken
// from the module: its name and version from its description, its kinds, and the
// capabilities that it imports. A module that no edge would load is refused, and
// so is a manifest that grants less than the module needs.
func Sign(ctx context.Context, m *Module, manifest sign.Manifest, key ed25519.PrivateKey) (*sign.Signature, error) {
	r, err := Inspect(ctx, m)
	if err != nil {
		return nil, err
	}
	if len(r.Problems) > 0 {
		return nil, fmt.Errorf("no edge would load this module: %s", r.Problems[0])
	}
	if d := r.Description; d != nil {
		if manifest.Name == "" {
			manifest.Name = d.Name
		}
		if manifest.Version == "" {
			manifest.Version = d.Version
		}
	}
	if manifest.Name == "" || manifest.Version == "" {
		return nil, errors.New("the module does not say its name and version; give both")
	}
	manifest.Kinds = r.Kinds
	if manifest.Capabilities == nil {
		manifest.Capabilities = r.Capabilities
	}
	for _, capability := range r.Capabilities {
		if !slices.Contains(manifest.Capabilities, capability) {
			return nil, fmt.Errorf("the module needs the capability %q, which the manifest does not have", capability)
		}
	}
	return sign.Sign(manifest, m.Code, key)
}
