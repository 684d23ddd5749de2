package main

import (
	"slices"
	"testing"

	"github.com/edged/edged/sdk/go/edgedtest"
)

func TestAdd(t *testing.T) {
	for payload, want := range map[string][]edgedtest.Frame{
		`{"t":20}`: {{Action: "emit", Payload: `{"t":20,"fahrenheit":68}`}},
		`{"t":-1}`: {{Action: "emit", Payload: `{"t":-1,"fahrenheit":30.2}`}, {Action: "emit", Type: "frost"}},
		`{"x":1}`:  {{Action: "error", Reason: "there is no temperature"}},
	} {
		if err := edgedtest.Configure(setUp, `{"from":"t"}`); err != nil {
			t.Fatal(err)
		}
		if got := edgedtest.Transform(t, add, edgedtest.Record{Payload: payload}); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", payload, got, want)
		}
	}
}

func TestMisspelledKey(t *testing.T) {
	err := edgedtest.Configure(setUp, `{"form":"t"}`)
	if want := "unknown key form; there are: from, to"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
