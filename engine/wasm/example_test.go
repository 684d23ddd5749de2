package wasm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

func Example() {
	ctx := context.Background()
	host, err := wasm.NewHost(ctx, wasm.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = host.Close(ctx) }()

	code, _ := plugins.Builtin("dew_point")
	plugin, err := host.Load(ctx, wasm.Module{Name: "dew", Code: code, Config: json.RawMessage(`{"decimals":1}`)})
	if err != nil {
		log.Fatal(err)
	}

	now := time.Date(2026, 11, 22, 6, 15, 0, 0, time.UTC)
	in := []record.Record{
		{ID: "1", DeviceID: "edge-001", DataType: "reading", Timestamp: now, Payload: []byte(`{"temperature":20,"humidity":50}`)},
		{ID: "2", DeviceID: "edge-001", DataType: "reading", Timestamp: now, Payload: []byte(`{"temperature":20,"humidity":0}`)},
	}
	var out wasm.Output
	if err := plugin.Transform(ctx, in, now, &out); err != nil {
		log.Fatal(err)
	}
	for _, r := range out.Results {
		switch r.Action {
		case wasm.Emit:
			fmt.Println(string(r.Records[0].Payload))
		default:
			fmt.Printf("%s: %s\n", r.Action, r.Reason)
		}
	}
	// Output:
	// {"temperature":20,"humidity":50,"dew_point":9.3}
	// error: humidity is 0, it must be above 0 and up to 105 percent
}
