package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/expr"
)

// Type is the type of an argument.
type Type int

// The argument types, with the Go type that [Args] hands out.
const (
	String     Type = iota // string
	Bool                   // bool
	Int                    // int64
	Float                  // float64
	Duration               // time.Duration, written "500ms", "5s", "7d"
	Size                   // int64 bytes, written "64KiB", "1GB"
	Rate                   // int64 bytes a second, written "64KiB/s"
	StringList             // []string
	StringMap              // map[string]string
	JSON                   // json.RawMessage: any constant value
	Expression             // *expr.Program over the argument's Root
	BlockRef               // []string: the labels of the block it names, written plugin.x
	Resolvers              // []string: plugins by name, or "builtin:<name>"; written plugin.x, one of Enum, or a list
)

// Arg declares one argument of a block.
type Arg struct {
	Name     string
	Type     Type
	Required bool
	Default  string    // as it would be written in the file: `"5s"`, `true`; empty: none
	Doc      string    // one or two sentences: meaning, unit, bounds
	Enum     []string  // for String, and for each element of a StringList: the allowed values; for Resolvers: the built-in ones
	Min, Max string    // bounds, as they would be written without quotes; empty: none
	Root     expr.Root // for Expression: the variable it may use
	Result   expr.Type // for Expression: what it must give, checked as far as it is known before there is a record
	Refers   string    // for BlockRef: the type of the top-level block it names
	// Elsewhere has values that one may look for in Enum and that belong somewhere
	// else: a sentence says why, and what to write instead.
	Elsewhere map[string]string
	// Check looks further at a String, or at each element of a StringList. Its
	// error says what is wrong or what to write. See [NotEmpty].
	Check func(value string) error
}

// Spec declares one block or one kind of block: from it come the schema, the
// checks, the defaults and the reference page.
type Spec struct {
	Name    string // the block's type, or in Kinds the kind: "file", "nats"
	Summary string // one sentence
	Doc     string // paragraphs: behavior, guarantees, failures
	Args    []Arg
	Blocks  []Spec // nested blocks
	Example string // HCL that validates: the block, as it stands in its parent
	// Check looks at the arguments together, after each was checked alone and
	// only if none of them was wrong. [Args.Error] builds its diagnostics.
	Check func(a Args) hcl.Diagnostics

	// The rest says how a nested block may be written; it is ignored in Kinds.

	Named    bool   // its last label is its name, unique among the blocks of its type beside it
	Kinds    []Spec // not nil: its first label is one of these, whose arguments it takes
	Many     bool   // may be written more than once
	Required bool   // must be written
	Unless   string // a block beside it that makes it not required
}

func (s *Spec) hasKinds() bool { return s.Kinds != nil }

// labels lists what the labels of a block of that spec mean.
func (s *Spec) labels() []string {
	var l []string
	if s.hasKinds() {
		l = append(l, "kind")
	}
	if s.Named {
		l = append(l, "name")
	}
	return l
}

// shape is how a block of that spec is written.
func (s *Spec) shape() string {
	var b strings.Builder
	b.WriteString(s.Name)
	for _, l := range s.labels() {
		fmt.Fprintf(&b, " \"<%s>\"", l)
	}
	return b.String() + " { … }"
}

// Args holds the checked arguments of one block. The accessors panic when the
// name is not declared with that type: that is a fault of the program, not of
// the file. An optional argument that was not given and has no default yields
// the zero value; Has tells. Args is immutable and may be shared.
type Args struct {
	Range  hcl.Range // the block's header
	whole  hcl.Range // all of it
	spec   *Spec
	labels []string
	values map[string]any
	ranges map[string]hcl.Range
	blocks map[string][]Args
}

// Has reports whether the argument was given or has a default.
func (a Args) Has(name string) bool { _, ok := a.values[name]; return ok }

// Given reports whether the argument was written in the file.
func (a Args) Given(name string) bool { _, ok := a.ranges[name]; return ok }

// Labels returns the block's labels: kind, name, or both.
func (a Args) Labels() []string { return a.labels }

// ArgRange is where the argument's value was written, or the block's header.
func (a Args) ArgRange(name string) hcl.Range {
	if r, ok := a.ranges[name]; ok {
		return r
	}
	return a.Range
}

// Error builds a diagnostic about the argument, or about the block when the
// argument was not written. It serves [Spec.Check].
func (a Args) Error(name, summary, detail string) *hcl.Diagnostic {
	return diagnostic(summary, detail, a.ArgRange(name))
}

func get[T any](a Args, name string, types ...Type) T {
	if a.spec != nil {
		a.mustDeclare(name, types)
	}
	v, ok := a.values[name]
	if !ok {
		var zero T
		return zero
	}
	return v.(T)
}

func (a Args) mustDeclare(name string, types []Type) {
	for i := range a.spec.Args {
		if a.spec.Args[i].Name != name {
			continue
		}
		for _, t := range types {
			if a.spec.Args[i].Type == t {
				return
			}
		}
		panic(fmt.Sprintf("config: argument %q of %q is not declared with that type", name, a.spec.Name))
	}
	panic(fmt.Sprintf("config: %q declares no argument %q", a.spec.Name, name))
}

// String returns a String argument.
func (a Args) String(name string) string { return get[string](a, name, String) }

// Bool returns a Bool argument.
func (a Args) Bool(name string) bool { return get[bool](a, name, Bool) }

// Int returns an Int argument.
func (a Args) Int(name string) int64 { return get[int64](a, name, Int) }

// Float returns a Float argument.
func (a Args) Float(name string) float64 { return get[float64](a, name, Float) }

// Duration returns a Duration argument.
func (a Args) Duration(name string) time.Duration { return get[time.Duration](a, name, Duration) }

// Size returns a Size argument in bytes.
func (a Args) Size(name string) int64 { return get[int64](a, name, Size) }

// Rate returns a Rate argument in bytes a second.
func (a Args) Rate(name string) int64 { return get[int64](a, name, Rate) }

// Strings returns a StringList argument. The caller must not change it.
func (a Args) Strings(name string) []string { return get[[]string](a, name, StringList) }

// Map returns a StringMap argument. The caller must not change it.
func (a Args) Map(name string) map[string]string { return get[map[string]string](a, name, StringMap) }

// JSON returns a JSON argument: no white space, object members sorted by name.
func (a Args) JSON(name string) json.RawMessage { return get[json.RawMessage](a, name, JSON) }

// Expr returns an Expression argument, nil when not given.
func (a Args) Expr(name string) *expr.Program { return get[*expr.Program](a, name, Expression) }

// BlockRef returns the labels of the block that a BlockRef argument names.
func (a Args) BlockRef(name string) []string { return get[[]string](a, name, BlockRef) }

// Resolvers returns a Resolvers argument. The caller must not change it.
func (a Args) Resolvers(name string) []string { return get[[]string](a, name, Resolvers) }

// Block returns the first nested block of that type and whether there is one.
func (a Args) Block(name string) (Args, bool) {
	if b := a.Blocks(name); len(b) > 0 {
		return b[0], true
	}
	return Args{}, false
}

// Blocks returns the nested blocks of that type in the order of the file.
func (a Args) Blocks(name string) []Args {
	if a.spec != nil {
		a.mustNest(name)
	}
	return a.blocks[name]
}

func (a Args) mustNest(name string) {
	for i := range a.spec.Blocks {
		if a.spec.Blocks[i].Name == name {
			return
		}
	}
	panic(fmt.Sprintf("config: %q declares no block %q", a.spec.Name, name))
}

// ParseBlock reads src as the body of one block of that spec: the arguments
// as they would stand between its braces. It serves tests and embedders.
// References are checked for their form only.
func ParseBlock(spec Spec, src []byte, filename string) (Args, hcl.Diagnostics) {
	file, diags := parseFile(src, filename)
	if diags.HasErrors() {
		return Args{}, finish(diags, nil)
	}
	d := newDecoder(expr.Host{})
	header := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	args := d.decode(block{spec: &spec, title: "The block " + spec.Name, header: header, body: bodyOf(file)})
	return args, finish(append(diags, d.diags...), map[string]*hcl.File{filename: file})
}
