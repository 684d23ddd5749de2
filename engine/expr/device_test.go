package expr

import (
	"strings"
	"testing"
)

// TestConfigIsReadAtEveryEvaluation holds that a change is seen without anything
// being compiled or made anew, and that the text is read as what the default is.
func TestConfigIsReadAtEveryEvaluation(t *testing.T) {
	set := map[string]string{}
	ev := NewEvaluator(Host{Config: func(key string) (string, bool) { text, ok := set[key]; return text, ok }})
	p, diags := Compile(parse(t, `[config("limit", 30), config("on", false), config("name", "none"), 31 > config("limit", 30)]`), Record)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if !p.Compiled() {
		t.Error("it is not compiled")
	}
	check := func(want string) {
		t.Helper()
		got, err := p.AppendJSON(ev, nil, Value{Record: moteRecord})
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	check(`[30,false,"none",true]`)
	set["limit"], set["on"], set["name"] = "32.5", "true", "5"
	check(`[32.5,true,"5",false]`)
	delete(set, "limit")
	check(`[30,true,"5",true]`)
	if ev.ctx != nil {
		t.Error("HCL was asked")
	}
}

// TestConfigInAConstantArgument holds that the error says why.
func TestConfigInAConstantArgument(t *testing.T) {
	_, diags := parse(t, `config("a", "b")`).Value(EvalContext(testHost))
	if !diags.HasErrors() || !strings.Contains(diags.Error(), "is read once at the start") {
		t.Errorf("diagnostics %v", diags)
	}
	if len(diags) != 1 {
		t.Errorf("%d diagnostics", len(diags))
	}
}

func TestConfigKeys(t *testing.T) {
	for _, good := range []string{"a", "alert.limit", "site/7/limit_high-2", strings.Repeat("k", MaxConfigKey)} {
		if err := CheckConfigKey(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".a", "a.", "a..b", "a b", "a*", "a>", "ä", "a\x00", strings.Repeat("k", MaxConfigKey+1)} {
		if CheckConfigKey(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func BenchmarkConfig(b *testing.B) {
	both(b, `record.payload.temperature > config("limit", 30)`, func(p *Program, ev *Evaluator) {
		ev.world.config = func(string) (string, bool) { return "29.5", true }
		if ok, err := p.Bool(ev, Value{Record: moteRecord}); !ok || err != nil {
			b.Fatal(ok, err)
		}
	})
}
