package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/broker"
)

// TestCompression holds what each side sends is compressed as it was told, that
// either can turn it off for both, and that everything crosses.
func TestCompression(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edge, hub         broker.Compression
		edgeSays, hubSays string // as the servers show it
	}{
		"by default": {"", "", "s2_uncompressed", "s2_uncompressed"}, // auto, over no distance
		"best":       {broker.CompressionBest, "", "s2_best", "s2_uncompressed"},
		"each its own": {
			broker.CompressionFast, broker.CompressionBetter, "s2_fast", "s2_better",
		},
		"off at the edge": {broker.CompressionOff, broker.CompressionBest, "off", "off"},
		"off at the hub":  {broker.CompressionBetter, broker.CompressionOff, "off", "off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := start(t, broker.Options{Name: "hub", Listen: &broker.Listen{Leaf: "127.0.0.1:0", Compression: c.hub}})
			edge := start(t, broker.Options{Name: "edge", Links: []broker.Link{
				{Name: "hub", URLs: []string{"nats-leaf://" + hub.LeafAddr()}, Compression: c.edge},
			}})
			linked(t, edge, "hub")
			crosses(t, hub, edge)
			eventually(t, func() string {
				_, stats := edge.LinkState("hub")
				if hubSays := hub.LeafCompression(); stats.Compression != c.edgeSays || hubSays != c.hubSays {
					return "the edge says " + stats.Compression + ", the hub " + hubSays + "; want " + c.edgeSays + " and " + c.hubSays
				}
				return ""
			})
		})
	}
	t.Run("no such mode", func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Options{
			Name: "edge", Domain: "edge", Dir: t.TempDir(),
			Links: []broker.Link{{Name: "hub", URLs: []string{"nats-leaf://127.0.0.1:1"}, Compression: "zip"}},
		})
		if err == nil {
			t.Fatal(errors.Join(errors.New("it starts"), b.Close()))
		}
	})
}

// eventually waits until check has nothing to say.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(time.Minute)
	for ; ; <-tick.C {
		says := check()
		if says == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(says)
		}
	}
}

// TestInboxesAreTheEdgesOwn holds that what an edge asks is answered where no
// other edge need be allowed to read.
func TestInboxesAreTheEdgesOwn(t *testing.T) {
	t.Parallel()
	hub := start(t, broker.Options{Name: "hub", Listen: &broker.Listen{Leaf: "127.0.0.1:0"}})
	edge := start(t, broker.Options{Name: "edge-1", Links: []broker.Link{{Name: "hub", URLs: []string{"nats-leaf://" + hub.LeafAddr()}}}})
	link := connect(t, func() (*nats.Conn, error) { return edge.ConnectLink("hub") })
	if inbox := link.NewInbox(); len(inbox) <= len("_INBOX.edge-1.") || inbox[:len("_INBOX.edge-1.")] != broker.InboxPrefix("edge-1")+"." {
		t.Errorf("the inbox is %s", inbox)
	}
}
