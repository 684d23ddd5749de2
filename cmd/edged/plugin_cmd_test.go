package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/plugindev/conformance"
	"github.com/edged/edged/plugins"
)

// wantText compares what a command printed with what it should.
func wantText(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPluginInspect(t *testing.T) {
	dir := t.TempDir()
	r := edged(t, dir, "", "plugin", "inspect", "builtin:deadband")
	r.wantCode(t, exitOK)
	for _, want := range []string{
		"file     builtin:deadband\nname     deadband 1.0.0\n", "kinds    transform\nneeds    allow = [\"kv\"]\n",
		"\nmetered  ", "of memory"[3:], "\nCONFIG       TYPE     DEFAULT\nfields       object   {}  ", "It refuses the config: fields must name",
		"\nedged_v1.kv_get  (i32, i32, i32, i32) -> (i32)       kv\n", "\nedged_transform  func (i32, i32) -> (i64)\n",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}

	code, _ := plugins.Builtin("deadband")
	writeFile(t, filepath.Join(dir, "half.wasm"), string(code[:len(code)-6000]))
	r = edged(t, dir, "", "plugin", "inspect", "half.wasm")
	r.wantCode(t, exitPlugin)
	if !strings.Contains(r.stdout, "kv_get") || !strings.Contains(r.stdout, "An edge would not load it:\n  compiling: invalid module: it ends too early") {
		t.Errorf("stdout %s", r.stdout)
	}
	if r.stderr != "edged: half.wasm cannot be loaded\n" {
		t.Errorf("stderr %q", r.stderr)
	}

	r = edged(t, dir, "", "plugin", "inspect", "half.wasm", "--json")
	r.wantCode(t, exitPlugin)
	var report plugindev.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) != 1 || len(report.SHA256) != 64 || report.Bytes != len(code)-6000 {
		t.Errorf("report %+v", report)
	}

	r = edged(t, dir, "", "plugin", "inspect", "builtin:dew_point", "--config", `{"humidty":"h"}`)
	r.wantCode(t, exitPlugin)
	if !strings.Contains(r.stdout, "It refuses the config: unknown key humidty") {
		t.Errorf("stdout %s", r.stdout)
	}
}

const weatherRecords = `{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-11-27T07:00:00Z","payload":{"temperature":20,"humidity":50}}
{"temperature":20,"humidity":0}
`

func TestPluginTest(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in.ndjson"), weatherRecords)
	test := func(args ...string) result {
		return edged(t, dir, "", append([]string{"plugin", "test"}, args...)...)
	}
	r := test("builtin:dew_point", "--records", "in.ndjson", "--expect", "want.ndjson", "--update", "--limits", "fuel=100000")
	r.wantCode(t, exitOK)
	text, fuel, _ := strings.Cut(r.stdout, ", 1 record out, ")
	wantText(t, `1    a  emit
     + payload.dew_point  9.26
2    line-2  error  humidity is 0, it must be above 0 and up to 105 percent

2 records (1 emit, 1 error)`, text)
	if !strings.HasSuffix(fuel, " fuel a record\nWritten to want.ndjson: read it before you trust it.\n") {
		t.Errorf("it ends with %q", fuel)
	}
	wantText(t, `{"number":1,"id":"a","action":"emit","records":[{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-11-27T07:00:00Z","payload":{"temperature":20,"humidity":50,"dew_point":9.26}}]}
{"number":2,"id":"line-2","action":"error","reason":"humidity is 0, it must be above 0 and up to 105 percent"}
`, readFile(t, filepath.Join(dir, "want.ndjson")))

	r = test("builtin:dew_point", "--records", "in.ndjson", "--expect", "want.ndjson", "--brief")
	r.wantCode(t, exitOK)
	if !strings.HasSuffix(r.stdout, "All as expected.\n") || strings.Contains(r.stdout, "emit\n") {
		t.Errorf("stdout %s", r.stdout)
	}
	r = test("builtin:dew_point", "--records", "in.ndjson", "--expect", "want.ndjson", "--config", `{"decimals":1}`)
	r.wantCode(t, exitPlugin)
	if !strings.Contains(r.stdout, "     not as expected: records.0.payload.dew_point is 9.3, and should be 9.26\n") || r.stderr != "edged: 1 thing not as expected\n" {
		t.Errorf("stdout %s\nstderr %s", r.stdout, r.stderr)
	}

	r = test("builtin:dew_point", "--records", "in.ndjson", "--json")
	r.wantCode(t, exitOK)
	var answer testAnswer
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil {
		t.Fatal(err)
	}
	if !answer.Passed || len(answer.Results) != 2 || answer.Results[0].Action != "emit" || answer.Summary.Inputs != 2 {
		t.Errorf("answer %+v", answer)
	}
}

func TestPluginTestFormats(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in.csv"), "temperature,humidity\n20,50\n")
	r := edged(t, dir, "", "plugin", "test", "builtin:dew_point", "--records", "in.csv", "--format", "csv", "--columns", "temperature=number,humidity=number")
	r.wantCode(t, exitOK)
	if !strings.Contains(r.stdout, "+ payload.dew_point  9.26") {
		t.Errorf("stdout %s", r.stdout)
	}
	r = edged(t, dir, weatherRecords, "plugin", "test", "builtin:flatten", "--records", "-", "--format", "payload")
	r.wantCode(t, exitOK)
	if !strings.Contains(r.stdout, "+ payload.payload_temperature  20") && !strings.Contains(r.stdout, "payload.temperature\"  20") {
		t.Errorf("stdout %s", r.stdout)
	}
	// Faults are shown one by one, and are the exit code.
	r = edged(t, dir, strings.Repeat(`{"a":{"b":1}}`+"\n", 20), "plugin", "test", "builtin:flatten", "--records", "-", "--limits", "time=1s,output=16B")
	r.wantCode(t, exitPlugin)
	if strings.Count(r.stdout, "  fault  output: ") != 20 || r.stderr != "edged: 20 faults\n" {
		t.Errorf("stdout %s\nstderr %s", r.stdout, r.stderr)
	}
}

func TestPluginTestConflicts(t *testing.T) {
	r := edged(t, t.TempDir(), `{"key":"w/7","base":{"a":1,"b":1,"c":0},"local":{"a":2,"b":1,"c":0},"remote":{"a":1,"b":{"x":2},"c":0}}
{"local":{"a":1},"remote":{"deleted":true}}
`, "plugin", "test", "builtin:merge", "--conflicts", "-")
	r.wantCode(t, exitOK)
	text, _, _ := strings.Cut(r.stdout, ", 1 value out")
	wantText(t, `1    w/7  merged
        BASE  LOCAL  REMOTE   RESULT
     a     1      2  1        2
     b     1      1  {"x":2}  {"x":2}
2    key  manual  deleted on one side and changed on the other
        NO BASE  LOCAL  REMOTE DELETED  RESULT
     a               1

2 conflicts (1 manual, 1 merged)`, text)
}

func TestPluginVerify(t *testing.T) {
	dir := t.TempDir()
	r := edged(t, dir, "", "plugin", "verify", "builtin:merge", "--rounds", "20", "--save", "found")
	r.wantCode(t, exitOK)
	for _, want := range []string{
		"pass  abi       it loads\n", "warn  resolver  no-op: what only the remote side changed stays, r(b,b,x) = x\n",
		"\n  edged plugin test builtin:merge --conflicts found/resolver-no-op-what-only-the-remote-side-changed-stays-r-b-b.ndjson\n",
		"\nbuiltin:merge: 13 passed, 0 failed, 2 warnings (seed 1, 20 rounds)\n",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	// What it has found can be run again as it says.
	saved, err := filepath.Glob(filepath.Join(dir, "found", "*.ndjson"))
	if err != nil || len(saved) != 2 {
		t.Fatalf("saved: %v %v", saved, err)
	}
	again := edged(t, dir, "", "plugin", "test", "builtin:merge", "--conflicts", saved[0])
	again.wantCode(t, exitOK)
	if !strings.Contains(again.stdout, "  manual  deleted on one side") {
		t.Errorf("stdout %s", again.stdout)
	}

	writeFile(t, filepath.Join(dir, "no.wasm"), "no module")
	r = edged(t, dir, "", "plugin", "verify", "no.wasm", "--json")
	r.wantCode(t, exitPlugin)
	var report conformance.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Failed != 1 || !strings.Contains(report.Checks[0].Detail, "does not begin like a WebAssembly module") {
		t.Errorf("report %+v", report)
	}
}

func TestPluginBench(t *testing.T) {
	dir := t.TempDir()
	r := edged(t, dir, "", "plugin", "bench", "builtin:dew_point", "--slice", "1ms", "--runs", "3")
	r.wantCode(t, exitOK)
	for _, want := range []string{"builtin:dew_point on 500 records of ", "NS A RECORD", "\nplugin, not metered ", "\nnative Go: check the payload and copy it ", "\nmetering  ", "\nfuel      ", " from the cache\n", "\ninstance  "} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	r = edged(t, dir, "", "plugin", "bench", "builtin:latest_wins", "--slice", "1ms", "--runs", "1", "--json")
	r.wantCode(t, exitOK)
	var b plugindev.Bench
	if err := json.Unmarshal([]byte(r.stdout), &b); err != nil {
		t.Fatal(err)
	}
	if b.Inputs != benchInputs || b.Actions["local"] != benchInputs || len(b.Arms) != 5 || b.Fuel == 0 {
		t.Errorf("bench %+v", b)
	}
}

// TestPluginUsage holds that a wrong command line of a plugin command is said to
// be one.
func TestPluginUsage(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "r.ndjson"), "{}\n{\n")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no module":        {[]string{"inspect"}, "plugin inspect needs a .wasm file"},
		"two modules":      {[]string{"inspect", "a", "b"}, "takes one .wasm file"},
		"no such file":     {[]string{"inspect", "a.wasm"}, "a.wasm"},
		"no such builtin":  {[]string{"inspect", "builtin:dew"}, "there are: aggregate, "},
		"capability":       {[]string{"inspect", "builtin:flatten", "--allow", "disk"}, "there are: clock, "},
		"limit":            {[]string{"inspect", "builtin:flatten", "--limits", "cpu=1"}, "there are: memory, time"},
		"size of a limit":  {[]string{"inspect", "builtin:flatten", "--limits", "memory=much"}, "--limits memory=much"},
		"config":           {[]string{"inspect", "builtin:flatten", "--config", "["}, "--config: "},
		"nothing to test":  {[]string{"test", "builtin:flatten"}, "needs --records FILE or --conflicts FILE"},
		"nothing at all":   {[]string{"test"}, "there is no "},
		"update what":      {[]string{"test", "builtin:flatten", "--records", "r.ndjson", "--update"}, "--update writes the file of --expect"},
		"a line":           {[]string{"test", "builtin:flatten", "--records", "r.ndjson"}, "r.ndjson: line 2: "},
		"format":           {[]string{"test", "builtin:flatten", "--records", "r.ndjson", "--format", "xml"}, "ndjson, payload or csv"},
		"columns of what":  {[]string{"test", "builtin:flatten", "--records", "r.ndjson", "--columns", "a=number"}, "for --format csv"},
		"now":              {[]string{"test", "builtin:flatten", "--records", "r.ndjson", "--now", "noon"}, "2026-11-22T06:15:00Z"},
		"rounds":           {[]string{"verify", "builtin:flatten", "--rounds", "0"}, "at least 1"},
		"runs":             {[]string{"bench", "builtin:flatten", "--runs", "0"}, "at least 1"},
		"no such command":  {[]string{"tset"}, `did you mean "test"?`},
		"both inputs":      {[]string{"test", "builtin:merge", "--records", "r.ndjson", "--conflicts", "r.ndjson"}, "records conflicts"},
		"no such conflict": {[]string{"test", "builtin:merge", "--conflicts", "r.ndjson"}, "r.ndjson: line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			r := edged(t, dir, "", append([]string{"plugin"}, c.args...)...)
			if name != "both inputs" { // cobra's own
				r.wantCode(t, exitUsage)
			}
			if r.stdout != "" || !strings.Contains(r.stderr, c.want) {
				t.Errorf("stdout %q, stderr %q, want %q", r.stdout, r.stderr, c.want)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something was left behind: %v %v", entries, err)
	}
}

// TestPluginExtism holds that modules of the Extism ABI are looked at, tested and
// verified as far as what is said of ours holds for them.
func TestPluginExtism(t *testing.T) {
	dir := t.TempDir()
	code := readFile(t, filepath.Join("..", "..", "engine", "wasm", "testdata", "extism", "assemblyscript", "guest.wasm"))
	writeFile(t, filepath.Join(dir, "guest.wasm"), code)
	r := edged(t, dir, "", "plugin", "inspect", "guest.wasm")
	r.wantCode(t, exitOK)
	if !strings.Contains(r.stdout, "\nkinds      transform\nabi        Extism\nneeds      allow = [\"kv\", \"log\"]\n") {
		t.Errorf("stdout %s", r.stdout)
	}
	r = edged(t, dir, "{\"a\":1}\n", "plugin", "test", "guest.wasm", "--records", "-", "--extism-function", "refuse")
	r.wantCode(t, exitOK)
	if !strings.Contains(r.stdout, `1    line-1  error  not {"a":1} (code 3)`) {
		t.Errorf("stdout %s", r.stdout)
	}
	r = edged(t, dir, "", "plugin", "verify", "guest.wasm", "--extism-function", "nothing", "--rounds", "5")
	r.wantCode(t, exitOK)
	if !strings.Contains(r.stdout, " 0 failed, 0 warnings") || strings.Contains(r.stdout, "frame") {
		t.Errorf("stdout %s", r.stdout)
	}
}
