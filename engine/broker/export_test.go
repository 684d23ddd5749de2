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
