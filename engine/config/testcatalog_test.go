package config_test

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// testCatalog offers kinds that resemble the real ones and use every argument
// type.
func testCatalog() config.Catalog {
	return config.Catalog{
		Collects: []config.Spec{fileSpec(), generatorSpec()},
		Remotes:  []config.Spec{natsSpec(), httpSpec()},

		Strategies:   []string{"latest_wins", "manual"},
		Capabilities: []string{"clock", "config", "kv", "log", "metric"},
	}
}

func fileSpec() config.Spec {
	return config.Spec{
		Name:    "file",
		Summary: "Reads records from a file.",
		Doc:     "Each line becomes one record.",
		Args: []config.Arg{
			{Name: "path", Type: config.String, Required: true, Doc: "The file."},
			{Name: "format", Type: config.String, Default: `"ndjson"`, Enum: []string{"csv", "ndjson"}, Doc: "How lines are read."},
			{Name: "header", Type: config.Bool, Default: `true`, Doc: "Whether the first line holds the names."},
			{Name: "columns", Type: config.StringMap, Doc: "The type of each column."},
			{Name: "id", Type: config.Expression, Root: expr.Input, Doc: "The record's id."},
			{Name: "device_id", Type: config.Expression, Root: expr.Input, Doc: "The device's id."},
			{Name: "data_type", Type: config.Expression, Root: expr.Input, Doc: "The data type."},
			{Name: "timestamp", Type: config.Expression, Root: expr.Input, Doc: "The time."},
			{Name: "payload", Type: config.Expression, Root: expr.Input, Default: `input`, Doc: "The payload."},
		},
		Example: `collect "file" "motes" {
  path = "data.csv"
}
`,
		Check: func(a config.Args) hcl.Diagnostics {
			if a.String("format") != "csv" && a.Given("columns") {
				return hcl.Diagnostics{a.Error("columns", "Unsupported argument", `The argument "columns" is for format = "csv" only. Remove it.`)}
			}
			return nil
		},
	}
}

func generatorSpec() config.Spec {
	return config.Spec{
		Name:    "generator",
		Summary: "Makes records up.",
		Args: []config.Arg{
			{Name: "every", Type: config.Duration, Default: `"1s"`, Min: "1ms", Doc: "Time between two records."},
			{Name: "count", Type: config.Int, Min: "1", Doc: "How many records to make."},
			{Name: "seed", Type: config.Int, Doc: "Seed of the random functions."},
			{Name: "jitter", Type: config.Float, Default: `0.5`, Min: "0", Max: "1", Doc: "Share of the time that varies."},
			{Name: "payload", Type: config.Expression, Required: true, Root: expr.None, Doc: "The payload."},
		},
		Example: `collect "generator" "fridge" {
  payload = { temperature = 4 }
}
`,
	}
}

func natsSpec() config.Spec {
	return config.Spec{
		Name:    "nats",
		Summary: "A NATS hub.",
		Args: []config.Arg{
			{Name: "urls", Type: config.StringList, Doc: "Where the hub listens."},
			{Name: "credentials", Type: config.String, Doc: "A credentials file."},
			{Name: "domain", Type: config.String, Default: `"hub"`, Doc: "The hub's domain."},
			{Name: "embedded", Type: config.Bool, Default: `false`, Doc: "Runs the hub inside this process."},
		},
		Blocks: []config.Spec{{
			Name:    "tls",
			Summary: "How the connection is secured.",
			Args: []config.Arg{
				{Name: "ca", Type: config.String, Doc: "File of the authority."},
				{Name: "cert", Type: config.String, Doc: "File of the certificate."},
				{Name: "key", Type: config.String, Doc: "File of the key."},
			},
			Check: func(a config.Args) hcl.Diagnostics {
				if a.Has("cert") != a.Has("key") {
					return hcl.Diagnostics{a.Error("cert", "Missing required argument", `The arguments "cert" and "key" go together. Write both or none.`)}
				}
				return nil
			},
		}},
		Example: `remote "nats" "hub" {
  embedded = true
}
`,
		Check: func(a config.Args) hcl.Diagnostics {
			if !a.Bool("embedded") && len(a.Strings("urls")) == 0 {
				return hcl.Diagnostics{a.Error("urls", "Missing required argument", `Write urls = ["nats-leaf://…"], or embedded = true.`)}
			}
			return nil
		},
	}
}

func httpSpec() config.Spec {
	return config.Spec{
		Name:    "http",
		Summary: "An HTTP ingest API.",
		Args: []config.Arg{
			{Name: "url", Type: config.String, Required: true, Doc: "Where the API listens."},
		},
		Example: `remote "http" "cloud" {
  url = "https://example.com"
}
`,
	}
}
