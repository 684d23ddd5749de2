package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/collect"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/plugindev/conformance"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// guest builds testdata/guest, once: a Go program, because every test run has
// that compiler.
var guest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "edged-guest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	module := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", module, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest: %w\n%s", err, out)
	}
	return os.ReadFile(module)
})

// cache holds the machine code of the guest, which every host here runs.
var cache = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "edged-cache") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := cache(); err != nil || os.RemoveAll(dir) != nil {
		code = 1
	}
	os.Exit(code)
}

func testHost(t *testing.T) *wasm.Host {
	t.Helper()
	dir, err := cache()
	if err != nil {
		t.Fatal(err)
	}
	host, err := wasm.NewHost(t.Context(), wasm.Options{CacheDir: dir, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return host
}

func verify(t *testing.T, mode string, rounds int) *conformance.Report {
	t.Helper()
	code, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	m := &plugindev.Module{Name: "guest", Code: code, Config: json.RawMessage(`{"mode":"` + mode + `"}`), Limits: wasm.Limits{Time: 20 * time.Second}}
	r, err := conformance.Verify(t.Context(), testHost(t), conformance.Options{Module: m, Seed: 7, Rounds: rounds})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// notPassed lists the checks that did not pass, each with its status.
func notPassed(r *conformance.Report) []string {
	var out []string
	for _, c := range r.Checks {
		if c.Status != conformance.Pass {
			out = append(out, string(c.Status)+": "+c.Name)
		}
	}
	return out
}

const (
	remoteOnly = "no-op: what only the remote side changed stays, r(b,b,x) = x"
	localOnly  = "no-op: what only the local side changed stays, r(b,x,b) = x"
	same       = "idempotence: both sides the same stay as they are, r(b,x,x) = x"
	symmetry   = "symmetry: both sides decide the same, r(b,x,y) = r(b,y,x)"
)

// TestFindsWhatIsWrong holds that each mistake of the guest is found, and by the
// check that is about it.
func TestFindsWhatIsWrong(t *testing.T) {
	for mode, want := range map[string][]string{
		"nothing": nil,
		"misaligned": {
			"fail: inboxes of any size", "fail: it refuses an inbox past its memory, and goes on", "warn: a call without records",
			"fail: unusual records, one by one", "fail: random records: each answered, none a fault", "fail: full calls: 64 records, and 256 KiB",
			"warn: the largest record, in the default memory",
			"fail: unusual conflicts, one by one", "fail: random conflicts: each answered, none a fault", "warn: the largest values, in the default memory",
		},
		"leaks":                     {"fail: inboxes of any size"},
		"trap on a large inbox":     {"warn: it refuses an inbox past its memory, and goes on"},
		"takes any config":          {"warn: it refuses a config it does not know"},
		"lies about its kinds":      {"fail: it describes itself"},
		"gives up on an empty call": {"warn: a call without records"},
		"skips by its parts":        {"fail: bytes it does not know, at the end of a frame"},
		"reads reserved fields":     {"fail: reserved fields that are not zero"},
		"remembers": {
			"fail: an instance that was used before gives the same answers",
			"fail: however records are split into calls, the answers are the same",
			"fail: determinism: fresh instances, and however conflicts are split",
			"warn: " + same, "warn: " + remoteOnly, "warn: " + localOnly,
		},
		"looks at the whole call": {"fail: however records are split into calls, the answers are the same"},
		"forgets the fourth": {
			"fail: random records: each answered, none a fault", "fail: full calls: 64 records, and 256 KiB",
		},
		"traps on a large number": {
			"fail: unusual records, one by one", "fail: random records: each answered, none a fault", "fail: full calls: 64 records, and 256 KiB",
		},
		"emits no object": {
			"fail: unusual records, one by one", "fail: random records: each answered, none a fault", "fail: full calls: 64 records, and 256 KiB",
		},
		"reads numbers as floats": {"warn: numbers, text and members it does not know stay as they are"},
		"slow on large ones":      {"warn: what a record costs grows with its size, not faster"},
		"merges to a constant": {
			"fail: " + same, "fail: " + remoteOnly, "fail: " + localOnly,
			"fail: a merge keeps numbers, text and members it does not know",
		},
		// What is wrong is told, though a warning comes first.
		"takes a side, or neither": {
			"fail: " + same, "fail: " + remoteOnly, "fail: " + localOnly, "warn: " + symmetry,
			"fail: a merge keeps numbers, text and members it does not know",
		},
		"always local":  {"warn: " + remoteOnly, "warn: " + symmetry},
		"asks a person": {"warn: " + same, "warn: " + remoteOnly, "warn: " + localOnly},
		"traps on null": {"fail: unusual conflicts, one by one", "fail: random conflicts: each answered, none a fault"},
	} {
		t.Run(mode, func(t *testing.T) {
			r := verify(t, mode, 12)
			if diff := cmp.Diff(want, notPassed(r)); diff != "" {
				t.Errorf("not passed (-want +got):\n%s", diff)
				for _, c := range r.Checks {
					if c.Status != conformance.Pass {
						t.Logf("%s: %s\n%s%s", c.Name, c.Detail, c.Records, c.Conflicts)
					}
				}
			}
		})
	}
}

// TestSmallestExample holds that an example is small, and that the plugin can be
// run on it as it is.
func TestSmallestExample(t *testing.T) {
	found := 0
	for _, c := range verify(t, "traps on a large number", 12).Checks {
		if c.Records == "" {
			continue
		}
		found++
		records, err := collect.Text{}.Records([]byte(c.Records))
		if err != nil {
			t.Fatalf("%s: %v in %s", c.Name, err, c.Records)
		}
		if len(records) != 1 || len(records[0].Payload) > len(`{"temperature":1e400}`) || !strings.Contains(string(records[0].Payload), "1e400") {
			t.Errorf("%s: the example is %s", c.Name, c.Records)
		}
	}
	for _, c := range verify(t, "traps on null", 12).Checks {
		if c.Conflicts == "" {
			continue
		}
		found++
		conflicts, err := plugindev.ParseConflicts([]byte(c.Conflicts))
		if err != nil {
			t.Fatalf("%s: %v in %s", c.Name, err, c.Conflicts)
		}
		if len(conflicts) != 1 || !strings.Contains(string(conflicts[0].Local.Body), "null") {
			t.Errorf("%s: the example is %s", c.Name, c.Conflicts)
		}
	}
	if found != 4 {
		t.Errorf("%d examples, want 4", found)
	}
}

// TestSameSeedSameReport holds that a failure comes again.
func TestSameSeedSameReport(t *testing.T) {
	if diff := cmp.Diff(verify(t, "forgets the fourth", 5), verify(t, "forgets the fourth", 5)); diff != "" {
		t.Error(diff)
	}
}

// TestShippedPlugins holds that what we ship passes, and that each warning is one
// we know.
func TestShippedPlugins(t *testing.T) {
	configs := map[string]string{
		"aggregate": `{"fields":["temperature"],"records":3}`,
		"convert":   `{"fields":{"temperature":"degC to degF"}}`,
		"deadband":  `{"fields":{"temperature":"0.5"}}`,
		"fields":    `{"drop":["humidity"]}`,

		"merge with sums": `{"fields":{"temperature":"sum","a":"sum","tags":"union"}}`,
	}
	known := map[string][]string{
		"client_wins": {"warn: " + remoteOnly, "warn: " + symmetry},
		"server_wins": {"warn: " + localOnly, "warn: " + symmetry},
		// Hub order decides where a clock is not known.
		"latest_wins": {"warn: " + symmetry},
		"manual":      {"warn: " + same, "warn: " + remoteOnly, "warn: " + localOnly},
		// A person is asked when one side was deleted.
		"merge": {"warn: " + remoteOnly, "warn: " + localOnly},
		// Equal changes of a sum are two.
		"merge with sums": {"warn: " + same, "warn: " + remoteOnly, "warn: " + localOnly},
	}
	for _, name := range append(plugins.Names(), "merge with sums") {
		t.Run(name, func(t *testing.T) {
			plugin, _, _ := strings.Cut(name, " ")
			code, _ := plugins.Builtin(plugin)
			m := &plugindev.Module{Name: plugin, Code: code}
			if config := configs[name]; config != "" {
				m.Config = json.RawMessage(config)
			}
			r, err := conformance.Verify(t.Context(), testHost(t), conformance.Options{Module: m, Seed: 1, Rounds: 60, Records: plugindev.SampleRecords(20)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(known[name], notPassed(r)); diff != "" {
				t.Errorf("not passed (-want +got):\n%s", diff)
				for _, c := range r.Checks {
					t.Logf("%s %s: %s", c.Status, c.Name, c.Detail)
				}
			}
		})
	}
}
