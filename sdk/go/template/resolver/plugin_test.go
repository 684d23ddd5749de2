package main

import (
	"testing"

	"github.com/edged/edged/sdk/go/edgedtest"
)

func TestDecide(t *testing.T) {
	base := &edgedtest.Version{Payload: `{"status":"open","notes":["a"],"quantity":5,"by":"x"}`}
	for _, c := range []struct {
		local, remote string
		want          edgedtest.Verdict
	}{
		{
			`{"status":"done","notes":["a","b"],"quantity":7,"by":"x"}`,
			`{"status":"started","notes":["a","c"],"quantity":4,"by":"x"}`,
			edgedtest.Verdict{Action: "merged", Payload: `{"status":"done","notes":["a","c","b"],"quantity":6,"by":"x"}`},
		},
		{
			`{"status":"open","by":"y"}`, `{"status":"open","by":"z"}`,
			edgedtest.Verdict{Action: "manual", Reason: "changed on both sides: by"},
		},
		{
			``, `{"status":"started"}`,
			edgedtest.Verdict{Action: "manual", Reason: "deleted on one side"},
		},
	} {
		got := edgedtest.Resolve(t, decide, edgedtest.Conflict{
			Base: base, Local: edgedtest.Version{Payload: c.local}, Remote: edgedtest.Version{Payload: c.remote},
		})
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s and %s: got %+v, want %+v", c.local, c.remote, got, c.want)
		}
	}
}
