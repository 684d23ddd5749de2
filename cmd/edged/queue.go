package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
  edged queue ls --data-dir /var/lib/edged --priority high --topic alerts --limit 20`,
	}, newQueueListCommand(), newQueueStatsCommand())
}

func newQueueListCommand() *cobra.Command {
	var at place
	var filter queue.MessageFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [FILE|DIR...]",
		Short: "List the messages that wait",
		Long: `List the messages that wait, in the order they will be sent: most urgent first,
and the oldest first among those. --json prints one JSON object a line, with the
message's body. Messages that an HTTP API has put off are not among them.`,
		Example: `  edged queue ls /etc/edged
  edged queue ls --data-dir /var/lib/edged --priority high --topic alerts --limit 20

  # What do the critical ones say?
  edged queue ls /etc/edged --priority critical --json | jq .body`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if filter.Priority != "" {
				if _, err := record.ParsePriority(filter.Priority); err != nil {
					return usage("--priority: %w", err)
				}
			}
			if filter.Limit < 0 {
				return usage("--limit is %d; it is 0 for all, or how many", filter.Limit)
			}
			return at.within(cmd, paths, func(ctx context.Context, k keeper) error {
				buffered := bufio.NewWriter(cmd.OutOrStdout())
				write := writeNDJSON(buffered)
				t := table{head: []string{"PRIORITY", "TOPIC", "WAITS FOR", "PIPELINE", "BYTES", "ID"}}
				now := time.Now()
				err := k.Messages(ctx, filter, func(m *queue.Waiting) error {
					if asJSON {
						return write(m)
					}
					t.add(m.Priority.String(), m.Topic, age(now, m.Created), m.Pipeline, number(uint64(m.Bytes)), m.ID)
					return nil
				})
				if err != nil {
					return fmt.Errorf("listing the queue: %w", err)
				}
				if !asJSON {
					text := "No messages wait.\n"
					if len(t.rows) > 0 {
						text = t.String()
					}
					_, err = buffered.WriteString(text)
				}
				return errors.Join(err, buffered.Flush())
			})
		},
	}
	cmd.Flags().StringVar(&filter.Priority, "priority", "", "only critical, high, normal or low")
	cmd.Flags().StringVar(&filter.Topic, "topic", "", "only those of this topic")
	cmd.Flags().IntVar(&filter.Limit, "limit", 100, "show at most so many; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line, with the body")
	complete(cmd, "priority", "critical", "high", "normal", "low")
	complete(cmd, "topic")
	at.register(cmd)
	return cmd
}

func newQueueStatsCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats [FILE|DIR...]",
		Short: "Count the messages that wait",
		Long: `Count the messages that wait, by priority and topic, with the age of the oldest:
how late an alarm is.`,
		Example: `  edged queue stats /etc/edged

  # For how long has the oldest waited?
  edged queue stats --data-dir /var/lib/edged --json | jq -r .oldest`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return at.within(cmd, paths, func(ctx context.Context, k keeper) error {
				stats, err := k.QueueStats(ctx)
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
	at.register(cmd)
	return cmd
}

func queueText(stats queue.Stats, now time.Time) string {
	if stats.Waiting == 0 {
		return "No messages wait.\n"
	}
	t := table{head: []string{"PRIORITY", "TOPIC", "WAITING", "BYTES", "OLDEST"}}
	for _, s := range stats.Topics {
		t.add(s.Priority.String(), s.Topic, number(s.Waiting), number(s.Bytes), ago(now, s.Oldest))
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
