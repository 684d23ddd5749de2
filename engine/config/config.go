// Package config turns HCL pipeline files into a typed configuration and
// diagnostics. It is pure: it opens nothing but the files it is told to read
// and starts nothing (I10).
package config

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
)

// Catalog is what the host offers: the kinds of block a file may name.
type Catalog struct {
	Collects []Spec
	Remotes  []Spec
	// Strategies are the resolvers of conflicts that come with edged.
	Strategies []string
	// Capabilities are what a plugin can be granted.
	Capabilities []string
}

// Config is one checked configuration.
type Config struct {
	Edge      Edge
	Remotes   []Remote
	Plugins   []Plugin
	Pipelines []Pipeline
	// Files holds the source text by name, for printing diagnostics.
	Files map[string]*hcl.File
}

// Retention returns how long synced records of p stay, and how many bytes of
// them may; 0: any. A nil p has what the edge says.
func (c *Config) Retention(p *Pipeline) (keep time.Duration, bytes int64) {
	keep, bytes = c.Edge.Keep, c.Edge.KeepBytes
	if p != nil && p.Keep != nil {
		keep = *p.Keep
	}
	if p != nil && p.KeepBytes != nil {
		bytes = *p.KeepBytes
	}
	return keep, bytes
}

// Edge is the `edge` block.
type Edge struct {
	DeviceID   string
	DataDir    string // as written; relative to the working directory
	Durability string // "fsync" or "relaxed"
	MaxBytes   int64  // disk budget of the local streams, in bytes
	// Keep is how long synced records stay, KeepBytes how many bytes of them of
	// one pipeline may; 0: any. A pipeline may say otherwise, see [Config.Retention].
	Keep      time.Duration
	KeepBytes int64
	// QueueWhenFull is "wait" or "drop_lowest_priority".
	QueueWhenFull string
	API           API
	// PluginKeys are public keys as sign.ParsePublicKey reads them, or the files
	// that hold one, as resolved against the file that names them.
	PluginKeys []string
	// RequireSigned refuses plugins that are not signed by one of them.
	RequireSigned bool
	KeysRange     hcl.Range // of plugin_keys
	Range         hcl.Range
}

// Remote is a `remote "<kind>" "<name>"` block.
type Remote struct {
	Kind, Name string
	Args       Args
	Text       string // see [Pipeline.Text]
	Range      hcl.Range
}

// Plugin is a `plugin "<name>"` block.
type Plugin struct {
	Name   string
	Module string          // path as resolved against the file that names it, or "builtin:dew_point"
	SHA256 string          // lower case hexadecimal, or empty
	Config json.RawMessage // what edged_configure receives; nil: nothing
	Allow  []string        // capabilities granted
	Limits Limits
	Extism *Extism // nil: not written
	Args   Args    // for the ranges of its arguments
	Text   string  // see [Pipeline.Text]
	Range  hcl.Range
}

// Extism is the `extism` block of a plugin.
type Extism struct {
	Function string
	Input    string // "payload" or "record"
}

// Limits bound one plugin. Zero means the host's default.
type Limits struct {
	Memory       int64         // bytes of linear memory
	Time         time.Duration // per call
	Fuel         int64         // per call, about one for an instruction
	Output       int64         // bytes per call
	RecordOutput int64         // bytes per record
	LogLines     int           // a second
	KV           int64         // bytes of its keys, in each pipeline
}

// Collect is a `collect "<kind>" "<name>"` block.
type Collect struct {
	Kind, Name string
	Args       Args
	Range      hcl.Range
}

// Transform is a `transform "<name>"` block.
type Transform struct {
	Name    string
	Plugin  string // name of the plugin block
	OnError string // "dead_letter" or "pass"
	// WhenResting is "wait" or "on_error".
	WhenResting string
	Range       hcl.Range
}

// Alert is an `alert "<name>"` block.
type Alert struct {
	Name     string
	When     *expr.Program // over record, to bool
	Topic    string
	Priority record.Priority
	Message  *expr.Program // over record, to any JSON; the record itself when not written
	TTL      time.Duration // how long a message may wait; 0: for ever
	Range    hcl.Range
}

// Batch is the `batch` block.
type Batch struct {
	MaxRecords int
	MaxBytes   int64
	MaxWait    time.Duration
}

// Sync is a `sync` block.
type Sync struct {
	RemoteKind, RemoteName string
	Every                  time.Duration
	// Topics are those whose messages the remote gets; nil: all of them.
	Topics []string
	Range  hcl.Range
}

// Pipeline is a `pipeline "<name>"` block.
type Pipeline struct {
	Name       string
	Collects   []Collect
	Transforms []Transform
	Alerts     []Alert
	Batch      Batch
	Syncs      []Sync
	Keyed      *Keyed         // nil: its records follow one another
	WhenFull   string         // "wait", "drop_oldest_synced" or "drop_oldest"
	Keep       *time.Duration // nil: the edge's
	KeepBytes  *int64         // nil: the edge's
	// Text is the block as it is written, behind the folder of its file: two
	// blocks with the same text mean the same to one process.
	Text  string
	Range hcl.Range
}
