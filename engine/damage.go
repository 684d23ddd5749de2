package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/queue"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// quarantineDir is where damaged files of the store are set aside.
func quarantineDir(dataDir string) string { return filepath.Join(dataDir, "quarantine") }

// settleDamage finds out which numbers were lost with what the broker has set
// aside, and notes them: in their lanes, from where they reach the hub's ledger
// and the audit, in the log, as dead letters, and in the report (I7). A report
// that was not settled before a kill is settled at the next start.
func (e *Engine) settleDamage(ctx context.Context) error {
	all, err := broker.ReadQuarantine(quarantineDir(e.dataDir))
	if err != nil {
		return fmt.Errorf("looking through the quarantine: %w", err)
	}
	byStream := map[string][]*broker.Damage{}
	for i := range all {
		if d := &all[i]; !d.Settled {
			byStream[d.Stream] = append(byStream[d.Stream], d)
		}
	}
	logs := map[string]*store.Log{recordStream: e.records, queue.Stream: e.queue.Log()}
	names := map[string]string{recordStream: "records/", queue.Stream: "queue/"}
	for stream, damages := range byStream {
		if log := logs[stream]; log != nil {
			if err := e.noteLost(ctx, log, names[stream], damages); err != nil {
				return fmt.Errorf("settling damage of %s: %w", stream, err)
			}
		}
		for _, d := range damages {
			// Single dead letters may be missing for good reasons, and of the state
			// there are no numbers: what is known is in the report.
			d.Settled = true
			if err := d.Save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteLost attributes what a log misses to damage.
func (e *Engine) noteLost(ctx context.Context, log *store.Log, prefix string, damages []*broker.Damage) error {
	missing, err := log.Missing(ctx)
	if err != nil {
		return err
	}
	for _, m := range missing {
		if m.Head { // what every remote has may have been purged
			m.First = max(m.First, e.lowestSynced(prefix+m.Lane)+1)
		}
		d := causeOf(m, damages)
		if d == nil || m.First > m.Last {
			continue
		}
		lane, err := log.Lane(ctx, m.Lane)
		if err != nil {
			return err
		}
		d.Lost = append(d.Lost, broker.LostNumbers{Lane: prefix + m.Lane, First: m.First, Last: m.Last})
		cause := fmt.Sprintf("damage (%s), see quarantine/%s", d.Reason, filepath.Base(d.Report))
		e.log.Error("acknowledged records were lost to damage", "lane", prefix+m.Lane, "first", m.First, "last", m.Last, "cause", cause)
		if err := e.reportLoss(ctx, prefix+m.Lane, lane, m.First, m.Last, cause); err != nil {
			return err
		}
		era, _ := lane.EraOf(m.First)
		if err := lane.NoteLost(ctx, store.Loss{Epoch: era.Epoch, First: m.First, Last: m.Last, Cause: cause}); err != nil {
			return err
		}
	}
	return nil
}

// causeOf finds the damage in which missing numbers stood.
func causeOf(m store.Missing, damages []*broker.Damage) *broker.Damage {
	for _, d := range damages {
		if d.After < m.Before && (d.Before == 0 || d.Before > m.After) {
			return d
		}
	}
	return nil
}

// lowestSynced returns the number up to which every remote that is known to have
// any of a lane, named as in "records/<pipeline>", has it.
func (e *Engine) lowestSynced(name string) uint64 {
	kind, lane, _ := strings.Cut(name, "/")
	e.state.mu.Lock()
	defer e.state.mu.Unlock()
	lowest, found := uint64(0), false
	for key, p := range e.state.saved {
		if strings.HasSuffix(key, "."+kind+"."+record.Token(lane)) && (!found || p.Last < lowest) {
			lowest, found = p.Last, true
		}
	}
	return lowest
}

// reportLoss leaves a dead letter about numbers of a lane that are lost.
func (e *Engine) reportLoss(ctx context.Context, name string, lane *store.Lane, first, last uint64, cause string) error {
	text := fmt.Sprintf("lost from the local store: %s %d to %d", name, first, last)
	sum := sha256.Sum256([]byte(epochOf(lane) + text))
	letter := record.DeadLetter{
		ID: hex.EncodeToString(sum[:16]), Pipeline: lane.Name(), Stage: "store", Error: text, Time: e.now().UTC(), Raw: []byte{},
	}
	if cause != "" {
		letter.Detail = map[string]string{"cause": cause}
	}
	if err := e.queue.Bury(ctx, letter); err != nil {
		return errors.Join(errors.New("reporting a loss"), err)
	}
	return nil
}
