package plugins_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
)

// outcome says in one line what became of a record.
func outcome(r *wasm.Result) string {
	switch r.Action {
	case wasm.Emit:
		var all []string
		for i := range r.Records {
			all = append(all, string(r.Records[i].Payload))
		}
		return strings.Join(all, " + ")
	case wasm.Pass:
		return "pass"
	}
	return r.Action.String() + ": " + r.Reason
}

func TestTransformCases(t *testing.T) {
	for _, c := range []struct{ plugin, config, in, want string }{
		{"convert", `{"fields":{"t":"degF to degC"}}`, `{"t":32,"x":1.50}`, `{"t":0,"x":1.50}`},
		{"convert", `{"fields":{"t":"degC to degF","p":"psi to kPa"},"decimals":1}`, `{"p":14.7,"t":-40}`, `{"p":101.4,"t":-40}`},
		{"convert", `{"fields":{"a.v":"kn to km/h"}}`, `{"a":{"v":10}}`, `{"a":{"v":18.52}}`},
		{"convert", `{"fields":{"t":"degF to K"}}`, `{"x":1}`, `pass`},
		{"convert", `{"fields":{"t":"degF to K"}}`, `{"t":null}`, `pass`},
		{"convert", `{"fields":{"t":"degF to K"},"missing":"error"}`, `{"x":1}`, `error: t is missing`},
		{"convert", `{"fields":{"t":"degF to K"}}`, `{"t":"warm"}`, `error: t is "warm", it must be a number`},
		{"convert", `{"fields":{"t":"km to mm"},"decimals":9}`, `{"t":123456789.5}`, `{"t":123456789500000}`},
		{"convert", `{"fields":{"t":"km to mm"}}`, `{"t":1e300}`, `error: t is 1e300, which is too large`},
		{"fields", `{"rename":{"t":"air.t","a":"b","b":"a"}}`, `{"a":1,"t":2,"b":3}`, `{"air":{"t":2},"b":1,"a":3}`},
		{"fields", `{"rename":{"a":"b"}}`, `{"a":1,"b":2}`, `error: b is there already`},
		{"fields", `{"rename":{"a":"b.c"}}`, `{"a":1,"b":2}`, `error: b.c has no place: what holds it is no object`},
		{"fields", `{"keep":["a","b.c"]}`, `{"x":1,"b":{"c":2.50,"d":3},"a":[1]}`, `{"a":[1],"b":{"c":2.50}}`},
		{"fields", `{"drop":["b.d","x","no"]}`, `{"x":1,"b":{"c":2,"d":3}}`, `{"b":{"c":2}}`},
		{"fields", `{"redact":["u.name","u.mail"],"mask":"?"}`, `{"u":{"name":"n","id":7}}`, `{"u":{"name":"?","id":7}}`},
		{"fields", `{"drop":["no"]}`, `{"x":1}`, `pass`},
		{"flatten", ``, `{"a":{"b":1.50,"c":[1,{"d":null}]},"e":"x"}`, `{"a.b":1.50,"a.c.0":1,"a.c.1.d":null,"e":"x"}`},
		{"flatten", `{"separator":"_","arrays":false}`, `{"a":{"b":[1]}}`, `{"a_b":[1]}`},
		{"flatten", `{"depth":1}`, `{"a":{"b":{"c":1}}}`, `{"a.b":{"c":1}}`},
		{"flatten", ``, `{"a":{},"b":[]}`, `pass`},
		{"flatten", ``, `{"a":{"b":1},"a.b":2}`, `error: two members become a.b; choose another separator`},
		{"flatten", ``, `{"q\"\u00e9":{"\n":1}}`, `{"q\"é.\u000a":1}`},
	} {
		t.Run(c.plugin+" "+c.config+" "+c.in, func(t *testing.T) {
			if got := outcome(&transform(t, load(t, c.plugin, c.config), c.in)[0]); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTransformConfigIsChecked(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"convert", `{}`, "fields names nothing to convert"},
		{"convert", `{"fields":{"a":"degF"}}`, `fields.a must be like "degF to degC", not "degF"`},
		{"convert", `{"fields":{"a":"degF to kPa"}}`, "fields.a: degF is a temperature and kPa is a pressure"},
		{"convert", `{"fields":{"a":"F to degC"}}`, "fields.a: there is no unit F; there are: K, degC, degF, Pa"},
		{"fields", `{"rename":{"a":"c","b":"c"}}`, "rename gives c twice"},
		{"fields", `{"drop":"a"}`, "drop must be a list of strings"},
		{"deadband", `{"fields":{"a":"x"}}`, "fields.a must be a number or a percentage from 0"},
		{"deadband", `{}`, "fields must name 1 to 64 fields"},
		{"aggregate", `{"fields":["a"]}`, "one of records and seconds must be given"},
		{"aggregate", `{"fields":["a"],"records":2,"seconds":2}`, "one of records and seconds must be given"},
		{"aggregate", `{"fields":["a"],"records":2,"calculate":["median"]}`, "calculate has median; there are: mean, min, max, sum, count"},
		{"flatten", `{"depth":65}`, "depth must be a whole number from 1 to 64"},
	} {
		if got := refused(t, c.name, c.config); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: got  %s\nwant %s", c.name, c.config, got, c.want)
		}
	}
}

// TestConvertThereAndBack converts every pair of units both ways, and some to
// figures of NIST SP 811.
func TestConvertThereAndBack(t *testing.T) {
	kinds := [][]string{
		{"K", "degC", "degF"},
		{"Pa", "hPa", "mbar", "kPa", "bar", "atm", "psi", "mmHg", "inHg"},
		{"m", "km", "cm", "mm", "in", "ft", "yd", "mi"},
		{"m/s", "km/h", "mph", "kn"},
		{"kg", "g", "t", "lb", "oz"},
		{"m3", "l", "ml", "gal"},
		{"J", "kJ", "Wh", "kWh"},
		{"W", "kW", "hp"},
		{"V", "mV", "kV"},
		{"A", "mA"},
		{"s", "ms", "min", "h", "d"},
		{"1", "%", "ppm"},
		{"rad", "deg"},
	}
	fields, back, payload := map[string]string{}, map[string]string{}, map[string]float64{}
	for _, units := range kinds {
		for _, from := range units {
			for _, to := range units {
				name := fmt.Sprintf("f%d", len(fields))
				fields[name], back[name], payload[name] = from+" to "+to, to+" to "+from, 12.5
			}
		}
	}
	config := func(fields map[string]string) string {
		return encode(t, map[string]any{"fields": fields, "decimals": 9})
	}
	there := transform(t, load(t, "convert", config(fields)), encode(t, payload))[0]
	if there.Action != wasm.Emit {
		t.Fatal(outcome(&there))
	}
	values := map[string]float64{}
	if err := json.Unmarshal(there.Records[0].Payload, &values); err != nil {
		t.Fatal(err)
	}
	again := transform(t, load(t, "convert", config(back)), string(there.Records[0].Payload))[0]
	returned := map[string]float64{}
	if err := json.Unmarshal(again.Records[0].Payload, &returned); err != nil {
		t.Fatal(err)
	}
	for name, x := range returned {
		// What was rounded to 9 decimals comes back that much coarser.
		if slack := math.Max(1e-8, 1e-9*12.5/math.Max(values[name], 1e-9)); math.Abs(x-12.5) > slack {
			t.Errorf("12.5 %s is %v, and back %v", fields[name], values[name], x)
		}
	}
	for what, want := range map[string]float64{
		"degF to degC": -10.833333333, "psi to kPa": 86.184466165, "inHg to hPa": 423.298580043, "mi to km": 20.1168, "kn to m/s": 6.430555556,
		"lb to kg": 5.669904625, "gal to l": 47.31764730, "kWh to kJ": 45000, "hp to W": 9321.248394853, "deg to rad": 0.218166156, "% to ppm": 125000, "oz to g": 354.369039063,
	} {
		for name, pair := range fields {
			if pair == what && math.Abs(values[name]-want) > 1e-8*math.Max(1, want) {
				t.Errorf("12.5 %s is %v, want %v", what, values[name], want)
			}
		}
	}
}

// reading is a row of the real data.
type reading struct {
	mote                  string
	temperature, humidity string
}

func readings(t *testing.T) ([]reading, []record.Record) {
	t.Helper()
	data, err := os.ReadFile("../pipelines/data/sensors-multi-hop.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []reading
	var records []record.Record
	for i, r := range rows[1:] {
		out = append(out, reading{r[1], r[4], r[3]})
		records = append(records, record.Record{
			ID: strconv.Itoa(i), DeviceID: "mote-" + r[1], DataType: "t", Timestamp: testTime.Add(time.Duration(i) * time.Second),
			Payload: []byte(`{"temperature":` + r[4] + `,"humidity":` + r[3] + `}`),
		})
	}
	return out, records
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestDeadbandOfRealReadings holds the plugin against its twin.
func TestDeadbandOfRealReadings(t *testing.T) {
	rows, records := readings(t)
	p := load(t, "deadband", `{"fields":{"temperature":"0.2","humidity":"1%"},"max_silence":600}`, wasm.CapabilityKV)
	out := wasm.Output{KV: wasm.NewKV(0)}
	if err := p.Transform(t.Context(), records, testTime, &out); err != nil {
		t.Fatal(err)
	}
	type last struct {
		t, h float64
		at   int
	}
	kept := map[string]last{}
	passed := 0
	for i, r := range rows {
		now := last{number(t, r.temperature), number(t, r.humidity), i}
		was, seen := kept[r.mote]
		want := "drop: "
		if !seen || math.Abs(now.t-was.t) > 0.2 || math.Abs(now.h-was.h) > 0.01*math.Abs(was.h) || i-was.at >= 600 {
			want, kept[r.mote] = "pass", now
			passed++
		}
		if got := outcome(&out.Results[i]); got != want {
			t.Fatalf("row %d, %+v after %+v: got %s, want %s", i, now, was, got, want)
		}
	}
	if passed < 100 || passed > len(rows)/2 {
		t.Errorf("%d of %d passed: too few or too many to prove anything", passed, len(rows))
	}
}

func TestDeadbandCases(t *testing.T) {
	for _, c := range []struct {
		name, config string
		in           []string
		want         string // of the last
	}{
		{"missing, then there", `{"fields":{"a":"1"}}`, []string{`{}`, `{"a":1}`}, "pass"},
		{"still missing", `{"fields":{"a":"1"}}`, []string{`{}`, `{"b":2}`}, "drop: "},
		{"text the same", `{"fields":{"a":"1"}}`, []string{`{"a":"on"}`, `{"a":"on"}`}, "drop: "},
		{"text changed", `{"fields":{"a":"1"}}`, []string{`{"a":"on"}`, `{"a":"off"}`}, "pass"},
		{"number to text", `{"fields":{"a":"1"}}`, []string{`{"a":1}`, `{"a":"1"}`}, "pass"},
		{"at the edge", `{"fields":{"a":"1"}}`, []string{`{"a":1}`, `{"a":2}`}, "drop: "},
		{"creeping", `{"fields":{"a":"1"}}`, []string{`{"a":1}`, `{"a":1.6}`, `{"a":2.2}`}, "pass"},
		{"band 0", `{"fields":{"a":"0"}}`, []string{`{"a":1}`, `{"a":1.0}`}, "drop: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := make([]record.Record, len(c.in))
			for i, s := range c.in {
				in[i] = record.Record{ID: strconv.Itoa(i), DeviceID: "d", DataType: "t", Timestamp: testTime, Payload: []byte(s)}
			}
			out := wasm.Output{KV: wasm.NewKV(0)}
			if err := load(t, "deadband", c.config, wasm.CapabilityKV).Transform(t.Context(), in, testTime, &out); err != nil {
				t.Fatal(err)
			}
			if got := outcome(&out.Results[len(in)-1]); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// window is the twin's state of a mote.
type window struct {
	n             int
	number        int // of the time window
	sum, min, max float64
	newest        time.Time
}

func (w *window) add(x float64, at time.Time) {
	if w.n == 0 {
		w.min, w.max = x, x
	}
	w.n++
	w.sum += x
	w.min, w.max, w.newest = math.Min(w.min, x), math.Max(w.max, x), at
}

func (w *window) check(t *testing.T, i int, res *wasm.Result) {
	t.Helper()
	if res.Action != wasm.Emit || len(res.Records) != 1 {
		t.Fatalf("row %d: %s, want a summary", i, outcome(res))
	}
	var got struct {
		Records     int
		Temperature struct{ Mean, Min, Max, Sum, Count float64 }
	}
	if err := json.Unmarshal(res.Records[0].Payload, &got); err != nil {
		t.Fatal(err)
	}
	s := got.Temperature
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
	if got.Records != w.n || s.Count != float64(w.n) || !near(s.Sum, w.sum) || !near(s.Mean, w.sum/float64(w.n)) || s.Min != w.min || s.Max != w.max {
		t.Fatalf("row %d: got %s, want %+v", i, res.Records[0].Payload, *w)
	}
	if !res.Records[0].Timestamp.Equal(w.newest) {
		t.Fatalf("row %d: timestamp %v, want that of the newest, %v", i, res.Records[0].Timestamp, w.newest)
	}
}

// TestAggregateOfRealReadings holds the plugin against its twin, by number and
// by time.
func TestAggregateOfRealReadings(t *testing.T) {
	rows, records := readings(t)
	for name, c := range map[string]struct {
		config  string
		records int
		seconds int
	}{
		"by number": {`{"fields":["temperature"],"records":60,"calculate":["mean","min","max","sum","count"],"decimals":9}`, 60, 0},
		"by time":   {`{"fields":["temperature"],"seconds":300,"calculate":["mean","min","max","sum","count"],"decimals":9}`, 0, 300},
	} {
		t.Run(name, func(t *testing.T) {
			out := wasm.Output{KV: wasm.NewKV(0)}
			if err := load(t, "aggregate", c.config, wasm.CapabilityKV).Transform(t.Context(), records, testTime, &out); err != nil {
				t.Fatal(err)
			}
			open := map[string]*window{}
			emitted := 0
			for i, r := range rows {
				w := open[r.mote]
				if w == nil {
					w = &window{}
					open[r.mote] = w
				}
				x, at := number(t, r.temperature), records[i].Timestamp
				res := &out.Results[i]
				if c.seconds > 0 {
					n := int(at.Unix()) / c.seconds
					if full := *w; w.n > 0 && n > w.number {
						full.check(t, i, res)
						emitted++
						*w = window{}
					} else if res.Action != wasm.Drop {
						t.Fatalf("row %d: %s", i, outcome(res))
					}
					if w.n == 0 {
						w.number = n
					}
					w.add(x, at)
					continue
				}
				w.add(x, at)
				if w.n < c.records {
					if res.Action != wasm.Drop {
						t.Fatalf("row %d: %s", i, outcome(res))
					}
					continue
				}
				w.check(t, i, res)
				emitted++
				*w = window{}
			}
			if emitted < 50 {
				t.Errorf("only %d summaries", emitted)
			}
		})
	}
}

// TestStateHasBounds fills the quota with devices: deadband lets further ones
// pass, aggregate refuses them with a reason.
func TestStateHasBounds(t *testing.T) {
	var in []record.Record
	for i := range 200 {
		for n := range 2 {
			in = append(in, record.Record{
				ID: fmt.Sprint(i, "-", n), DeviceID: strings.Repeat("long", 60) + strconv.Itoa(i), DataType: "t", Timestamp: testTime, Payload: []byte(`{"a":1}`),
			})
		}
	}
	for name, c := range map[string]struct{ config, full string }{
		"deadband":  {`{"fields":{"a":"1"}}`, "pass"},
		"aggregate": {`{"fields":["a"],"records":2}`, "error: there is no room to remember one more device"},
	} {
		out := wasm.Output{KV: wasm.NewKV(10 << 10)}
		if err := load(t, name, c.config, wasm.CapabilityKV).Transform(t.Context(), in, testTime, &out); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for i := range out.Results {
			count[outcome(&out.Results[i])]++
		}
		keys, _ := out.KV.Len()
		if keys < 10 || count[c.full] < 200 || len(count) < 2 {
			t.Errorf("%s: %d keys, %v", name, keys, count)
		}
	}
}
