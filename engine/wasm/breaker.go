package wasm

import (
	"fmt"
	"sync"
	"time"
)

// When a plugin rests. A plugin that fails again and again costs an instance and
// perhaps its whole time for every record; and what it fails on is likely not
// the records' fault.
const (
	// breakInRow faults one after the other open the breaker, and so do more
	// than half of the last breakWindow items.
	breakInRow  = 10
	breakWindow = 100
	// The first rest, and the longest; each is twice the one before, until
	// breakWindow items in a row were no fault.
	restFirst = time.Second
	restMost  = time.Minute
)

// BreakerState says whether a plugin is given work.
type BreakerState string

// The states of a breaker.
const (
	// BreakerClosed: the plugin works.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen: it rests; see [Stats.RestsUntil].
	BreakerOpen BreakerState = "open"
	// BreakerTrial: its rest is over, and the next item decides.
	BreakerTrial BreakerState = "trial"
)

// breaker lets a plugin rest after many faults. It is safe for many goroutines.
type breaker struct {
	mu     sync.Mutex
	row    int // faults one after the other
	good   int // items one after the other that were none
	window [breakWindow]bool
	seen   int // items in the window
	at     int
	faults int // in the window

	rest   time.Duration // the one that runs or comes next, less its doubling
	until  time.Time     // zero: closed
	trial  bool          // one item is on its way
	opened uint64
}

// allow says how many items may be given now, at most n: all, one on trial, or
// none while the plugin rests. Who was allowed some calls note.
func (b *breaker) allow(n int, now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return n
	case b.trial || now.Before(b.until):
		return 0
	}
	b.trial = true
	return min(n, 1)
}

// note counts items: so many in a row that were no fault, and then perhaps one
// that was.
func (b *breaker) note(good int, fault bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range min(good, breakWindow) {
		b.push(false)
	}
	if good > 0 {
		b.row, b.good = 0, b.good+good
		b.close()
	}
	if b.good >= breakWindow {
		b.rest = 0
	}
	if !fault {
		return
	}
	b.push(true)
	b.row, b.good = b.row+1, 0
	onTrial := !b.until.IsZero()
	if onTrial || b.row >= breakInRow || b.seen == breakWindow && b.faults > breakWindow/2 {
		b.rest = min(max(2*b.rest, restFirst), restMost)
		b.until, b.trial = now.Add(b.rest), false
		b.opened++
	}
}

// cancel gives a trial back that did not come to an end.
func (b *breaker) cancel() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trial = false
}

func (b *breaker) push(fault bool) {
	if b.seen == breakWindow && b.window[b.at] {
		b.faults--
	}
	b.seen = min(b.seen+1, breakWindow)
	b.window[b.at] = fault
	b.at = (b.at + 1) % breakWindow
	if fault {
		b.faults++
	}
}

// close ends a rest for good; what was counted before says nothing any more.
func (b *breaker) close() {
	if b.until.IsZero() {
		return
	}
	b.until, b.trial = time.Time{}, false
	b.row, b.seen, b.at, b.faults = 0, 0, 0, 0
}

// state returns the state, until when the plugin rests, and how often it has.
func (b *breaker) state(now time.Time) (BreakerState, time.Time, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return BreakerClosed, time.Time{}, b.opened
	case now.Before(b.until):
		return BreakerOpen, b.until, b.opened
	}
	return BreakerTrial, time.Time{}, b.opened
}

// Rests returns how long the plugin still rests after too many faults; 0: it
// may be tried.
func (p *Plugin) Rests() time.Duration {
	now := p.host.now()
	_, until, _ := p.breaker.state(now)
	return max(until.Sub(now), 0)
}

// resting says why an item was not given to the plugin.
func (p *Plugin) resting() string {
	return fmt.Sprintf("plugin %s (sha256 %s) rests after too many faults and was not asked", p.name, p.SHA256())
}
