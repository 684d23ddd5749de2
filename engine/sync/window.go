package sync

import "time"

// A push should take about a second or two: longer ones hold up what is behind
// them, alarms and the connection's own pings among it, and are lost whole when
// the link goes.
const (
	windowFirst = 64 << 10
	windowLeast = 4 << 10
	windowMost  = 64 << 20
	windowQuick = time.Second
	windowLong  = 4 * time.Second
)

// window is how many bytes a push may bring, by how long the last ones took. The
// zero value is ready. One goroutine at a time.
type window struct {
	bytes int
	least time.Duration // the shortest push: how long the way is
}

// begin makes a link that has just come up prove itself again.
func (w *window) begin() {
	w.least = 0
	if w.bytes == 0 || w.bytes > windowFirst {
		w.bytes = windowFirst
	}
}

// most is the window, within a bound.
func (w *window) most(bound int) int { return min(w.bytes, bound) }

// took notes how long a push of so many bytes took.
func (w *window) took(t time.Duration, bytes int) {
	if w.least == 0 || t < w.least {
		w.least = t
	}
	switch {
	case t <= windowQuick+2*w.least && bytes >= w.bytes/2:
		w.bytes = min(2*w.bytes, windowMost)
	case t >= windowLong+4*w.least:
		w.failed(bytes)
	}
}

// failed notes that a push of so many bytes was not answered, or took too long.
func (w *window) failed(bytes int) {
	if bytes >= windowLeast {
		w.bytes = max(min(bytes, w.bytes)/2, windowLeast)
	}
}
