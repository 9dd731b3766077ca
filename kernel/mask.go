package kernel

// Mask says which keys a query may see. Its values are small and immutable; a nil Mask shows
// everything.
//
// Positions are those within a sequence: query 0 and key 0 are the first of their own sequence,
// also in a packed or padded batch.
type Mask interface {
	// compile binds the mask to a sequence. It reports misuse as an *ArgumentError.
	compile(sequence) (visibility, error)
}

// Alignment says which query the last key belongs to when there are more keys than queries.
type Alignment int

const (
	// BottomRight lets the last query see the last key: with n keys and L queries, query i sees
	// the keys j ≤ i + n - L. It is the usual one with a cache.
	BottomRight Alignment = iota
	// TopLeft lets query i see the keys j ≤ i.
	TopLeft
)

// Causal hides the future: query i sees the keys j ≤ i + offset. The zero value aligns the last query
// with the last key.
type Causal struct {
	Align Alignment
	// Offset, if not nil, replaces the alignment by one offset a sequence. Offsets may be negative:
	// the first queries then see nothing.
	Offset []int
}

func (c Causal) compile(s sequence) (visibility, error) {
	switch {
	case c.Offset != nil:
		if s.index >= len(c.Offset) {
			return nil, argument(ErrOption, "Options.Mask", "Causal has %d offsets, there are more sequences", len(c.Offset))
		}
		return s.causal(c.Offset[s.index]), nil
	case c.Align == BottomRight:
		return s.causal(s.keyOffset + s.keys - s.queries), nil
	case c.Align == TopLeft:
		return s.causal(0), nil
	}
	return nil, argument(ErrOption, "Options.Mask", "Causal has the unknown alignment %d", c.Align)
}

// visibility answers for one sequence. Positions are counted within it.
type visibility interface {
	// reach returns a range of keys [first, end) outside of which the queries [i0, i1) see nothing.
	reach(i0, i1, keys int) (first, end int)
	// all reports that the queries [i0, i1) see every key of [j0, j1).
	all(i0, i1, j0, j1 int) bool
	// see clears the bits of those keys among j0..j0+127 that query i of head h does not see.
	see(h, i, j0 int, bits *[2]uint64)
}

// everything is the visibility without a mask.
type everything struct{}

func (everything) reach(_, _, keys int) (int, int) { return 0, keys }
func (everything) all(_, _, _, _ int) bool         { return true }
func (everything) see(_, _, _ int, _ *[2]uint64)   {}

// causal is j ≤ i + offset.
type causal int

func (c causal) reach(_, i1, keys int) (int, int) { return 0, min(max(i1+int(c), 0), keys) }
func (c causal) all(i0, _, _, j1 int) bool        { return j1-1 <= i0+int(c) }
func (c causal) see(_, i, j0 int, bits *[2]uint64) {
	keep(bits, 0, i+int(c)-j0+1)
}

// keep clears all bits outside of [from, to).
func keep(bits *[2]uint64, from, to int) {
	for w := range bits {
		bits[w] &= below(to-64*w) &^ below(from-64*w)
	}
}

// below has the lowest n bits set, all of them for n ≥ 64.
func below(n int) uint64 {
	switch {
	case n <= 0:
		return 0
	case n >= 64:
		return ^uint64(0)
	}
	return 1<<n - 1
}
