package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/sync"
)

func newEventsCommand() *cobra.Command {
	var dataDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "events [FILE|DIR...]",
		Short: "Follow what happens at a running edge",
		Long: `Follow what happens at the edge that runs on this machine, until Ctrl-C or until
it stops: every change of the connection to a remote, with its reason. It begins
with how each remote is now, a change from that state to itself.

With --json each event is one line: its subject on the edge's own broker, like
edged.events.connection.<remote>, and its data, {"remote", "from", "to", "time",
"error"}. The states are online, degraded and offline. Events are not kept: what
happened while nobody listened is in the log and, counted, in 'edged status'.`,
		Example: `  edged events /etc/edged

  # Tell someone when a link goes
  edged events --data-dir /var/lib/edged --json |
    jq --unbuffered -r 'select(.data.to == "offline" and .data.from != "offline") | .data.remote' |
    while read remote; do logger "link $remote is down"; done`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			dir, err := findDataDir(cmd.ErrOrStderr(), dataDir, paths)
			if err != nil {
				return err
			}
			client, err := dial(dir)
			if err != nil {
				return err
			}
			ctx, release := untilSignal(cmd.Context(), func(string) {})
			defer release()
			out := cmd.OutOrStdout()
			encoder := json.NewEncoder(out)
			err = client.Events(ctx, func(e *engine.Event) error {
				if asJSON {
					return encoder.Encode(e)
				}
				_, err := fmt.Fprintln(out, eventText(e))
				return err
			})
			if ctx.Err() != nil {
				err = nil
			}
			if err := errors.Join(err, client.Close()); err != nil {
				return fmt.Errorf("following events: %w", err)
			}
			return nil
		},
	}
	dataDirFlag(cmd, &dataDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// eventText is an event for people.
func eventText(e *engine.Event) string {
	var c sync.Change
	if !strings.HasPrefix(e.Subject, "edged.events.connection.") || json.Unmarshal(e.Data, &c) != nil {
		return e.Subject + " " + string(e.Data)
	}
	text := c.Time.Format(time.RFC3339) + "  " + c.Remote + " "
	if c.From == c.To {
		text += "is " + string(c.To)
	} else {
		text += string(c.From) + " -> " + string(c.To)
	}
	if c.Error != "" {
		text += ": " + oneLine(c.Error)
	}
	return text
}
