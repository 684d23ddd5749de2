package broker

import "time"

// SyncMode tells how the running server flushes.
func (b *Broker) SyncMode() (always bool, interval time.Duration) {
	c := b.srv.JetStreamConfig()
	return c.SyncAlways, c.SyncInterval
}
