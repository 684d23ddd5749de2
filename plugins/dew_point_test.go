package plugins_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

var testTime = time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)

func loadDewPoint(t testing.TB, config string) *wasm.Plugin {
	t.Helper()
	h, err := wasm.NewHost(t.Context(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	code, ok := plugins.Builtin("dew_point")
	if !ok {
		t.Fatal("dew_point is not shipped")
	}
	m := wasm.Module{Name: "dew_point", Code: code}
	if config != "" {
		m.Config = json.RawMessage(config)
	}
	p, err := h.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func transform(t testing.TB, p *wasm.Plugin, payloads ...string) []wasm.Result {
	t.Helper()
	in := make([]record.Record, len(payloads))
	for i, s := range payloads {
		in[i] = record.Record{ID: "r" + strconv.Itoa(i), DeviceID: "d", DataType: "t", Timestamp: testTime, Payload: []byte(s)}
	}
	var out wasm.Output
	if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
		t.Fatal(err)
	}
	return out.Results
}

// dewPoint is the plugin's twin: the same formula, written apart from it.
func dewPoint(celsius, percent float64) float64 {
	const a, b = 17.625, 243.04
	g := math.Log(math.Min(percent, 100)/100) + a*celsius/(b+celsius)
	return b * g / (a - g)
}

// agree compares the plugin's text to the twin's number. Where the number lies
// on the edge between two roundings, a different last bit of the logarithm may
// decide, and either is right.
func agree(text string, want float64, decimals int) error {
	scale := math.Pow10(decimals)
	shown := strconv.FormatFloat(math.RoundToEven(want*scale)/scale, 'f', -1, 64)
	if shown == "-0" {
		shown = "0"
	}
	if text == shown {
		return nil
	}
	edge := math.Abs(math.Abs(want*scale-math.Trunc(want*scale)) - 0.5)
	got, err := strconv.ParseFloat(text, 64)
	if err == nil && edge < 1e-7 && math.Abs(got-want)*scale < 0.500001 {
		return nil
	}
	return fmt.Errorf("got %s, want %s (%v)", text, shown, want)
}

func TestDewPointOfRealReadings(t *testing.T) {
	data, err := os.ReadFile("../pipelines/data/sensors-multi-hop.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:]
	if len(rows) != 18760 {
		t.Fatalf("got %d rows, want 18760", len(rows))
	}
	payloads := make([]string, len(rows))
	for i, r := range rows {
		payloads[i] = fmt.Sprintf(`{"reading":%s,"mote_id":%s,"indoor":%s,"humidity":%s,"temperature":%s,"label":%s}`, r[0], r[1], r[2], r[3], r[4], r[5])
	}
	for i, res := range transform(t, loadDewPoint(t, ""), payloads...) {
		if res.Action != wasm.Emit {
			t.Fatalf("row %d: %v %s", i, res.Action, res.Reason)
		}
		head, ok := strings.CutSuffix(payloads[i], "}")
		got := string(res.Records[0].Payload)
		text, ok2 := strings.CutPrefix(got, head+`,"dew_point":`)
		if !ok || !ok2 || !strings.HasSuffix(text, "}") {
			t.Fatalf("row %d: %s became %s", i, payloads[i], got)
		}
		celsius, _ := strconv.ParseFloat(rows[i][4], 64)
		percent, _ := strconv.ParseFloat(rows[i][3], 64)
		if err := agree(strings.TrimSuffix(text, "}"), dewPoint(celsius, percent), 2); err != nil {
			t.Errorf("row %d: %s: %v", i, payloads[i], err)
		}
	}
}

func TestDewPointOfRandomReadings(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	number := func(low, high float64) string {
		x := low + rnd.Float64()*(high-low)
		switch rnd.IntN(4) {
		case 0:
			return strconv.FormatFloat(x, 'e', rnd.IntN(17), 64)
		case 1:
			return strconv.FormatFloat(x, 'f', -1, 64)
		}
		return strconv.FormatFloat(x, 'f', rnd.IntN(5), 64)
	}
	for decimals := range 7 {
		p := loadDewPoint(t, fmt.Sprintf(`{"decimals":%d}`, decimals))
		var payloads []string
		for range 3000 {
			payloads = append(payloads, fmt.Sprintf(`{ "a" : [1,{"temperature":"x\"}"}], "temperature": %s , "h":{"humidity":0}, "humidity":%s }`, number(-120, 170), number(-5, 110)))
		}
		for i, res := range transform(t, p, payloads...) {
			var v struct{ Temperature, Humidity float64 }
			if err := json.Unmarshal([]byte(payloads[i]), &v); err != nil {
				t.Fatal(err)
			}
			if v.Temperature < -100 || v.Temperature > 150 || v.Humidity <= 0 || v.Humidity > 105 {
				if res.Action != wasm.Error {
					t.Errorf("%s: got %v, want an error", payloads[i], res.Action)
				}
				continue
			}
			if res.Action != wasm.Emit {
				t.Errorf("%s: %v %s", payloads[i], res.Action, res.Reason)
				continue
			}
			var after struct {
				DewPoint json.Number `json:"dew_point"`
			}
			if err := json.Unmarshal(res.Records[0].Payload, &after); err != nil {
				t.Fatal(err)
			}
			if err := agree(after.DewPoint.String(), dewPoint(v.Temperature, v.Humidity), decimals); err != nil {
				t.Errorf("%s: %v", payloads[i], err)
			}
		}
	}
}

func TestDewPointCases(t *testing.T) {
	for _, c := range []struct{ name, config, in, want string }{
		{"plain", "", `{"temperature":20,"humidity":50}`, `{"temperature":20,"humidity":50,"dew_point":9.26}`},
		{"saturated", "", `{"temperature":20,"humidity":100}`, `{"temperature":20,"humidity":100,"dew_point":20}`},
		{"a little over 100 is 100", "", `{"temperature":-3.5,"humidity":104.9}`, `{"temperature":-3.5,"humidity":104.9,"dew_point":-3.5}`},
		{"zero without a sign", `{"decimals":0}`, `{"temperature":-0.4,"humidity":100}`, `{"temperature":-0.4,"humidity":100,"dew_point":0}`},
		{"replaces", "", `{"dew_point":{"old":[1]},"temperature":20,"humidity":50}`, `{"dew_point":9.26,"temperature":20,"humidity":50}`},
		{"white space stays", "", "{ \"temperature\" : 20.0 ,\n\t\"humidity\":5e1 }", "{ \"temperature\" : 20.0 ,\n\t\"humidity\":5e1,\"dew_point\":9.26 }"},
		{"other numbers stay", "", `{"n":1.000000000000000000001,"temperature":20,"humidity":50}`, `{"n":1.000000000000000000001,"temperature":20,"humidity":50,"dew_point":9.26}`},
		{"escaped name", "", `{"t\u0065mperature":20,"humidity":50}`, `{"t\u0065mperature":20,"humidity":50,"dew_point":9.26}`},
		{"long digits", "", `{"temperature":20.0000000000000000000000,"humidity":50}`, `{"temperature":20.0000000000000000000000,"humidity":50,"dew_point":9.26}`},
		{"paths", `{"temperature":"air.t","humidity":"air.rh","output":"calc.dew","decimals":1}`, `{"air":{"t":20,"rh":50}}`, `{"air":{"t":20,"rh":50},"calc":{"dew":9.3}}`},
		{"into an object", `{"output":"calc.dew"}`, `{"calc":{"a":1},"temperature":20,"humidity":50}`, `{"calc":{"a":1,"dew":9.26},"temperature":20,"humidity":50}`},
		{"into an empty object", `{"output":"calc.dew"}`, `{"calc":{},"temperature":20,"humidity":50}`, `{"calc":{"dew":9.26},"temperature":20,"humidity":50}`},
		{"from an array", `{"temperature":"v.0","humidity":"v.1"}`, `{"v":[20, 50]}`, `{"v":[20, 50],"dew_point":9.26}`},
		{"no temperature", "", `{"humidity":50}`, "error: temperature is missing"},
		{"empty", "", `{}`, "error: temperature is missing"},
		{"no humidity", "", `{"temperature":20}`, "error: humidity is missing"},
		{"text", "", `{"temperature":"20","humidity":50}`, `error: temperature is "20", it must be a number from -100 to 150 degrees Celsius`},
		{"null", "", `{"temperature":20,"humidity":null}`, "error: humidity is null, it must be a number above 0 and up to 105 percent"},
		{"dry", "", `{"temperature":20,"humidity":0}`, "error: humidity is 0, it must be above 0 and up to 105 percent"},
		{"wet", "", `{"temperature":20,"humidity":105.01}`, "error: humidity is 105.01, it must be above 0 and up to 105 percent"},
		{"hot", "", `{"temperature":1e400,"humidity":50}`, "error: temperature is 1e400, it must be from -100 to 150 degrees Celsius"},
		{"other names", `{"temperature":"t"}`, `{"temperature":20,"humidity":50}`, "error: t is missing"},
		{"no place", `{"output":"humidity.dew"}`, `{"temperature":20,"humidity":50}`, "error: the dew point has no place: what holds it is no object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := transform(t, loadDewPoint(t, c.config), c.in)[0]
			got := "error: " + res.Reason
			if res.Action == wasm.Emit {
				got = string(res.Records[0].Payload)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDewPointConfigIsChecked(t *testing.T) {
	h, err := wasm.NewHost(t.Context(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	code, _ := plugins.Builtin("dew_point")
	_, err = h.Load(t.Context(), wasm.Module{Name: "dew_point", Code: code, Config: json.RawMessage(`{"decimals":7,"temperature":3,"humidty":"h"}`)})
	for _, want := range []string{
		"decimals must be a whole number from 0 to 6, not 7", "temperature must be a string that is not empty, not 3",
		"unknown key humidty; there are: temperature, humidity, output, decimals",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestDewPointDescribesItself(t *testing.T) {
	d := loadDewPoint(t, "").Description()
	if d.Name != "dew_point" || d.Version == "" || len(d.Kinds) != 1 || d.Kinds[0] != "transform" {
		t.Errorf("got %+v", d)
	}
}

func TestBuiltinsAreThePinnedOnes(t *testing.T) {
	needed := map[string]string{ // what has no default
		"aggregate": `{"fields":["a"],"records":2}`, "convert": `{"fields":{"a":"degF to degC"}}`, "deadband": `{"fields":{"a":"1"}}`,
	}
	sums, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range plugins.Names() {
		h, err := wasm.NewHost(t.Context(), wasm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		code, _ := plugins.Builtin(name)
		m := wasm.Module{Name: name, Code: code, Allow: wasm.Capabilities()}
		if config, ok := needed[name]; ok {
			m.Config = json.RawMessage(config)
		}
		p, err := h.Load(t.Context(), m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if line := p.SHA256() + "  " + name + "/" + name + ".wasm\n"; !strings.Contains(string(sums), line) {
			t.Errorf("SHA256SUMS has no line %q", line)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, ok := plugins.Builtin("nothing"); ok {
		t.Error("a plugin that does not exist was found")
	}
}
