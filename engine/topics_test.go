package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// consume reads what a consumer at the hub gets that asks for some subjects of
// the queue's stream: the topic and the number of each message, in order. This is
// how a service takes one topic of one edge, or of all.
func consume(t *testing.T, h *hub.Hub, subject string) (got []string) {
	t.Helper()
	nc, err := nats.Connect(h.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateOrUpdateConsumer(t.Context(), sync.HubQueueStream, jetstream.ConsumerConfig{
		Durable: "billing", FilterSubject: subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.FetchNoWait(1000)
	if err != nil {
		t.Fatal(err)
	}
	for msg := range batch.Messages() {
		tokens := strings.Split(msg.Subject(), ".")
		topic, err := record.Untoken(tokens[len(tokens)-1])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, topic+" "+msg.Headers().Get(sync.HeaderNumber))
		if err := msg.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Error(); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), sync.HubQueueStream, "billing"); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestTopicsGoTheirWays sends topics of one pipeline to different hubs. Each hub's
// ledger accounts for every number, nothing waits, and a consumer at the hub takes
// one topic by its subject. After an edit the topics that are named no more still
// arrive.
func TestTopicsGoTheirWays(t *testing.T) {
	one, two := startHub(t, "127.0.0.1:0", t.TempDir()), startHub(t, "127.0.0.1:0", t.TempDir())
	r := newRig(t)
	const text = `
edge { device_id = "edge.1" }
remote "nats" "one" { urls = [%q] }
remote "nats" "two" { urls = [%q] }
pipeline "p" {
  collect "file" "f" { path = %s }
  alert "even" {
    when     = record.payload.n %% 2 == 0
    topic    = %q
    priority = "high"
  }
  alert "third" {
    when     = record.payload.n %% 3 == 0
    topic    = "door.open"
    priority = "high"
  }
  alert "tenth" {
    when     = record.payload.n %% 10 == 0
    topic    = "tens"
    priority = "high"
  }
  sync {
    to     = remote.nats.one
    topics = [%q, "tens"]
  }
  sync {
    to     = remote.nats.two
    topics = ["door.open", "tens"]
  }
}`
	const records = 60
	input := r.file("in.ndjson", lines("r", records))
	sum := r.start(true, fmt.Sprintf(text, one.LeafURL(), two.LeafURL(), input, "even", "even"), nil).end()
	if sum.Messages != 56 || sum.SyncedMessages != 30+6+20+6 || sum.Gaps+sum.Duplicates+sum.Waiting != 0 || !sum.Audited {
		t.Errorf("the summary says %+v", sum)
	}

	want := map[string]map[string]int{"one": {"even": 30, "tens": 6}, "two": {"door.open": 20, "tens": 6}}
	for name, h := range map[string]*hub.Hub{"one": one, "two": two} {
		got := map[string]int{}
		for _, m := range consume(t, h, "edged.hub.queue.edge=2e1.>") {
			topic, _, _ := strings.Cut(m, " ")
			got[topic]++
		}
		if diff := cmp.Diff(want[name], got); diff != "" {
			t.Errorf("hub %s (-want +got):\n%s", name, diff)
		}
	}
	for _, m := range consume(t, two, "edged.hub.queue.*.*.door=2eopen") {
		if !strings.HasPrefix(m, "door.open ") {
			t.Errorf("a consumer of door.open got %s", m)
		}
	}

	// What was raised under a name that is gone now goes to all who are left.
	r = newRig(t)
	input = r.file("in.ndjson", lines("s", 2))
	away := "nats-leaf://" + freePort(t)
	run := r.start(false, fmt.Sprintf(text, away, away, input, "old", "old"), nil)
	until(t, "an alert is stored", func() bool { return run.Status().Totals.Messages == 1 })
	run.stop()
	three, four := startHub(t, "127.0.0.1:0", t.TempDir()), startHub(t, "127.0.0.1:0", t.TempDir())
	r.start(true, fmt.Sprintf(text, three.LeafURL(), four.LeafURL(), input, "new", "new"), nil).end()
	for _, h := range []*hub.Hub{three, four} {
		if diff := cmp.Diff([]string{"old 1"}, consume(t, h, "edged.hub.queue.>")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
