package sync_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/edged/edged/engine/hub"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// TestAuditFleet audits three edges at their hub, without asking one of them:
// when all is well, and after a record of one was deleted there, another put
// there twice, and one put there by a program that keeps no ledger.
func TestAuditFleet(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	var want []sync.EdgeAudit
	for i, id := range []string{"edge.1", "edge 2", "edge-3"} { // tokens of each differ from it
		e := startEdge(t, id, t.TempDir(), link("hub", newProxy(t, h.leaf())))
		a, b := e.lane("a"), e.lane("b")
		r := e.prepare(remoteOptions{lanes: lanes(a, b)}).run()
		e.put(a, 100+i)
		e.put(b, 10)
		e.message(record.High, "a", 5)
		r.until("everything is at the hub", r.drained)
		r.stop()
		feed := func(kind sync.Kind, lane string, n uint64, epoch string) sync.EdgeAudit {
			return sync.EdgeAudit{Edge: id, Kind: kind, Lane: lane, FeedAudit: sync.FeedAudit{Epoch: epoch, Last: n, AtHub: n}}
		}
		want = append(want, feed(sync.Records, "a", uint64(100+i), e.records.Epoch()),
			feed(sync.Records, "b", 10, e.records.Epoch()), feed(sync.Messages, "high", 5, e.queue.Log().Epoch()))
	}
	audit := func(edges ...string) []sync.EdgeAudit {
		t.Helper()
		found, err := sync.AuditFleet(t.Context(), h.nc, sync.FleetOptions{Edges: edges})
		if err != nil {
			t.Fatal(err)
		}
		for i := range found {
			if found[i].Err == nil && found[i].Time.IsZero() {
				t.Errorf("%s of %s says not when it was last synced", found[i].Name(), found[i].Edge)
			}
		}
		return found
	}
	check := func(got, want []sync.EdgeAudit) {
		t.Helper()
		sorted := cmpopts.SortSlices(func(a, b sync.EdgeAudit) bool { return a.Edge+a.Name() < b.Edge+b.Name() })
		if diff := cmp.Diff(want, got, sorted, cmpopts.IgnoreFields(sync.EdgeAudit{}, "Time"), cmpopts.EquateErrors()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	check(audit(), want)
	check(audit("edge 2"), want[3:6])
	check(audit("nobody"), nil)

	stream, err := h.js.Stream(t.Context(), sync.HubRecordStream)
	if err != nil {
		t.Fatal(err)
	}
	msgs := h.read(sync.HubRecordStream, sync.HubRecordSubject+"."+record.Token("edge 2")+".a.>")
	meta, err := msgs[6].Metadata()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), meta.Sequence.Stream); err != nil {
		t.Fatal(err)
	}
	again := &nats.Msg{Subject: msgs[9].Subject(), Header: nats.Header{sync.HeaderNumber: {"10"}}, Data: msgs[9].Data()}
	beyond := &nats.Msg{Subject: again.Subject, Header: nats.Header{sync.HeaderNumber: {"1000"}}, Data: []byte("{}")}
	for _, msg := range []*nats.Msg{again, beyond} {
		if _, err := h.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.js.Publish(t.Context(), sync.HubRecordSubject+".edge-3.a.t.d", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	want[3].Gaps, want[3].Duplicates, want[3].Unsettled, want[3].AtHub = [][2]uint64{{7, 7}}, [][2]uint64{{10, 10}}, 1, 102
	want[6].Foreign = 1
	check(audit(), want)

	if _, err := h.js.Publish(t.Context(), sync.HubLedgerRecords+".edge-3.b", []byte("{")); err != nil {
		t.Fatal(err)
	}
	found := audit("edge-3")
	if len(found) != 3 || found[1].Err == nil {
		t.Errorf("a ledger entry that cannot be read is not told of: %+v", found)
	}
}

// TestAuditFleetTellsItsProgress audits a hub that holds more than it reads at
// a time.
func TestAuditFleetTellsItsProgress(t *testing.T) {
	t.Parallel()
	h := startHub(t, hub.Options{})
	for i := range 2500 {
		if _, err := h.js.PublishAsync(fmt.Sprintf("%s.e.p.t.d%d", sync.HubRecordSubject, i%3), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	<-h.js.PublishAsyncComplete()
	var told [][2]uint64
	found, err := sync.AuditFleet(t.Context(), h.nc, sync.FleetOptions{Progress: func(read, of uint64) {
		told = append(told, [2]uint64{read, of})
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][2]uint64{{1000, 2500}, {2000, 2500}}, told); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if len(found) != 1 || found[0].Foreign != 2500 {
		t.Errorf("found %+v", found)
	}
}
