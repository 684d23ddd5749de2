// Package api serves keyed records to programs beside the edge, by HTTP and by
// NATS requests on the edge's own broker.
package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/keyed/table"
)

// Options is what the API serves.
type Options struct {
	Stores func() []*keyed.Store // called for each request
	Token  string                // required of HTTP clients; empty: none is
	Logger *slog.Logger          // nil: silent
}

// handler serves HTTP below /keyed.
type handler struct {
	stores func() []*keyed.Store
	token  *[sha256.Size]byte
	log    *slog.Logger
}

const (
	root = "/keyed"
	// listMost bounds a page of a list, listDefault is its size when nobody says.
	listMost, listDefault = 1000, 100

	headerRevision = "Edged-Revision"
	headerPending  = "Edged-Pending"
	headerConflict = "Edged-Conflict"
)

// NewHandler returns the HTTP handler of the API. It looks at paths as they are:
// it is to be served as it is, without a multiplexer that cleans them.
func NewHandler(o Options) http.Handler {
	h := &handler{stores: o.Stores, log: o.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if o.Token != "" {
		sum := sha256.Sum256([]byte(o.Token))
		h.token = &sum
	}
	return h
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.allowed(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		h.fail(w, http.StatusUnauthorized, "the bearer token is missing or wrong")
		return
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), root)
	if !ok || path != "" && path[0] != '/' {
		h.fail(w, http.StatusNotFound, "there is only "+root)
		return
	}
	name, rest, hasKey := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if name == "" {
		h.only(w, r, h.status, http.MethodGet)
		return
	}
	store, key, err := h.find(name, rest)
	switch {
	case err != nil:
		h.fail(w, http.StatusBadRequest, err.Error())
	case store == nil:
		h.fail(w, http.StatusNotFound, "there is no keyed store of that name")
	case !hasKey || key == "":
		h.only(w, r, func(w http.ResponseWriter, r *http.Request) { h.list(w, r, store) }, http.MethodGet)
	default:
		h.key(w, r, store, key)
	}
}

func (h *handler) allowed(r *http.Request) bool {
	if h.token == nil {
		return true
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	return ok && subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
}

func (h *handler) find(name, rest string) (*keyed.Store, string, error) {
	store, err := url.PathUnescape(name)
	if err != nil {
		return nil, "", err
	}
	key, err := url.PathUnescape(rest)
	return find(h.stores, func(s *keyed.Store) bool { return s.Name() == store }), key, err
}

// find returns the store that is meant, or nil.
func find(stores func() []*keyed.Store, is func(*keyed.Store) bool) *keyed.Store {
	all := stores()
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i]
	}
	return nil
}

// only serves one method.
func (h *handler) only(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc, method string) {
	if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
		w.Header().Set("Allow", method)
		h.fail(w, http.StatusMethodNotAllowed, "the method is "+method)
		return
	}
	serve(w, r)
}

func (h *handler) key(w http.ResponseWriter, r *http.Request, s *keyed.Store, key string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.get(w, r, s, key)
	case http.MethodPut:
		h.put(w, r, s, key)
	case http.MethodDelete:
		if err := s.Delete(r.Context(), key, condition(r)); err != nil {
			h.error(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		h.fail(w, http.StatusMethodNotAllowed, "the methods of a key are GET, HEAD, PUT and DELETE")
	}
}

// condition reads If-Match and If-None-Match. Of several ETags the first counts.
func condition(r *http.Request) keyed.Condition {
	tag := func(name string) string {
		first, _, _ := strings.Cut(r.Header.Get(name), ",")
		return strings.Trim(strings.TrimPrefix(strings.TrimSpace(first), "W/"), `"`)
	}
	return keyed.Condition{Match: tag("If-Match"), NoneMatch: tag("If-None-Match")}
}

func (h *handler) get(w http.ResponseWriter, r *http.Request, s *keyed.Store, key string) {
	e, err := s.Get(r.Context(), key)
	if err != nil {
		h.error(w, err)
		return
	}
	describe(w, &e)
	if c := condition(r); c.NoneMatch != "" && (c.NoneMatch == e.ETag || c.NoneMatch == "*") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(e.Body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		h.write(w, e.Body)
	}
}

// describe says of a value what is not in its body.
func describe(w http.ResponseWriter, e *keyed.Entry) {
	head := w.Header()
	head.Set("ETag", `"`+e.ETag+`"`)
	head.Set("Last-Modified", e.Time.Format(http.TimeFormat))
	head.Set(headerRevision, strconv.FormatUint(e.Revision, 10))
	if e.Pending {
		head.Set(headerPending, "true")
	}
	if e.Conflict != "" {
		head.Set(headerConflict, e.Conflict)
	}
}

func (h *handler) put(w http.ResponseWriter, r *http.Request, s *keyed.Store, key string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, keyed.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		h.fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a value has at most %d bytes", keyed.MaxBodyBytes))
		return
	case err != nil:
		h.fail(w, http.StatusBadRequest, "reading the value: "+err.Error())
		return
	}
	_, before := s.Get(r.Context(), key)
	e, err := s.Put(r.Context(), key, body, condition(r))
	if err != nil {
		h.error(w, err)
		return
	}
	describe(w, &e)
	status := http.StatusOK
	if errors.Is(before, keyed.ErrNotFound) {
		status = http.StatusCreated
	}
	e.Body = nil // its sender has it
	h.answer(w, status, &e)
}

func (h *handler) list(w http.ResponseWriter, r *http.Request, s *keyed.Store) {
	q := r.URL.Query()
	limit := listDefault
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > listMost {
			h.fail(w, http.StatusBadRequest, fmt.Sprintf("limit is a number from 1 to %d", listMost))
			return
		}
		limit = n
	}
	page, err := listPage(r, s, q.Get("prefix"), q.Get("after"), limit)
	if err != nil {
		h.error(w, err)
		return
	}
	h.answer(w, http.StatusOK, page)
}

// page is a part of a list.
type page struct {
	Entries []keyed.Entry `json:"entries"`
	// Next is what to ask for as after; empty: that was all.
	Next string `json:"next,omitempty"`
}

func listPage(r *http.Request, s *keyed.Store, prefix, after string, limit int) (page, error) {
	entries, err := s.List(r.Context(), prefix, after, limit)
	p := page{Entries: entries}
	if len(entries) == limit {
		p.Next = entries[limit-1].Key
	}
	if p.Entries == nil {
		p.Entries = []keyed.Entry{}
	}
	return p, err
}

func (h *handler) status(w http.ResponseWriter, _ *http.Request) {
	stores := []keyed.Status{}
	for _, s := range h.stores() {
		stores = append(stores, s.Status())
	}
	h.answer(w, http.StatusOK, map[string]any{"stores": stores})
}

// statusOf says which status an error has.
func statusOf(err error) int {
	switch {
	case errors.Is(err, keyed.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, keyed.ErrPrecondition):
		return http.StatusPreconditionFailed
	case errors.Is(err, keyed.ErrRefused):
		return http.StatusUnprocessableEntity
	case errors.Is(err, table.ErrFull), errors.Is(err, table.ErrClosed), errors.Is(err, table.ErrUnknown):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func (h *handler) error(w http.ResponseWriter, err error) {
	status := statusOf(err)
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusInternalServerError:
		h.log.Error("a keyed record could not be served", "error", err)
	}
	h.fail(w, status, err.Error())
}

func (h *handler) fail(w http.ResponseWriter, status int, why string) {
	h.answer(w, status, map[string]string{"error": why})
}

func (h *handler) answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	h.write(w, append(data, '\n'))
}

func (h *handler) write(w io.Writer, data []byte) {
	if _, err := w.Write(data); err != nil {
		h.log.Debug("an answer was not taken", "error", err)
	}
}
