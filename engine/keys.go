package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/wasm"
)

const (
	// keysState is, with the plugin's name behind it, what its keys are called
	// among the states of the pipeline's lane.
	keysState = "kv/"
	// All keys of a plugin are stored anew when its changes since have come to as
	// many bytes as they have, and to so many at least, or after so many commits:
	// so a commit holds about twice what has changed, and opening the lane reads
	// few packs.
	keysAnewBytes   = 4 << 10
	keysAnewCommits = 64
)

// keys are what the plugins of one pipeline keep between records. A worker holds
// them from the first call of a batch until the batch is in the line for the
// store: so the workers of one pipeline change them one after the other, and
// changes become durable in that order, each with the records that made it (I2).
// A pipeline without such plugins has none, and its workers run side by side.
type keys struct {
	held chan struct{} // has room for who holds them
	of   map[*wasm.Plugin]*pluginKeys
}

// pluginKeys are the keys of one plugin in one pipeline.
type pluginKeys struct {
	state   string
	kv      *wasm.KV
	since   int // bytes of changes since all keys were stored
	commits int // likewise
	anew    bool
}

// openKeys reads what the plugins of a pipeline have kept. Keys that are damaged
// are begun anew, and leave a dead letter (I7).
func (e *Engine) openKeys(ctx context.Context, p *pipeline) error {
	k := &keys{held: make(chan struct{}, 1), of: map[*wasm.Plugin]*pluginKeys{}}
	for name, plugin := range p.plugins {
		if !plugin.KeepsKeys() {
			continue
		}
		pk := &pluginKeys{state: keysState + name, kv: wasm.NewKV(int(plugin.Limits().KV))}
		if err := pk.read(p.lane); err != nil {
			e.log.Error("the keys of a plugin are lost, it begins without", "pipeline", p.cfg.Name, "plugin", name, "error", err)
			if err := e.reportLostKeys(ctx, p, name, err); err != nil {
				return err
			}
			pk.kv, pk.anew = wasm.NewKV(int(plugin.Limits().KV)), true
		}
		k.of[plugin.Plugin] = pk
	}
	if len(k.of) > 0 {
		p.keys = k
	}
	return nil
}

func (k *pluginKeys) read(lane *store.Lane) error {
	chunks, err := lane.State(k.state)
	for i := 0; i < len(chunks) && err == nil; i++ {
		err = k.kv.Decode(chunks[i])
		if k.commits++; i > 0 {
			k.since += len(chunks[i])
		}
	}
	return err
}

// reread begins anew with what the lane has. The caller holds the keys.
func (k *keys) reread(lane *store.Lane) {
	if k == nil {
		return
	}
	for plugin, pk := range k.of {
		read := &pluginKeys{state: pk.state, kv: wasm.NewKV(int(plugin.Limits().KV))}
		if err := read.read(lane); err != nil { // openKeys has reported it
			read.kv, read.anew = wasm.NewKV(int(plugin.Limits().KV)), true
		}
		*pk = *read
	}
}

func (e *Engine) reportLostKeys(ctx context.Context, p *pipeline, plugin string, cause error) error {
	text := fmt.Sprintf("the keys of plugin %s are lost: %v", plugin, cause)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", p.cfg.Name, p.lane.Last(), text))
	letter := record.DeadLetter{
		ID: hex.EncodeToString(sum[:16]), Pipeline: p.cfg.Name, Stage: "store", Error: text, Time: e.now().UTC(), Raw: []byte{},
	}
	if err := e.queue.Bury(ctx, letter); err != nil {
		return fmt.Errorf("reporting a loss: %w", err)
	}
	return nil
}

// hold waits until nobody else holds the keys. Nil keys need no waiting.
func (k *keys) hold(ctx context.Context) error {
	if k == nil {
		return nil
	}
	select {
	case k.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keys) release() {
	if k != nil {
		<-k.held
	}
}

// kv returns what a plugin may keep keys in; nil: it may not.
func (k *keys) kv(p *wasm.Plugin) *wasm.KV {
	if k == nil || k.of[p] == nil {
		return nil
	}
	return k.of[p].kv
}

// undo takes back what was changed since the last group.
func (k *keys) undo() {
	if k == nil {
		return
	}
	for _, pk := range k.of {
		pk.kv.Undo()
	}
}

// put puts what was changed since the last group into g. Then keep follows, or
// undo when g is not in the line for the store.
func (k *keys) put(g *store.Group) {
	if k == nil {
		return
	}
	for _, pk := range k.of {
		if pk.kv.Changed() || pk.anew {
			g.State = append(g.State, pk.change())
		}
	}
}

func (k *pluginKeys) change() store.StateChange {
	change := store.StateChange{Name: k.state, Data: k.kv.EncodeChanges()}
	_, bytes := k.kv.Len()
	if k.anew || k.commits == 0 || k.commits >= keysAnewCommits || k.since+len(change.Data) > max(bytes, keysAnewBytes) {
		change.Whole, change.Data = true, k.kv.Encode()
	}
	return change
}

// keep makes what put has put into g final.
func (k *keys) keep(g *store.Group) {
	if k == nil {
		return
	}
	for _, pk := range k.of {
		for i := range g.State {
			if c := &g.State[i]; c.Name == pk.state {
				pk.kept(c)
			}
		}
	}
}

func (k *pluginKeys) kept(c *store.StateChange) {
	k.kv.Keep()
	k.anew = false
	if k.commits, k.since = k.commits+1, k.since+len(c.Data); c.Whole {
		k.commits, k.since = 1, 0
	}
}
