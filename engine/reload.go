package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/broker"
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
	c := &change{engine: e, old: e.setup.Load(), next: &setup{cfg: cfg, resolvers: map[string]*loadedResolver{}}, remotes: map[string]*remote{}}
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
	links     []broker.Link            // of the next setup
	relinked  bool                     // the broker has them
	syncs     []*keyedSync             // new, or in place of another
	ended     []*keyedSync             // of the old ones
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
	c.fixedHubs(refuse)
	return diags
}

// open loads and opens all that is new, beside what runs.
func (c *change) open(ctx context.Context) (hcl.Diagnostics, error) {
	e := c.engine
	var err error
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
	c.keepResolvers()
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
	if c.links, err = e.links(c.next.cfg); err == nil {
		err = e.broker.CheckLinks(c.links)
	}
	if err != nil {
		return nil, err
	}
	return diags, c.openRemotes(ctx, "http")
}

// keepResolvers keeps the resolvers that the files still say the same of.
func (c *change) keepResolvers() {
	for i := range c.next.cfg.Pipelines {
		for _, name := range resolversOf(c.next.cfg.Pipelines[i].Keyed) {
			if r := c.old.resolvers[name]; r != nil && r.same(c.next, name) {
				c.next.resolvers[name] = r
			}
		}
	}
}

func (r *loadedResolver) same(set *setup, name string) bool {
	block := resolverBlock(set.cfg, name)
	return block != nil && r.plugin.same(set, block)
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
	for _, name := range resolversOf(cfg.Keyed) {
		if c.next.resolvers[name] == nil || c.next.resolvers[name] != c.old.resolvers[name] {
			return false
		}
	}
	return true
}

// abandon frees what was opened and is not to run.
func (c *change) abandon(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for _, p := range c.opened {
		c.engine.closePlugins(ctx, p.plugins)
	}
	c.engine.closePlugins(ctx, c.plugins)
	c.closeResolvers(ctx, c.next, c.old)
	for _, k := range c.syncs {
		k.close()
	}
	for _, r := range c.remotes {
		r.remote.Close()
	}
}

// closeResolvers frees the resolvers of one setup that the other has not.
func (c *change) closeResolvers(ctx context.Context, of, but *setup) {
	for name, r := range of.resolvers {
		if but.resolvers[name] != r {
			c.engine.closePlugins(ctx, map[string]*loadedPlugin{name: r.plugin})
		}
	}
}

// swap stops what changes, in the order of a stop, and starts what takes its
// place. After an error what ran before runs again.
func (c *change) swap(ctx context.Context) error {
	e := c.engine
	c.stop(ctx)
	if err := c.rebase(ctx); err != nil {
		return errors.Join(err, c.back(ctx))
	}
	e.setup.Store(c.next)
	c.start(c.opened)
	c.close(ctx)
	return nil
}

// stop ends the sources of what changes, then what sends.
func (c *change) stop(ctx context.Context) {
	e := c.engine
	var all gosync.WaitGroup
	for _, p := range c.halted {
		all.Go(p.collecting.stop)
	}
	all.Wait()
	for _, k := range c.old.syncs {
		if slices.Contains(c.halted, k.pipeline) || !c.stays(k.remote) {
			c.ended = append(c.ended, k)
			all.Go(k.stop)
		}
	}
	for _, r := range c.old.remotes {
		if c.moved() || !c.stays(r.cfg) {
			all.Go(r.sending.stop)
		}
	}
	all.Wait()
	for _, r := range c.old.remotes {
		e.state.meet(r)
	}
	if err := e.saveState(ctx); err != nil { // a hint: the remotes know better
		e.log.Warn("saving what the remotes have", "error", err)
	}
}

// moved reports whether there are other pipelines than before.
func (c *change) moved() bool { return len(c.opened)+len(c.halted) > 0 }

// rebase puts the next setup where the old one has stopped: what that has done is
// durable now.
func (c *change) rebase(ctx context.Context) error {
	e := c.engine
	for _, p := range c.opened {
		if err := e.openKeys(ctx, p); err != nil {
			return err
		}
		if p.keyedOptions == nil {
			continue
		}
		var err error
		if p.keyed, err = e.keyed.stores.Configure(ctx, *p.keyedOptions); err != nil {
			return err
		}
	}
	if err := c.relink(ctx); err != nil {
		return err
	}
	if err := c.openRemotes(ctx, "nats"); err != nil {
		return err
	}
	c.moveRemotes()
	return c.moveSyncs()
}

// back runs again what was stopped, as it was.
func (c *change) back(ctx context.Context) error {
	e := c.engine
	var errs []error
	for _, p := range c.halted {
		if p.keyedOptions != nil {
			_, err := e.keyed.stores.Configure(ctx, *p.keyedOptions)
			errs = append(errs, err)
		}
	}
	if c.relinked {
		links, err := e.links(c.old.cfg)
		errs = append(errs, err, e.broker.SetLinks(ctx, links))
	}
	was := *c.old
	was.remotes = slices.Clone(was.remotes)
	for i, r := range was.remotes {
		if c.moved() || !c.stays(r.cfg) {
			was.remotes[i] = r.again(r.cfg)
			e.addFeeds(&was, was.remotes[i], r)
		}
	}
	was.syncs = slices.Clone(was.syncs)
	for i, k := range was.syncs {
		if slices.Contains(c.ended, k) {
			again := *k
			again.running = nil
			e.renewKeyedSync(&again)
			was.syncs[i] = &again
		}
	}
	e.setup.Store(&was)
	c.start(c.halted)
	return errors.Join(errs...)
}

// start runs what the setup has and does not run yet, pipelines among them.
func (c *change) start(pipelines []*pipeline) {
	e := c.engine
	set := e.setup.Load()
	for _, r := range set.remotes {
		r.start(e.crew)
	}
	for _, k := range set.syncs {
		k.start(e.crew)
	}
	for _, p := range pipelines {
		e.startPipeline(e.crew, p)
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
	c.closeResolvers(ctx, c.old, c.next)
	for _, k := range c.ended {
		k.close()
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
