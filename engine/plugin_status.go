package engine

import (
	"maps"
	"slices"

	"github.com/edged/edged/engine/wasm"
)

// pluginStatus tells of every plugin: those of the pipelines in their order, then
// the resolvers of keyed stores, then those that nothing uses.
func (e *Engine) pluginStatus() []PluginStatus {
	set := e.setup.Load()
	var all []PluginStatus
	for _, p := range set.pipelines {
		for _, name := range transformPlugins(p.cfg) {
			all = append(all, statusOf(p.plugins[name].Plugin, p.cfg.Name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set.resolvers)) {
		s := statusOf(set.resolvers[name].plugin.Plugin, "")
		for i := range set.cfg.Pipelines {
			if p := &set.cfg.Pipelines[i]; slices.Contains(resolversOf(p.Keyed), name) {
				s.Stores = append(s.Stores, p.Name)
			}
		}
		all = append(all, s)
	}
	for _, name := range slices.Sorted(maps.Keys(set.plugins)) {
		all = append(all, statusOf(set.plugins[name].Plugin, ""))
	}
	return all
}

func statusOf(p *wasm.Plugin, pipeline string) PluginStatus {
	st := p.Stats()
	s := PluginStatus{
		Name: p.Name(), Pipeline: pipeline, SHA256: p.SHA256(), Version: p.Description().Version,
		Records: st.Records, Conflicts: st.Conflicts, Faults: st.Faulted, Refused: st.Failed, Dropped: st.Dropped,
		NotAsked: st.Skipped, Calls: st.Calls, Replays: st.Replays, Fuel: st.Fuel, Instances: st.Instances,
		Breaker: string(st.Breaker), RestsUntil: st.RestsUntil, Rests: st.Rests,
		LogLinesDropped: st.LogDropped, LastFault: st.LastFault, Metrics: st.Metrics,
	}
	if signature := p.Signed(); signature != nil {
		s.SignedBy, s.Version = signature.Key.String(), signature.Manifest.Version
	}
	if len(st.FaultsByKind) > 0 {
		s.FaultsByKind = map[string]uint64{}
		for kind, n := range st.FaultsByKind {
			s.FaultsByKind[string(kind)] = n
		}
	}
	return s
}
