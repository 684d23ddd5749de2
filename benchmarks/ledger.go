package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ledgerArm is the least that the ledger protocol asks of an edge: a bare
// server joined to the hub as a leaf node, and a loop that pushes what it holds
// in memory, 999 records and a ledger entry at a time, one batch in flight. It
// reads no store and hashes nothing.
func ledgerArm(ctx context.Context, a *armRun) (time.Duration, error) {
	messages, err := rawMessages(a, "edged.hub.records.edge-001.motes")
	if err != nil {
		return 0, err
	}
	s, local, err := startServer(a.dir, fmt.Sprintf(`
leafnodes { remotes [ { url: "nats-leaf://%s", account: LINK } ] }`, a.Target))
	if err != nil {
		return 0, err
	}
	defer stopServer(s)
	defer local.Close()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo("link", "link"))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	for { // until the leaf node is joined
		if _, err := nc.RequestWithContext(ctx, "$JS.hub.API.STREAM.INFO.EDGED_RECORDS", nil); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	start := time.Now()
	var newest uint64
	for from := 0; from < len(messages); from += rawBatch - 1 {
		if newest, err = pushLedger(ctx, nc, messages, from, min(from+rawBatch-1, len(messages)), newest); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// pushLedger pushes messages[from:to] with their ledger entry and returns its
// sequence at the hub.
func pushLedger(ctx context.Context, nc *nats.Conn, messages []nats.Msg, from, to int, newest uint64) (uint64, error) {
	id := []string{strconv.Itoa(from)}
	seq, number := []string{""}, []string{""}
	header := nats.Header{"Nats-Batch-Id": id, "Nats-Batch-Sequence": seq, "Edged-Number": number}
	for i := from; i < to; i++ {
		seq[0], number[0] = strconv.Itoa(i-from+1), strconv.Itoa(i+1)
		messages[i].Header = header
		if err := nc.PublishMsg(&messages[i]); err != nil {
			return 0, err
		}
	}
	seq[0] = strconv.Itoa(to - from + 1)
	header["Nats-Batch-Commit"] = []string{"1"}
	header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatUint(newest, 10)}
	entry := nats.Msg{
		Subject: "edged.hub.ledger.records.edge-001.motes", Header: header,
		Data: fmt.Appendf(nil, `{"epoch":"raw","first":%d,"last":%d,"count":%d}`, from+1, to, to-from),
	}
	answer, err := nc.RequestMsgWithContext(ctx, &entry)
	if err != nil {
		return 0, fmt.Errorf("pushing a batch: %w", err)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("pushing a batch: %w", err)
	}
	if ack.Error != nil {
		return 0, fmt.Errorf("pushing a batch: %w", ack.Error)
	}
	return ack.Seq, nil
}
