package config

import (
	"cmp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// finish puts diagnostics in the order of files and positions and gives each
// the block it stands in as its context.
func finish(diags hcl.Diagnostics, files map[string]*hcl.File) hcl.Diagnostics {
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		return compareRanges(a.Subject, b.Subject)
	})
	for _, d := range diags {
		if d.Subject == nil || d.Context != nil || files[d.Subject.Filename] == nil {
			continue
		}
		if block := files[d.Subject.Filename].InnermostBlockAtPos(d.Subject.Start); block != nil {
			d.Context = hcl.RangeBetween(block.DefRange, *d.Subject).Ptr()
		}
	}
	return diags
}

func compareRanges(a, b *hcl.Range) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte), cmp.Compare(a.End.Byte, b.End.Byte))
}
