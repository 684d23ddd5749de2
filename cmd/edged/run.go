package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
)

// How long the last steps of a run may take before they are cut off.
const (
	summaryTimeout = 30 * time.Second
	closeTimeout   = 30 * time.Second
)

// runOptions are the flags of `edged run`.
type runOptions struct {
	untilDrained bool
	dataDir      string
	asJSON       bool
	noProgress   bool
	log          logFlags
}

func newRunCommand() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run FILE|DIR...",
		Short: "Run pipelines: collect, transform, alert, store, sync",
		Long: `Run the pipelines of the given files. A folder stands for the *.hcl files in
it; all files together are one configuration.

Without --until-drained it runs until it is told to stop. The first Ctrl-C (or
SIGTERM) stops in stages: sources take no more, what is in flight is stored and
acknowledged, then the process ends with exit code 0. A second one ends it at
once with 130; nothing that was acknowledged is lost by that, nor by kill -9 or
a power cut. The next run on the same data directory goes on from there.

A SIGHUP has it load the files and the modules anew: see 'edged help reload'.

With --until-drained it ends by itself when every source has ended and
everything is synced. A source that never ends is refused.

Progress and logs go to standard error: on a terminal as a block that is
redrawn, otherwise as a line every few seconds, later every minute, and when a
link changes. (With --log-format json there are only logs.) The summary goes to
standard output, with --json as exactly one JSON object.`,
		Example: `  # Run one file until it is drained; run it again and see that nothing is sent twice
  edged run pipelines/quickstart.hcl --until-drained

  # Run every file of a folder as a service
  edged run /etc/edged --data-dir /var/lib/edged --log-format json

  # Use the result in a script
  edged run pipelines/quickstart.hcl --until-drained --json | jq .synced_records`,
		Args:              needPaths,
		ValidArgsFunction: completePaths,
		RunE:              func(cmd *cobra.Command, paths []string) error { return opts.run(cmd, paths) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.untilDrained, "until-drained", false, "end when every source has ended and everything is synced")
	flags.BoolVar(&opts.asJSON, "json", false, "print the summary as one JSON object")
	flags.BoolVar(&opts.noProgress, "no-progress", false, "show no progress, only logs")
	dataDirFlag(cmd, &opts.dataDir)
	opts.log.register(cmd)
	return cmd
}

func (o *runOptions) run(cmd *cobra.Command, paths []string) error {
	screen := newScreen(cmd.ErrOrStderr())
	screen.live = screen.live && !o.noProgress
	logger, err := o.log.logger(screen, screen.live)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(cmd.ErrOrStderr(), paths)
	if err != nil {
		return err
	}

	ctx, release := untilSignal(cmd.Context(), func(name string) {
		fmt.Fprintf(screen, "stopping (%s): storing what is in flight; press Ctrl-C again to stop at once\n", name)
	})
	defer release()

	edge, err := openEdge(ctx, cmd.ErrOrStderr(), cfg, engine.Options{
		DataDir:      o.dataDir,
		UntilDrained: o.untilDrained,
		Logger:       logger,
		Load:         func() (*config.Config, hcl.Diagnostics) { return load(paths) },
	})
	if err != nil {
		return err
	}
	hide := o.showProgress(edge, screen)
	endReloads := onReloadSignal(func() { o.reload(ctx, edge, screen) })
	err = edge.Run(ctx)
	endReloads()
	interrupted := ctx.Err() != nil
	hide()
	var summary engine.Summary
	if err == nil {
		summary = summarize(edge)
	}
	if err := errors.Join(err, closeEdge(edge)); err != nil {
		return err
	}
	return o.report(cmd, summary, interrupted)
}

// reload loads the configuration anew, as a signal has asked. The log has what
// became of it; what is wrong with the files is shown as at the start.
func (o *runOptions) reload(ctx context.Context, edge *engine.Engine, out io.Writer) {
	_, err := edge.Reload(ctx)
	var refused *engine.ConfigError
	if !errors.As(err, &refused) || o.log.format == "json" {
		return
	}
	if err := config.WriteDiagnostics(out, refused.Diagnostics, refused.Files, false, 80); err != nil {
		fmt.Fprintln(out, refused)
	}
}

// summarize sums the run up, which may ask the hubs: so it comes before Close.
// It does not end with the run's context: after Ctrl-C there is a summary too.
func summarize(edge *engine.Engine) engine.Summary {
	ctx, cancel := context.WithTimeout(context.Background(), summaryTimeout)
	defer cancel()
	return edge.Summary(ctx)
}

// showProgress starts to show how the run goes on; the returned function ends
// that and waits for it.
func (o *runOptions) showProgress(edge *engine.Engine, screen *screen) (hide func()) {
	if o.noProgress || (o.log.format == "json" && !screen.live) {
		return func() {}
	}
	p := &progress{screen: screen, status: edge.Status}
	ticker := time.NewTicker(redrawEvery)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		p.run(ticker.C, stop)
	}()
	return func() {
		ticker.Stop()
		close(stop)
		<-stopped
	}
}

// report prints the summary and turns it into an exit code.
func (o *runOptions) report(cmd *cobra.Command, summary engine.Summary, interrupted bool) error {
	out := cmd.OutOrStdout()
	var err error
	if o.asJSON {
		err = json.NewEncoder(out).Encode(summary)
	} else {
		_, err = fmt.Fprint(out, summaryText(summary))
	}
	switch {
	case err != nil:
		return fmt.Errorf("printing the summary: %w", err)
	case summary.Audited && summary.Gaps+summary.Duplicates > 0:
		return failure(exitAudit, fmt.Errorf("the audit found %s and %s; 'edged audit' prints the ranges",
			plural(summary.Gaps, "gap"), plural(summary.Duplicates, "duplicate")))
	case o.untilDrained && interrupted:
		return failure(exitRuntime, errors.New("stopped before everything was synced; run the same command again to go on"))
	}
	return nil
}

// openEdge opens an edge. What only the running machine can tell about the
// files (a plugin that does not load, say) is printed as 'edged validate'
// prints what it finds.
func openEdge(ctx context.Context, stderr io.Writer, cfg *config.Config, opts engine.Options) (*engine.Engine, error) {
	opts.Version = readVersions().Version
	edge, err := engine.Open(ctx, cfg, opts)
	var diags hcl.Diagnostics
	if errors.As(err, &diags) {
		return nil, refuse(stderr, cfg, diags)
	}
	return edge, err
}

// closeEdge stops what Open started.
func closeEdge(edge *engine.Engine) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return edge.Close(ctx)
}

// dataDirFlag declares --data-dir, which overrides the files' data_dir.
func dataDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data-dir", "", "where the edge keeps its data (default: data_dir of the files)")
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err)
	}
}
