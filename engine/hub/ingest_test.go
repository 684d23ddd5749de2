package hub_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/hub"
)

// A nats-server whose storage is started anew while batches are being staged
// forgets those: see the tests of sync.
func TestMain(m *testing.M) {
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(
		m,
		goleak.IgnoreAnyFunction(server+".(*msgBlock).flushLoop"),
		goleak.IgnoreAnyFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server+"/ats.Register.func1"),
	)
}

// api is a hub with its ingest API.
type api struct {
	t    *testing.T
	opts hub.Options
	hub  *hub.Hub
	http *http.Client
}

func startAPI(t *testing.T, opts hub.Options) *api {
	t.Helper()
	opts.LeafListen, opts.ClientListen, opts.HTTPListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if opts.DataDir == "" {
		opts.DataDir = t.TempDir()
	}
	a := &api{t: t, opts: opts, http: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	a.start()
	t.Cleanup(a.stop)
	return a
}

func (a *api) start() {
	a.t.Helper()
	var err error
	if a.hub, err = hub.Start(a.t.Context(), a.opts); err != nil {
		a.t.Fatal(err)
	}
}

func (a *api) stop() {
	a.http.CloseIdleConnections()
	if err := a.hub.Close(); err != nil {
		a.t.Error(err)
	}
}

// send makes a request; headers are pairs.
func (a *api) send(method, path string, body []byte, headers ...string) (status int, answer string, header http.Header) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(a.t.Context()), method, a.hub.HTTPURL()+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(got)), resp.Header
}

// stored returns subject and data of everything in a stream, in order.
func (a *api) stored(stream string) (out []string) {
	a.t.Helper()
	a.js(func(ctx context.Context, js jetstream.JetStream) {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			a.t.Fatal(err)
		}
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			msg, err := s.GetMsg(ctx, seq)
			if err != nil {
				a.t.Fatal(err)
			}
			if !strings.HasPrefix(msg.Subject, "edged.hub.ledger.") {
				out = append(out, msg.Subject+" "+string(msg.Data))
			}
		}
	})
	return out
}

func (a *api) js(use func(context.Context, jetstream.JetStream)) {
	a.t.Helper()
	nc, err := nats.Connect(a.hub.ClientURL())
	if err != nil {
		a.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		a.t.Fatal(err)
	}
	use(a.t.Context(), js)
}

func rec(id string) string {
	return fmt.Sprintf(`{"id":%q,"device_id":"d.1","data_type":"t","timestamp":"2026-11-22T06:15:00.123Z","payload":{"v":1.50}}`, id)
}

func batchOf(records ...string) []byte {
	return []byte(`{"records":[` + strings.Join(records, ",") + `]}`)
}

func numberedRecords(n int) []byte {
	var records []string
	for i := range n {
		records = append(records, rec(fmt.Sprint(i)))
	}
	return batchOf(records...)
}

const batchPath = "/api/ingest/batch"

func TestIngestStores(t *testing.T) {
	a := startAPI(t, hub.Options{})
	spaced := strings.Replace(rec("b"), `{"id":`, "{ \"id\" :\n ", 1)
	status, answer, header := a.send("POST", batchPath, batchOf(rec("a"), spaced),
		"Edged-Edge", "edge=2e1", "Edged-Pipeline", "cold_chain", "Idempotency-Key", "k", "Content-Type", "application/json; charset=utf-8")
	if status != 200 || answer != `{"stored":2,"failed_ids":[]}` || header.Get("Content-Type") != "application/json" {
		t.Errorf("answer is %d %s %v", status, answer, header)
	}
	a.send("POST", batchPath, batchOf(rec("c")))
	want := []string{
		"edged.hub.records.edge=2e1.cold_chain.t.d=2e1 " + rec("a"),
		"edged.hub.records.edge=2e1.cold_chain.t.d=2e1 " + rec("b"),
		"edged.hub.records.http.ingest.t.d=2e1 " + rec("c"),
	}
	if diff := cmp.Diff(want, a.stored("EDGED_RECORDS")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	message := `{"id":"m1","topic":"a/b","priority":"critical","pipeline":"p","created":"2026-11-22T06:15:00Z","body":{"x":1}}`
	status, answer, _ = a.send("POST", "/api/messages/a%2Fb", []byte(message), "Edged-Edge", "e1")
	if status != 201 || answer != `{"stored":1,"id":"m1"}` {
		t.Errorf("answer is %d %s", status, answer)
	}
	status, _, _ = a.send("POST", "/api/messages/x", []byte(`{"id":"m2","topic":"x","body":1}`))
	if status != 201 {
		t.Errorf("answer to a message without a priority is %d", status)
	}
	want = []string{
		"edged.hub.queue.e1.critical.a=2fb " + message,
		`edged.hub.queue.http.normal.x {"id":"m2","topic":"x","body":1}`,
	}
	if diff := cmp.Diff(want, a.stored("EDGED_QUEUE")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if status, answer, _ := a.send("GET", "/health", nil); status != 200 || answer != `{"status":"ok"}` {
		t.Errorf("health is %d %s", status, answer)
	}
}

// TestIngestOnce holds that the same key is answered the same and stored once:
// again, at the same time, after a restart (I2).
func TestIngestOnce(t *testing.T) {
	a := startAPI(t, hub.Options{})
	body := batchOf(rec("a"), `{"id":"bad"}`, rec("b"))
	type result struct {
		status int
		answer string
	}
	var first result
	send := func(headers ...string) result {
		status, answer, _ := a.send("POST", batchPath, body, append(headers, "Idempotency-Key", "k1")...)
		return result{status, answer}
	}
	results := make([]result, 6)
	var all gosync.WaitGroup
	for i := range results {
		all.Go(func() { results[i] = send() })
	}
	all.Wait()
	for _, r := range results {
		if first = results[0]; r != first || r.status != 207 || !strings.Contains(r.answer, `"failed_ids":["bad"]`) {
			t.Errorf("answers differ: %v", results)
		}
	}
	a.stop()
	a.start()
	if r := send(); r != first {
		t.Errorf("after a restart the answer is %v, was %v", r, first)
	}
	if got := a.stored("EDGED_RECORDS"); len(got) != 2 {
		t.Errorf("stored %v", got)
	}
	if r := send("Edged-Edge", "another"); r.status != 207 || len(a.stored("EDGED_RECORDS")) != 4 {
		t.Errorf("another edge's key is the same: %v", r)
	}
	status, answer, _ := a.send("POST", batchPath, batchOf(rec("c")), "Idempotency-Key", "k1")
	if status != 422 || len(a.stored("EDGED_RECORDS")) != 4 {
		t.Errorf("the key with another body: %d %s", status, answer)
	}
	for range 2 {
		a.send("POST", batchPath, batchOf(rec("d"))) // without a key it is another request each time
	}
	if got := a.stored("EDGED_RECORDS"); len(got) != 6 {
		t.Errorf("stored %v", got)
	}
	for range 2 {
		a.send("POST", "/api/messages/x", []byte(`{"id":"m1","topic":"x","body":1}`))
	}
	if got := a.stored("EDGED_QUEUE"); len(got) != 1 {
		t.Errorf("stored %v", got)
	}
}

// TestIngestForgets holds that what remembers a key is bounded in time, and
// nothing else is.
func TestIngestForgets(t *testing.T) {
	a := startAPI(t, hub.Options{HTTPRemember: 90 * time.Second})
	a.send("POST", batchPath, batchOf(rec("a")), "Idempotency-Key", "k1")
	a.js(func(ctx context.Context, js jetstream.JetStream) {
		s, err := js.Stream(ctx, "EDGED_RECORDS")
		if err != nil {
			t.Fatal(err)
		}
		for seq, want := range map[uint64]string{1: "", 2: "90s"} {
			msg, err := s.GetMsg(ctx, seq)
			if err != nil {
				t.Fatal(err)
			}
			if got := msg.Header.Get("Nats-TTL"); got != want {
				t.Errorf("%s lives for %q, want %q", msg.Subject, got, want)
			}
		}
	})
}

func TestIngestRefuses(t *testing.T) {
	a := startAPI(t, hub.Options{HTTPToken: "s3cret"})
	zip := func(encoding string, body []byte) []byte {
		var out bytes.Buffer
		var w io.WriteCloser = gzip.NewWriter(&out)
		if encoding == "zstd" {
			var err error
			if w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	bomb := bytes.Repeat([]byte(" "), 64<<20)
	const auth = "Bearer s3cret"
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		headers      []string
		status       int
		want         string
	}{
		"no token":         {"POST", batchPath, batchOf(), nil, 401, "token"},
		"wrong token":      {"POST", batchPath, batchOf(), []string{"Authorization", "Bearer s3cre"}, 401, "token"},
		"basic":            {"POST", batchPath, batchOf(), []string{"Authorization", "Basic s3cret"}, 401, "token"},
		"messages":         {"POST", "/api/messages/x", nil, []string{"Authorization", "Bearer x"}, 401, "token"},
		"get":              {"GET", batchPath, nil, []string{"Authorization", auth}, 405, ""},
		"elsewhere":        {"POST", "/api/other", nil, []string{"Authorization", auth}, 404, ""},
		"a topic too much": {"POST", "/api/messages/a/b", nil, []string{"Authorization", auth}, 404, ""},
		"text":             {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Content-Type", "text/plain"}, 415, "Content-Type"},
		"brotli":           {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Content-Encoding", "br"}, 415, "Content-Encoding"},
		"not gzip":         {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Content-Encoding", "gzip"}, 400, "gzip"},
		"not zstd":         {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Content-Encoding", "zstd"}, 400, ""},
		"gzip bomb":        {"POST", batchPath, zip("gzip", bomb), []string{"Authorization", auth, "Content-Encoding", "gzip"}, 413, "decompressed"},
		"zstd bomb":        {"POST", batchPath, zip("zstd", bomb), []string{"Authorization", auth, "Content-Encoding", "zstd"}, 413, "decompressed"},
		"long":             {"POST", batchPath, bomb[:5<<20], []string{"Authorization", auth}, 413, "longer"},
		"empty":            {"POST", batchPath, nil, []string{"Authorization", auth}, 400, "JSON object"},
		"no records":       {"POST", batchPath, []byte(`{}`), []string{"Authorization", auth}, 400, "records"},
		"records twice":    {"POST", batchPath, []byte(`{"records":[],"records":[]}`), []string{"Authorization", auth}, 400, "records"},
		"no list":          {"POST", batchPath, []byte(`{"records":{}}`), []string{"Authorization", auth}, 400, "records"},
		"half":             {"POST", batchPath, []byte(`{"records":[{"id":`), []string{"Authorization", auth}, 400, "JSON"},
		"901 records":      {"POST", batchPath, numberedRecords(901), []string{"Authorization", auth}, 413, "900"},
		"long key":         {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Idempotency-Key", strings.Repeat("k", 256)}, 400, "Idempotency-Key"},
		"long edge":        {"POST", batchPath, batchOf(), []string{"Authorization", auth, "Edged-Edge", strings.Repeat("e", 256)}, 400, "edge"},
		"message no JSON":  {"POST", "/api/messages/x", []byte(`hello`), []string{"Authorization", auth}, 400, "message"},
		"message no id":    {"POST", "/api/messages/x", []byte(`{"topic":"x","body":1}`), []string{"Authorization", auth}, 422, "id"},
		"message no body":  {"POST", "/api/messages/x", []byte(`{"id":"1","topic":"x"}`), []string{"Authorization", auth}, 422, "body"},
		"other topic":      {"POST", "/api/messages/y", []byte(`{"id":"1","topic":"x","body":1}`), []string{"Authorization", auth}, 422, "topic"},
		"odd priority": {
			"POST", "/api/messages/x", []byte(`{"id":"1","topic":"x","body":1,"priority":"urgent"}`), []string{"Authorization", auth}, 422, "priority",
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer, header := a.send(c.method, c.path, c.body, c.headers...)
			if status != c.status || !strings.Contains(answer, c.want) {
				t.Errorf("answer is %d %.200s, want %d with %q", status, answer, c.status, c.want)
			}
			if status == 401 && header.Get("WWW-Authenticate") == "" {
				t.Error("401 does not say how")
			}
			if c.want != "" && json.Unmarshal([]byte(answer), &struct{ Error string }{}) != nil {
				t.Errorf("the answer is no JSON: %s", answer)
			}
		})
	}
	if got := a.stored("EDGED_RECORDS"); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		status, answer, _ := a.send("POST", batchPath, zip(encoding, numberedRecords(900)), "Authorization", "bearer s3cret", "Content-Encoding", encoding)
		if status != 200 {
			t.Errorf("%s: %d %s", encoding, status, answer)
		}
	}
	if got := a.stored("EDGED_RECORDS"); len(got) != 1800 {
		t.Errorf("stored %d", len(got))
	}
}

func TestIngestFailedRecords(t *testing.T) {
	a := startAPI(t, hub.Options{})
	long := strings.Repeat(".", 255) // three bytes each in a subject
	tooLong := strings.NewReplacer(`"d.1"`, `"`+long+`"`, `"t"`, `"`+long+`"`).Replace(rec("names"))
	status, answer, _ := a.send("POST", batchPath, batchOf(rec("a"), `7`, `{"id":"x","extra":1}`, rec(""), tooLong, rec("z")),
		"Edged-Edge", long, "Edged-Pipeline", long)
	var got struct {
		Stored int
		IDs    []string `json:"failed_ids"`
		Failed []struct {
			Index     int
			ID, Error string
		}
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if status != 207 || got.Stored != 2 || len(got.Failed) != 4 {
		t.Fatalf("answer is %d %s", status, answer)
	}
	if diff := cmp.Diff([]string{"", "x", "", "names"}, got.IDs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, want := range []string{"object", "extra", "id is empty", "too long together"} {
		if f := got.Failed[i]; f.Index != i+1 || !strings.Contains(f.Error, want) {
			t.Errorf("failure %d is %+v, want %q", i, f, want)
		}
	}
}

// TestIngestFull holds that a full hub says so, stores nothing by halves, and
// goes on when there is room (I9).
func TestIngestFull(t *testing.T) {
	a := startAPI(t, hub.Options{MaxBytes: 200 << 10})
	big := make([]string, 50)
	for i := range big {
		big[i] = strings.Replace(rec(fmt.Sprint(i)), `"v"`, `"`+strings.Repeat("v", 1000)+`"`, 1)
	}
	last := 0
	for n := range 10 {
		status, answer, header := a.send("POST", batchPath, batchOf(big...), "Idempotency-Key", fmt.Sprint(n))
		if last = status; status == 200 {
			continue
		}
		if status != 503 || header.Get("Retry-After") != "30" || !strings.Contains(answer, "full") {
			t.Errorf("answer is %d %s %v", status, answer, header)
		}
		break
	}
	if last != 503 {
		t.Fatal("the hub never was full")
	}
	before := len(a.stored("EDGED_RECORDS"))
	if before%50 != 0 {
		t.Errorf("%d records stored: a part of a batch", before)
	}
	a.js(func(ctx context.Context, js jetstream.JetStream) {
		s, err := js.Stream(ctx, "EDGED_RECORDS")
		if err == nil {
			err = s.Purge(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if status, answer, _ := a.send("POST", batchPath, batchOf(big...), "Idempotency-Key", "9"); status != 200 {
		t.Errorf("with room again the answer is %d %s", status, answer)
	}
}

// TestIngestTLS holds that the API is never in the clear when the hub has a
// certificate.
func TestIngestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := startAPI(t, hub.Options{TLSCert: write("crt", "CERTIFICATE", der), TLSKey: write("key", "PRIVATE KEY", private)})
	if !strings.HasPrefix(a.hub.HTTPURL(), "https://") {
		t.Fatalf("the API is at %s", a.hub.HTTPURL())
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	if status, _, _ := a.send("GET", "/health", nil); status != 200 {
		t.Errorf("health is %d", status)
	}
	plain, err := http.Get("http://" + strings.TrimPrefix(a.hub.HTTPURL(), "https://") + "/health")
	if err == nil {
		plain.Body.Close()
		if plain.StatusCode == 200 {
			t.Error("the API answers in the clear")
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
