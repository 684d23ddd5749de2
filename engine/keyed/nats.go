package keyed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
)

// Names at a NATS hub. HubBucket is a key-value bucket with a key
// <store>.<key> for each key of each store, its parts escaped as subject tokens.
// EdgesBucket says who the edges of a store are, and how far each of them is.
const (
	HubBucket   = "EDGED_KEYED"
	EdgesBucket = "EDGED_KEYED_EDGES"

	hubStream    = "KV_" + HubBucket
	hubSubject   = "$KV." + HubBucket + "."
	edgesStream  = "KV_" + EdgesBucket
	edgesSubject = "$KV." + EdgesBucket + "."
	edgeToken    = "edge."
	collectToken = "collected."
)

// hubHistory is how many values of a key the bucket keeps. An edge looks at the
// older ones only when a client without an envelope has overwritten one that
// tells which operations it includes.
const hubHistory = 5

// NATSHub is a store at a NATS hub, in a key-value bucket.
type NATSHub struct {
	nc     *nats.Conn
	domain string
	store  string
	prefix string
}

var _ Hub = (*NATSHub)(nil)

// NewNATSHub returns the store at the hub of a JetStream domain, "" being the
// one that nc is connected to.
func NewNATSHub(nc *nats.Conn, domain, store string) *NATSHub {
	return &NATSHub{nc: nc, domain: domain, store: store, prefix: hubSubject + record.Token(store) + "."}
}

const (
	natsTimeout = 10 * time.Second
	watchGroup  = 500     // versions handed over at once
	watchBytes  = 1 << 20 // likewise, about
	// inheritAtOnce is how many values of a group are looked for at a time.
	inheritAtOnce = 64

	// watchIdle is how long the hub keeps the consumer of an edge that is gone.
	watchIdle      = time.Minute
	unwatchTimeout = time.Second
	// maxConsumers is how many edges can watch one hub: more than a server allows
	// by default.
	maxConsumers = 1 << 20

	codeMessageTooLarge    jetstream.ErrorCode = 10054
	codeWrongLastSequence2 jetstream.ErrorCode = 10164
)

// Provision makes or updates the buckets of keyed records at a hub. replicas is
// how many servers keep them, 0 for one; maxBytes bounds them, 0 does not.
func Provision(ctx context.Context, js jetstream.JetStream, replicas int, maxBytes int64) error {
	if maxBytes <= 0 {
		maxBytes = -1
	}
	for _, cfg := range []jetstream.StreamConfig{
		{Name: hubStream, Subjects: []string{hubSubject + ">"}, MaxMsgsPerSubject: hubHistory, MaxBytes: maxBytes},
		{Name: edgesStream, Subjects: []string{edgesSubject + ">"}, MaxMsgsPerSubject: 1, MaxBytes: -1},
	} {
		// As a key-value bucket is: its clients look at that.
		cfg.Storage, cfg.Discard, cfg.Replicas = jetstream.FileStorage, jetstream.DiscardNew, max(replicas, 1)
		cfg.AllowDirect, cfg.AllowRollup, cfg.DenyDelete = true, true, true
		cfg.MaxMsgs, cfg.MaxConsumers, cfg.MaxMsgSize = -1, maxConsumers, -1
		if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
	}
	return nil
}

// EdgeSubjects are the least that the user of an edge must be allowed to publish
// to at the hub of a JetStream domain, for these stores: it writes those, and its
// own registration. It watches with consumers, which can read other stores too:
// there is no narrower subject for an interest of several patterns.
func EdgeSubjects(device, domain string, stores []string) []string {
	if len(stores) == 0 {
		return nil
	}
	api := broker.APIPrefix(domain)
	subjects := []string{
		api + "STREAM.INFO." + hubStream, api + "STREAM.MSG.GET." + hubStream, api + "STREAM.MSG.GET." + edgesStream,
	}
	for _, call := range []string{"CREATE", "INFO", "DELETE", "MSG.NEXT"} {
		subjects = append(subjects, api+"CONSUMER."+call+"."+hubStream+".>")
	}
	for _, store := range stores {
		h := NewNATSHub(nil, domain, store)
		subjects = append(subjects, h.into(h.prefix+">"), h.into(h.registration(device)))
	}
	return subjects
}

// State implements [Hub].
func (h *NATSHub) State(ctx context.Context, seen Position) (HubState, error) {
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	answer, err := h.nc.RequestWithContext(ctx, broker.APIPrefix(h.domain)+"STREAM.INFO."+hubStream, nil)
	if err != nil {
		return HubState{}, fmt.Errorf("asking for %s: %w", hubStream, err)
	}
	var info struct {
		Created time.Time             `json:"created"`
		TS      time.Time             `json:"ts"`
		State   jetstream.StreamState `json:"state"`
		Error   *jetstream.APIError   `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return HubState{}, fmt.Errorf("asking for %s: reading the answer: %w", hubStream, err)
	}
	if info.Error != nil {
		if info.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
			return HubState{}, fmt.Errorf("the hub has no stream %s; `edged hub` makes it", hubStream)
		}
		return HubState{}, fmt.Errorf("asking for %s: %w", hubStream, info.Error)
	}
	s := HubState{Epoch: info.Created.UTC().Format(time.RFC3339Nano), Last: info.State.LastSeq, Now: info.TS}
	if s.Regressed, err = h.regressed(ctx, s.Last, seen); err != nil {
		return HubState{}, err
	}
	floor, err := broker.LastMessage(ctx, h.nc, h.domain, edgesStream, edgesSubject+collectToken+record.Token(h.store))
	if err != nil {
		return HubState{}, err
	}
	if floor != nil {
		if s.Collected, err = strconv.ParseUint(string(floor.Data), 10, 64); err != nil {
			return HubState{}, fmt.Errorf("reading up to where tombstones were collected: %w", err)
		}
	}
	return s, nil
}

// regressed reports whether the stream has gone back behind what was seen: it
// ends before that, or something at or before that revision is younger.
func (h *NATSHub) regressed(ctx context.Context, last uint64, seen Position) (bool, error) {
	if seen.Revision == 0 || seen.Revision > last {
		return seen.Revision > last, nil
	}
	since := seen.Received.Add(1)
	msg, err := broker.FindMessage(ctx, h.nc, h.domain, hubStream, broker.Query{Next: ">", Since: &since})
	return msg != nil && msg.Seq <= seen.Revision, err
}

// Read implements [Hub]. The stream's leader answers.
func (h *NATSHub) Read(ctx context.Context, key string) (*Remote, error) {
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	subject := h.prefix + keySubject(key)
	msg, err := broker.LastMessage(ctx, h.nc, h.domain, hubStream, subject)
	if err != nil || msg == nil {
		return nil, err
	}
	header, err := parseHeader(msg.Header)
	if err != nil {
		return nil, fmt.Errorf("reading %q at the hub: %w", key, err)
	}
	r := decodeRemote(key, msg.Seq, msg.Time, header, msg.Data)
	return &r, h.inherit(ctx, &r)
}

// Swap implements [Hub].
func (h *NATSHub) Swap(ctx context.Context, key string, v *Value, expect uint64) (uint64, error) {
	data, err := v.Encode()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	msg := &nats.Msg{Subject: h.into(h.prefix + keySubject(key)), Data: data, Header: nats.Header{
		"Nats-Expected-Last-Subject-Sequence": []string{strconv.FormatUint(expect, 10)},
	}}
	answer, err := h.nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrMaxPayload) {
		return 0, fmt.Errorf("%w: with its envelope the value has %d bytes: %w", ErrRefused, len(data), err)
	}
	if err != nil {
		return 0, fmt.Errorf("storing %q at the hub: %w", key, err)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("storing %q at the hub: reading the answer: %w", key, err)
	}
	switch {
	case ack.Error == nil && ack.Seq > 0:
		return ack.Seq, nil
	case ack.Error == nil:
		return 0, fmt.Errorf("storing %q at the hub: the answer has no revision", key)
	case ack.Error.ErrorCode == broker.CodeWrongLastSequence || ack.Error.ErrorCode == codeWrongLastSequence2:
		return 0, ErrMoved
	case ack.Error.ErrorCode == codeMessageTooLarge:
		return 0, fmt.Errorf("%w: with its envelope the value has %d bytes: %w", ErrRefused, len(data), ack.Error)
	}
	return 0, fmt.Errorf("storing %q at the hub: %w", key, ack.Error)
}

// Report implements [Hub].
func (h *NATSHub) Report(ctx context.Context, r Registration) error {
	data, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	return natsPut(ctx, h.nc, h.into(h.registration(r.Device)), data)
}

// registration is where a device reports.
func (h *NATSHub) registration(device string) string {
	return edgesSubject + edgeToken + record.Token(h.store) + "." + record.Token(device)
}

// into is the subject under which a server takes what is for the buckets of a
// domain: leaf nodes between domains do not pass the subjects of buckets on.
func (h *NATSHub) into(subject string) string {
	if h.domain == "" {
		return subject
	}
	return broker.APIPrefix(h.domain) + subject
}

// natsPut publishes to a stream and waits for its answer.
func natsPut(ctx context.Context, nc *nats.Conn, subject string, data []byte) error {
	answer, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return err
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return err
	}
	if ack.Error != nil {
		return ack.Error
	}
	return nil
}

// Watch implements [Hub].
func (h *NATSHub) Watch(ctx context.Context, after uint64, interest Interest, each func([]Remote, bool) error) error {
	js, err := openJetStream(h.nc, h.domain)
	if err != nil {
		return err
	}
	cfg := jetstream.OrderedConsumerConfig{InactiveThreshold: watchIdle, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: h.filters(interest)}
	if after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := js.OrderedConsumer(ctx, hubStream, cfg)
	if err != nil {
		return fmt.Errorf("watching %s: %w", hubStream, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("watching %s: %w", hubStream, err)
	}
	arrived := make(chan jetstream.Msg, watchGroup)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case arrived <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(2*watchGroup))
	if err != nil {
		return fmt.Errorf("watching %s: %w", hubStream, err)
	}
	defer func() {
		consuming.Stop()
		<-consuming.Closed()
		h.unwatch(ctx, js, consumer)
	}()
	w := watcher{hub: h, each: each}
	if info.NumPending == 0 {
		if w.caughtUp, err = true, each(nil, true); err != nil {
			return err
		}
	}
	for {
		select {
		case m := <-arrived:
			if err := w.group(ctx, m, arrived); err != nil {
				return err
			}
		case <-consuming.Closed():
			return fmt.Errorf("watching %s: the subscription has ended", hubStream)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unwatch removes the consumer at the hub, if that can still be told; if not, it
// goes by itself.
func (h *NATSHub) unwatch(ctx context.Context, js jetstream.JetStream, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unwatchTimeout)
	defer cancel()
	_ = js.DeleteConsumer(ctx, hubStream, consumer.CachedInfo().Name)
}

// filters are the subjects of an interest.
func (h *NATSHub) filters(interest Interest) []string {
	if len(interest) == 0 {
		return []string{h.prefix + ">"}
	}
	var filters []string
	for _, pattern := range interest {
		parts := strings.Split(pattern, "/")
		for i, p := range parts {
			if p != "*" && (p != ">" || i != len(parts)-1) {
				parts[i] = record.Token(p)
			}
		}
		filters = append(filters, h.prefix+strings.Join(parts, "."))
	}
	return filters
}

// watcher hands over what arrives.
type watcher struct {
	hub      *NATSHub
	each     func([]Remote, bool) error
	caughtUp bool
}

// group hands over m and what has arrived behind it.
func (w *watcher) group(ctx context.Context, m jetstream.Msg, arrived <-chan jetstream.Msg) error {
	var group []Remote
	bytes := 0
	for caughtUp := false; ; {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("watching %s: %w", hubStream, err)
		}
		caughtUp = caughtUp || !w.caughtUp && meta.NumPending == 0
		key, err := subjectKey(strings.TrimPrefix(m.Subject(), w.hub.prefix))
		if err == nil { // otherwise no edge can have such a key
			group = append(group, decodeRemote(key, meta.Sequence.Stream, meta.Timestamp, textproto.MIMEHeader(m.Headers()), m.Data()))
		}
		bytes += len(m.Data())
		select {
		case m = <-arrived:
			if len(group) < watchGroup && bytes < watchBytes {
				continue
			}
			if err := w.hand(ctx, group, caughtUp); err != nil {
				return err
			}
			w.caughtUp, group, bytes, caughtUp = w.caughtUp || caughtUp, nil, 0, false
		default:
			w.caughtUp = w.caughtUp || caughtUp
			return w.hand(ctx, group, caughtUp)
		}
	}
}

// hand gives those of the group that have no envelope what they inherit, and hands
// it over. Each is a request that waits for the hub, so many wait at once.
func (w *watcher) hand(ctx context.Context, group []Remote, caughtUp bool) error {
	var heirs []*Remote
	for i := range group {
		if group[i].inherits() {
			heirs = append(heirs, &group[i])
		}
	}
	var next atomic.Int64
	errs := make([]error, min(inheritAtOnce, len(heirs)))
	var running gosync.WaitGroup
	for i := range errs {
		running.Go(func() {
			for n := next.Add(1); n <= int64(len(heirs)) && errs[i] == nil; n = next.Add(1) {
				errs[i] = w.hub.inherit(ctx, heirs[n-1])
			}
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return w.each(group, caughtUp)
}

// decodeRemote reads what stands at the hub: an envelope, a plain value, or the
// delete marker of a key-value client.
func decodeRemote(key string, revision uint64, received time.Time, header textproto.MIMEHeader, data []byte) Remote {
	r := Remote{Key: key, Revision: revision, Received: received}
	get := func(name string) string { // as it is written: NATS does not change the case of names
		if v := header[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	if op := get("KV-Operation"); op == "DEL" || op == "PURGE" || get("Nats-Marker-Reason") != "" {
		r.Value = deletedByHub(received)
		return r
	}
	r.Value, r.Err = Decode(data, received)
	return r
}

// inherits reports whether it is a value without an envelope.
func (r *Remote) inherits() bool {
	return r.Value != nil && r.Value.Op.Device == HubDevice && r.Value.VV == nil
}

// inherit gives a value without an envelope the operations of the newest one
// before it that has one: it replaces them, and does not undo that they were
// there.
func (h *NATSHub) inherit(ctx context.Context, r *Remote) error {
	if !r.inherits() {
		return nil
	}
	subject := h.prefix + keySubject(r.Key)
	for seq := uint64(1); ; {
		msg, err := broker.FindMessage(ctx, h.nc, h.domain, hubStream, broker.Query{Next: subject, Seq: seq})
		if err != nil {
			return err
		}
		if msg == nil || msg.Seq >= r.Revision {
			return nil
		}
		if v, err := Decode(msg.Data, msg.Time); err == nil && v.VV != nil {
			r.Value.VV = v.VV
		}
		seq = msg.Seq + 1
	}
}

// parseHeader reads a stored message's header.
func parseHeader(raw []byte) (textproto.MIMEHeader, error) {
	header := textproto.MIMEHeader{}
	scan := bufio.NewScanner(bytes.NewReader(raw))
	for first := true; scan.Scan(); first = false {
		if line := scan.Text(); !first && line != "" {
			name, value, _ := strings.Cut(line, ":")
			header[name] = append(header[name], strings.TrimSpace(value))
		}
	}
	return header, scan.Err()
}

func openJetStream(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain == "" {
		return jetstream.New(nc)
	}
	return jetstream.NewWithDomain(nc, domain)
}
