package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/sync"
)

// TestAuditOfAFleet syncs two edges to one hub and audits them there: clean,
// then with a record deleted at the hub.
func TestAuditOfAFleet(t *testing.T) {
	h, err := hub.Start(t.Context(), hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	for _, edge := range []string{"north", "south"} {
		var input strings.Builder
		for i := range 100 {
			fmt.Fprintf(&input, `{"id":"%s-%d","timestamp":"2026-01-02T03:04:05Z","payload":{"n":%d}}`+"\n", edge, i, i)
		}
		writeFile(t, filepath.Join(dir, edge+".ndjson"), input.String())
		file := writeFile(t, filepath.Join(dir, edge+".hcl"), fmt.Sprintf(`
edge {
  device_id = %q
}
remote "nats" "hub" {
  urls = [%q]
}
pipeline "p" {
  collect "file" "f" {
    path      = %q
    data_type = "t"
  }
  alert "third" {
    when    = record.payload.n == 3
    topic   = "a"
    message = {}
  }
  sync {
    to = remote.nats.hub
  }
}
`, edge, h.LeafURL(), edge+".ndjson"))
		edged(t, dir, "", "run", file, "--until-drained", "--data-dir", filepath.Join(dir, edge)).wantCode(t, exitOK)
	}

	clean := edged(t, dir, "", "audit", "--hub", h.ClientURL())
	clean.wantCode(t, exitOK)
	for _, want := range []string{"north  p ", "south  queue/normal", "whatever 2 edges settled is here exactly once"} {
		if !strings.Contains(clean.stdout, want) {
			t.Errorf("stdout has no %q:\n%s", want, clean.stdout)
		}
	}

	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), sync.HubRecordStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 7); err != nil { // of the edge that came first
		t.Fatal(err)
	}
	torn := edged(t, dir, "", "audit", "--hub", h.ClientURL(), "--json")
	torn.wantCode(t, exitAudit)
	var audit fleetAudit
	if err := json.Unmarshal([]byte(torn.stdout), &audit); err != nil {
		t.Fatalf("%v in %s", err, torn.stdout)
	}
	if len(audit.Edges) != 4 || audit.Gaps != 1 || len(audit.Edges[0].Gaps) != 1 || audit.Edges[0].Gaps[0] != [2]uint64{7, 7} {
		t.Errorf("audit after a deletion: %+v", audit)
	}
	text := edged(t, dir, "", "audit", "--hub", h.ClientURL(), "--edge", "north")
	text.wantCode(t, exitAudit)
	if !strings.Contains(text.stdout, "north, p: missing: 7\n") || strings.Contains(text.stdout, "south") {
		t.Errorf("stdout:\n%s", text.stdout)
	}
	edged(t, dir, "", "audit", "--hub", h.ClientURL(), "--edge", "south").wantCode(t, exitOK)
}

func TestAuditOfAFleetMistakes(t *testing.T) {
	nowhere := "nats://" + freeAddresses(t, 1)[0]
	for name, c := range map[string]struct {
		args []string
		code int
		err  string
	}{
		"files too":        {[]string{"--hub", nowhere, "x.hcl"}, exitUsage, "needs no pipeline files"},
		"no address":       {[]string{"--hub", "hub"}, exitUsage, "looks like nats://"},
		"password":         {[]string{"--hub", "nats://a:b@hub:4222"}, exitUsage, "--hub-password-file"},
		"user alone":       {[]string{"--hub", nowhere, "--hub-user", "a"}, exitUsage, "go together"},
		"key alone":        {[]string{"--hub", nowhere, "--hub-tls-key", "a"}, exitUsage, "go together"},
		"no hub there":     {[]string{"--hub", nowhere}, exitRuntime, "connecting to the hub nats://"},
		"no credentials":   {[]string{"--hub", nowhere, "--hub-creds", "none.creds"}, exitRuntime, "none.creds"},
		"no such password": {[]string{"--hub", nowhere, "--hub-user", "a", "--hub-password-file", "none"}, exitRuntime, "reading the password"},
	} {
		t.Run(name, func(t *testing.T) {
			r := edged(t, t.TempDir(), "", append([]string{"audit"}, c.args...)...)
			r.wantCode(t, c.code)
			if !strings.Contains(r.stderr, c.err) {
				t.Errorf("stderr has no %q: %s", c.err, r.stderr)
			}
		})
	}
}
