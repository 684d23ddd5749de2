package batch_test

import (
	"testing"
	"time"

	"github.com/edged/edged/engine/batch"
)

func TestDue(t *testing.T) {
	p := batch.Policy{MaxRecords: 10, MaxBytes: 1000, MaxWait: time.Second}
	for name, tc := range map[string]struct {
		records, bytes int
		age            time.Duration
		due            bool
		wait           time.Duration
	}{
		"nothing waits, however long":  {0, 0, time.Hour, false, time.Second},
		"some, just seen":              {1, 10, 0, false, time.Second},
		"some, seen a while ago":       {1, 10, 400 * time.Millisecond, false, 600 * time.Millisecond},
		"the oldest has waited enough": {1, 10, time.Second, true, 0},
		"enough records":               {10, 10, 0, true, 0},
		"enough bytes":                 {1, 1000, 0, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if due, wait := p.Due(tc.records, tc.bytes, tc.age); due != tc.due || wait != tc.wait {
				t.Errorf("Due(%d, %d, %s) = %t, %s, want %t, %s", tc.records, tc.bytes, tc.age, due, wait, tc.due, tc.wait)
			}
		})
	}
}
