package kernel_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// Every mask twice: as package kernel takes it, and as a plain function over the positions of one sequence.

// oracle is what a mask shows in a sequence, by positions within it.
func (s sequence) oracle(mask kernel.Mask) ref.Mask {
	switch m := mask.(type) {
	case nil:
		return ref.And()
	case kernel.Causal:
		return ref.Causal(s.offset(m.Align, m.Offset))
	case kernel.Window:
		return ref.Window(m.Left, m.Right, s.offset(m.Align, m.Offset))
	case kernel.Prefix:
		return ref.Prefix(m.Keys, s.offset(m.Align, m.Offset))
	case kernel.SparseStrided:
		parts := map[kernel.SparsePart]func(int) ref.Mask{
			kernel.Merged: ref.Strided, kernel.FirstPart: ref.StridedFirst, kernel.SecondPart: ref.StridedSecond,
		}
		return ref.Shift(parts[m.Part](m.Stride), s.offset(m.Align, m.Offset))
	case kernel.SparseFixed:
		second := ref.FixedSecond(m.Stride, m.Summary)
		if m.RunPerHead {
			second = ref.FixedSecondByHead(m.Stride, m.Summary)
		}
		parts := map[kernel.SparsePart]ref.Mask{
			kernel.Merged:    ref.Or(ref.FixedFirst(m.Stride), second),
			kernel.FirstPart: ref.FixedFirst(m.Stride), kernel.SecondPart: second,
		}
		return ref.Shift(parts[m.Part], s.offset(m.Align, m.Offset))
	case kernel.MaskFunc:
		return func(_, h, i, j int) bool { return m.See(h, i, j) }
	case kernel.BoolMask:
		return func(_, h, i, j int) bool {
			return (j < m.Shape[3] || m.Shape[3] == 1) && m.Data[flat(m.Shape[:], s.index, h, i, j)]
		}
	case kernel.BitMatrix:
		from := 0
		if m.First != nil {
			from = m.First[s.index]
		}
		words := (m.Keys + 63) / 64
		return func(_, h, i, j int) bool {
			if j -= from; j < 0 || j >= m.Keys {
				return j < 0
			}
			return m.Bits[flat([]int{m.Shape[0], m.Shape[1], m.Shape[2], words}, s.index, h, i, j/64)]>>(j%64)&1 == 1
		}
	case kernel.BlockMap:
		return func(_, h, i, j int) bool {
			x := flat(m.Shape[:], s.index, h, i/m.Queries, j/m.Keys)
			return m.Bits[x/64]>>(x%64)&1 == 1
		}
	case kernel.And:
		return ref.And(s.oracles(m)...)
	case kernel.Or:
		return ref.Or(s.oracles(m)...)
	case kernel.PerHead:
		return ref.ByHead(s.oracles(m)...)
	}
	panic(fmt.Sprintf("no oracle for %T", mask))
}

func (s sequence) oracles(masks []kernel.Mask) []ref.Mask {
	var all []ref.Mask
	for _, m := range masks {
		all = append(all, s.oracle(m))
	}
	return all
}

func (s sequence) offset(align kernel.Alignment, explicit []int) int {
	switch {
	case explicit != nil:
		return explicit[s.index]
	case align == kernel.TopLeft:
		return 0
	}
	return s.keyOffset + s.keys - s.queries
}

// flat is the place of an element in a contiguous tensor, in which a dimension of 1 stands for any.
func flat(shape []int, index ...int) int {
	x := 0
	for d, size := range shape {
		i := index[d]
		if size == 1 {
			i = 0
		}
		x = x*size + i
	}
	return x
}

// isolated is a mask for the sequence alone.
func (s sequence) isolated(mask kernel.Mask) kernel.Mask {
	each := func(masks []kernel.Mask) []kernel.Mask {
		var all []kernel.Mask
		for _, m := range masks {
			all = append(all, s.isolated(m))
		}
		return all
	}
	switch m := mask.(type) {
	case nil:
		return nil
	case kernel.Causal:
		m.Offset = []int{s.offset(m.Align, m.Offset)}
		return m
	case kernel.Window:
		m.Offset = []int{s.offset(m.Align, m.Offset)}
		return m
	case kernel.Prefix:
		m.Offset = []int{s.offset(m.Align, m.Offset)}
		return m
	case kernel.SparseStrided:
		m.Offset = []int{s.offset(m.Align, m.Offset)}
		return m
	case kernel.SparseFixed:
		m.Offset = []int{s.offset(m.Align, m.Offset)}
		return m
	case kernel.And:
		return kernel.And(each(m))
	case kernel.Or:
		return kernel.Or(each(m))
	case kernel.PerHead:
		return kernel.PerHead(each(m))
	}
	see := s.oracle(mask)
	return kernel.MaskFunc{See: func(h, i, j int) bool { return see(0, h, i, j) }}
}

// drawMask draws a mask of any kind for all sequences, and compositions up to a depth.
func drawMask(r *rand.Rand, shape kernel.Shape, o kernel.Options, depth int) kernel.Mask {
	heads, all := shape.Heads, sequences(shape, o)
	var longest sequence
	longest.queries, longest.keys = extent(shape, o, all)
	align, offset := kernel.Alignment(r.IntN(2)), []int(nil)
	if r.IntN(3) == 0 {
		for _, s := range all {
			offset = append(offset, s.keyOffset+r.IntN(s.keys+s.queries+3)-s.queries-1)
		}
	}
	several := func() []kernel.Mask {
		var m []kernel.Mask
		for range 1 + r.IntN(3) {
			m = append(m, drawMask(r, shape, o, depth-1))
		}
		return m
	}
	oneOr := func(n int) int {
		if r.IntN(2) == 0 {
			return 1
		}
		return n
	}
	bits := func(n int) []uint64 {
		words := make([]uint64, n)
		for i := range words {
			words[i] = r.Uint64() & []uint64{0, ^uint64(0), r.Uint64(), r.Uint64() & r.Uint64()}[r.IntN(4)]
		}
		return words
	}
	small := func() int { return pick(r, [2]int{1, 3}, [2]int{1, 300}, [2]int{128, 128}) }
	kinds := 13
	if depth == 0 {
		kinds = 9
	}
	switch r.IntN(kinds) {
	case 0:
		return kernel.Causal{Align: align, Offset: offset}
	case 1:
		return kernel.Window{Left: small() - 2, Right: small() - 2, Align: align, Offset: offset}
	case 2:
		return kernel.Prefix{Keys: r.IntN(longest.keys + 2), Align: align, Offset: offset}
	case 3:
		return kernel.SparseStrided{Stride: small(), Part: kernel.SparsePart(r.IntN(3)), Align: align, Offset: offset}
	case 4:
		l := small()
		return kernel.SparseFixed{Stride: l, Summary: 1 + r.IntN(l), Part: kernel.SparsePart(r.IntN(3)), RunPerHead: r.IntN(2) == 0, Align: align, Offset: offset}
	case 5:
		a, b, c := r.IntN(5), 1+r.IntN(300), 1+r.IntN(3)
		return kernel.MaskFunc{See: func(h, i, j int) bool { return (i*a+j)/b%c != h%2 }}
	case 6:
		m := kernel.BoolMask{Shape: [4]int{oneOr(len(all)), oneOr(heads), oneOr(longest.queries),
			columns(r, longest.keys)}}
		density := r.IntN(5)
		for range m.Shape[0] * m.Shape[1] * m.Shape[2] * m.Shape[3] {
			m.Data = append(m.Data, r.IntN(4) < density)
		}
		return m
	case 7:
		m := kernel.BitMatrix{Shape: [3]int{oneOr(len(all)), oneOr(heads), oneOr(longest.queries)}, Keys: r.IntN(longest.keys + 10)}
		m.Bits = bits(m.Shape[0] * m.Shape[1] * m.Shape[2] * ((m.Keys + 63) / 64))
		if r.IntN(2) == 0 {
			for range all {
				m.First = append(m.First, r.IntN(longest.keys+10))
			}
		}
		return m
	case 8:
		m := kernel.BlockMap{Queries: small(), Keys: small()}
		m.Shape = [4]int{oneOr(len(all)), oneOr(heads), (longest.queries + m.Queries - 1) / m.Queries, (longest.keys + m.Keys - 1) / m.Keys}
		m.Bits = bits((m.Shape[0]*m.Shape[1]*m.Shape[2]*m.Shape[3] + 63) / 64)
		return m
	case 9:
		return kernel.And(several())
	case 10, 11:
		return kernel.Or(several())
	}
	return kernel.PerHead(several())
}
