package engine

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
	// diskEvery is how often the guard looks; an error of the server wakes it too.
	diskEvery = time.Second
	// reserveBytes is the most that is kept in reserve: enough to carry commit
	// entries forward, to move messages and to purge.
	reserveBytes = 16 << 20
	// reservePart is the part of the edge's disk budget that the reserve may be.
	reservePart = 16
)

// errStoreShrank ends the engine: what it holds in memory is no longer true.
var errStoreShrank = errors.New("the local store has lost acknowledged data while the disk failed; a restart tells what")

// diskGuard keeps the gate that all logs stand behind: new records are taken
// while there is room beside the reserve; what empties the edge goes on until
// there is none at all; and when the server has met an error of the disk and
// writes no more, it is started anew as soon as the disk is well.
type diskGuard struct {
	dir     string
	gate    *store.Gate
	log     *slog.Logger
	broker  *broker.Broker
	reserve *disk.Reserve
	free    func(dir string) (uint64, error)
	// intact reports whether the logs are what this process knows of them.
	intact func(context.Context) (bool, error)

	broken    error // why nothing can be written; nil: it can
	noReserve bool  // there was no room for it when it was last tried
	said      string
}

// newDiskGuard also gives the reserve up when the disk is so full that the edge
// might not even start.
func newDiskGuard(dir string, maxBytes int64, log *slog.Logger) *diskGuard {
	d := &diskGuard{
		dir: dir, gate: &store.Gate{}, log: log, free: disk.Free,
		reserve: disk.NewReserve(dir, min(reserveBytes, maxBytes/reservePart)),
	}
	if free, err := d.free(dir); err == nil && free < d.last() {
		d.giveUp()
	}
	return d
}

// least is the free space below which no new records are taken, beside the
// reserve when that is held. last is that below which the reserve is given up
// before the server runs into the end of the disk.
func (d *diskGuard) least() uint64 { return uint64(d.reserve.Bytes()) }
func (d *diskGuard) last() uint64  { return uint64(d.reserve.Bytes()) / 4 }

// run guards until ctx ends. It returns an error when the edge cannot go on.
func (d *diskGuard) run(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		if err := d.look(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-d.broker.Troubled():
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes one step.
func (d *diskGuard) look(ctx context.Context) error {
	if fault := d.broker.Fault(); d.broken == nil && fault != nil {
		d.broken = fault
		err := disk.Probe(d.dir)
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

// mend starts the server's storage anew if the disk takes something.
func (d *diskGuard) mend(ctx context.Context) error {
	err := disk.Probe(d.dir)
	if disk.IsFull(err) {
		d.giveUp()
		err = disk.Probe(d.dir)
	}
	if err == nil {
		err = d.broker.Reopen()
	}
	if err != nil {
		d.gate.Set(store.GateShut, disk.Explain(err))
		d.say(slog.LevelError, "the disk takes nothing; collecting pauses", "error", disk.Explain(err))
		return nil
	}
	intact, err := d.intact(ctx)
	if err != nil {
		d.say(slog.LevelError, "the local store cannot be read; collecting pauses", "error", err)
		return nil
	}
	if !intact {
		return errStoreShrank
	}
	d.broken = nil
	d.log.Warn("the disk can be written again", "directory", d.dir)
	return nil
}

// measure sets the gate by the room there is, and keeps the reserve.
func (d *diskGuard) measure() {
	free, err := d.free(d.dir)
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
			d.say(slog.LevelWarn, "the edge runs without a reserve", "error", err)
		}
	}
	d.gate.Set(store.GateOpen, nil)
	if level != store.GateOpen {
		d.log.Info("new records are taken again", "free_bytes", free)
		d.said, d.noReserve = "", false
	}
}

func (d *diskGuard) giveUp() {
	if err := d.reserve.Release(); err != nil {
		d.say(slog.LevelWarn, "the reserve cannot be given up", "error", err)
	}
}

// say logs once what stays the same.
func (d *diskGuard) say(level slog.Level, message string, args ...any) {
	if d.said != message {
		d.said = message
		d.log.Log(context.Background(), level, message, args...)
	}
}
