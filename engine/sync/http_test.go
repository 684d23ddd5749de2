package sync_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/sync"
)

// say answers with a status, a body and headers, without taking anything.
func say(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request, store1) {
	return func(w http.ResponseWriter, _ *http.Request, _ store1) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// cut closes the connection, after a part of an answer.
func cut(w http.ResponseWriter, part string) {
	conn, out, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	out.WriteString(part) //nolint:errcheck // it is cut anyway
	out.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok && part != "" {
		tcp.SetLinger(0) //nolint:errcheck // a reset is wanted, an end will do
	}
	conn.Close()
}

// TestBadAnswers holds that after any answer but a good one nothing counts as
// synced, and that the same request is sent again: the API has everything once
// (I2), whether it had stored the first or not.
func TestBadAnswers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	blank := strings.Repeat(" ", 1<<20)
	for name, c := range map[string]struct {
		first func(http.ResponseWriter, *http.Request, store1)
		wait  time.Duration
		err   string
	}{
		"500":                 {say(500, `{"error":"out of order"}`), time.Second, "500 Internal Server Error: out of order"},
		"404":                 {say(404, "no such thing"), time.Second, "404 Not Found: no such thing"},
		"204":                 {say(204, ""), time.Second, "204"},
		"201 is for messages": {say(201, `{"failed_ids":[]}`), time.Second, "201"},
		"redirect": {
			say(307, "", "Location", elsewhere.URL+"/x?token=1"), time.Second, elsewhere.URL + "/x, which is not followed",
		},
		"429 in seconds": {say(429, "", "Retry-After", "17"), 18 * time.Second, "429"},
		"429 for ever":   {say(429, "", "Retry-After", "99999999999"), 5*time.Minute + time.Second, "429"},
		"429 nonsense":   {say(429, "", "Retry-After", "-5 apples"), time.Second, "429"},
		"503 by date": {
			say(503, "", "Date", "Sun, 22 Nov 2026 07:00:00 GMT", "Retry-After", "Sun, 22 Nov 2026 07:00:30 GMT"),
			31 * time.Second, "503",
		},
		"503 in the past":    {say(503, "", "Retry-After", "Sun, 22 Nov 2020 07:00:30 GMT"), time.Second, "503"},
		"401":                {say(401, ""), 10 * time.Second, "check the token"},
		"403":                {say(403, ""), 10 * time.Second, "check the token"},
		"garbage":            {say(200, "<html>Welcome to our hotel</html>"), time.Second, "not what the API promises"},
		"nothing":            {say(200, ""), time.Second, "not what the API promises"},
		"half an answer":     {say(200, `{"failed_ids":[`), time.Second, "not what the API promises"},
		"an unknown id":      {say(200, `{"failed_ids":["r2","zzz"]}`), time.Second, "zzz"},
		"207 without reason": {say(207, `{}`), time.Second, "without saying"},
		"failed without id":  {say(207, `{"failed":[{"error":"x"}]}`), time.Second, "without its id"},
		"too long": {func(w http.ResponseWriter, _ *http.Request, _ store1) {
			for range 6 {
				if _, err := fmt.Fprint(w, blank); err != nil {
					return
				}
			}
		}, time.Second, "longer than 4 MiB"},
		"stored, then 500": {func(w http.ResponseWriter, _ *http.Request, take store1) {
			take()
			w.WriteHeader(500)
		}, time.Second, "500"},
		"stored, then reset mid-answer": {func(w http.ResponseWriter, _ *http.Request, take store1) {
			take()
			cut(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"failed")
		}, time.Second, "reading the answer"},
		"reset in the header": {func(w http.ResponseWriter, _ *http.Request, _ store1) {
			cut(w, "HTTP/1.1 200 O")
		}, time.Second, "sending to"},
		"no HTTP at all": {func(w http.ResponseWriter, _ *http.Request, _ store1) {
			cut(w, "220 mail.example.com ESMTP\r\n\r\n")
		}, time.Second, "sending to"},
	} {
		t.Run(name, func(t *testing.T) {
			api := newCloud(t)
			api.script = append(api.script, c.first)
			e := startAPIEdge(t, api.URL, sync.Records, nil)
			e.put(5)
			start := e.now
			err := e.push()
			var later *sync.Later
			if !errors.As(err, &later) || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("the push ended with %v, want one put off because of %q", err, c.err)
			}
			if got := later.Until.Sub(start); got != c.wait {
				t.Errorf("put off for %s, want %s", got, c.wait)
			}
			if at := e.session.At(); at != (sync.Position{}) {
				t.Errorf("the position is %+v", at)
			}
			if e.remote.Trouble() == nil {
				t.Error("the remote knows of no trouble")
			}
			e.put(3) // what came meanwhile is no part of the batch that may be there
			e.restart()
			if met := e.drive(); met != nil {
				t.Errorf("then met %v", met)
			}
			api.wantIDs(t, numbered("r", 8)...)
			if len(api.seen) != 3 || api.seen[0].key != api.seen[1].key || api.seen[1].key == api.seen[2].key {
				t.Errorf("want the first batch twice under one key and another one, got %v", api.seen)
			}
			if at := e.session.At(); at.Last != 8 || at.Total != 8 {
				t.Errorf("in the end the position is %+v", at)
			}
			if err := e.remote.Trouble(); err != nil || e.dead != nil {
				t.Errorf("in the end there is trouble %v and dead letters %v", err, e.dead)
			}
		})
	}
}

// TestSilence holds that an API that never answers, or never stops answering,
// costs no more than the time-out.
func TestSilence(t *testing.T) {
	for name, first := range map[string]func(http.ResponseWriter, *http.Request, store1){
		"no answer": func(_ http.ResponseWriter, r *http.Request, _ store1) { <-r.Context().Done() },
		"endless": func(w http.ResponseWriter, r *http.Request, _ store1) {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for r.Context().Err() == nil {
				<-tick.C
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			api := newCloud(t)
			api.script = append(api.script, first)
			e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.Timeout = 100 * time.Millisecond })
			e.put(2)
			if err := e.push(); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
				t.Errorf("the push ended with %v", err)
			}
			e.opts.Timeout = 30 * time.Second
			e.restart()
			e.drive()
			api.wantIDs(t, "r1", "r2")
		})
	}
}

// TestNobodyThere holds that a refused connection is no put-off of one feed but
// for the monitor to handle.
func TestNobodyThere(t *testing.T) {
	api := newCloud(t)
	url := api.URL
	api.Close()
	e := startAPIEdge(t, url, sync.Records, nil)
	e.put(1)
	err := e.push()
	var later *sync.Later
	if err == nil || errors.As(err, &later) {
		t.Errorf("the push ended with %v", err)
	}
	if err := e.remote.Probe(t.Context()); err == nil {
		t.Error("a probe of nothing succeeded")
	}
}

func TestSomeFail(t *testing.T) {
	for name, answer := range map[string]string{
		"ids":     `{"failed_ids":["r2","r4"]}`,
		"reasons": `{"failed":[{"id":"r2","error":"odd"},{"id":"r4","error":"odd"}]}`,
		"both":    `{"failed_ids":["r4","r2"],"failed":[{"id":"r2","error":"odd"}]}`,
	} {
		for _, status := range []int{200, 207} {
			t.Run(fmt.Sprint(name, status), func(t *testing.T) {
				api := newCloud(t)
				tries := map[string]int{}
				api.judge = func(ids []string) (int, string) {
					if len(ids) > 1 {
						return status, answer
					}
					if tries[ids[0]]++; ids[0] == "r2" && tries["r2"] == 2 {
						return 200, `{"failed_ids":[]}`
					}
					return status, fmt.Sprintf(`{"failed":[{"id":%q,"error":"odd %d"}]}`, ids[0], tries[ids[0]])
				}
				e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.MaxAttempts = 4 })
				e.put(5)
				if err := e.push(); err != nil {
					t.Fatal(err)
				}
				if at := e.at(); at != (sync.Position{Last: 5, Total: 3, Aside: 2}) {
					t.Errorf("after the push the position is %+v", at)
				}
				if stored, err := e.feed.Lane.StoredAt(t.Context(), 2, 0); err != nil || !e.session.At().AsideSince.Equal(stored) {
					t.Errorf("the oldest that was put aside was stored at %v, %v, not at %v", stored, err, e.session.At().AsideSince)
				}
				api.wantIDs(t, "r1", "r3", "r5")
				if due := e.session.NextRetry().Sub(e.now); due != time.Second {
					t.Errorf("the first retry is due in %s", due)
				}
				e.restart() // in the middle of the retries (I2)
				if at := e.at(); at != (sync.Position{Last: 5, Total: 3, Aside: 2}) {
					t.Errorf("after a restart the position is %+v", at)
				}
				var waits []time.Duration
				for range 8 {
					next := e.session.NextRetry()
					if next.IsZero() {
						break
					}
					waits = append(waits, next.Sub(e.now))
					e.now = next
					if _, err := e.session.Retry(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, waits); diff != "" {
					t.Errorf("waits (-want +got):\n%s", diff)
				}
				api.wantIDs(t, "r1", "r3", "r5", "r2")
				if at := e.session.At(); at != (sync.Position{Last: 5, Total: 4, Failed: 1}) {
					t.Errorf("in the end the position is %+v", at)
				}
				if len(e.dead) != 1 {
					t.Fatalf("dead letters: %+v", e.dead)
				}
				d := e.dead[0]
				if d.Pipeline != "p" || d.Stage != "sync.cloud" || d.Error != "odd 3" || !strings.Contains(string(d.Raw), `{"id":"r4"`) ||
					d.Detail["attempts"] != "4" || d.Detail["remote"] != "cloud" || d.Detail["record_id"] != "r4" || d.Detail["number"] != "4" {
					t.Errorf("the dead letter is %+v with %s", d, d.Raw)
				}
				keys := map[string]bool{}
				for _, s := range api.seen {
					if keys[s.key] {
						t.Errorf("a key that was answered for was used again: %+v", s)
					}
					keys[s.key] = true
				}
			})
		}
	}
}

// TestLostAnswerToARetry holds that a retry keeps its key until it is answered.
func TestLostAnswerToARetry(t *testing.T) {
	api := newCloud(t)
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	api.script = append(api.script,
		func(w http.ResponseWriter, _ *http.Request, _ store1) { fmt.Fprint(w, `{"failed_ids":["r1"]}`) },
		func(w http.ResponseWriter, _ *http.Request, take store1) { take(); cut(w, "") },
		func(w http.ResponseWriter, _ *http.Request, take store1) { take(); w.WriteHeader(500) },
	)
	e.put(1)
	e.drive()
	api.wantIDs(t, "r1")
	if at := e.session.At(); at != (sync.Position{Last: 1, Total: 1}) || e.dead != nil {
		t.Errorf("the position is %+v, dead letters %v", at, e.dead)
	}
	for _, s := range api.seen[2:] {
		if s.key != api.seen[1].key {
			t.Errorf("another key: %v", api.seen)
		}
	}
}

// TestPoison holds that a record the API refuses is found and put among the
// dead letters, and that all others arrive once and in order (I4, I6).
func TestPoison(t *testing.T) {
	for _, status := range []int{400, 413, 422} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			api := newCloud(t)
			bad := []string{"r17", "r18", "r500"}
			api.judge = func(ids []string) (int, string) {
				for _, id := range bad {
					if slices.Contains(ids, id) {
						return status, `{"error":"` + id + ` is poison"}`
					}
				}
				return 200, `{"failed_ids":[]}`
			}
			e := startAPIEdge(t, api.URL, sync.Records, nil)
			e.put(900)
			if err := e.push(); err != nil {
				t.Fatal(err)
			}
			api.wantIDs(t, numbered("r", 900, 17, 18, 500)...)
			if at := e.session.At(); at != (sync.Position{Last: 900, Total: 897, Failed: 3}) {
				t.Errorf("the position is %+v", at)
			}
			if len(e.dead) != 3 || !strings.Contains(e.dead[0].Error, "r17 is poison") || e.dead[2].Detail["record_id"] != "r500" {
				t.Errorf("dead letters: %+v", e.dead)
			}
			if len(api.seen) > 60 {
				t.Errorf("%d requests", len(api.seen))
			}
		})
	}
}

// TestRefusesEverything holds that an API which refuses one record after the
// other is itself to blame: they are given all their attempts, slowly.
func TestRefusesEverything(t *testing.T) {
	api := newCloud(t)
	api.judge = func([]string) (int, string) { return 400, `{"error":"what is this?"}` }
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	e.put(40)
	err := e.push()
	var later *sync.Later
	if !errors.As(err, &later) || !strings.Contains(err.Error(), "3 in a row") {
		t.Errorf("the push ended with %v", err)
	}
	if len(e.dead) != 3 {
		t.Errorf("%d dead letters at once", len(e.dead))
	}
	api.judge = nil // someone has mended it
	e.drive()
	api.wantIDs(t, numbered("r", 40, 1, 2, 3)...)
	if len(e.dead) != 3 {
		t.Errorf("%d dead letters in the end", len(e.dead))
	}
}

// TestNoCompression holds that an API which cannot read compressed bodies gets
// plain ones, and no record is blamed for it.
func TestNoCompression(t *testing.T) {
	for _, status := range []int{400, 415} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			api := newCloud(t)
			api.script = append(api.script, say(status, "what is this?"))
			e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.Compression = "gzip" })
			for range 2 {
				e.put(50)
				if err := e.push(); err != nil {
					t.Fatal(err)
				}
			}
			var encodings []string
			for _, s := range api.seen {
				encodings = append(encodings, s.encoding)
			}
			if diff := cmp.Diff([]string{"gzip", "", ""}, encodings); diff != "" {
				t.Errorf("encodings (-want +got):\n%s", diff)
			}
			api.wantIDs(t, numbered("r", 100)...)
		})
	}
}

func TestTokenFile(t *testing.T) {
	api := newCloud(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guard := func(w http.ResponseWriter, r *http.Request, take store1) {
		if r.Header.Get("Authorization") != "Bearer right" {
			w.WriteHeader(401)
			return
		}
		_, answer := take()
		fmt.Fprint(w, answer)
	}
	api.script = append(api.script, guard, guard, guard)
	e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.Token, o.TokenFile = "", file })
	e.put(3)
	if err := e.push(); err == nil || !strings.Contains(err.Error(), "reading the token") {
		t.Errorf("without a file the push ended with %v", err)
	}
	for _, token := range []string{"wrong", "wrong"} {
		write(token)
		e.now = e.now.Add(5 * time.Minute)
		if err := e.push(); err == nil || !strings.Contains(err.Error(), "check the token") {
			t.Errorf("with a wrong token the push ended with %v", err)
		}
	}
	write("right")
	if err := e.push(); err == nil {
		t.Error("the remote was not left alone")
	}
	e.drive()
	api.wantIDs(t, "r1", "r2", "r3")
	if e.dead != nil {
		t.Errorf("dead letters: %v", e.dead)
	}
}

func TestMessages(t *testing.T) {
	topics := []string{"alerts", "a/b c", "..", "ü?#%", "gone", "bad", "last"}
	api := newCloud(t)
	api.judge = func(ids []string) (int, string) {
		switch ids[0] {
		case "m5":
			return 404, "no such topic"
		case "m6":
			return 422, "no"
		}
		return 202, ""
	}
	api.script = append(api.script,
		func(w http.ResponseWriter, _ *http.Request, take store1) { take(); cut(w, "") },
		say(200, "<html>Welcome to our hotel</html>"),
	)
	e := startAPIEdge(t, api.URL, sync.Messages, nil)
	e.say(topics...)
	for _, want := range []string{"EOF", "login page"} {
		if err := e.push(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the push ended with %v, want %q", err, want)
		}
		e.restart()
	}
	e.drive()
	api.wantIDs(t, "m1", "m2", "m3", "m4", "m7")
	if at := e.session.At(); at != (sync.Position{Last: 7, Total: 5, Failed: 2}) {
		t.Errorf("the position is %+v", at)
	}
	want := []string{"alerts", "alerts", "alerts", "a%2Fb%20c", "%2E%2E", "%C3%BC%3F%23%25", "gone", "bad", "last"}
	for i, s := range api.seen[:len(want)] {
		if s.path != "/api/messages/"+want[i] || s.key != s.ids[0] || s.auth != "Bearer s3cret" {
			t.Errorf("request %d is %+v, want topic %s", i, s, want[i])
		}
	}
	if len(e.dead) != 2 {
		t.Fatalf("dead letters: %+v", e.dead)
	}
	for i, want := range []map[string]string{
		{"message_id": "m6", "attempts": "1", "topic": "bad"}, {"message_id": "m5", "attempts": "3", "topic": "gone"},
	} {
		for k, v := range want {
			if e.dead[i].Detail[k] != v || e.dead[i].Pipeline != "p" {
				t.Errorf("dead letter %d is %+v, want %v", i, e.dead[i], want)
			}
		}
	}
}

// TestSameBatchAfterTheConfigurationChanged holds that a batch which may have
// arrived is sent again as it was, even if smaller ones are asked for now.
func TestSameBatchAfterTheConfigurationChanged(t *testing.T) {
	api := newCloud(t)
	api.script = append(api.script, func(w http.ResponseWriter, _ *http.Request, take store1) { take(); cut(w, "") })
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	e.put(20)
	if err := e.push(); err == nil {
		t.Fatal("the lost answer was not noticed")
	}
	e.restart()
	reader := e.feed.Lane.NewReader(0)
	defer reader.Close()
	for reader.Number() < 20 {
		few, err := reader.Read(t.Context(), 3, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.session.Push(t.Context(), &sync.Batch{Entries: few, Last: reader.Number()}); err != nil {
			t.Fatal(err)
		}
	}
	api.wantIDs(t, numbered("r", 20)...)
	if at := e.session.At(); at != (sync.Position{Last: 20, Total: 20}) {
		t.Errorf("the position is %+v", at)
	}
}

// TestOneAttempt holds that max_attempts = 1 means no retry.
func TestOneAttempt(t *testing.T) {
	api := newCloud(t)
	api.judge = func(ids []string) (int, string) { return 200, `{"failed_ids":["r1"]}` }
	e := startAPIEdge(t, api.URL, sync.Records, func(o *sync.HTTPOptions) { o.MaxAttempts = 1 })
	e.put(2)
	if err := e.push(); err != nil {
		t.Fatal(err)
	}
	if at := e.session.At(); at != (sync.Position{Last: 2, Total: 1, Failed: 1}) || len(e.dead) != 1 {
		t.Errorf("the position is %+v, dead letters %v", at, e.dead)
	}
}

// TestBatchUnderWayIsNoLongerThere holds that a batch whose records the store
// has dropped for want of room does not block what is left.
func TestBatchUnderWayIsNoLongerThere(t *testing.T) {
	api := newCloud(t)
	api.script = append(api.script, say(500, ""))
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	for range 5 {
		e.put(1) // a commit each: a purge takes whole ones
	}
	reader := e.feed.Lane.NewReader(0)
	defer reader.Close()
	stored, err := reader.Read(t.Context(), 5, 1<<20, nil)
	if err != nil || len(stored) != 5 {
		t.Fatal(stored, err)
	}
	if err := e.push(); err == nil {
		t.Fatal("the error was not noticed")
	}
	if err := e.log.Purge(t.Context(), stored[2].Next); err != nil {
		t.Fatal(err)
	}
	e.restart()
	e.drive()
	api.wantIDs(t, "r4", "r5")
	if at := e.session.At(); at != (sync.Position{Last: 5, Total: 2}) {
		t.Errorf("the position is %+v", at)
	}
}

// TestNothingToSend holds that numbers of other remotes are passed, durably.
func TestNothingToSend(t *testing.T) {
	api := newCloud(t)
	e := startAPIEdge(t, api.URL, sync.Records, nil)
	e.put(4)
	if err := e.session.Push(t.Context(), &sync.Batch{Last: 4, Elsewhere: [][2]uint64{{1, 4}}}); err != nil {
		t.Fatal(err)
	}
	e.restart()
	if at := e.session.At(); at != (sync.Position{Last: 4}) || len(api.seen) > 0 {
		t.Errorf("the position is %+v after %v", at, api.seen)
	}
}
