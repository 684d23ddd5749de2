// The shipped plugin merge, in Go: sdk/merge_test.go holds the languages together
// with it.
package main

import (
	"bytes"
	"strings"

	edged "github.com/edged/edged/sdk/go"
)

var (
	merge      edged.Merge
	serveLocal bool
)

//go:wasmexport edged_configure
func edgedConfigure(ptr, size uint32) uint64 { return edged.Configure(ptr, size, setUp) }

func setUp(config *edged.Config) {
	fields, fallback, serve := config.Map("fields"), config.String("default", "manual"), config.String("serve", "server")
	switch edged.Rule(fallback) {
	case edged.Manual, edged.Latest, edged.Client, edged.Server:
	default:
		config.Fail(`default must be manual, latest, client or server, not "` + fallback + `"`)
	}
	if serve != "client" && serve != "server" {
		config.Fail(`serve must be client or server, not "` + serve + `"`)
	}
	serveLocal = serve == "client"
	merge = edged.Merge{Rules: map[string]edged.Rule{}, Fallback: edged.Rule(fallback)}
	for _, f := range fields {
		rule, err := edged.ParseRule(f.Value)
		if err != nil {
			config.Fail("fields." + f.Name + ` is "` + f.Value + `"; rules are: ` + edged.RuleNames)
		}
		merge.Rules[f.Name] = rule
	}
}

//go:wasmexport edged_resolve
func edgedResolve(ptr, size uint32) uint64 { return edged.Resolve(ptr, size, decide) }

func decide(conflict *edged.Conflict, verdict *edged.Verdict) {
	local, remote := &conflict.Local, &conflict.Remote
	if local.Deleted && remote.Deleted {
		verdict.Remote()
		return
	}
	if local.Deleted || remote.Deleted {
		verdict.Manual("deleted on one side and changed on the other", serveLocal)
		return
	}
	switch merged := merge.Run(conflict); {
	case merged == nil:
		verdict.Manual("changed on both sides: "+strings.Join(merge.Open, ", "), serveLocal)
	case bytes.Equal(merged, remote.Payload):
		verdict.Remote()
	case bytes.Equal(merged, local.Payload):
		verdict.Local()
	default:
		verdict.Merged(merged)
	}
}

func main() {}
