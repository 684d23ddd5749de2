package wasm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/edged/edged/engine/wasm/sign"
)

// checkSignature returns the signature of a module if there is a good one, and
// an error when there has to be one and is not.
func (m *Module) checkSignature() (*sign.Signature, error) {
	switch {
	case m.Signature == nil && m.Trust.Required:
		return nil, errors.New("it is not signed, and only signed plugins are run here: have it signed with a key of plugin_keys (edged plugin sign), and put the signature beside the module")
	case m.Signature == nil || len(m.Trust.Keys) == 0 && !m.Trust.Required:
		return nil, nil
	}
	s, err := sign.Parse(m.Signature)
	if err != nil {
		return nil, err
	}
	if err := s.Verify(m.Code, m.Trust.Keys); err != nil {
		return nil, err
	}
	return s, nil
}

// checkManifest holds a module against what was signed: it may do and use less,
// not more.
func checkManifest(compiled wazero.CompiledModule, extism *Extism, m *sign.Manifest) error {
	var errs []error
	functions := compiled.ExportedFunctions()
	for kind, export := range map[string]string{"transform": exportTransform, "resolve": exportResolve} {
		if functions[export] != nil && !slices.Contains(m.Kinds, kind) {
			errs = append(errs, fmt.Errorf("it exports %s, but its signed manifest lists only: %s", export, strings.Join(m.Kinds, ", ")))
		}
	}
	if extism != nil && !slices.Contains(m.Kinds, "transform") {
		errs = append(errs, fmt.Errorf("it speaks the Extism ABI, but its signed manifest lists no transform, only: %s", strings.Join(m.Kinds, ", ")))
	}
	for _, def := range compiled.ImportedFunctions() {
		module, name, _ := def.Import()
		f, _ := importOf(module, name)
		if c := f.capability; c != "" && !slices.Contains(m.Capabilities, c) {
			errs = append(errs, fmt.Errorf("it imports %s.%s, which needs the capability %q that its signed manifest does not list; have it signed with a manifest that does", module, name, c))
		}
	}
	return errors.Join(errs...)
}
