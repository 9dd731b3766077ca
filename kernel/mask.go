package kernel

import "slices"

// Mask says which keys a query may see. Its values are small and are not changed by their use; a nil
// Mask shows everything.
//
// There are [Causal], [Window], [Prefix], the Sparse Transformer's [SparseStrided] and [SparseFixed],
// [BlockMap], [BitMatrix], [BoolMask] and [MaskFunc], and to put them together [And], [Or] and
// [PerHead]. Sequences of unequal length are not masks: see [Ragged].
//
// Positions are those within a sequence: query 0 and key 0 are the first of their own sequence, also in
// a packed or padded batch. With Options.KeyOffset the first key given has that position.
//
// A mask costs what it lets through: blocks of 128 keys of which no query of a tile sees any are
// neither read nor computed, and those that all of them see whole run without a test.
type Mask interface {
	// compile binds the mask to a sequence. It reports misuse as an *ArgumentError.
	compile(*sequence) (visibility, error)
}

// callsFunctions reports whether compiling a mask calls a function of the user's.
func callsFunctions(mask Mask) bool {
	switch m := mask.(type) {
	case nil, Causal, Window, Prefix, SparseStrided, SparseFixed, BoolMask, BitMatrix, BlockMap:
		return false
	case And:
		return slices.ContainsFunc(m, callsFunctions)
	case Or:
		return slices.ContainsFunc(m, callsFunctions)
	case PerHead:
		return slices.ContainsFunc(m, callsFunctions)
	}
	return true
}

// Alignment says where among the keys the queries stand: query i at key i + offset.
type Alignment int

// The alignments.
const (
	// BottomRight puts the last query at the last key: with n keys and L queries the offset is n - L. It
	// is the usual one with a cache.
	BottomRight Alignment = iota
	// TopLeft puts query i at key i: the offset is 0.
	TopLeft
)

// farthest is more than any position; offsets beyond it are as good as it.
const farthest = maxSize

// offset is what an alignment adds to the number of a query to give its position among the keys: one
// for each sequence if there are explicit ones.
func (s *sequence) offset(name string, align Alignment, explicit []int) (int, error) {
	switch {
	case explicit != nil:
		if s.index >= len(explicit) {
			return 0, misuse(ErrOption, name, "has %d offsets, there are more sequences", len(explicit))
		}
		return min(max(explicit[s.index], -farthest), farthest), nil
	case align == BottomRight && s.unplaced:
		return 0, misuse(ErrOption, name,
			"is to put the last query at the last key, but Ragged has %d keys for sequence %d and does not say "+
				"which of its %d queries is the last: give QueryCount, or explicit offsets", s.keys, s.index, s.queries)
	case align == BottomRight:
		return s.keyOffset + s.keys - s.queries, nil
	case align == TopLeft:
		return 0, nil
	}
	return 0, misuse(ErrOption, name, "has the unknown alignment %d", align)
}

// visibility answers for one sequence. Positions are counted within it.
type visibility interface {
	// reach returns a range of keys [first, end) within r's outside of which its queries see nothing.
	reach(r region) (first, end int)
	// look says what the queries of r see of its keys, which lie in one block.
	look(r region) view
	// see clears the bits of those keys among j0..j0+127 that query i of head h does not see. j0 is a
	// multiple of 128.
	see(h, i, j0 int, bits *[2]uint64)
}

// region is queries [i0, i1) of heads [h0, h1) and keys [j0, j1). None of the ranges is empty.
type region struct{ h0, h1, i0, i1, j0, j1 int }

// view is what the queries of a region see of its keys.
type view struct {
	kind viewKind
	bits [2]uint64 // of same: the keys that each query sees, counted from the first
}

type viewKind int

const (
	mixed viewKind = iota // queries may differ: ask for each
	none                  // no query sees any key
	all                   // every query sees every key
	same                  // every query sees the same keys
)

// every has the bits of n keys.
func every(n int) [2]uint64 { return [2]uint64{below(n), below(n - 64)} }

// alike is the view of queries that all see these of n keys.
func alike(bits [2]uint64, n int) view {
	switch bits {
	case [2]uint64{}:
		return view{kind: none}
	case every(n):
		return view{kind: all}
	}
	return view{same, bits}
}

// of is the bits of n keys that a view other than mixed shows.
func (v view) of(n int) [2]uint64 {
	switch v.kind {
	case all:
		return every(n)
	case same:
		return v.bits
	}
	return [2]uint64{}
}

// everything is the visibility without a mask.
type everything struct{}

func (everything) reach(r region) (first, end int)  { return r.j0, r.j1 }
func (everything) look(region) view                 { return view{kind: all} }
func (everything) see(_, _, _ int, bits *[2]uint64) {}

// band is i + low ≤ j ≤ i + high.
type band struct{ low, high int }

func (b band) reach(r region) (first, end int) {
	return max(r.j0, min(r.i0+b.low, r.j1)), min(r.j1, max(r.i1+b.high, r.j0))
}

func (b band) look(r region) view {
	switch {
	case r.j1-1 < r.i0+b.low || r.j0 > r.i1-1+b.high || b.low > b.high:
		return view{kind: none}
	case r.j0 >= r.i1-1+b.low && r.j1-1 <= r.i0+b.high:
		return view{kind: all}
	}
	return view{}
}

func (b band) see(_, i, j0 int, bits *[2]uint64) { keep(bits, i+b.low-j0, i+b.high+1-j0) }

// keep clears all bits outside of [from, to).
func keep(bits *[2]uint64, from, to int) {
	for w := range bits {
		bits[w] &= below(to-64*w) &^ below(from-64*w)
	}
}

// show sets the bits of [from, to).
func show(bits *[2]uint64, from, to int) {
	for w := range bits {
		bits[w] |= below(to-64*w) &^ below(from-64*w)
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
