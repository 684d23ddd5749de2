// Package batch decides when waiting records are sent.
package batch

import "time"

// Policy bounds a batch. It is full with MaxRecords records or MaxBytes bytes,
// and due when full or when its oldest record has waited MaxWait.
type Policy struct {
	MaxRecords int
	MaxBytes   int
	MaxWait    time.Duration
}

// Due reports whether a batch of that many records and bytes, whose oldest has
// waited for age, goes now; if not, how long it may still wait. An empty batch
// is never due.
func (p Policy) Due(records, bytes int, age time.Duration) (bool, time.Duration) {
	switch {
	case records == 0:
		return false, p.MaxWait
	case records >= p.MaxRecords || bytes >= p.MaxBytes || age >= p.MaxWait:
		return true, 0
	}
	return false, p.MaxWait - age
}
