package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// edgeFile is one pipeline file to measure with.
type edgeFile struct {
	source    string // the body of its collect block, header included
	transform bool   // the dew point plugin
	rules     bool   // the two alert rules
	remote    string // the body of remote "nats" "hub"; empty: no sync
	batch     int    // records in a sync batch
}

func fileSource(path string) string {
	return fmt.Sprintf("collect \"file\" \"input\" {\n    path = %q\n  }", path)
}

// text returns the file.
func (f edgeFile) text() string {
	s := "edge {\n  device_id = \"edge-001\"\n}\n\n"
	if f.remote != "" {
		s += "remote \"nats\" \"hub\" {\n  " + f.remote + "\n}\n\n"
	}
	if f.transform {
		s += "plugin \"dew_point\" {\n  module = \"builtin:dew_point\"\n}\n\n"
	}
	s += "pipeline \"motes\" {\n  " + f.source + "\n"
	if f.transform {
		s += "\n  transform \"dew_point\" {\n    plugin = plugin.dew_point\n  }\n"
	}
	if f.rules {
		s += fmt.Sprintf("\n  alert \"hot\" {\n    when     = record.payload.temperature > %v\n    priority = \"high\"\n"+
			"    message  = { type = \"hot\", value = record.payload.temperature, device_id = record.device_id, timestamp = record.timestamp }\n  }\n", hotCelsius)
		s += fmt.Sprintf("\n  alert \"damp\" {\n    when    = record.payload.humidity > %v && record.data_type == \"sensor_reading\"\n"+
			"    message = { type = \"damp\", value = record.payload.humidity, device_id = record.device_id }\n  }\n", dampPercents)
	}
	if f.remote != "" {
		s += fmt.Sprintf("\n  batch {\n    max_records = %d\n    max_wait    = \"1s\"\n  }\n\n  sync {\n    to    = remote.nats.hub\n    every = \"100ms\"\n  }\n", f.batch)
	}
	return s + "}\n"
}

// write puts the file into dir and returns its path.
func (f edgeFile) write(dir string) (string, error) {
	path := filepath.Join(dir, "edge.hcl")
	return path, os.WriteFile(path, []byte(f.text()), 0o600)
}

// runEdge runs an edge in this process until it is drained, calls check before
// it is closed, and returns how long Run took: from the start of the sources
// until everything was stored and, with a remote, acknowledged by the hub.
func runEdge(ctx context.Context, dir string, f edgeFile, check func(engine.Status) error) (time.Duration, error) {
	path, err := f.write(dir)
	if err != nil {
		return 0, err
	}
	cfg, diags := config.Load([]string{path}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		return 0, fmt.Errorf("loading %s: %w", path, diags)
	}
	e, err := engine.Open(ctx, cfg, engine.Options{
		DataDir: filepath.Join(dir, "data"), UntilDrained: true,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = e.Run(ctx)
	took := time.Since(start)
	if err == nil {
		err = check(e.Status())
	}
	if closeErr := e.Close(ctx); err == nil {
		err = closeErr
	}
	return took, err
}
