package engine

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
)

// moteSettings is what is kept of a sensor: what its readings have it revise, and
// a setpoint that the hub decides.
type moteSettings struct {
	Readings int         `json:"readings"`
	Total    int         `json:"total"` // of hundredths of a degree
	Hottest  json.Number `json:"hottest"`
	Coldest  json.Number `json:"coldest"`
	Marks    []int       `json:"marks"` // readings at which something was noted
	Setpoint json.Number `json:"setpoint"`
	Place    string      `json:"place"`
}

// mergesMotes says who wins in which setting.
const mergesMotes = `
pipeline "settings" {
  store "keyed" {
    conflict = [plugin.motes, "manual"]
  }
  sync {
    to = remote.nats.hub
  }
}
plugin "motes" {
  module = "builtin:merge"
  config = {
    fields = {
      "readings" = "sum", "total" = "sum", "hottest" = "max", "coldest" = "min", "marks" = "union", "setpoint" = "server"
    }
  }
}
`

type moteReading struct {
	number             int
	temperature, label string
}

func (m *moteSettings) add(readings []moteReading) {
	value := func(n json.Number) float64 {
		f, err := n.Float64()
		if err != nil {
			panic(err) // it is from the file
		}
		return f
	}
	for _, r := range readings {
		t := json.Number(r.temperature)
		m.Readings++
		m.Total += int(math.Round(value(t) * 100))
		if value(t) > value(m.Hottest) {
			m.Hottest = t
		}
		if value(t) < value(m.Coldest) {
			m.Coldest = t
		}
		if r.number%50 == 1 || r.label == "1" && r.number%10 == 0 {
			m.Marks = append(m.Marks, r.number)
		}
	}
}

// readMotes reads the readings of every sensor of the file.
func readMotes(t *testing.T) map[string][]moteReading {
	t.Helper()
	f, err := os.Open("../pipelines/data/sensors-multi-hop.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	motes := map[string][]moteReading{}
	for _, row := range rows[1:] {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		motes[row[1]] = append(motes[row[1]], moteReading{n, row[4], row[5]})
	}
	return motes
}

// operator is a program at the hub that knows nothing of envelopes but that the
// value is in their body.
type operator struct {
	t  *testing.T
	kv jetstream.KeyValue
}

func newOperator(t *testing.T, url string) *operator {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), keyed.HubBucket)
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t, kv}
}

func (o *operator) read(mote string) (m moteSettings, revision uint64) {
	o.t.Helper()
	e, err := o.kv.Get(o.t.Context(), "settings.mote."+mote)
	if err != nil {
		o.t.Fatal(err)
	}
	var v struct {
		Envelope string
		Body     json.RawMessage
	}
	body := e.Value()
	if err := json.Unmarshal(body, &v); err == nil && v.Envelope != "" {
		body = v.Body
	}
	if err := json.Unmarshal(body, &m); err != nil {
		o.t.Fatal(err)
	}
	return m, e.Revision()
}

// decide changes the setpoint of a sensor, in whatever its settings are now.
func (o *operator) decide(mote, setpoint string) {
	o.t.Helper()
	for {
		m, revision := o.read(mote)
		m.Setpoint = json.Number(setpoint)
		_, err := o.kv.Update(o.t.Context(), "settings.mote."+mote, marshal(o.t, m), revision)
		if err == nil {
			return
		}
		if !errors.Is(err, jetstream.ErrKeyExists) { // else an edge was faster
			o.t.Fatal(err)
		}
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// revise changes settings at the edge as a careful client does.
func (k *keyedEdge) revise(mote string, change func(*moteSettings)) {
	k.t.Helper()
	for {
		status, body, etag := k.ask("GET", "/keyed/settings/mote/"+mote, "")
		if status != 200 {
			k.t.Fatalf("GET %s: %d %s", mote, status, body)
		}
		var m moteSettings
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			k.t.Fatal(err)
		}
		change(&m)
		status, body, _ = k.ask("PUT", "/keyed/settings/mote/"+mote, string(marshal(k.t, m)), "If-Match", etag)
		if status == 200 {
			return
		}
		if status != 412 { // else the hub's came in between
			k.t.Fatalf("PUT %s: %d %s", mote, status, body)
		}
	}
}

func (k *keyedEdge) settled() bool {
	s := k.e.Status().Pipelines[0].Keyed
	return s.CaughtUp != nil && *s.CaughtUp && s.Pending == 0
}

// TestMotes has two edges that hear the same sensors revise their settings, and
// an operator at the hub, all of them with and without a link: what becomes of a
// day of real readings is the same everywhere, and is what was read.
func TestMotes(t *testing.T) {
	t.Parallel()
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	motes, op := readMotes(t), newOperator(t, h.ClientURL())
	want := map[string]*moteSettings{}
	for mote := range motes {
		want[mote] = &moteSettings{Hottest: "-273.15", Coldest: "1000", Setpoint: "20.0", Marks: []int{}, Place: "unknown"}
		if _, err := op.kv.Put(t.Context(), "settings.mote."+mote, marshal(t, want[mote])); err != nil {
			t.Fatal(err)
		}
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	start := func(leaf string) (edges []*keyedEdge) {
		for i, dir := range dirs {
			edges = append(edges, startKeyedEdge(t, string(rune('a'+i)), leaf, dir, mergesMotes))
		}
		return edges
	}
	stop := func(edges []*keyedEdge) {
		for _, e := range edges {
			e.stop()
		}
	}
	// All have seen what the operator began with.
	edges := start(h.LeafURL())
	converge(t, edges, op, want)

	const phases, window = 6, 10
	for phase := range phases {
		offline := phase%2 == 0
		if offline {
			stop(edges)
			edges = start("nats-leaf://127.0.0.1:1")
		}
		for mote, all := range motes {
			part := all[len(all)*phase/phases : len(all)*(phase+1)/phases]
			want[mote].add(part)
			n := 0
			for some := range slices.Chunk(part, window) {
				edges[n%2].revise(mote, func(m *moteSettings) {
					m.add(some)
					if offline { // and somebody there turns the knob
						m.Setpoint = json.Number(strconv.Itoa(n))
					}
				})
				if n++; n%16 == 8 {
					want[mote].Setpoint = json.Number(fmt.Sprintf("%d.%02d", phase+10, n%100))
					op.decide(mote, want[mote].Setpoint.String())
				}
			}
		}
		if offline {
			stop(edges)
			edges = start(h.LeafURL())
		}
		converge(t, edges, op, want)
	}
	resolved := uint64(0)
	for _, e := range edges {
		s := e.e.Status().Pipelines[0].Keyed
		resolved += s.Resolved
		if s.Conflicts > 0 {
			t.Errorf("%d conflicts wait for a person", s.Conflicts)
		}
	}
	if resolved == 0 {
		t.Error("nothing was merged")
	}
}

// converge waits until the edges and the hub have nothing to tell each other, and
// holds what all have against what was read.
func converge(t *testing.T, edges []*keyedEdge, op *operator, want map[string]*moteSettings) {
	t.Helper()
	sorted := func(m moteSettings) moteSettings {
		slices.Sort(m.Marks)
		return m
	}
	differs := func() string {
		for mote, w := range want {
			atHub, _ := op.read(mote)
			if diff := cmp.Diff(sorted(*w), sorted(atHub)); diff != "" {
				return "mote " + mote + " at the hub (-want +got):\n" + diff
			}
			for i, e := range edges {
				status, body, _ := e.ask("GET", "/keyed/settings/mote/"+mote, "")
				var m moteSettings
				if status != 200 || json.Unmarshal([]byte(body), &m) != nil {
					return fmt.Sprintf("mote %s at edge %d: %d %s", mote, i, status, body)
				}
				if diff := cmp.Diff(sorted(*w), sorted(m)); diff != "" {
					return fmt.Sprintf("mote %s at edge %d (-want +got):\n%s", mote, i, diff)
				}
			}
		}
		return ""
	}
	var why string
	waitUntil(t, func() bool {
		if why = differs(); why != "" {
			return false
		}
		return !slices.ContainsFunc(edges, func(e *keyedEdge) bool { return !e.settled() })
	}, func() string { return why + " and something is pending" })
}
