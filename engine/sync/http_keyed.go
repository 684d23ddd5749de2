package sync

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
)

// httpKeyed is a keyed store behind an HTTP API that `edged hub` serves.
// Requests to store that come while one is under way go together with the next.
type httpKeyed struct {
	remote *HTTP
	base   string

	mu      sync.Mutex
	sending bool
	waiting []*httpSwap
	// conflicts are what answers brought along, for the read that follows.
	conflicts map[string]*keyed.Remote
}

var _ keyed.Hub = (*httpKeyed)(nil)

// Keyed returns the keyed store of that name at the API.
func (r *HTTP) Keyed(store string) keyed.Hub {
	return &httpKeyed{remote: r, base: keyed.HTTPPath + record.Token(store), conflicts: map[string]*keyed.Remote{}}
}

const (
	// maxKeyedLine bounds one line of changes: a group, or one large value.
	maxKeyedLine = 16 << 20
	// keyedQuiet is how long the stream of changes may be silent; the hub ends it
	// before.
	keyedQuiet = 2 * time.Minute
)

// State implements [keyed.Hub].
func (h *httpKeyed) State(ctx context.Context, seen keyed.Position) (keyed.HubState, error) {
	query := url.Values{"revision": {strconv.FormatUint(seen.Revision, 10)}, "received": {seen.Received.UTC().Format(time.RFC3339Nano)}}
	var s keyed.WireState
	if _, err := h.ask(ctx, http.MethodGet, "/state?"+query.Encode(), nil, &s); err != nil {
		return keyed.HubState{}, err
	}
	if s.Epoch == "" {
		return keyed.HubState{}, fmt.Errorf("%s does not say what it is: no epoch", h.remote.base)
	}
	return keyed.HubState(s), nil
}

// Read implements [keyed.Hub]. What the answer to a swap has just told is not
// asked for again.
func (h *httpKeyed) Read(ctx context.Context, key string) (*keyed.Remote, error) {
	h.mu.Lock()
	told, ok := h.conflicts[key]
	delete(h.conflicts, key)
	h.mu.Unlock()
	if ok {
		return told, nil
	}
	var w keyed.WireRemote
	status, err := h.ask(ctx, http.MethodGet, "/record?"+url.Values{"key": {key}}.Encode(), nil, &w)
	if status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return asked(&w, key)
}

// asked is the version of a key that was asked for; nil: there is none.
func asked(w *keyed.WireRemote, key string) (*keyed.Remote, error) {
	if w.Revision == 0 && w.Value == nil && w.Error == "" {
		return nil, nil
	}
	if w.Key != key {
		return nil, fmt.Errorf("the answer speaks of %q instead of %q", shorten(w.Key), key)
	}
	r, err := w.Remote()
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Report implements [keyed.Hub].
func (h *httpKeyed) Report(ctx context.Context, r keyed.Registration) error {
	body, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	_, err = h.ask(ctx, http.MethodPost, "/edges", body, nil)
	return err
}

// httpSwap is one value on its way.
type httpSwap struct {
	record   keyed.SwapRecord
	revision uint64
	err      error
	done     chan struct{}
}

// Swap implements [keyed.Hub].
func (h *httpKeyed) Swap(ctx context.Context, key string, v *keyed.Value, expect uint64) (uint64, error) {
	data, err := v.Encode()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", keyed.ErrRefused, err)
	}
	s := &httpSwap{record: keyed.SwapRecord{Key: key, Revision: expect, Value: data}, done: make(chan struct{})}
	h.mu.Lock()
	delete(h.conflicts, key)
	h.waiting = append(h.waiting, s)
	leads := !h.sending
	h.sending = true
	h.mu.Unlock()
	if leads {
		go h.send(context.WithoutCancel(ctx))
	}
	select {
	case <-s.done:
		return s.revision, s.err
	case <-ctx.Done():
		return 0, ctx.Err() // it may be stored
	}
}

// send stores what waits, request after request, until nothing does.
func (h *httpKeyed) send(ctx context.Context) {
	for {
		h.mu.Lock()
		n, size := 0, 0
		for n < len(h.waiting) && n < keyed.HTTPSwaps && (n == 0 || size+len(h.waiting[n].record.Value) <= keyed.HTTPSwapBytes) {
			size += len(h.waiting[n].record.Value)
			n++
		}
		group := h.waiting[:n:n]
		if h.waiting = h.waiting[n:]; n == 0 {
			h.waiting, h.sending = nil, false
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		h.swap(ctx, group)
		for _, s := range group {
			close(s.done)
		}
	}
}

// swap makes one request and hands its results out.
func (h *httpKeyed) swap(ctx context.Context, group []*httpSwap) {
	request := keyed.SwapRequest{Records: make([]keyed.SwapRecord, len(group))}
	for i, s := range group {
		request.Records[i] = s.record
	}
	var answer keyed.SwapAnswer
	body, err := keyed.MarshalWire(&request)
	if err == nil {
		_, err = h.ask(ctx, http.MethodPost, "/batch", body, &answer)
	}
	if err == nil && len(answer.Results) != len(group) {
		err = fmt.Errorf("%s gave %d results for %d records", h.remote.base, len(answer.Results), len(group))
	}
	for i, s := range group {
		if s.err = err; err == nil {
			s.revision, s.err = h.result(s.record.Key, &answer.Results[i])
		}
	}
}

func (h *httpKeyed) result(key string, r *keyed.SwapResult) (uint64, error) {
	switch {
	case r.Revision > 0:
		return r.Revision, nil
	case r.Conflict != nil:
		now, err := asked(r.Conflict, key)
		if err != nil {
			return 0, err
		}
		h.mu.Lock()
		h.conflicts[key] = now
		h.mu.Unlock()
		return 0, keyed.ErrMoved
	case r.Refused != "":
		return 0, fmt.Errorf("%w: %s", keyed.ErrRefused, shorten(r.Refused))
	case r.Error != "":
		return 0, errors.New(shorten(r.Error))
	}
	return 0, fmt.Errorf("%s says nothing of what became of %q", h.remote.base, key)
}

// ask makes one request and reads its answer into v. The status is returned with
// an error too, when there was an answer.
func (h *httpKeyed) ask(ctx context.Context, method, path string, body []byte, v any) (int, error) {
	r := h.remote
	if rest := r.resting(); rest != nil {
		return 0, rest
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	resp, err := h.open(ctx, method, path, body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyedLine+1))
	if err != nil {
		return resp.StatusCode, fmt.Errorf("reading the answer of %s: %w", r.base, err)
	}
	if err := h.judge(resp, answer); err != nil || v == nil {
		return resp.StatusCode, err
	}
	if err := json.Unmarshal(answer, v); err != nil {
		return 0, fmt.Errorf("the answer of %s is not what the API promises: %w", r.base, err)
	}
	return resp.StatusCode, nil
}

func (h *httpKeyed) open(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r := h.remote
	encoding := ""
	if len(body) >= compressAbove {
		encoding = r.opts.Compression
	}
	packed, err := r.compressor.compress(encoding, body)
	if err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	req, err := r.request(ctx, method, h.base+path, packed)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if encoding != "" && encoding != "none" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", r.base, withoutURL(err))
	}
	return resp, nil
}

// judge says what is wrong with an answer, nil: nothing. An API that is busy
// makes the whole remote rest.
func (h *httpKeyed) judge(resp *http.Response, answer []byte) error {
	if resp.StatusCode == http.StatusOK && !isPage(resp.Header, answer) {
		return nil
	}
	r := h.remote
	err := fmt.Errorf("%s answered %s: %s", r.base, statusText(resp), reasonOf(answer))
	after := retryAfter(resp.Header, r.opts.Now(), r.opts.MaxRetryAfter)
	if busy := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable; busy && after > 0 {
		later := &Later{Until: r.opts.Now().Add(after), Err: err}
		r.putOff(later)
		return later
	}
	return err
}

// Watch implements [keyed.Hub]: one request after another, each of which the hub
// answers with lines as things change and ends after a while.
func (h *httpKeyed) Watch(ctx context.Context, after uint64, interest keyed.Interest, each func([]keyed.Remote, bool) error) error {
	for caughtUp := false; ; {
		begun, told := time.Now(), false
		err := h.changes(ctx, after, interest, func(group []keyed.Remote, end bool) error {
			told, end, caughtUp = true, end && !caughtUp, caughtUp || end
			for i := range group {
				after = max(after, group[i].Revision)
			}
			if len(group) == 0 && !end {
				return nil
			}
			return each(group, end)
		})
		if err == nil && !told && time.Since(begun) < time.Second {
			err = fmt.Errorf("watching %s: it ends the stream of changes at once", h.remote.base)
		}
		if err != nil {
			return err
		}
	}
}

// changes makes one request and hands over what it brings, until the hub ends it.
func (h *httpKeyed) changes(ctx context.Context, after uint64, interest keyed.Interest, each func([]keyed.Remote, bool) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "interest": interest}
	resp, err := h.open(ctx, http.MethodGet, "/changes?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return errors.Join(err, h.judge(resp, answer))
	}
	quiet := time.AfterFunc(keyedQuiet, cancel) // a connection that is half open never ends by itself
	defer quiet.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxKeyedLine)
	for lines.Scan() {
		quiet.Reset(keyedQuiet)
		if len(lines.Bytes()) == 0 {
			continue // it is alive
		}
		var w keyed.WireChanges
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return fmt.Errorf("the changes that %s tells are not what the API promises: %w", h.remote.base, err)
		}
		group := make([]keyed.Remote, len(w.Records))
		for i := range w.Records {
			if group[i], err = w.Records[i].Remote(); err != nil {
				return err
			}
		}
		if err := each(group, w.CaughtUp); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("watching %s: %w", h.remote.base, err)
	}
	return ctx.Err()
}
