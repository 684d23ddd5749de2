package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
)

// reloadTimeout bounds a reload: large modules take seconds to compile, and what
// is in flight is stored first.
const reloadTimeout = 5 * time.Minute

func newReloadCommand() *cobra.Command {
	var dataDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload [FILE|DIR...]",
		Short: "Have a running edge load its configuration and modules anew",
		Long: `Have the edge that runs on this machine read the files that it was started with,
and the modules they name, and run what has changed. On other systems than
Windows a SIGHUP to the edge does the same.

No record is lost or repeated: what is new is checked, compiled and opened first.
Then the pipelines that have changed stop as at the end of a run, and go on, as
they are now, where they have stopped. Pipelines that have not changed run on;
broker, store and queue stay open. Keyed records are served all the while: a conflict
is decided by the resolvers from before or by those from after, never by both.

When a file or a module is wrong nothing changes: the errors are printed, the
exit code is 3, 'edged status' says it too, and what ran runs on. What cannot
change while an edge runs (device_id, data_dir, durability, max_bytes, api, embedded
hubs, the first pipeline with keyed records) is refused in the same way.

The edge is found by its data directory: the one of --data-dir, or that of the
given files, or "data".`,
		Example: `  edged reload /etc/edged
  edged reload --data-dir /var/lib/edged --json
  systemctl reload edged    # with ExecReload=kill -HUP $MAINPID`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			// Files with errors must not keep the edge from saying which.
			dir, err := findDataDir(io.Discard, dataDir, paths)
			if err != nil {
				dir, err = findDataDir(cmd.ErrOrStderr(), dataDir, paths)
			}
			if err != nil {
				return err
			}
			client, err := dial(dir)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), reloadTimeout)
			defer cancel()
			done, err := client.Reload(ctx)
			err = errors.Join(err, client.Close())
			var refused *engine.RefusedError
			switch {
			case errors.As(err, &refused):
				if _, err := io.WriteString(cmd.ErrOrStderr(), refused.Printed); err != nil {
					return err
				}
				return failure(exitConfig, fmt.Errorf("the configuration has %s, printed above; what ran runs on", plural(uint64(refused.Errors), "error")))
			case err != nil:
				return fmt.Errorf("loading the configuration anew: %w", err)
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), done)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), reloadedText(done))
			return err
		},
	}
	dataDirFlag(cmd, &dataDir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// reloadedText says for people what a reload has done.
func reloadedText(done engine.Reloaded) string {
	var out strings.Builder
	out.WriteString("the configuration was loaded anew\n")
	for _, part := range []struct {
		what  string
		names []string
	}{{"started", done.Started}, {"stopped", done.Stopped}, {"kept", done.Kept}} {
		if len(part.names) > 0 {
			fmt.Fprintf(&out, "%s: %s\n", part.what, strings.Join(part.names, ", "))
		}
	}
	return out.String()
}
