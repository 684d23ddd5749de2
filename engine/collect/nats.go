package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// natsInFlight bounds the batches that wait to become durable.
const natsInFlight = 32

func natsSpec() config.Spec {
	args := []config.Arg{
		{Name: "subject", Type: config.String, Required: true, Doc: "The subject to subscribe to; it may have the wildcards * and >. On the edge's own server it must begin with a word of your own."},
		{Name: "urls", Type: config.StringList, Doc: "The NATS servers, like \"nats://broker:4222\". Without it the edge's own embedded server is used."},
		{Name: "credentials", Type: config.String, Doc: "With urls: a credentials file. A relative path is relative to the pipeline file's folder."},
		{Name: "queue_group", Type: config.String, Doc: "Share the messages with the other subscribers of that group: each message goes to one of them."},
		{Name: "wait", Type: config.Duration, Default: `"5s"`, Min: "10ms", Max: "5m", Doc: "How long a request waits for room in the store before it is answered with an error."},
		{Name: "max_pending", Type: config.Int, Default: "65536", Min: "1", Max: "65536", Doc: "The most messages that wait here while the store is busy. Those that come when so many wait are dropped; how many is kept as a dead letter."},
		{Name: "max_pending_bytes", Type: config.Size, Default: `"64MiB"`, Min: "1KiB", Max: "4GiB", Doc: "The same bound in bytes."},
	}
	return config.Spec{
		Name:    "nats",
		Summary: "Takes records from a NATS subject and replies when they are durable.",
		Doc: `Each message holds one JSON input. A message with a reply subject (a request) is answered
{"ok": true, "id": "…"} only when its record is on the disk, else {"error": "…"}; a sender that got an
error or no answer sends again. A message without a reply subject is taken at most once, as is usual
with NATS: what is waiting here when the process is killed is lost. Messages that arrive together are
stored together, and none waits for others. When the edge stops, the subscription ends first and the
messages already here are stored.

A server that cannot be reached is tried again for ever.

` + mappingDoc + rejectDoc + ` A request is told the reason as well, with the id of the dead letter.`,
		Args: append(args, mappingArgs(expr.Input, "a new UUID")...),
		Example: `collect "nats" "machines" {
  subject   = "machines.*.readings"
  data_type = "machine"
}`,
		Check: checkNATS,
	}
}

func checkNATS(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if s := a.String("subject"); !validSubject(s) {
		diags = append(diags, a.Error("subject", "Invalid subject", fmt.Sprintf("%q is not a NATS subject: words without spaces, separated by dots, where a word may be * and the last may be >.", s)))
	}
	if s := a.String("subject"); validSubject(s) && !a.Given("urls") && takesOwn(s) {
		diags = append(diags, a.Error("subject", "Subject of edged itself", fmt.Sprintf("On the edge's own server %q takes what edged itself publishes there, so that a record would be collected again for ever. Begin the subject with a word of your own, and neither with edged, $ or _INBOX nor with a wildcard.", s)))
	}
	if q := a.String("queue_group"); a.Given("queue_group") && (q == "" || strings.ContainsAny(q, " \t\r\n")) {
		diags = append(diags, a.Error("queue_group", "Invalid queue group", fmt.Sprintf("%q is not the name of a queue group: it is not empty and has no spaces.", q)))
	}
	if a.Given("urls") && len(a.Strings("urls")) == 0 {
		diags = append(diags, a.Error("urls", "No server", "The list urls is empty. Name a server, or remove the argument to use the edge's own."))
	}
	if a.Given("credentials") && !a.Given("urls") {
		diags = append(diags, a.Error("credentials", "Argument without use", "The argument credentials is for a server named by urls; the edge's own needs none. Set urls or remove credentials."))
	}
	return diags
}

// validSubject reports whether s may be subscribed to.
func validSubject(s string) bool {
	words := strings.Split(s, ".")
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n\x00") {
			return false
		}
		if strings.ContainsAny(w, "*>") && (len(w) > 1 || w == ">" && i < len(words)-1) {
			return false
		}
	}
	return true
}

// takesOwn reports whether s, on the edge's own server, takes the messages that
// edged and NATS exchange there.
func takesOwn(s string) bool {
	first, rest, _ := strings.Cut(s, ".")
	switch first {
	case "edged", "_INBOX", ">":
		return true
	case "*":
		return rest != ""
	}
	return strings.HasPrefix(first, "$")
}

// natsSource takes records from a subject.
type natsSource struct {
	opts                 Options
	args                 config.Args
	subject, queue       string
	wait                 time.Duration
	maxPending, maxBytes int
}

var _ Source = (*natsSource)(nil)

func openNATS(opts Options, args config.Args) (Source, error) {
	if opts.UntilEnd {
		return nil, endless(opts, args)
	}
	if !args.Has("urls") && opts.Connect == nil {
		return nil, fmt.Errorf("opening the source %q: there is no embedded server here; set urls at %s", opts.Name, args.Range)
	}
	s := &natsSource{
		opts: opts.withDefaults(), args: args,
		subject: args.String("subject"), queue: args.String("queue_group"),
		wait: args.Duration("wait"), maxPending: int(args.Int("max_pending")), maxBytes: int(args.Size("max_pending_bytes")),
	}
	if args.Has("credentials") {
		if _, err := os.Stat(s.credentials()); err != nil {
			return nil, fmt.Errorf("opening the source %q: the file of credentials at %s: %w", opts.Name, args.ArgRange("credentials"), err)
		}
	}
	return s, nil
}

func (s *natsSource) credentials() string { return s.opts.resolve(s.args.String("credentials")) }

func (s *natsSource) connect() (*nats.Conn, error) {
	log := s.opts.Logger
	report := func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if !errors.Is(err, nats.ErrSlowConsumer) { // that one leaves a dead letter
			log.Error("the NATS server reports an error", "error", err)
		}
	}
	if !s.args.Has("urls") {
		nc, err := s.opts.Connect()
		if err == nil {
			nc.SetErrorHandler(report)
		}
		return nc, err
	}
	options := []nats.Option{
		nats.Name("edged " + s.opts.DeviceID + " " + s.opts.Pipeline + " " + s.opts.stage()),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the connection to the NATS server is lost; it is tried again", "error", err)
			}
		}),
		nats.ConnectHandler(func(c *nats.Conn) { log.Info("connected", "server", c.ConnectedUrlRedacted()) }),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connected again", "server", c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(report),
	}
	if s.args.Has("credentials") {
		options = append(options, nats.UserCredentials(s.credentials()))
	}
	return nats.Connect(strings.Join(s.args.Strings("urls"), ","), options...)
}

// Run takes messages until ctx ends, then stores those already here; see
// [Source]. It has no position.
func (s *natsSource) Run(ctx context.Context, _ json.RawMessage, sink Sink) error {
	nc, err := s.connect()
	if err != nil {
		return fmt.Errorf("connecting the source %q: %w", s.opts.Name, err)
	}
	defer nc.Close()
	sub, err := s.subscribe(nc)
	if err != nil {
		return fmt.Errorf("subscribing the source %q to %s: %w", s.opts.Name, s.subject, err)
	}
	hard, stopHard := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHard()
	open, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &natsRun{
		flight: map[*natsFlight]bool{},
		src:    s, sub: sub, nc: nc, sink: sink, ctx: hard, stop: stop,
		slots: make(chan struct{}, natsInFlight), done: make(chan natsDone, natsInFlight), over: make(chan struct{}),
	}
	replied := make(chan struct{})
	go func() { defer close(replied); r.reply() }()

	err = r.take(open)
	timer := time.AfterFunc(stopGrace, stopHard)
	if err == nil {
		r.drain()
	}
	r.finish()
	timer.Stop()
	<-replied
	if nc.IsConnected() {
		if flushErr := nc.FlushTimeout(stopGrace); flushErr != nil {
			s.opts.Logger.Warn("some requests may not have got their answer", "error", flushErr)
		}
	}
	if refused := (errRefused{}); err == nil && errors.As(context.Cause(open), &refused) && ctx.Err() == nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("taking messages of the source %q: %w", s.opts.Name, err)
	}
	return nil
}

func (s *natsSource) subscribe(nc *nats.Conn) (*nats.Subscription, error) {
	var sub *nats.Subscription
	var err error
	if s.queue != "" {
		sub, err = nc.QueueSubscribeSync(s.subject, s.queue)
	} else {
		sub, err = nc.SubscribeSync(s.subject)
	}
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(s.maxPending, s.maxBytes); err != nil {
		return nil, err
	}
	s.opts.Logger.Info("subscribed", "subject", s.subject)
	return sub, nil
}

// rejectDropped makes the durable trace of messages that did not fit (I7).
func (s *natsSource) rejectDropped(n int) natsItem {
	now := s.opts.Host.Now()
	err := fmt.Errorf("%d messages were dropped: max_pending or max_pending_bytes was reached because the store was slower than the senders", n)
	d := s.opts.reject(nil, uniqueID(now), err, map[string]string{"subject": s.subject, "dropped": strconv.Itoa(n)})
	return natsItem{rejected: &d}
}
