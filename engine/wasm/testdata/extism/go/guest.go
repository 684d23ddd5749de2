// What the tests of the plugin host call, on the Extism PDK for Go. index.ts has
// the same in AssemblyScript.
package main

import (
	"bytes"
	"strconv"

	"github.com/extism/go-pdk"
)

//go:wasmexport transform
func transform() int32 {
	unit, ok := pdk.GetConfig("unit")
	if !ok {
		unit = "none"
	}
	pdk.OutputString(`{"input":` + pdk.InputString() + `,"unit":"` + unit + `"}`)
	return 0
}

//go:wasmexport count
func count() int32 {
	total := len(pdk.Input())
	if before := pdk.GetVar("total"); before != nil {
		n, err := strconv.Atoi(string(before))
		if err != nil {
			pdk.SetError(err)
			return 1
		}
		total += n
	}
	pdk.SetVar("total", []byte(strconv.Itoa(total)))
	pdk.OutputString(`{"total":` + strconv.Itoa(total) + `}`)
	return 0
}

//go:wasmexport refuse
func refuse() int32 {
	pdk.SetErrorString("not " + pdk.InputString())
	return 3
}

//go:wasmexport nothing
func nothing() int32 { return 0 }

//go:wasmexport split
func split() int32 {
	pdk.OutputString(`[{"n":1},{"n":2}]`)
	return 0
}

//go:wasmexport whole
func whole() int32 {
	pdk.Output(bytes.Replace(pdk.Input(), []byte(`"id":"`), []byte(`"id":"x-`), 1))
	return 0
}

//go:wasmexport say
func say() int32 {
	pdk.Log(pdk.LogWarn, "a warning")
	pdk.Output(pdk.Input())
	return 0
}

//go:wasmexport panics
func panics() int32 {
	pdk.SetErrorString("it went wrong")
	panic("gone")
}

//go:wasmexport fetch
func fetch() int32 {
	response := pdk.NewHTTPRequest(pdk.MethodGet, "http://example.com/").Send()
	pdk.Output(response.Body())
	return 0
}

func main() {}
