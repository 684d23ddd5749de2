package sync

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

func TestHTTPArguments(t *testing.T) {
	const url = `url = "https://api.example.com/v1"` + "\n"
	for name, c := range map[string]struct {
		src, want string // want: nothing is wrong
	}{
		"least":             {url, ""},
		"all":               {url + "token_file = \"t\"\ntimeout = \"1m\"\ncompression = \"zstd\"\nheaders = { X-Site = \"a b\" }\ntls {\n  ca = \"ca.pem\"\n}\n", ""},
		"loopback":          {"url = \"http://127.0.0.1:1/\"\ntoken = \"x\"\n", ""},
		"no url":            {"", "url"},
		"no scheme":         {`url = "api.example.com"` + "\n", "whole address"},
		"leaf node":         {`url = "nats-leaf://api.example.com"` + "\n", "whole address"},
		"user in url":       {`url = "https://me:pw@api.example.com"` + "\n", "use token"},
		"query":             {`url = "https://api.example.com?x=1"` + "\n", "no query"},
		"token twice":       {url + "token = \"x\"\ntoken_file = \"t\"\n", "not both"},
		"token with a line": {url + `token = "x\n"` + "\n", "visible ASCII"},
		"own header":        {url + "headers = { idempotency-key = \"1\" }\n", "edged sets Idempotency-Key itself"},
		"header injection":  {url + `headers = { X-Site = "a\r\nb" }` + "\n", "control character"},
		"header name":       {url + `headers = { "X Site" = "a" }` + "\n", "not the name"},
		"key alone":         {url + "tls {\n  key = \"k\"\n}\n", "cert and key"},
		"tls in the clear":  {"url = \"http://127.0.0.1\"\ntls {\n  ca = \"k\"\n}\n", "http://"},
		"token in the open": {"url = \"http://api.example.com\"\ntoken = \"x\"\n", "in the clear"},
		"health":            {url + `health = "health"` + "\n", "starts with"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := config.ParseBlock(httpSpec(), []byte(c.src), "test.hcl")
			if c.want == "" {
				if len(diags) > 0 {
					t.Errorf("diagnostics: %v", diags)
				}
				return
			}
			var said []string
			for _, d := range diags {
				said = append(said, d.Summary+": "+d.Detail)
				if d.Subject == nil || d.Subject.Filename != "test.hcl" {
					t.Errorf("no place: %v", d)
				}
			}
			if !strings.Contains(strings.ToLower(strings.Join(said, "\n")), strings.ToLower(c.want)) {
				t.Errorf("diagnostics are %q, want %q", said, c.want)
			}
			if warn := name == "token in the open"; warn == diags.HasErrors() || warn && diags[0].Severity != hcl.DiagWarning {
				t.Errorf("severity: %v", diags)
			}
		})
	}
}
