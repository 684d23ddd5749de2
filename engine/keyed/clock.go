package keyed

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HLC is a hybrid logical clock's reading: nanoseconds of Unix time, and the
// order among equal times. Its text is "1764260000000000000/3".
type HLC struct {
	Wall    int64
	Counter uint64
}

// Compare returns -1, 0 or 1.
func (h HLC) Compare(o HLC) int {
	switch {
	case h.Wall < o.Wall || h.Wall == o.Wall && h.Counter < o.Counter:
		return -1
	case h == o:
		return 0
	}
	return 1
}

// MarshalText implements [encoding.TextMarshaler].
func (h HLC) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d/%d", h.Wall, h.Counter), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *HLC) UnmarshalText(text []byte) error {
	wall, counter, ok := strings.Cut(string(text), "/")
	w, err := strconv.ParseInt(wall, 10, 64)
	c, err2 := strconv.ParseUint(counter, 10, 64)
	if !ok || err != nil || err2 != nil {
		return fmt.Errorf("%q is no hybrid logical clock like 1764260000000000000/3", text)
	}
	*h = HLC{w, c}
	return nil
}

// clamp returns h no later than a time and the skew that is allowed, and whether
// it was later: a clock that runs ahead must not win for ever, and what its
// device wrote is not thrown away for it.
func (h HLC) clamp(received time.Time, skew time.Duration) (HLC, bool) {
	if most := received.Add(skew).UnixNano(); h.Wall > most {
		return HLC{Wall: most}, true
	}
	return h, false
}

// Quality says how far the clock of a value's writer can be trusted.
type Quality string

// The qualities of a clock.
const (
	// Synced: nothing speaks against it.
	Synced Quality = "synced"
	// Floor: it lagged behind what its device had seen already, and was raised to
	// that.
	Floor Quality = "floor"
	// Unknown: the device has seen no plausible time yet. It orders nothing.
	Unknown Quality = "unknown"
)

// plausible is a time that no clock that was ever set is before.
var plausible = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// Clock is a device's hybrid logical clock. It never goes back, because what it
// has given out is stored with the values, and it is opened with the latest. It
// is safe for many goroutines.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex
	skew time.Duration
	last HLC
}

func (c *Clock) setSkew(skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
}

// Now returns a reading after all before it, and how far it can be trusted.
func (c *Clock) Now() (HLC, Quality) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.now().UnixNano()
	quality := Synced
	switch {
	case wall < c.last.Wall-c.skew.Nanoseconds():
		quality = Floor
	case wall < plausible:
		quality = Unknown
	}
	if c.last.Wall < plausible && wall < plausible {
		quality = Unknown
	}
	if wall > c.last.Wall {
		c.last = HLC{Wall: wall}
	} else {
		c.last.Counter++
	}
	return c.last, quality
}

// Observe makes later readings come after h.
func (c *Clock) Observe(h HLC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Compare(c.last) > 0 {
		c.last = h
	}
}

// Last returns the newest reading, without a new one.
func (c *Clock) Last() HLC {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
