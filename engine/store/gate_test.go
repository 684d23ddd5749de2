package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/edged/edged/engine/store"
)

// A gate that closes ends nothing that was appended: it waits, and is stored when
// the gate opens. A reserved log goes on while the gate is low.
func TestGate(t *testing.T) {
	full := errors.New("the disk is full")
	for name, c := range map[string]struct {
		level    store.Level
		reserved bool
		waits    bool
	}{
		"low":            {store.GateLow, false, true},
		"low, reserved":  {store.GateLow, true, false},
		"shut":           {store.GateShut, false, true},
		"shut, reserved": {store.GateShut, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			gate := &store.Gate{}
			e := start(t, t.TempDir(), store.Options{Gate: gate, Reserved: c.reserved})
			defer e.stop()
			lane, err := e.log.Lane(t.Context(), "p")
			if err != nil {
				t.Fatal(err)
			}
			gate.Set(c.level, full)
			done, filled := make(chan error, 1), e.log.Filled()
			g := &store.Group{Entries: []store.Entry{{Subject: lane.Subject("t"), Data: []byte("1")}}, Done: func(err error) { done <- err }}
			if err := lane.Append(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			if c.waits {
				<-filled // the committer has found the gate closed
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := gate.Wait(ended); !errors.Is(err, full) {
					t.Errorf("the gate says %v", err)
				}
				if n := lane.Last(); n != 0 {
					t.Errorf("%d are stored behind a closed gate", n)
				}
				gate.Set(store.GateOpen, nil)
				if err := gate.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if err := <-done; err != nil || lane.Last() != 1 {
				t.Errorf("stored %d: %v", lane.Last(), err)
			}
		})
	}
}

// What closes behind a shut gate is refused with the reason, and a shut gate lets
// nothing be written at all.
func TestGateStaysShut(t *testing.T) {
	gate, full := &store.Gate{}, errors.New("the disk is full")
	e := start(t, t.TempDir(), store.Options{Gate: gate})
	defer e.stop()
	lane, err := e.log.Lane(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	gate.Set(store.GateShut, full)
	if err := lane.NewEra(t.Context(), 0); !errors.Is(err, full) {
		t.Errorf("written behind a shut gate: %v", err)
	}
	done := make(chan error, 1)
	if err := lane.Append(t.Context(), &store.Group{Done: func(err error) { done <- err }}); err != nil {
		t.Fatal(err)
	}
	e.log.StopWaiting()
	if err := <-done; !errors.Is(err, store.ErrNoRoom) || !errors.Is(err, full) {
		t.Errorf("refused with %v", err)
	}
}
