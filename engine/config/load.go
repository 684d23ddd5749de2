package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/edged/edged/engine/expr"
)

// maxFileBytes bounds one pipeline file (I9).
const maxFileBytes = 1 << 20

// Load reads files and directories as one configuration. Of a directory it
// takes the files whose names end in .hcl, in order of their names, and not
// those of its subdirectories. It opens nothing but these files and changes
// nothing (I10); [Config.CheckFiles] looks for what the configuration names.
//
// The result is never nil; unless the diagnostics hold an error it is complete
// and checked. Its Files serve to print the diagnostics, which hold everything
// that is wrong with any file, in order of file and position.
func Load(paths []string, catalog Catalog, host expr.Host) (*Config, hcl.Diagnostics) {
	files := map[string][]byte{}
	var diags hcl.Diagnostics
	for _, path := range paths {
		names, diag := listFiles(path)
		if diag != nil {
			diags = append(diags, diag)
		}
		for _, name := range names {
			if _, again := files[name]; again {
				continue
			}
			src, err := readFile(name)
			if err != nil {
				diags = append(diags, unreadable(name, err))
				continue
			}
			files[name] = src
		}
	}
	return parse(files, catalog, host, diags)
}

// Parse is [Load] for text that is already in memory, by file name.
func Parse(files map[string][]byte, catalog Catalog, host expr.Host) (*Config, hcl.Diagnostics) {
	return parse(files, catalog, host, nil)
}

func listFiles(path string) ([]string, *hcl.Diagnostic) {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, unreadable(path, err)
	}
	var names []string
	for _, e := range entries {
		// A leading dot marks what editors leave behind while a file is open.
		if filepath.Ext(e.Name()) == ".hcl" && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, diagnostic("No pipeline files", fmt.Sprintf("The folder %q holds no file whose name ends in .hcl. Name another folder or a file.", path), hcl.Range{Filename: path})
	}
	return names, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1)) // parseFile tells of the excess
}

func unreadable(path string, err error) *hcl.Diagnostic {
	return diagnostic("Cannot read file", fmt.Sprintf("%q cannot be read: %s. Check the path and its permissions.", path, reason(err)), hcl.Range{Filename: path})
}

// reason is err without the operation and the path, which the sentence around
// it names.
func reason(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// parse is the whole way from text to a checked configuration.
func parse(files map[string][]byte, catalog Catalog, host expr.Host, diags hcl.Diagnostics) (*Config, hcl.Diagnostics) {
	cfg := &Config{Files: map[string]*hcl.File{}}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)

	// The files become one body. What a file with a syntax error declares is
	// unknown, so such a file keeps out, and the checks across files with it.
	whole := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}
	var loose []*hclsyntax.Attribute
	complete := !diags.HasErrors()
	for _, name := range names {
		file, fileDiags := parseFile(files[name], name)
		diags = append(diags, fileDiags...)
		cfg.Files[name] = file
		if fileDiags.HasErrors() {
			complete = false
			continue
		}
		body := bodyOf(file)
		whole.Blocks = append(whole.Blocks, body.Blocks...)
		loose = append(loose, inOrder(body.Attributes)...)
	}

	lang := language(catalog)
	d := newDecoder(host)
	top := block{spec: &lang, title: "A pipeline file", body: whole}
	if len(names) > 0 {
		top.header = hcl.Range{Filename: names[0], Start: hcl.InitialPos, End: hcl.InitialPos}
	}
	for _, attr := range loose {
		d.unsupportedArgument(top, attr)
	}
	args := d.decode(top)
	b := builder{cfg: cfg, decoder: d}
	b.build(args)
	if complete {
		b.resolve(args)
	}
	return cfg, finish(append(diags, d.diags...), cfg.Files)
}

// parseFile refuses what would exhaust the parser before it parses.
func parseFile(src []byte, name string) (*hcl.File, hcl.Diagnostics) {
	empty := &hcl.File{Body: &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}, Bytes: src}
	if len(src) > maxFileBytes {
		return empty, hcl.Diagnostics{diagnostic("File too large", fmt.Sprintf("A pipeline file has at most %d bytes. Spread its blocks over several files of one folder.", maxFileBytes), hcl.Range{Filename: name})}
	}
	if diag := tooDeep(src, name); diag != nil {
		return empty, hcl.Diagnostics{diag}
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if file == nil {
		file = empty
	}
	return file, diags
}

// bodyOf returns the body of a file that parseFile returned.
func bodyOf(file *hcl.File) *hclsyntax.Body { return file.Body.(*hclsyntax.Body) }

// The parser and the evaluation recurse, and a Go program cannot survive the
// end of its stack. So nesting is bounded, and so is the number of operators
// on one level, because a+b+c nests too.
const (
	maxNesting   = 100
	maxOperators = 1000
)

func tooDeep(src []byte, name string) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	operators := []int{0} // by nesting level
	for _, t := range tokens {
		top := len(operators) - 1
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			operators[top]++
			operators = append(operators, 0)
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc,
			hclsyntax.TokenTemplateSeqEnd:
			operators = operators[:max(top, 1)]
		case hclsyntax.TokenComma, hclsyntax.TokenNewline:
			operators[top] = 0
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit, hclsyntax.TokenComment:
		default:
			operators[top]++
		}
		if top = len(operators) - 1; top > maxNesting || operators[top] > maxOperators {
			return diagnostic("Nested too deeply", fmt.Sprintf("Brackets nest at most %d levels deep, and one expression holds at most %d operators. Simplify it.", maxNesting, maxOperators), t.Range)
		}
	}
	return nil
}
