package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm/sign"
)

// language declares everything a pipeline file may hold.
func language(catalog Catalog) Spec {
	return Spec{
		Name:    "file",
		Summary: "A pipeline file holds blocks; a directory of files is one configuration.",
		Blocks:  []Spec{edgeSpec(), remoteSpec(catalog), pluginSpec(catalog), pipelineSpec(catalog)},
	}
}

func edgeSpec() Spec {
	return Spec{
		Name:    "edge",
		Summary: "The device that runs the pipelines.",
		Doc:     "It may be left out; the defaults then hold.",
		Args: []Arg{
			{Name: "device_id", Type: String, Default: `hostname()`, Check: isRecordName, Doc: "What the hub knows this device by. It is the default `device_id` of the records, and must be unique among the edges of one hub."},
			{Name: "data_dir", Type: String, Default: `"data"`, Check: NotEmpty, Doc: "The folder of the local streams, relative to the working directory. One process at a time may use it."},
			{Name: "durability", Type: String, Default: `"fsync"`, Enum: []string{"fsync", "relaxed"}, Doc: "With `fsync`, a source is acknowledged when its records are on the disk and survive a power cut. With `relaxed`, it is acknowledged when the operating system has them: a power cut may lose the last seconds, a crash of the process does not."},
			{Name: "max_bytes", Type: Size, Default: `"8GiB"`, Min: "64MiB", Doc: "The disk budget of the local streams: eight parts in ten for records, one for messages, one for dead letters; with keyed records, seven for records and one for those. What happens when it is used up is for `when_full` of each pipeline to say."},
			{Name: "keep", Type: Duration, Default: `"24h"`, Min: "0s", Max: "3650d", Doc: "How long records and messages stay on the device after every remote has them. A hub that was restored from a backup gets from here what it has lost. What is not synced is never removed by age."},
			{Name: "keep_bytes", Type: Size, Min: "1MiB", Doc: "How many bytes of synced records of each pipeline stay at most, about: the oldest go before their `keep` is over. Without it only `keep` and `max_bytes` bound them. Records that are not synced do not count and are never removed by size."},
			{Name: "plugin_keys", Type: StringList, Check: isPluginKey, Doc: "The public keys whose plugins are trusted, each as `ed25519:<base64>` or the path of a file that holds it so or as PEM. With them, a module that has a signature beside it (`x.wasm.sig`) is refused when a key that is not listed has signed it, when the module or its manifest was changed since, and when it does or uses more than the manifest says."},
			{Name: "require_signed_plugins", Type: Bool, Default: `false`, Doc: "Whether a module without a signature is refused. The built-in plugins need none."},
			{Name: "queue_when_full", Type: String, Default: `"wait"`, Enum: []string{"wait", "drop_lowest_priority"}, Doc: "When the messages that wait for a remote use up their part of the disk budget: `wait` leaves new ones in the record store until there is room; `drop_lowest_priority` makes room by dropping the oldest of the lowest priority, with a trace that reaches the hub's ledger."},
		},
		Blocks: []Spec{apiSpec()},
		Example: `edge {
  device_id = env("EDGED_DEVICE_ID", hostname())
  data_dir  = "data"
}
`,
	}
}

func remoteSpec(catalog Catalog) Spec {
	return Spec{
		Name:    "remote",
		Summary: "A place that pipelines sync to.",
		Doc:     "A pipeline names it in a `sync` block as `remote.<kind>.<name>`.",
		Named:   true,
		Many:    true,
		Kinds:   kinds(catalog.Remotes),
	}
}

func pluginSpec(catalog Catalog) Spec {
	return Spec{
		Name:    "plugin",
		Summary: "A WebAssembly module that transforms records or resolves conflicts.",
		Doc:     "A pipeline names it in a `transform` block as `plugin.<name>`. The module runs in a sandbox: it reaches nothing of the host, and its memory, time and output are limited.",
		Named:   true,
		Many:    true,
		Args: []Arg{
			{Name: "module", Type: String, Required: true, Check: isModule, Doc: "The path of the `.wasm` file, relative to the folder of this file, or `builtin:<name>` for one that edged ships."},
			{Name: "sha256", Type: String, Check: isSHA256, Doc: "The module's SHA-256 as 64 hexadecimal digits. When given, any other module is refused."},
			{Name: "config", Type: JSON, Doc: "Any constant value, handed to the module as JSON when it starts."},
			{Name: "allow", Type: StringList, Enum: catalog.Capabilities, Doc: "What of the host the module may use: `log` (write to the log), `clock` (the time of its call), `config` (read the device configuration), `kv` (keep keys of its own, stored together with the records), `metric` (counters that `edged status` shows). A module that imports anything else, or what is not listed here, is refused when it is loaded. A plugin that resolves conflicts may be given `log` only."},
		},
		Blocks: []Spec{extismSpec(), {
			Name:    "limits",
			Summary: "What one instance of the module may use.",
			Args: []Arg{
				{Name: "memory", Type: Size, Min: "64KiB", Max: "1GiB", Doc: "Linear memory; 16MiB when it is not given."},
				{Name: "time", Type: Duration, Min: "1ms", Max: "1m", Doc: "Time per call; 50ms when it is not given. A call that takes longer is stopped, and the record it stopped at goes to the dead letters."},
				{Name: "fuel", Type: Int, Min: "1000", Max: "1000000000000", Doc: "The most that one call may use, about one for an instruction; when it is not given, only `time` bounds a call. Unlike time it is the same on every machine: `edged status` shows what is used."},
				{Name: "output", Type: Size, Min: "1KiB", Max: "1GiB", Doc: "Bytes that one call may return; 8MiB when it is not given. A call has up to 64 records."},
				{Name: "record_output", Type: Size, Min: "1KiB", Max: "1GiB", Doc: "Bytes that may come out of one record; 4MiB when it is not given."},
				{Name: "log", Type: Int, Min: "1", Max: "100000", Doc: "Lines that it may log in a second; 100 when it is not given. What is more is counted and left out."},
				{Name: "kv", Type: Size, Min: "1KiB", Max: "256KiB", Doc: "Bytes of the keys and values that it keeps in one pipeline, with 16 for each key; 64KiB when it is not given."},
			},
			Example: `limits {
  memory = "32MiB"
  time   = "50ms"
  kv     = "128KiB"
}
`,
		}},
		Example: `plugin "dew_point" {
  module = "builtin:dew_point"
  config = { temperature = "temperature", humidity = "humidity" }
}
`,
	}
}

func extismSpec() Spec {
	return Spec{
		Name:    "extism",
		Summary: "How a module of the Extism ABI is used.",
		Doc:     "A module that imports from `extism:host/env` runs as a transform as it is, in the same sandbox. Without this block its function `transform` gets the payload.",
		Args: []Arg{
			{Name: "function", Type: String, Default: `"transform"`, Check: NotEmpty, Doc: "The export that is called for every record."},
			{Name: "input", Type: String, Default: `"payload"`, Enum: []string{"payload", "record"}, Doc: "What the function gets, and gives back changed: the `payload`, or the whole `record` as JSON. An array makes several records of one, no output drops the record, a code other than 0 refuses it."},
		},
		Example: `extism {
  function = "count_vowels"
}
`,
	}
}

func pipelineSpec(catalog Catalog) Spec {
	return Spec{
		Name:    "pipeline",
		Summary: "Where records come from, what happens to them, and where they go.",
		Doc:     "Each record passes the transforms in the order of the file, then the alerts. It is stored, and its source acknowledged, before it is synced. Without a `sync` block the records stay on the device.",
		Named:   true,
		Many:    true,
		Args: []Arg{
			{Name: "when_full", Type: String, Default: `"drop_oldest_synced"`, Enum: []string{"wait", "drop_oldest_synced", "drop_oldest"}, Elsewhere: map[string]string{
				"drop_lowest_priority": "Records have no priority; the alert messages that have one share one queue for all pipelines, so the edge block says what goes of them: queue_when_full = \"drop_lowest_priority\".",
			}, Doc: "When the disk budget is used up: `drop_oldest_synced` makes room with records that every remote has, before their `keep` is over, and then tells the sources to wait. `wait` does not shorten `keep`. `drop_oldest` goes on: when no synced record is left it drops the oldest of this pipeline that are not synced, with a trace that reaches the hub's ledger."},
			{Name: "keep", Type: Duration, Min: "0s", Max: "3650d", Doc: "How long the synced records of this pipeline stay, instead of what the `edge` block says."},
			{Name: "keep_bytes", Type: Size, Min: "1MiB", Doc: "How many bytes of synced records of this pipeline stay, instead of what the `edge` block says."},
		},
		Blocks: []Spec{
			{
				Name:     "collect",
				Summary:  "A source of records.",
				Named:    true,
				Many:     true,
				Required: true,
				Unless:   "store",
				Kinds:    kinds(catalog.Collects),
			},
			transformSpec(),
			alertSpec(),
			batchSpec(),
			syncSpec(),
			storeSpec(catalog),
		},
	}
}

func transformSpec() Spec {
	return Spec{
		Name:    "transform",
		Summary: "A plugin that every record passes.",
		Named:   true,
		Many:    true,
		Args: []Arg{
			{Name: "plugin", Type: BlockRef, Refers: "plugin", Required: true, Doc: "The plugin block to run."},
			{Name: "on_error", Type: String, Default: `"dead_letter"`, Enum: []string{"dead_letter", "pass"}, Doc: "What becomes of a record that the plugin fails on: `dead_letter` keeps it with the error among the dead letters, `pass` goes on with the record as it was."},
			{Name: "when_resting", Type: String, Default: `"wait"`, Enum: []string{"wait", "on_error"}, Doc: "What becomes of records that come while the plugin rests. After 10 faults in a row, or more than 50 among the last 100 records, it rests: for a second, then twice as long each time up to a minute; after each rest one record decides. `wait` keeps the pipeline waiting, and its sources with it; `on_error` does with the records as `on_error` says."},
		},
		Example: `transform "dew_point" {
  plugin = plugin.dew_point
}
`,
	}
}

func alertSpec() Spec {
	return Spec{
		Name:    "alert",
		Summary: "A rule that sends a message when a record meets it.",
		Doc:     "Messages are stored together with their record and are synced before the records, by priority. The same record raises the same alert once, however often it is evaluated.",
		Named:   true,
		Many:    true,
		Args: []Arg{
			{Name: "when", Type: Expression, Root: expr.Record, Result: expr.Bool, Required: true, Doc: "True for the records that raise the alert."},
			{Name: "topic", Type: String, Default: `"alerts"`, Check: isRecordName, Doc: "The topic of the message at the hub."},
			{Name: "priority", Type: String, Default: `"normal"`, Enum: priorities(), Doc: "Messages of a higher priority are synced first. While all four wait, of fifteen batches eight are critical, four high, two normal and one low, so that nothing starves."},
			{Name: "message", Type: Expression, Root: expr.Record, Default: `record`, Doc: "The body of the message, any value."},
			{Name: "ttl", Type: Duration, Min: "1s", Max: "3650d", Doc: "How long the message may wait for a remote, by the clock of this device from when it was raised. Later it is of no use any more: it is not sent, and the remote's ledger names it as expired. Without it the message waits for as long as it takes."},
		},
		Example: `alert "high_temperature" {
  when     = record.payload.temperature > 30
  priority = "high"
  message  = { temperature = record.payload.temperature, device_id = record.device_id }
}
`,
	}
}

func batchSpec() Spec {
	return Spec{
		Name:    "batch",
		Summary: "How many records are synced at once.",
		Doc:     "A batch is sent when it has reached one of the bounds.",
		Args: []Arg{
			{Name: "max_records", Type: Int, Default: `500`, Min: "1", Max: "999", Doc: "Records in a batch. A hub commits at most 999 and their ledger entry at once."},
			{Name: "max_bytes", Type: Size, Default: `"1MiB"`, Min: "1KiB", Max: "64MiB", Doc: "Bytes in a batch. One record that is larger goes alone."},
			{Name: "max_wait", Type: Duration, Default: `"1s"`, Min: "1ms", Max: "1h", Doc: "How long the first record of a batch waits for others."},
		},
		Example: `batch {
  max_records = 500
  max_wait    = "5s"
}
`,
	}
}

func syncSpec() Spec {
	return Spec{
		Name:    "sync",
		Summary: "A remote that gets every record of the pipeline.",
		Doc:     "A record is kept on the device until every remote of its pipeline has it durably.",
		Many:    true,
		Args: []Arg{
			{Name: "to", Type: BlockRef, Refers: "remote", Required: true, Doc: "The remote block."},
			{Name: "topics", Type: StringList, Check: isRecordName, Doc: "The topics whose messages this remote gets, of those that the alerts of this pipeline have; `[]` is none of them. Without it the remote gets the messages of every topic. The records go to it in any case."},
			{Name: "every", Type: Duration, Min: "100ms", Max: "7d", Doc: "Sends in rounds that far apart, each with everything that waits: for links that cost money or power. Without it a batch goes as soon as one of its bounds is reached. Messages, and a remote that comes online, never wait for a round."},
		},
		Example: `sync {
  to    = remote.nats.hub
  every = "30s"
}
`,
	}
}

// kinds is never nil, so that a block has its kind label even when the catalog
// offers no kind.
func kinds(specs []Spec) []Spec { return append([]Spec{}, specs...) }

func priorities() []string {
	names := make([]string, len(record.Priorities))
	for i, p := range record.Priorities {
		names[i] = p.String()
	}
	return names
}

// NotEmpty is an [Arg.Check] that refuses the empty string.
func NotEmpty(value string) error {
	if value == "" {
		return errors.New("it must not be empty")
	}
	return nil
}

// isRecordName holds a value to the bounds of a record's names.
func isRecordName(value string) error {
	if n := len(value); n > record.MaxNameBytes {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", n, record.MaxNameBytes)
	}
	return NotEmpty(value)
}

func isModule(value string) error {
	if name, ok := strings.CutPrefix(value, builtinPrefix); ok && !validName.MatchString(name) {
		return errors.New(`a built-in plugin is written like "builtin:dew_point"`)
	}
	return NotEmpty(value)
}

// isPluginKey checks a key that is written out; one in a file is read when the
// edge starts.
func isPluginKey(value string) error {
	if strings.HasPrefix(value, sign.KeyPrefix) {
		_, err := sign.ParsePublicKey([]byte(value))
		return err
	}
	return NotEmpty(value)
}

func isSHA256(value string) error {
	if sum, err := hex.DecodeString(value); err != nil || len(sum) != 32 {
		return errors.New("a SHA-256 is 64 hexadecimal digits, as the commands sha256sum and edged plugin inspect print it")
	}
	return nil
}
