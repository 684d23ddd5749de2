package store

import (
	"context"
	"fmt"
	"sync"
)

// Level says how much the disk under the logs takes.
type Level int

// The levels of a [Gate].
const (
	GateOpen Level = iota // everything
	// GateLow: only what makes room or empties the edge. A log whose Options say
	// Reserved goes on, any other takes no more groups.
	GateLow
	GateShut // nothing can be written
)

// Gate tells the logs on one disk what it takes now, so that a group waits for
// room instead of running into an error of the disk (I9). The zero value is open,
// and so is a nil Gate. All methods may be called from any goroutine.
type Gate struct {
	changed Signal

	mu       sync.Mutex
	level    Level
	why      error
	writable context.Context // ends when the gate is shut
	shut     context.CancelFunc
}

// Refusal is the error of what a gate does not let through.
type Refusal struct{ Why error }

func (r *Refusal) Error() string { return r.Why.Error() }
func (r *Refusal) Unwrap() error { return r.Why }

// Set changes what the disk takes; why says for people what is wrong with it, nil
// with [GateOpen]. What is being written when the gate is shut fails at once.
func (g *Gate) Set(level Level, why error) {
	g.mu.Lock()
	g.init()
	switch {
	case level == GateShut:
		g.shut()
	case g.writable.Err() != nil:
		g.writable, g.shut = context.WithCancel(context.Background())
	}
	changed := g.level != level
	g.level, g.why = level, why
	g.mu.Unlock()
	if changed {
		g.changed.Broadcast()
	}
}

func (g *Gate) init() {
	if g.writable == nil {
		g.writable, g.shut = context.WithCancel(context.Background())
	}
}

// State returns the level, and what is wrong when it is not [GateOpen].
func (g *Gate) State() (Level, error) {
	if g == nil {
		return GateOpen, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.level, g.why
}

// Changed returns a channel that is closed when the level next changes.
func (g *Gate) Changed() <-chan struct{} {
	if g == nil {
		return nil
	}
	return g.changed.Wait()
}

// Wait returns nil once the gate is open. When ctx ends first it returns the
// [Refusal].
func (g *Gate) Wait(ctx context.Context) error {
	for {
		changed := g.Changed()
		err := g.refuses(false)
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return err
		}
	}
}

// refuses returns why a group is not taken, nil: it is.
func (g *Gate) refuses(reserved bool) error {
	level, why := g.State()
	if level == GateOpen || level == GateLow && reserved {
		return nil
	}
	return &Refusal{why}
}

// write returns a context for one write: it ends with ctx, or when the gate is
// shut. It fails at once when it is shut already.
func (g *Gate) write(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if g == nil {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.init()
	if g.level == GateShut {
		return nil, nil, fmt.Errorf("nothing can be written: %w", &Refusal{g.why})
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(g.writable, cancel)
	return ctx, func() { stop(); cancel() }, nil
}
