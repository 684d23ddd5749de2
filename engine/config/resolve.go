package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

func emptyBody() *hclsyntax.Body {
	return &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}
}

// resolve checks what blocks say about each other. It needs every file, so it
// does not run when one could not be read.
func (b *builder) resolve(file Args) {
	plugins, remotes := declared{kind: "plugin"}, declared{kind: "remote"}
	for _, p := range file.Blocks("plugin") {
		plugins.add(p)
	}
	for _, r := range file.Blocks("remote") {
		remotes.add(r)
	}
	for _, p := range file.Blocks("pipeline") {
		for _, t := range p.Blocks("transform") {
			b.use(&plugins, t, "plugin")
		}
		b.resolveKeyed(&plugins, p)
		seen := map[string]hcl.Range{}
		for _, s := range p.Blocks("sync") {
			b.use(&remotes, s, "to")
			b.once(seen, s)
		}
		b.topics(p)
	}
	b.keysFit()
	if b.diags.HasErrors() {
		return // what is wrong may be why something seems unused
	}
	b.unused(&plugins)
	b.unused(&remotes)
	if len(b.cfg.Pipelines) == 0 {
		b.report("No pipeline", `There is nothing to run. Write a block pipeline "<name>" { … } with at least one collect block.`, file.Range)
	}
}

// declared holds the blocks of one type that can be referred to.
type declared struct {
	kind  string
	names []string // remote.nats.hub
	at    []hcl.Range
	used  []bool
}

func (l *declared) add(a Args) {
	l.names = append(l.names, l.kind+"."+strings.Join(a.labels, "."))
	l.at = append(l.at, a.Range)
	l.used = append(l.used, false)
}

func (b *builder) use(l *declared, a Args, arg string) {
	if !a.Has(arg) {
		return // told by the decoder
	}
	b.useName(l, l.kind+"."+strings.Join(a.BlockRef(arg), "."), a.ArgRange(arg))
}

// useName notes that a block is named at a place, or reports that there is none.
func (b *builder) useName(l *declared, name string, at hcl.Range) {
	for i := range l.names {
		if l.names[i] == name {
			l.used[i] = true
			return
		}
	}
	known := "None is declared."
	if len(l.names) > 0 {
		known = "The declared ones are: " + join(l.names) + "."
	}
	b.report("Undeclared "+l.kind, fmt.Sprintf("There is no block for %s.%s %s", name, didYouMean(name, l.names), known), at)
}

const (
	// maxKeys bounds the keys of all plugins in all pipelines together: freeing
	// storage may have to write them all anew while the disk budget is used up.
	maxKeys = 2 << 20
	// defaultKeys is the quota of a plugin that states none.
	defaultKeys = 64 << 10
)

// keysFit holds the plugins' keys to what the store can carry.
func (b *builder) keysFit() {
	quota := map[string]int64{}
	for i := range b.cfg.Plugins {
		p := &b.cfg.Plugins[i]
		if !slices.Contains(p.Allow, "kv") {
			continue
		}
		if quota[p.Name] = p.Limits.KV; p.Limits.KV == 0 {
			quota[p.Name] = defaultKeys
		}
	}
	var all int64
	for i := range b.cfg.Pipelines {
		counted := map[string]bool{}
		for _, t := range b.cfg.Pipelines[i].Transforms {
			if counted[t.Plugin] {
				continue
			}
			counted[t.Plugin] = true
			before := all
			if all += quota[t.Plugin]; before <= maxKeys && all > maxKeys {
				b.report("Too many keys", fmt.Sprintf("With plugin.%s here, the plugins of all pipelines together may keep %d bytes of keys; at most %d are allowed. Write a smaller kv in the limits of some.", t.Plugin, all, maxKeys), t.Range)
			}
		}
	}
}

func (b *builder) once(seen map[string]hcl.Range, s Args) {
	if !s.Has("to") {
		return
	}
	name := strings.Join(s.BlockRef("to"), ".")
	if other, again := seen[name]; again {
		b.report("Duplicate sync", fmt.Sprintf("The pipeline syncs to remote.%s already at %s. Remove one of the two.", name, place(other)), s.ArgRange("to"))
		return
	}
	seen[name] = s.ArgRange("to")
}

// topics holds what the syncs of a pipeline say of topics against its alerts:
// a topic that no alert has is a slip, and a message that no remote gets is
// raised for nobody.
func (b *builder) topics(p Args) {
	var raised []string
	for _, a := range p.Blocks("alert") {
		if name := a.String("topic"); a.Has("topic") && !slices.Contains(raised, name) {
			raised = append(raised, name)
		}
	}
	all := len(p.Blocks("sync")) == 0
	taken := map[string]bool{}
	for _, s := range p.Blocks("sync") {
		all = all || !s.Has("topics")
		for _, name := range s.Strings("topics") {
			taken[name] = true
			if !slices.Contains(raised, name) {
				known := "No alert of the pipeline has one."
				if len(raised) > 0 {
					known = "Its topics are: " + joinQuoted(raised) + "."
				}
				b.report("Undeclared topic", fmt.Sprintf("No alert of this pipeline has the topic %q.%s %s", name, didYouMean(name, raised), known), s.ArgRange("topics"))
			}
		}
	}
	for _, a := range p.Blocks("alert") {
		if name := a.String("topic"); a.Has("topic") && !all && !taken[name] {
			b.report("Topic without a remote", fmt.Sprintf("Every sync of the pipeline names its topics, and none of them names %q, so nobody would get this alert. Add it to the topics of a sync.", name), a.ArgRange("topic"))
		}
	}
}

func (b *builder) unused(l *declared) {
	for i, used := range l.used {
		if !used {
			b.diags = append(b.diags, warning("Unused "+l.kind, fmt.Sprintf("No pipeline uses %s. Remove the block, or refer to it.", l.names[i]), l.at[i]))
		}
	}
}
