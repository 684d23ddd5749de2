package sync

import (
	"net/http"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// FuzzAnswer holds that an answer counts for a record only if it names exactly
// records that were sent, and that what is kept of foreign text is harmless.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"failed_ids":[]}`, `{"failed_ids":["a"]}`, `{"failed_ids":["a","zz"]}`, `{"failed":[{"id":"b","error":"x"}]}`,
		`{"failed":[{}]}`, `{"failed":null,"failed_ids":null}`, `[]`, ``, `<html>`, `{"failed_ids":"a"}`, `{"error":"no\n\u0000"}`,
	} {
		f.Add([]byte(body))
	}
	entries := []store.Stored{
		{Number: 1, Data: []byte(`{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-11-22T06:15:00Z","payload":{}}`)},
		{Number: 2, Data: []byte(`{"id":"b","device_id":"d","data_type":"t","timestamp":"2026-11-22T06:15:00Z","payload":{}}`)},
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if reason := reasonOf(body); len(reason) > 3*maxReason+3 {
			t.Fatalf("a reason of %d bytes", len(reason))
		}
		failed, explicit, err := parseFailures(body)
		if err != nil {
			return
		}
		if err := record.ValidObject(body); err != nil {
			t.Fatalf("%q was believed: %v", body, err)
		}
		if len(failed) > 0 && !explicit {
			t.Fatalf("%q names failures and does not", body)
		}
		byIndex, err := failures(entries, failed)
		if err == nil && len(byIndex) != len(failed) {
			t.Fatalf("%q names %d failures, %d were found", body, len(failed), len(byIndex))
		}
	})
}

func TestTopicSegment(t *testing.T) {
	for topic, want := range map[string]string{
		"alerts": "alerts", ".": "%2E", "..": "%2E%2E", "...": "%2E%2E%2E", "a.b": "a.b", "a/b": "a%2Fb", "%": "%25", "": "",
	} {
		if got := topicSegment(topic); got != want {
			t.Errorf("%q becomes %q, want %q", topic, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("17", "")
	f.Add("Sun, 22 Nov 2026 07:00:30 GMT", "Sun, 22 Nov 2026 07:00:00 GMT")
	f.Add("-1", "x")
	f.Add("99999999999999999999", "")
	f.Fuzz(func(t *testing.T, after, date string) {
		h := http.Header{"Retry-After": {after}, "Date": {date}}
		if got := retryAfter(h, time.Unix(0, 0), time.Minute); got < 0 || got > time.Minute {
			t.Errorf("%q, %q: %s", after, date, got)
		}
	})
}
