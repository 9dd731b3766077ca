package kernel

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// measure is what the kernels of the family compute for two vectors.
type measure uint8

const (
	measureDot    measure = iota
	measureL2             // squared Euclidean distance
	measureCosine         // three sums: x·y, y·y, x·x
)

// Dot returns Σ x[i]·y[i]: four chains of 16 lanes, each product fused with its sum. Empty slices
// give +0, and -0 is never returned. x and y may overlap. It panics if the lengths differ.
//
// For long vectors it reads memory as fast as the machine does; for short ones, in cache, two loads
// for every fused multiply-add are the limit.
func Dot[T Float](x, y []T) float32 {
	n := len(x)
	if n != len(y) { // mustMatch is not inlined, and this is short
		panicMismatch("Dot", "x", n, "y", len(y))
	}
	px, py := unsafe.Pointer(unsafe.SliceData(x)), unsafe.Pointer(unsafe.SliceData(y))
	var zero T
	if unsafe.Sizeof(zero) != 4 { // known when this is compiled for T
		return dotHalf(formatOf[T](), (*uint16)(px), (*uint16)(py), n)
	}
	if n <= budget.Numbers {
		return asm.Dot(isa.Active(), (*float32)(px), (*float32)(py), n)
	}
	return longDot(isa.Active(), (*float32)(px), (*float32)(py), n)
}

// dotHalf is Dot for 16-bit elements, in fewer calls than pairs where the vectors are short.
func dotHalf(format Format, x, y *uint16, n int) (sum float32) {
	switch {
	case n > budget.Numbers:
		return pairs(measureDot, format, unsafe.Pointer(x), unsafe.Pointer(y), n)
	case format == BFloat16:
		asm.DotPairBF16(isa.Active(), &sum, x, y, n, nil, 0)
	default:
		asm.DotPairF16(isa.Active(), &sum, x, y, n, nil, 0)
	}
	return sum
}

func longDot(level isa.Level, x, y *float32, n int) float32 {
	var chains [64]float32
	for n > budget.Numbers {
		asm.DotChunk(level, &chains[0], x, y, budget.Numbers)
		x, y, n = offset(x, budget.Numbers), offset(y, budget.Numbers), n-budget.Numbers
	}
	return asm.DotFrom(level, &chains[0], x, y, n)
}

// SquaredL2 returns Σ (x[i]-y[i])², the square of the Euclidean distance, summed as [Dot] does. Empty
// slices give +0. x and y may overlap. It panics if the lengths differ.
func SquaredL2[T Float](x, y []T) float32 { return pair(measureL2, "SquaredL2", x, y) }

// pair measures two slices.
func pair[T Float](of measure, name string, x, y []T) float32 {
	n := len(x)
	mustMatch(name, "x", n, "y", len(y))
	px, py := unsafe.Pointer(unsafe.SliceData(x)), unsafe.Pointer(unsafe.SliceData(y))
	if of == measureCosine {
		return pairCosine(formatOf[T](), px, py, n)
	}
	return pairs(of, formatOf[T](), px, py, n)
}

func pairs(of measure, format Format, x, y unsafe.Pointer, n int) float32 {
	level, sum := isa.Active(), float32(0)
	if n <= budget.Numbers {
		pairStep(level, of, format, &sum, x, y, n, nil, 0)
	} else {
		var chains [64]float32
		longPair(level, of, format, &sum, x, y, n, &chains[0])
	}
	return sum
}

func pairCosine(format Format, x, y unsafe.Pointer, n int) float32 {
	level := isa.Active()
	var sums [3]float32 // x·y, y·y, x·x
	var chains [len(sums) * 64]float32
	if n <= budget.Numbers {
		pairStep(level, measureCosine, format, &sums[0], x, y, n, &chains[0], 0)
	} else {
		longPair(level, measureCosine, format, &sums[0], x, y, n, &chains[0])
	}
	xy, xx, yy := sums[0], sums[2], sums[1]
	if usual(xy, xx, yy) {
		return ratio(float64(xy), float64(xx), float64(yy))
	}
	return rareCosine(level, xy, xx, yy, vector{format, x}, vector{format, y}, n)
}

// longPair measures in chunks. The chains are handed from one to the next.
func longPair(level isa.Level, of measure, format Format, sums *float32, x, y unsafe.Pointer, n int, chains *float32) {
	for resume := 0; ; resume = 1 {
		m := min(n, budget.Numbers)
		pairStep(level, of, format, sums, x, y, m, chains, resume)
		if n -= m; n == 0 {
			return
		}
		x, y = unsafe.Add(x, m*format.size()), unsafe.Add(y, m*format.size())
	}
}

func pairStep(level isa.Level, of measure, format Format, sums *float32, x, y unsafe.Pointer, n int, chains *float32, resume int) {
	xf, yf, xh, yh := (*float32)(x), (*float32)(y), (*uint16)(x), (*uint16)(y)
	switch format {
	case Float32:
		switch of {
		case measureL2:
			asm.L2PairF32(level, sums, xf, yf, n, chains, resume)
		case measureCosine:
			asm.CosinePairF32(level, sums, xf, yf, n, chains, resume)
		}
	case BFloat16:
		switch of {
		case measureDot:
			asm.DotPairBF16(level, sums, xh, yh, n, chains, resume)
		case measureL2:
			asm.L2PairBF16(level, sums, xh, yh, n, chains, resume)
		case measureCosine:
			asm.CosinePairBF16(level, sums, xh, yh, n, chains, resume)
		}
	case Float16:
		switch of {
		case measureDot:
			asm.DotPairF16(level, sums, xh, yh, n, chains, resume)
		case measureL2:
			asm.L2PairF16(level, sums, xh, yh, n, chains, resume)
		case measureCosine:
			asm.CosinePairF16(level, sums, xh, yh, n, chains, resume)
		}
	}
}

// DotInt8 returns Σ x[i]·y[i], exactly. Empty slices give 0. x and y may overlap. It panics if the
// lengths differ.
func DotInt8(x, y []int8) int64 {
	n := len(x)
	mustMatch("DotInt8", "x", n, "y", len(y))
	if n <= intChunk {
		return int64(asm.DotPairInt8(isa.Active(), unsafe.SliceData(x), unsafe.SliceData(y), n))
	}
	return intPair(measureDot, x, y)[0]
}

// SquaredL2Int8 returns Σ (x[i]-y[i])², exactly. Empty slices give 0. x and y may overlap. It panics if
// the lengths differ.
func SquaredL2Int8(x, y []int8) int64 {
	mustMatch("SquaredL2Int8", "x", len(x), "y", len(y))
	return intPair(measureL2, x, y)[0]
}

// CosineInt8 returns the cosine of the angle between x and y from exact sums: 0 if x or y is empty or
// zero. x and y may overlap. It panics if the lengths differ.
func CosineInt8(x, y []int8) float32 {
	mustMatch("CosineInt8", "x", len(x), "y", len(y))
	s := intPair(measureCosine, x, y)
	return intCosine(s[0], s[2], s[1])
}

// intChunk is the most bytes whose sums 32 bits are sure to hold: 255²·2¹⁵ < 2³¹.
const intChunk = 1 << 15

// intPair returns the sums of a measure over two slices of one length.
func intPair(of measure, x, y []int8) (total [3]int64) {
	level := isa.Active()
	for len(x) > 0 {
		n := min(len(x), intChunk)
		var sums [3]int32
		intStep(level, of, &sums[0], &x[0], &y[0], n, 0, 1, nil, nil, 0)
		for i, s := range sums {
			total[i] += int64(s)
		}
		x, y = x[n:], y[n:]
	}
	return total
}

func intStep(level isa.Level, of measure, dst *int32, q, rows *int8, dim, stride, count int, index, last *uint32, ahead int) {
	switch of {
	case measureDot:
		asm.DotInt8(level, dst, q, rows, dim, stride, count, index, last, ahead)
	case measureL2:
		asm.L2Int8(level, dst, q, rows, dim, stride, count, index, last, ahead)
	case measureCosine:
		asm.CosineInt8(level, dst, q, rows, dim, stride, count, index, last, ahead)
	}
}

// intCosine is xy / √(xx·yy) for exact sums. They are rounded to float64, which is exact below 2⁵³.
func intCosine(xy, xx, yy int64) float32 {
	if xx == 0 || yy == 0 {
		return 0
	}
	c := float64(xy) / math.Sqrt(float64(xx)*float64(yy))
	return float32(max(-1, min(c, 1))) + 0
}

// Hamming returns the number of bits in which x and y differ. Empty slices give 0. It panics if the
// lengths differ.
func Hamming(x, y []uint64) int {
	mustMatch("Hamming", "x", len(x), "y", len(y))
	level, total := isa.Active(), 0
	for len(x) > 0 {
		n := min(len(x), budget.Numbers)
		var bits int32
		asm.HammingRows(level, &bits, &x[0], &y[0], n, 0, 1, nil, nil, 0)
		total += int(bits)
		x, y = x[n:], y[n:]
	}
	return total
}
