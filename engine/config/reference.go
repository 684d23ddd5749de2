package config

import (
	"fmt"
	"strings"

	"github.com/edged/edged/engine/expr"
)

// Reference returns the reference page of the language with that catalog, in
// Markdown. It is made from the declarations that the checks use, so it cannot
// say anything else than they do.
func Reference(catalog Catalog) []byte {
	lang := language(catalog)
	p := page{}
	p.line("# Pipeline files")
	p.line("")
	p.line("<!-- Made from the declarations in the code. Edits here are lost. -->")
	p.line("")
	p.line("%s Of a folder, every file whose name ends in `.hcl` belongs to it, subfolders do not. `edged validate` checks files without running anything, `edged fmt` lays them out.", lang.Summary)
	p.line("")
	p.values()
	p.line("## Blocks")
	p.line("")
	p.contents(lang.Blocks, 0)
	p.line("")
	for i := range lang.Blocks {
		p.block(&lang.Blocks[i], nil, 2)
	}
	p.functions()
	return []byte(strings.TrimRight(p.String(), "\n") + "\n")
}

type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

// values explains the types that the tables name.
func (p *page) values() {
	p.line("## Values")
	p.line("")
	p.line("| type | written | |")
	p.line("|---|---|---|")
	for _, row := range [][3]string{
		{"string", "`\"text\"`, `\"${hostname()}-a\"`", "Text in quotes."},
		{"bool", "`true`, `false`", ""},
		{"whole number, number", "`500`, `0.5`", ""},
		{"duration", "`\"500ms\"`, `\"5s\"`, `\"1h30m\"`, `\"7d\"`", "A number with a unit: ns, us, ms, s, m, h, d (24 hours), w. Several add up."},
		{"size", "`\"64KiB\"`, `\"1GB\"`", "A number with a unit: B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)."},
		{"list of strings", "`[\"a\", \"b\"]`", ""},
		{"map of strings", "`{ a = \"x\", b = \"y\" }`", ""},
		{"any value", "`{ a = [1, true] }`", "Any constant; it is handed on as JSON."},
		{"reference", "`plugin.dew_point`, `remote.nats.hub`", "The name of another block, without quotes."},
		{"expression", "`record.payload.temperature > 30`", "Evaluated for every record. It may use the variable that the table names, and functions."},
	} {
		p.line("| %s | %s | %s |", row[0], row[1], row[2])
	}
	p.line("")
	p.line("All but expressions are constants: literals and functions like `env(\"NAME\", \"default\")` and `hostname()`. An argument that is `null` is the same as one that is not written. Blocks are named with a letter or underscore and then letters, digits, underscores and hyphens, 63 characters at most; among blocks of one type a name stands once.")
	p.line("")
}

func (p *page) functions() {
	p.line("## Functions")
	p.line("")
	p.line("| function | returns |")
	p.line("|---|---|")
	for _, f := range expr.Functions() {
		p.line("| `%s` | %s |", f.Usage, cell(f.Summary))
	}
	p.line("")
}

func (p *page) contents(blocks []Spec, depth int) {
	for i := range blocks {
		b := &blocks[i]
		p.line("%s- `%s` %s", strings.Repeat("  ", depth), b.header(), lowerFirst(b.Summary))
		for k := range b.Kinds {
			p.line("%s- `%s` %s", strings.Repeat("  ", depth+1), kindHeader(b, &b.Kinds[k]), lowerFirst(b.Kinds[k].Summary))
		}
		p.contents(b.Blocks, depth+1)
	}
}

func (p *page) block(b *Spec, parents []string, level int) {
	p.heading(level, b.header())
	p.about(b)
	in := ""
	if len(parents) > 0 {
		in = fmt.Sprintf("Stands in `%s`; ", strings.Join(parents, " > "))
	}
	p.line("%s%s.", in, b.times(in == ""))
	p.line("")
	p.rest(b, append(parents[:len(parents):len(parents)], b.Name), level)
	for i := range b.Kinds {
		k := &b.Kinds[i]
		p.heading(level+1, kindHeader(b, k))
		p.about(k)
		p.rest(k, append(parents[:len(parents):len(parents)], fmt.Sprintf("%s %q", b.Name, k.Name)), level+1)
	}
}

func (p *page) heading(level int, text string) {
	p.line("%s `%s`", strings.Repeat("#", level), text)
	p.line("")
}

func (p *page) about(s *Spec) {
	p.line("%s", s.Summary)
	p.line("")
	if s.Doc != "" {
		p.line("%s", strings.TrimSpace(s.Doc))
		p.line("")
	}
}

func (p *page) rest(s *Spec, path []string, level int) {
	if len(s.Args) > 0 {
		p.line("| argument | type | default | meaning |")
		p.line("|---|---|---|---|")
		for i := range s.Args {
			a := &s.Args[i]
			p.line("| `%s` | %s | %s | %s |", a.Name, cell(a.typeText()), cell(a.defaultText()), cell(a.Doc))
		}
		p.line("")
	}
	if s.Example != "" {
		p.line("```hcl")
		p.line("%s", strings.TrimSpace(s.Example))
		p.line("```")
		p.line("")
	}
	for i := range s.Blocks {
		p.block(&s.Blocks[i], path, min(level+1, 6))
	}
}

// cell keeps text inside one cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
}

// header is a block's type and labels.
func (s *Spec) header() string { return strings.TrimSuffix(s.shape(), " { … }") }

func kindHeader(b, kind *Spec) string {
	return strings.Replace(b.header(), `"<kind>"`, fmt.Sprintf("%q", kind.Name), 1)
}

func (s *Spec) times(begin bool) string {
	text := "once or not at all"
	switch {
	case s.Many && s.Required:
		text = "once or more"
	case s.Many:
		text = "any number of times"
	case s.Required:
		text = "once"
	}
	if begin {
		text = "Written " + text
	} else {
		text = "written " + text
	}
	return text
}

func (a *Arg) typeText() string {
	text := a.Type.String()
	switch {
	case a.Type == BlockRef:
		return fmt.Sprintf("reference `%s`", referenceForm(a.Refers))
	case a.Type == Expression && a.Root == expr.None:
		return "expression without a variable"
	case a.Type == Expression:
		return fmt.Sprintf("expression over `%s`", a.Root)
	case len(a.Enum) > 0:
		quoted := make([]string, len(a.Enum))
		for i, v := range a.Enum {
			quoted[i] = fmt.Sprintf("`%q`", v)
		}
		switch a.Type {
		case StringList:
			return "list of " + strings.Join(quoted, ", ")
		case Resolvers:
			return "`plugin.<name>`, " + strings.Join(quoted, ", ") + ", or a list of those"
		}
		return "one of " + strings.Join(quoted, ", ")
	}
	if b := a.bounds(); b != "" {
		text += ", " + b
	}
	return text
}

func (a *Arg) defaultText() string {
	switch {
	case a.Required:
		return "required"
	case a.Default == "":
		return ""
	}
	return "`" + a.Default + "`"
}

// String returns the type as the reference page and diagnostics call it.
func (t Type) String() string {
	switch t {
	case String:
		return "string"
	case Bool:
		return "bool"
	case Int:
		return "whole number"
	case Float:
		return "number"
	case Duration:
		return "duration"
	case Size:
		return "size"
	case Rate:
		return "rate"
	case StringList:
		return "list of strings"
	case StringMap:
		return "map of strings"
	case JSON:
		return "any value"
	case Expression:
		return "expression"
	case BlockRef:
		return "reference"
	case Resolvers:
		return "resolvers"
	}
	return fmt.Sprintf("type %d", int(t))
}
