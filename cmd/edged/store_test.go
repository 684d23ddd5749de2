package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edged/edged/engine"
)

// TestVerify holds that a store is whole after a kill, and that one byte that
// changes on the disk is found.
func TestVerify(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	waitForDeadLetters(t, dir, 4)
	busy := edged(t, dir, "", "store", "verify", "p.hcl")
	if busy.wantCode(t, exitRuntime); !strings.Contains(busy.stderr, "stop the edge first") {
		t.Errorf("stderr: %q", busy.stderr)
	}
	edge.kill()
	verify(t, dir, "data", exitOK)

	// A stopped edge has told the server's index that all is well, a killed one
	// has not: the damage then shows in another way.
	for name, stop := range map[string]func(*process){
		"stopped": func(p *process) { p.stop(os.Interrupt) },
		"killed":  (*process).kill,
	} {
		for what, part := range map[string]string{"a record": `"id":"r-6"`, "a message": `{"n":6}`, "a dead letter": "humidity is 0"} {
			t.Run(name+", "+what, func(t *testing.T) {
				data := filepath.Join(t.TempDir(), "data")
				stop(relaunchOps(t, dir))
				if err := copyData(data, filepath.Join(dir, "data")); err != nil {
					t.Fatal(err)
				}
				if n := flip(t, data, part); n == 0 {
					t.Fatalf("no file has %q", part)
				}
				v := verify(t, dir, data, exitDamaged)
				if v.Damaged == 0 {
					t.Errorf("%+v", v)
				}
			})
		}
	}
}

// verify runs `edged store verify` on a data directory.
func verify(t *testing.T, dir, data string, code int) engine.Verification {
	t.Helper()
	r := edged(t, dir, "", "store", "verify", "--data-dir", data, "--json")
	r.wantCode(t, code)
	var v engine.Verification
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	return v
}

// copyData copies a data directory, without the socket of a killed edge.
func copyData(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
}

// flip changes one bit of the last part that a block of the streams holds, in
// every stream that holds it, and returns in how many.
func flip(t *testing.T, data, part string) int {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(data, "jetstream", "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range blocks {
		block, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.LastIndex(block, []byte(part))
		if at < 0 || strings.Contains(name, "KV_") {
			continue
		}
		block[at+len(part)/2] ^= 1
		if err := os.WriteFile(name, block, 0o600); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
