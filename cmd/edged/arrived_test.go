package main

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What the real readings come to.
const (
	allRecords  = 18760
	allMessages = 979
)

const readingsFile = repository + "/pipelines/data/sensors-multi-hop.csv"

// reading is one line of the file, read without any part of edged.
type reading struct {
	id, device            string
	temperature, humidity float64
}

// readings returns the file's lines by device, in order.
func readings(t *testing.T) map[string][]reading {
	t.Helper()
	f, err := os.Open(filepath.FromSlash(readingsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	byDevice, n := map[string][]reading{}, 0
	for _, row := range rows[1:] { // reading, mote_id, indoor, humidity, temperature, label
		device := "mote-" + row[1]
		byDevice[device] = append(byDevice[device], reading{
			id: device + "-" + row[0], device: device, humidity: number(row[3]), temperature: number(row[4]),
		})
		n++
	}
	if n != allRecords {
		t.Fatalf("the file has %d readings, want %d", n, allRecords)
	}
	return byDevice
}

// dewPoint is the Magnus formula with the constants of Alduchov and Eskridge.
func dewPoint(temperature, humidity float64) float64 {
	const a, b = 17.625, 243.04
	gamma := math.Log(humidity/100) + a*temperature/(b+temperature)
	return b * gamma / (a - gamma)
}

// readHub reads every message below subject of a hub's stream, in order, with
// nothing but the NATS client.
func readHub(t *testing.T, url, stream, subject string) [][]byte {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := consumer.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.NumPending == 0 {
		return nil
	}
	msgs, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer msgs.Stop()
	var out [][]byte
	for {
		msg, err := msgs.Next(jetstream.NextContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if out = append(out, msg.Data()); meta.NumPending == 0 {
			return out
		}
	}
}

// checkArrived holds that the hub has every reading once, each device's in
// order, with its dew point, and every message once (I2, I4).
func checkArrived(t *testing.T, url string) {
	t.Helper()
	type arrived struct {
		ID       string `json:"id"`
		DeviceID string `json:"device_id"`
		Payload  struct {
			Temperature float64  `json:"temperature"`
			DewPoint    *float64 `json:"dew_point"`
		} `json:"payload"`
	}
	want, got, wrong := readings(t), map[string][]string{}, 0
	for _, data := range readHub(t, url, "EDGED_RECORDS", "edged.hub.records.>") {
		var r arrived
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		at := len(got[r.DeviceID])
		got[r.DeviceID] = append(got[r.DeviceID], r.ID)
		if at >= len(want[r.DeviceID]) {
			continue // one too many: the comparison below shows it
		}
		if w := want[r.DeviceID][at]; w.id == r.ID && wrong < 5 &&
			(r.Payload.DewPoint == nil || r.Payload.Temperature != w.temperature ||
				math.Abs(*r.Payload.DewPoint-dewPoint(w.temperature, w.humidity)) > 0.0051) {
			wrong++
			t.Errorf("%s arrived as %s, want the dew point %.3f", r.ID, data, dewPoint(w.temperature, w.humidity))
		}
	}
	ids, hot := map[string][]string{}, 0
	for device, list := range want {
		for _, r := range list {
			ids[device] = append(ids[device], r.id)
			if r.temperature > 30 {
				hot++
			}
		}
	}
	if hot != allMessages {
		t.Fatalf("the file has %d readings above 30 degrees, want %d", hot, allMessages)
	}
	for device, list := range ids {
		checkOrder(t, device, list, got[device])
	}
	if len(got) != len(ids) {
		t.Errorf("records of %d devices arrived, want %d", len(got), len(ids))
	}
	checkMessages(t, url)
}

// checkOrder reports where two lists part, without printing thousands of ids.
func checkOrder(t *testing.T, device string, want, got []string) {
	t.Helper()
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	if at < max(len(want), len(got)) {
		t.Errorf("%s: %d records arrived, want %d; from place %d on (-want +got):\n%s", device, len(got), len(want), at,
			cmp.Diff(want[at:min(at+5, len(want))], got[at:min(at+5, len(got))]))
	}
}

func checkMessages(t *testing.T, url string) {
	t.Helper()
	ids, sources := map[string]int{}, map[string]int{}
	for _, data := range readHub(t, url, "EDGED_QUEUE", "edged.hub.queue.>") {
		var m struct {
			ID   string `json:"id"`
			Body struct {
				DeviceID  string  `json:"device_id"`
				Timestamp string  `json:"timestamp"`
				Value     float64 `json:"value"`
			} `json:"body"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		ids[m.ID]++
		sources[m.Body.DeviceID+" "+m.Body.Timestamp]++
		if m.Body.Value <= 30 {
			t.Errorf("message of a reading that is not hot: %s", data)
		}
	}
	if len(ids) != allMessages || len(sources) != allMessages {
		t.Errorf("%d messages of %d readings arrived, want %d", len(ids), len(sources), allMessages)
	}
	for id, n := range ids {
		if n != 1 {
			t.Errorf("message %s arrived %d times", id, n)
		}
	}
}
