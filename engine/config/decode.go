package config

import (
	"fmt"
	"regexp"
	"sort"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/expr"
)

// validName is what a block may be called. Names end up in subjects, file
// names and references, so they stay plain.
var validName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$`)

// decoder checks bodies against specs. It collects every diagnostic instead of
// stopping at the first one.
type decoder struct {
	ctx   *hcl.EvalContext
	diags hcl.Diagnostics
}

func newDecoder(host expr.Host) *decoder {
	return &decoder{ctx: expr.EvalContext(host)}
}

func (d *decoder) report(summary, detail string, subject hcl.Range) {
	d.diags = append(d.diags, diagnostic(summary, detail, subject))
}

// block is one block on its way through the decoder.
type block struct {
	spec   *Spec
	title  string // how a sentence about it begins: `The block batch`
	labels []string
	header hcl.Range // its type and labels
	body   *hclsyntax.Body
}

// decode checks one block against its spec.
func (d *decoder) decode(b block) Args {
	before := len(d.diags)
	args := Args{
		Range:  b.header,
		whole:  hcl.RangeBetween(b.header, b.body.SrcRange),
		spec:   b.spec,
		labels: b.labels,
		values: map[string]any{},
		ranges: map[string]hcl.Range{},
		blocks: map[string][]Args{},
	}
	d.arguments(b, &args)
	d.blocks(b, &args)
	if b.spec.Check != nil && !d.diags[before:].HasErrors() {
		d.diags = append(d.diags, b.spec.Check(args)...)
	}
	return args
}

func (d *decoder) arguments(b block, args *Args) {
	meant := map[string]bool{} // by misspelled names
	for _, attr := range inOrder(b.body.Attributes) {
		arg := findArg(b.spec, attr.Name)
		if arg == nil {
			meant[d.unsupportedArgument(b, attr)] = true
			continue
		}
		v, ok := d.value(arg, attr.Expr)
		if ok && v == nil {
			continue // null is the same as not written
		}
		args.ranges[attr.Name] = attr.Expr.Range()
		if ok {
			args.values[attr.Name] = v
		}
	}
	for i := range b.spec.Args {
		arg := &b.spec.Args[i]
		if args.Given(arg.Name) || meant[arg.Name] || hasBlock(b.body, arg.Name) {
			continue
		}
		switch {
		case arg.Required:
			d.report("Missing required argument", fmt.Sprintf("%s needs the argument %q: %s", b.title, arg.Name, lowerFirst(arg.Doc)), b.header)
		case arg.Default != "":
			if v, ok := d.defaultValue(arg, b.header); ok {
				args.values[arg.Name] = v
			}
		}
	}
}

// unsupportedArgument returns the name that was probably meant, or "".
func (d *decoder) unsupportedArgument(b block, attr *hclsyntax.Attribute) string {
	if nested := findBlock(b.spec, attr.Name); nested != nil {
		d.report("Unsupported argument", fmt.Sprintf("%q is a block, not an argument. Write %s without an equals sign.", attr.Name, nested.shape()), attr.NameRange)
		return ""
	}
	var names []string // that are still free
	for i := range b.spec.Args {
		if b.body.Attributes[b.spec.Args[i].Name] == nil {
			names = append(names, b.spec.Args[i].Name)
		}
	}
	detail := fmt.Sprintf("%s has no argument %q.%s", b.title, attr.Name, didYouMean(attr.Name, names))
	switch {
	case len(b.spec.Args) == 0:
		detail += " It takes blocks only."
	case len(names) > 0:
		detail += " It takes: " + join(names) + "."
	}
	d.report("Unsupported argument", detail, attr.NameRange)
	return nearest(attr.Name, names)
}

func (d *decoder) blocks(b block, args *Args) {
	first := map[string]hcl.Range{}
	for _, written := range b.body.Blocks {
		nested := findBlock(b.spec, written.Type)
		if nested == nil {
			d.unsupportedBlock(b, written)
			continue
		}
		spec, duplicate := d.labels(nested, written), d.duplicate(nested, written, first)
		if spec == nil {
			continue
		}
		title := "The block " + written.Type
		for _, label := range written.Labels {
			title += fmt.Sprintf(" %q", label)
		}
		a := d.decode(block{spec: spec, title: title, labels: written.Labels, header: written.DefRange(), body: written.Body})
		if !duplicate {
			args.blocks[written.Type] = append(args.blocks[written.Type], a)
		}
	}
	for i := range b.spec.Blocks {
		nested := &b.spec.Blocks[i]
		_, written := first[nested.Name]
		_, instead := first[nested.Unless]
		if nested.Required && !written && !instead && b.body.Attributes[nested.Name] == nil {
			d.report("Missing required block", fmt.Sprintf("%s needs at least one block %s: %s", b.title, nested.shape(), lowerFirst(nested.Summary)), b.header)
		}
	}
}

func (d *decoder) unsupportedBlock(b block, written *hclsyntax.Block) {
	if findArg(b.spec, written.Type) != nil {
		d.report("Unsupported block", fmt.Sprintf("%q is an argument, not a block. Write %s = … with an equals sign.", written.Type, written.Type), written.TypeRange)
		return
	}
	names := make([]string, len(b.spec.Blocks))
	for i := range b.spec.Blocks {
		names[i] = b.spec.Blocks[i].Name
	}
	detail := fmt.Sprintf("%s has no block %q.%s", b.title, written.Type, didYouMean(written.Type, names))
	if len(names) > 0 {
		detail += " Its blocks are: " + join(names) + "."
	} else {
		detail += " It takes arguments only."
	}
	d.report("Unsupported block", detail, written.TypeRange)
}

// labels checks a block's labels and returns the spec of its body: nested
// itself, or the kind that its first label names; nil when that is unknown.
func (d *decoder) labels(nested *Spec, written *hclsyntax.Block) *Spec {
	want := nested.labels()
	got := len(written.Labels)
	switch {
	case got > len(want):
		d.report("Extra label", fmt.Sprintf("The block %s takes %s. Write %s.", written.Type, labelCount(want), nested.shape()), written.LabelRanges[len(want)])
	case got < len(want):
		d.report("Missing label", fmt.Sprintf("The block %s takes %s; the %s is missing. Write %s.", written.Type, labelCount(want), want[got], nested.shape()), written.DefRange())
	case nested.Named && !validName.MatchString(written.Labels[got-1]):
		d.report("Invalid name", fmt.Sprintf("%q cannot name a block. A name begins with a letter or an underscore and goes on with letters, digits, underscores and hyphens, 63 characters at most.", written.Labels[got-1]), written.LabelRanges[got-1])
	}
	if !nested.hasKinds() {
		return nested
	}
	if got == 0 {
		return nil
	}
	names := make([]string, len(nested.Kinds))
	for i := range nested.Kinds {
		if nested.Kinds[i].Name == written.Labels[0] {
			return &nested.Kinds[i]
		}
		names[i] = nested.Kinds[i].Name
	}
	d.report("Unknown kind", fmt.Sprintf("There is no kind of %s called %q.%s The kinds are: %s.", written.Type, written.Labels[0], didYouMean(written.Labels[0], names), join(names)), written.LabelRanges[0])
	return nil
}

// duplicate tells whether the block repeats one that may stand only once, or
// the name of another of its type, and remembers it.
func (d *decoder) duplicate(nested *Spec, written *hclsyntax.Block, first map[string]hcl.Range) bool {
	header := written.DefRange()
	other, again := first[written.Type]
	if !again {
		first[written.Type] = header
	} else if !nested.Many {
		d.report("Duplicate block", fmt.Sprintf("There may be only one block %s here, and there is one at %s. Put the arguments of both into one block.", written.Type, place(other)), header)
		return true
	}
	if n := len(nested.labels()); !nested.Named || len(written.Labels) != n {
		return false
	}
	last := len(written.Labels) - 1
	key := written.Type + " " + written.Labels[last]
	if other, again = first[key]; !again {
		first[key] = header
		return false
	}
	d.report("Duplicate name", fmt.Sprintf("There is a block %s named %q at %s already. Names are unique among blocks of one type; rename one of the two.", written.Type, written.Labels[last], place(other)), written.LabelRanges[last])
	return true
}

// inOrder lists attributes as they stand in the file, so that diagnostics do
// not depend on the order of a map.
func inOrder(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	list := make([]*hclsyntax.Attribute, 0, len(attrs))
	for _, a := range attrs {
		list = append(list, a)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].NameRange.Start.Byte < list[j].NameRange.Start.Byte })
	return list
}

func findArg(spec *Spec, name string) *Arg {
	for i := range spec.Args {
		if spec.Args[i].Name == name {
			return &spec.Args[i]
		}
	}
	return nil
}

func findBlock(spec *Spec, name string) *Spec {
	for i := range spec.Blocks {
		if spec.Blocks[i].Name == name {
			return &spec.Blocks[i]
		}
	}
	return nil
}

func hasBlock(body *hclsyntax.Body, name string) bool {
	for _, b := range body.Blocks {
		if b.Type == name {
			return true
		}
	}
	return false
}
