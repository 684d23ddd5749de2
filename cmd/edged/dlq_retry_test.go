package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// TestRetryThatWasCutOff holds that a dead letter whose record was stored again,
// but which a kill kept from being removed, is not stored a second time (I2).
func TestRetryThatWasCutOff(t *testing.T) {
	dir := writeOpsPipeline(t, "dead_letter")
	edge := launchOps(t, dir, 3)
	letters := waitForDeadLetters(t, dir, 4)
	edge.kill()

	// What the kill leaves behind: the commit of the record, with its note.
	storeAgain(t, filepath.Join(dir, "data"), "p", fmt.Sprintf(`[{"pipeline":"p","number":%d,"id":%q}]`, letters[2].Number, letters[2].ID),
		`{"id":"r-5","device_id":"x","data_type":"reading","timestamp":"2026-11-22T06:15:00Z","payload":{"n":5}}`)

	writeOpsFile(t, dir, "pass")
	edge = relaunchOps(t, dir)
	r := edged(t, dir, "", "dlq", "retry", "p.hcl", "--stage", "transform", "--json")
	r.wantCode(t, exitOK)
	var done engine.Retried
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || done.Again != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if left := listDeadLetters(t, dir); len(left) != 2 {
		t.Errorf("left: %+v", left)
	}
	edge.kill()
	export := edged(t, dir, "", "store", "export", "p.hcl")
	export.wantCode(t, exitOK)
	var ids []string
	for _, s := range ndjson[storedJSON](t, export.stdout) {
		parsed, err := record.Parse(s.Record)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parsed.ID)
	}
	if diff := cmp.Diff([]string{"r-1", "r-2", "r-6", "r-5", "r-7"}, ids); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	verify(t, dir, "data", exitOK)
}

// storeAgain stores a record as a retry does, in the data directory of an edge
// that does not run.
func storeAgain(t *testing.T, data, pipeline, note, entry string) {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Name: "again", Domain: "again", Dir: filepath.Join(data, "jetstream")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := b.Connect("again")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, err := store.Open(t.Context(), nc, store.Options{
		Stream: "EDGED_RECORDS", Subject: "edged.records", Existing: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	lane, err := log.Lane(t.Context(), pipeline)
	if err != nil {
		t.Fatal(err)
	}
	stored := make(chan error, 1)
	err = lane.Append(t.Context(), &store.Group{
		Source: "dead letters", Position: json.RawMessage(note), Done: func(err error) { stored <- err },
		Entries: []store.Entry{{Subject: lane.Subject("reading", "x"), Data: []byte(entry)}},
	})
	if err == nil {
		err = <-stored
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
