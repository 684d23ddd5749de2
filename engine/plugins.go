package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/engine/wasm/sign"
	"github.com/edged/edged/plugins"
)

// builtinPrefix marks a module that comes with edged.
const builtinPrefix = "builtin:"

// openPlugins starts the plugin host and loads the plugins that no transform
// uses: resolvers. Each pipeline loads those of its transforms for itself, so
// that neither memory, instances nor a rest are shared between pipelines (I8).
func (e *Engine) openPlugins(ctx context.Context) error {
	if len(e.config().Plugins) == 0 {
		return nil
	}
	if err := e.openPluginHost(ctx); err != nil {
		return err
	}
	set := e.setup.Load()
	var diags hcl.Diagnostics
	if set.trust, diags = readTrust(&set.cfg.Edge); diags.HasErrors() {
		return diags
	}
	if set.plugins, diags = e.loadPlugins(ctx, set, unusedPlugins(set.cfg)); diags.HasErrors() {
		return diags
	}
	return nil
}

// openPluginHost starts the plugin host if that has not been done.
func (e *Engine) openPluginHost(ctx context.Context) error {
	if e.wasm != nil {
		return nil
	}
	host, err := e.newPluginHost(ctx, filepath.Join(e.dataDir, "wasm-cache"))
	if err != nil {
		e.log.Warn("plugins are compiled without a cache", "error", err)
		if host, err = e.newPluginHost(ctx, ""); err != nil {
			return err
		}
		e.uncached = host
	}
	e.wasm = host
	return nil
}

func (e *Engine) newPluginHost(ctx context.Context, cacheDir string) (*wasm.Host, error) {
	host, err := wasm.NewHost(ctx, wasm.Options{
		CacheDir: cacheDir, Logger: e.log.With("part", "plugin"), Now: e.now, Config: e.device.Lookup,
	})
	if err == nil {
		e.onClose("plugin host", host.Close)
	}
	return host, err
}

// loadModule loads a module. When that fails it may be the cache, damaged or on a
// disk that takes nothing: then it is tried without one.
func (e *Engine) loadModule(ctx context.Context, m wasm.Module) (*wasm.Plugin, error) {
	p, cached := e.wasm.Load(ctx, m)
	if cached == nil || e.wasm == e.uncached || ctx.Err() != nil {
		return p, cached
	}
	if e.uncached == nil {
		var err error
		if e.uncached, err = e.newPluginHost(ctx, ""); err != nil {
			return nil, errors.Join(cached, err)
		}
	}
	p, err := e.uncached.Load(ctx, m)
	if err == nil {
		e.log.Warn("a plugin was compiled without the cache, which could not be used", "plugin", m.Name, "error", cached)
	}
	return p, err
}

// unusedPlugins lists the plugin blocks that no transform names.
func unusedPlugins(cfg *config.Config) []string {
	used := keyedPlugins(cfg) // those are loaded with their stores
	for i := range cfg.Pipelines {
		for _, name := range transformPlugins(&cfg.Pipelines[i]) {
			used[name] = true
		}
	}
	var unused []string
	for i := range cfg.Plugins {
		if name := cfg.Plugins[i].Name; !used[name] {
			unused = append(unused, name)
		}
	}
	return unused
}

// transformPlugins lists the plugins that a pipeline's transforms name, each
// once, in the order of the file.
func transformPlugins(p *config.Pipeline) []string {
	var names []string
	for i := range p.Transforms {
		if name := p.Transforms[i].Plugin; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// loadPlugins loads the named plugin blocks and reports all that cannot be
// loaded; then none stays loaded.
func (e *Engine) loadPlugins(ctx context.Context, set *setup, names []string) (map[string]*loadedPlugin, hcl.Diagnostics) {
	loaded := map[string]*loadedPlugin{}
	var diags hcl.Diagnostics
	for i := range set.cfg.Plugins {
		block := &set.cfg.Plugins[i]
		if !slices.Contains(names, block.Name) {
			continue
		}
		p, err := e.loadPlugin(ctx, set, block)
		if err != nil {
			diags = append(diags, diagnostic(block.Range, "Plugin cannot be loaded", err))
			continue
		}
		loaded[block.Name] = p
	}
	if diags.HasErrors() {
		e.closePlugins(ctx, loaded)
		return nil, diags
	}
	return loaded, nil
}

// closePlugins frees plugins that nothing uses any more.
func (e *Engine) closePlugins(ctx context.Context, loaded map[string]*loadedPlugin) {
	for name, p := range loaded {
		if err := p.Close(ctx); err != nil {
			e.log.Warn("closing a plugin", "plugin", name, "error", err)
		}
	}
}

// loadedPlugin is a plugin with what tells that it would be the same one if it
// were loaded again.
type loadedPlugin struct {
	*wasm.Plugin
	print string
}

// printOf sums up all that makes a plugin what it is.
func printOf(set *setup, p *config.Plugin, m *wasm.Module) string {
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(p.Text), fmt.Append(nil, set.trust), m.Signature, m.Code} {
		fmt.Fprintf(sum, "%d\n%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// same reports whether the files still say of a plugin what was loaded.
func (p *loadedPlugin) same(set *setup, block *config.Plugin) bool {
	m, err := readModule(block.Module)
	return err == nil && p.print == printOf(set, block, &m)
}

func (e *Engine) loadPlugin(ctx context.Context, set *setup, p *config.Plugin) (*loadedPlugin, error) {
	m, err := readModule(p.Module)
	if err != nil {
		return nil, err
	}
	print := printOf(set, p, &m)
	if !strings.HasPrefix(p.Module, builtinPrefix) { // those are as good as the program
		m.Trust = set.trust
	}
	m.Name, m.SHA256, m.Config, m.Allow = p.Name, p.SHA256, p.Config, p.Allow
	m.Limits = wasm.Limits{
		Memory: p.Limits.Memory, Time: p.Limits.Time, Fuel: p.Limits.Fuel, Output: p.Limits.Output,
		RecordOutput: p.Limits.RecordOutput, LogLines: p.Limits.LogLines, KV: p.Limits.KV,
	}
	if p.Extism != nil {
		m.Extism = &wasm.Extism{Function: p.Extism.Function, Input: wasm.ExtismInput(p.Extism.Input)}
	}
	plugin, err := e.loadModule(ctx, m)
	if err != nil {
		return nil, err
	}
	return &loadedPlugin{plugin, print}, nil
}

// readModule reads a module, a file or one that comes with edged, and its
// signature if there is one.
func readModule(module string) (m wasm.Module, err error) {
	if name, ok := strings.CutPrefix(module, builtinPrefix); ok {
		if m.Code, ok = plugins.Builtin(name); !ok {
			return m, fmt.Errorf("there is no built-in plugin %q; there are: %s", name, strings.Join(plugins.Names(), ", "))
		}
		return m, nil
	}
	if m.Code, err = os.ReadFile(module); err != nil {
		return m, err
	}
	m.Signature, err = os.ReadFile(module + sign.Extension)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	return m, err
}

// readTrust reads the keys that the edge block names.
func readTrust(edge *config.Edge) (wasm.Trust, hcl.Diagnostics) {
	trust := wasm.Trust{Required: edge.RequireSigned}
	var diags hcl.Diagnostics
	for _, text := range edge.PluginKeys {
		data, err := []byte(text), error(nil)
		if !strings.HasPrefix(text, sign.KeyPrefix) {
			data, err = os.ReadFile(text)
		}
		var key sign.PublicKey
		if err == nil {
			key, err = sign.ParsePublicKey(data)
		}
		if err != nil {
			diags = append(diags, diagnostic(edge.KeysRange, "Key cannot be read", fmt.Errorf("%s: %w", text, err)))
			continue
		}
		trust.Keys = append(trust.Keys, key)
	}
	return trust, diags
}

// errNoTransform is told of a transform's plugin.
var errNoTransform = errors.New("the module does not export edged_transform, so it is no transform: a sync block may name it as a resolver")

// openResolver loads a plugin that resolves conflicts: that of a plugin block
// ("plugin.x" is written "x") or, with the prefix "builtin:", a conflict strategy
// that comes with edged. It is the caller's own and must be closed by it, or
// lives as long as the engine.
func (e *Engine) openResolver(ctx context.Context, set *setup, name string) (*loadedPlugin, error) {
	if err := e.openPluginHost(ctx); err != nil {
		return nil, err
	}
	block := resolverBlock(set.cfg, name)
	if block == nil {
		return nil, fmt.Errorf("there is no plugin block %q", name)
	}
	p, err := e.loadPlugin(ctx, set, block)
	if err != nil {
		return nil, err
	}
	if err := p.CanResolve(); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

// resolverBlock returns the plugin block of a resolver, or nil. The strategies that
// come with edged need none.
func resolverBlock(cfg *config.Config, name string) *config.Plugin {
	if strings.HasPrefix(name, builtinPrefix) {
		return &config.Plugin{Name: name, Module: name}
	}
	i := slices.IndexFunc(cfg.Plugins, func(p config.Plugin) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &cfg.Plugins[i]
}
