package record_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edged/edged/engine/record"
)

// FuzzEachElement holds EachElement against the standard library.
func FuzzEachElement(f *testing.F) {
	for _, s := range []string{`[]`, ` [ 1 , {"a":[2]} ] `, `[1,]`, `[`, `[1 2]`, `{}`, `[1]x`, `null`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []string
		err := record.EachElement(data, func(value []byte) error {
			got = append(got, string(value))
			return nil
		})
		var want []json.RawMessage
		if err != nil {
			return // what is valid and refused is held below
		}
		if json.Unmarshal(data, &want) != nil || want == nil {
			t.Fatalf("%q was taken", data)
		}
		if diff := cmp.Diff(len(want), len(got)); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", data, diff)
		}
		for i := range want {
			if string(want[i]) != got[i] {
				t.Fatalf("%q: element %d is %q, want %q", data, i, got[i], want[i])
			}
		}
	})
}

func TestEachElement(t *testing.T) {
	var got []string
	err := record.EachElement([]byte(" [1, \"a\" ,{\"b\":[]}]\n"), func(v []byte) error { got = append(got, string(v)); return nil })
	if diff := cmp.Diff([]string{"1", `"a"`, `{"b":[]}`}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	enough := errors.New("enough")
	if err := record.EachElement([]byte(`[1,2]`), func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want visit's error", err)
	}
	for _, bad := range []string{``, `{}`, `[1,]`, `[1 2]`, `[`, `[]]`} {
		if record.EachElement([]byte(bad), func([]byte) error { return nil }) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
