package sync

import (
	"strings"
	"testing"
	"time"

	"github.com/edged/edged/engine/config"
)

// TestLinkArguments goes through what both kinds of remote take about their link.
func TestLinkArguments(t *testing.T) {
	for kind, spec := range map[string]config.Spec{
		`urls = ["nats-leaf://h"]` + "\n": natsSpec(),
		`url = "https://h"` + "\n":        httpSpec(),
	} {
		for src, want := range map[string]string{
			"":                      "", // nothing is wrong
			`max_rate = "256KiB/s"`: "",
			`max_rate = "256KiB"`:   `"KiB" is not a unit`,
			`max_rate = "10B/s"`:    "at least 1KiB/s",
			"monitor {\n  every = \"1m\"\n  failures = 5\n}": "",
			"monitor {\n  slow = \"10s\"\n}":                 "slow must not be longer than timeout",
			"monitor {\n  failures = 0\n}":                   "at least 1",
			"monitor {\n  evry = \"1m\"\n}":                  "every",
			`compression = "zip"`:                            "gzip",
		} {
			if kind[:4] == "urls" && src == `compression = "zip"` {
				want = "better"
			}
			args, diags := config.ParseBlock(spec, []byte(kind+src+"\n"), "test.hcl")
			if want == "" && diags.HasErrors() || want != "" && !strings.Contains(diags.Error(), want) {
				t.Errorf("%s of %s: %v, want %q", src, spec.Name, diags, want)
			}
			if src == `max_rate = "256KiB/s"` && args.Rate("max_rate") != 256<<10 {
				t.Errorf("%s: the rate is %d", src, args.Rate("max_rate"))
			}
			if b, ok := args.Block("monitor"); ok && want == "" && (b.Duration("every") != time.Minute || b.Duration("timeout") != 5*time.Second || b.Int("failures") != 5) {
				t.Errorf("%s: the monitor has %+v", src, b)
			}
		}
	}
}
