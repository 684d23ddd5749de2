package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

const reloadPath = "/v1/reload"

// reloadAnswer is what the control socket says to a reload.
type reloadAnswer struct {
	Reloaded
	Error   string `json:"error,omitempty"`
	Errors  int    `json:"errors,omitempty"`  // of the configuration
	Printed string `json:"printed,omitempty"` // its diagnostics
}

// RefusedError is a configuration that a running edge has refused. What ran
// before runs on.
type RefusedError struct {
	Errors  int    // how many there are
	Printed string // all diagnostics, for people
}

// Error says that it was refused; [RefusedError.Printed] says why.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the edge refused the configuration, which has %d errors; what ran runs on", e.Errors)
}

// answerReload adds the endpoint that loads the configuration anew.
func (e *Engine) answerReload(mux *http.ServeMux) {
	mux.HandleFunc("POST "+reloadPath, func(w http.ResponseWriter, r *http.Request) {
		done, err := e.Reload(r.Context())
		e.answer(w, answerOf(done, err), nil)
	})
}

func answerOf(done Reloaded, err error) reloadAnswer {
	a := reloadAnswer{Reloaded: done}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	var refused *ConfigError
	if errors.As(err, &refused) {
		var text strings.Builder
		if err := config.WriteDiagnostics(&text, refused.Diagnostics, refused.Files, false, 80); err != nil {
			text.WriteString(a.Error)
		}
		a.Printed = text.String()
		for _, d := range refused.Diagnostics {
			if d.Severity == hcl.DiagError {
				a.Errors++
			}
		}
	}
	return a
}

// Reload asks the edge to load its configuration and its modules anew; see
// [Engine.Reload]. When the files are wrong the error is a [*RefusedError].
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edge"+reloadPath, nil)
	if err != nil {
		return Reloaded{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Reloaded{}, fmt.Errorf("asking the edge: %w", err)
	}
	defer resp.Body.Close() // read to its end below
	if resp.StatusCode != http.StatusOK {
		return Reloaded{}, refusal(resp)
	}
	var a reloadAnswer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return Reloaded{}, fmt.Errorf("asking the edge: %w", err)
	}
	switch {
	case a.Errors > 0:
		return Reloaded{}, &RefusedError{Errors: a.Errors, Printed: a.Printed}
	case a.Error != "":
		return Reloaded{}, errors.New(a.Error)
	}
	return a.Reloaded, nil
}
