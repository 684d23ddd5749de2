package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	_ "modernc.org/sqlite" // the driver

	"github.com/edged/edged/engine/record"
)

// rawBatch is the size of the peers' batches: what a server takes by default.
const rawBatch = 1000

// rawArm is the least that one can do with JetStream and still have fsync
// before acknowledge: a loop that publishes the lines, held in memory, as atomic
// batches on the subjects that edged uses. It parses nothing while it is timed,
// numbers nothing, keeps no position.
func rawArm(ctx context.Context, a *armRun) (time.Duration, error) {
	messages, err := rawMessages(a, "edged.records.motes")
	if err != nil {
		return 0, err
	}
	s, nc, err := startServer(a.dir, "")
	if err != nil {
		return 0, err
	}
	defer stopServer(s)
	defer nc.Close()
	if err := makeStream(ctx, nc, "EDGED_RECORDS", "edged.records.>"); err != nil {
		return 0, err
	}
	start := time.Now()
	for i := 0; i < len(messages); i += rawBatch {
		if err := publishAtomic(ctx, nc, messages[i:min(i+rawBatch, len(messages))], strconv.Itoa(i)); err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	arrived := 0
	err = eachMessage(ctx, nc, "EDGED_RECORDS", ">", func(jetstream.Msg) error { arrived++; return nil })
	if err == nil && arrived != a.Records {
		err = fmt.Errorf("%d messages arrived, want %d", arrived, a.Records)
	}
	return took, err
}

// rawMessages reads the lines into memory, each with its subject below prefix.
func rawMessages(a *armRun, prefix string) ([]nats.Msg, error) {
	lines, err := readLines(a.Data, a.Records)
	if err != nil {
		return nil, err
	}
	subjects := map[string]string{}
	messages := make([]nats.Msg, len(lines))
	for i, line := range lines {
		var r struct {
			DeviceID string `json:"device_id"`
			DataType string `json:"data_type"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		key := r.DataType + "\x00" + r.DeviceID
		if subjects[key] == "" {
			subjects[key] = prefix + "." + record.Token(r.DataType) + "." + record.Token(r.DeviceID)
		}
		messages[i] = nats.Msg{Subject: subjects[key], Data: line}
	}
	return messages, nil
}

func makeStream(ctx context.Context, nc *nats.Conn, name string, subjects ...string) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: subjects, Storage: jetstream.FileStorage, AllowAtomicPublish: true,
	})
	return err
}

// publishAtomic publishes messages as one atomic batch: the last one asks for
// the answer. It writes its headers into the messages.
func publishAtomic(ctx context.Context, nc *nats.Conn, messages []nats.Msg, id string) error {
	ids := []string{id}
	for i := range messages {
		m := &messages[i]
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header["Nats-Batch-Id"] = ids
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i < len(messages)-1 {
			if err := nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header["Nats-Batch-Commit"] = []string{"1"}
		answer, err := nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			return err
		}
		var ack struct {
			Count int                 `json:"count"`
			Error *jetstream.APIError `json:"error"`
		}
		switch err := json.Unmarshal(answer.Data, &ack); {
		case err != nil:
			return err
		case ack.Error != nil:
			return ack.Error
		case ack.Count != len(messages):
			return fmt.Errorf("the server took %d messages of %d", ack.Count, len(messages))
		}
	}
	return nil
}

// sqliteArm is what many devices do: one INSERT, one commit, for each record,
// in a write-ahead log that is fsynced at every commit.
func sqliteArm(ctx context.Context, a *armRun) (took time.Duration, err error) {
	lines, err := readLines(a.Data, a.Records)
	if err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", filepath.Join(a.dir, "records.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if err := wal(ctx, db); err != nil {
		return 0, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE records (number INTEGER PRIMARY KEY, data BLOB NOT NULL)`); err != nil {
		return 0, err
	}
	insert, err := db.PrepareContext(ctx, `INSERT INTO records (data) VALUES (?)`)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	start := time.Now()
	for _, line := range lines {
		if _, err := insert.ExecContext(ctx, line); err != nil {
			return 0, err
		}
	}
	took = time.Since(start)
	var n int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM records`).Scan(&n); err != nil {
		return 0, err
	}
	if n != a.Records {
		return 0, fmt.Errorf("%d rows arrived, want %d", n, a.Records)
	}
	return took, nil
}

// wal makes sure that the pragmas hold: a name that the driver does not know is
// no error to it.
func wal(ctx context.Context, db *sql.DB) error {
	var mode string
	var level int
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level); err != nil {
		return err
	}
	if mode != "wal" || level != 2 {
		return fmt.Errorf("SQLite runs with journal_mode %s and synchronous %d, want wal and 2 (FULL)", mode, level)
	}
	return nil
}

// packedArm is the least that one can do when a message holds a thousand
// records, as a commit of an edge's store does: one write and one fsync, and no
// staging of a batch.
func packedArm(ctx context.Context, a *armRun) (time.Duration, error) {
	lines, err := readLines(a.Data, a.Records)
	if err != nil {
		return 0, err
	}
	s, nc, err := startServer(a.dir, "max_payload: 8MB")
	if err != nil {
		return 0, err
	}
	defer stopServer(s)
	defer nc.Close()
	if err := makeStream(ctx, nc, "EDGED_RECORDS", "edged.records.>"); err != nil {
		return 0, err
	}
	start := time.Now()
	var body []byte
	for i := 0; i < len(lines); i += rawBatch {
		body = body[:0]
		for _, line := range lines[i:min(i+rawBatch, len(lines))] {
			body = append(append(body, line...), '\n')
		}
		answer, err := nc.RequestWithContext(ctx, "edged.records.motes", body)
		if err != nil {
			return 0, err
		}
		var ack struct {
			Seq   uint64              `json:"seq"`
			Error *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil {
			return 0, fmt.Errorf("publishing: %w", err)
		}
		if ack.Error != nil || ack.Seq == 0 {
			return 0, fmt.Errorf("publishing: answered %s", answer.Data)
		}
	}
	took := time.Since(start)
	arrived := 0
	err = eachMessage(ctx, nc, "EDGED_RECORDS", ">", func(m jetstream.Msg) error {
		arrived += bytes.Count(m.Data(), []byte{'\n'})
		return nil
	})
	if err == nil && arrived != a.Records {
		err = fmt.Errorf("%d records arrived, want %d", arrived, a.Records)
	}
	return took, err
}
