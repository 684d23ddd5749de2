package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/engine/wasm/sign"
)

// publicSuffix is what a public key's file has behind the name of the private
// one.
const publicSuffix = ".pub"

func newPluginKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key to sign plugins with",
		Long: `Make a key to sign plugins with (Ed25519). FILE gets the private key as PEM,
readable by its owner only; keep it secret. FILE.pub gets the public key in one
line, for the plugin_keys of edges that trust it. No file is overwritten.`,
		Example: `  edged plugin keygen release.key
  edged plugin sign my-plugin.wasm --key release.key`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("plugin keygen needs one file for the private key: edged plugin keygen release.key")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := sign.GenerateKey()
			if err != nil {
				return err
			}
			private, err := sign.EncodePrivateKey(key)
			if err != nil {
				return err
			}
			public := sign.PublicOf(key).String()
			if err := writeNew(args[0], private, 0o600); err != nil {
				return fmt.Errorf("writing the private key: %w", err)
			}
			if err := writeNew(args[0]+publicSuffix, []byte(public+"\n"), 0o644); err != nil {
				return errors.Join(fmt.Errorf("writing the public key: %w", err), os.Remove(args[0]))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the private key; keep it secret\n%s: the public key; an edge that trusts it has\n\n  plugin_keys = [%q]\n",
				args[0], args[0]+publicSuffix, public)
			return err
		},
	}
}

// writeNew writes a file that must not be there yet.
func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func newPluginSignCommand() *cobra.Command {
	var keyFile string
	var manifest sign.Manifest
	cmd := &cobra.Command{
		Use:   "sign FILE --key KEY",
		Short: "Sign a plugin, so that edges can know whose it is",
		Long: `Sign a plugin. FILE.sig gets a manifest - name, version, kinds, capabilities, the
module's SHA-256 - and the signature over it. An edge with plugin_keys refuses the
module when the signature is not by one of those keys, when either file was changed
since, or when the module does or uses more than the manifest says.

Name and version are what the module says of itself, its capabilities what it
imports. A module that no edge would load is not signed. After a new build, sign
again: an older signature is replaced.`,
		Example: `  edged plugin keygen release.key
  edged plugin sign my-plugin.wasm --key release.key

  # What would an edge say that trusts it?
  edged plugin inspect my-plugin.wasm --trust release.key.pub`,
		Args:              needModule,
		ValidArgsFunction: completeModules,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case keyFile == "":
				return usage("plugin sign needs --key FILE; 'edged plugin keygen FILE' makes one")
			case strings.HasPrefix(args[0], builtinPrefix):
				return usage("%s is part of edged and needs no signature", args[0])
			}
			data, err := os.ReadFile(keyFile)
			if err != nil {
				return usage("--key: %w", err)
			}
			key, err := sign.ParsePrivateKey(data)
			if err != nil {
				return usage("--key %s: %w", keyFile, err)
			}
			code, err := readModule(args[0])
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("allow") {
				manifest.Capabilities = nil
			}
			for _, capability := range manifest.Capabilities {
				if !slices.Contains(wasm.Capabilities(), capability) {
					return usage("--allow names %q; there are: %s", capability, strings.Join(wasm.Capabilities(), ", "))
				}
			}
			s, err := plugindev.Sign(cmd.Context(), &plugindev.Module{Name: args[0], Code: code}, manifest, key)
			if err != nil {
				return failure(exitPlugin, fmt.Errorf("signing %s: %w", args[0], err))
			}
			err = toFile(cmd, args[0]+sign.Extension, func(w io.Writer) error {
				_, err := w.Write(s.Encode())
				return err
			})
			if err == nil {
				err = os.Chmod(args[0]+sign.Extension, 0o644) // it is public, like the module
			}
			if err != nil {
				return err
			}
			t := table{}
			t.add("signature", args[0]+sign.Extension)
			addManifest(&t, &s.Manifest)
			t.add("key", s.Key.String())
			_, err = fmt.Fprint(cmd.OutOrStdout(), t.String())
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "", "the file with the private key")
	f.StringVar(&manifest.Name, "name", "", "the plugin's name (default: what the module says)")
	f.StringVar(&manifest.Version, "version", "", "the plugin's version (default: what the module says)")
	f.StringSliceVar(&manifest.Capabilities, "allow", nil, "the capabilities it may be granted (default: what it imports)")
	complete(cmd, "allow", wasm.Capabilities()...)
	return cmd
}

func addManifest(t *table, m *sign.Manifest) {
	t.add("name", printable(m.Name+" "+m.Version))
	t.add("kinds", orNone(m.Kinds))
	t.add("may use", printable(orNone(m.Capabilities)))
	t.add("sha256", m.SHA256)
}

// readKeys reads public keys, each in one line or from a file.
func readKeys(texts []string) ([]sign.PublicKey, error) {
	var keys []sign.PublicKey
	for _, text := range texts {
		data := []byte(text)
		if !strings.HasPrefix(text, sign.KeyPrefix) {
			var err error
			if data, err = os.ReadFile(text); err != nil {
				return nil, usage("--trust: %w", err)
			}
		}
		key, err := sign.ParsePublicKey(data)
		if err != nil {
			return nil, usage("--trust %s: %w", text, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// signatureText says for people what stands beside a module.
func signatureText(s *plugindev.SignatureState) string {
	switch s.State {
	case plugindev.SignatureTrusted:
		return fmt.Sprintf("of %s, by a key you trust: %s", printable(s.Manifest.Name+" "+s.Manifest.Version), s.Key)
	case plugindev.SignatureUnchecked:
		return fmt.Sprintf("of %s, by %s; --trust says whether you trust it", printable(s.Manifest.Name+" "+s.Manifest.Version), s.Key)
	case plugindev.SignatureRefused:
		return "refused: " + printable(s.Reason)
	}
	return "none"
}
