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

// TestSetLinks holds that links are added, changed and dropped while the broker runs,
// that those which stay are not touched, and that what cannot be leaves all as it was.
func TestSetLinks(t *testing.T) {
	t.Parallel()
	hub := func(name string) *broker.Broker {
		return start(t, broker.Options{Name: name, Listen: &broker.Listen{Leaf: "127.0.0.1:0"}})
	}
	one, two := hub("one"), hub("two")
	link := func(name string, hub *broker.Broker) broker.Link {
		return broker.Link{Name: name, URLs: []string{"nats-leaf://" + hub.LeafAddr()}}
	}
	edge := start(t, broker.Options{Name: "edge", Links: []broker.Link{link("kept", one)}})
	linked(t, edge, "kept")
	set := func(links ...broker.Link) {
		t.Helper()
		if err := edge.SetLinks(t.Context(), links); err != nil {
			t.Fatal(err)
		}
	}

	set(link("kept", one), link("hub", one)) // one more
	linked(t, edge, "hub")
	crosses(t, one, edge)
	first := edge.LinkID("kept")

	set(link("kept", one), link("hub", two)) // it leads elsewhere
	linked(t, edge, "hub")
	crosses(t, two, edge)

	bad := link("hub", one)
	bad.TLS.CA = "none.pem"
	for name, links := range map[string][]broker.Link{"no such file": {link("kept", one), bad}, "no such mode": {{Name: "hub", URLs: bad.URLs, Compression: "zip"}}} {
		if err := edge.SetLinks(t.Context(), links); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		linked(t, edge, "hub")
		crosses(t, two, edge)
	}
	best := link("hub", two)
	best.Compression = broker.CompressionBest
	set(link("kept", one), best)
	eventually(t, func() string {
		if _, stats := edge.LinkState("hub"); stats.Compression != "s2_best" {
			return "it is compressed as before: " + stats.Compression
		}
		return ""
	})

	set(link("kept", one)) // gone
	eventually(t, func() string {
		if up, _ := edge.LinkState("hub"); up || two.LeafConnections() != 0 {
			return "the link that is gone is up"
		}
		return ""
	})
	if last := edge.LinkID("kept"); last != first {
		t.Errorf("the link that stays was dialed anew: %d, %d", first, last)
	}

	// Nobody answers there: the server is still dialing when the link goes, and
	// comes back.
	set(link("kept", one), broker.Link{Name: "hub", URLs: []string{"nats-leaf://127.0.0.1:1"}})
	set(link("kept", one))
	set(link("kept", one), link("hub", one))
	linked(t, edge, "hub")
	crosses(t, one, edge)
}
