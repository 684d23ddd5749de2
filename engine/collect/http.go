package collect

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// Times of an HTTP connection that nobody needs to change.
const (
	httpHeaderTimeout = 5 * time.Second
	httpWriteTimeout  = 10 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpMaxHeader     = 16 << 10
)

func httpSpec() config.Spec {
	args := []config.Arg{
		{Name: "listen", Type: config.String, Default: `"127.0.0.1:8080"`, Doc: "The address and port to listen on. The default is reachable from this machine alone; \":8080\" is every address."},
		{Name: "path", Type: config.String, Default: `"/records"`, Doc: "The path that takes records; every other one answers 404."},
		{Name: "token", Type: config.String, Doc: "When given, a request must carry it, as `Authorization: Bearer TOKEN`. Take it from the environment with `env(\"NAME\")`."},
		{Name: "wait", Type: config.Duration, Default: `"5s"`, Min: "10ms", Max: "5m", Doc: "How long a request waits for its turn, and again for a store that takes nothing, before it is answered 503."},
		{Name: "read_timeout", Type: config.Duration, Default: `"30s"`, Min: "100ms", Max: "10m", Doc: "How long a client may take to send a request."},
		{Name: "max_body", Type: config.Size, Default: `"1MiB"`, Min: "1KiB", Max: "64MiB", Doc: "The longest body, after decompression too. A longer one is answered 413."},
		{Name: "max_records", Type: config.Int, Default: "10000", Min: "1", Max: "100000", Doc: "The most records in one request. More are answered 413."},
		{Name: "max_requests", Type: config.Int, Default: "32", Min: "1", Max: "1000", Doc: "The most requests worked on at once; others wait. With max_body it bounds the memory."},
	}
	return config.Spec{
		Name:    "http",
		Summary: "Takes records by HTTP POST and answers when they are durable.",
		Doc: `A request carries one JSON object or an array of them (Content-Type: application/json), or one object
a line (application/x-ndjson), gzip compressed if it says so (Content-Encoding: gzip). When one of its
records is bad, none is stored.

The answer is a JSON object. 200 {"stored": n} comes only when all n records are on the disk; if the
edge made an id for a record that had none, "ids" lists the ids of all records in order. Any other
status is {"error": "…"}. With 503, and when no answer comes, a part may be stored all the same; with
the others nothing is.

- 400: the body is not what it should be; "index" (from 0) and "line" (from 1) tell where.
- 401: the token is missing or wrong. 404, 405: another path or method.
- 408: the body did not arrive within read_timeout.
- 413: longer than max_body or more records than max_records.
- 415: another Content-Type or Content-Encoding.
- 503 with Retry-After: the store or the disk is full, the disk cannot be written, or the edge is
  stopping; the text says which. Send the request again.

A client that got 503 or no answer sends its request again. Records that carry their own ids can then
be told from new ones. A bad request is not kept as a dead letter, because its sender knows and
still has it.

` + mappingDoc,
		Args: append(args, mappingArgs(expr.Input, "a new UUID, told in the answer")...),
		Example: `collect "http" "gateway" {
  listen   = "127.0.0.1:8080"
  path     = "/records"
  max_body = "4MiB"
}`,
		Check: checkHTTP,
	}
}

func checkHTTP(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if _, port, err := net.SplitHostPort(a.String("listen")); err != nil || port == "" {
		diags = append(diags, a.Error("listen", "Invalid address", fmt.Sprintf("%q is not an address to listen on. Write host and port, like \"127.0.0.1:8080\" or \":8080\".", a.String("listen"))))
	}
	if p := a.String("path"); !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?# ") {
		diags = append(diags, a.Error("path", "Invalid path", fmt.Sprintf("%q is not a path. It begins with a slash, like \"/records\", and has no space, ? or #.", p)))
	}
	if a.Given("token") && a.String("token") == "" {
		diags = append(diags, a.Error("token", "Empty token", "The token is empty, so that every request would have it. Remove the argument to take requests without a token, or check that the environment variable it comes from is set."))
	}
	return diags
}

// httpSource takes records by HTTP.
type httpSource struct {
	opts                Options
	args                config.Args
	listen, path        string
	token               *[sha256.Size]byte // hashed; nil: none is asked for
	wait, readTimeout   time.Duration
	maxBody             int64
	maxRecords, atATime int
	retryAfter          string // seconds
}

var _ Source = (*httpSource)(nil)

func openHTTP(opts Options, args config.Args) (Source, error) {
	if opts.UntilEnd {
		return nil, endless(opts, args)
	}
	s := &httpSource{
		opts: opts.withDefaults(), args: args,
		listen: args.String("listen"), path: args.String("path"),
		wait: args.Duration("wait"), readTimeout: args.Duration("read_timeout"),
		maxBody: args.Size("max_body"), maxRecords: int(args.Int("max_records")), atATime: int(args.Int("max_requests")),
	}
	if args.Has("token") {
		sum := sha256.Sum256([]byte(args.String("token")))
		s.token = &sum
	}
	s.retryAfter = fmt.Sprint(max(1, int(s.wait.Round(time.Second)/time.Second)))
	return s, nil
}

// endless refuses a source that never ends in a run that waits for the end.
func endless(opts Options, args config.Args) error {
	return fmt.Errorf("opening the source %q: this run ends when its sources end, but the source at %s takes what others send and has no end; run it without that condition or leave the block out", opts.Name, args.Range)
}

// Run serves until ctx ends, then finishes the requests it has; see [Source].
// It has no position.
func (s *httpSource) Run(ctx context.Context, _ json.RawMessage, sink Sink) error {
	l, err := s.opts.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listening for the source %q: %w; check listen at %s", s.opts.Name, err, s.args.ArgRange("listen"))
	}
	s.opts.Logger.Info("listening", "address", l.Addr().String(), "path", s.path)

	// Requests live on after ctx, until they are done or the grace is over.
	hard, stopHard := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHard()
	open, stop := context.WithCancel(ctx)
	defer stop()
	h := newIntake(s, sink, open.Done())
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       s.readTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpMaxHeader,
		ErrorLog:          slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return hard },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	select {
	case err = <-served:
		err = fmt.Errorf("serving the source %q: %w", s.opts.Name, err)
		served <- http.ErrServerClosed // what is read below
	case err = <-h.failed:
	case <-ctx.Done():
	}
	stop()
	grace, cancel := context.WithTimeout(hard, stopGrace)
	defer cancel()
	if shutdownErr := server.Shutdown(grace); shutdownErr != nil {
		s.opts.Logger.Warn("requests were cut off", "error", shutdownErr)
		stopHard()
		if closeErr := server.Close(); closeErr != nil {
			s.opts.Logger.Debug("closing the listener", "error", closeErr)
		}
	}
	h.finish()
	if servedErr := <-served; err == nil && !errors.Is(servedErr, http.ErrServerClosed) {
		err = fmt.Errorf("serving the source %q: %w", s.opts.Name, servedErr)
	}
	return err
}
