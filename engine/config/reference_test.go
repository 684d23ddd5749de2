package config_test

import (
	"strings"
	"testing"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// TestReferenceMentionsEverything walks the declarations of the test catalog
// and asks the page for each of them under its own heading.
func TestReferenceMentionsEverything(t *testing.T) {
	catalog := testCatalog()
	page := string(config.Reference(catalog))
	sections := map[string]string{}
	for _, part := range strings.Split(page, "\n#")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		sections[strings.TrimLeft(title, "# ")] += text
	}
	for parent, specs := range map[string][]config.Spec{"collect": catalog.Collects, "remote": catalog.Remotes} {
		for _, s := range specs {
			mentions(t, sections, "`"+parent+` "`+s.Name+`" "<name>"`+"`", &s)
		}
	}
	for title, words := range map[string][]string{
		"`edge`":                          {"`device_id`", "`hostname()`", "`data_dir`", "`durability`", "`\"fsync\"`, `\"relaxed\"`", "`max_bytes`", "`\"8GiB\"`"},
		"`remote \"<kind>\" \"<name>\"`":  {"any number of times"},
		"`plugin \"<name>\"`":             {"`module`", "`sha256`", "`config`"},
		"`limits`":                        {"`memory`", "`time`", "`output`", "at least 64KiB and at most 1GiB"},
		"`pipeline \"<name>\"`":           {"any number of times"},
		"`collect \"<kind>\" \"<name>\"`": {"once or more", "Stands in `pipeline`"},
		"`transform \"<name>\"`":          {"`plugin`", "`plugin.<name>`", "`on_error`"},
		"`alert \"<name>\"`":              {"`when`", "expression over `record`", "`topic`", "`priority`", "`message`"},
		"`batch`":                         {"`max_records`", "`500`", "`max_bytes`", "`max_wait`"},
		"`sync`":                          {"`to`", "`remote.<kind>.<name>`", "`every`"},
	} {
		for _, word := range words {
			if !strings.Contains(sections[title], word) {
				t.Errorf("section %s does not mention %s:\n%s", title, word, sections[title])
			}
		}
	}
	for _, f := range expr.Functions() {
		if !strings.Contains(page, "`"+f.Usage+"`") {
			t.Errorf("the page does not mention the function %s", f.Usage)
		}
	}
}

func mentions(t *testing.T, sections map[string]string, title string, s *config.Spec) {
	t.Helper()
	text := sections[title]
	if !strings.Contains(text, s.Summary) {
		t.Errorf("section %s lacks the summary %q", title, s.Summary)
	}
	for _, a := range s.Args {
		row := "| `" + a.Name + "` | "
		if !strings.Contains(text, row) || !strings.Contains(text, a.Doc) || !strings.Contains(text, a.Default) {
			t.Errorf("section %s lacks the argument %q, its documentation or its default", title, a.Name)
		}
	}
	for i := range s.Blocks {
		mentions(t, sections, "`"+s.Blocks[i].Name+"`", &s.Blocks[i])
	}
}
