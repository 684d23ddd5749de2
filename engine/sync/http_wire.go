package sync

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/store"
)

// Headers that tell the API who sends.
const (
	HeaderEdge           = "Edged-Edge"     // device id, as a subject token
	HeaderPipeline       = "Edged-Pipeline" // likewise
	HeaderIdempotencyKey = "Idempotency-Key"
)

// Paths of the API, below the remote's url.
const (
	HTTPBatchPath   = "/api/ingest/batch"
	HTTPMessagePath = "/api/messages/" // and the topic
	HTTPHealthPath  = "/health"
)

const (
	maxAnswer     = 4 << 20 // bytes of an answer that are read
	maxReason     = 500     // bytes of a reason that are kept
	compressAbove = 1 << 10 // a smaller body is not worth it
)

// batchBody returns the body that carries these records.
func batchBody(entries []store.Stored) []byte {
	size := len(`{"records":[]}`)
	for i := range entries {
		size += len(entries[i].Data) + 1
	}
	body := append(make([]byte, 0, size), `{"records":[`...)
	for i := range entries {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, entries[i].Data...)
	}
	return append(body, "]}"...)
}

// compressor keeps its encoders, which cost more to make than to use. Its
// method may be called from any goroutine.
type compressor struct {
	mu   sync.Mutex
	gzip *gzip.Writer
	zstd *zstd.Encoder
}

// compress returns body in that content encoding, in memory of its own: a
// request may read it after it has failed.
func (c *compressor) compress(encoding string, body []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch encoding {
	case "gzip":
		var out bytes.Buffer
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(&out)
		}
		c.gzip.Reset(&out)
		if _, err := c.gzip.Write(body); err != nil {
			return nil, err
		}
		if err := c.gzip.Close(); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	case "zstd":
		if c.zstd == nil {
			var err error
			if c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
				return nil, err
			}
		}
		return c.zstd.EncodeAll(body, nil), nil
	}
	return body, nil
}

// idempotencyKey names one request for ever: what is sent, from where, and how
// often it was answered for before.
func idempotencyKey(edge string, f *Feed, e *LedgerEntry, round int) string {
	h := sha256.New()
	for _, s := range []string{edge, f.String(), e.Epoch, formatNumber(e.First), formatNumber(e.Last), e.Hash, strconv.Itoa(round)} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}

// parseFailures reads the answer to a batch: the ids that were not taken, each
// with the reason if the API gives one. explicit says that the answer speaks of
// failures at all.
func parseFailures(body []byte) (failed map[string]string, explicit bool, err error) {
	if err := record.ValidObject(body); err != nil {
		return nil, false, fmt.Errorf("the answer is not what the API promises: %w", err)
	}
	var answer struct {
		IDs    *[]string `json:"failed_ids"`
		Failed *[]struct {
			ID    *string `json:"id"`
			Error string  `json:"error"`
		} `json:"failed"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, false, fmt.Errorf("the answer is not what the API promises: %w", err)
	}
	failed = map[string]string{}
	if answer.IDs != nil {
		for _, id := range *answer.IDs {
			failed[id] = "the API lists it as failed"
		}
	}
	if answer.Failed != nil {
		for _, f := range *answer.Failed {
			if f.ID == nil {
				return nil, false, errors.New("the answer names a failed record without its id")
			}
			failed[*f.ID] = "the API lists it as failed"
			if f.Error != "" {
				failed[*f.ID] = shorten(f.Error)
			}
		}
	}
	return failed, answer.IDs != nil || answer.Failed != nil, nil
}

// failures says which entries the answer names, by index. An answer that names
// any other id is not believed.
func failures(entries []store.Stored, failed map[string]string) (map[int]string, error) {
	byIndex := map[int]string{}
	if len(failed) == 0 {
		return byIndex, nil
	}
	known := map[string]bool{}
	for i := range entries {
		r, err := record.Parse(entries[i].Data)
		if err != nil {
			continue // it has no id that the API could name
		}
		if why, ok := failed[r.ID]; ok {
			byIndex[i], known[r.ID] = why, true
		}
	}
	for id := range failed {
		if !known[id] {
			return nil, fmt.Errorf("the answer names the failed id %q, which was not sent", shorten(id))
		}
	}
	return byIndex, nil
}

// reasonOf returns what an error answer says, for a person.
func reasonOf(body []byte) string {
	var answer struct {
		Error   any    `json:"error"`
		Message string `json:"message"`
	}
	text := string(body)
	if json.Unmarshal(body, &answer) == nil {
		if s, ok := answer.Error.(string); ok && s != "" {
			text = s
		} else if answer.Message != "" {
			text = answer.Message
		}
	}
	return shorten(strings.Join(strings.Fields(text), " "))
}

// shorten makes foreign text fit to be kept and shown.
func shorten(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// retryAfter reads the header Retry-After: seconds, or a date, which is taken
// relative to the API's own Date if it gives one. It returns 0 when there is
// none, and at most most.
func retryAfter(h http.Header, now time.Time, most time.Duration) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		if seconds > uint64(most/time.Second) {
			return most
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), most)
}

// topicSegment returns a topic as one segment of a path. Dots are escaped when
// nothing else stands there, or the segment would mean another path.
func topicSegment(topic string) string {
	if strings.Trim(topic, ".") == "" {
		return strings.ReplaceAll(topic, ".", "%2E")
	}
	return url.PathEscape(topic)
}
