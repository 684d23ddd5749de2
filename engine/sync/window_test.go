package sync

import (
	"testing"
	"time"
)

// TestWindow holds that a push grows while the link takes it quickly, however far
// it goes, and shrinks when it takes long or is not answered.
func TestWindow(t *testing.T) {
	var w window
	step := func(what string, do func(), want int) {
		t.Helper()
		if do(); w.bytes != want {
			t.Errorf("%s: %d bytes, want %d", what, w.bytes, want)
		}
	}
	step("it begins small", w.begin, 64<<10)
	step("a quick push doubles it", func() { w.took(20*time.Millisecond, 64<<10) }, 128<<10)
	step("one that did not fill it does not", func() { w.took(20*time.Millisecond, 1<<10) }, 128<<10)
	step("nor one that takes a while", func() { w.took(3*time.Second, 128<<10) }, 128<<10)
	step("a long one halves it", func() { w.took(8*time.Second, 128<<10) }, 64<<10)
	step("so does one without an answer", func() { w.failed(64 << 10) }, 32<<10)
	step("unless it was too small to blame", func() { w.failed(100) }, 32<<10)
	step("a new link is tried with what worked", w.begin, 32<<10)
	step("far is not slow", func() { w.took(1500*time.Millisecond, 32<<10) }, 64<<10)
	for range 20 {
		w.failed(1 << 20)
	}
	step("it keeps a little", func() {}, 4<<10)
	if got := w.most(100); got != 100 {
		t.Errorf("within 100 bytes it is %d", got)
	}
}
