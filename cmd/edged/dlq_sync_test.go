package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/record"
)

// pickyAPI is an ingest API that refuses what has "bad" in it until it is
// mended.
type pickyAPI struct {
	mended atomic.Bool
	mu     sync.Mutex
	taken  map[string]int // by record id, and by topic of messages
}

func (a *pickyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if strings.Contains(string(body), "bad") && !a.mended.Load() {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	var batch struct {
		Records []struct {
			ID string `json:"id"`
		} `json:"records"`
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if topic, ok := strings.CutPrefix(r.URL.Path, "/api/messages/"); ok {
		a.taken[topic]++
		w.WriteHeader(http.StatusCreated)
		return
	}
	if json.Unmarshal(body, &batch) == nil {
		for _, r := range batch.Records {
			a.taken[r.ID]++
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"failed_ids":[]}`)
}

func (a *pickyAPI) has() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := map[string]int{}
	for id, n := range a.taken {
		taken[id] = n
	}
	return taken
}

// TestRefusedByTheRemoteIsRetried holds that what an API refused, records and
// messages, reaches it once after it was mended.
func TestRefusedByTheRemoteIsRetried(t *testing.T) {
	api := &pickyAPI{taken: map[string]int{}}
	server := httptest.NewServer(api)
	defer server.Close()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "in.csv"), "n,s\n1,good\n2,bad\n3,good\n")
	writeFile(t, filepath.Join(dir, "p.hcl"), fmt.Sprintf(`
edge {
  device_id = "d"
}
remote "http" "cloud" {
  url         = %q
  compression = "none"
}
pipeline "p" {
  collect "file" "rows" {
    path      = "in.csv"
    format    = "csv"
    id        = "r-${input.n}"
    device_id = "x"
    data_type = "reading"
    payload   = { state = input.s }
  }
  alert "broken" {
    when     = record.payload.state == "bad"
    topic    = "alerts"
    priority = "high"
    message  = { state = record.payload.state }
  }
  sync {
    to = remote.http.cloud
  }
}
`, server.URL))
	edge := relaunchOps(t, dir)
	letters := waitForDeadLetters(t, dir, 2)
	for _, b := range letters {
		if b.Stage != "sync.cloud" || b.Pipeline != "p" {
			t.Errorf("%+v", b)
		}
	}
	eventually(t, "the good records are there", func() bool {
		return cmp.Equal(api.has(), map[string]int{"r-1": 1, "r-3": 1})
	})
	raw := edged(t, dir, "", "dlq", "export", "p.hcl", "--contains", "r-2")
	raw.wantCode(t, exitOK)
	for _, d := range ndjson[record.DeadLetter](t, raw.stdout) {
		if r, err := record.Parse(d.Raw); err != nil || r.ID != "r-2" {
			t.Errorf("raw %s: %v", d.Raw, err)
		}
	}

	api.mended.Store(true)
	edged(t, dir, "", "dlq", "retry", "p.hcl", "--stage", "sync").wantCode(t, exitOK)
	eventually(t, "all is there", func() bool {
		return cmp.Equal(api.has(), map[string]int{"r-1": 1, "r-2": 1, "r-3": 1, "alerts": 1})
	})
	if left := listDeadLetters(t, dir); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	edge.stop(os.Interrupt)
	if diff := cmp.Diff(map[string]int{"r-1": 1, "r-2": 1, "r-3": 1, "alerts": 1}, api.has()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	verify(t, dir, "data", exitOK)
}
