package plugindev_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/plugindev"
)

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          []plugindev.Change
	}{
		"equal":              {`{"a":1,"b":{"c":[1, 2]}}`, ` { "b" : {"c":[1,2]}, "a":1}`, nil},
		"changed and added":  {`{"a":1,"b":2}`, `{"a":3,"b":2,"c":[4]}`, []plugindev.Change{{Path: "a", Before: "1", After: "3"}, {Path: "c", After: "[4]"}}},
		"removed, nested":    {`{"a":{"b":1,"c":2}}`, `{"a":{"c":2}}`, []plugindev.Change{{Path: "a.b", Before: "1"}}},
		"numbers are text":   {`{"a":1.0,"b":1e400}`, `{"a":1,"b":1e400}`, []plugindev.Change{{Path: "a", Before: "1.0", After: "1"}}},
		"another kind":       {`{"a":{"b":1}}`, `{"a":[1]}`, []plugindev.Change{{Path: "a", Before: `{"b":1}`, After: "[1]"}}},
		"names to be quoted": {`{"a.b":1}`, `{"a.b":2,"":3}`, []plugindev.Change{{Path: `"a.b"`, Before: "1", After: "2"}, {Path: `""`, After: "3"}}},
		"no objects":         {`1`, ` 1 `, nil},
		"the first counts":   {`{"a":1,"a":2}`, `{"a":1}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, plugindev.Compare("", []byte(c.before), []byte(c.after))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSideBySide(t *testing.T) {
	got := plugindev.SideBySide([]byte(`{"a":1,"b":{"c":1},"d":1}`), []byte(`{"a":2,"b":{"c":1},"d":{}}`), nil, []byte(`{"b":{"c":2},"d":1}`))
	want := []plugindev.Row{
		{Path: "a", Values: []string{"1", "2", "", ""}},
		{Path: "b.c", Values: []string{"1", "1", "", "2"}},
		{Path: "d", Values: []string{"1", "{}", "", "1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
