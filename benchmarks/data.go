package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// seed makes every run, on every machine, read the same bytes.
const seed = 20261122

// motes is how many devices the records are about.
const motes = 50

// The two rules of the whole pipeline fire on about one record in 500 each:
// often enough to cost something, rare enough to be an alarm.
const (
	hotCelsius   = 34.95
	dampPercents = 89.88
)

// dataSet is one file of NDJSON records in wire form, about 250 bytes each.
type dataSet struct {
	Path    string `json:"-"`
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`
	Alerts  int    `json:"alerts"` // messages that the two rules raise
}

// writeData makes the file, from the seed alone.
func writeData(path string, records int) (d dataSet, err error) {
	d = dataSet{Path: path, Records: records}
	f, err := os.Create(path)
	if err != nil {
		return d, fmt.Errorf("writing the records: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	rng := rand.New(rand.NewPCG(seed, uint64(records)))
	var line []byte
	for i := range records {
		var alerts int
		line, alerts = appendRecord(line[:0], rng, i)
		d.Alerts += alerts
		d.Bytes += int64(len(line))
		if _, err := w.Write(line); err != nil {
			return d, fmt.Errorf("writing the records: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return d, fmt.Errorf("writing the records: %w", err)
	}
	return d, f.Close()
}

var firstReading = time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)

// appendRecord appends one line and returns how many rules fire on it.
func appendRecord(dst []byte, rng *rand.Rand, i int) ([]byte, int) {
	mote := 1 + rng.IntN(motes)
	celsius := round2(10 + 25*rng.Float64())
	percents := round2(10 + 80*rng.Float64())
	dst = fmt.Appendf(dst, `{"id":"mote-%02d-%08d","device_id":"mote-%02d","data_type":"sensor_reading","timestamp":"%s","payload":{"reading":%d,"mote_id":%d,"indoor":%t,"firmware":"2.14.0-rc1","battery_mv":%d,"rssi":%d,"humidity":`,
		mote, i, mote, firstReading.Add(time.Duration(i)*100*time.Millisecond).Format("2006-01-02T15:04:05.000Z"),
		i, mote, mote%2 == 0, 2900+rng.IntN(300), -40-rng.IntN(50))
	dst = strconv.AppendFloat(dst, percents, 'f', -1, 64)
	dst = append(dst, `,"temperature":`...)
	dst = strconv.AppendFloat(dst, celsius, 'f', -1, 64)
	dst = append(dst, "}}\n"...)
	alerts := 0
	if celsius > hotCelsius {
		alerts++
	}
	if percents > dampPercents {
		alerts++
	}
	return dst, alerts
}

func round2(x float64) float64 { return math.Round(x*100) / 100 }

// readLines reads up to most lines of the file into memory, most 0: all.
func readLines(path string, most int) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	lines := make([][]byte, 0, bytes.Count(data, []byte{'\n'}))
	for line := range bytes.Lines(data) {
		if most > 0 && len(lines) == most {
			break
		}
		lines = append(lines, bytes.TrimSuffix(line, []byte{'\n'}))
	}
	return lines, nil
}
