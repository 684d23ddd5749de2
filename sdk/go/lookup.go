package edged

// Lookup is several paths, looked for in one pass: the fast way for a transform
// that reads some fields and writes another. Make it once.
type Lookup struct {
	paths  []string
	first  []string // names
	values [][2]int // where in json; the end is 0 where there is none
	json   []byte
	begin  int // after the opening brace
	last   int // after the last member; 0: there is none
	closed bool
}

// NewLookup returns a lookup of these paths; see [Get].
func NewLookup(paths ...string) *Lookup {
	l := &Lookup{paths: paths, values: make([][2]int, len(paths))}
	for _, path := range paths {
		l.first = append(l.first, firstOf(path))
	}
	return l
}

// Run looks for every path. False: the bytes are no whole object.
func (l *Lookup) Run(json []byte) bool {
	clear(l.values)
	l.json, l.last, l.closed = json, 0, false
	m := membersOf(json)
	if !m.object {
		return false
	}
	l.begin = m.p
	for m.Next() {
		l.last = m.p
		for i, first := range l.first {
			if m.named(first) && l.values[i][1] == 0 {
				l.found(i, m.valueAt, m.p)
			}
		}
	}
	l.closed = m.closing() >= 0
	return l.closed
}

// found goes down the path with that number from the value of its first name.
func (l *Lookup) found(i, at, end int) {
	_, path, more := step(l.paths[i])
	for more {
		var name string
		name, path, more = step(path)
		s, ok := find(l.json[at:end], name)
		if !ok {
			return
		}
		at, end = at+s.valueAt, at+s.p
	}
	l.values[i] = [2]int{at, end}
}

// Value returns the value at the path with that number. Nil: there is none.
func (l *Lookup) Value(i int) []byte {
	at, end := l.values[i][0], l.values[i][1]
	if end == 0 {
		return nil
	}
	return l.json[at:end:end]
}

// Set does what [Set] does for the path with that number, on the bytes of the last
// run.
func (l *Lookup) Set(i int, value []byte) []byte {
	switch at, end := l.values[i][0], l.values[i][1]; {
	case end > 0:
		return splice(l.json, at, end, value)
	case !l.closed:
		return nil
	case l.first[i] != l.paths[i]:
		return Set(l.json, l.paths[i], value)
	case l.last > 0:
		return insert(l.json, l.last, true, l.paths[i], value)
	default:
		return insert(l.json, l.begin, false, l.paths[i], value)
	}
}
