package sync

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/record"
)

// HTTPOptions configures one HTTP remote.
type HTTPOptions struct {
	Name        string
	Edge        string // this edge's device id
	URL         string // without a trailing slash or with one
	Health      string // path below URL; empty: /health
	Token       string
	TokenFile   string // read for every request
	Timeout     time.Duration
	Compression string            // "none", "gzip", "zstd"; empty: none
	Headers     map[string]string // of every request
	TLS         *tls.Config       // nil: the system's authorities
	MaxAttempts int               // answered failures of one entry before it is a dead letter; 0: 8
	// Isolate lets a batch be sent one by one that has failed MaxAttempts times in
	// a row in the same way, although the API may have stored it.
	Isolate bool
	// MaxRetryAfter bounds what a Retry-After may ask for; 0: 5 min.
	MaxRetryAfter time.Duration
	Backoff       Backoff    // zero: 1 s to 5 min
	Conn          *nats.Conn // to the edge's own broker, for the durable state
	Rate          *Rate      // bounds what is sent; nil: nothing does
	// DeadLetter returns when the dead letter is durable.
	DeadLetter func(context.Context, record.DeadLetter) error
	Logger     *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// HTTP is a remote behind an HTTP API.
type HTTP struct {
	opts   HTTPOptions
	base   string
	client *http.Client
	stream jetstream.Stream

	compressor compressor

	mu       sync.Mutex
	encoding string
	proven   bool // the API has taken something in that encoding
	rest     *Later
	trouble  trouble
	taken    map[string]uint64 // requests taken whole, by what they are alike in; see call.alike
}

var (
	_ Remote   = (*HTTP)(nil)
	_ troubled = (*HTTP)(nil)
)

const (
	maxHealthAnswer = 64 << 10
	maxHeaderBytes  = 64 << 10
	maxTokenFile    = 64 << 10
	requestOverhead = 400 // what a request takes on the wire beside its body, about
)

// OpenHTTP opens the stream with the remote's durable state. It sends nothing.
func OpenHTTP(ctx context.Context, opts HTTPOptions) (*HTTP, error) {
	if err := checkURL(opts.URL); err != nil {
		return nil, fmt.Errorf("opening the remote %s: url %q: %w", opts.Name, opts.URL, err)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Health == "" {
		opts.Health = HTTPHealthPath
	}
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.MaxAttempts == 0 {
		opts.MaxAttempts = 8
	}
	if opts.MaxRetryAfter == 0 {
		opts.MaxRetryAfter = 5 * time.Minute
	}
	if opts.Backoff.Base == 0 {
		opts.Backoff.Base, opts.Backoff.Max = time.Second, 5*time.Minute
	}
	stream, err := openHTTPStream(ctx, opts.Conn)
	if err != nil {
		return nil, fmt.Errorf("opening the remote %s: %w", opts.Name, err)
	}
	r := &HTTP{
		opts: opts, base: strings.TrimRight(opts.URL, "/"), stream: stream,
		encoding: opts.Compression, taken: map[string]uint64{},
	}
	r.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        opts.TLS,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			DisableCompression:     true, // an answer is as long as it says
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        90 * time.Second,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		},
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// Name returns the remote's name.
func (r *HTTP) Name() string { return r.opts.Name }

// Reachable is always true: only a request tells.
func (r *HTTP) Reachable() bool { return true }

// Redial closes idle connections, so that the next request dials.
func (r *HTTP) Redial() error { r.client.CloseIdleConnections(); return nil }

// Close closes idle connections. Nothing is under way.
func (r *HTTP) Close() { r.client.CloseIdleConnections() }

// Probe asks for the API's health.
func (r *HTTP) Probe(ctx context.Context) error {
	req, err := r.request(ctx, http.MethodGet, r.opts.Health, nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.client.CloseIdleConnections() // they may lead nowhere
		return fmt.Errorf("asking for the health of %s: %w", r.base, withoutURL(err))
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthAnswer))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("asking for the health of %s: %s", r.base, statusText(resp))
	}
	if err != nil {
		return fmt.Errorf("asking for the health of %s: %w", r.base, err)
	}
	return nil
}

// Trouble is why some feed's newest request was not taken, or nil.
func (r *HTTP) Trouble() error { return r.trouble.any() }

// putOff makes every feed rest until then.
func (r *HTTP) putOff(l *Later) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = l
}

// resting returns why nothing may be sent now, or nil.
func (r *HTTP) resting() *Later {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rest != nil && r.opts.Now().Before(r.rest.Until) {
		return r.rest
	}
	return nil
}

func (r *HTTP) token() (string, error) {
	if r.opts.TokenFile == "" {
		return r.opts.Token, nil
	}
	file, err := os.Open(r.opts.TokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxTokenFile))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("reading the token: %s: %w", r.opts.TokenFile, err)
	}
	return token, nil
}

func (r *HTTP) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	for name, value := range r.opts.Headers {
		req.Header.Set(name, value)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "edged")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set(HeaderEdge, record.Token(r.opts.Edge))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// verdict is what an answer means for what was sent.
type verdict int

const (
	taken   verdict = iota // with failures, possibly
	refused                // nothing of it is stored, nor will be
	denied                 // the token is wrong
	busy                   // come back later
	failed                 // anything else: the outcome is unknown
	unsent                 // there was no connection
)

// outcome is one request's end.
type outcome struct {
	verdict verdict
	status  int // 0: no answer
	failed  map[string]string
	after   time.Duration // Retry-After
	err     error         // unless taken
}

// call is one request.
type call struct {
	path, key, pipeline string
	body                []byte
	batch               bool // else a message
}

// post sends one request and tells its outcome; the error is ctx's own end. An
// API that refuses the first compressed body gets it plain: it may not know
// the encoding.
func (r *HTTP) post(ctx context.Context, c call) (outcome, error) {
	r.mu.Lock()
	encoding, proven := r.encoding, r.proven
	r.mu.Unlock()
	if len(c.body) < compressAbove {
		encoding = ""
	}
	plain := encoding == "" || encoding == "none"
	out := r.try(ctx, c, encoding)
	if ctx.Err() == nil && !plain && !proven && (out.status == http.StatusBadRequest || out.status == http.StatusUnsupportedMediaType) {
		if second := r.try(ctx, c, ""); second.verdict == taken {
			r.opts.Logger.Warn("the API takes no compressed body, sending plain ones", "compression", encoding)
			out, encoding, plain = second, "none", false
		}
	}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if out.verdict == taken {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !plain {
			r.encoding, r.proven = encoding, true
		}
		if len(out.failed) == 0 {
			r.taken[c.alike()]++
		}
	}
	return out, nil
}

// alike names what a request has in common with those whose fate it may share:
// topic or records, and pipeline.
func (c *call) alike() string { return c.pipeline + " " + c.path }

// took returns how many requests like this one the API has taken whole.
func (r *HTTP) took(c *call) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[c.alike()]
}

func (r *HTTP) try(ctx context.Context, c call, encoding string) outcome {
	body, err := r.compressor.compress(encoding, c.body)
	if err != nil {
		return outcome{verdict: failed, err: fmt.Errorf("compressing: %w", err)}
	}
	kind := Messages
	if c.batch {
		kind = Records
	}
	if err := r.opts.Rate.Take(ctx, kind, len(body)+requestOverhead); err != nil {
		return outcome{verdict: unsent, err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	req, err := r.request(ctx, http.MethodPost, c.path, body)
	if err != nil {
		return outcome{verdict: denied, err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if len(body) > 0 && encoding != "" && encoding != "none" {
		req.Header.Set("Content-Encoding", encoding)
	}
	req.Header.Set(HeaderIdempotencyKey, c.key)
	if c.pipeline != "" {
		req.Header.Set(HeaderPipeline, record.Token(c.pipeline))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		out := outcome{verdict: failed, err: fmt.Errorf("sending to %s: %w", r.base, withoutURL(err))}
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			out.verdict = unsent
		}
		return out
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		err = fmt.Errorf("reading the answer of %s: %w", r.base, err)
	case len(answer) > maxAnswer:
		err = fmt.Errorf("the answer of %s is %w", r.base, errLong)
	}
	return r.judge(c, resp, answer, err)
}

// errLong says that an answer has come, and that it is not read to its end.
var errLong = fmt.Errorf("longer than %d MiB", maxAnswer>>20)

// judge says what an answer means. A refusal or a busy sign counts even when
// the rest of the answer cannot be read.
func (r *HTTP) judge(c call, resp *http.Response, answer []byte, unread error) outcome {
	out := outcome{status: resp.StatusCode, verdict: failed}
	say := func() error {
		why := statusText(resp)
		if text := reasonOf(answer); text != "" {
			why += ": " + text
		}
		return fmt.Errorf("%s answered %s", r.base, why)
	}
	out.after = retryAfter(resp.Header, r.opts.Now(), r.opts.MaxRetryAfter)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusMultiStatus, http.StatusCreated, http.StatusAccepted:
		if c.batch != (resp.StatusCode == http.StatusMultiStatus) && resp.StatusCode != http.StatusOK {
			break // an acceptance of the other kind of request
		}
		if !c.batch { // its acceptance is the status, unless the answer breaks off or another page speaks
			if unread != nil && !errors.Is(unread, errLong) {
				out.err = unread
				return out
			}
			if isPage(resp.Header, answer) {
				out.err = fmt.Errorf("%s answered %d with a web page: a login page may stand in between", r.base, resp.StatusCode)
				return out
			}
		} else {
			if out.err = unread; unread != nil {
				return out
			}
			var explicit bool
			if out.failed, explicit, out.err = parseFailures(answer); out.err != nil {
				return out
			}
			if !explicit && resp.StatusCode == http.StatusMultiStatus {
				out.err = fmt.Errorf("%s answered 207 without saying what has failed", r.base)
				return out
			}
		}
		out.verdict = taken
		return out
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		out.verdict = refused
	case http.StatusUnauthorized, http.StatusForbidden:
		out.verdict = denied
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		out.verdict = busy
	}
	out.err = say()
	return out
}

// isPage tells a page for people from the answer of an API.
func isPage(h http.Header, answer []byte) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "text/html") || bytes.HasPrefix(bytes.TrimSpace(answer), []byte("<"))
}

// statusText is an answer's status for a person.
func statusText(resp *http.Response) string {
	text := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode / 100 {
	case 3:
		if to, err := resp.Location(); err == nil {
			to.User, to.RawQuery = nil, ""
			text += " to " + shorten(to.String()) + ", which is not followed; write the final address as url"
		}
	case 4:
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			text += "; check the token"
		}
	}
	return text
}

// withoutURL drops the address that the client repeats in every error.
func withoutURL(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
