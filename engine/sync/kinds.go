package sync

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/config"
)

// Specs declares every kind of remote.
func Specs() []config.Spec { return []config.Spec{natsSpec(), httpSpec()} }

// DefaultDomain is the JetStream domain that a hub has unless it says
// otherwise.
const DefaultDomain = "hub"

func natsSpec() config.Spec {
	return config.Spec{
		Name:    "nats",
		Summary: "A NATS hub, reached as a leaf node.",
		Doc: "The edge's server joins the hub as a leaf node and pushes into the hub's streams " +
			"EDGED_RECORDS and EDGED_QUEUE. Every batch is one atomic publish that ends with a ledger entry, " +
			"so that records and position commit together or not at all: after lost answers, kills and restarts " +
			"on either side each record is there exactly once.\n\n" +
			"While the hub cannot be reached everything waits in the local store; when it comes back, sync starts at once. " +
			"The hub needs JetStream with atomic publish (nats-server 2.12 or newer) and the two streams; `edged hub` has both.",
		Args: []config.Arg{
			{Name: "urls", Type: config.StringList, Doc: "Leaf node addresses of the hub, tried in turn: `nats-leaf://host:7422`, `tls://…`, or `ws://` and `wss://` for its websocket port."},
			{Name: "embedded", Type: config.Bool, Default: "false", Doc: "Runs a hub of its own inside this process, reached over a real leaf-node connection, with its data below the edge's data_dir: for trials and tests."},
			{Name: "client_listen", Type: config.String, Doc: "With embedded: the address where NATS clients can read the hub, like `127.0.0.1:4222`."},
			{Name: "domain", Type: config.String, Default: `"` + DefaultDomain + `"`, Doc: "JetStream domain of the hub."},
			{Name: "credentials", Type: config.String, Doc: "Path of a NATS .creds file, relative to this file."},
			{Name: "user", Type: config.String, Doc: "User name at the hub's leaf node port."},
			{Name: "password", Type: config.String, Doc: "Password of user; take it from the environment with `env(\"NAME\")`."},
			{Name: "compression", Type: config.String, Default: `"auto"`, Enum: compressions(), Doc: "Of what goes to the hub; the hub compresses its side as it was told. From `fast` to `best` it gets smaller and costs more. `auto` goes by the round trip: none below 10 ms, `best` above 100 ms. `off` at either side is off for both."},
			maxRateArg(),
		},
		Blocks: []config.Spec{monitorSpec(), {
			Name:    "tls",
			Summary: "TLS towards the hub. Without it the system's certificate authorities apply to tls:// and wss:// addresses.",
			Args: []config.Arg{
				{Name: "ca", Type: config.String, Doc: "File with the certificate authorities (PEM) that vouch for the hub."},
				{Name: "cert", Type: config.String, Doc: "File with this edge's certificate (PEM)."},
				{Name: "key", Type: config.String, Doc: "File with the private key (PEM) of cert."},
			},
		}},
		Example: `remote "nats" "hub" {
  urls        = ["nats-leaf://hub.example.com:7422"]
  credentials = "edge.creds"
}`,
		Check: checkNATS,
	}
}

func compressions() []string {
	names := make([]string, len(broker.Compressions))
	for i, c := range broker.Compressions {
		names[i] = string(c)
	}
	return names
}

// maxRateArg bounds what any kind of remote is sent.
func maxRateArg() config.Arg {
	return config.Arg{
		Name: "max_rate", Type: config.Rate, Min: "1KiB/s", Doc: "The most that is sent, on average, like `256KiB/s`: " +
			"records, keyed ones too, and messages with their headers, before the connection's own compression and TLS. Messages go before records; " +
			"half a second's worth goes at once. Without it there is no bound.",
	}
}

// monitorSpec is the block of any kind of remote that says when it is taken for
// degraded or offline.
func monitorSpec() config.Spec {
	return config.Spec{
		Name:    "monitor",
		Summary: "When the remote is taken for degraded or offline.",
		Doc: "The remote is asked when its connection comes up, every so often, and when a push has failed. " +
			"It is `online` while it answers, `degraded` when it answers slowly, has failed less often than failures, or refuses what it is sent, " +
			"and `offline` after that or when the connection is gone. While degraded it is asked five times as often, and sending goes on. " +
			"Every change is logged, counted in `edged status`, and an event: `edged events`.",
		Args: []config.Arg{
			{Name: "every", Type: config.Duration, Default: `"15s"`, Min: "1s", Max: "1h", Doc: "Time between questions while it is online. Each costs about 1.5 KB."},
			{Name: "timeout", Type: config.Duration, Default: `"5s"`, Min: "100ms", Max: "5m", Doc: "How long an answer may take."},
			{Name: "slow", Type: config.Duration, Default: `"2s"`, Min: "1ms", Max: "5m", Doc: "An answer that takes longer means degraded."},
			{Name: "failures", Type: config.Int, Default: "3", Min: "1", Max: "100", Doc: "After so many failures in a row it is offline."},
		},
		Example: `monitor {
  every    = "1m"
  timeout  = "20s"
  slow     = "10s"
  failures = 5
}`,
		Check: func(a config.Args) hcl.Diagnostics {
			if a.Duration("slow") > a.Duration("timeout") {
				return hcl.Diagnostics{a.Error("slow", "Invalid argument", "slow must not be longer than timeout: an answer that takes longer than timeout is a failure.")}
			}
			return nil
		},
	}
}

func checkNATS(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	refuse := func(arg, summary, detail string) {
		r := a.ArgRange(arg)
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &r})
	}
	embedded, urls := a.Bool("embedded"), len(a.Strings("urls"))
	switch {
	case embedded && urls > 0:
		refuse("urls", "Conflicting arguments", "An embedded hub has no urls: remove either urls or embedded.")
	case !embedded && urls == 0:
		refuse("urls", "Missing required argument", "A NATS remote needs urls, the hub's leaf node addresses, or embedded = true.")
	}
	if a.Has("client_listen") && !embedded {
		refuse("client_listen", "Conflicting arguments", "client_listen opens a port of an embedded hub; this hub is not embedded.")
	}
	if a.Has("user") != a.Has("password") {
		refuse("user", "Missing required argument", "user and password go together.")
	}
	if a.Has("user") && a.Has("credentials") {
		refuse("credentials", "Conflicting arguments", "Either credentials or user and password, not both.")
	}
	if tls, ok := a.Block("tls"); ok && tls.Has("cert") != tls.Has("key") {
		r := tls.Range
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Missing required argument",
			Detail: "cert and key go together.", Subject: &r,
		})
	}
	return diags
}
