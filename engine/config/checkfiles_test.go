package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/config"
)

func TestCheckFiles(t *testing.T) {
	src := `edge {
  plugin_keys = ["here.wasm", "gone.pub", "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
}
plugin "a" {
  module = "builtin:dew_point"
}
plugin "b" {
  module = "builtin:dew_piont"
}
plugin "c" {
  module = "here.wasm"
}
plugin "d" {
  module = "dew_point"
}
plugin "e" {
  module = "../locked.wasm"
}
`
	cfg, _ := config.Parse(map[string][]byte{"conf/x.hcl": []byte(src)}, testCatalog(), testHost())
	stat := func(path string) error {
		switch path {
		case filepath.Join("conf", "here.wasm"):
			return nil
		case "locked.wasm":
			return fs.ErrPermission
		}
		return fs.ErrNotExist
	}
	var got []string
	diags := cfg.CheckFiles(stat, []string{"dew_point", "merge"})
	for _, d := range diags {
		got = append(got, d.Subject.String()+" "+d.Summary+": "+d.Detail)
	}
	want := []string{
		`conf/x.hcl:2,17-98 Cannot read key: The key "conf/gone.pub" cannot be read: file does not exist. A key is the path of a file, relative to the folder of the pipeline file, or ed25519: and the base64 of the key.`,
		`conf/x.hcl:8,12-31 Unknown built-in plugin: There is no built-in plugin "dew_piont". Did you mean "dew_point"? The built-in plugins are: dew_point, merge.`,
		`conf/x.hcl:14,12-23 Missing module: There is no file "conf/dew_point". The built-in plugin is written "builtin:dew_point". A path is relative to the folder of the pipeline file.`,
		`conf/x.hcl:17,12-28 Cannot read module: "locked.wasm" cannot be read: permission denied. Check the path and its permissions.`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkManners(t, diags)
}

func TestCheckFilesAsksTheSystem(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.wasm"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	src := "plugin \"a\" {\n  module = \"p.wasm\"\n}\nplugin \"b\" {\n  module = \".\"\n}\nplugin \"c\" {\n  module = \"q.wasm\"\n}\n"
	cfg, _ := config.Parse(map[string][]byte{filepath.Join(dir, "x.hcl"): []byte(src)}, testCatalog(), testHost())
	var got []string
	for _, d := range cfg.CheckFiles(nil, nil) {
		got = append(got, d.Summary)
	}
	if diff := cmp.Diff([]string{"Cannot read module", "Missing module"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
