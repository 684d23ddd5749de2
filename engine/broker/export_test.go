package broker

import "time"

// SyncMode tells how the running server flushes.
func (b *Broker) SyncMode() (always bool, interval time.Duration) {
	c := b.srv.JetStreamConfig()
	return c.SyncAlways, c.SyncInterval
}

// LeafCompression is how the one leaf connection to a hub is compressed.
func (b *Broker) LeafCompression() string {
	z, err := b.srv.Leafz(nil)
	if err != nil || len(z.Leafs) != 1 {
		return "nothing"
	}
	return z.Leafs[0].Compression
}

// LeafConnections is how many leaf connections there are.
func (b *Broker) LeafConnections() int { return b.srv.NumLeafNodes() }

// LinkID numbers a link's leaf connection: another one has another number.
func (b *Broker) LinkID(link string) uint64 {
	z, err := b.srv.Leafz(nil)
	if err != nil {
		return 0
	}
	for _, l := range z.Leafs {
		if l.Account == linkAccount(link) {
			return l.ID
		}
	}
	return 0
}
