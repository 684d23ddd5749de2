package collect

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/edged/edged/engine/record"
)

// intake answers the requests of one run.
type intake struct {
	src  *httpSource
	sink Sink
	// free holds one worker for each request that may be worked on.
	free     chan *httpWorker
	stopping <-chan struct{}
	failed   chan error // holds the first batch's refusal that ends the run
}

// httpWorker is what one request needs while it is worked on.
type httpWorker struct {
	mapper *mapper
	made   int // ids made for the present request
}

func newIntake(s *httpSource, sink Sink, stopping <-chan struct{}) *intake {
	h := &intake{src: s, sink: sink, stopping: stopping, failed: make(chan error, 1), free: make(chan *httpWorker, s.atATime)}
	for range s.atATime {
		w := &httpWorker{}
		w.mapper = newMapper(s.opts, s.args, func() string {
			w.made++
			return uniqueID(s.opts.Host.Now())
		})
		h.free <- w
	}
	return h
}

// answer is the body of a response.
type answer struct {
	Stored *int     `json:"stored,omitempty"`
	IDs    []string `json:"ids,omitempty"`
	Error  string   `json:"error,omitempty"`
	Index  *int     `json:"index,omitempty"`
	Line   *int     `json:"line,omitempty"`
	status int
}

func refuse(status int, reason string) answer { return answer{status: status, Error: reason} }

func (h *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	// The deadline of the response before this one on the connection is over.
	// A writer that knows no deadline has none to clear.
	_ = control.SetWriteDeadline(time.Time{})

	a := h.handle(control, w, r)

	body, err := json.Marshal(a)
	if err != nil {
		panic("collect: an answer that is no JSON: " + err.Error())
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	switch a.status {
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", h.src.retryAfter)
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusMethodNotAllowed:
		header.Set("Allow", http.MethodPost)
	}
	_ = control.SetWriteDeadline(time.Now().Add(httpWriteTimeout))
	w.WriteHeader(a.status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		h.src.opts.Logger.Debug("answering a request", "error", err)
	}
}

func (h *intake) handle(control *http.ResponseController, w http.ResponseWriter, r *http.Request) answer {
	lines, refused := h.check(r)
	if refused != nil {
		return *refused
	}
	worker, ok := h.acquire(r.Context())
	if !ok {
		return refuse(http.StatusServiceUnavailable, "too many requests at once; send it again later")
	}
	defer func() { h.free <- worker }()

	body, refused := h.read(w, r)
	if refused != nil {
		return *refused
	}
	// From here on only the store may take its time.
	_ = control.SetReadDeadline(time.Time{})

	worker.made = 0
	worker.mapper.freshArena()
	records, refused := parseBody(worker.mapper, body, lines, h.src.maxRecords)
	if refused != nil {
		h.src.opts.Logger.Info("a request was refused", "client", r.RemoteAddr, "error", refused.Error)
		return *refused
	}
	var ids []string
	if worker.made > 0 {
		ids = make([]string, len(records))
		for i := range records {
			ids[i] = records[i].ID
		}
	}
	n := len(records)
	if refused := h.store(r.Context(), records); refused != nil {
		return *refused
	}
	return answer{status: http.StatusOK, Stored: &n, IDs: ids}
}

// check looks at everything before the body. Lines tells that the body is
// NDJSON.
func (h *intake) check(r *http.Request) (lines bool, refused *answer) {
	no := func(status int, reason string) (bool, *answer) {
		a := refuse(status, reason)
		return false, &a
	}
	if r.URL.Path != h.src.path {
		return no(http.StatusNotFound, "there is nothing here; records go to "+h.src.path)
	}
	if h.src.token != nil {
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], h.src.token[:]) != 1 || !found {
			return no(http.StatusUnauthorized, "the token is missing or wrong; send \"Authorization: Bearer <token>\"")
		}
	}
	if r.Method != http.MethodPost {
		return no(http.StatusMethodNotAllowed, "records are sent by POST")
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || charset != "" && !strings.EqualFold(charset, "utf-8") {
		kind = ""
	}
	switch kind {
	case "application/json":
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		lines = true
	default:
		return no(http.StatusUnsupportedMediaType, "the Content-Type must be application/json or application/x-ndjson, in UTF-8")
	}
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity", "gzip":
	default:
		return no(http.StatusUnsupportedMediaType, "the Content-Encoding must be gzip or none")
	}
	if r.ContentLength > h.src.maxBody {
		return no(http.StatusRequestEntityTooLarge, h.tooLong())
	}
	select {
	case <-h.stopping:
		return no(http.StatusServiceUnavailable, "the edge is stopping; send it again later")
	default:
		return lines, nil
	}
}

func (h *intake) tooLong() string {
	return "the body is longer than max_body; send fewer records in one request"
}

// acquire waits for a worker.
func (h *intake) acquire(ctx context.Context) (*httpWorker, bool) {
	select {
	case w := <-h.free:
		return w, true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, h.src.wait)
	defer cancel()
	select {
	case w := <-h.free:
		return w, true
	case <-h.stopping:
	case <-ctx.Done():
	}
	return nil, false
}

// finish waits until no request is worked on any more, and lets none begin.
func (h *intake) finish() {
	for range h.src.atATime {
		<-h.free
	}
}

// read returns the body, decompressed.
func (h *intake) read(w http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	body, err := h.readAll(w, r)
	var a answer
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), err == nil && int64(len(body)) > h.src.maxBody:
		a = refuse(http.StatusRequestEntityTooLarge, h.tooLong())
	case err == nil:
		return body, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		a = refuse(http.StatusRequestTimeout, "the body did not arrive in time")
	default:
		a = refuse(http.StatusBadRequest, "reading the body: "+err.Error())
	}
	return nil, &a
}

func (h *intake) readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limited := http.MaxBytesReader(w, r.Body, h.src.maxBody)
	if !strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		if n := r.ContentLength; n > 0 {
			body := make([]byte, n)
			_, err := io.ReadFull(limited, body)
			return body, err
		}
		return io.ReadAll(limited)
	}
	z, err := gzip.NewReader(limited)
	if err != nil {
		return nil, err
	}
	// One byte more than allowed tells that there is more (I9).
	return io.ReadAll(io.LimitReader(z, h.src.maxBody+1))
}

// outcome waits until what the sink has taken is durable or refused, or the
// client is gone. When the sink has been in trouble for the time of a wait the
// client is told so, though its records may be stored later.
func (h *intake) outcome(ctx context.Context, done <-chan error) (fatal bool, err error) {
	tick := time.NewTicker(h.src.wait)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err != nil, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
			if err := h.sink.Trouble(); err != nil {
				return false, err
			}
		}
	}
}

// store hands the records on and returns nil when they are durable (I1).
func (h *intake) store(ctx context.Context, records []record.Record) *answer {
	if len(records) == 0 {
		return nil
	}
	done := make(chan error, 1)
	wait, cancel := context.WithTimeout(ctx, h.src.wait)
	defer cancel()
	err := h.sink.Put(wait, &Batch{Records: records, Done: func(err error) { done <- err }})
	// What the sink says of itself ends the run; that it is full, or that the
	// request is over, does not.
	fatal := err != nil && !errors.Is(err, ErrFull) && wait.Err() == nil
	if err == nil {
		fatal, err = h.outcome(ctx, done)
	}
	if err == nil {
		return nil
	}
	reason := "the records could not be stored; send them again later"
	switch {
	case fatal:
		select {
		case h.failed <- errRefused{err}:
		default: // the run ends already
		}
	case errors.Is(err, ErrFull), errors.Is(err, context.DeadlineExceeded):
		reason = fullReason(err) + "; send the records again later"
	}
	a := refuse(http.StatusServiceUnavailable, reason)
	return &a
}
