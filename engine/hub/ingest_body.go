package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/sync"
)

// readBody reads a JSON body, compressed or not, within its bounds.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if kind := r.Header.Get("Content-Type"); kind != "" {
		media, _, err := mime.ParseMediaType(kind)
		if err != nil || media != "application/json" {
			return nil, refuse(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxIngestBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", maxIngestBody)
	}
	if err != nil {
		return nil, refuse(http.StatusRequestTimeout, "the body did not arrive")
	}
	return decompress(r.Header.Get("Content-Encoding"), body, maxIngestPlain)
}

// decompress undoes a content encoding and never yields more than most bytes.
func decompress(encoding string, body []byte, most int) ([]byte, error) {
	var plain io.Reader
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body is not gzip: %v", err)
		}
		plain = z
	case "zstd":
		// One goroutine, and no window larger than what may come out.
		z, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(most)), zstd.WithDecoderMaxMemory(uint64(most)))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body is not zstd: %v", err)
		}
		defer z.Close()
		plain = z
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "the Content-Encoding must be gzip, zstd or none")
	}
	out, err := io.ReadAll(io.LimitReader(plain, int64(most)+1))
	if len(out) > most || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes when decompressed", most)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not what its Content-Encoding says: %v", err)
	}
	return out, nil
}

// failure is one record that is not valid.
type failure struct {
	Index int    `json:"index"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

// readBatch turns {"records":[…]} into what is to be stored. Records that are
// not valid are told in the answer; the others are taken.
func readBatch(from sender, body []byte) (*delivery, error) {
	raws, err := splitBatch(body)
	if err != nil {
		return nil, err
	}
	d := &delivery{stream: sync.HubRecordStream, ledger: sync.HubLedgerHTTP + ".records.", status: http.StatusOK}
	prefix := sync.HubRecordSubject + "." + record.Token(from.edge) + "." + record.Token(from.pipeline) + "."
	failed := []failure{}
	for i, raw := range raws {
		r, err := record.Parse(raw)
		if err == nil {
			err = fits(prefix, &r)
		}
		if err != nil {
			failed = append(failed, failure{Index: i, ID: idOf(raw), Error: err.Error()})
			continue
		}
		d.add(prefix+record.Token(r.DataType)+"."+record.Token(r.DeviceID), r.AppendJSON(nil))
	}
	ids := make([]string, len(failed))
	for i := range failed {
		ids[i] = failed[i].ID
	}
	if len(failed) > 0 {
		d.status = http.StatusMultiStatus
	}
	d.answer, err = json.Marshal(struct {
		Stored int       `json:"stored"`
		IDs    []string  `json:"failed_ids"`
		Failed []failure `json:"failed,omitempty"`
	}{len(d.messages), ids, failed})
	if err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	return d, nil
}

// splitBatch returns the raw records of a body.
func splitBatch(body []byte) ([][]byte, error) {
	var list []byte
	seen := 0
	err := record.EachMember(body, func(key, value []byte) error {
		if string(key) == "records" {
			list = value
			seen++
		}
		return nil
	})
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not a JSON object: %v", err)
	}
	if seen != 1 || list[0] != '[' {
		return nil, refuse(http.StatusBadRequest, `the body must be {"records":[…]}`)
	}
	var raws [][]byte
	for i := record.SkipSpace(list, 1); list[i] != ']'; {
		end, err := record.SkipValue(list, i)
		if err != nil { // not after EachMember has checked it
			return nil, refuse(http.StatusBadRequest, "%v", err)
		}
		if len(raws) == MaxIngestRecords {
			return nil, refuse(http.StatusRequestEntityTooLarge, "more than %d records", MaxIngestRecords)
		}
		raws = append(raws, list[i:end])
		if i = record.SkipSpace(list, end); list[i] == ',' {
			i = record.SkipSpace(list, i+1)
		}
	}
	return raws, nil
}

// fits reports names that are too long for a subject together.
func fits(prefix string, r *record.Record) error {
	if len(prefix)+3*(len(r.DataType)+len(r.DeviceID)) < maxSubjectBytes { // whatever they are
		return nil
	}
	if len(prefix)+len(record.Token(r.DataType))+len(record.Token(r.DeviceID)) > maxSubjectBytes {
		return fmt.Errorf("%w: data_type and device_id are too long together", record.ErrInvalid)
	}
	return nil
}

// idOf returns the id of something that is no valid record, if it has one.
func idOf(raw []byte) string {
	id := ""
	// An error means that there is no more to be found.
	_ = record.EachMember(raw, func(key, value []byte) error {
		if s, err := record.Unquote(value); err == nil && string(key) == "id" && len(s) <= maxNameBytes {
			id = s
		}
		return nil
	})
	return id
}

// readMessage turns the wire form of a message into what is to be stored.
func readMessage(from sender, topic string, body []byte) (*delivery, error) {
	if err := record.ValidObject(body); err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not a message: %v", err)
	}
	m := record.Message{Priority: record.Normal} // unless it says otherwise
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "the body is not a message: %v", err)
	}
	switch {
	case m.ID == "" || len(m.ID) > maxNameBytes:
		return nil, refuse(http.StatusUnprocessableEntity, "the message's id is empty or longer than %d bytes", maxNameBytes)
	case m.Topic != topic:
		return nil, refuse(http.StatusUnprocessableEntity, "the message's topic is not the one of the address")
	case len(m.Body) == 0:
		return nil, refuse(http.StatusUnprocessableEntity, "the message has no body")
	case len(body) > record.MaxPayloadBytes:
		return nil, refuse(http.StatusRequestEntityTooLarge, "the message is longer than %d bytes", record.MaxPayloadBytes)
	}
	subject := sync.HubQueueSubject + "." + record.Token(from.edge) + "." + m.Priority.String() + "." + record.Token(topic)
	if len(subject) > maxSubjectBytes {
		return nil, refuse(http.StatusUnprocessableEntity, "the names of edge and topic are too long together")
	}
	d := &delivery{stream: sync.HubQueueStream, ledger: sync.HubLedgerHTTP + ".queue.", status: http.StatusCreated}
	d.id = m.ID
	d.add(subject, body)
	d.answer = append(record.AppendString([]byte(`{"stored":1,"id":`), m.ID), '}')
	return d, nil
}
