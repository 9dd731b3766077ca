package kernel

import "math"

// MaskFunc shows the keys for which See returns true. It is called once for every head, query and key
// of every sequence when a plan is made, which keeps the answers as bits; never when the plan is run.
//
// See is called by the goroutine that makes the plan. A panic in it reaches the caller of [NewAttention],
// [Plan.Reset] or [Attention].
type MaskFunc struct {
	See func(head, query, key int) bool
	// AllHeadsAlike says that See does not depend on the head; it is then asked for head 0 only.
	AllHeadsAlike bool
}

// BoolMask shows the keys whose element is true. Data is contiguous and of shape [sequences or 1, heads
// or 1, queries or 1, keys or 1], where a 1 stands for all, as in NumPy; sequences of unequal length use the first
// rows and columns. Of more columns than one, keys beyond the last are hidden.
//
// It is read when a plan is made.
type BoolMask struct {
	Data  []bool
	Shape [4]int
}

// BitMatrix shows the keys whose bit is 1, and all keys before First: the tree of speculative decoding
// behind a cache. A row has Keys bits, from the lowest bit of its first word on, and takes
// ⌈Keys/64⌉ words of Bits, which is contiguous and of shape [sequences or 1, heads or 1, queries], where
// a 1 stands for all. Bit x is for the key First + x; keys beyond the last bit are hidden.
//
// It is read when a plan is made.
type BitMatrix struct {
	Bits  []uint64
	Shape [3]int
	Keys  int
	First []int // by sequence; nil is 0 for all
}

// BlockMap shows whole tiles of Queries by Keys, in one bit each, which the hardware's sizes do not
// enter into. Tile [s, h, i, j] is bit number ((s·Shape[1] + h)·Shape[2] + i)·Shape[3] + j of Bits, from the
// lowest bit of the first word on; Shape is [sequences or 1, heads or 1, tiles of queries, tiles of keys],
// where a 1 stands for all sequences or heads.
//
// It is read when a plan is made. Multiples of 128 keys cost least.
type BlockMap struct {
	Queries, Keys int
	Bits          []uint64
	Shape         [4]int
}

func (m MaskFunc) compile(s *sequence) (visibility, error) {
	if m.See == nil {
		return nil, misuse(ErrOption, "MaskFunc", "has no function")
	}
	heads := s.heads
	if m.AllHeadsAlike {
		heads = 1
	}
	return tabulate("MaskFunc", heads, s, func(h, i, j0, n int) (bits [2]uint64) {
		for x := range n {
			if m.See(h, i, j0+x) {
				bits[x/64] |= 1 << (x % 64)
			}
		}
		return bits
	})
}

// checkBroadcast reports a size that is neither 1 nor the full one.
func checkBroadcast(name, what string, size, full int) error {
	if size != 1 && size != full {
		return misuse(ErrShape, name, "has %d %s, want 1 or %d", size, what, full)
	}
	return nil
}

// checkTensor reports a mask that does not fit the batch that s is of.
func (s *sequence) checkTensor(name string, sequences, heads, queries int) error {
	if err := checkBroadcast(name, "sequences", sequences, s.of.sequences); err != nil {
		return err
	}
	if err := checkBroadcast(name, "heads", heads, s.heads); err != nil {
		return err
	}
	return checkBroadcast(name, "queries", queries, s.of.queries)
}

// checkColumns reports a mask with columns for more keys than there are.
func (s *sequence) checkColumns(name string, columns int) error {
	if columns != 1 && columns > s.of.keys {
		return misuse(ErrShape, name, "has %d keys, want 1 or at most %d", columns, s.of.keys)
	}
	return nil
}

// checkLength reports data that does not have the elements of a shape, of which a word holds some.
func checkLength(name string, length int, shape []int, perWord int) error {
	total := 1
	for _, n := range shape {
		if n < 0 || n > 0 && total > maxInt/2/n {
			return misuse(ErrShape, name, "has shape %v", shape)
		}
		total *= n
	}
	if want := (total + perWord - 1) / perWord; length != want {
		return misuse(ErrShape, name, "has %d elements, want %d for shape %v", length, want, shape)
	}
	return nil
}

func (m BoolMask) compile(s *sequence) (visibility, error) {
	const name = "BoolMask"
	if err := s.checkTensor(name, m.Shape[0], m.Shape[1], m.Shape[2]); err != nil {
		return nil, err
	}
	if err := s.checkColumns(name, m.Shape[3]); err != nil {
		return nil, err
	}
	if err := checkLength(name, len(m.Data), m.Shape[:], 1); err != nil {
		return nil, err
	}
	return tabulate(name, m.Shape[1], s, func(h, i, j0, n int) (bits [2]uint64) {
		row := ((s.index%m.Shape[0])*m.Shape[1]+h)*m.Shape[2] + i%m.Shape[2]
		if m.Shape[3] == 1 {
			if m.Data[row] {
				bits = every(n)
			}
			return bits
		}
		for x, seen := range m.Data[row*m.Shape[3]+min(j0, m.Shape[3]) : row*m.Shape[3]+min(j0+n, m.Shape[3])] {
			if seen {
				bits[x/64] |= 1 << (x % 64)
			}
		}
		return bits
	})
}

func (m BitMatrix) compile(s *sequence) (visibility, error) {
	const name = "BitMatrix"
	if err := s.checkTensor(name, m.Shape[0], m.Shape[1], m.Shape[2]); err != nil {
		return nil, err
	}
	if m.Keys < 0 {
		return nil, misuse(ErrOption, name, "has %d keys, want 0 or more", m.Keys)
	}
	words := (m.Keys + 63) / 64
	if err := checkLength(name, len(m.Bits), []int{m.Shape[0], m.Shape[1], m.Shape[2], words}, 1); err != nil {
		return nil, err
	}
	from := 0
	if m.First != nil {
		if len(m.First) != s.of.sequences {
			return nil, misuse(ErrShape, name, "has %d first keys, want %d", len(m.First), s.of.sequences)
		}
		if from = m.First[s.index]; from < 0 || from > maxSize {
			return nil, misuse(ErrOption, name, "has the first key %d, want 0 to %d", from, maxSize)
		}
	}
	return tabulate(name, m.Shape[1], s, func(h, i, j0, n int) (bits [2]uint64) {
		show(&bits, 0, from-j0)
		row := m.Bits[(((s.index%m.Shape[0])*m.Shape[1]+h)*m.Shape[2]+i%m.Shape[2])*words:][:words]
		for x := max(from-j0, 0); x < min(n, from+m.Keys-j0); x++ {
			b := j0 + x - from
			bits[x/64] |= row[b/64] >> (b % 64) & 1 << (x % 64)
		}
		return bits
	})
}

func (m BlockMap) compile(s *sequence) (visibility, error) {
	const name = "BlockMap"
	if m.Queries < 1 || m.Keys < 1 {
		return nil, misuse(ErrOption, name, "has tiles of %d by %d, want at least 1 by 1", m.Queries, m.Keys)
	}
	if err := s.checkTensor(name, m.Shape[0], m.Shape[1], s.of.queries); err != nil {
		return nil, err
	}
	m.Queries, m.Keys = min(m.Queries, maxSize), min(m.Keys, 2*maxSize) // so that sums do not overflow
	for i, want := range []int{(s.of.queries + m.Queries - 1) / m.Queries, (s.of.keys + m.Keys - 1) / m.Keys} {
		if m.Shape[2+i] != want {
			return nil, misuse(ErrShape, name, "has %d by %d tiles of %d by %d, want %d in dimension %d", m.Shape[2], m.Shape[3], m.Queries, m.Keys, want, 2+i)
		}
	}
	if err := checkLength(name, len(m.Bits), m.Shape[:], 64); err != nil {
		return nil, err
	}
	return tabulate(name, m.Shape[1], s, func(h, i, j0, n int) (bits [2]uint64) {
		row := (((s.index%m.Shape[0])*m.Shape[1]+h)*m.Shape[2] + i/m.Queries) * m.Shape[3]
		for j := j0 / m.Keys * m.Keys; j < j0+n; j += m.Keys {
			if tile := row + j/m.Keys; m.Bits[tile/64]>>(tile%64)&1 == 1 {
				show(&bits, max(j-j0, 0), min(j+m.Keys-j0, n))
			}
		}
		return bits
	})
}

// table is a visibility as a block map and bits: for every head, every few queries and every block of
// keys either one of the numbers below, or where in bits the queries' bits begin.
type table struct {
	heads, rows, blocks int
	j0                  int // the position of the first key
	index               []int32
	bits                [][2]uint64
}

const (
	tableRows = 4 // queries of an entry

	// mostEntries is such that their bits can be counted in 32 bits.
	mostEntries = math.MaxInt32 / tableRows

	tableNone = -1
	tableAll  = -2
)

// tabulate asks for the bits of n keys from j0 on, for each head, query and block of a sequence, a block
// being 128 keys or the rest.
func tabulate(name string, heads int, s *sequence, ask func(h, i, j0, n int) [2]uint64) (visibility, error) {
	t := &table{
		heads: heads, rows: (s.queries + tableRows - 1) / tableRows, blocks: (s.keys + blockKeys - 1) / blockKeys,
		j0: s.keyOffset,
	}
	if !fits(t.heads, t.rows, t.blocks) || t.heads*t.rows*t.blocks > mostEntries {
		return nil, misuse(ErrShape, name, "has %d heads, %d queries and %d keys, more than fit in a table", heads, s.queries, s.keys)
	}
	t.index = make([]int32, 0, t.heads*t.rows*t.blocks)
	for h := range t.heads {
		for row := range t.rows {
			for b := range t.blocks {
				n := min(s.keys-b*blockKeys, blockKeys)
				var bits [tableRows][2]uint64
				seen := view{}
				for x := range bits {
					if i := row*tableRows + x; i < s.queries {
						bits[x] = ask(h, i, t.j0+b*blockKeys, n)
					} else {
						bits[x] = bits[0] // makes no difference
					}
					if now := alike(bits[x], n); x == 0 {
						seen = now
					} else if now != seen {
						seen = view{}
					}
				}
				switch seen.kind {
				case none:
					t.index = append(t.index, tableNone)
				case all:
					t.index = append(t.index, tableAll)
				default:
					t.index = append(t.index, int32(len(t.bits)))
					t.bits = append(t.bits, bits[:]...)
				}
			}
		}
	}
	return t, nil
}

// at is the entry of a head, query and block.
func (t *table) at(h, i, b int) int32 {
	return t.index[((h%t.heads)*t.rows+i/tableRows)*t.blocks+b]
}

func (t *table) reach(r region) (first, end int) {
	first, end = r.j1, r.j0
	for b := (r.j0 - t.j0) / blockKeys; b < t.blocks && t.j0+b*blockKeys < r.j1; b++ {
		from := t.j0 + b*blockKeys
		block := r
		block.j0, block.j1 = max(r.j0, from), min(r.j1, from+blockKeys)
		if t.look(block).kind != none {
			first, end = min(first, block.j0), block.j1
		}
	}
	return min(first, end), end
}

func (t *table) look(r region) view {
	b := (r.j0 - t.j0) / blockKeys
	h1 := r.h1
	if t.heads == 1 {
		h1 = r.h0 + 1
	}
	found := t.at(r.h0, r.i0, b)
	for h := r.h0; h < h1; h++ {
		for i := r.i0 / tableRows * tableRows; i < r.i1; i += tableRows {
			if entry := t.at(h, i, b); entry != found || entry >= 0 {
				return view{}
			}
		}
	}
	if found == tableAll {
		return view{kind: all}
	}
	return view{kind: none}
}

func (t *table) see(h, i, j0 int, bits *[2]uint64) {
	switch entry := t.at(h, i, (j0-t.j0)/blockKeys); entry {
	case tableAll:
	case tableNone:
		*bits = [2]uint64{}
	default:
		seen := &t.bits[int(entry)+i%tableRows]
		bits[0] &= seen[0]
		bits[1] &= seen[1]
	}
}
