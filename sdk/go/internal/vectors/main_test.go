package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	edged "github.com/edged/edged/sdk/go"
)

const testdata = "../../../testdata"

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNatively holds the native build, which authors test with, to what the
// modules are held to.
func TestNatively(t *testing.T) {
	var vectors []struct{ Name, Op string }
	if err := json.Unmarshal(read(t, "vectors.json"), &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		call, want := read(t, v.Name+".call.bin"), read(t, v.Name+".out.bin")
		var got []byte
		if v.Op == "resolve" {
			got = edged.HandleResolve(call, decide)
		} else {
			got = edged.HandleTransform(call, obey)
		}
		if got == nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%q\nwant\n%q", v.Name, got, want)
		}
	}
	var rows [][]string
	if err := json.Unmarshal(read(t, "functions.json"), &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		args, want := row[:len(row)-1], row[len(row)-1]
		text, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		if got := call(text); got != want {
			t.Errorf("%q: got  %s\nwant %s", args, got, want)
		}
	}
}
