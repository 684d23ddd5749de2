// A plugin that does what each record asks for, as sdk/testdata/README.md says.
package main

import (
	"strconv"

	edged "github.com/edged/edged/sdk/go"
)

//go:wasmexport edged_transform
func edgedTransform(ptr, size uint32) uint64 { return edged.Transform(ptr, size, obey) }

//go:wasmexport edged_resolve
func edgedResolve(ptr, size uint32) uint64 { return edged.Resolve(ptr, size, decide) }

func field(json []byte, name string) string {
	s, _ := edged.AsString(edged.Member(json, name))
	return s
}

func code(json []byte) uint16 {
	if n := edged.AsFloat(edged.Member(json, "code")); n > 0 {
		return uint16(n)
	}
	return 0
}

func obey(r *edged.Record, out *edged.Output) {
	in := r.Payload
	to := []byte(field(in, "to"))
	switch field(in, "do") {
	case "pass":
		out.Pass()
	case "drop":
		out.Drop(field(in, "reason"), code(in))
	case "error":
		out.Error(field(in, "reason"), code(in))
	case "payload":
		out.Payload(to)
	case "keep":
		out.Pass()
		out.Payload(to)
	case "split":
		for ids := edged.NewMembers(edged.Member(in, "ids")); ids.Next(); {
			id, _ := edged.AsString(ids.Value())
			out.Emit(edged.Draft{ID: id})
		}
	case "emit":
		d := edged.Draft{ID: field(in, "id"), Device: field(in, "device"), Type: field(in, "type")}
		if len(to) > 0 {
			d.Payload = to
		}
		if time := field(in, "timestamp"); time != "" {
			d.Dated = true
			d.Timestamp, _ = strconv.ParseInt(time, 10, 64)
		}
		out.Emit(d)
	case "panic":
		panic("as it was asked")
	case "call":
		out.Payload([]byte(`{"result":` + string(edged.Quote(call(edged.Member(in, "args")))) + `}`))
	}
}

func decide(c *edged.Conflict, out *edged.Verdict) {
	if c.Local.Deleted || c.Local.LeftOut || !c.Local.IsObject {
		if c.Local.Compare(&c.Remote) > 0 {
			out.Local()
		} else {
			out.Remote()
		}
		return
	}
	in := c.Local.Payload
	switch field(in, "do") {
	case "local":
		out.Local()
	case "remote":
		out.Remote()
	case "delete":
		out.Delete()
	case "merged":
		out.Merged([]byte(field(in, "to")))
	case "manual":
		out.Manual(field(in, "reason"), field(in, "serve") == "local")
	case "error":
		out.Error(field(in, "reason"), code(in))
	case "tell":
		sides := map[string]*edged.Version{"local": &c.Local, "remote": &c.Remote, "base": c.Base}
		out.Merged(tell(c.Key, sides[field(in, "side")]))
	}
}

func tell(key []byte, v *edged.Version) []byte {
	if v == nil {
		return []byte("null")
	}
	clock, body := "synced", string(v.Payload)
	switch {
	case v.ClockUnknown:
		clock = "unknown"
	case v.ClockRaised:
		clock = "floor"
	}
	if v.Deleted {
		body = "null"
	}
	return []byte(`{"key":` + string(edged.Quote(string(key))) + `,"device":` + string(edged.Quote(string(v.Device))) +
		`,"type":` + string(edged.Quote(string(v.Type))) + `,"wall":` + strconv.FormatInt(v.Wall, 10) +
		`,"counter":` + strconv.FormatUint(v.Counter, 10) + `,"revision":` + strconv.FormatUint(v.Revision, 10) +
		`,"clock":"` + clock + `","deleted":` + strconv.FormatBool(v.Deleted) + `,"object":` + strconv.FormatBool(v.IsObject) +
		`,"body":` + body + `}`)
}

func main() {}
