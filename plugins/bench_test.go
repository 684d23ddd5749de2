package plugins_test

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// benchRecords have a payload of eleven fields and about 250 bytes.
func benchRecords(n int) []record.Record {
	in := make([]record.Record, n)
	for i := range in {
		in[i] = record.Record{
			ID: fmt.Sprintf("edge-001-%08d", i), DeviceID: "edge-001", DataType: "sensor_reading", Timestamp: testTime,
			Payload: fmt.Appendf(nil, `{"reading":%d,"mote_id":3,"indoor":true,"site":"greenhouse-7","firmware":"2.14.0-rc1","battery_mv":3012,"rssi":-71,"humidity":%.2f,"temperature":%.2f,"label":null,"location":{"lat":52.520008,"lon":13.404954,"alt":34.5},"tags":["a","b"]}`,
				i, 42+float64(i%5000)/100, 20+float64(i%2500)/100),
		}
	}
	return in
}

func BenchmarkDewPoint(b *testing.B) {
	for _, batch := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("wasm/batch=%d", batch), func(b *testing.B) {
			p := loadDewPoint(b, "")
			in := benchRecords(batch)
			var out wasm.Output
			b.ReportAllocs()
			for n := 0; n < b.N; n += batch {
				if err := p.Transform(b.Context(), in, testTime, &out); err != nil {
					b.Fatal(err)
				}
				if out.Results[0].Action != wasm.Emit {
					b.Fatal(out.Results[0].Reason)
				}
			}
		})
	}
	// The same work, and the same check of the result, in native Go.
	b.Run("native", func(b *testing.B) {
		in := benchRecords(1000)
		var buf []byte
		b.ReportAllocs()
		for n := 0; n < b.N; n++ {
			var err error
			if buf, err = nativeDewPoint(buf[:0], in[n%len(in)].Payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// nativeDewPoint finds two top-level members by hand and appends a third.
func nativeDewPoint(dst, payload []byte) ([]byte, error) {
	celsius, percent := math.NaN(), math.NaN()
	err := record.EachMember(payload, func(key, value []byte) (err error) {
		switch string(key) {
		case "temperature":
			celsius, err = strconv.ParseFloat(string(value), 64)
		case "humidity":
			percent, err = strconv.ParseFloat(string(value), 64)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	dst = append(dst, payload[:bytes.LastIndexByte(payload, '}')]...)
	dst = append(dst, `,"dew_point":`...)
	dst = strconv.AppendFloat(dst, dewPoint(celsius, percent), 'f', 2, 64)
	return append(dst, '}'), nil
}
