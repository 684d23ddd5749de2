// Adds the temperature in Fahrenheit, and splits off an alarm where it freezes.
package main

import (
	"math"

	edged "github.com/edged/edged/sdk/go"
)

// about is what the plugin says of itself: 'edged plugin sign' takes name and version from it.
const about = `{
  "name": "pluginname",
  "version": "0.1.0",
  "summary": "Adds the temperature in Fahrenheit, and splits off an alarm where it freezes",
  "kinds": ["transform"],
  "needs": "payload",
  "config": {
    "from": {"type": "string", "default": "temperature", "doc": "where the payload has the temperature, in degrees Celsius"},
    "to": {"type": "string", "default": "fahrenheit", "doc": "where to put the result"}
  }
}`

//go:wasmexport edged_describe
func edgedDescribe() uint64 { return edged.Describe(about) }

var fields = edged.NewLookup("temperature", "fahrenheit")

//go:wasmexport edged_configure
func edgedConfigure(ptr, size uint32) uint64 { return edged.Configure(ptr, size, setUp) }

// setUp reads the configuration; unknown keys and wrong values are reported all at once.
func setUp(config *edged.Config) {
	fields = edged.NewLookup(config.String("from", "temperature"), config.String("to", "fahrenheit"))
}

//go:wasmexport edged_transform
func edgedTransform(ptr, size uint32) uint64 { return edged.Transform(ptr, size, add) }

func add(record *edged.Record, out *edged.Output) {
	fields.Run(record.Payload)
	celsius := edged.AsFloat(fields.Value(0))
	if math.IsNaN(celsius) {
		out.Error("there is no temperature", 0)
		return
	}
	fahrenheit := edged.Fixed(celsius*1.8+32, 2)
	if fahrenheit == nil {
		out.Error("the temperature is too large", 0)
		return
	}
	payload := fields.Set(1, fahrenheit)
	if payload == nil {
		out.Error("the payload has no place for the result", 0)
		return
	}
	out.Payload(payload)
	if celsius < 0 {
		out.Emit(edged.Draft{Type: "frost"}) // a second record from the same source
	}
}

func main() {}
