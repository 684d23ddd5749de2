package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memorySink keeps what it is given.
type memorySink struct {
	mu      sync.Mutex
	batches []*Batch
	// refuse is asked before batch n is taken; nil: take all.
	refuse func(n int) error
	// held: Done is left to the test.
	held bool
	// taken, when not nil, hears of every batch taken.
	taken chan *Batch
	// trouble is what Trouble returns.
	trouble atomic.Pointer[error]
}

func (s *memorySink) Trouble() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *memorySink) Put(ctx context.Context, b *Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.refuse != nil {
		if err := s.refuse(len(s.batches)); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	s.batches = append(s.batches, b)
	s.mu.Unlock()
	if b.Done != nil && !s.held {
		b.Done(nil)
	}
	if s.taken != nil {
		s.taken <- b
	}
	return nil
}

func (s *memorySink) all() []*Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Batch(nil), s.batches...)
}

func (s *memorySink) records() []record.Record {
	var all []record.Record
	for _, b := range s.all() {
		all = append(all, b.Records...)
	}
	return all
}

func (s *memorySink) rejected() []record.DeadLetter {
	var all []record.DeadLetter
	for _, b := range s.all() {
		all = append(all, b.Rejected...)
	}
	return all
}

func (s *memorySink) payloads() []string {
	var all []string
	for _, r := range s.records() {
		all = append(all, string(r.Payload))
	}
	return all
}

func (s *memorySink) position() json.RawMessage {
	batches := s.all()
	if len(batches) == 0 {
		return nil
	}
	return batches[len(batches)-1].Position
}

// stepClock is a clock that stands still but for sleeps. A sleeper tells
// asleep and sleeps until wake, when these are not nil.
type stepClock struct {
	mu     sync.Mutex
	now    time.Time
	asleep chan time.Duration
	wake   chan struct{}
}

func newStepClock() *stepClock {
	return &stepClock{now: time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)}
}

// stepped makes sleeps wait for the test.
func (c *stepClock) stepped() *stepClock {
	c.asleep, c.wake = make(chan time.Duration), make(chan struct{})
	return c
}

func (c *stepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stepClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *stepClock) Sleep(ctx context.Context, d time.Duration) {
	if c.asleep != nil {
		select {
		case c.asleep <- d:
		case <-ctx.Done():
			return
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
	c.add(d)
}

func testOptions(c *stepClock) Options {
	return Options{
		Pipeline: "cold_chain", Name: "source", DeviceID: "edge-1",
		Host: expr.Host{Now: c.Now}, Sleep: c.Sleep,
	}
}

// parse reads the arguments of a block of that kind.
func parse(t testing.TB, spec config.Spec, format string, args ...any) config.Args {
	t.Helper()
	a, diags := config.ParseBlock(spec, []byte(fmt.Sprintf(format, args...)), "test.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return a
}

// background runs a source until the test stops it.
type background struct {
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, s Source, position json.RawMessage, sink Sink) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &background{cancel: cancel, ended: make(chan error, 1)}
	go func() { b.ended <- s.Run(ctx, position, sink) }()
	t.Cleanup(func() {
		cancel()
		_ = b.wait(t) // the test has looked at it where it matters
	})
	return b
}

// wait returns how the run ended.
func (b *background) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-b.ended:
		b.ended <- err
		return err
	case <-time.After(20 * time.Second):
		t.Error("the source does not end")
		return errors.New("running")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// Every kind's example is a block that validates, and every argument says what
// it is.
func TestKinds(t *testing.T) {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Spec.Name)
		if k.Spec.Summary == "" || k.Spec.Doc == "" || k.Open == nil {
			t.Errorf("%s: incomplete declaration", k.Spec.Name)
		}
		for _, a := range k.Spec.Args {
			if a.Doc == "" {
				t.Errorf("%s.%s has no doc", k.Spec.Name, a.Name)
			}
		}
		catalog := config.Catalog{}
		for _, other := range Kinds() {
			catalog.Collects = append(catalog.Collects, other.Spec)
		}
		file := "pipeline \"p\" {\n" + k.Spec.Example + "\n}\n"
		if _, diags := config.Parse(map[string][]byte{"example.hcl": []byte(file)}, catalog, expr.Host{}); len(diags) > 0 {
			t.Errorf("%s: the example: %v", k.Spec.Name, diags)
		}
	}
	diff(t, "kinds", []string{"file", "generator", "http", "nats"}, names)
}

// Kinds' checks report what the arguments are wrong about together.
func TestChecks(t *testing.T) {
	tests := []struct {
		spec config.Spec
		body string
		want []string // parts of the diagnostics, in order
	}{
		{fileSpec(), `path = "x"`, nil},
		{fileSpec(), `path = "x"
			columns = { a = "number" }
			header  = ["a"]`, []string{`"columns" describes CSV`, `"header" describes CSV`}},
		{fileSpec(), `path = "x"
			format    = "csv"
			columns   = { a = "float" }
			delimiter = ";;"`, []string{`The column "a" has the type "float"`, `The delimiter is ";;"`}},
		{fileSpec(), `path = "x"
			format  = "csv"
			columns = { b = "number" }
			header  = ["a", "a"]`, []string{`both named "a"`}},
		{fileSpec(), `path = "x"
			format  = "csv"
			columns = { b = "number" }
			header  = ["a"]`, []string{`names "b", but the header has a`}},
		{fileSpec(), `path = "x"
			format = "csv"
			header = []`, []string{"names no column"}},
		{generatorSpec(), `payload = {}`, []string{"every and count"}},
		{generatorSpec(), `payload = {}
			count = 5
			burst = 2`, []string{"without the argument every there are no ticks"}},
		{httpSpec(), `listen = "8080"
			path   = "records"
			token  = ""`, []string{"not an address to listen on", "begins with a slash", "every request would have it"}},
		{natsSpec(), `subject = "a..b"
			urls = []
			queue_group = "a b"`, []string{"not a NATS subject", "queue group", "The list urls is empty"}},
		{natsSpec(), `subject = ">"`, []string{"collected again for ever"}},
		{natsSpec(), `subject = "edged.records.>"`, []string{"collected again for ever"}},
		{natsSpec(), `subject = "*.records.>"`, []string{"collected again for ever"}},
		{natsSpec(), `subject = "$JS.>"`, []string{"collected again for ever"}},
		{natsSpec(), `subject = "*"`, nil},
		{natsSpec(), `subject = ">"
			urls = ["nats://elsewhere"]`, nil},
		{natsSpec(), `subject = "a.>"
			credentials = "x"`, []string{"the edge's own needs none"}},
	}
	for _, test := range tests {
		_, diags := config.ParseBlock(test.spec, []byte(test.body), "test.hcl")
		if len(diags) != len(test.want) {
			t.Errorf("%s %s: %d diagnostics, want %d: %v", test.spec.Name, test.body, len(diags), len(test.want), diags)
			continue
		}
		for _, want := range test.want {
			found := false
			for _, d := range diags {
				found = found || strings.Contains(d.Detail, want)
				if d.Subject == nil {
					t.Errorf("%s: no range: %v", test.spec.Name, d)
				}
			}
			if !found {
				t.Errorf("%s %s: no diagnostic with %q: %v", test.spec.Name, test.body, want, diags)
			}
		}
	}
}

func TestEndlessSourcesRefuseToRunUntilTheEnd(t *testing.T) {
	for _, test := range []struct {
		kind string
		body string
	}{
		{"generator", "every = \"1s\"\npayload = {}"},
		{"http", ""},
		{"nats", `subject = "a"`},
	} {
		for _, k := range Kinds() {
			if k.Spec.Name != test.kind {
				continue
			}
			opts := testOptions(newStepClock())
			opts.UntilEnd = true
			_, err := k.Open(opts, parse(t, k.Spec, "%s", test.body))
			if err == nil || !strings.Contains(err.Error(), `"source"`) || !strings.Contains(err.Error(), "test.hcl") {
				t.Errorf("%s: the error does not name the block and its place: %v", test.kind, err)
			}
		}
	}
}

// A source offers a batch that found the store full again, and nothing is lost
// or repeated.
func TestFullStoreIsOfferedTheBatchAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.ndjson")
	write(t, path, "{\"n\":1}\n{\"n\":2}\n")
	clock := newStepClock()
	refusals := 0
	sink := &memorySink{refuse: func(int) error {
		if refusals++; refusals < 4 {
			return fmt.Errorf("storing: %w", ErrFull)
		}
		return nil
	}}
	before := clock.Now()
	if err := openedFile(t, clock, `path = %q`, path).Run(t.Context(), nil, sink); err != nil {
		t.Fatal(err)
	}
	diff(t, "payloads", []string{`{"n":1}`, `{"n":2}`}, sink.payloads())
	diff(t, "time waited", 3*fullPause, clock.Now().Sub(before))
}

// A refused batch ends the run, so that nothing behind it is stored before it.
func TestRefusedBatchEndsTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.ndjson")
	write(t, path, strings.Repeat("{\"n\":1}\n", 3*batchRecords))
	refused := errors.New("the disk is broken")

	t.Run("by Put", func(t *testing.T) {
		sink := &memorySink{refuse: func(n int) error {
			if n == 1 {
				return refused
			}
			return nil
		}}
		err := openedFile(t, newStepClock(), `path = %q`, path).Run(t.Context(), nil, sink)
		if !errors.Is(err, refused) || len(sink.all()) != 1 {
			t.Errorf("%d batches, error %v", len(sink.all()), err)
		}
	})
	t.Run("by Done", func(t *testing.T) {
		sink := &memorySink{held: true, taken: make(chan *Batch)}
		run := start(t, openedFile(t, newStepClock(), `path = %q`, path), nil, sink)
		(<-sink.taken).Done(refused)
		for ended := false; !ended; {
			select {
			case <-sink.taken: // one that was on its way
			case err := <-run.ended:
				run.ended <- err
				ended = true
			}
		}
		if err := run.wait(t); !errors.Is(err, refused) {
			t.Errorf("error %v", err)
		}
	})
}
