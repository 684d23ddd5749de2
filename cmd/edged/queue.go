package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
)

func newQueueCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "queue",
		Short: "See which alert messages wait for the link",
		Long: `See which messages wait for the link: those that alert rules have raised and
that not every remote has taken yet. They go before the records, most urgent
first. Looking takes nothing away.

The edge that runs on the data directory is asked; when none runs, the directory
is opened, and what was sent in the edge's last two seconds before a kill may
still show.`,
		Example: `  edged queue stats /etc/edged
  edged queue ls --data-dir /var/lib/edged --priority high --topic alerts --limit 20

  # What goes next, and why has it not gone yet?
  edged queue peek /etc/edged`,
	}, newQueueListCommand(), newQueuePeekCommand(), newQueueStatsCommand())
}

// messageFlags choose messages.
type messageFlags struct {
	filter queue.MessageFilter
	place
}

func (f *messageFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.filter.Priority, "priority", "", "only critical, high, normal or low")
	cmd.Flags().StringVar(&f.filter.Topic, "topic", "", "only those of this topic")
	complete(cmd, "priority", "critical", "high", "normal", "low")
	complete(cmd, "topic")
	f.place.register(cmd)
}

func (f *messageFlags) check() error {
	if f.filter.Priority != "" {
		if _, err := record.ParsePriority(f.filter.Priority); err != nil {
			return usage("--priority: %w", err)
		}
	}
	if f.filter.Limit < 0 {
		return usage("--limit is %d; it is 0 for all, or how many", f.filter.Limit)
	}
	return nil
}

func newQueueListCommand() *cobra.Command {
	var f messageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [FILE|DIR...]",
		Short: "List the messages that wait",
		Long: `List the messages that wait, in the order they will be sent: most urgent first,
and the oldest first among those. A message that an HTTP API has refused for now
is tried again by itself, while those behind it go on; any other goes in its
turn, and its tries are those of the batch it goes in. The tries of batches are
known while the edge runs. --json prints one JSON object a line, with the body
of the message and one delivery for each remote that has yet to take it.`,
		Example: `  edged queue ls /etc/edged
  edged queue ls --data-dir /var/lib/edged --priority high --topic alerts --limit 20

  # What do the critical ones say?
  edged queue ls /etc/edged --priority critical --json | jq .body

  # Which have been tried more than twice in vain?
  edged queue ls /etc/edged --limit 0 --json | jq 'select(any(.deliveries[]?; .attempts > 2)) | .id'`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				buffered := bufio.NewWriter(cmd.OutOrStdout())
				write := writeNDJSON(buffered)
				t := table{head: []string{"PRIORITY", "TOPIC", "WAITS FOR", "PIPELINE", "BYTES", "TRIES", "NEXT TRY", "ID", "LAST ERROR"}}
				now := time.Now()
				err := k.Messages(ctx, f.filter, func(m *queue.Waiting) error {
					if asJSON {
						return write(m)
					}
					tries, next, why := deliveryColumns(m, now)
					t.add(m.Priority.String(), m.Topic, age(now, m.Created), m.Pipeline, number(uint64(m.Bytes)), tries, next, m.ID, why)
					return nil
				})
				if err != nil {
					return fmt.Errorf("listing the queue: %w", err)
				}
				if !asJSON {
					text := noMessages
					if len(t.rows) > 0 {
						text = t.String()
					}
					_, err = buffered.WriteString(text)
				}
				return errors.Join(err, buffered.Flush())
			})
		},
	}
	cmd.Flags().IntVar(&f.filter.Limit, "limit", 100, "show at most so many; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line, with the body")
	f.register(cmd)
	return cmd
}

const noMessages = "No messages wait.\n"

// deliveryColumns tells of the delivery that was tried most.
func deliveryColumns(m *queue.Waiting, now time.Time) (tries, next, why string) {
	const errorWidth = 80
	var most queue.Delivery
	for _, d := range m.Deliveries {
		if most.Remote == "" || d.Attempts > most.Attempts {
			most = d
		}
	}
	tries = triesText(&most)
	if expired(m, now) {
		return tries, "expired", ""
	}
	if !most.NextTry.IsZero() {
		next = until(now, most.NextTry)
	}
	return tries, next, shorten(printable(oneLine(most.LastError)), errorWidth)
}

func triesText(d *queue.Delivery) string {
	if d.MaxAttempts > 0 {
		return fmt.Sprintf("%d of %d", d.Attempts, d.MaxAttempts)
	}
	return number(uint64(d.Attempts))
}

func expired(m *queue.Waiting, now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// until says when something is due.
func until(now, at time.Time) string {
	if !at.After(now) {
		return "now"
	}
	return "in " + age(at, now)
}

func newQueuePeekCommand() *cobra.Command {
	var f messageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "peek [ID...] [FILE|DIR...]",
		Short: "Show the next messages whole",
		Long: `Show the message that goes next, or the next --limit, whole: its body, when it
expires, and for each remote that has yet to take it how often it was tried in
vain, when it is tried next, and what went wrong last. With IDs, or the
beginnings of IDs, show those. It only looks: nothing is taken.

An argument of four or more hexadecimal digits is an ID, any other a pipeline
file or folder: write ./cafe for a folder of that name.`,
		Example: `  edged queue peek /etc/edged
  edged queue peek --data-dir /var/lib/edged --topic alerts --limit 5
  edged queue peek 1ff3b50e69eb /etc/edged --json | jq .deliveries`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			filter := f.filter
			var paths []string
			if filter.IDs, paths = split(args); len(filter.IDs) > 0 && !cmd.Flags().Changed("limit") {
				filter.Limit = 0
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				write := writeNDJSON(cmd.OutOrStdout())
				now, shown := time.Now(), 0
				err := k.Messages(ctx, filter, func(m *queue.Waiting) error {
					shown++
					if asJSON {
						return write(m)
					}
					text := messageText(m, now)
					if shown > 1 {
						text = "\n" + text
					}
					_, err := io.WriteString(cmd.OutOrStdout(), text)
					return err
				})
				switch {
				case err != nil:
					return fmt.Errorf("showing messages: %w", err)
				case shown == 0 && len(filter.IDs) > 0:
					return fmt.Errorf("no message with the ID %s waits: it may have been sent; 'edged queue ls' lists those that wait", strings.Join(filter.IDs, " or "))
				case shown == 0 && !asJSON:
					_, err = io.WriteString(cmd.OutOrStdout(), noMessages)
				}
				return err
			})
		},
	}
	cmd.Flags().IntVar(&f.filter.Limit, "limit", 1, "show at most so many; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	f.register(cmd)
	return cmd
}

// messageText is a message for people.
func messageText(m *queue.Waiting, now time.Time) string {
	t := table{}
	t.add("id", m.ID)
	t.add("priority", m.Priority.String())
	t.add("topic", printable(m.Topic))
	t.add("pipeline", m.Pipeline)
	t.add("number", fmt.Sprint(m.Number))
	t.add("created", m.Created.UTC().Format(time.RFC3339Nano)+", "+ago(now, m.Created))
	switch {
	case expired(m, now):
		t.add("expired", m.Expires.UTC().Format(time.RFC3339Nano)+", "+ago(now, m.Expires))
	case !m.Expires.IsZero():
		t.add("expires", m.Expires.UTC().Format(time.RFC3339Nano)+", "+until(now, m.Expires))
	}
	for i := range m.Deliveries {
		d := &m.Deliveries[i]
		text := "waits for its turn"
		switch {
		case d.Aside:
			text = "refused for now, tried again by itself " + until(now, d.NextTry)
		case !d.NextTry.IsZero():
			text = "tried again " + until(now, d.NextTry)
		}
		t.add("remote "+d.Remote, text)
		t.add("  tries in vain", triesText(d))
		if d.LastError != "" {
			t.add("  last error", printable(oneLine(d.LastError)))
		}
	}
	return t.String() + "\n" + bodyText(m.Body) + "\n"
}

// bodyText is a message's body as indented JSON.
func bodyText(body json.RawMessage) string {
	indented, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return printable(string(body))
	}
	return printable(string(indented))
}

func newQueueStatsCommand() *cobra.Command {
	var f messageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats [FILE|DIR...]",
		Short: "Count the messages that wait",
		Long: `Count the messages that wait, by priority and topic, with how many of them were
tried in vain and the age of the oldest: how late an alarm is.`,
		Example: `  edged queue stats /etc/edged
  edged queue stats /etc/edged --topic alerts

  # For how long has the oldest waited?
  edged queue stats --data-dir /var/lib/edged --json | jq -r .oldest`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return f.within(cmd, paths, func(ctx context.Context, k keeper) error {
				stats, err := k.QueueStats(ctx, f.filter)
				if err != nil {
					return fmt.Errorf("counting the queue: %w", err)
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), stats)
				}
				_, err = io.WriteString(cmd.OutOrStdout(), queueText(stats, time.Now()))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	f.register(cmd)
	return cmd
}

func queueText(stats queue.Stats, now time.Time) string {
	if stats.Waiting == 0 {
		return noMessages
	}
	t := table{head: []string{"PRIORITY", "TOPIC", "WAITING", "BYTES", "TRIED", "OLDEST"}}
	for _, s := range stats.Topics {
		t.add(s.Priority.String(), s.Topic, number(s.Waiting), number(s.Bytes), number(s.Retrying), ago(now, s.Oldest))
	}
	return t.String() + fmt.Sprintf("\n%s for the link (%s), the oldest was raised %s.\n",
		messagesWait(stats.Waiting), bytesize(stats.Bytes), ago(now, stats.Oldest))
}

func messagesWait(n uint64) string {
	if n == 1 {
		return "1 message waits"
	}
	return number(n) + " messages wait"
}
