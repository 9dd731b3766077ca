package portable

import (
	"math/bits"
	"unsafe"
)

// The dot-product family: the kernels of gen/dots.go. They are not inlined, because the compiler does
// not see that the generic functions behind them keep no pointer once it inlines these elsewhere.

// sumChains are the four chains of 16 lanes of up to three sums.
type sumChains [3][4][lanes]float32

// measure is what a kernel sums. It is no function value: what is passed to one escapes to the heap.
type measure struct {
	kind  measureKind
	sums  int
	scale float32 // of y, for scaledL2
}

type measureKind int

const (
	dotProduct measureKind = iota
	squaredL2
	scaledL2
	cosine
)

var (
	dotMeasure = measure{kind: dotProduct, sums: 1}
	l2Measure  = measure{kind: squaredL2, sums: 1}
	cosineRow  = measure{kind: cosine, sums: 2}
	cosinePair = measure{kind: cosine, sums: 3}
)

// add adds one product to one lane of every sum.
func (of measure) add(c *sumChains, chain, lane int, x, y float32) {
	s0, s1, s2 := &c[0][chain][lane], &c[1][chain][lane], &c[2][chain][lane]
	switch of.kind {
	case dotProduct:
		*s0 = FMA(x, y, *s0)
	case squaredL2:
		*s0 = FMA(x-y, x-y, *s0)
	case scaledL2:
		d := FMA(-of.scale, y, x)
		*s0 = FMA(d, d, *s0)
	case cosine:
		*s0 = FMA(x, y, *s0)
		*s1 = FMA(y, y, *s1)
		*s2 = FMA(x, x, *s2)
	}
}

// sums writes the sums over n numbers of x and y.
func sums[X, Y any](dst *float32, of measure, x *X, wx func(X) float32, y *Y, wy func(Y) float32, n int, acc *float32, resume int) {
	var c sumChains
	chains := elements((*float32)(unsafe.Pointer(&c)), of.sums*4*lanes)
	if resume > 0 {
		copy(chains, at(acc, 0, len(chains)))
	}
	xs, ys := elements(x, n), elements(y, n)
	for i := range xs {
		of.add(&c, i/lanes%4, i%lanes, wx(xs[i]), wy(ys[i]))
	}
	// A partial last vector is filled up with zeros.
	for i := n; i%lanes > 0; i++ {
		of.add(&c, i/lanes%4, i%lanes, 0, 0)
	}
	if acc != nil {
		copy(at(acc, 0, len(chains)), chains)
	}
	out := at(dst, 0, of.sums)
	for k := range out {
		for l := range lanes {
			c[k][0][l] = (c[k][0][l] + c[k][1][l]) + (c[k][2][l] + c[k][3][l])
		}
		out[k] = foldAdd(&c[k][0]) + 0
	}
}

// rowSums writes the sums over q and each row.
func rowSums[Y any](of measure, dst, q *float32, rows *Y, wide func(Y) float32, dim, stride, count int, index *uint32, acc *float32, resume int) {
	for r := range count {
		sums(&at(dst, r*of.sums, 1)[0], of, q, float32ToFloat32, row(rows, stride, index, r), wide, dim, acc, resume)
	}
}

// row returns where row r starts.
func row[T any](rows *T, stride int, index *uint32, r int) *T {
	if index != nil {
		r = int(elements(index, r+1)[r])
	}
	return (*T)(unsafe.Add(unsafe.Pointer(rows), r*stride*int(unsafe.Sizeof(*rows))))
}

func float32ToFloat32(x float32) float32 { return x }
func int8ToFloat32(x int8) float32       { return float32(x) }

// intRows writes the exact sums over q and each row.
func intRows[T any](sums int, terms func(x, y T) [3]int32, dst *int32, q, rows *T, dim, stride, count int, index *uint32) {
	x := elements(q, dim)
	for r := range count {
		sum := elements(dst, (r+1)*sums)[r*sums:]
		clear(sum)
		for i, y := range elements(row(rows, stride, index, r), dim) {
			t := terms(x[i], y)
			for k := range sum {
				sum[k] += t[k]
			}
		}
	}
}

// DotRowsF32 is the kernel of that name.
//
//go:noinline
func DotRowsF32(dst, q *float32, rows *float32, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(dotMeasure, dst, q, rows, float32ToFloat32, dim, stride, count, index, acc, resume)
}

// L2RowsF32 is the kernel of that name.
//
//go:noinline
func L2RowsF32(dst, q *float32, rows *float32, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int, scale float32) {
	rowSums(measure{scaledL2, 1, scale}, dst, q, rows, float32ToFloat32, dim, stride, count, index, acc, resume)
}

// CosineRowsF32 is the kernel of that name.
//
//go:noinline
func CosineRowsF32(dst, q *float32, rows *float32, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(cosineRow, dst, q, rows, float32ToFloat32, dim, stride, count, index, acc, resume)
}

// DotRowsBF16 is the kernel of that name.
//
//go:noinline
func DotRowsBF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(dotMeasure, dst, q, rows, BF16ToFloat32, dim, stride, count, index, acc, resume)
}

// L2RowsBF16 is the kernel of that name.
//
//go:noinline
func L2RowsBF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int, scale float32) {
	rowSums(measure{scaledL2, 1, scale}, dst, q, rows, BF16ToFloat32, dim, stride, count, index, acc, resume)
}

// CosineRowsBF16 is the kernel of that name.
//
//go:noinline
func CosineRowsBF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(cosineRow, dst, q, rows, BF16ToFloat32, dim, stride, count, index, acc, resume)
}

// DotRowsF16 is the kernel of that name.
//
//go:noinline
func DotRowsF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(dotMeasure, dst, q, rows, F16ToFloat32, dim, stride, count, index, acc, resume)
}

// L2RowsF16 is the kernel of that name.
//
//go:noinline
func L2RowsF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int, scale float32) {
	rowSums(measure{scaledL2, 1, scale}, dst, q, rows, F16ToFloat32, dim, stride, count, index, acc, resume)
}

// CosineRowsF16 is the kernel of that name.
//
//go:noinline
func CosineRowsF16(dst, q *float32, rows *uint16, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(cosineRow, dst, q, rows, F16ToFloat32, dim, stride, count, index, acc, resume)
}

// DotRowsInt8 is the kernel of that name.
//
//go:noinline
func DotRowsInt8(dst, q *float32, rows *int8, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(dotMeasure, dst, q, rows, int8ToFloat32, dim, stride, count, index, acc, resume)
}

// L2RowsInt8 is the kernel of that name.
//
//go:noinline
func L2RowsInt8(dst, q *float32, rows *int8, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int, scale float32) {
	rowSums(measure{scaledL2, 1, scale}, dst, q, rows, int8ToFloat32, dim, stride, count, index, acc, resume)
}

// CosineRowsInt8 is the kernel of that name.
//
//go:noinline
func CosineRowsInt8(dst, q *float32, rows *int8, dim, stride, count int, index, last *uint32, ahead int, acc *float32, resume int) {
	rowSums(cosineRow, dst, q, rows, int8ToFloat32, dim, stride, count, index, acc, resume)
}

// L2PairF32 is the kernel of that name.
//
//go:noinline
func L2PairF32(dst *float32, x, y *float32, n int, acc *float32, resume int) {
	sums(dst, l2Measure, x, float32ToFloat32, y, float32ToFloat32, n, acc, resume)
}

// CosinePairF32 is the kernel of that name.
//
//go:noinline
func CosinePairF32(dst *float32, x, y *float32, n int, acc *float32, resume int) {
	sums(dst, cosinePair, x, float32ToFloat32, y, float32ToFloat32, n, acc, resume)
}

// DotPairBF16 is the kernel of that name.
//
//go:noinline
func DotPairBF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, dotMeasure, x, BF16ToFloat32, y, BF16ToFloat32, n, acc, resume)
}

// L2PairBF16 is the kernel of that name.
//
//go:noinline
func L2PairBF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, l2Measure, x, BF16ToFloat32, y, BF16ToFloat32, n, acc, resume)
}

// CosinePairBF16 is the kernel of that name.
//
//go:noinline
func CosinePairBF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, cosinePair, x, BF16ToFloat32, y, BF16ToFloat32, n, acc, resume)
}

// DotPairF16 is the kernel of that name.
//
//go:noinline
func DotPairF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, dotMeasure, x, F16ToFloat32, y, F16ToFloat32, n, acc, resume)
}

// L2PairF16 is the kernel of that name.
//
//go:noinline
func L2PairF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, l2Measure, x, F16ToFloat32, y, F16ToFloat32, n, acc, resume)
}

// CosinePairF16 is the kernel of that name.
//
//go:noinline
func CosinePairF16(dst *float32, x, y *uint16, n int, acc *float32, resume int) {
	sums(dst, cosinePair, x, F16ToFloat32, y, F16ToFloat32, n, acc, resume)
}

// DotInt8 is the kernel of that name.
//
//go:noinline
func DotInt8(dst *int32, q, rows *int8, dim, stride, count int, index, last *uint32, ahead int) {
	intRows(1, func(x, y int8) [3]int32 { return [3]int32{int32(x) * int32(y)} }, dst, q, rows, dim, stride, count, index)
}

// L2Int8 is the kernel of that name.
//
//go:noinline
func L2Int8(dst *int32, q, rows *int8, dim, stride, count int, index, last *uint32, ahead int) {
	intRows(1, func(x, y int8) [3]int32 {
		d := int32(x) - int32(y)
		return [3]int32{d * d}
	}, dst, q, rows, dim, stride, count, index)
}

// CosineInt8 is the kernel of that name.
//
//go:noinline
func CosineInt8(dst *int32, q, rows *int8, dim, stride, count int, index, last *uint32, ahead int) {
	intRows(3, func(x, y int8) [3]int32 {
		return [3]int32{int32(x) * int32(y), int32(y) * int32(y), int32(x) * int32(x)}
	}, dst, q, rows, dim, stride, count, index)
}

// HammingRows is the kernel of that name.
//
//go:noinline
func HammingRows(dst *int32, q, rows *uint64, dim, stride, count int, index, last *uint32, ahead int) {
	intRows(1, func(x, y uint64) [3]int32 { return [3]int32{int32(bits.OnesCount64(x ^ y))} }, dst, q, rows, dim, stride, count, index)
}
