package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/store"
)

func newStoreCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "store",
		Short: "Check, export and give up what is stored",
		Long: `Check what an edge has stored, or write it out, while the edge does not run:
after a crash, a power cut, or from a device that came back from the field. Give
up what nobody wants any more, whether it runs or not.

Opening a data directory recovers it as 'edged run' would: what was cut off at
the end of a file is left out for good. For evidence, work on a copy.`,
		Example: `  edged store verify --data-dir /var/lib/edged
  edged store export --data-dir /mnt/card/data --pipeline cold_chain -o records.ndjson`,
	}, newStoreVerifyCommand(), newStoreExportCommand(), newStoreReleaseCommand())
}

func newStoreVerifyCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [FILE|DIR...]",
		Short: "Read everything that is stored and check it",
		Long: `Read everything that is stored - records, alert messages, dead letters - and check
it: the checksum of every pack, that the numbers of each pipeline follow one
another without a gap, that every record can be read, and that nothing is
missing of what is known, from a file beside the store, to have been durable.

No edge may run on the data directory. Records that were synced and purged are
not missed. Of the dead letters single ones may have been dropped.

The exit code is 6 when anything is damaged or missing.`,
		Example: `  edged store verify /etc/edged
  edged store verify --data-dir /var/lib/edged --json | jq .damaged

  # Leave the original alone
  cp -a /var/lib/edged /tmp/evidence && edged store verify --data-dir /tmp/evidence`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			var v engine.Verification
			err := at.offline(cmd, paths, func(ctx context.Context, s *engine.Store) (err error) {
				v, err = s.Verify(ctx, tellRead(cmd))
				return err
			})
			if err != nil {
				return fmt.Errorf("verifying the store: %w", err)
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), v)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), verificationText(&v))
			}
			if err == nil && v.Damaged > 0 {
				return failure(exitDamaged, fmt.Errorf("the store is damaged: %s", foundWrong(v.Damaged)))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	at.register(cmd)
	return cmd
}

// logNames are what people call the logs.
var logNames = map[string]string{"EDGED_RECORDS": "records", "EDGED_QUEUE": "queue", "EDGED_DEAD_LETTERS": "dead letters"}

// verificationText is a verification for people.
func verificationText(v *engine.Verification) string {
	t := table{head: []string{"LOG", "LANE", "FIRST", "LAST", "COUNT", "REMOVED", "GAPS", "DAMAGED"}}
	var details strings.Builder
	for i := range v.Logs {
		l := &v.Logs[i]
		name := logNames[l.Stream]
		if len(l.Unreadable) > 0 {
			fmt.Fprintf(&details, "%s: messages of the stream that cannot be read: %s\n", name, ranges(l.Unreadable))
		}
		if l.Unlocated > 0 {
			fmt.Fprintf(&details, "%s: messages of the stream that cannot be read, somewhere: %s\n", name, number(l.Unlocated))
		}
		for j := range l.Lanes {
			lane := &l.Lanes[j]
			t.add(name, lane.Lane, number(lane.First), number(lane.Last), number(lane.Count),
				number(length(lane.Removed)), number(length(lane.Gaps)), number(length(lane.Damaged)))
			laneDetails(&details, name, lane)
		}
	}
	for _, lost := range v.Lost {
		fmt.Fprintf(&details, "%s: was durable and is lost: %s\n", lost.Lane, ranges([][2]uint64{{lost.First, lost.Last}}))
	}
	for i := range v.Quarantine {
		d := &v.Quarantine[i]
		fmt.Fprintf(&details, "set aside: %s, %s at %d of %s: %s; %s, see %s\n", d.Time.Format(time.RFC3339), bytesize(uint64(d.Bytes)), d.Offset, d.File, d.Reason, lostText(d), d.Report)
	}
	text := fmt.Sprintf("store %s\n\n%s\n%s", v.DataDir, &t, &details)
	if v.Damaged == 0 {
		return text + "All is well: everything that is stored can be read, and nothing is missing.\n"
	}
	return text
}

// lostText says what was lost with what is set aside.
func lostText(d *broker.Damage) string {
	if !d.Settled {
		return "what was lost with it is named when the edge runs"
	}
	if len(d.Lost) == 0 {
		return "no records or messages were lost with it"
	}
	var parts []string
	for _, l := range d.Lost {
		parts = append(parts, l.Lane+" "+ranges([][2]uint64{{l.First, l.Last}}))
	}
	return "lost: " + strings.Join(parts, ", ")
}

func laneDetails(out *strings.Builder, log string, lane *store.LaneReport) {
	if len(lane.Gaps) > 0 {
		fmt.Fprintf(out, "%s, %s: missing: %s\n", log, lane.Lane, ranges(lane.Gaps))
	}
	if len(lane.Damaged) > 0 {
		fmt.Fprintf(out, "%s, %s: not what was stored: %s\n", log, lane.Lane, ranges(lane.Damaged))
	}
	if lane.DamagedPacks > 0 {
		fmt.Fprintf(out, "%s, %s: packs with a wrong checksum: %s\n", log, lane.Lane, number(lane.DamagedPacks))
	}
}

// storedJSON is one line of an export.
type storedJSON struct {
	Pipeline string          `json:"pipeline"`
	Number   uint64          `json:"number"`
	Stored   time.Time       `json:"stored"`
	Record   json.RawMessage `json:"record"`
}

func newStoreExportCommand() *cobra.Command {
	var at place
	var pipeline, output string
	var from, to uint64
	cmd := &cobra.Command{
		Use:   "export [FILE|DIR...]",
		Short: "Write the stored records out",
		Long: `Write the stored records as NDJSON, in the order they were stored: one JSON object
a line with the pipeline, the record's number in it, when it was stored, and the
record. Synced records are there until they are purged. However many there are,
little memory is used.

No edge may run on the data directory. What cannot be read is left out:
'edged store verify' says what that is.`,
		Example: `  edged store export --data-dir /mnt/card/data -o records.ndjson
  edged store export /etc/edged --pipeline cold_chain --from 1000 --to 1999

  # Only the records, to hand them to something else
  edged store export --data-dir /mnt/card/data | jq -c .record`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if to == 0 {
				to = math.MaxUint64
			}
			if from > to {
				return usage("--from is %d and --to is %d: there is nothing between", from, to)
			}
			n := uint64(0)
			err := at.offline(cmd, paths, func(ctx context.Context, s *engine.Store) error {
				return toFile(cmd, output, func(w io.Writer) error {
					buffered := bufio.NewWriter(w)
					write := writeNDJSON(buffered)
					err := s.Records(ctx, pipeline, tellRead(cmd), func(f *store.Found) error {
						if f.Number < from || f.Number > to {
							return nil
						}
						if !json.Valid(f.Data) {
							return nil // it would end the export; verify tells of it
						}
						n++
						return write(storedJSON{f.Lane, f.Number, f.Time.UTC(), f.Data})
					})
					return errors.Join(err, buffered.Flush())
				})
			})
			if err != nil {
				return fmt.Errorf("exporting the records: %w", err)
			}
			if output != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s written to %s\n", plural(n, "record"), output)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&pipeline, "pipeline", "", "only the records of this pipeline")
	cmd.Flags().Uint64Var(&from, "from", 1, "only from this number on")
	cmd.Flags().Uint64Var(&to, "to", 0, "only up to this number (default: the last)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this file (default: standard output)")
	complete(cmd, "pipeline")
	at.register(cmd)
	return cmd
}

func foundWrong(n uint64) string {
	if n == 1 {
		return "1 thing is missing or wrong"
	}
	return number(n) + " things are missing or wrong"
}
