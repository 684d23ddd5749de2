package engine_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// badCloud is an ingest API that knows its keys and is ill for a while: it answers
// the first requests of each kind wrongly, having stored every second of them.
type badCloud struct {
	t      *testing.T
	ill    func(c *badCloud, w http.ResponseWriter, r *http.Request, ids []string)
	health bool // is ill too

	mu      sync.Mutex
	left    map[string]int    // wrong answers to come, by path
	answers map[string]string // by key
	stored  map[string]int    // by id
	most    int64             // bytes of the longest answer
	server  *httptest.Server
}

const illFor = 2 // requests of each path; the second is stored

func (c *badCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the edge has gone
	}
	if r.Method == http.MethodGet {
		if c.health && c.wrong(r) {
			c.ill(c, w, r, nil)
		}
		return
	}
	var sent struct {
		ID      string
		Records []struct{ ID string }
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		c.t.Errorf("%s: %v", r.URL.Path, err)
		return
	}
	ids := []string{sent.ID}
	if sent.ID == "" {
		ids = nil
		for _, rec := range sent.Records {
			ids = append(ids, rec.ID)
		}
	}
	if c.wrong(r) {
		c.ill(c, w, r, ids)
		return
	}
	fmt.Fprint(w, c.take(r, ids, nil))
}

// wrong reports whether this request is to be answered wrongly.
func (c *badCloud) wrong(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.left[r.URL.Path]; !ok {
		c.left[r.URL.Path] = illFor
	}
	c.left[r.URL.Path]--
	return c.left[r.URL.Path] >= 0
}

// even reports whether this wrong answer is one whose request is stored.
func (c *badCloud) even(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left[r.URL.Path]%2 == 0
}

// take stores what is not refused, once for each key, and returns the answer.
func (c *badCloud) take(r *http.Request, ids, refused []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if answer, ok := c.answers[key]; ok {
		return answer
	}
	for _, id := range ids {
		if !slices.Contains(refused, id) {
			c.stored[id]++
		}
	}
	answer, err := json.Marshal(map[string][]string{"failed_ids": append([]string{}, refused...)})
	if err != nil {
		c.t.Error(err)
	}
	c.answers[key] = string(answer)
	return string(answer)
}

// wrongAnswer is an illness that stores every second request and then writes an
// answer that is none.
func wrongAnswer(write func(c *badCloud, w http.ResponseWriter, r *http.Request)) func(*badCloud, http.ResponseWriter, *http.Request, []string) {
	return func(c *badCloud, w http.ResponseWriter, r *http.Request, ids []string) {
		if c.even(r) && r.Method == http.MethodPost {
			c.take(r, ids, nil)
		}
		write(c, w, r)
	}
}

// hang closes the connection after some bytes.
func hang(w http.ResponseWriter, part string) {
	conn, out, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := out.WriteString(part); err == nil {
		out.Flush()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && part != "" {
		tcp.SetLinger(0) //nolint:errcheck // a reset is wanted, an end will do
	}
}

var illnesses = map[string]func(*badCloud, http.ResponseWriter, *http.Request, []string){
	"500": wrongAnswer(func(_ *badCloud, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":"out of order"}`, http.StatusInternalServerError)
	}),
	"429": func(_ *badCloud, w http.ResponseWriter, _ *http.Request, _ []string) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	},
	"207": func(c *badCloud, w http.ResponseWriter, r *http.Request, ids []string) {
		if r.Method == http.MethodGet || strings.HasPrefix(r.URL.Path, "/api/messages/") {
			w.WriteHeader(http.StatusMultiStatus) // which says nothing of one message
			return
		}
		var refused []string
		for i, id := range ids {
			if i%3 == 0 {
				refused = append(refused, id)
			}
		}
		answer := c.take(r, ids, refused)
		w.WriteHeader(http.StatusMultiStatus)
		fmt.Fprint(w, answer)
	},
	"garbage": wrongAnswer(func(_ *badCloud, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>\xff\x00Welcome to our hotel. {\"failed_ids\":[\"")
	}),
	"nothing": wrongAnswer(func(_ *badCloud, w http.ResponseWriter, _ *http.Request) { hang(w, "") }),
	"slowly": wrongAnswer(func(_ *badCloud, w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			<-tick.C
			fmt.Fprint(w, " ")
			http.NewResponseController(w).Flush()
		}
	}),
	"for ever": wrongAnswer(func(_ *badCloud, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
	"truncated": wrongAnswer(func(_ *badCloud, w http.ResponseWriter, _ *http.Request) {
		hang(w, "HTTP/1.1 500 Out of\r\nContent-Length: 1000\r\n\r\n{\"failed")
	}),
	"redirect loop": wrongAnswer(func(c *badCloud, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", c.server.URL+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}),
	"huge": wrongAnswer(func(c *badCloud, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		part := []byte(strings.Repeat("x", 64<<10))
		var sent int64
		for r.Context().Err() == nil {
			n, err := w.Write(part)
			if sent += int64(n); err != nil || sent > 1<<30 {
				break
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.most = max(c.most, sent)
	}),
}

// TestBadCloud runs whole edges against an API that is ill in every way we know of,
// with a health that is well meanwhile and with one that is ill likewise. Once it
// has recovered everything is there, each record and message once, nothing is a
// dead letter, and no answer was read further than its bound (I2, I6, I9).
func TestBadCloud(t *testing.T) {
	const records, messages = 60, 6
	want := map[string]int{}
	for _, id := range numbered("r", records) {
		want[id] = 1
	}
	for name, ill := range illnesses {
		for _, health := range []bool{false, true} {
			if health && !slices.Contains([]string{"500", "nothing", "for ever", "huge"}, name) {
				continue // a health of that kind is not told from a well one, or like one of these
			}
			t.Run(fmt.Sprintf("%s/ill health %t", name, health), func(t *testing.T) {
				t.Parallel()
				c := &badCloud{
					t: t, ill: ill, health: health,
					left: map[string]int{}, answers: map[string]string{}, stored: map[string]int{},
				}
				c.server = httptest.NewServer(c)
				t.Cleanup(c.server.Close)
				r := newRig(t)
				run := r.start(true, fmt.Sprintf(`
edge { device_id = "edge.1" }
remote "http" "cloud" {
  url         = %q
  timeout     = "1s"
  compression = "none"
}
pipeline "p" {
  collect "file" "f" { path = %s }
  alert "tenth" {
    when  = record.payload.n %% 10 == 0
    topic = "alerts"
  }
  batch { max_records = 25 }
  sync { to = remote.http.cloud }
}`, c.server.URL, r.file("in.ndjson", lines("r", records))), nil)
				sum := run.endWithin(3 * time.Minute)
				if sum.SyncedRecords != records || sum.SyncedMessages != messages || sum.DeadLetters+sum.Waiting != 0 {
					t.Errorf("the summary says %+v", sum)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				got := maps.Clone(c.stored)
				alerts := 0
				for id, n := range got {
					if !strings.HasPrefix(id, "r") {
						alerts++
						if delete(got, id); n != 1 {
							t.Errorf("message %s was stored %d times", id, n)
						}
					}
				}
				if diff := cmp.Diff(want, got); diff != "" || alerts != messages {
					t.Errorf("the API has %d messages, want %d, and records (-want +got):\n%s", alerts, messages, diff)
				}
				// The edge reads 4 MiB; what is on the way then is the sockets'.
				if c.most > 32<<20 {
					t.Errorf("the edge took %d bytes of one answer", c.most)
				}
			})
		}
	}
}
