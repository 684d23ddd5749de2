package hub

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	gosync "sync"
	"time"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
)

// Bounds and times of the API of keyed records.
const (
	maxWatchers = 2000 // streams of changes at once
	maxInterest = 100  // patterns of one
	swapWorkers = 32   // of one request

	watchFor      = 50 * time.Second // then the client asks again
	watchAlive    = 15 * time.Second // an empty line, when nothing changes
	watchDeadline = 30 * time.Second // for a client to take a line
)

// keyedAPI serves keyed records over HTTP from the hub's own buckets, so that
// edges with and without a leaf node share them.
type keyedAPI struct {
	*ingest
	watchers chan struct{}
}

// serveKeyed adds the API of keyed records.
func (in *ingest) serveKeyed(mux *http.ServeMux) {
	k := &keyedAPI{ingest: in, watchers: make(chan struct{}, maxWatchers)}
	for method, paths := range map[string]map[string]keyedHandler{
		http.MethodGet:  {"/state": k.state, "/record": k.record, "/changes": k.changes},
		http.MethodPost: {"/batch": k.batch, "/edges": k.report},
	} {
		for path, serve := range paths {
			mux.HandleFunc(method+" "+keyed.HTTPPath+"{store}"+path, k.handle(serve))
		}
	}
}

// keyedHandler serves one request about one store. Its error becomes the answer.
type keyedHandler func(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error

func (k *keyedAPI) handle(serve keyedHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := k.authorize(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="edged"`)
			k.fail(w, err)
			return
		}
		store, err := record.Untoken(r.PathValue("store"))
		if err != nil || store == "" || len(store) > maxNameBytes {
			k.fail(w, refuse(http.StatusBadRequest, "the name of the store is not a subject token"))
			return
		}
		if err := serve(w, r, keyed.NewNATSHub(k.nc, "", store)); err != nil {
			k.fail(w, err)
		}
	}
}

// reply answers with a value.
func (k *keyedAPI) reply(w http.ResponseWriter, v any) error {
	body, err := keyed.MarshalWire(v)
	if err == nil {
		k.answer(w, http.StatusOK, body)
	}
	return err
}

func (k *keyedAPI) state(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error {
	query := r.URL.Query()
	revision, err := number(query.Get("revision"))
	if err != nil {
		return refuse(http.StatusBadRequest, "revision: %v", err)
	}
	received, err := time.Parse(time.RFC3339Nano, query.Get("received"))
	if err != nil && revision > 0 {
		return refuse(http.StatusBadRequest, "received: %v", err)
	}
	s, err := store.State(r.Context(), keyed.Position{Revision: revision, Received: received})
	if err != nil {
		return err
	}
	state := keyed.WireState(s)
	return k.reply(w, &state)
}

func number(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

func (k *keyedAPI) record(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error {
	key := r.URL.Query().Get("key")
	if err := keyed.CheckKey(key); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	found, err := store.Read(r.Context(), key)
	switch {
	case err != nil:
		return err
	case found == nil:
		return refuse(http.StatusNotFound, "there is no such key")
	}
	wire := found.Wire()
	return k.reply(w, &wire)
}

func (k *keyedAPI) report(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var edge keyed.Registration
	if err := json.Unmarshal(body, &edge); err != nil || edge.Device == "" || len(edge.Device) > maxNameBytes {
		return refuse(http.StatusBadRequest, `the body must be {"device":…,"position":…,"time":…}`)
	}
	if err := k.disk.refuses(); err != nil {
		return err
	}
	if err := store.Report(r.Context(), edge); err != nil {
		return err
	}
	return k.reply(w, struct{}{})
}

// batch stores values, each by compare-and-swap. It may be repeated: what is
// stored already is then a conflict with itself, which the client finds out.
func (k *keyedAPI) batch(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error {
	slot, err := k.slot(r.Context())
	if err != nil {
		return err
	}
	defer func() { k.slots <- slot }()
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var request keyed.SwapRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return refuse(http.StatusBadRequest, `the body must be {"records":[…]}: %v`, err)
	}
	if len(request.Records) > keyed.HTTPSwaps {
		return refuse(http.StatusRequestEntityTooLarge, "more than %d records", keyed.HTTPSwaps)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ingestStoreTimeout)
	defer cancel()
	answer := keyed.SwapAnswer{Results: make([]keyed.SwapResult, len(request.Records))}
	next := make(chan int)
	var workers gosync.WaitGroup
	for range min(swapWorkers, len(request.Records)) {
		workers.Go(func() {
			for i := range next {
				answer.Results[i] = swap(ctx, store, &request.Records[i])
			}
		})
	}
	for i := range request.Records {
		next <- i
	}
	close(next)
	workers.Wait()
	return k.reply(w, &answer)
}

// swap stores one value, or says what is there instead.
func swap(ctx context.Context, store *keyed.NATSHub, r *keyed.SwapRecord) keyed.SwapResult {
	v, err := keyed.ParseSwap(r)
	if err == nil {
		var revision uint64
		if revision, err = store.Swap(ctx, r.Key, v, r.Revision); err == nil {
			return keyed.SwapResult{Revision: revision}
		}
	}
	switch {
	case errors.Is(err, keyed.ErrRefused):
		return keyed.SwapResult{Refused: err.Error()}
	case !errors.Is(err, keyed.ErrMoved):
		return keyed.SwapResult{Error: err.Error()}
	}
	now, err := store.Read(ctx, r.Key)
	if err != nil {
		return keyed.SwapResult{Error: err.Error()}
	}
	conflict := keyed.WireRemote{Key: r.Key}
	if now != nil {
		conflict = now.Wire()
	}
	return keyed.SwapResult{Conflict: &conflict}
}

// changes tells what changes, a line of JSON for every group, until watchFor is
// over. A line without anything says that the connection stands.
func (k *keyedAPI) changes(w http.ResponseWriter, r *http.Request, store *keyed.NATSHub) error {
	query := r.URL.Query()
	after, err := number(query.Get("after"))
	if err != nil {
		return refuse(http.StatusBadRequest, "after: %v", err)
	}
	interest := keyed.Interest(query["interest"])
	if len(interest) > maxInterest {
		return refuse(http.StatusBadRequest, "more than %d patterns of interest", maxInterest)
	}
	select {
	case k.watchers <- struct{}{}:
		defer func() { <-k.watchers }()
	default:
		return &refusal{status: http.StatusServiceUnavailable, after: busyAfter, reason: "too many edges watch at once"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), watchFor)
	defer cancel()
	stop := context.AfterFunc(k.stopping, cancel)
	defer stop()
	lines := &lineWriter{w: w, control: http.NewResponseController(w)}
	if err := lines.control.SetReadDeadline(time.Time{}); err != nil { // the request is read
		return err
	}
	alive := time.NewTicker(watchAlive)
	defer alive.Stop()
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		for {
			select {
			case <-alive.C:
				if lines.write(nil) != nil {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	err = store.Watch(ctx, after, interest, func(group []keyed.Remote, caughtUp bool) error {
		changes := keyed.WireChanges{Records: make([]keyed.WireRemote, len(group)), CaughtUp: caughtUp}
		for i := range group {
			changes.Records[i] = group[i].Wire()
		}
		line, err := keyed.MarshalWire(&changes)
		if err != nil {
			return err
		}
		return lines.write(line)
	})
	if lines.begun() || ctx.Err() != nil {
		if ctx.Err() == nil {
			k.log.Debug("keyed records: a stream of changes ended", "error", err)
		}
		return nil // the client asks again
	}
	return err
}

// lineWriter writes lines from several goroutines.
type lineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu    gosync.Mutex
	wrote bool
}

func (l *lineWriter) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrote
}

func (l *lineWriter) write(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.control.SetWriteDeadline(time.Now().Add(watchDeadline)); err != nil {
		return err
	}
	l.wrote = true
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return l.control.Flush()
}
