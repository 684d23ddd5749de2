package broker

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Compression is how a leaf connection is compressed: S2, by its server's modes.
type Compression string

// Compressions are all of them, from the one that costs nothing to the one that
// makes it smallest; Auto chooses among the others by the round trip.
var Compressions = []Compression{CompressionOff, CompressionAuto, CompressionFast, CompressionBetter, CompressionBest}

// The compressions.
const (
	CompressionOff    Compression = "off"
	CompressionAuto   Compression = "auto"
	CompressionFast   Compression = "fast"
	CompressionBetter Compression = "better"
	CompressionBest   Compression = "best"
)

func (c Compression) options() server.CompressionOpts {
	modes := map[Compression]string{
		"": server.CompressionS2Auto, CompressionOff: server.CompressionOff, CompressionAuto: server.CompressionS2Auto,
		CompressionFast: server.CompressionS2Fast, CompressionBetter: server.CompressionS2Better, CompressionBest: server.CompressionS2Best,
	}
	mode, ok := modes[c]
	if !ok {
		mode = string(c) // the server refuses it, and says so
	}
	return server.CompressionOpts{Mode: mode}
}

// LinkStats is a leaf connection as its server sees it.
type LinkStats struct {
	RTT         time.Duration // 0: not measured yet
	Compression string        // in the server's words, as it is now
	Out, In     int64         // bytes of messages since it was established, before compression
}

// LinkState tells whether a link's leaf connection is established, and how it
// does. It does not block.
func (b *Broker) LinkState(link string) (up bool, stats LinkStats) {
	z, err := b.srv.Leafz(nil)
	if err != nil {
		return false, LinkStats{}
	}
	for _, l := range z.Leafs {
		if l.Account == linkAccount(link) {
			rtt, _ := time.ParseDuration(l.RTT) // absent until the first ping
			return true, LinkStats{RTT: rtt, Compression: l.Compression, Out: l.OutBytes, In: l.InBytes}
		}
	}
	return false, LinkStats{}
}

// Redial drops the leaf connection of a link, if there is one, and dials anew.
// Servers in the field have been seen not to come back on their own.
func (b *Broker) Redial(link string) error {
	b.reload.Lock()
	defer b.reload.Unlock()
	for _, disabled := range []map[string]bool{{link: true}, nil} {
		o, err := b.serverOptions(disabled)
		if err != nil {
			return fmt.Errorf("redialing %s: %w", link, err)
		}
		if err := b.srv.ReloadOptions(o); err != nil {
			return fmt.Errorf("redialing %s: %w", link, err)
		}
	}
	return nil
}
