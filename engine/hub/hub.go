// Package hub is the cloud side: a NATS server that edges join as leaf nodes,
// with the streams they sync to.
package hub

import (
	"context"
	"log/slog"
)

// Options is what a hub is started with.
type Options struct {
	LeafListen, ClientListen, DataDir, Domain string

	User, Password         string
	TLSCert, TLSKey, TLSCA string
	MaxBytes               int64
	Logger                 *slog.Logger
}

// Hub is one running hub.
type Hub struct{}

// Start starts a hub.
func Start(ctx context.Context, opts Options) (*Hub, error) { return &Hub{}, nil }

// LeafURL is where edges connect.
func (h *Hub) LeafURL() string { return "" }

// ClientURL is where NATS clients connect.
func (h *Hub) ClientURL() string { return "" }

// Close stops the hub.
func (h *Hub) Close() {}
