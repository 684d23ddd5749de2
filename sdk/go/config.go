package edged

import (
	"math"
	"strconv"
	"strings"
)

// Config is the operator's configuration, read key by key. Every mistake is
// collected and reported at the end, all at once.
type Config struct {
	json          []byte
	known, errors []string
}

// Entry is a member of an object of strings.
type Entry struct{ Name, Value string }

// Configure hands the configuration to setUp. It is what the function returns that
// a plugin exports as edged_configure.
func Configure(ptr, size uint32, setUp func(*Config)) uint64 {
	if wrong := HandleConfigure(inbox(ptr, size), setUp); wrong != "" {
		return result([]byte(wrong))
	}
	return 0
}

// HandleConfigure hands the configuration, a JSON object, to setUp, and returns
// what is wrong with it, or nothing. Tests use it through the package edgedtest.
func HandleConfigure(json []byte, setUp func(*Config)) (wrong string) {
	// The bytes are the host's; a plugin keeps what it reads of them.
	c := Config{json: append([]byte(nil), json...)}
	setUp(&c)
	for m := membersOf(c.json); m.Next(); {
		name := m.Name()
		if contains(c.known, name) {
			continue
		}
		there := "; there are none"
		if len(c.known) > 0 {
			there = "; there are: " + strings.Join(c.known, ", ")
		}
		c.Fail("unknown key " + name + there)
	}
	return strings.Join(c.errors, ". ")
}

// Describe returns a text as the result of edged_describe: a JSON object that
// sdk/abi.md tells of.
func Describe(json string) uint64 { return result([]byte(json)) }

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// Fail adds a mistake that the plugin itself found.
func (c *Config) Fail(message string) { c.errors = append(c.errors, message) }

// value returns what stands at the key; nil: nothing does.
func (c *Config) value(key string) []byte {
	c.known = append(c.known, key)
	value := Member(c.json, key)
	if KindOf(value) == Null {
		return nil
	}
	return value
}

func (c *Config) wrong(key, want string, value []byte) {
	c.Fail(key + " must be " + want + ", not " + string(value))
}

// String reads a string that must not be empty; also a path in the payload.
func (c *Config) String(key, fallback string) string {
	value := c.value(key)
	if value == nil {
		return fallback
	}
	s, _ := AsString(value)
	if s == "" {
		c.wrong(key, "a string that is not empty", value)
		return fallback
	}
	return s
}

// Number reads a number from low to high.
func (c *Config) Number(key string, fallback, low, high float64) float64 {
	value := c.value(key)
	if value == nil {
		return fallback
	}
	x := AsFloat(value)
	if !(x >= low && x <= high) {
		c.wrong(key, "a number from "+shown(low)+" to "+shown(high), value)
		return fallback
	}
	return x
}

// shown is a number as it stands in a message.
func shown(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
		s = strconv.FormatInt(int64(x), 10) + ".0"
	}
	return s
}

// Integer reads a whole number from low to high.
func (c *Config) Integer(key string, fallback, low, high int) int {
	value := c.value(key)
	if value == nil {
		return fallback
	}
	x := AsFloat(value)
	if !(x >= float64(low) && x <= float64(high)) || x != math.Trunc(x) {
		c.wrong(key, "a whole number from "+strconv.Itoa(low)+" to "+strconv.Itoa(high), value)
		return fallback
	}
	return int(x)
}

// Boolean reads true or false.
func (c *Config) Boolean(key string, fallback bool) bool {
	value := c.value(key)
	if value == nil {
		return fallback
	}
	b, ok := AsBool(value)
	if !ok {
		c.wrong(key, "true or false", value)
		return fallback
	}
	return b
}

// Strings reads a list of strings.
func (c *Config) Strings(key string) []string {
	value := c.value(key)
	if value == nil {
		return nil
	}
	var out []string
	good := KindOf(value) == Array
	for m := membersOf(value); good && m.Next(); {
		var s string
		s, good = AsString(m.Value())
		out = append(out, s)
	}
	if !good {
		c.wrong(key, "a list of strings", value)
		return nil
	}
	return out
}

// Map reads an object with a string for every name, in its order.
func (c *Config) Map(key string) []Entry {
	value := c.value(key)
	if value == nil {
		return nil
	}
	if KindOf(value) != Object {
		c.wrong(key, "an object with a string for every name", value)
		return nil
	}
	var out []Entry
	for m := membersOf(value); m.Next(); {
		s, ok := AsString(m.Value())
		if !ok {
			c.wrong(key+"."+m.Name(), "a string", m.Value())
			continue
		}
		out = append(out, Entry{m.Name(), s})
	}
	return out
}
