package collect

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/edged/edged/engine/record"
)

// served is a running HTTP source.
type served struct {
	*background
	url    string
	client *http.Client
}

func serve(t *testing.T, sink Sink, body string) *served {
	t.Helper()
	listening := make(chan net.Addr, 1)
	opts := testOptions(newStepClock())
	opts.Listen = func(network, _ string) (net.Listener, error) {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err == nil {
			listening <- l.Addr()
		}
		return l, err
	}
	s, err := openHTTP(opts, parse(t, httpSpec(), "%s", body))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	b := start(t, s, nil, sink)
	return &served{background: b, url: "http://" + (<-listening).String() + "/records", client: &http.Client{Transport: transport}}
}

// reply is a response with its body read.
type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

func (s *served) do(method, url, body string, header ...string) reply {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := s.client.Do(request)
	if err != nil {
		return reply{err: err}
	}
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, strings.TrimSpace(string(text)), errors.Join(err, response.Body.Close())}
}

func (s *served) post(body string, header ...string) reply {
	return s.do(http.MethodPost, s.url, body, header...)
}

func (s *served) postLater(body string) chan reply {
	c := make(chan reply, 1)
	go func() { c <- s.post(body) }()
	return c
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHTTPRequests(t *testing.T) {
	sink := &memorySink{}
	s := serve(t, sink, `
		token       = "secret"
		max_body    = "1KiB"
		max_records = 3`)
	auth := []string{"Authorization", "Bearer secret"}
	lines := append([]string{"Content-Type", "application/x-ndjson"}, auth...)
	whole := `{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-01-02T03:04:05Z","payload":{"n":1}}`
	long := `{"x":"` + strings.Repeat("x", 1024) + `"}`
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string   // part of the body; the whole body for 200
		stored                   []string // payloads
		retry, allow, auth       string
	}{
		{name: "one record", body: whole, header: auth, status: 200, want: `{"stored":1}`, stored: []string{`{"n":1}`}},
		{name: "an array", body: ` [` + whole + ` , ` + whole + `] `, header: auth, status: 200, want: `{"stored":2}`, stored: []string{`{"n":1}`, `{"n":1}`}},
		{name: "an empty array", body: `[ ]`, header: auth, status: 200, want: `{"stored":0}`},
		{name: "lines", body: "\n" + whole + "\r\n \n" + whole, header: lines, status: 200, want: `{"stored":2}`, stored: []string{`{"n":1}`, `{"n":1}`}},
		{name: "gzip", body: gzipped(t, whole), header: append([]string{"Content-Encoding", "gzip"}, auth...), status: 200, want: `{"stored":1}`, stored: []string{`{"n":1}`}},
		{name: "UTF-8", body: whole, header: append([]string{"Content-Type", "application/json; charset=UTF-8"}, auth...), status: 200, want: `{"stored":1}`, stored: []string{`{"n":1}`}},

		{name: "no body", header: auth, status: 400, want: `"index":0,"line":1`},
		{name: "no JSON", body: "{\n\"n\":}", header: auth, status: 400, want: `not valid JSON`},
		{name: "text after it", body: whole + whole, header: auth, status: 400, want: `not valid JSON`},
		{name: "a bad record in an array", body: "[" + whole + ",\n\n {\"id\":7,\"payload\":{}}]", header: auth, status: 400, want: `"error":"record 1 (line 3): invalid record: id: a string is expected","index":1,"line":3`},
		{name: "an array that is not closed", body: "[" + whole, header: auth, status: 400, want: `a comma or closing bracket is missing`},
		{name: "an array that ends in a comma", body: "[" + whole + ",]", header: auth, status: 400, want: `"index":1`},
		{name: "text after an array", body: "[] []", header: auth, status: 400, want: `text after the value`},
		{name: "a bad line", body: whole + "\n\n[]\n", header: lines, status: 400, want: `"index":1,"line":3`},
		{name: "no lines", body: "\n\n", header: lines, status: 400, want: `the input is empty`},
		{name: "no gzip", body: whole, header: append([]string{"Content-Encoding", "gzip"}, auth...), status: 400, want: `reading the body`},
		{name: "half of gzip", body: gzipped(t, whole)[:40], header: append([]string{"Content-Encoding", "gzip"}, auth...), status: 400, want: `reading the body`},

		{name: "no token", body: whole, status: 401, want: `token`, auth: "Bearer"},
		{name: "a wrong token", body: whole, header: []string{"Authorization", "Bearer secret2"}, status: 401, want: `token`, auth: "Bearer"},
		{name: "another scheme", body: whole, header: []string{"Authorization", "secret"}, status: 401, want: `token`, auth: "Bearer"},
		{name: "another path", path: "/", body: whole, header: auth, status: 404, want: `/records`},
		{name: "GET", method: http.MethodGet, header: auth, status: 405, want: `POST`, allow: "POST"},
		{name: "a long body", body: long, header: auth, status: 413, want: `max_body`},
		{name: "a long compressed body", body: gzipped(t, strings.Repeat(long, 100)), header: append([]string{"Content-Encoding", "gzip"}, auth...), status: 413, want: `max_body`},
		{name: "too many records", body: `[{},{},{},{}]`, header: auth, status: 413, want: `more than 3 records`},
		{name: "another content type", body: whole, header: append([]string{"Content-Type", "text/plain"}, auth...), status: 415, want: `application/x-ndjson`},
		{name: "no content type", body: whole, header: append([]string{"Content-Type", ""}, auth...), status: 415, want: `application/x-ndjson`},
		{name: "another charset", body: whole, header: append([]string{"Content-Type", "application/json; charset=latin1"}, auth...), status: 415, want: `UTF-8`},
		{name: "another encoding", body: whole, header: append([]string{"Content-Encoding", "br"}, auth...), status: 415, want: `gzip`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(sink.payloads())
			method, url := test.method, s.url
			if method == "" {
				method = http.MethodPost
			}
			if test.path != "" {
				url = strings.Replace(url, "/records", test.path, 1)
			}
			r := s.do(method, url, test.body, test.header...)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if r.status != test.status || !strings.Contains(r.body, test.want) || test.status == 200 && r.body != test.want {
				t.Errorf("%d %s, want %d %s", r.status, r.body, test.status, test.want)
			}
			if test.status != 200 && !strings.HasPrefix(r.body, `{"error":"`) || !json.Valid([]byte(r.body)) {
				t.Errorf("body %s", r.body)
			}
			diff(t, "stored", test.stored, append([]string(nil), sink.payloads()[before:]...))
			diff(t, "headers", []string{"application/json", "", test.allow, test.auth},
				[]string{r.header.Get("Content-Type"), r.header.Get("Retry-After"), r.header.Get("Allow"), r.header.Get("WWW-Authenticate")})
		})
	}
	diff(t, "rejected", 0, len(sink.rejected()))
}

// Ids that the edge made are told, in order.
func TestHTTPTellsIDs(t *testing.T) {
	sink := &memorySink{}
	s := serve(t, sink, "")
	r := s.post(`[{"n":1},{"id":"mine","payload":{"n":2}}]`)
	records := sink.records()
	if len(records) != 2 || records[0].ID == "" || records[1].ID != "mine" {
		t.Fatalf("%v %v", r, records)
	}
	diff(t, "body", fmt.Sprintf(`{"stored":2,"ids":[%q,"mine"]}`, records[0].ID), r.body)
}

// A request is answered after its batch is durable and not before (I1).
func TestHTTPWaitsForDone(t *testing.T) {
	for _, test := range []struct {
		done   error
		status int
	}{{nil, 200}, {errors.New("the disk is broken"), 503}, {ErrFull, 503}} {
		sink := &memorySink{held: true, taken: make(chan *Batch, 1)}
		s := serve(t, sink, "")
		answered := s.postLater(`{"n":1}`)
		b := <-sink.taken
		// Time for a wrong answer to arrive: other requests come and go.
		for range 20 {
			if r := s.do(http.MethodGet, s.url, ""); r.status != 405 {
				t.Fatal(r)
			}
		}
		select {
		case r := <-answered:
			t.Fatalf("answered before the batch was durable: %v", r)
		default:
		}
		b.Done(test.done)
		if r := <-answered; r.status != test.status || test.done != nil && r.header.Get("Retry-After") != "5" {
			t.Errorf("%v: %v", test.done, r)
		}
		if test.done == nil {
			s.cancel()
		}
		if err := s.wait(t); !errors.Is(err, test.done) {
			t.Errorf("the run ended with %v, want %v", err, test.done)
		}
	}
}

// blockingSink never has room.
type blockingSink struct{ entered chan struct{} }

func (blockingSink) Trouble() error { return nil }

func (s blockingSink) Put(ctx context.Context, _ *Batch) error {
	if s.entered != nil {
		s.entered <- struct{}{}
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestHTTPWhenFull(t *testing.T) {
	full := &memorySink{refuse: func(int) error { return fmt.Errorf("storing: %w", ErrFull) }}
	if r := serve(t, full, "").post(`{}`); r.status != 503 || r.header.Get("Retry-After") != "5" || !strings.Contains(r.body, "full") {
		t.Errorf("refused: %v", r)
	}
	if r := serve(t, blockingSink{}, `wait = "10ms"`).post(`{}`); r.status != 503 || r.header.Get("Retry-After") != "1" || !strings.Contains(r.body, "full") {
		t.Errorf("blocked: %v", r)
	}
	broken := errors.New("broken")
	s := serve(t, &memorySink{refuse: func(int) error { return broken }}, "")
	if r := s.post(`{}`); r.status != 503 || strings.Contains(r.body, "full") {
		t.Errorf("broken: %v", r)
	}
	if err := s.wait(t); !errors.Is(err, broken) {
		t.Errorf("the run ended with %v", err)
	}
}

// What was taken and cannot be stored for a while is answered, with the reason;
// that the store is only slow is none.
func TestHTTPInTrouble(t *testing.T) {
	sink := &memorySink{held: true, taken: make(chan *Batch, 1)}
	s := serve(t, sink, `wait = "10ms"`)
	answered := s.postLater(`{}`)
	b := <-sink.taken
	var trouble error = &Unstorable{errors.New("the disk is on fire")}
	sink.trouble.Store(&trouble)
	r := <-answered
	if want := "the local store takes nothing now: the disk is on fire; send the records again later"; r.status != 503 || r.header.Get("Retry-After") != "1" || !strings.Contains(r.body, want) {
		t.Errorf("in trouble: %v", r)
	}
	b.Done(nil)
	sink.trouble.Store(nil)
	answered = s.postLater(`{}`)
	(<-sink.taken).Done(nil)
	if r := <-answered; r.status != 200 {
		t.Errorf("well again: %v", r)
	}
}

func TestHTTPTooManyRequests(t *testing.T) {
	sink := &memorySink{held: true, taken: make(chan *Batch, 2)}
	s := serve(t, sink, "max_requests = 1\nwait = \"10ms\"")
	first := s.postLater(`{"n":1}`)
	b := <-sink.taken
	if r := s.post(`{"n":2}`); r.status != 503 || !strings.Contains(r.body, "too many requests") || r.header.Get("Retry-After") != "1" {
		t.Errorf("second: %v", r)
	}
	b.Done(nil)
	if r := <-first; r.status != 200 {
		t.Errorf("first: %v", r)
	}
	third := s.postLater(`{"n":3}`)
	(<-sink.taken).Done(nil)
	if r := <-third; r.status != 200 {
		t.Errorf("third: %v", r)
	}
}

// What is in flight when the edge stops is finished and answered.
func TestHTTPStops(t *testing.T) {
	sink := &memorySink{held: true, taken: make(chan *Batch, 1)}
	s := serve(t, sink, "")
	answered := s.postLater(`{"n":1}`)
	b := <-sink.taken
	s.cancel()
	// The listener closes first; then the request may end.
	for {
		c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/records"))
		if err != nil {
			break
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-s.ended:
		t.Fatalf("ended with a request in flight: %v", err)
	default:
	}
	b.Done(nil)
	if r := <-answered; r.status != 200 || r.body == "" {
		t.Errorf("%v", r)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// A client that does not send its body is not waited for.
func TestHTTPSlowClient(t *testing.T) {
	s := serve(t, &memorySink{}, `read_timeout = "100ms"`)
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/records"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := io.WriteString(c, "POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	diff(t, "status", http.StatusRequestTimeout, response.StatusCode)
}

func TestHTTPCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := openHTTP(testOptions(newStepClock()), parse(t, httpSpec(), `listen = %q`, l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), nil, &memorySink{}); err == nil || !strings.Contains(err.Error(), "check listen at test.hcl") {
		t.Errorf("error %v", err)
	}
}

// A body gives records or a refusal that says where, and never both; a body
// that is one JSON array gives as many records as it has elements.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{"", "{}", "[{},{}]", "[", "[{}", "[{},]", "{}\n\n{\"a\":1}", "{\"payload\":{}}", "\xff", "[] x", "{\"id\":1,\"payload\":{}}"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	m := testMapper(f, "")
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		m.freshArena()
		records, refused := parseBody(m, body, lines, 100)
		if refused != nil {
			tooMany := refused.status == http.StatusRequestEntityTooLarge
			if len(records) > 0 || refused.Error == "" || tooMany == (refused.Index != nil) || tooMany == (refused.Line != nil) {
				t.Fatalf("%d records, refused %+v", len(records), refused)
			}
			if !tooMany && (*refused.Line < 1 || *refused.Line > 1+bytes.Count(body, []byte("\n"))) {
				t.Fatalf("line %d", *refused.Line)
			}
		}
		for i := range records {
			if err := records[i].Check(); err != nil {
				t.Fatal(err)
			}
			if err := record.ValidObject(records[i].Payload); err != nil {
				t.Fatal(err)
			}
		}
		var elements []json.RawMessage
		if !lines && refused == nil && json.Unmarshal(body, &elements) == nil && len(elements) != len(records) {
			t.Fatalf("%d records of %d elements", len(records), len(elements))
		}
		if !lines && refused == nil && !json.Valid(body) {
			t.Fatal("records of what is no JSON")
		}
	})
}
