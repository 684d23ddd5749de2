package main

import (
	"math"
	"strconv"
	"strings"

	edged "github.com/edged/edged/sdk/go"
)

func shown(b []byte) string {
	if b == nil {
		return "null"
	}
	return string(b)
}

// functions are the SDK's own, as sdk/testdata/functions.json calls them.
var functions = map[string]func(x, y, z string) string{
	"get":  func(x, y, _ string) string { return shown(edged.Get([]byte(x), y)) },
	"set":  func(x, y, z string) string { return shown(edged.Set([]byte(x), y, []byte(z))) },
	"del":  func(x, y, _ string) string { return string(edged.Delete([]byte(x), y)) },
	"kind": func(x, _, _ string) string { return strconv.Itoa(int(edged.KindOf([]byte(x)))) },
	"bool": func(x, _, _ string) string {
		b, ok := edged.AsBool([]byte(x))
		switch {
		case !ok:
			return "-1"
		case b:
			return "1"
		}
		return "0"
	},
	"string": func(x, _, _ string) string {
		if s, ok := edged.AsString([]byte(x)); ok {
			return s
		}
		return "null"
	},
	"quote": func(x, _, _ string) string { return string(edged.Quote(x)) },
	"number": func(x, _, _ string) string {
		return strconv.FormatUint(math.Float64bits(edged.AsFloat([]byte(x))), 10)
	},
	"fixed": func(x, y, _ string) string {
		decimals, _ := strconv.Atoi(y)
		return shown(edged.Fixed(edged.AsFloat([]byte(x)), decimals))
	},
	"integer": func(x, _, _ string) string {
		n, _ := strconv.ParseInt(x, 10, 64)
		return string(edged.Integer(n))
	},
	"names":   func(x, _, _ string) string { return strings.Join(names(x), "|") },
	"lookup":  lookup,
	"config":  func(x, _, _ string) string { return config(x) },
	"lists":   func(x, _, _ string) string { return lists(x) },
	"delta":   func(x, y, z string) string { return shown(edged.AddDelta([]byte(x), []byte(y), []byte(z))) },
	"compare": func(x, y, _ string) string { return compare(x, y) },
	"same": func(x, y, _ string) string {
		if edged.Same([]byte(x), []byte(y)) {
			return "yes"
		}
		return "no"
	},
	"members": func(x, _, _ string) string {
		out := ""
		for m := edged.NewMembers([]byte(x)); m.Next(); {
			out += m.Name() + "=" + string(m.Value()) + ";"
		}
		return out
	},
	"fields": func(x, y, _ string) string {
		f := edged.NewFields([]byte(x))
		return strconv.Itoa(f.Len()) + " " + strconv.Itoa(f.Find(y)) + " " + shown(f.Get(y))
	},
}

// call calls a function by its name and up to three texts.
func call(args []byte) string {
	var texts [4]string
	m := edged.NewMembers(args)
	for i := 0; i < len(texts) && m.Next(); i++ {
		texts[i], _ = edged.AsString(m.Value())
	}
	f, ok := functions[texts[0]]
	if !ok {
		return "what is " + texts[0] + "?"
	}
	return f(texts[1], texts[2], texts[3])
}

func names(x string) (out []string) {
	if edged.KindOf([]byte(x)) == edged.Array {
		return nil
	}
	for m := edged.NewMembers([]byte(x)); m.Next(); {
		out = append(out, m.Name())
	}
	return out
}

func lookup(x, y, z string) string {
	l := edged.NewLookup(y, z, "x.y")
	out := "no object: "
	if l.Run([]byte(x)) {
		out = ""
	}
	return out + shown(l.Value(0)) + "|" + shown(l.Value(1)) + "|" + shown(l.Set(0, []byte("0"))) + "|" + shown(l.Set(2, []byte("1")))
}

func compare(x, y string) string {
	order, ok := edged.CompareNumbers([]byte(x), []byte(y))
	if !ok {
		order = 2
	}
	return strconv.Itoa(order)
}

func config(x string) (out string) {
	wrong := edged.HandleConfigure([]byte(x), func(c *edged.Config) {
		s, n := c.String("s", "S"), strconv.FormatFloat(c.Number("n", 1.5, 0, 10), 'f', 1, 64)
		out = s + "|" + n + "|" + strconv.Itoa(c.Integer("i", 3, 0, 9)) + "|" + strconv.FormatBool(c.Boolean("f", true))
	})
	if wrong != "" {
		return wrong
	}
	return out
}

func lists(x string) (out string) {
	wrong := edged.HandleConfigure([]byte(x), func(c *edged.Config) {
		out = strings.Join(c.Strings("l"), ",") + "|"
		var pairs []string
		for _, e := range c.Map("m") {
			pairs = append(pairs, e.Name+"="+e.Value)
		}
		out += strings.Join(pairs, ",")
	})
	if wrong != "" {
		return wrong
	}
	return out
}
