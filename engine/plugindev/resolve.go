package plugindev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// Resolve runs a module over conflicts, as [Transform] does over records.
func Resolve(ctx context.Context, m *Module, conflicts []wasm.Conflict, log *slog.Logger, visit func(*Outcome) error) (*Summary, error) {
	sum := &Summary{Actions: map[string]int{}}
	err := m.With(ctx, testing(log), func(p *wasm.Plugin) error {
		if err := p.CanResolve(); err != nil {
			return err
		}
		var out wasm.ResolveOutput
		for first := 0; first < len(conflicts); first += chunk {
			in := conflicts[first:min(first+chunk, len(conflicts))]
			if err := p.Resolve(ctx, in, &out); err != nil {
				return err
			}
			for i := range in {
				v := &out.Verdicts[i]
				o := &Outcome{
					Number: first + i + 1, ID: in[i].Local.Key, Action: v.Action.String(), Code: v.Code, Reason: v.Reason,
					Fault: newFault(v.Fault), Conflict: &in[i], Body: Settled(&in[i], v),
				}
				if o.Fault != nil {
					o.Reason = ""
				}
				outputs := 0
				if o.Body != nil {
					outputs = 1
				}
				sum.count(o, outputs)
				if err := visit(o); err != nil {
					return err
				}
			}
		}
		sum.finish(p.Stats())
		return nil
	})
	return sum, err
}

// Settled is the value that a verdict leaves; nil: none, or a person decides.
func Settled(c *wasm.Conflict, v *wasm.Verdict) []byte {
	switch {
	case v.Action == wasm.VerdictMerged:
		return v.Payload
	case v.Action == wasm.VerdictLocal && !c.Local.Deleted:
		return c.Local.Body
	case v.Action == wasm.VerdictRemote && !c.Remote.Deleted:
		return c.Remote.Body
	}
	return nil
}

// ParseConflicts reads conflicts, one JSON object a line: "local" and "remote",
// and if they have one "base" and "key". Each version is its value, or an object
// with "body", or "deleted", and any of device, data_type, time, counter, clock,
// revision.
func ParseConflicts(data []byte) ([]wasm.Conflict, error) {
	var conflicts []wasm.Conflict
	n := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		c, err := parseConflict(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		conflicts = append(conflicts, c)
	}
	return conflicts, nil
}

func parseConflict(line []byte) (c wasm.Conflict, err error) {
	key := "key"
	var base, local, remote []byte
	err = record.EachMember(line, func(name, value []byte) (err error) {
		switch string(name) {
		case "key":
			key, err = record.Unquote(value)
		case "base":
			base = value
		case "local":
			local = value
		case "remote":
			remote = value
		default:
			err = fmt.Errorf("unknown member %q; a conflict has key, base, local, remote", name)
		}
		return err
	})
	switch {
	case err != nil:
		return c, err
	case local == nil || remote == nil:
		return c, fmt.Errorf(`"local" and "remote" are both needed; a version that was deleted is {"deleted":true}`)
	}
	if c.Local, err = parseVersion(key, local, "edge"); err != nil {
		return c, fmt.Errorf("local: %w", err)
	}
	if c.Remote, err = parseVersion(key, remote, "hub"); err != nil {
		return c, fmt.Errorf("remote: %w", err)
	}
	if base != nil && string(base) != "null" {
		v, err := parseVersion(key, base, "hub")
		if err != nil {
			return c, fmt.Errorf("base: %w", err)
		}
		c.Base = &v
	}
	return c, nil
}

// versionJSON is a version with what belongs to it.
type versionJSON struct {
	Device   string          `json:"device,omitempty"`
	DataType string          `json:"data_type,omitempty"`
	Time     *time.Time      `json:"time,omitempty"`
	Counter  uint64          `json:"counter,omitempty"`
	Clock    string          `json:"clock,omitempty"`
	Revision uint64          `json:"revision,omitempty"`
	Deleted  bool            `json:"deleted,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
}

func parseVersion(key string, value []byte, device string) (v wasm.Version, err error) {
	v = wasm.Version{Key: key, Device: device, DataType: "value", Body: value}
	if !versionForm(value) {
		return v, nil
	}
	var j versionJSON
	if err := json.Unmarshal(value, &j); err != nil {
		return v, err
	}
	if j.Device != "" {
		v.Device = j.Device
	}
	if j.DataType != "" {
		v.DataType = j.DataType
	}
	if j.Time != nil {
		v.WallNS = j.Time.UnixNano()
	}
	switch j.Clock {
	case "", "synced":
	case "floor":
		v.ClockQuality = wasm.ClockFloor
	case "unknown":
		v.ClockQuality = wasm.ClockUnknown
	default:
		return v, fmt.Errorf("clock is %q; it is synced, floor or unknown", j.Clock)
	}
	v.Counter, v.Revision, v.Deleted, v.Body = j.Counter, j.Revision, j.Deleted, j.Body
	if v.Deleted == (len(v.Body) > 0) {
		return v, fmt.Errorf(`either a "body", or "deleted":true`)
	}
	return v, nil
}

// versionForm reports whether value is an object with a body or deleted, and
// nothing that a version does not have.
func versionForm(value []byte) bool {
	if !isObject(value) {
		return false
	}
	says := false
	_, names := members(value)
	for _, name := range names {
		switch name {
		case "body", "deleted":
			says = true
		case "device", "data_type", "time", "counter", "clock", "revision":
		default:
			return false
		}
	}
	return says
}

// AppendConflict appends a conflict as [ParseConflicts] reads it.
func AppendConflict(dst []byte, c *wasm.Conflict) []byte {
	dst = append(dst, `{"key":`...)
	dst = record.AppendString(dst, c.Local.Key)
	if c.Base != nil {
		dst = appendVersion(append(dst, `,"base":`...), c.Base)
	}
	dst = appendVersion(append(dst, `,"local":`...), &c.Local)
	dst = appendVersion(append(dst, `,"remote":`...), &c.Remote)
	return append(dst, '}')
}

func appendVersion(dst []byte, v *wasm.Version) []byte {
	at := time.Unix(0, v.WallNS).UTC()
	j := versionJSON{Device: v.Device, DataType: v.DataType, Counter: v.Counter, Revision: v.Revision, Deleted: v.Deleted, Time: &at}
	if v.ClockQuality != wasm.ClockSynced {
		j.Clock = v.ClockQuality.String()
	}
	head, err := json.Marshal(j)
	if err != nil {
		panic("plugindev: a version that is no JSON: " + err.Error())
	}
	if v.Deleted {
		return append(dst, head...)
	}
	// The body goes in as it is written: json would reject or change nothing of
	// it but white space and <, > and &.
	dst = append(append(dst, head[:len(head)-1]...), `,"body":`...)
	return append(append(dst, v.Body...), '}')
}
