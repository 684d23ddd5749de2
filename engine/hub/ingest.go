package hub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// Bounds of the ingest API (I9).
const (
	MaxIngestRecords = 900     // in one request, so that they fit one atomic batch
	maxIngestBody    = 4 << 20 // bytes as sent
	maxIngestPlain   = 8 << 20 // bytes after decompression
	maxIngestSlots   = 8       // requests worked on at once
	maxKeyBytes      = 255
	maxNameBytes     = 255
	maxSubjectBytes  = 3 << 10 // a NATS server takes control lines of 4 KiB
)

// Times of the ingest API.
const (
	ingestHeaderTimeout = 5 * time.Second
	ingestBodyTimeout   = 30 * time.Second
	ingestAnswerTimeout = 90 * time.Second
	ingestIdleTimeout   = 2 * time.Minute
	ingestStoreTimeout  = 30 * time.Second
	ingestSlotTimeout   = 5 * time.Second
	ingestStopTimeout   = 10 * time.Second
	healthTimeout       = 2 * time.Second
	// storeFullAfter is what Retry-After says when the streams are full.
	storeFullAfter = 30 * time.Second
	busyAfter      = time.Second
)

// Names of clients that do not give theirs.
const (
	foreignEdge     = "http"
	foreignPipeline = "ingest"
)

// ingest serves the HTTP API that stores into the hub's streams.
type ingest struct {
	nc       *nats.Conn
	disk     *diskGuard
	log      *slog.Logger
	token    [sha256.Size]byte
	open     bool // no token is required
	remember time.Duration
	slots    chan *broker.AtomicBatch // as many as requests may be worked on
	server   *http.Server
	stopping context.Context // ends when close begins
	stop     context.CancelFunc
	addr     string
	done     chan struct{}
}

func startIngest(b *broker.Broker, disk *diskGuard, opts Options) (*ingest, error) {
	listener, err := net.Listen("tcp", opts.HTTPListen)
	if err != nil {
		return nil, fmt.Errorf("opening the ingest API: %w", err)
	}
	in := &ingest{
		disk: disk, log: opts.Logger, token: sha256.Sum256([]byte(opts.HTTPToken)), open: opts.HTTPToken == "",
		remember: opts.HTTPRemember, slots: make(chan *broker.AtomicBatch, maxIngestSlots),
		addr: listener.Addr().String(), done: make(chan struct{}),
	}
	in.stopping, in.stop = context.WithCancel(context.Background())
	in.server = &http.Server{
		Handler: in.handler(), ReadHeaderTimeout: ingestHeaderTimeout, ReadTimeout: ingestBodyTimeout,
		WriteTimeout: ingestAnswerTimeout, IdleTimeout: ingestIdleTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	if opts.TLSCert != "" {
		files := broker.TLSFiles{CA: opts.TLSCA, Cert: opts.TLSCert, Key: opts.TLSKey}
		if in.server.TLSConfig, err = files.ServerConfig(); err != nil {
			return nil, errors.Join(fmt.Errorf("opening the ingest API: %w", err), listener.Close())
		}
	}
	if in.nc, err = b.Connect("ingest"); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the ingest API: %w", err), listener.Close())
	}
	for range maxIngestSlots {
		in.slots <- broker.NewAtomicBatch(in.nc)
	}
	go func() {
		defer close(in.done)
		serve := in.server.Serve
		if in.server.TLSConfig != nil {
			serve = func(l net.Listener) error { return in.server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			in.log.Error("ingest API", "error", err)
		}
	}()
	return in, nil
}

// close lets requests under way end, for a bounded time.
func (in *ingest) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), ingestStopTimeout)
	defer cancel()
	in.stop()
	err := in.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, in.server.Close())
	}
	<-in.done
	in.nc.Close()
	return err
}

func (in *ingest) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+sync.HTTPHealthPath, in.health)
	mux.HandleFunc("POST "+sync.HTTPBatchPath, in.take(func(_ *http.Request, from sender, body []byte) (*delivery, error) {
		return readBatch(from, body)
	}))
	mux.HandleFunc("POST "+sync.HTTPMessagePath+"{topic}", in.take(func(r *http.Request, from sender, body []byte) (*delivery, error) {
		return readMessage(from, r.PathValue("topic"), body)
	}))
	in.serveKeyed(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// refusal is a request that is not taken.
type refusal struct {
	status int
	after  time.Duration // Retry-After
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

// health tells whether the hub can store: it asks for the record stream.
func (in *ingest) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if _, err := in.nc.RequestWithContext(ctx, broker.APIPrefix("")+"STREAM.INFO."+sync.HubRecordStream, nil); err != nil {
		in.fail(w, &refusal{status: http.StatusServiceUnavailable, after: busyAfter, reason: "the hub's store does not answer"})
		return
	}
	in.answer(w, http.StatusOK, []byte(`{"status":"ok"}`))
}

// take is the way of every request that stores something.
func (in *ingest) take(read func(*http.Request, sender, []byte) (*delivery, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := in.authorize(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="edged"`)
			in.fail(w, err)
			return
		}
		key := r.Header.Get(sync.HeaderIdempotencyKey)
		from, err := senderOf(r.Header)
		if err == nil && len(key) > maxKeyBytes {
			err = refuse(http.StatusBadRequest, "the Idempotency-Key is longer than %d bytes", maxKeyBytes)
		}
		if err != nil {
			in.fail(w, err)
			return
		}
		batch, err := in.slot(r.Context())
		if err != nil {
			in.fail(w, err)
			return
		}
		defer func() { in.slots <- batch }()
		body, err := readBody(w, r)
		if err != nil {
			in.fail(w, err)
			return
		}
		d, err := read(r, from, body)
		if err != nil {
			in.fail(w, err)
			return
		}
		d.name(from.edge, key, body)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ingestStoreTimeout)
		defer cancel()
		status, answer, err := in.store(ctx, batch, d)
		if err != nil {
			in.fail(w, err)
			return
		}
		in.answer(w, status, answer)
	}
}

func (in *ingest) authorize(r *http.Request) error {
	if in.open {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], in.token[:]) != 1 {
		return refuse(http.StatusUnauthorized, "the bearer token is missing or wrong")
	}
	return nil
}

// slot waits a while for its turn, if the disk takes anything.
func (in *ingest) slot(ctx context.Context) (*broker.AtomicBatch, error) {
	if err := in.disk.refuses(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, ingestSlotTimeout)
	defer cancel()
	select {
	case b := <-in.slots:
		return b, nil
	case <-ctx.Done():
		return nil, &refusal{status: http.StatusServiceUnavailable, after: busyAfter, reason: "too many requests at once"}
	}
}

// fail answers with an error, and logs those that are not the client's.
func (in *ingest) fail(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		in.log.Warn("ingest API", "error", err)
		r = &refusal{status: http.StatusServiceUnavailable, after: busyAfter, reason: "the hub could not store it; send it again"}
	}
	if r.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(r.after/time.Second)))
	}
	body, err := json.Marshal(map[string]string{"error": r.reason})
	if err != nil {
		in.log.Error("ingest API", "error", err)
	}
	in.answer(w, r.status, body)
}

func (in *ingest) answer(w http.ResponseWriter, status int, body []byte) {
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		in.log.Debug("ingest API: answering", "error", err)
	}
}

// sender is who a request says it is from.
type sender struct{ edge, pipeline string }

// senderOf reads the headers: names escaped like subject tokens, or as they are.
func senderOf(h http.Header) (sender, error) {
	name := func(header, otherwise string) string {
		value := h.Get(header)
		if value == "" {
			return otherwise
		}
		if plain, err := record.Untoken(value); err == nil {
			return plain
		}
		return value
	}
	from := sender{edge: name(sync.HeaderEdge, foreignEdge), pipeline: name(sync.HeaderPipeline, foreignPipeline)}
	for _, s := range []string{from.edge, from.pipeline} {
		if s == "" || len(s) > maxNameBytes {
			return sender{}, refuse(http.StatusBadRequest, "the name of the edge or pipeline is empty or longer than %d bytes", maxNameBytes)
		}
	}
	return from, nil
}
