// This file is the shape of what an edge tells of itself; report.go fills it.

package engine

import (
	"time"

	"github.com/edged/edged/engine/alert"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/store"
	"github.com/edged/edged/engine/sync"
)

// Counts are what has happened since the data directory was made. They are
// exact across restarts and kills: they are committed together with the
// records they count.
type Counts struct {
	Collected     uint64 `json:"collected"`
	Transformed   uint64 `json:"transformed"`
	Stored        uint64 `json:"stored"`
	Messages      uint64 `json:"messages"`
	DeadLetters   uint64 `json:"dead_letters"`
	SyncedRecords uint64 `json:"synced_records"`
	// SyncedMessages counts messages that a remote has acknowledged.
	SyncedMessages uint64 `json:"synced_messages"`
	// Dropped counts records that a transform ended on purpose.
	Dropped uint64 `json:"dropped"`
	// Discarded counts records that were stored and then dropped for want of
	// room before they were synced (when_full = "drop_oldest").
	Discarded uint64 `json:"discarded"`
	// Expired counts messages that were not sent to a remote because their time to
	// live was over, once for each remote that was to have them.
	Expired uint64 `json:"expired"`
}

// Status is an edge at one moment. One that does not run knows no remotes'
// states, no sources and no plugins; its DeviceID and Version are empty.
type Status struct {
	Running  bool          `json:"running"`
	DeviceID string        `json:"device_id"`
	DataDir  string        `json:"data_dir"`
	Version  string        `json:"version"`
	Started  time.Time     `json:"started"`
	Time     time.Time     `json:"time"`
	Totals   Counts        `json:"totals"`
	ThisRun  Counts        `json:"this_run"`
	Waiting  uint64        `json:"waiting"` // records and messages not yet synced
	Queue    QueueStatus   `json:"queue"`
	Storage  StorageStatus `json:"storage"`
	// DeadLetters are counted for all pipelines together.
	DeadLetters DeadLettersStatus `json:"dead_letters"`
	Pipelines   []PipelineStatus  `json:"pipelines"`
	Remotes     []RemoteStatus    `json:"remotes"`
	Plugins     []PluginStatus    `json:"plugins"`
	// Reload tells of the newest reload of the configuration; nil: there was none.
	Reload *ReloadStatus `json:"reload,omitempty"`
}

// QueueStatus tells how many messages wait, by priority name.
type QueueStatus struct {
	Waiting    uint64            `json:"waiting"`
	ByPriority map[string]uint64 `json:"by_priority"`
}

// StorageStatus tells what the local streams hold, in bytes.
type StorageStatus struct {
	Bytes    uint64 `json:"bytes"`
	MaxBytes uint64 `json:"max_bytes"`
	Full     bool   `json:"full"`
	// Trouble says why the disk takes no new records; empty: it does.
	Trouble string `json:"trouble,omitempty"`
}

// PipelineStatus is one pipeline at one moment.
type PipelineStatus struct {
	Name string `json:"name"`
	// Removed says that it is configured no more, and that something of it is kept.
	Removed bool       `json:"removed,omitempty"`
	Totals  Counts     `json:"totals"`
	Waiting uint64     `json:"waiting"` // records not yet synced to every remote
	Kept    KeptStatus `json:"kept"`
	// Released are the newest records that were given up on request.
	Released []store.Release `json:"released,omitempty"`
	Sources  []SourceStatus  `json:"sources"`
	Syncs    []SyncStatus    `json:"syncs"`
	Alerts   []alert.Stat    `json:"alerts"`
	Keyed    *KeyedStatus    `json:"keyed,omitempty"`
}

// KeyedStatus is how the keyed records of a pipeline are.
type KeyedStatus struct {
	keyed.Status
	// CaughtUp: everything was seen that was at the hub when the connection came
	// up; nil: the pipeline syncs to none.
	CaughtUp  *bool  `json:"caught_up,omitempty"`
	LastError string `json:"last_error,omitempty"`
}

// SourceStatus is one collect block.
type SourceStatus struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	State string `json:"state"` // running, ended, failed
	Error string `json:"error,omitempty"`
}

// SyncStatus is one pipeline's way to one remote. It is kept across restarts, and
// told before the remote is reached.
type SyncStatus struct {
	Remote        string `json:"remote"`
	Status        string `json:"status"` // synced, waiting, failing
	SyncedRecords uint64 `json:"synced_records"`
	// FailedRecords counts those that the remote does not take; they are dead
	// letters.
	FailedRecords uint64    `json:"failed_records"`
	Waiting       uint64    `json:"waiting"`
	LastSync      time.Time `json:"last_sync,omitzero"`
	LastError     string    `json:"last_error,omitempty"`
	WaitingSince
	// HubLost are numbers that the remote had acknowledged and then lost, by a
	// restored backup or a stream made anew, and that this edge no longer kept.
	HubLost [][2]uint64 `json:"hub_lost,omitempty"`
}

// RemoteStatus is one remote's connection.
type RemoteStatus struct {
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // online, degraded, offline
	Since     time.Time `json:"since"`
	LastError string    `json:"last_error,omitempty"`
	sync.MonitorStats
}

// PluginStatus is one loaded plugin. A plugin that several pipelines use is
// loaded by each for itself. Its numbers are since it was loaded.
type PluginStatus struct {
	Name     string `json:"name"`
	Pipeline string `json:"pipeline,omitempty"` // empty: no transform uses it
	SHA256   string `json:"sha256"`
	SignedBy string `json:"signed_by,omitempty"` // the trusted key
	Version  string `json:"version,omitempty"`   // as the module says

	Records   uint64 `json:"records"`   // given to it
	Conflicts uint64 `json:"conflicts"` // likewise
	Faults    uint64 `json:"faults"`    // records or conflicts it failed on
	Refused   uint64 `json:"refused"`   // it answered with an error
	Dropped   uint64 `json:"dropped"`   // it ended on purpose
	NotAsked  uint64 `json:"not_asked"` // came while it rested; with when_resting = "wait" they are given to it later
	// FaultsByKind has the kinds of sdk/abi.md.
	FaultsByKind map[string]uint64 `json:"faults_by_kind,omitempty"`
	LastFault    string            `json:"last_fault,omitempty"`

	Calls     uint64 `json:"calls"`
	Replays   uint64 `json:"replays"` // calls that were tried again record by record
	Fuel      uint64 `json:"fuel"`    // about one for an instruction
	Instances uint64 `json:"instances"`
	// Breaker is "closed": it works; "open": it rests after too many faults, until
	// RestsUntil; "trial": the next record decides.
	Breaker    string    `json:"breaker"`
	RestsUntil time.Time `json:"rests_until,omitzero"`
	Rests      uint64    `json:"rests"` // how often it has
	// LogLinesDropped counts lines past its limits.
	LogLinesDropped uint64             `json:"log_lines_dropped"`
	Metrics         map[string]float64 `json:"metrics,omitempty"` // its own
}

// Summary is what `edged run` prints at its end.
type Summary struct {
	Counts
	Waiting        uint64  `json:"waiting"`
	Gaps           uint64  `json:"gaps"`       // records acknowledged here and missing at a hub
	Duplicates     uint64  `json:"duplicates"` // records at a hub more than once
	ElapsedSeconds float64 `json:"elapsed_seconds"`
	ThisRun        Counts  `json:"this_run"`
	// Audited is false when a hub could not be asked or no remote has a ledger;
	// Gaps and Duplicates then say nothing.
	Audited bool `json:"audited"`
	// NotAudited is why a hub could not be asked.
	NotAudited string `json:"not_audited,omitempty"`
	// NoLedger says that some remote keeps no ledger, so that the audit says
	// nothing of it.
	NoLedger bool `json:"no_ledger,omitempty"`
}

// Audit is the comparison of edge and hub ledgers.
type Audit struct {
	Pipelines  []AuditPipeline `json:"pipelines"`
	Gaps       uint64          `json:"gaps"`
	Duplicates uint64          `json:"duplicates"`
	Damaged    uint64          `json:"damaged"`
	Waiting    uint64          `json:"waiting"`
}

// Loss is a range of numbers that an edge's own store has lost, and why.
type Loss = store.Loss

// AuditPipeline compares one pipeline, or one priority of the queue, at one
// remote. Ranges are record numbers, first and last.
type AuditPipeline struct {
	Pipeline   string      `json:"pipeline"` // or "queue/<priority>"
	Remote     string      `json:"remote"`
	Epoch      string      `json:"epoch"`
	Stored     uint64      `json:"stored"`    // highest number at the edge
	Synced     uint64      `json:"synced"`    // highest number in the hub's ledger
	AtHub      uint64      `json:"at_hub"`    // found in the hub's stream
	Expired    uint64      `json:"expired"`   // removed by the hub's own limits
	Discarded  [][2]uint64 `json:"discarded"` // dropped by policy for want of room
	PastTTL    [][2]uint64 `json:"past_ttl"`  // messages not sent because their time to live was over
	Gaps       [][2]uint64 `json:"gaps"`
	Duplicates [][2]uint64 `json:"duplicates"`
	Damaged    [][2]uint64 `json:"damaged"` // there, with other content than was sent
	// HubLost are those of the gaps that the hub had acknowledged and then lost, by
	// a restored backup or a stream made anew, and that the edge no longer kept.
	HubLost [][2]uint64 `json:"hub_lost"`
	// Lost are numbers that this edge knows its own store has lost, with the cause,
	// the newest 64 ranges. Those that were lost before they were synced are gaps.
	Lost []Loss `json:"lost"`
	// NoLedger says that the remote keeps no ledger to compare with, as an HTTP
	// API: Synced is what it has acknowledged, the other numbers say nothing.
	NoLedger bool   `json:"no_ledger,omitempty"`
	Error    string `json:"error,omitempty"`
}
