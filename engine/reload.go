package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

// ErrNoReload says why an engine does not load its configuration anew at all.
var ErrNoReload = errors.New("this edge cannot load its configuration anew")

// ConfigError is a configuration that was refused. What ran before runs on.
type ConfigError struct {
	Diagnostics hcl.Diagnostics
	Files       map[string]*hcl.File // for printing the diagnostics
}

// Error returns the first diagnostic, and how many more there are.
func (e *ConfigError) Error() string { return e.Diagnostics.Error() }

// Reloaded says what a reload has done. Names are written as in the files:
// `pipeline "p"`.
type Reloaded struct {
	Started []string `json:"started"` // new, or changed and begun anew
	Stopped []string `json:"stopped"` // no longer there
	Kept    []string `json:"kept"`    // untouched, they ran on
}

// ReloadStatus tells of the newest reload.
type ReloadStatus struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error,omitempty"` // why it was refused; what ran before runs on
	Count uint64    `json:"count"`           // reloads that were not refused
}

// reloads remembers the newest reload.
type reloads struct {
	mu     gosync.Mutex
	newest *ReloadStatus
	count  uint64
}

func (r *reloads) note(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &ReloadStatus{Time: now.UTC()}
	if err != nil {
		s.Error = err.Error()
	} else {
		r.count++
	}
	s.Count = r.count
	r.newest = s
}

func (r *reloads) status() *ReloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest
}

// Reload reads the configuration and the modules it names anew, and runs what
// has changed. No record is lost or repeated: everything new is compiled and
// opened first; then the pipelines that change stop as at the end of a run, and
// the new ones go on where those have stopped. Pipelines that are as before run
// on, and so do broker, store and queue. When anything is wrong nothing changes;
// what the files say wrong is a [*ConfigError].
func (e *Engine) Reload(ctx context.Context) (Reloaded, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	done, err := e.reload(ctx)
	e.reloads.note(e.now(), err)
	if err != nil {
		e.log.Error("the configuration was not loaded anew, what ran runs on", "error", err)
	} else {
		e.log.Info("the configuration was loaded anew", "started", done.Started, "stopped", done.Stopped, "kept", len(done.Kept))
	}
	return done, err
}

func (e *Engine) reload(ctx context.Context) (Reloaded, error) {
	switch {
	case e.opts.Load == nil || e.opts.UntilDrained:
		return Reloaded{}, fmt.Errorf("%w: it ends when everything is synced; start it again with the new one", ErrNoReload)
	case e.crew == nil || e.crew.collecting.Err() != nil:
		return Reloaded{}, fmt.Errorf("%w: it has not begun to run, or is stopping", ErrNoReload)
	}
	cfg, diags := e.opts.Load()
	c := &change{engine: e, old: e.setup.Load(), next: &setup{cfg: cfg}}
	if !diags.HasErrors() {
		diags = append(c.fixed(), diags...)
	}
	if !diags.HasErrors() {
		more, err := c.open(ctx)
		if err != nil {
			c.abandon(ctx)
			return Reloaded{}, err
		}
		diags = append(diags, more...)
	}
	if diags.HasErrors() {
		c.abandon(ctx)
		return Reloaded{}, &ConfigError{Diagnostics: diags, Files: cfg.Files}
	}
	// From here on it must come to an end, whoever asked for it.
	ctx = context.WithoutCancel(ctx)
	e.retrying.Lock() // a retry holds on to its pipeline
	defer e.retrying.Unlock()
	if err := c.swap(ctx); err != nil {
		c.abandon(ctx)
		return Reloaded{}, err
	}
	return c.done(), nil
}

// change is one reload on its way from one setup to the next.
type change struct {
	engine    *Engine
	old, next *setup
	opened    []*pipeline              // new, or in place of another
	halted    []*pipeline              // of the old ones
	remotes   map[string]*remote       // new ones, and those in place of another, by name
	plugins   map[string]*loadedPlugin // loaded for next.plugins
}

// fixed tells what the files change that cannot change while the edge runs.
func (c *change) fixed() hcl.Diagnostics {
	var diags hcl.Diagnostics
	refuse := func(at hcl.Range, what, why string) {
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Cannot change at run time", Subject: &at,
			Detail: fmt.Sprintf("%s: %s. Stop the edge and start it again, which loses nothing; or change it back.", what, why),
		})
	}
	was, is := &c.old.cfg.Edge, &c.next.cfg.Edge
	if was.DeviceID != is.DeviceID {
		refuse(is.Range, fmt.Sprintf("device_id was %q and is %q", was.DeviceID, is.DeviceID), "the hub's ledger and the links bear it")
	}
	if was.DataDir != is.DataDir && c.engine.opts.DataDir == "" {
		refuse(is.Range, fmt.Sprintf("data_dir was %q and is %q", was.DataDir, is.DataDir), "the store is open there")
	}
	if was.Durability != is.Durability {
		refuse(is.Range, fmt.Sprintf("durability was %q and is %q", was.Durability, is.Durability), "the store was opened with it")
	}
	if was.MaxBytes != is.MaxBytes {
		refuse(is.Range, fmt.Sprintf("max_bytes was %d and is %d bytes", was.MaxBytes, is.MaxBytes), "the store was opened with it")
	}
	c.fixedKeyed(refuse)
	const link = "its link is a part of the embedded server, which is made when the edge starts"
	for i := range c.next.cfg.Remotes {
		r := &c.next.cfg.Remotes[i]
		old := remoteNamed(c.old.cfg, r.Name)
		switch {
		case r.Kind != "nats" && (old == nil || old.Kind != "nats"):
		case old == nil:
			refuse(r.Range, fmt.Sprintf("the remote %q is new", r.Name), link)
		case old.Text != r.Text:
			refuse(r.Range, fmt.Sprintf("the remote %q has changed", r.Name), link)
		}
	}
	for i := range c.old.cfg.Remotes {
		if r := &c.old.cfg.Remotes[i]; r.Kind == "nats" && remoteNamed(c.next.cfg, r.Name) == nil {
			refuse(is.Range, fmt.Sprintf("the remote %q is gone", r.Name), link)
		}
	}
	return diags
}

func remoteNamed(cfg *config.Config, name string) *config.Remote {
	i := slices.IndexFunc(cfg.Remotes, func(r config.Remote) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &cfg.Remotes[i]
}

// open loads and opens all that is new, beside what runs.
func (c *change) open(ctx context.Context) (hcl.Diagnostics, error) {
	e := c.engine
	var diags hcl.Diagnostics
	if len(c.next.cfg.Plugins) > 0 {
		if err := e.openPluginHost(ctx); err != nil {
			return nil, err
		}
		if c.next.trust, diags = readTrust(&c.next.cfg.Edge); diags.HasErrors() {
			return diags, nil
		}
	}
	diags = append(diags, c.openPlugins(ctx)...)
	for i := range c.next.cfg.Pipelines {
		cfg := &c.next.cfg.Pipelines[i]
		old := pipelineNamed(c.old, cfg.Name)
		if old != nil && c.same(old, cfg) {
			c.next.pipelines = append(c.next.pipelines, old)
			continue
		}
		p, more, err := e.openPipeline(ctx, c.next, cfg)
		if err != nil {
			return nil, err
		}
		if diags = append(diags, more...); more.HasErrors() {
			continue
		}
		if old != nil {
			p.base = old.base
		}
		c.opened = append(c.opened, p)
		c.next.pipelines = append(c.next.pipelines, p)
	}
	for _, p := range c.old.pipelines {
		if !slices.Contains(c.next.pipelines, p) {
			c.halted = append(c.halted, p)
		}
	}
	if diags.HasErrors() {
		return diags, nil
	}
	return diags, c.openRemotes(ctx)
}

// openPlugins loads the plugins that no transform uses, or keeps them.
func (c *change) openPlugins(ctx context.Context) hcl.Diagnostics {
	unused := unusedPlugins(c.next.cfg)
	kept := map[string]*loadedPlugin{}
	for i := range c.next.cfg.Plugins {
		block := &c.next.cfg.Plugins[i]
		if p := c.old.plugins[block.Name]; p != nil && slices.Contains(unused, block.Name) && p.same(c.next, block) {
			kept[block.Name] = p
			unused = slices.DeleteFunc(unused, func(name string) bool { return name == block.Name })
		}
	}
	var diags hcl.Diagnostics
	c.plugins, diags = c.engine.loadPlugins(ctx, c.next, unused)
	for name, p := range c.plugins {
		kept[name] = p
	}
	c.next.plugins = kept
	return diags
}

func pipelineNamed(set *setup, name string) *pipeline {
	i := slices.IndexFunc(set.pipelines, func(p *pipeline) bool { return p.cfg.Name == name })
	if i < 0 {
		return nil
	}
	return set.pipelines[i]
}

// same reports whether a pipeline that runs is what the files still say.
func (c *change) same(p *pipeline, cfg *config.Pipeline) bool {
	if p.cfg.Text != cfg.Text {
		return false
	}
	for i := range c.next.cfg.Plugins {
		block := &c.next.cfg.Plugins[i]
		if loaded := p.plugins[block.Name]; loaded != nil && !loaded.same(c.next, block) {
			return false
		}
	}
	return true
}

// openRemotes opens the remotes that are new or have changed. Nothing is sent to
// them yet.
func (c *change) openRemotes(ctx context.Context) error {
	c.remotes = map[string]*remote{}
	for i := range c.next.cfg.Remotes {
		cfg := &c.next.cfg.Remotes[i]
		if old := c.oldRemote(cfg.Name); old != nil && old.cfg.Text == cfg.Text || len(syncsTo(c.next, cfg)) == 0 {
			continue
		}
		r, err := c.engine.newRemote(ctx, cfg)
		if err != nil {
			return err
		}
		c.remotes[cfg.Name] = r
	}
	return nil
}

func (c *change) oldRemote(name string) *remote {
	i := slices.IndexFunc(c.old.remotes, func(r *remote) bool { return r.cfg.Name == name })
	if i < 0 {
		return nil
	}
	return c.old.remotes[i]
}

// abandon frees what was opened and is not to run.
func (c *change) abandon(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for _, p := range c.opened {
		c.engine.closePlugins(ctx, p.plugins)
	}
	c.engine.closePlugins(ctx, c.plugins)
	for _, r := range c.remotes {
		r.remote.Close()
	}
}

// swap stops what changes, in the order of a stop, and starts what takes its
// place. After an error what ran before runs again.
func (c *change) swap(ctx context.Context) error {
	e := c.engine
	var all gosync.WaitGroup
	for _, p := range c.halted {
		all.Go(p.collecting.stop)
	}
	all.Wait()
	// What the old ones have done is durable now; so are their plugins' keys.
	for _, p := range c.opened {
		if err := e.openKeys(ctx, p); err != nil {
			for _, p := range c.halted {
				e.startPipeline(e.crew, p)
			}
			return err
		}
	}
	c.swapRemotes(ctx)
	e.setup.Store(c.next)
	for _, p := range c.opened {
		e.startPipeline(e.crew, p)
	}
	for _, r := range c.next.remotes {
		r.start(e.crew)
	}
	c.close(ctx)
	return nil
}

// swapRemotes makes the next setup's remotes. A remote whose pipelines are as
// before goes on; another gets a new sender, which begins where the old one ends.
func (c *change) swapRemotes(ctx context.Context) {
	e := c.engine
	moved := len(c.opened)+len(c.halted) > 0
	for _, r := range c.old.remotes {
		if moved || c.remotes[r.cfg.Name] != nil {
			r.sending.stop()
		}
	}
	if err := e.saveState(ctx); err != nil { // a hint: the remotes know better
		e.log.Warn("saving what the remotes have", "error", err)
	}
	for i := range c.next.cfg.Remotes {
		cfg := &c.next.cfg.Remotes[i]
		old, r := c.oldRemote(cfg.Name), c.remotes[cfg.Name]
		switch {
		case len(syncsTo(c.next, cfg)) == 0:
			continue
		case r == nil && !moved:
			c.next.remotes = append(c.next.remotes, old)
			continue
		case r == nil:
			r = &remote{cfg: cfg, remote: old.remote, rate: old.rate, monitor: old.monitor, watching: old.watching}
		}
		e.addFeeds(c.next, r, old)
		c.next.remotes = append(c.next.remotes, r)
	}
}

// close frees what does not run any more.
func (c *change) close(ctx context.Context) {
	for _, p := range c.halted {
		c.engine.closePlugins(ctx, p.plugins)
	}
	for name, p := range c.old.plugins {
		if c.next.plugins[name] != p {
			c.engine.closePlugins(ctx, map[string]*loadedPlugin{name: p})
		}
	}
	for _, r := range c.old.remotes {
		if !slices.ContainsFunc(c.next.remotes, func(n *remote) bool { return n.remote == r.remote }) {
			r.watching.stop()
			r.remote.Close()
		}
	}
}

// done says what was done.
func (c *change) done() Reloaded {
	d := Reloaded{Started: []string{}, Stopped: []string{}, Kept: []string{}}
	for _, p := range c.next.pipelines {
		name := fmt.Sprintf("pipeline %q", p.cfg.Name)
		if slices.Contains(c.opened, p) {
			d.Started = append(d.Started, name)
		} else {
			d.Kept = append(d.Kept, name)
		}
	}
	for _, r := range c.next.remotes {
		name := fmt.Sprintf("remote %q %q", r.cfg.Kind, r.cfg.Name)
		if c.remotes[r.cfg.Name] != nil {
			d.Started = append(d.Started, name)
		} else {
			d.Kept = append(d.Kept, name)
		}
	}
	for _, p := range c.halted {
		if pipelineNamed(c.next, p.cfg.Name) == nil {
			d.Stopped = append(d.Stopped, fmt.Sprintf("pipeline %q", p.cfg.Name))
		}
	}
	for _, r := range c.old.remotes {
		if !slices.ContainsFunc(c.next.remotes, func(n *remote) bool { return n.cfg.Name == r.cfg.Name }) {
			d.Stopped = append(d.Stopped, fmt.Sprintf("remote %q %q", r.cfg.Kind, r.cfg.Name))
		}
	}
	return d
}
