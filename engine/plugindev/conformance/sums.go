package conformance

import (
	"bytes"
	"encoding/json"
	"math/big"
	"slices"

	"github.com/edged/edged/engine/plugindev"
	"github.com/edged/edged/engine/wasm"
)

// countsTwice says whether both sides are the same and the merged value differs
// from them only in numbers that went by the same step again: of 10, 12 on both
// sides, 14. Two edges that each add 2 to a counter mean that.
func countsTwice(c *wasm.Conflict, merged []byte) bool {
	if c.Base == nil || c.Local.Deleted || c.Remote.Deleted {
		return false
	}
	side := c.Local.Body
	if len(plugindev.Compare("", side, c.Remote.Body)) > 0 || len(plugindev.Compare("", side, merged)) == 0 {
		return false
	}
	var base []byte
	if !c.Base.Deleted {
		base = c.Base.Body
	}
	return addedTwice(base, side, merged)
}

// addedTwice holds one value and what is in it; base is empty where there was none.
func addedTwice(base, side, merged []byte) bool {
	if len(plugindev.Compare("", side, merged)) == 0 {
		return true
	}
	side, merged = bytes.TrimSpace(side), bytes.TrimSpace(merged)
	switch {
	case side[0] != merged[0] && (side[0] == '{' || side[0] == '[' || merged[0] == '{' || merged[0] == '['):
		return false
	case side[0] == '{':
		was, one, two := members(base), members(side), members(merged)
		for name, value := range one {
			if len(two[name]) == 0 || !addedTwice(was[name], value, two[name]) {
				return false
			}
		}
		return len(one) == len(two)
	case side[0] == '[':
		return elementsAddedTwice(elements(base), elements(side), elements(merged))
	}
	if len(base) == 0 {
		base = []byte("0")
	}
	was, ok1 := new(big.Rat).SetString(string(base))
	one, ok2 := new(big.Rat).SetString(string(side))
	two, ok3 := new(big.Rat).SetString(string(merged))
	return ok1 && ok2 && ok3 && new(big.Rat).Add(one, one).Cmp(new(big.Rat).Add(two, was)) == 0
}

// elementsAddedTwice is addedTwice for arrays. What an element was may have stood
// elsewhere, or not at all.
func elementsAddedTwice(base, side, merged [][]byte) bool {
	if len(side) != len(merged) {
		return false
	}
	base = append(base, nil)
	for i := range side {
		if !slices.ContainsFunc(base, func(was []byte) bool { return addedTwice(was, side[i], merged[i]) }) {
			return false
		}
	}
	return true
}

// members is what an object has by name; of several with one name the first.
func members(object []byte) map[string][]byte {
	out := map[string][]byte{}
	for _, it := range split(object) {
		if _, there := out[it.name]; !there {
			out[it.name] = []byte(it.value)
		}
	}
	return out
}

func elements(array []byte) [][]byte {
	var list []json.RawMessage
	if len(array) == 0 || json.Unmarshal(array, &list) != nil {
		return nil
	}
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}
