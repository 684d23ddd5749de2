// Makes readings of many kinds of sensors alike: names without spaces below the
// site's, temperatures in Celsius; and raises an alarm above a limit.
package main

import (
	"math"

	edged "github.com/edged/edged/sdk/go"
)

var (
	site  string
	limit float64
)

//go:wasmexport edged_configure
func edgedConfigure(ptr, size uint32) uint64 { return edged.Configure(ptr, size, setUp) }

func setUp(config *edged.Config) {
	site = config.String("site", "site")
	limit = config.Number("limit", 80, -273.15, 10000)
}

//go:wasmexport edged_transform
func edgedTransform(ptr, size uint32) uint64 { return edged.Transform(ptr, size, normalize) }

func normalize(record *edged.Record, out *edged.Output) {
	payload := record.Payload
	if status, _ := edged.AsString(edged.Get(payload, "status")); status == "test" {
		out.Drop("a test reading", 0)
		return
	}
	given, _ := edged.AsString(edged.Get(payload, "sensor"))
	name := slug(given)
	if name == "" {
		out.Error("the sensor has no name", 1)
		return
	}
	temperature := edged.Get(payload, "values.temperature")
	if temperature == nil {
		out.Pass()
		return
	}
	value := edged.AsFloat(edged.Get(temperature, "value"))
	if math.IsNaN(value) {
		out.Error("values.temperature.value is no number", 2)
		return
	}
	unit, ok := edged.AsString(edged.Get(temperature, "unit"))
	if !ok {
		unit = "C"
	}
	celsius, ok := inCelsius(value, unit)
	if !ok {
		out.Error("the unit "+unit+" is not C, F or K", 3)
		return
	}
	text := edged.Fixed(celsius, 2)
	if text == nil {
		out.Error("values.temperature.value is too large", 2)
		return
	}
	sensor := edged.Quote(site + "/" + name)
	payload = edged.Set(payload, "sensor", sensor)
	payload = edged.Set(payload, "values.temperature", []byte(`{"value":`+string(text)+`,"unit":"C"}`))
	out.Payload(edged.Delete(payload, "raw"))
	if celsius > limit {
		out.Emit(edged.Draft{
			ID:   string(record.ID) + "/alarm",
			Type: "alarm",
			Payload: []byte(`{"sensor":` + string(sensor) + `,"celsius":` + string(text) +
				`,"limit":` + string(edged.Fixed(limit, 2)) + `}`),
		})
	}
}

func inCelsius(value float64, unit string) (celsius float64, ok bool) {
	switch unit {
	case "C":
		return value, true
	case "F":
		return (value - 32) / 1.8, true
	case "K":
		return value - 273.15, true
	}
	return 0, false
}

// slug is lower case; whatever is no letter and no digit becomes one hyphen between
// those that are.
func slug(name string) string {
	var out []byte
	gap := false
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c < 0x80 && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			gap = true
			continue
		}
		if gap && len(out) > 0 {
			out = append(out, '-')
		}
		out = append(out, c)
		gap = false
	}
	return string(out)
}

func main() {}
