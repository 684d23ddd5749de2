package plugindev

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	rustTarget     = "wasm32-unknown-unknown"
	rustLinkerName = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"
)

var errNoRustTarget = errors.New("a plugin in rust needs the target " + rustTarget + ", which is not installed here: rustup target add " +
	rustTarget + "; or on Debian: apt install cargo rustc libstd-rust-dev-wasm32 lld-14")

// rustEnv finds a Rust that can compile to WebAssembly, and returns what has to be
// set for it. The one in PATH comes first; Debian's is the second choice, because
// its target and its linker are packages of their own that nothing else points to.
func rustEnv(ctx context.Context) ([]string, error) {
	for _, dir := range []string{"", "/usr/bin"} {
		rustc := "rustc"
		if dir != "" {
			rustc = filepath.Join(dir, rustc)
		}
		libraries, err := ask(ctx, rustc, "--print", "target-libdir", "--target", rustTarget)
		if err != nil {
			continue
		}
		if _, err := os.Stat(libraries); err != nil {
			continue
		}
		var env []string
		if dir != "" {
			env = append(env, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		}
		if linker := rustLinker(ctx, rustc); linker != "" {
			env = append(env, rustLinkerName+"="+linker)
		}
		return env, nil
	}
	return nil, errNoRustTarget
}

// rustLinker is the linker to name for a Rust that brings none for WebAssembly;
// empty: it brings one, or the author has named one.
func rustLinker(ctx context.Context, rustc string) string {
	if os.Getenv(rustLinkerName) != "" {
		return ""
	}
	root, err := ask(ctx, rustc, "--print", "sysroot")
	if err != nil {
		return ""
	}
	own, err := filepath.Glob(filepath.Join(root, "lib", "rustlib", "*", "bin", "rust-lld"))
	if err != nil || len(own) > 0 {
		return ""
	}
	for _, name := range []string{"wasm-ld-14", "wasm-ld", "wasm-ld-19"} { // Debian 12's Rust is built on LLVM 14
		if _, err := exec.LookPath(name); err == nil {
			return name
		}
	}
	return ""
}

func ask(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	return strings.TrimSpace(string(out)), err
}
