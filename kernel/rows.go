package kernel

import (
	"fmt"
	"math/bits"
)

// Rows is vectors in memory, one after the other: all that Data holds, or those of them that [Rows.Pick],
// [Rows.PickBits] and [Rows.Where] have left. It copies no vector. The zero Rows is empty. Sizes that
// contradict each other make the functions panic that are given it.
type Rows[T Scalar] struct {
	Data []T
	Dim  int // numbers in a vector

	// Stride is the distance from one vector to the next, in elements; 0 stands for Dim, and then Data
	// holds whole vectors only. Vectors may overlap.
	Stride int

	// Scale, if not nil, holds a factor for each vector of Data, by which all its elements are
	// multiplied: for quantised vectors.
	Scale []float32

	picked bool     // there is an index, though it may be empty
	index  []uint32 // the numbers of the vectors
}

// RowsOf returns the vectors that data holds, dim numbers each.
func RowsOf[T Scalar](data []T, dim int) Rows[T] { return Rows[T]{Data: data, Dim: dim} }

// Pick returns those vectors of r that index names by their numbers in Data, in this order and as often as
// it names them: the neighbours in a graph, or the candidates of a coarser search. A nil or empty index
// names none, so none are left.
//
// A vector that was left out before stays out: from a subset, only what is in it can be picked, and other
// numbers are passed over. From all of Data, index is kept and not copied, and must not change while
// the result is in use.
//
// A number that Data does not have is a panic: here, if r is a subset, or else in the function that is given
// the result.
func (r Rows[T]) Pick(index []uint32) Rows[T] {
	before := r
	r.picked, r.index = true, index
	if !before.picked {
		return r
	}
	before.mustHave("Rows.Pick", "r")
	r.mustHave("Rows.Pick", "r")
	words := make([]uint64, (r.stored()+63)/64)
	for _, id := range before.index {
		words[id/64] |= 1 << (id % 64)
	}
	return r.keep(func(id uint32) bool { return isSet(words, id) })
}

// PickBits returns those vectors of r whose bits are set: bit i%64 of bits[i/64] stands for vector i of
// Data. Vectors beyond the last word are left out; bits beyond the last vector mean nothing.
//
// A vector that was left out before stays out; the others keep their order. bits is not kept: the
// result has an index of 4 bytes a vector, and serves any number of queries. It panics for more than 2³²
// vectors, and if an index given to [Rows.Pick] was out of range.
func (r Rows[T]) PickBits(bits []uint64) Rows[T] {
	r.mustCount("Rows.PickBits", "r")
	if r.picked {
		r.mustHave("Rows.PickBits", "r")
		return r.keep(func(id uint32) bool { return isSet(bits, id) })
	}
	r.picked, r.index = true, indexOf(bits, r.stored())
	return r
}

func isSet(words []uint64, id uint32) bool {
	return uint64(id/64) < uint64(len(words)) && words[id/64]>>(id%64)&1 != 0
}

// indexOf lists the bits that are set below n.
func indexOf(words []uint64, n int) []uint32 {
	words = words[:min(len(words), (n+63)/64)]
	count := 0
	for _, w := range words {
		count += bits.OnesCount64(w)
	}
	index := make([]uint32, 0, count)
	for i, w := range words {
		for ; w != 0; w &= w - 1 {
			if id := 64*i + bits.TrailingZeros64(w); id < n {
				index = append(index, uint32(id))
			}
		}
	}
	return index
}

// Where returns those vectors of r for which keep returns true, such as a tenant's, or those that are not
// deleted. keep is called once for each vector of r, in order, with its number in Data.
//
// A vector that was left out before stays out, and keep is not asked about it. The result has an index of
// about 4 bytes a vector, and serves any number of queries. It panics if keep is nil, for more than 2³²
// vectors, and if an index given to [Rows.Pick] was out of range.
func (r Rows[T]) Where(keep func(id uint32) bool) Rows[T] {
	if keep == nil {
		panic("quern: Rows.Where: keep is nil")
	}
	r.mustCount("Rows.Where", "r")
	r.mustHave("Rows.Where", "r")
	return r.keep(keep)
}

// keep narrows r.
func (r Rows[T]) keep(keep func(id uint32) bool) Rows[T] {
	var index []uint32
	for i := range r.Len() {
		if id := r.id(i); keep(id) {
			index = append(index, id)
		}
	}
	r.picked, r.index = true, index
	return r
}

// Len returns the number of vectors.
func (r Rows[T]) Len() int {
	if r.picked {
		return len(r.index)
	}
	return r.stored()
}

// ID returns the number in Data of the i-th vector, which is i unless some were picked. It is the ID of
// a [Match]. It panics unless i is 0 to r.Len()-1, and for more than 2³² vectors.
func (r Rows[T]) ID(i int) uint32 {
	r.mustCount("Rows.ID", "r")
	if i < 0 || i >= r.Len() {
		panic(fmt.Sprintf("quern: Rows.ID: i is %d, r has %d vectors", i, r.Len()))
	}
	return r.id(i)
}

func (r *Rows[T]) id(i int) uint32 {
	if r.picked {
		return r.index[i]
	}
	return uint32(i)
}

// stored returns the number of vectors in Data.
func (r *Rows[T]) stored() int {
	if r.Dim <= 0 || len(r.Data) < r.Dim || r.Stride < 0 {
		return 0
	}
	return (len(r.Data)-r.Dim)/r.pitch() + 1
}

func (r *Rows[T]) pitch() int {
	if r.Stride == 0 {
		return r.Dim
	}
	return r.Stride
}

// mustFit panics if the sizes within r, which is a function's argument of that name, contradict each other.
func (r *Rows[T]) mustFit(function, name string) {
	switch {
	case r.Dim < 0 || r.Dim == 0 && len(r.Data) > 0:
		panic(fmt.Sprintf("quern: %s: %s.Dim is %d, len(%s.Data) is %d", function, name, r.Dim, name, len(r.Data)))
	case r.Stride < 0:
		panic(fmt.Sprintf("quern: %s: %s.Stride is %d, want 0 or more", function, name, r.Stride))
	case r.Stride == 0 && r.Dim > 0 && len(r.Data)%r.Dim != 0:
		panic(fmt.Sprintf("quern: %s: len(%s.Data) is %d, no multiple of %s.Dim, which is %d", function, name,
			len(r.Data), name, r.Dim))
	}
	if n := r.stored(); r.Scale != nil && len(r.Scale) != n {
		panic(fmt.Sprintf("quern: %s: len(%s.Scale) is %d, %s.Data has %d vectors", function, name, len(r.Scale), name,
			n))
	}
	r.mustHave(function, name)
}

// mustHave panics unless Data has the vectors that were picked.
func (r *Rows[T]) mustHave(function, name string) {
	stored := r.stored()
	for i, id := range r.index {
		if uint64(id) >= uint64(stored) {
			panic(fmt.Sprintf("quern: %s: index[%d] of %s.Pick is %d, %s.Data has %d vectors", function, i, name, id,
				name, stored))
		}
	}
}

// mustCount panics if there are more vectors than an ID can tell apart.
func (r *Rows[T]) mustCount(function, name string) {
	if n := uint64(r.stored()); n > 1<<32 {
		panic(fmt.Sprintf("quern: %s: %s.Data has %d vectors, want at most %d", function, name, n, uint64(1<<32)))
	}
}
