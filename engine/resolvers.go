package engine

import (
	"context"
	gosync "sync"

	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/wasm"
)

// resolver settles conflicts of keyed records with a module.
type resolver struct {
	plugin *wasm.Plugin
	id     keyed.ResolverID
	bodies bool
	out    gosync.Pool // of *wasm.ResolveOutput
}

var _ keyed.Resolver = (*resolver)(nil)

// NewResolver returns a plugin as a resolver of keyed records. It fails when the
// module cannot be one.
func NewResolver(p *wasm.Plugin) (keyed.Resolver, error) {
	if err := p.CanResolve(); err != nil {
		return nil, err
	}
	about := p.Description()
	return &resolver{
		plugin: p, bodies: about.Needs != wasm.NeedsHeaders,
		id:  keyed.ResolverID{Name: p.Name(), Version: about.Version, SHA256: p.SHA256()},
		out: gosync.Pool{New: func() any { return new(wasm.ResolveOutput) }},
	}, nil
}

// ID implements [keyed.Resolver].
func (r *resolver) ID() keyed.ResolverID { return r.id }

// ReadsBodies implements [keyed.Resolver].
func (r *resolver) ReadsBodies() bool { return r.bodies }

// Resolve implements [keyed.Resolver].
func (r *resolver) Resolve(ctx context.Context, conflicts []keyed.Conflict) ([]keyed.Verdict, error) {
	in := make([]wasm.Conflict, len(conflicts))
	for i := range conflicts {
		c := &conflicts[i]
		in[i].Local, in[i].Remote = version(&c.Local), version(&c.Remote)
		if c.Base != nil {
			b := version(c.Base)
			in[i].Base = &b
		}
	}
	out := r.out.Get().(*wasm.ResolveOutput)
	defer r.out.Put(out)
	if err := r.plugin.Resolve(ctx, in, out); err != nil {
		return nil, err
	}
	verdicts := make([]keyed.Verdict, len(out.Verdicts))
	for i := range out.Verdicts {
		verdicts[i] = verdict(&out.Verdicts[i])
	}
	return verdicts, nil
}

func version(v *keyed.Version) wasm.Version {
	w := wasm.Version{
		Key: v.Key, Device: v.Device, DataType: v.DataType, WallNS: v.HLC.Wall, Counter: v.HLC.Counter,
		Deleted: v.Deleted, Revision: v.Revision, Body: v.Body,
	}
	switch v.Clock {
	case keyed.Floor:
		w.ClockQuality = wasm.ClockFloor
	case keyed.Synced:
		w.ClockQuality = wasm.ClockSynced
	default:
		w.ClockQuality = wasm.ClockUnknown
	}
	return w
}

func verdict(v *wasm.Verdict) keyed.Verdict {
	k := keyed.Verdict{Reason: v.Reason}
	switch v.Action {
	case wasm.VerdictLocal:
		k.Action = keyed.TakeLocal
	case wasm.VerdictRemote:
		k.Action = keyed.TakeRemote
	case wasm.VerdictMerged:
		k.Action, k.Body = keyed.TakeMerged, append([]byte(nil), v.Payload...)
	case wasm.VerdictDelete:
		k.Action = keyed.TakeDelete
	case wasm.VerdictManual:
		k.Action, k.ServeLocal = keyed.AskPerson, v.Code == 1
	case wasm.VerdictFaulted:
		k.Action = keyed.Faulted
	default: // it refused the conflict, or rests
		k.Action = keyed.Pass
	}
	return k
}
