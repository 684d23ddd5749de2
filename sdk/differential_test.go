package sdk_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/edged/edged/sdk"
)

// writer makes JSON of few names and values, so that paths meet and sides agree
// now and then.
type writer struct {
	*rand.Rand
	strings.Builder
}

func (w *writer) pick(all ...string) string { return all[w.IntN(len(all))] }

func (w *writer) space() { w.WriteString(w.pick("", "", "", " ", "\n\t")) }

func (w *writer) name() string {
	return w.pick("a", "b", "ab", "é", "x.y", "long-name-of-a-member", "")
}

// quoted writes a name in one of its spellings.
func (w *writer) quoted(s string) {
	if s == "a" && w.IntN(3) == 0 {
		w.WriteString(`"\u0061"`)
		return
	}
	text, _ := json.Marshal(s)
	w.Write(text)
}

func (w *writer) number() string {
	return w.pick("0", "-0", "1", "1.0", "-2.50", "1e3", "0.001", "123456789012345", "99.99", "-1E-2", "12345678901234567890.5", "0.10")
}

func (w *writer) value(depth int) {
	kind := w.IntN(7)
	if depth == 0 {
		kind = w.IntN(4)
	}
	switch kind {
	case 0:
		w.WriteString(w.pick("true", "false", "null"))
	case 1:
		w.WriteString(w.number())
	case 2, 3:
		w.WriteString(w.pick(`""`, `"x"`, `"\"}{][,:\\"`, `"é\u00e9\ud83d\ude00\n"`, `"a long text without an escape"`, `"\u0061"`))
	case 4:
		w.list('[', ']', func(int) { w.value(depth - 1) })
	default:
		w.object(depth)
	}
}

func (w *writer) object(depth int) {
	names := w.Perm(4)
	w.list('{', '}', func(i int) {
		w.quoted([]string{"a", "b", "é", w.name()}[names[i]])
		w.space()
		w.WriteByte(':')
		w.space()
		w.value(depth - 1)
	})
}

func (w *writer) list(opening, closing byte, each func(i int)) {
	w.WriteByte(opening)
	for i := range w.IntN(4) {
		if i > 0 {
			w.WriteByte(',')
		}
		w.space()
		each(i)
		w.space()
	}
	w.WriteByte(closing)
}

func (w *writer) json() string {
	w.Reset()
	w.value(3)
	return w.String()
}

func (w *writer) path() string {
	names := make([]string, 1+w.IntN(3))
	for i := range names {
		names[i] = w.pick("a", "b", "é", "0", "1", w.name())
	}
	return strings.Join(names, ".")
}

// args makes one call of a function.
func (w *writer) args() []string {
	switch what := w.pick("get", "set", "del", "lookup", "members", "names", "fields", "same", "string", "quote", "delta", "compare", "number", "fixed"); what {
	case "set":
		return []string{what, w.json(), w.path(), w.number()}
	case "get", "del":
		return []string{what, w.json(), w.path()}
	case "lookup":
		return []string{what, w.json(), w.path(), w.path()}
	case "fields":
		w.Reset()
		w.object(2)
		return []string{what, w.String(), w.name()}
	case "same":
		return []string{what, w.json(), w.json()}
	case "delta", "compare":
		return []string{what, w.number(), w.number(), w.number()}
	case "number":
		// Beyond 15 digits languages may differ in the last place.
		return []string{what, fmt.Sprintf("%d.%dE%d", w.Int64N(1e7), w.Int64N(1e7), w.IntN(20)-10)}
	case "fixed":
		return []string{what, fmt.Sprintf("%g", (w.Float64()-0.5)*1e6), w.pick("0", "1", "2", "9")}
	default:
		return []string{what, w.json(), w.name()}
	}
}

// TestLanguagesAgree calls the same functions in all languages: what one finds in
// a payload, all do, byte for byte.
func TestLanguagesAgree(t *testing.T) {
	languages := sdk.Languages()
	calls := make([]func(...string) string, len(languages))
	for i, lang := range languages {
		calls[i] = caller(t, lang)
	}
	w := &writer{Rand: rand.New(rand.NewPCG(2026, 11))}
	told := 0
	for range 3000 {
		args := w.args()
		want := calls[0](args...)
		for i := 1; i < len(calls); i++ {
			if got := calls[i](args...); got != want && told < 10 {
				told++
				t.Errorf("%q:\n%-16s%s\n%-16s%s", args, languages[0], want, languages[i], got)
			}
		}
	}
}
