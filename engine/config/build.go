package config

import (
	"path/filepath"
	"strings"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm/sign"
)

// builtinPrefix marks a module that comes with edged.
const builtinPrefix = "builtin:"

// builder turns decoded blocks into a Config and checks them against each
// other.
type builder struct {
	*decoder
	cfg *Config
}

func (b *builder) build(file Args) {
	edge, written := file.Block("edge")
	if !written {
		spec := edgeSpec()
		edge = b.decode(block{spec: &spec, title: "The block edge", header: file.Range, body: emptyBody()})
	}
	b.cfg.Edge = Edge{
		DeviceID:   edge.String("device_id"),
		DataDir:    edge.String("data_dir"),
		Durability: edge.String("durability"),
		MaxBytes:   edge.Size("max_bytes"),
		Keep:       edge.Duration("keep"), KeepBytes: edge.Size("keep_bytes"), QueueWhenFull: edge.String("queue_when_full"),
		RequireSigned: edge.Bool("require_signed_plugins"),
		KeysRange:     edge.ArgRange("plugin_keys"),
		Range:         edge.Range,
	}
	if api, ok := edge.Block("api"); ok {
		b.cfg.Edge.API = API{Listen: api.String("listen"), Token: api.String("token"), Range: api.ArgRange("listen")}
	}
	for _, key := range edge.Strings("plugin_keys") {
		if !strings.HasPrefix(key, sign.KeyPrefix) {
			key = beside(edge, key)
		}
		b.cfg.Edge.PluginKeys = append(b.cfg.Edge.PluginKeys, key)
	}
	for _, r := range file.Blocks("remote") {
		if len(r.labels) == 2 {
			b.cfg.Remotes = append(b.cfg.Remotes, Remote{Kind: r.labels[0], Name: r.labels[1], Args: r, Text: b.text(r), Range: r.Range})
		}
	}
	for _, p := range file.Blocks("plugin") {
		if len(p.labels) == 1 {
			written := plugin(p)
			written.Text = b.text(p)
			b.cfg.Plugins = append(b.cfg.Plugins, written)
		}
	}
	for _, p := range file.Blocks("pipeline") {
		if len(p.labels) == 1 {
			b.cfg.Pipelines = append(b.cfg.Pipelines, b.pipeline(p))
		}
	}
}

func plugin(a Args) Plugin {
	p := Plugin{
		Name:   a.labels[0],
		Module: a.String("module"),
		SHA256: strings.ToLower(a.String("sha256")),
		Config: a.JSON("config"),
		Allow:  a.Strings("allow"),
		Args:   a,
		Range:  a.Range,
	}
	if !strings.HasPrefix(p.Module, builtinPrefix) && p.Module != "" {
		p.Module = beside(a, p.Module)
	}
	if extism, ok := a.Block("extism"); ok {
		p.Extism = &Extism{Function: extism.String("function"), Input: extism.String("input")}
	}
	if limits, ok := a.Block("limits"); ok {
		p.Limits = Limits{
			Memory: limits.Size("memory"), Time: limits.Duration("time"), Fuel: limits.Int("fuel"),
			Output: limits.Size("output"), RecordOutput: limits.Size("record_output"),
			LogLines: int(limits.Int("log")), KV: limits.Size("kv"),
		}
	}
	return p
}

// text returns a block as it is written, behind the folder of its file.
func (b *builder) text(a Args) string {
	file := b.cfg.Files[a.whole.Filename]
	if file == nil || !a.whole.CanSliceBytes(file.Bytes) {
		return ""
	}
	return filepath.Dir(a.whole.Filename) + "\n" + string(a.whole.SliceBytes(file.Bytes))
}

// beside resolves a path against the folder of the file that names it.
func beside(a Args, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(a.Range.Filename), filepath.FromSlash(path))
}

func (b *builder) pipeline(a Args) Pipeline {
	p := Pipeline{Text: b.text(a), Name: a.labels[0], WhenFull: a.String("when_full"), Range: a.Range}
	if a.Has("keep") {
		keep := a.Duration("keep")
		p.Keep = &keep
	}
	if a.Has("keep_bytes") {
		size := a.Size("keep_bytes")
		p.KeepBytes = &size
	}
	for _, c := range a.Blocks("collect") {
		if len(c.labels) == 2 {
			p.Collects = append(p.Collects, Collect{Kind: c.labels[0], Name: c.labels[1], Args: c, Range: c.Range})
		}
	}
	for _, t := range a.Blocks("transform") {
		if ref := t.BlockRef("plugin"); len(t.labels) == 1 && len(ref) == 1 {
			p.Transforms = append(p.Transforms, Transform{
				Name: t.labels[0], Plugin: ref[0], OnError: t.String("on_error"), WhenResting: t.String("when_resting"), Range: t.Range,
			})
		}
	}
	for _, t := range a.Blocks("alert") {
		if len(t.labels) == 1 {
			p.Alerts = append(p.Alerts, alert(t))
		}
	}
	batch, written := a.Block("batch")
	if !written {
		spec := batchSpec()
		batch = b.decode(block{spec: &spec, title: "The block batch", header: a.Range, body: emptyBody()})
	}
	p.Batch = Batch{MaxRecords: int(batch.Int("max_records")), MaxBytes: batch.Size("max_bytes"), MaxWait: batch.Duration("max_wait")}
	for _, s := range a.Blocks("sync") {
		if ref := s.BlockRef("to"); len(ref) == 2 {
			p.Syncs = append(p.Syncs, Sync{
				RemoteKind: ref[0], RemoteName: ref[1], Every: s.Duration("every"), Topics: topics(s), Range: s.Range,
			})
		}
	}
	if store, ok := a.Block("store"); ok && len(store.labels) == 1 {
		p.Keyed = keyedStore(store)
	}
	return p
}

// topics is nil when the argument is not written, and empty when it is [].
func topics(s Args) []string {
	if !s.Has("topics") {
		return nil
	}
	return append([]string{}, s.Strings("topics")...)
}

func alert(a Args) Alert {
	priority, err := record.ParsePriority(a.String("priority"))
	if err != nil {
		priority = record.Normal // told by the decoder
	}
	return Alert{
		Name:     a.labels[0],
		When:     a.Expr("when"),
		Topic:    a.String("topic"),
		Priority: priority,
		Message:  a.Expr("message"),
		TTL:      a.Duration("ttl"),
		Range:    a.Range,
	}
}
