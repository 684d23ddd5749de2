package sync

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
)

func httpSpec() config.Spec {
	return config.Spec{
		Name:    "http",
		Summary: "An HTTP ingest API, like the one that `edged hub --http-listen` serves.",
		Doc: "Records go as `POST <url>/api/ingest/batch` with `{\"records\":[…]}`, messages one by one as " +
			"`POST <url>/api/messages/<topic>`, before the records and by priority. `GET <url>/health` tells whether the API is there. " +
			"Redirects are not followed.\n\n" +
			"Every request carries an `Idempotency-Key` that stays the same until it is answered, across kills and restarts: " +
			"an API that knows its keys, as `edged hub` does, stores each record exactly once. One that ignores them may get a batch " +
			"twice when an answer was lost. The headers `Edged-Edge` and `Edged-Pipeline` name the sender, escaped like subject tokens.\n\n" +
			"What the answers mean:\n\n" +
			"- 200 and 207 with `{\"failed_ids\":[…]}`, or `{\"failed\":[{\"id\":…,\"error\":…}]}`: the others are synced. The failed are kept " +
			"and sent again one by one, after 1 s and then up to 5 min, at random; after max_attempts they become dead letters.\n" +
			"- 400, 413, 422: nothing of the batch is stored. It is sent again in halves until the record to blame is alone; " +
			"that one becomes a dead letter, the rest goes on.\n" +
			"- 401, 403: the remote is degraded; the token is read again and everything waits.\n" +
			"- 429, 503: everything waits for as long as `Retry-After` says, within max_retry_after.\n" +
			"- Anything else, or no answer in time: nothing counts as synced, the same request is sent again later. " +
			"A message, or a batch of one record, that fails max_attempts times in a row is put aside, so that those behind it go on, and is sent again by itself; " +
			"it becomes a dead letter only if it goes on failing while others like it are taken, so an outage buries nothing. For larger batches see on_server_error.\n\n" +
			"Keyed records go one by one, as compare-and-swap in batches, through `<url>/api/keyed/<pipeline>/…`, an API of its own that `edged hub` serves beside the ingest API: `POST batch` with `{\"records\":[{\"key\":…,\"revision\":…,\"value\":…}]}` answers for each record with its new revision, or with `conflict`, the version that is there; `GET changes` streams what changes.\n\n" +
			"Messages are accepted with 200, 201 or 202, unless the answer is a web page, which is not the API's. An HTTP API has no ledger that `edged audit` could compare: " +
			"what it acknowledged counts as synced, durably kept at the edge.",
		Args: []config.Arg{
			{Name: "url", Type: config.String, Required: true, Check: checkURL, Doc: "Where the API is, like `https://ingest.example.com/v1`."},
			{Name: "token", Type: config.String, Check: checkToken, Doc: "Sent as `Authorization: Bearer <token>`. Take it from the environment with `env(\"NAME\")`."},
			{Name: "token_file", Type: config.String, Doc: "File with the token, relative to this file. It is read for every request, so a new token needs no restart."},
			{Name: "health", Type: config.String, Default: `"/health"`, Check: checkHealth, Doc: "Path below url that answers 2xx while the API is up."},
			{Name: "timeout", Type: config.Duration, Default: `"30s"`, Min: "100ms", Max: "10m", Doc: "How long one request may take, its answer included."},
			{Name: "compression", Type: config.String, Default: `"gzip"`, Enum: []string{"none", "gzip", "zstd"}, Doc: "Of bodies above 1 KiB. An API that refuses the first compressed body and takes the plain one gets plain ones from then on."},
			{Name: "headers", Type: config.StringMap, Doc: "Further headers of every request."},
			{Name: "max_attempts", Type: config.Int, Default: "8", Min: "1", Max: "1000", Doc: "How often a record or message that the API answers for with a failure is sent before it becomes a dead letter."},
			{Name: "on_server_error", Type: config.String, Default: `"wait"`, Enum: []string{"wait", "isolate"}, Doc: "What becomes of a batch that has failed max_attempts times in a row in the same way, with a 500 or a time-out, while `health` is well: most likely the API fails on one record in it. `wait` goes on sending it as it is, for it may be stored already, and a batch that is cut up would then be there twice; the pipeline waits meanwhile. `isolate` sends its records one by one, so that only the one to blame stays behind: right for an API that knows records by their `id`, or that stores nothing of a request that it answers with an error."},
			{Name: "max_retry_after", Type: config.Duration, Default: `"5m"`, Min: "1s", Max: "24h", Doc: "The longest time that a `Retry-After` is obeyed for."},
			maxRateArg(),
		},
		Blocks: []config.Spec{monitorSpec(), {
			Name:    "tls",
			Summary: "TLS towards the API. Without it the system's certificate authorities apply.",
			Args: []config.Arg{
				{Name: "ca", Type: config.String, Doc: "File with the certificate authorities (PEM) that vouch for the API."},
				{Name: "cert", Type: config.String, Doc: "File with this edge's certificate (PEM)."},
				{Name: "key", Type: config.String, Doc: "File with the private key (PEM) of cert."},
			},
		}},
		Example: `remote "http" "cloud" {
  url         = "https://ingest.example.com"
  token       = env("INGEST_TOKEN", "change-me")
  compression = "zstd"
}`,
		Check: checkHTTP,
	}
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("write the whole address, like https://ingest.example.com/v1")
	case u.User != nil:
		return errors.New("credentials do not belong into the address; use token")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the paths of the API are put behind it, so it may have no query and no fragment")
	}
	return nil
}

func checkHealth(path string) error {
	if u, err := url.Parse(path); err != nil || !strings.HasPrefix(path, "/") || u.Host != "" {
		return errors.New(`write a path that starts with "/", like /health`)
	}
	return nil
}

func checkToken(token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("a token is visible ASCII without spaces, and not empty")
	}
	return nil
}

// reserved are the headers that the remote sets itself.
var reserved = []string{
	"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type",
	"Edged-Edge", "Edged-Pipeline", "Host", "Idempotency-Key", "Transfer-Encoding",
}

func checkHeader(name, value string) error {
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	}):
		return fmt.Errorf("%q is not the name of a header", name)
	case slices.Contains(reserved, http.CanonicalHeaderKey(name)):
		return fmt.Errorf("edged sets %s itself", http.CanonicalHeaderKey(name))
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("the value of %s has a control character in it", name)
	}
	return nil
}

func checkHTTP(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if a.Has("token") && a.Has("token_file") {
		diags = append(diags, a.Error("token_file", "Conflicting arguments", "Either token or token_file, not both."))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Map("headers"))) {
		if err := checkHeader(name, a.Map("headers")[name]); err != nil {
			diags = append(diags, a.Error("headers", "Invalid header", upperFirst(err.Error())+"."))
		}
	}
	u, err := url.Parse(a.String("url"))
	if err != nil {
		return append(diags, a.Error("url", "Invalid address", err.Error()))
	}
	if tls, ok := a.Block("tls"); ok {
		if tls.Has("cert") != tls.Has("key") {
			diags = append(diags, tls.Error("cert", "Missing required argument", "cert and key go together."))
		}
		if u.Scheme != "https" {
			diags = append(diags, tls.Error("", "Conflicting arguments", "The address is http://, so there is no TLS: write https://, or remove the block tls."))
		}
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) &&
		(a.Has("token") || a.Has("token_file")) {
		d := a.Error("url", "Token in the clear", "Over http:// everyone on the way can read the token. Use https:// if the API has it.")
		d.Severity = hcl.DiagWarning
		diags = append(diags, d)
	}
	return diags
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
