// Package guard watches the disk under a broker: what it takes goes through a gate,
// some room is held in reserve, and a server that has met an error of the disk is
// started anew once the disk is well.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/disk"
	"github.com/edged/edged/engine/store"
)

const (
	// lookEvery is how often the guard looks; an error of the server wakes it too.
	lookEvery = time.Second
	// reserveBytes is the most that is kept in reserve: enough to carry commit
	// entries forward, to move messages and to purge.
	reserveBytes = 16 << 20
	// reservePart is the part of the disk budget that the reserve may be.
	reservePart = 16
)

// errStoreShrank ends the process: what it holds in memory is no longer true.
var errStoreShrank = errors.New("the local store has lost acknowledged data while the disk failed; a restart tells what")

// Options is what a guard is made with.
type Options struct {
	Dir      string // on the disk that is guarded; the reserve is kept there
	MaxBytes int64  // the disk budget; 0: none
	Logger   *slog.Logger
	// Taker is who takes what comes, for the log: "the edge".
	Taker string
	// Intact reports whether the streams are what this process knows of them, after
	// they were opened anew; nil: it knows nothing.
	Intact func(context.Context) (bool, error)
	// Told is called by Run when the gate has changed, and again until it returns
	// nil; it may be nil.
	Told func(ctx context.Context, level store.Level, why error) error
}

// Guard keeps the gate that all logs stand behind: new records are taken while
// there is room beside the reserve; what makes room goes on until there is none at
// all; and when the server has met an error of the disk and writes no more, it is
// started anew as soon as the disk is well.
type Guard struct {
	opts    Options
	gate    *store.Gate
	log     *slog.Logger
	broker  *broker.Broker
	reserve *disk.Reserve

	broken    error // why nothing can be written; nil: it can
	noReserve bool  // there was no room for it when it was last tried
	said      string
	told      store.Level
}

// New also gives the reserve up when the disk is so full that the broker might not
// even start.
func New(opts Options) *Guard {
	bytes := int64(reserveBytes)
	if opts.MaxBytes > 0 {
		bytes = min(bytes, opts.MaxBytes/reservePart)
	}
	d := &Guard{opts: opts, gate: &store.Gate{}, log: opts.Logger, reserve: disk.NewReserve(opts.Dir, bytes)}
	if free, err := disk.Free(opts.Dir); err == nil && free < d.last() {
		d.giveUp()
	}
	return d
}

// Gate tells what the disk takes now.
func (d *Guard) Gate() *store.Gate { return d.gate }

// least is the free space below which no new records are taken, beside the
// reserve when that is held. last is that below which the reserve is given up
// before the server runs into the end of the disk.
func (d *Guard) least() uint64 { return uint64(d.reserve.Bytes()) }
func (d *Guard) last() uint64  { return uint64(d.reserve.Bytes()) / 4 }

// Run guards a broker until ctx ends. It returns an error when the process cannot
// go on. Run it once.
func (d *Guard) Run(ctx context.Context, b *broker.Broker) error {
	d.broker = b
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := d.look(ctx); err != nil {
			return err
		}
		d.tell(ctx)
		select {
		case <-tick.C:
		case <-d.broker.Troubled():
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes one step.
func (d *Guard) look(ctx context.Context) error {
	if fault := d.broker.Fault(); d.broken == nil && fault != nil {
		d.broken = fault
		err := disk.Probe(d.opts.Dir)
		if err == nil { // well again already, or full but for a little
			err = fault
		}
		d.gate.Set(store.GateShut, disk.Explain(err))
		d.say(slog.LevelError, "the disk takes nothing; collecting pauses", "error", disk.Explain(err))
	}
	if d.broken != nil {
		if err := d.mend(ctx); err != nil || d.broken != nil {
			return err
		}
	}
	d.measure()
	return nil
}

// tell tells of a change.
func (d *Guard) tell(ctx context.Context) {
	level, why := d.gate.State()
	if d.opts.Told == nil || level == d.told {
		return
	}
	if err := d.opts.Told(ctx, level, why); err != nil {
		d.log.Debug("telling what the disk takes", "error", err)
		return
	}
	d.told = level
}

// mend starts the server's storage anew if the disk takes something.
func (d *Guard) mend(ctx context.Context) error {
	err := disk.Probe(d.opts.Dir)
	if disk.IsFull(err) {
		d.giveUp()
		err = disk.Probe(d.opts.Dir)
	}
	if err == nil {
		err = d.broker.Reopen()
	}
	if err != nil {
		d.gate.Set(store.GateShut, disk.Explain(err))
		d.say(slog.LevelError, "the disk takes nothing; collecting pauses", "error", disk.Explain(err))
		return nil
	}
	intact := true
	if d.opts.Intact != nil {
		intact, err = d.opts.Intact(ctx)
	}
	if err != nil {
		d.say(slog.LevelError, "the local store cannot be read; collecting pauses", "error", err)
		return nil
	}
	if !intact {
		return errStoreShrank
	}
	d.broken = nil
	d.log.Warn("the disk can be written again", "directory", d.opts.Dir)
	return nil
}

// measure sets the gate by the room there is, and keeps the reserve.
func (d *Guard) measure() {
	free, err := disk.Free(d.opts.Dir)
	if err != nil {
		d.say(slog.LevelWarn, "it is not known how much room the disk has", "error", err)
		d.gate.Set(store.GateOpen, nil)
		return
	}
	held, least := d.reserve.Held(), d.least()
	level, _ := d.gate.State()
	if level != store.GateOpen {
		least += least / 2 // so that it does not open and close with every purge
	}
	if free < d.last() && held {
		d.giveUp()
		held = false
	}
	if !held {
		least += uint64(d.reserve.Bytes())
	}
	if free < least {
		err := fmt.Errorf("the disk is full: %d MiB are left, and %d MiB are needed before new records are taken", free>>20, (least+1<<20-1)>>20)
		d.gate.Set(store.GateLow, err)
		d.say(slog.LevelWarn, "new records wait; syncing goes on", "error", err)
		return
	}
	if !held && !d.noReserve {
		if err := d.reserve.Hold(); err != nil {
			d.noReserve = true
			d.say(slog.LevelWarn, d.opts.Taker+" runs without a reserve", "error", err)
		}
	}
	d.gate.Set(store.GateOpen, nil)
	if level != store.GateOpen {
		d.log.Info("new records are taken again", "free_bytes", free)
		d.said, d.noReserve = "", false
	}
}

func (d *Guard) giveUp() {
	if err := d.reserve.Release(); err != nil {
		d.say(slog.LevelWarn, "the reserve cannot be given up", "error", err)
	}
}

// say logs once what stays the same.
func (d *Guard) say(level slog.Level, message string, args ...any) {
	if d.said != message {
		d.said = message
		d.log.Log(context.Background(), level, message, args...)
	}
}
