package expr

// conditionNode is c ? a : b. HCL evaluates both results and brings them to
// one type, whichever is taken.
type conditionNode struct {
	cond, yes, no        node
	mixed, null, notBool *Error
}

func (n *conditionNode) eval(ev *Evaluator) value {
	yes := n.yes.eval(ev)
	yesErr := ev.err
	no := n.no.eval(ev)
	noErr := ev.err
	unified := unify(yes.kind, no.kind)
	switch unified {
	case unifyBail:
		return value{}
	case unifyNever:
		return ev.fail(kindErr, n.mixed)
	}
	cond := n.cond.eval(ev)
	switch {
	case cond.kind == kindBail || cond.kind == kindErrOdd:
		return value{}
	case cond.kind.failed():
		if yes.kind.null() && no.kind.null() {
			return value{kind: kindErrOdd}
		}
		return value{kind: unified.unknown()}
	case cond.kind.null():
		return ev.fail(unified.unknown(), n.null)
	}
	switch cond = toBool(cond); cond.kind {
	case kindBail:
		return cond
	case kindErr:
		return ev.fail(unified.unknown(), n.notBool)
	}
	taken, err := no, noErr
	if cond.isTrue() {
		taken, err = yes, yesErr
	}
	switch {
	case taken.kind.failed():
		ev.err = err
		if unified == unifyString {
			taken.kind = kindErrStr
		}
	case taken.kind == kindNull && unified != unifyAny:
		taken.kind = kindNullTyped
	case unified == unifyString:
		return ev.toText(taken)
	}
	return taken
}

// unification is the type that both results of a condition are brought to.
type unification uint8

const (
	unifyBail unification = iota
	unifyNever
	unifyAny // left as they are, of no known type
	unifyBool
	unifyNumber
	unifyString
	unifyRaw
)

func (u unification) unknown() kind {
	switch u {
	case unifyBool:
		return kindErrBool
	case unifyNumber:
		return kindErrNum
	case unifyString:
		return kindErrStr
	case unifyRaw:
		return kindErrOdd
	}
	return kindErr
}

// typeOfKind is the type of a value, unifyAny for what has none.
func typeOfKind(k kind) unification {
	switch k {
	case kindErrBool, kindBool:
		return unifyBool
	case kindErrNum, kindNum:
		return unifyNumber
	case kindErrStr, kindStr:
		return unifyString
	case kindRaw:
		return unifyRaw
	case kindErr, kindNull:
		return unifyAny
	}
	return unifyBail
}

func unify(yes, no kind) unification {
	a, b := typeOfKind(yes), typeOfKind(no)
	switch {
	case a == unifyBail || b == unifyBail:
		return unifyBail
	case yes == kindNull:
		return b
	case no == kindNull:
		return a
	case a == unifyAny || b == unifyAny:
		return unifyAny
	case a == unifyRaw && b == unifyRaw:
		return unifyBail
	case a == b:
		return a
	case a == unifyRaw || b == unifyRaw:
		return unifyNever
	case a == unifyString || b == unifyString:
		return unifyString
	}
	return unifyNever
}
