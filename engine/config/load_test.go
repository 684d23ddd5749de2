package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

func TestLoadTypedConfiguration(t *testing.T) {
	cfg, diags := config.Load([]string{"testdata/valid.hcl"}, testCatalog(), testHost())
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	edge := cfg.Edge
	edge.Range, edge.KeysRange, edge.API.Range = hcl.Range{}, hcl.Range{}, hcl.Range{}
	if diff := cmp.Diff(config.Edge{DeviceID: "edge-001", DataDir: "var/data", Durability: "relaxed", MaxBytes: 3 << 29, Keep: 24 * time.Hour, QueueWhenFull: "wait", API: config.API{Listen: "127.0.0.1:8090", Token: "secret"}}, edge); diff != "" {
		t.Errorf("edge (-want +got):\n%s", diff)
	}
	if got := cfg.Remotes[1]; got.Kind != "http" || got.Name != "cloud" || got.Args.String("url") != "https://test-host.example.com" {
		t.Errorf("second remote: %s %s with url %q", got.Kind, got.Name, got.Args.String("url"))
	}
	tls, ok := cfg.Remotes[0].Args.Block("tls")
	if !ok || tls.String("ca") != "ca.pem" || tls.Has("cert") {
		t.Errorf("tls block: %v, ca %q", ok, tls.String("ca"))
	}
	plugin := cfg.Plugins[0]
	if want := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; plugin.SHA256 != want {
		t.Errorf("sha256 %q, want it in lower case", plugin.SHA256)
	}
	if diff := cmp.Diff(config.Limits{
		Memory: 32 << 20, Time: 50 * time.Millisecond, Fuel: 5_000_000, Output: 64000, RecordOutput: 32 << 10, LogLines: 10, KV: 256 << 10,
	}, plugin.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	if want := `{"a":"x","list":[1,2.5,true,null,"<&>"]}`; string(plugin.Config) != want {
		t.Errorf("config %s, want %s", plugin.Config, want)
	}
	if plugin.Module != "builtin:dew_point" {
		t.Errorf("module %q, want builtin:dew_point", plugin.Module)
	}
	own := cfg.Plugins[1]
	if want := filepath.Join("testdata", "plugins", "own.wasm"); own.Module != want || own.Config != nil {
		t.Errorf("module %q with config %q, want %q without", own.Module, own.Config, want)
	}
}

func TestLoadPipeline(t *testing.T) {
	cfg, diags := config.Load([]string{"testdata/valid.hcl"}, testCatalog(), testHost())
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	p := cfg.Pipelines[0]
	names := []string{p.Name}
	for _, c := range p.Collects {
		names = append(names, c.Kind+"."+c.Name)
	}
	for _, x := range p.Transforms {
		names = append(names, x.Name+"="+x.Plugin+"/"+x.OnError)
	}
	for _, a := range p.Alerts {
		names = append(names, a.Name+"="+a.Topic+"/"+a.Priority.String()+"/"+a.TTL.String())
	}
	for _, s := range p.Syncs {
		names = append(names, fmt.Sprintf("%s.%s/%s/%q", s.RemoteKind, s.RemoteName, s.Every, s.Topics))
	}
	want := []string{
		"cold_chain", "file.motes", "generator.fridge", "dew=dew_point/dead_letter", "own=own/pass",
		"hot=alerts/critical/2h0m0s", "known=seen/normal/0s", `nats.hub/10s/["alerts"]`, "http.cloud/0s/[]",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(config.Batch{MaxRecords: 50, MaxBytes: 64 << 10, MaxWait: 500 * time.Millisecond}, p.Batch); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	second := cfg.Pipelines[1]
	if diff := cmp.Diff(config.Batch{MaxRecords: 500, MaxBytes: 1 << 20, MaxWait: time.Second}, second.Batch); diff != "" || len(second.Syncs) != 0 {
		t.Errorf("batch of the second pipeline (-want +got):\n%s\nand %d syncs", diff, len(second.Syncs))
	}
}

func TestLoadKeyedStore(t *testing.T) {
	cfg, diags := config.Load([]string{"testdata/valid.hcl"}, testCatalog(), testHost())
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	k := cfg.Pipelines[2].Keyed
	if k == nil || cfg.Pipelines[0].Keyed != nil {
		t.Fatal("the wrong pipelines are keyed")
	}
	r := record.Record{ID: "7", DataType: "setpoint", Timestamp: time.Unix(0, 0), Payload: []byte(`{"a":1.0}`)}
	ev := expr.NewEvaluator(testHost())
	if key, err := k.Key.Text(ev, expr.Value{Record: &r}); err != nil || key != "setpoint/7" {
		t.Errorf("key %q, %v", key, err)
	}
	k.Key, k.Range, k.Types[0].Range = nil, hcl.Range{}, hcl.Range{}
	if diff := cmp.Diff(&config.Keyed{
		Conflict: []string{"own", "builtin:latest_wins"}, OnDelete: "update_wins", Interest: []string{"setpoint/*", "order/>"},
		MaxSkew: time.Minute, Journal: 10000,
		Types: []config.KeyedType{{Name: "order", Conflict: []string{"own"}, OnDelete: "manual"}},
	}, k); diff != "" {
		t.Errorf("keyed store (-want +got):\n%s", diff)
	}
}

func TestLoadExpressions(t *testing.T) {
	cfg, diags := config.Load([]string{"testdata/valid.hcl"}, testCatalog(), testHost())
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	ev := expr.NewEvaluator(testHost())
	r := record.Record{ID: "1", DeviceID: "d", DataType: "sensor_reading", Timestamp: time.Unix(0, 0), Payload: []byte(`{"temperature":31}`)}
	hot, known := cfg.Pipelines[0].Alerts[0], cfg.Pipelines[0].Alerts[1]
	for _, a := range []config.Alert{hot, known} {
		if ok, err := a.When.Bool(ev, expr.Value{Record: &r}); err != nil || !ok {
			t.Errorf("alert %q: %v, %v", a.Name, ok, err)
		}
	}
	body, err := known.Message.AppendJSON(ev, nil, expr.Value{Record: &r})
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := record.Parse(body); err != nil || parsed.ID != "1" {
		t.Errorf("the default message is not the record: %s, %v", body, err)
	}
	id, err := cfg.Pipelines[0].Collects[0].Args.Expr("id").Text(ev, expr.Value{JSON: []byte(`{"mote_id":2,"reading":7}`)})
	if err != nil || id != "2-7" {
		t.Errorf("id %q, %v", id, err)
	}
}

func TestLoadPaths(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipeline := func(name string) string {
		return "pipeline \"" + name + "\" {\n  collect \"generator\" \"g\" {\n    payload = {}\n  }\n}\n"
	}
	a := write("conf/a.hcl", pipeline("a"))
	write("conf/b.hcl", pipeline("b"))
	write("conf/.#b.hcl", "what an editor leaves")
	write("conf/notes.txt", "no configuration")
	write("conf/deeper/c.hcl", pipeline("c"))
	d := write("d.hcl", pipeline("d"))
	write("empty/x.txt", "")
	large := write("large.hcl", strings.Repeat("#\n", 1<<19)+"#\n")

	for _, tt := range []struct {
		name      string
		paths     []string
		pipelines string
		errors    string
	}{
		{"folder", []string{filepath.Join(dir, "conf")}, "a b", ""},
		{"folder and file", []string{filepath.Join(dir, "conf"), d}, "a b d", ""},
		{"one file twice", []string{a, filepath.Join(dir, "conf"), filepath.Join(dir, "conf", ".", "a.hcl")}, "a b", ""},
		{"missing", []string{a, filepath.Join(dir, "missing.hcl")}, "a", "Cannot read file"},
		{"empty folder", []string{filepath.Join(dir, "empty")}, "", "No pipeline files"},
		{"too large", []string{large}, "", "File too large"},
		{"nothing", nil, "", "No pipeline"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, diags := config.Load(tt.paths, testCatalog(), testHost())
			var names, summaries []string
			for _, p := range cfg.Pipelines {
				names = append(names, p.Name)
			}
			for _, d := range diags {
				summaries = append(summaries, d.Summary)
			}
			if got := strings.Join(names, " "); got != tt.pipelines {
				t.Errorf("pipelines %q, want %q", got, tt.pipelines)
			}
			if got := strings.Join(summaries, ", "); got != tt.errors {
				t.Errorf("diagnostics %q, want %q", got, tt.errors)
			}
		})
	}
}

func TestEdgeDefaults(t *testing.T) {
	const src = "pipeline \"p\" {\n  collect \"generator\" \"g\" {\n    payload = {}\n  }\n}\n"
	parse := func(host expr.Host) (*config.Config, hcl.Diagnostics) {
		return config.Parse(map[string][]byte{"p.hcl": []byte(src)}, testCatalog(), host)
	}
	cfg, diags := parse(testHost())
	edge := cfg.Edge
	edge.Range, edge.KeysRange, edge.API.Range = hcl.Range{}, hcl.Range{}, hcl.Range{}
	if diff := cmp.Diff(config.Edge{DeviceID: "test-host", DataDir: "data", Durability: "fsync", MaxBytes: 8 << 30, Keep: 24 * time.Hour, QueueWhenFull: "wait"}, edge); diff != "" || len(diags) > 0 {
		t.Errorf("edge (-want +got):\n%s\n%v", diff, diags)
	}
	_, diags = parse(expr.Host{Hostname: func() (string, error) { return "", os.ErrPermission }})
	if len(diags) != 1 || diags[0].Summary != "No default value" || !strings.Contains(diags[0].Detail, `"device_id"`) {
		t.Errorf("a machine without a name: %v", diags)
	}
}

// TestAPolicyOfTheQueueBelongsToTheEdge holds that who gives a pipeline the policy
// of the queue is told where it goes, and that it is one there.
func TestAPolicyOfTheQueueBelongsToTheEdge(t *testing.T) {
	const pipeline = "pipeline \"p\" {\n  %s\n  collect \"generator\" \"g\" {\n    payload = {}\n  }\n}\n"
	parse := func(edge, inPipeline string) hcl.Diagnostics {
		_, diags := config.Parse(map[string][]byte{"p.hcl": fmt.Appendf(nil, edge+pipeline, inPipeline)}, testCatalog(), testHost())
		return diags
	}
	diags := parse("", `when_full = "drop_lowest_priority"`)
	if len(diags) != 1 || diags[0].Summary != "Unsupported value" || diags[0].Subject.Start.Line != 2 ||
		!strings.Contains(diags[0].Detail, `the edge block says what goes of them: queue_when_full = "drop_lowest_priority".`) ||
		strings.Contains(diags[0].Detail, "Did you mean") {
		t.Errorf("%v", diags)
	}
	if diags := parse("edge {\n  queue_when_full = \"drop_lowest_priority\"\n}\n", ""); diags.HasErrors() {
		t.Errorf("what it says to write: %v", diags)
	}
}

func TestConfigJSONKeepsNumbers(t *testing.T) {
	spec := config.Spec{Name: "x", Args: []config.Arg{{Name: "v", Type: config.JSON}}}
	for src, want := range map[string]string{
		`0.1`:                      `0.1`,
		`1e3`:                      `1000`,
		`-12345678901234567`:       `-12345678901234567`,
		`1e-7`:                     `1e-07`,
		`1e300`:                    `1e+300`,
		`0`:                        `0`,
		`{ b = [], a = { c = 1 }}`: `{"a":{"c":1},"b":[]}`,
		`"a\n\"${"é"}"`:            `"a\n\"é"`,
		`[null]`:                   `[null]`,
		`null`:                     ``,
	} {
		a, diags := config.ParseBlock(spec, []byte("v = "+src+"\n"), "x.hcl")
		if diags.HasErrors() {
			t.Errorf("%s: %s", src, diags)
			continue
		}
		if got := string(a.JSON("v")); got != want || want != "" && !json.Valid(a.JSON("v")) {
			t.Errorf("%s became %s, want %s", src, got, want)
		}
	}
}

func TestArgs(t *testing.T) {
	src := "path = \"x\"\nformat = \"csv\"\ncolumns = { a = \"int\" }\n"
	a, diags := config.ParseBlock(fileSpec(), []byte(src), "b.hcl")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if a.Expr("id") != nil || a.Has("id") || !a.Has("header") || a.Given("header") || !a.Bool("header") {
		t.Error("an argument that was not written is taken for one that was, or a default is missing")
	}
	if diff := cmp.Diff(map[string]string{"a": "int"}, a.Map("columns")); diff != "" {
		t.Error(diff)
	}
	if got := a.ArgRange("format").Start.Line; got != 2 {
		t.Errorf("format stands on line %d, want 2", got)
	}
	if got := a.ArgRange("id"); got != a.Range {
		t.Errorf("the range of what was not written is %v, want the header's", got)
	}
	for name, misuse := range map[string]func(){
		"undeclared":  func() { a.String("nope") },
		"wrong type":  func() { a.Int("path") },
		"wrong block": func() { a.Block("nope") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse()
		})
	}
}

// TestKeysOfAllPluginsAreBounded counts a plugin once for each pipeline.
func TestKeysOfAllPluginsAreBounded(t *testing.T) {
	file := func(pipelines int) map[string][]byte {
		var b strings.Builder
		b.WriteString("plugin \"a\" {\n  module = \"a.wasm\"\n  allow  = [\"kv\"]\n  limits { kv = \"256KiB\" }\n}\nplugin \"b\" { module = \"b.wasm\" }\n")
		for i := range pipelines {
			fmt.Fprintf(&b, `pipeline "p%d" {
  collect "file" "f" { path = "x" }
  transform "a" { plugin = plugin.a }
  transform "b" { plugin = plugin.b }
  transform "again" { plugin = plugin.a }
}
`, i)
		}
		return map[string][]byte{"x.hcl": []byte(b.String())}
	}
	if _, diags := config.Parse(file(8), testCatalog(), testHost()); len(diags) > 0 {
		t.Error(diags)
	}
	_, diags := config.Parse(file(10), testCatalog(), testHost())
	if len(diags) != 1 || diags[0].Summary != "Too many keys" || diags[0].Subject.Start.Line != 7+8*6+2 {
		t.Errorf("told %v", diags)
	}
}

// TestBlocksKeepTheirText holds what tells a changed block from one that is as
// it was.
func TestBlocksKeepTheirText(t *testing.T) {
	cfg, diags := config.Load([]string{"testdata/valid.hcl"}, testCatalog(), testHost())
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	src, err := os.ReadFile("testdata/valid.hcl")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{`plugin "own"`: cfg.Plugins[1].Text, `remote "http"`: cfg.Remotes[1].Text, `pipeline "cold_chain"`: cfg.Pipelines[0].Text}
	for begins, text := range texts {
		block, ok := strings.CutPrefix(text, "testdata\n")
		if !ok || !strings.HasPrefix(block, begins) || !strings.HasSuffix(block, "\n}") || !strings.Contains(string(src), block+"\n") {
			t.Errorf("the text of %s is %q", begins, text)
		}
	}
}
