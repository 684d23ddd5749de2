package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/store"
)

func newDLQCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "dlq",
		Short: "See, send again or drop the dead letters",
		Long: `See, send again or drop the dead letters: input that could not go on, kept with
the reason and its bytes, so that it does not block what stands behind it. A
source buries what it cannot read, a transform what its plugin refuses, and an
HTTP remote what it will not take.

All commands ask the edge that runs on the data directory; when none runs they
open it themselves.`,
		Example: `  # What went wrong, and why?
  edged dlq ls /etc/edged --since 24h
  edged dlq show 4f1c22 /etc/edged

  # The plugin is mended: send again what it refused
  edged dlq retry --stage transform.dew_point --data-dir /var/lib/edged`,
	}, newDLQListCommand(), newDLQShowCommand(), newDLQExportCommand(), newDLQRetryCommand(), newDLQDropCommand())
}

// selectionFlags choose dead letters.
type selectionFlags struct {
	sel   queue.Selection
	since sinceFlag
}

func (f *selectionFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sel.Pipeline, "pipeline", "", "only those of this pipeline")
	cmd.Flags().StringVar(&f.sel.Stage, "stage", "", "only those of this stage: transform.dew_point, or transform for all of that kind")
	cmd.Flags().Var(&f.since, "since", "only those buried since: 90m ago, or a time like 2026-11-22T06:15:00Z")
	cmd.Flags().StringVar(&f.sel.Contains, "contains", "", "only those with this text in the error, the details or the bytes")
	complete(cmd, "stage", "collect", "transform", "sync", "store")
	complete(cmd, "pipeline")
}

// selection is what the flags say.
func (f *selectionFlags) selection() queue.Selection {
	sel := f.sel
	sel.Since = f.since.Time
	return sel
}

// filtered reports whether any flag was given.
func (f *selectionFlags) filtered() bool {
	return f.sel.Pipeline+f.sel.Stage+f.sel.Contains != "" || !f.since.IsZero()
}

// shortID is how much of an ID a list shows.
const shortID = 12

// buriedJSON is a dead letter in a list: without its bytes.
type buriedJSON struct {
	ID       string            `json:"id"`
	Number   uint64            `json:"number"`
	Time     time.Time         `json:"time"`
	Pipeline string            `json:"pipeline"`
	Stage    string            `json:"stage"`
	Error    string            `json:"error"`
	Detail   map[string]string `json:"detail,omitempty"`
	RawBytes int               `json:"raw_bytes"`
}

func listed(b *queue.Buried) buriedJSON {
	return buriedJSON{b.ID, b.Number, b.Time, b.Pipeline, b.Stage, b.Error, b.Detail, len(b.Raw)}
}

func newDLQListCommand() *cobra.Command {
	var at place
	var which selectionFlags
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [FILE|DIR...]",
		Short: "List the dead letters",
		Long: `List the dead letters with their reason, newest last. Of many only the newest
--limit are shown. --json prints one JSON object a line, without the bytes;
'edged dlq export' has them.`,
		Example: `  edged dlq ls pipelines/quickstart.hcl
  edged dlq ls --data-dir /var/lib/edged --stage transform --since 2h --contains "too hot"

  # How many of each error?
  edged dlq ls /etc/edged --limit 0 --json | jq -r .error | sort | uniq -c`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if limit < 0 {
				return usage("--limit is %d; it is 0 for all, or how many", limit)
			}
			return at.within(cmd, paths, func(ctx context.Context, k keeper) error {
				newest, all, err := newestDeadLetters(ctx, k, which.selection(), tellRead(cmd), limit)
				if err != nil {
					return fmt.Errorf("listing the dead letters: %w", err)
				}
				if !asJSON {
					_, err = io.WriteString(cmd.OutOrStdout(), deadLettersText(newest, all))
					return err
				}
				write := writeNDJSON(cmd.OutOrStdout())
				for i := range newest {
					if err := write(newest[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "show only the newest so many; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	which.register(cmd)
	at.register(cmd)
	return cmd
}

// newestDeadLetters returns the newest that are selected, oldest first, and how
// many are selected in all.
func newestDeadLetters(ctx context.Context, k keeper, sel queue.Selection, progress store.Progress, limit int) (newest []buriedJSON, all int, err error) {
	err = k.DeadLetters(ctx, sel, progress, func(b *queue.Buried) error {
		if limit > 0 && all >= limit {
			newest[all%limit] = listed(b)
		} else {
			newest = append(newest, listed(b))
		}
		all++
		return nil
	})
	if limit > 0 && all > limit {
		newest = append(newest[all%limit:len(newest):len(newest)], newest[:all%limit]...)
	}
	return newest, all, err
}

func deadLettersText(newest []buriedJSON, all int) string {
	if all == 0 {
		return "No dead letters.\n"
	}
	const errorWidth = 100
	t := table{head: []string{"ID", "TIME", "PIPELINE", "STAGE", "ERROR"}}
	for i := range newest {
		b := &newest[i]
		t.add(b.ID[:min(shortID, len(b.ID))], b.Time.UTC().Format("2006-01-02 15:04:05Z"), b.Pipeline, b.Stage, shorten(printable(oneLine(b.Error)), errorWidth))
	}
	text := t.String() + "\n" + plural(uint64(all), "dead letter")
	if len(newest) < all {
		text += fmt.Sprintf(", the newest %s shown", number(uint64(len(newest))))
	}
	return text + "; 'edged dlq show ID' shows one whole.\n"
}

func shorten(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

func newDLQShowCommand() *cobra.Command {
	var at place
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:   "show ID [FILE|DIR...]",
		Short: "Show one dead letter whole",
		Long: `Show a dead letter whole: the reason, the details, and the input byte for byte,
as text or, when it is none, in base64. The beginning of an ID is enough when no
other begins like that. The same input may have been buried several times.`,
		Example: `  edged dlq show 4f1c22d09ab1 /etc/edged

  # The input alone, as it came in
  edged dlq show 4f1c22d09ab1 --data-dir /var/lib/edged --raw > input.bin`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("dlq show needs the ID of a dead letter: 'edged dlq ls' lists them")
			}
			return nil
		},
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			return at.within(cmd, args[1:], func(ctx context.Context, k keeper) error {
				write := writeNDJSON(cmd.OutOrStdout())
				first := true
				err := k.DeadLetters(ctx, queue.Selection{IDs: args[:1]}, tellRead(cmd), func(b *queue.Buried) error {
					var err error
					switch {
					case asJSON:
						return write(b)
					case raw && first: // they are the same
						_, err = cmd.OutOrStdout().Write(b.Raw)
					case !raw && first:
						_, err = io.WriteString(cmd.OutOrStdout(), deadLetterText(b))
					case !raw:
						_, err = io.WriteString(cmd.OutOrStdout(), "\n"+deadLetterText(b))
					}
					first = false
					return err
				})
				if err != nil {
					return fmt.Errorf("showing a dead letter: %w", err)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line, the bytes in base64")
	cmd.Flags().BoolVar(&raw, "raw", false, "print nothing but the bytes")
	cmd.MarkFlagsMutuallyExclusive("json", "raw")
	at.register(cmd)
	return cmd
}

// deadLetterText is a dead letter for people. Foreign bytes must not steer their
// terminal.
func deadLetterText(b *queue.Buried) string {
	t := table{}
	for _, row := range [][2]string{
		{"id", b.ID},
		{"time", b.Time.UTC().Format(time.RFC3339Nano)},
		{"pipeline", b.Pipeline},
		{"stage", b.Stage},
		{"number", fmt.Sprint(b.Number)},
		{"error", printable(b.Error)},
	} {
		t.add(row[0], row[1])
	}
	for _, name := range slices.Sorted(maps.Keys(b.Detail)) {
		t.add("  "+name, printable(b.Detail[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(b.Headers)) {
		t.add("  header "+printable(name), printable(oneLine(strings.Join(b.Headers[name], ", "))))
	}
	text, how := string(b.Raw), ""
	if !isText(b.Raw) {
		text, how = base64.StdEncoding.EncodeToString(b.Raw), ", in base64"
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return fmt.Sprintf("%s\n%s%s:\n%s", t.String(), plural(uint64(len(b.Raw)), "byte"), how, text)
}

func isText(data []byte) bool {
	return utf8.Valid(data) && !strings.ContainsFunc(string(data), unprintable)
}

func unprintable(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }

// printable replaces what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

func newDLQExportCommand() *cobra.Command {
	var at place
	var which selectionFlags
	var output string
	cmd := &cobra.Command{
		Use:   "export [FILE|DIR...]",
		Short: "Write the dead letters out with their bytes",
		Long: `Write the dead letters as NDJSON: one JSON object a line with everything that
'edged dlq show' has, oldest first. "raw" is the input in base64. However many
there are, little memory is used. They stay where they are: 'edged dlq drop'
removes them.`,
		Example: `  edged dlq export /etc/edged -o dead-letters.ndjson

  # The lines of a file that could not be read, as they were
  edged dlq export --data-dir /var/lib/edged --stage collect.motes | jq -rj '.raw | @base64d + "\n"'`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			n := uint64(0)
			err := at.within(cmd, paths, func(ctx context.Context, k keeper) error {
				return toFile(cmd, output, func(w io.Writer) error {
					buffered := bufio.NewWriter(w)
					write := writeNDJSON(buffered)
					err := k.DeadLetters(ctx, which.selection(), tellRead(cmd), func(b *queue.Buried) error { n++; return write(b) })
					return errors.Join(err, buffered.Flush())
				})
			})
			if err != nil {
				return fmt.Errorf("exporting the dead letters: %w", err)
			}
			if output != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", plural(n, "dead letter"), output)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this file (default: standard output)")
	which.register(cmd)
	at.register(cmd)
	return cmd
}
