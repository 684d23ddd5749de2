package engine

import (
	"context"
	"errors"
)

// ErrNotRunning is returned by [Dial] when no edge runs on that data directory.
var ErrNotRunning = errors.New("no edge runs on this data directory")

// Client asks a running edge over the control socket in its data directory.
type Client struct{}

// Dial connects to the edge that runs on dataDir.
func Dial(dataDir string) (*Client, error) { return nil, ErrNotRunning }

// Status asks for the edge's status.
func (c *Client) Status(ctx context.Context) (Status, error) { return Status{}, nil }

// Audit asks the edge to compare its ledger with the hubs'.
func (c *Client) Audit(ctx context.Context) (Audit, error) { return Audit{}, nil }

// Close ends the connection.
func (c *Client) Close() error { return nil }

// Builtins lists the names that may follow "builtin:" in a plugin's module.
func Builtins() []string { return nil }
