package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/edged/edged/engine/expr"
)

// Keyed is the `store "keyed"` block of a pipeline.
type Keyed struct {
	Key   *expr.Program // over record, to text
	Value *expr.Program // over record, to any JSON; nil: the payload as it is
	// Conflict lists the resolvers in the order in which they are asked: names of
	// plugin blocks, or "builtin:latest_wins".
	Conflict []string
	OnDelete string // "delete_wins", "update_wins" or "manual"
	Interest []string
	Schema   int64
	MaxSkew  time.Duration
	Journal  int
	Types    []KeyedType
	Range    hcl.Range // of conflict
}

// KeyedType is a `data_type "<name>"` block: what differs for keys of that type.
type KeyedType struct {
	Name     string
	Conflict []string // nil: as for the others
	OnDelete string   // empty: as for the others
	Range    hcl.Range
}

// API is the `api` block of the edge.
type API struct {
	Listen string // empty: there is none
	Token  string
	Range  hcl.Range // of listen
}

func apiSpec() Spec {
	return Spec{
		Name:    "api",
		Summary: "The HTTP API of this edge, for programs beside it.",
		Doc:     "It serves the keyed records of every pipeline with a block store \"keyed\":\n\n- `GET /keyed/<pipeline>/<key>`: the value as JSON, with an ETag.\n- `PUT`: stores a value; 200 or 201 come only when it is on the disk. `DELETE` removes it.\n- `If-Match` and `If-None-Match` make a change depend on the value that was read; 412 says that it is another.\n- `GET /keyed/<pipeline>?prefix=&after=&limit=`: the keys in order, with their values.\n- `GET /keyed`: how the stores are.\n\n400, 413 and 422 say why a request, key or value is refused; 503 comes when the store is full, with Retry-After.",
		Args: []Arg{
			{Name: "listen", Type: String, Required: true, Check: isAddress, Doc: "The address and port to listen on. \"127.0.0.1:8090\" can be reached from this machine alone, \":8090\" from everywhere."},
			{Name: "token", Type: String, Check: NotEmpty, Doc: "When given, a request must carry it, as `Authorization: Bearer TOKEN`. Take it from the environment with `env(\"NAME\")`."},
		},
		Example: `api {
  listen = "127.0.0.1:8090"
}
`,
	}
}

func isAddress(value string) error {
	if i := strings.LastIndexByte(value, ':'); i < 0 || i == len(value)-1 {
		return errors.New(`write host and port, like "127.0.0.1:8090" or ":8090"`)
	}
	return nil
}

func storeSpec(catalog Catalog) Spec {
	return Spec{
		Name:    "store",
		Summary: "How the pipeline keeps its records, when they are not readings that follow one another.",
		Kinds:   []Spec{keyedSpec(catalog)},
	}
}

func keyedSpec(catalog Catalog) Spec {
	conflict := Arg{
		Name: "conflict", Type: Resolvers, Enum: catalog.Strategies, Required: true,
		Doc: "What becomes of a key that was changed here and at the hub: a strategy that comes with edged, a plugin, or a list of them that are asked in turn. What none of them settles waits for a person, and the hub's value is served until then.",
	}
	onDelete := Arg{
		Name: "on_delete", Type: String, Default: `"update_wins"`, Enum: []string{"update_wins", "delete_wins", "manual"},
		Doc: "What becomes of a key that was deleted on one side and changed on the other. The resolvers are not asked about it.",
	}
	typeConflict, typeDelete := conflict, onDelete
	typeConflict.Required, typeConflict.Doc = false, "As for the whole store; without it that holds."
	typeDelete.Default, typeDelete.Doc = "", typeConflict.Doc
	return Spec{
		Name:    "keyed",
		Summary: "Records with a key and one current value, that may be changed here and at the hub.",
		Doc: "For settings, setpoints, work orders. Each record of the pipeline sets the value of its key; programs beside the edge read and change keys through the `api`; other edges, and any NATS client at the hub, through the hub's key-value bucket EDGED_KEYED, where this store's keys begin with the name of the pipeline. " +
			"Edges that share a store give their pipelines the same name.\n\n" +
			"A change is acknowledged when it is on the disk, and goes to the hub when the link allows; what changes at the hub comes back. All sides end with the same value: engine/DESIGN.md says why. Every decision about a conflict is in a journal, with both versions and the resolver's SHA-256.",
		Args: []Arg{
			{Name: "key", Type: Expression, Root: expr.Record, Result: expr.String, Default: `"${record.data_type}/${record.id}"`, Doc: "The key that a record sets: parts with slashes between them. The first part is the key's data type."},
			{Name: "value", Type: Expression, Root: expr.Record, Doc: "The value it sets, any JSON. Without it the record's payload, byte for byte."},
			conflict, onDelete,
			{Name: "interest", Type: StringList, Check: isPattern, Doc: "The keys that this edge has a copy of: patterns like `setpoint/*` and `order/north/>`, where `*` stands for one part and a `>` at the end for the rest. Without it all."},
			{Name: "schema", Type: Int, Default: "0", Min: "0", Max: "1000000000", Doc: "The version of what this edge's values mean. A change of a key that has a newer one at the hub waits until this edge knows it too."},
			{Name: "max_skew", Type: Duration, Default: `"1m"`, Min: "1s", Max: "7d", Doc: "How far a clock may be ahead of the hub's. What claims to be later counts as that late."},
			{Name: "journal", Type: Int, Default: "10000", Min: "100", Max: "1000000", Doc: "How many decisions the journal keeps; the oldest go."},
		},
		Blocks: []Spec{{
			Name:    "data_type",
			Summary: "What differs for the keys of one data type.",
			Named:   true,
			Many:    true,
			Args:    []Arg{typeConflict, typeDelete},
		}},
		Example: `store "keyed" {
  key      = "${record.data_type}/${record.id}"
  conflict = "latest_wins"
}
`,
	}
}

func isPattern(value string) error {
	parts := strings.Split(value, "/")
	for i, p := range parts {
		if p == ">" && i < len(parts)-1 {
			return errors.New("a > stands at the end")
		}
		if strings.ContainsAny(p, "*>") && len(p) > 1 {
			return errors.New("a * or > stands for a whole part, between slashes")
		}
	}
	return NotEmpty(value)
}

// resolvers reads "latest_wins", plugin.x, or a list of such.
func (d *decoder) resolvers(arg *Arg, e hcl.Expression) (any, bool) {
	list := []hcl.Expression{e}
	if tuple, ok := e.(*hclsyntax.TupleConsExpr); ok {
		list = list[:0]
		for _, item := range tuple.Exprs {
			list = append(list, item)
		}
	}
	names, good := []string{}, true
	for _, item := range list {
		name, ok := d.resolver(arg, item)
		names, good = append(names, name), good && ok
	}
	if len(list) == 0 {
		d.report("Invalid value", fmt.Sprintf("The argument %q is an empty list. Write %s = %q to have a person decide.", arg.Name, arg.Name, "manual"), e.Range())
	}
	return names, good && len(list) > 0
}

func (d *decoder) resolver(arg *Arg, e hcl.Expression) (string, bool) {
	if t, diags := hcl.AbsTraversalForExpr(e); !diags.HasErrors() && len(t) == 2 && t.RootName() == "plugin" {
		if attr, ok := t[1].(hcl.TraverseAttr); ok {
			return attr.Name, true
		}
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String {
		d.report("Invalid resolver", fmt.Sprintf("The argument %q takes plugin.<name>, one of %s, or a list of them.", arg.Name, joinQuoted(arg.Enum)), e.Range())
		return "", false
	}
	if err := checkText(arg, v.AsString()); err != nil {
		d.report(err.summary, err.detail, e.Range())
		return "", false
	}
	return builtinPrefix + v.AsString(), true
}

func keyedStore(a Args) *Keyed {
	k := &Keyed{
		Key: a.Expr("key"), Value: a.Expr("value"), Conflict: a.Resolvers("conflict"), OnDelete: a.String("on_delete"),
		Interest: a.Strings("interest"), Schema: a.Int("schema"), MaxSkew: a.Duration("max_skew"), Journal: int(a.Int("journal")),
		Range: a.ArgRange("conflict"),
	}
	for _, t := range a.Blocks("data_type") {
		if len(t.labels) == 1 {
			k.Types = append(k.Types, KeyedType{Name: t.labels[0], Conflict: t.Resolvers("conflict"), OnDelete: t.String("on_delete"), Range: t.ArgRange("conflict")})
		}
	}
	return k
}

// resolveKeyed checks what a pipeline with a keyed store says of other blocks.
func (b *builder) resolveKeyed(plugins *declared, pipeline Args) {
	store, ok := pipeline.Block("store")
	if !ok {
		return
	}
	for _, a := range append([]Args{store}, store.Blocks("data_type")...) {
		for _, name := range a.Resolvers("conflict") {
			if !strings.HasPrefix(name, builtinPrefix) {
				b.useName(plugins, "plugin."+name, a.ArgRange("conflict"))
			}
		}
	}
	syncs := pipeline.Blocks("sync")
	if len(syncs) > 1 {
		b.report("Too many remotes", "Keyed records have one hub, whose order decides. Remove this block, or keep the records in another pipeline.", syncs[1].Range)
	}
	for _, s := range syncs {
		if s.Given("every") {
			b.report("Unsupported argument", "Keyed records are synced as they change, one by one. Remove the argument.", s.ArgRange("every"))
		}
	}
}
