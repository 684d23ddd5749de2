package engine_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/edged/edged"

// arrows says what each package may import: of ours (folders), and of the
// three libraries the project stands on. Anything may import the standard
// library and small libraries, unless it is stdlibOnly. A row that ends in
// "/..." covers every package below it. A package without a row fails: decide
// its place in the house before it grows.
var arrows = map[string]arrow{
	// on the ground
	"engine/record":    {stdlibOnly: true},
	"engine/wasm/sign": {stdlibOnly: true},
	"engine/expr":      {ours: words("engine/record"), libraries: words("hcl")},

	// these three never import each other
	"engine/config": {ours: words("engine/expr engine/record engine/wasm/sign"), libraries: words("hcl")},
	"engine/wasm":   {ours: words("engine/record engine/wasm/meter engine/wasm/sign"), libraries: words("wazero")},
	"engine/broker": {ours: words("engine/record"), libraries: words("nats")},

	// what is kept
	"engine/disk":  {},
	"engine/store": {ours: words("engine/broker engine/record"), libraries: words("nats")},
	"engine/queue": {ours: words("engine/record engine/store"), libraries: words("nats")},

	"engine/keyed/table": {ours: words("engine/broker"), libraries: words("nats")},
	"engine/keyed":       {ours: words("engine/broker engine/keyed/table engine/record"), libraries: words("nats")},

	"engine/keyed/api": {ours: words("engine/keyed engine/keyed/table engine/record"), libraries: words("nats")},

	// the stages
	"engine/collect": {ours: words("engine/config engine/expr engine/record"), libraries: words("hcl nats")},
	"engine/alert":   {ours: words("engine/config engine/expr engine/record"), libraries: words("hcl")},
	"engine/batch":   {ours: words("engine/record")},
	"engine/sync": {
		ours:      words("engine/batch engine/broker engine/config engine/keyed engine/queue engine/record engine/store"),
		libraries: words("hcl nats"),
	},
	"engine/guard": {ours: words("engine/broker engine/disk engine/store")},
	"engine/hub":   {ours: words("engine/broker engine/guard engine/keyed engine/record engine/store engine/sync"), libraries: words("nats")},

	// what assembles the parts, and what starts the process
	"engine": {
		ours: words("plugins engine/alert engine/batch engine/broker engine/collect engine/config engine/expr engine/guard " +
			"engine/hub engine/keyed engine/keyed/api engine/queue engine/record engine/store engine/sync engine/wasm engine/wasm/sign"),
		libraries: words("hcl nats wazero"),
	},
	"cmd/edged": {
		ours: words("engine plugins sdk engine/alert engine/batch engine/broker engine/collect engine/config engine/expr " +
			"engine/hub engine/keyed engine/plugindev engine/plugindev/conformance engine/queue engine/record engine/store engine/sync engine/wasm engine/wasm/sign"),
		libraries: words("hcl nats wazero"),
	},

	"engine/wasm/meter": {stdlibOnly: true},

	// what plugin authors work with
	"engine/plugindev":             {ours: words("sdk engine/record engine/wasm engine/wasm/meter engine/wasm/sign")},
	"engine/plugindev/conformance": {ours: words("engine/plugindev engine/record engine/wasm")},

	// beside the engine
	"plugins":     {stdlibOnly: true}, // the embedded .wasm files
	"sdk":         {stdlibOnly: true}, // the embedded SDK sources
	"sdk/go/...":  {ours: words("sdk/go"), stdlibOnly: true},
	"plugins/...": {ours: words("sdk/go"), stdlibOnly: true},
	"benchmarks/...": {
		ours: words("engine plugins engine/alert engine/batch engine/broker engine/collect engine/config engine/expr " +
			"engine/hub engine/keyed engine/plugindev engine/queue engine/record engine/store engine/sync engine/wasm engine/wasm/sign sdk/go"),
		libraries: words("hcl nats wazero"),
	},
}

// libraries names the modules behind the words of the table.
var libraries = map[string][]string{
	"hcl":    {"github.com/hashicorp/hcl", "github.com/zclconf/go-cty"},
	"nats":   {"github.com/nats-io"},
	"wazero": {"github.com/tetratelabs/wazero"},
}

type arrow struct {
	ours       []string // our packages it may import
	libraries  []string // of hcl, nats, wazero
	stdlibOnly bool     // no module but ours and the standard library
}

func words(s string) []string { return strings.Fields(s) }

// row finds the table's row for a package: its own, or the longest "/..." row.
func row(pkg string) (arrow, bool) {
	if a, ok := arrows[pkg]; ok {
		return a, true
	}
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if a, ok := arrows[dir+"/..."]; ok {
			return a, true
		}
	}
	return arrow{}, false
}

// wrong says why pkg may not import imported, or nothing.
func (a arrow) wrong(imported string) string {
	if rest, ok := strings.CutPrefix(imported, module+"/"); ok {
		if !slices.Contains(a.ours, rest) {
			return "imports point down only; the table in engine/imports_test.go says what it may import"
		}
		return ""
	}
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return ""
	}
	if a.stdlibOnly {
		return "this package imports the standard library only"
	}
	for _, name := range slices.Sorted(maps.Keys(libraries)) {
		for _, prefix := range libraries[name] {
			if strings.HasPrefix(imported, prefix) && !slices.Contains(a.libraries, name) {
				return "this package knows nothing of " + name
			}
		}
	}
	return ""
}

// TestImportDirections reads every Go file, whatever its build tags, and fails
// on an arrow that the table does not have. Test files may import what they
// like: they are above everything.
func TestImportDirections(t *testing.T) {
	seen := map[string]bool{}
	eachFile(t, parser.ImportsOnly, func(pkg, file string, syntax *ast.File) {
		allowed, ok := row(pkg)
		if !ok {
			if !seen[pkg] {
				t.Errorf("%s: package without a row in the table of engine/imports_test.go: add one", pkg)
			}
			seen[pkg] = true
			return
		}
		seen[pkg] = true
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if why := allowed.wrong(imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
	})
	if !seen["engine"] || !seen["engine/record"] {
		t.Fatalf("the walk did not find our own packages: %v", slices.Sorted(maps.Keys(seen)))
	}
}

// TestOnlyTheCommandExits holds that a library never ends the process or takes
// its signals: that is for cmd/edged alone.
func TestOnlyTheCommandExits(t *testing.T) {
	forbidden := words("os.Exit log.Fatal log.Fatalf log.Fatalln " +
		"signal.Notify signal.NotifyContext signal.Ignore signal.Reset")
	eachFile(t, parser.SkipObjectResolution, func(pkg, file string, syntax *ast.File) {
		if !strings.HasPrefix(pkg, "engine") {
			return
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok {
				if name := x.Name + "." + sel.Sel.Name; slices.Contains(forbidden, name) {
					t.Errorf("%s calls %s: return an error, and let cmd/edged decide", file, name)
				}
			}
			return true
		})
	})
}

// TestArrowTable proves that the check can fail.
func TestArrowTable(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		allowed       bool
	}{
		{"engine/record", "encoding/json", true},
		{"engine/record", "github.com/tidwall/gjson", false},
		{"engine/record", module + "/engine/expr", false},
		{"engine/expr", module + "/engine/record", true},
		{"engine/wasm", "github.com/tetratelabs/wazero/api", true},
		{"engine/wasm", "github.com/nats-io/nats.go", false},
		{"engine/wasm", "github.com/hashicorp/hcl/v2", false},
		{"engine/wasm", module + "/engine/config", false},
		{"engine/broker", module + "/engine/wasm", false},
		{"engine/config", module + "/engine/broker", false},
		{"engine", module + "/cmd/edged", false},
		{"sdk/go/json", module + "/engine/record", false},
		{"cmd/edged", "github.com/spf13/cobra", true},
	} {
		a, ok := row(c.pkg)
		if !ok {
			t.Errorf("%s: no row", c.pkg)
			continue
		}
		if why := a.wrong(c.imported); (why == "") != c.allowed {
			t.Errorf("%s importing %s: allowed = %v (%s), want %v", c.pkg, c.imported, why == "", why, c.allowed)
		}
	}
	if _, ok := row("engine/nowhere"); ok {
		t.Error("a package that nobody placed has a row")
	}
}

// eachFile parses every Go file of the module that is not a test.
func eachFile(t *testing.T, mode parser.Mode, visit func(pkg, file string, syntax *ast.File)) {
	t.Helper()
	const root = ".."
	skip := map[string]bool{"testdata": true, "node_modules": true}
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != root && (skip[base] || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		syntax, err := parser.ParseFile(fset, name, nil, mode)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", rel, err)
		}
		visit(path.Dir(rel), rel, syntax)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
