package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns src in the one layout: two spaces for each level, aligned
// equals signs, at most one blank line, none beside braces, "\n" at every end
// of line. It changes white space only, and what it returns it would return
// again. Text with syntax errors is returned as it is, with diagnostics.
func Format(src []byte, filename string) ([]byte, hcl.Diagnostics) {
	if _, diags := parseFile(src, filename); diags.HasErrors() {
		return src, finish(diags, nil)
	}
	out := bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	return hclwrite.Format(tidyLines(out, filename)), nil
}

// tidyLines settles the ends of lines. Text inside heredocs is a value and
// stays.
func tidyLines(src []byte, filename string) []byte {
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	out := make([]byte, 0, len(src)+1)
	end := 0      // of the token before, in src
	newlines := 2 // in a row at the end of out; the file begins without a blank line
	opened := false
	for i, t := range tokens {
		gap := src[end:t.Range.Start.Byte]
		end = t.Range.End.Byte
		switch t.Type {
		case hclsyntax.TokenEOF:
		case hclsyntax.TokenNewline:
			if newlines >= 2 || newlines == 1 && (opened || closesNext(tokens[i+1:])) {
				continue
			}
			newlines++
			out = append(out, '\n')
		case hclsyntax.TokenComment:
			out = append(out, gap...)
			text, line := bytes.CutSuffix(t.Bytes, []byte("\n"))
			text = bytes.TrimRight(text, " \t\r")
			out = append(out, text...)
			newlines, opened = 0, false
			if line {
				newlines = 1
				out = append(out, '\n')
			}
		default:
			out = append(append(out, gap...), t.Bytes...)
			newlines = 0
			opened = t.Type == hclsyntax.TokenOBrace || t.Type == hclsyntax.TokenOBrack || t.Type == hclsyntax.TokenOParen
		}
	}
	return endWithNewline(out)
}

// closesNext tells whether only line ends stand before a closing bracket.
func closesNext(tokens hclsyntax.Tokens) bool {
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenNewline:
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenEOF:
			return true
		default:
			return false
		}
	}
	return true
}

func endWithNewline(out []byte) []byte {
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return out
}
