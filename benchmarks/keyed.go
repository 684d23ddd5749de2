package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
	edged "github.com/edged/edged/sdk/go"
)

const (
	// keyedWriters change keys at once, as programs beside an edge do.
	keyedWriters = 64
	// keyedPuts is how many changes one sample has; what a bucket does alone with a
	// flush for each is measured on fewer.
	keyedPuts    = 20_000
	keyedKeys    = 100_000
	conflictSize = 256 // conflicts resolved at once
)

// strategies are the resolvers that edged ships.
func strategies() []string {
	return []string{"client_wins", "server_wins", "latest_wins", "merge", "manual"}
}

// keyedRecords measures conflicts settled by each shipped strategy against the
// same in native Go, durable puts against a bare key-value bucket, and how fast an
// edge that was away takes over what has changed.
func keyedRecords(ctx context.Context, b *bench) (w Workload, err error) {
	for _, name := range strategies() {
		order := armRun{Target: name, Records: max(b.micro/2, conflictSize)}
		native := order
		order.Arm, native.Arm = "resolvewasm", "resolvego"
		series, err := alternate(b.progress, b.rounds, []measure{
			b.cost(ctx, "a conflict, "+name+", Wasm", "µs/conflict", order),
			b.cost(ctx, "a conflict, "+name+", Go", "µs/conflict", native),
		})
		if err != nil {
			return w, err
		}
		w.Series = append(w.Series, series...)
		w.Comparisons = append(w.Comparisons, ratio("time of a conflict, "+name+": Wasm : Go", series[0], series[1], goal{less: true}))
	}
	scale := 1
	if b.settle == 0 { // a smoke run
		scale = 100
	}
	arm := func(name string, n int) armRun { return armRun{Arm: name, Records: n / scale} }
	series, err := alternate(b.progress, b.rounds, []measure{
		b.rate(ctx, "keyed put, durable, 64 writers", arm("keyedput", keyedPuts)),
		b.rate(ctx, "put into a bare bucket, fsynced, 64 writers", arm("bucketput", keyedPuts/2)),
		b.rate(ctx, "keys that an edge takes over, of another edge", arm("keyedcatchup", keyedKeys)),
		b.rate(ctx, "keys that an edge takes over, plain values of others", arm("keyedcatchupplain", keyedKeys)),
		b.rate(ctx, "keys that a bare watch of the bucket reads", arm("bucketwatch", keyedKeys)),
	})
	if err != nil {
		return w, err
	}
	w.Series = append(w.Series, series...)
	w.Comparisons = append(w.Comparisons,
		ratio("keyed put : put into a bare bucket", series[0], series[1], goal{}),
		ratio("catch-up of an edge : bare watch", series[2], series[4], goal{}),
		ratio("catch-up with plain values : bare watch", series[3], series[4], goal{}),
	)
	return w, nil
}

// resolveArm settles conflicts in which each side changed a member of its own.
func resolveArm(ctx context.Context, a *armRun) (took time.Duration, err error) {
	code, ok := plugins.Builtin(a.Target)
	if !ok {
		return 0, fmt.Errorf("there is no strategy %q", a.Target)
	}
	conflicts := plugindev.SampleConflicts(conflictSize)
	m := plugindev.Module{Name: a.Target, Code: code}
	err = m.With(ctx, wasm.Options{Workers: 1}, func(p *wasm.Plugin) error {
		var out wasm.ResolveOutput
		took, err = timed(a.Records, func() error {
			if err := p.Resolve(ctx, conflicts, &out); err != nil {
				return err
			}
			for i := range out.Verdicts {
				if v := &out.Verdicts[i]; v.Fault != nil || v.Action == wasm.VerdictError {
					return fmt.Errorf("%v: %s", v.Action, v.Reason)
				}
			}
			return nil
		})
		return err
	})
	return took, err
}

// resolveGoArm decides the same in native Go, with the scanner and the merge of
// the Go SDK.
func resolveGoArm(_ context.Context, a *armRun) (time.Duration, error) {
	samples := plugindev.SampleConflicts(conflictSize)
	conflicts := make([]edged.Conflict, len(samples))
	for i := range samples {
		s := &samples[i]
		base := goVersion(s.Base)
		conflicts[i] = edged.Conflict{Key: []byte(s.Local.Key), Base: &base, Local: goVersion(&s.Local), Remote: goVersion(&s.Remote)}
	}
	merge := edged.Merge{}
	decide := func(c *edged.Conflict) []byte {
		switch a.Target {
		case "client_wins":
			return c.Local.Payload
		case "server_wins":
			return c.Remote.Payload
		case "latest_wins":
			if c.Local.Compare(&c.Remote) > 0 {
				return c.Local.Payload
			}
			return c.Remote.Payload
		case "merge":
			return merge.Run(c)
		}
		return nil // manual: a person
	}
	kept := 0
	took, err := timed(a.Records, func() error {
		for i := range conflicts {
			kept += len(decide(&conflicts[i]))
		}
		return nil
	})
	if kept == 0 && a.Target != "manual" {
		return 0, errors.New("nothing was decided")
	}
	return took, err
}

func goVersion(v *wasm.Version) edged.Version {
	return edged.Version{
		Device: []byte(v.Device), Type: []byte(v.DataType), Payload: v.Body, Wall: v.WallNS, Counter: v.Counter, Revision: v.Revision, IsObject: true,
	}
}

// timed does a batch until n conflicts are settled, after a warm-up.
func timed(n int, batch func() error) (time.Duration, error) {
	if err := batch(); err != nil {
		return 0, err
	}
	start := time.Now()
	for done := 0; done < n; done += conflictSize {
		if err := batch(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// fromWriters calls put for each of n keys, from many goroutines.
func fromWriters(n int, put func(key int) error) (time.Duration, error) {
	errs := make([]error, keyedWriters)
	var all sync.WaitGroup
	start := time.Now()
	for w := range keyedWriters {
		all.Go(func() {
			for i := w; i < n && errs[w] == nil; i += keyedWriters {
				errs[w] = put(i)
			}
		})
	}
	all.Wait()
	return time.Since(start), errors.Join(errs...)
}

func keyedBody(i int) []byte {
	return fmt.Appendf(nil, `{"low":%d,"high":%d,"unit":"degC","site":"greenhouse-7","notes":["checked"],"limits":{"min":-20,"max":40}}`, i, i+10)
}

// openKeyedStore opens a keyed store on a broker of its own.
func openKeyedStore(ctx context.Context, dir string, links []broker.Link) (*broker.Broker, *nats.Conn, *keyed.Stores, error) {
	b, err := broker.Start(ctx, broker.Options{Name: "edge-bench", Domain: "edge-bench", Dir: dir, Links: links})
	if err != nil {
		return nil, nil, nil, err
	}
	nc, err := b.Connect("bench")
	if err != nil {
		return nil, nil, nil, errors.Join(err, b.Close())
	}
	stores, err := keyed.Open(ctx, nc, 1<<30, nil, []keyed.Options{{Name: "s", Device: "bench"}})
	if err != nil {
		nc.Close()
		return nil, nil, nil, errors.Join(err, b.Close())
	}
	return b, nc, stores, nil
}

func keyedPutArm(ctx context.Context, a *armRun) (time.Duration, error) {
	b, nc, stores, err := openKeyedStore(ctx, a.dir, nil)
	if err != nil {
		return 0, err
	}
	s := stores.Store("s")
	took, err := fromWriters(a.Records, func(i int) error {
		_, err := s.Put(ctx, fmt.Sprintf("setpoint/%d", i), keyedBody(i), keyed.Condition{})
		return err
	})
	if n := s.Status().Keys; err == nil && n != a.Records {
		err = fmt.Errorf("%d keys are stored, %d were put", n, a.Records)
	}
	err = errors.Join(err, stores.Close(ctx))
	nc.Close()
	return took, errors.Join(err, b.Close())
}

func bucketPutArm(ctx context.Context, a *armRun) (time.Duration, error) {
	s, nc, err := startServer(a.dir, "")
	if err != nil {
		return 0, err
	}
	defer stopServer(s)
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "bench"})
	if err != nil {
		return 0, err
	}
	return fromWriters(a.Records, func(i int) error {
		_, err := kv.Put(ctx, fmt.Sprintf("setpoint.%d", i), keyedBody(i))
		return err
	})
}

// ofAnotherEdge is a body as an edge writes it.
func ofAnotherEdge(i int) ([]byte, error) {
	const device, epoch = "edge-other", "0000000000000001"
	v, err := keyed.Decode(keyedBody(i), time.Now())
	if err != nil {
		return nil, err
	}
	v.Op = keyed.Op{Device: device, Epoch: epoch, Seq: uint64(i) + 1}
	v.VV = keyed.Vector{device: {epoch: v.Op.Seq}}
	return v.Encode()
}

func plainValue(i int) ([]byte, error) { return keyedBody(i), nil }

// filledHub is a hub whose bucket has n keys.
func filledHub(ctx context.Context, dir string, n int, value func(i int) ([]byte, error)) (*hub.Hub, *nats.Conn, jetstream.JetStream, error) {
	h, err := hub.Start(ctx, hub.Options{LeafListen: "127.0.0.1:0", ClientListen: "127.0.0.1:0", DataDir: filepath.Join(dir, "hub")})
	if err != nil {
		return nil, nil, nil, err
	}
	fail := func(err error) (*hub.Hub, *nats.Conn, jetstream.JetStream, error) {
		return nil, nil, nil, errors.Join(err, h.Close())
	}
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		return fail(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		return fail(err)
	}
	for i := range n {
		data, err := value(i)
		if err != nil {
			return fail(err)
		}
		if _, err := js.PublishAsync(fmt.Sprintf("$KV.%s.s.setpoint.%d", keyed.HubBucket, i), data, jetstream.WithStallWait(time.Minute)); err != nil {
			return fail(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	return h, nc, js, nil
}

// catchUpArm is an edge that was away: from the first dial of its leaf node until
// it has every key on its disk.
func catchUpArm(ctx context.Context, a *armRun) (time.Duration, error) {
	return catchUp(ctx, a, ofAnotherEdge)
}

// catchUpPlainArm is the same with values of programs that know no envelope: for
// each the edge asks the hub what it replaces.
func catchUpPlainArm(ctx context.Context, a *armRun) (time.Duration, error) {
	return catchUp(ctx, a, plainValue)
}

func catchUp(ctx context.Context, a *armRun, value func(i int) ([]byte, error)) (took time.Duration, err error) {
	h, client, _, err := filledHub(ctx, a.dir, a.Records, value)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	defer client.Close()
	start := time.Now()
	b, nc, stores, err := openKeyedStore(ctx, filepath.Join(a.dir, "edge"), []broker.Link{{Name: "hub", URLs: []string{h.LeafURL()}}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	defer nc.Close()
	defer func() { err = errors.Join(err, stores.Close(ctx)) }()
	link, err := b.ConnectLink("hub")
	if err != nil {
		return 0, err
	}
	defer link.Close()
	s := stores.Store("s")
	y := keyed.NewSync(keyed.SyncOptions{Store: s, Hub: keyed.NewNATSHub(link, "hub", "s")})
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); y.Run(running) }()
	defer func() { stop(); <-done }()
	for s.Status().Keys < a.Records {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(start), nil
}

// bucketWatchArm reads the same bucket with the NATS client's own watch, over TCP,
// and keeps nothing.
func bucketWatchArm(ctx context.Context, a *armRun) (took time.Duration, err error) {
	h, client, js, err := filledHub(ctx, a.dir, a.Records, ofAnotherEdge)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	defer client.Close()
	kv, err := js.KeyValue(ctx, keyed.HubBucket)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for entry := range watch.Updates() {
		if entry == nil { // all that was there
			break
		}
		n++
	}
	took = time.Since(start)
	if n != a.Records {
		err = fmt.Errorf("the watch told of %d keys of %d", n, a.Records)
	}
	return took, errors.Join(err, watch.Stop())
}
