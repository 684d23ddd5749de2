// Work orders: the status only moves forward, notes are united, quantities added
// up, and a person decides about the rest.
package main

import (
	"slices"
	"strings"

	edged "github.com/edged/edged/sdk/go"
)

// about is what the plugin says of itself: 'edged plugin sign' takes name and version from it.
const about = `{
  "name": "pluginname",
  "version": "0.1.0",
  "summary": "Merges work orders: the status only moves forward, notes are united, quantities added up",
  "kinds": ["resolve"],
  "needs": "payload"
}`

//go:wasmexport edged_describe
func edgedDescribe() uint64 { return edged.Describe(about) }

var order = []string{"open", "started", "done"}

var merge = edged.Merge{Rules: map[string]edged.Rule{
	"status":   edged.Server,
	"notes":    edged.Union,
	"quantity": edged.Sum,
}}

//go:wasmexport edged_resolve
func edgedResolve(ptr, size uint32) uint64 { return edged.Resolve(ptr, size, decide) }

func rank(payload []byte) int {
	status, _ := edged.AsString(edged.Get(payload, "status"))
	return slices.Index(order, status)
}

func decide(conflict *edged.Conflict, verdict *edged.Verdict) {
	local, remote := &conflict.Local, &conflict.Remote
	if local.Deleted || remote.Deleted {
		verdict.Manual("deleted on one side", false)
		return
	}
	merged := merge.Run(conflict)
	if merged == nil {
		verdict.Manual("changed on both sides: "+strings.Join(merge.Open, ", "), false)
		return
	}
	if rank(local.Payload) > rank(remote.Payload) {
		merged = edged.Set(merged, "status", edged.Get(local.Payload, "status"))
	}
	verdict.Merged(merged)
}

func main() {}
