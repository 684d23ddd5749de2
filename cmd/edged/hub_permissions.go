package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/sync"
)

func newHubPermissionsCommand() *cobra.Command {
	var domain string
	var stores []string
	var audit, asJSON bool
	cmd := &cobra.Command{
		Use:   "permissions DEVICE_ID",
		Short: "Print the least that an edge's user needs at a NATS hub of your own",
		Long: `Print the subjects that the user of an edge may publish to and subscribe to at a
NATS hub of your own, as its configuration writes them: that edge can write below
its own name only, change no stream, and read no answer to others. What it can see
of others is a single message of the hub's two streams at a time, if it asks for
it: NATS has no narrower permission for that.

An edge that publishes what it may not is disconnected by nats-server and let in
again 30 s later, so give it at least this. --audit adds what 'edged audit' on the
edge needs; 'edged audit --hub' has a user of its own. --keyed names a pipeline with a
block store "keyed" that syncs there, once for each: the edge may write its keys, and
read all of the hub's bucket.`,
		Example: `  edged hub permissions edge-001

  # One that keeps keyed records in the pipelines "settings" and "orders"
  edged hub permissions edge-001 --keyed settings --keyed orders

  # The same for nsc, which makes .creds files
  edged hub permissions edge-001 --json |
    jq -r '"nsc add user -n edge-001 --allow-pub " + ([.publish[] | @sh] | join(",")) +
      " --allow-sub " + ([.subscribe[] | @sh] | join(","))'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("name one edge by its device_id, like 'edged hub permissions edge-001'")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := sync.EdgePermissions(args[0], domain, audit, stores...)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), p)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), permissionsText(p))
			return err
		},
	}
	cmd.Flags().StringVar(&domain, "domain", sync.DefaultDomain, "JetStream domain of the hub")
	cmd.Flags().BoolVar(&audit, "audit", false, "with what 'edged audit' on the edge needs")
	cmd.Flags().StringArrayVar(&stores, "keyed", nil, "with what keyed records of this pipeline need")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	complete(cmd, "domain")
	complete(cmd, "keyed")
	return cmd
}

// permissionsText is how a nats-server's configuration writes permissions.
func permissionsText(p sync.Permissions) string {
	var out strings.Builder
	list := func(what string, subjects []string) {
		fmt.Fprintf(&out, "  %s: [\n", what)
		for _, s := range subjects {
			fmt.Fprintf(&out, "    %q\n", s)
		}
		out.WriteString("  ]\n")
	}
	out.WriteString("permissions {\n")
	list("publish", p.Publish)
	list("subscribe", p.Subscribe)
	out.WriteString("}\n")
	return out.String()
}
