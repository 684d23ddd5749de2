// This file is what a reload does with remotes: their links, senders and the syncs of
// keyed stores.

package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

// fixedHubs is the part of fixed about embedded hubs.
func (c *change) fixedHubs(refuse func(at hcl.Range, what, why string)) {
	const why = "its hub is a part of this process"
	for i := range c.next.cfg.Remotes {
		r := &c.next.cfg.Remotes[i]
		old := remoteNamed(c.old.cfg, r.Name)
		switch {
		case !embedded(r) && !embedded(old):
		case old == nil:
			refuse(r.Range, fmt.Sprintf("the remote %q is new", r.Name), why)
		case embedded(r) != embedded(old), r.Args.String("client_listen") != old.Args.String("client_listen"),
			r.Args.String("domain") != old.Args.String("domain"):
			refuse(r.Range, fmt.Sprintf("the remote %q has changed", r.Name), why)
		}
	}
	for i := range c.old.cfg.Remotes {
		if r := &c.old.cfg.Remotes[i]; embedded(r) && remoteNamed(c.next.cfg, r.Name) == nil {
			refuse(c.next.cfg.Edge.Range, fmt.Sprintf("the remote %q is gone", r.Name), why)
		}
	}
}

func remoteNamed(cfg *config.Config, name string) *config.Remote {
	i := slices.IndexFunc(cfg.Remotes, func(r config.Remote) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &cfg.Remotes[i]
}

// openRemotes opens the remotes of a kind that are new or have changed. Nothing is
// sent to them yet.
func (c *change) openRemotes(ctx context.Context, kind string) error {
	for i := range c.next.cfg.Remotes {
		cfg := &c.next.cfg.Remotes[i]
		if cfg.Kind != kind || !c.changed(cfg) {
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

// changed reports whether a remote that is synced to is new or has changed.
func (c *change) changed(cfg *config.Remote) bool {
	old := c.oldRemote(cfg.Name)
	return len(syncsTo(c.next, cfg)) > 0 && (old == nil || old.cfg.Text != cfg.Text)
}

func (c *change) oldRemote(name string) *remote {
	i := slices.IndexFunc(c.old.remotes, func(r *remote) bool { return r.cfg.Name == name })
	if i < 0 {
		return nil
	}
	return c.old.remotes[i]
}

// stays reports whether a remote of the old setup is one of the next, as it is.
func (c *change) stays(old *config.Remote) bool {
	r := remoteNamed(c.next.cfg, old.Name)
	return r != nil && len(syncsTo(c.next, r)) > 0 && r.Text == old.Text
}

// relink gives the broker the next setup's links. Those that have not changed stay.
func (c *change) relink(ctx context.Context) error {
	isNATS := func(r config.Remote) bool { return r.Kind == "nats" }
	if !slices.ContainsFunc(c.old.cfg.Remotes, isNATS) && len(c.links) == 0 {
		return nil
	}
	if err := c.engine.broker.SetLinks(ctx, c.links); err != nil {
		return err
	}
	c.relinked = true
	return nil
}

// moveRemotes makes the next setup's remotes. A remote whose pipelines are as
// before goes on; another gets a new sender, which begins where the old one ends.
func (c *change) moveRemotes() {
	for i := range c.next.cfg.Remotes {
		cfg := &c.next.cfg.Remotes[i]
		old, r := c.oldRemote(cfg.Name), c.remotes[cfg.Name]
		switch {
		case len(syncsTo(c.next, cfg)) == 0:
			continue
		case r == nil && !c.moved():
			c.next.remotes = append(c.next.remotes, old)
			continue
		case r == nil:
			r = old.again(cfg)
		}
		c.engine.addFeeds(c.next, r, old)
		c.next.remotes = append(c.next.remotes, r)
	}
}

// again returns a remote that is to have another sender.
func (r *remote) again(cfg *config.Remote) *remote {
	return &remote{cfg: cfg, remote: r.remote, rate: r.rate, monitor: r.monitor, watching: r.watching}
}

// moveSyncs makes the next setup's syncs of keyed stores, likewise.
func (c *change) moveSyncs() error {
	return c.engine.eachKeyedSync(c.next, func(p *pipeline, r *remote) error {
		i := slices.IndexFunc(c.old.syncs, func(k *keyedSync) bool { return k.pipeline == p && k.monitor == r.monitor })
		if i >= 0 {
			c.next.syncs = append(c.next.syncs, c.old.syncs[i])
			return nil
		}
		k, err := c.engine.newKeyedSync(p, r)
		if err != nil {
			return err
		}
		c.syncs, c.next.syncs = append(c.syncs, k), append(c.next.syncs, k)
		return nil
	})
}
