package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// ErrNotRunning is returned by [Dial] when no edge runs on that data directory.
var ErrNotRunning = errors.New("no edge runs on this data directory")

const (
	// maxSocketPath is what every system takes as the path of a unix socket.
	maxSocketPath  = 100
	controlTimeout = 5 * time.Second
)

// socketPath is where the edge on dataDir answers: below it or, when that path
// is too long for a socket, in the system's folder for temporary files.
func socketPath(dataDir string) (string, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("finding the data directory: %w", err)
	}
	path := filepath.Join(abs, "control.sock")
	if len(path) <= maxSocketPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(os.TempDir(), "edged-"+hex.EncodeToString(sum[:8])+".sock"), nil
}

// control answers questions about the running edge on a unix socket that only
// its own user can open.
type control struct {
	server *http.Server
	done   chan struct{}
}

func (e *Engine) openControl(ctx context.Context) error {
	path, err := socketPath(e.dataDir)
	if err != nil {
		return err
	}
	// The directory is locked, so a socket that is there is a dead one.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("opening the control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("opening the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("opening the control socket: %w", err), listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { e.answer(w, e.Status(), nil) })
	mux.HandleFunc("GET /v1/audit", func(w http.ResponseWriter, r *http.Request) {
		audit, err := e.Audit(r.Context())
		e.answer(w, audit, err)
	})
	e.answerInspection(mux)
	e.answerConflicts(mux)
	e.answerEvents(mux)
	e.answerReload(mux)
	e.answerConfig(mux)
	e.answerRelease(mux)
	// Long answers end when the edge stops.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &control{done: make(chan struct{}), server: &http.Server{
		Handler: mux, ReadHeaderTimeout: controlTimeout, BaseContext: func(net.Listener) context.Context { return base },
	}}
	go func() {
		defer close(c.done)
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("control socket", "error", err)
		}
	}()
	e.control = c
	e.onClose("control socket", func(ctx context.Context) error {
		stop()
		err := c.server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, c.server.Close())
		}
		<-c.done
		return err
	})
	return nil
}

func (e *Engine) answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		v = map[string]string{"error": err.Error()}
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		e.log.Debug("answering on the control socket", "error", err)
	}
}

// Client asks a running edge over the control socket in its data directory.
type Client struct{ http *http.Client }

// Dial connects to the edge that runs on dataDir. It returns [ErrNotRunning]
// when there is none.
func Dial(dataDir string) (*Client, error) {
	path, err := socketPath(dataDir)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: controlTimeout}).DialContext(ctx, "unix", path)
	}
	conn, err := dial(context.Background(), "", "")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotRunning, dataDir)
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// Status asks for the edge's status.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, "/v1/status", &s)
}

// Audit asks the edge to compare its ledger with the hubs'.
func (c *Client) Audit(ctx context.Context) (a Audit, err error) {
	return a, c.ask(ctx, "/v1/audit", &a)
}

func (c *Client) ask(ctx context.Context, path string, v any) error {
	return c.request(ctx, http.MethodGet, path, nil, nil, v)
}

// request asks and reads the answer into v, unless that is nil.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body []byte, v any) error {
	target := "http://edge" + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the edge: %w", err)
	}
	defer resp.Body.Close() // read to its end below
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	answer, err := io.ReadAll(resp.Body)
	if err == nil && v != nil {
		err = json.Unmarshal(answer, v)
	}
	if err != nil {
		return fmt.Errorf("asking the edge: %w", err)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
