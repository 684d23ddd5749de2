// Numbers the records of each device, says how old they are and where. It keeps
// its numbers in kv: the pipeline grants it allow = ["clock", "config", "kv",
// "log", "metric"].
package main

import edged "github.com/edged/edged/sdk/go"

//go:wasmexport edged_transform
func edgedTransform(ptr, size uint32) uint64 { return edged.Transform(ptr, size, number) }

func number(record *edged.Record, out *edged.Output) {
	key := "number/" + string(record.Device)
	if reset, _ := edged.AsBool(edged.Get(record.Payload, "reset")); reset {
		edged.KVDelete(key)
		edged.Count("resets", 1)
		if edged.LogEnabled(edged.Info) {
			edged.Log(edged.Info, string(record.Device)+" begins anew")
		}
		out.Pass()
		return
	}
	next := edged.Integer(1)
	if last := edged.KVGet(key); last != nil {
		next = edged.Integer(int64(edged.AsFloat(last)) + 1)
	}
	if !edged.KVPut(key, next, 0) {
		out.Error("there is no room for another device", 1)
		return
	}
	edged.Count("records", 1)
	payload := edged.Set(record.Payload, "number", next)
	payload = edged.Set(payload, "age_ms", edged.Integer((edged.Now()-record.Timestamp)/1e6))
	if site, ok := edged.DeviceConfig("site"); ok {
		payload = edged.Set(payload, "site", edged.Quote(site))
	}
	out.Payload(payload)
}

func main() {}
