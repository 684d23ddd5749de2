package expr

// Type says what is known of a value before there is a record.
type Type uint8

// The types. Any means that nothing is known.
const (
	Any Type = iota
	Null
	Bool
	Number
	String
	Object
	List
)

var typeNames = [...]string{"any value", "null", "true or false", "a number", "a string", "an object", "a list"}

// String returns the type as a message names it: "a number".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "an unknown type"
}

// fits reports whether a value of type t may become one of type want, by HCL's
// conversions. A string may turn out to hold a number or a truth value.
func (t Type) fits(want Type) bool {
	switch {
	case t == want, t == Any, want == Any:
		return true
	case want == String:
		return t == Bool || t == Number
	case want == Bool || want == Number:
		return t == String
	}
	return false
}

func (t Type) compound() bool { return t == Object || t == List }
