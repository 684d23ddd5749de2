package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/hub"
)

const (
	damagedRecords = 3000
	damageRounds   = 8 // unless EDGED_TORTURE_ROUNDS says otherwise
)

// damageRig is the data of an edge that has collected and never met its hub.
type damageRig struct {
	data, input string
}

func newDamageRig(t *testing.T) *damageRig {
	t.Helper()
	r := &damageRig{data: t.TempDir(), input: filepath.Join(t.TempDir(), "in.ndjson")}
	var text strings.Builder
	for i := range damagedRecords {
		fmt.Fprintf(&text, `{"id":"r%d","device_id":"d","data_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"n":%d,"fill":%q}}`+"\n",
			i+1, i+1, strings.Repeat("x", 1900))
	}
	if err := os.WriteFile(r.input, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open(t.Context(), r.config(t, "nats-leaf://"+freePort(t)), engine.Options{DataDir: r.data})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	until(t, "everything is collected and every message moved", func() bool {
		s := e.Status()
		return s.Totals.Stored == damagedRecords && s.Queue.ByPriority["normal"] == damagedRecords/10
	})
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *damageRig) config(t *testing.T, hub string) *config.Config {
	t.Helper()
	cfg, diags := config.Parse(map[string][]byte{"test.hcl": fmt.Appendf(nil, `
edge { device_id = "damaged" }
remote "nats" "hub" { urls = [%q] }
pipeline "p" {
  collect "file" "f" { path = %q }
  alert "tenth" {
    when  = record.payload.n %% 10 == 0
    topic = "tenths"
  }
  sync { to = remote.nats.hub }
}`, hub, r.input)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	cfg.Edge.MaxBytes = 10 << 20 // small blocks, so that there are several
	return cfg
}

// damage changes one file of a store at random and says what it did.
func damage(t *testing.T, dir string, rng *rand.Rand) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if name := d.Name(); err == nil && d.Type().IsRegular() && name != "lock" && name != "reserve" {
			files = append(files, path)
			if strings.HasSuffix(name, ".blk") && strings.Contains(path, "EDGED_RECORDS") {
				files = append(files, path, path, path, path) // there is the most to break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := files[rng.IntN(len(files))]
	name := strings.TrimPrefix(path, dir)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var what string
	switch k := rng.IntN(8); {
	case len(data) == 0 || k == 0 && strings.HasSuffix(path, ".blk"):
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return "removed " + name
	case k < 3:
		at := rng.IntN(len(data))
		data, what = data[:at], fmt.Sprintf("cut %s at %d of %d", name, at, len(data))
	default:
		what = "flipped in " + name
		for range 1 + rng.IntN(3) {
			at := rng.IntN(len(data))
			data[at] ^= 1 << rng.IntN(8)
			what += fmt.Sprintf(" %d", at)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

// TestDamage breaks files of a real store at random. The edge starts, sends
// everything that was not hit, each record once and in order, and the audit names
// exactly what is missing, with the cause.
func TestDamage(t *testing.T) {
	t.Parallel()
	rig := newDamageRig(t)
	seed, rounds := uint64(time.Now().UnixNano()), damageRounds
	for name, v := range map[string]any{"EDGED_TORTURE_SEED": &seed, "EDGED_TORTURE_ROUNDS": &rounds} {
		if text := os.Getenv(name); text != "" {
			if _, err := fmt.Sscan(text, v); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	t.Logf("EDGED_TORTURE_SEED=%d", seed)
	t.Run("rounds", func(t *testing.T) {
		for round := range rounds {
			t.Run(strconv.Itoa(round), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(rig.data)); err != nil {
					t.Fatal(err)
				}
				copyTimes(t, rig.data, dir)
				t.Log(damage(t, dir, rand.New(rand.NewPCG(seed, uint64(round)))))
				rig.drainDamaged(t, dir)
			})
		}
	})
}

// copyTimes gives the files of a copy the times of the original: the edge knows
// by them what it need not read.
func copyTimes(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, strings.TrimPrefix(path, from)), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *damageRig) drainDamaged(t *testing.T, dir string) {
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	e, err := engine.Open(t.Context(), r.config(t, h.LeafURL()), engine.Options{DataDir: dir, UntilDrained: true})
	if err != nil {
		t.Fatalf("the edge does not start: %v", err)
	}
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := e.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	at := map[int]int{}
	order := 0
	for _, id := range (&restoreRig{t: t, hub: h}).ids() {
		n, err := strconv.Atoi(strings.TrimPrefix(id, "r"))
		if err != nil {
			t.Fatal(err)
		}
		if at[n]++; at[n] > 1 {
			t.Errorf("%s arrived %d times", id, at[n])
		}
		if n < order {
			t.Errorf("%s arrived behind r%d", id, order)
		}
		order = n
	}
	for _, row := range a.Pipelines {
		if len(row.Duplicates)+len(row.Damaged) > 0 || row.Error != "" {
			t.Errorf("the audit says %+v", row)
		}
		for _, g := range row.Gaps {
			if !slices.ContainsFunc(row.Lost, func(l engine.Loss) bool { return l.First <= g[0] && g[1] <= l.Last && l.Cause != "" }) {
				t.Errorf("%s: the gap %v has no cause: %+v", row.Pipeline, g, row.Lost)
			}
		}
		if row.Pipeline != "p" {
			continue
		}
		var missing [][2]uint64
		for n := range damagedRecords {
			if k := len(missing) - 1; at[n+1] > 0 {
				continue
			} else if k >= 0 && missing[k][1] == uint64(n) {
				missing[k][1]++
			} else {
				missing = append(missing, [2]uint64{uint64(n + 1), uint64(n + 1)})
			}
		}
		if !slices.Equal(missing, row.Gaps) {
			t.Errorf("missing at the hub are %v, the audit says %v, lost are %+v", missing, row.Gaps, row.Lost)
		}
		t.Logf("missing %v, lost %+v", missing, row.Lost)
	}
}
