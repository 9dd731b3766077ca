package kernel

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/internal/isa"
)

// Cosine returns Σ x[i]·y[i] / √(Σ x[i]² · Σ y[i]²), the cosine of the angle between x and y, within
// [-1, 1]. The three sums are those of [Dot], taken in one pass; the rest is float64 and rounded once.
// Where squares or products would overflow or vanish, the sums are taken again in float64: large and small
// numbers give as good a cosine as others, but it takes some 20 times as long.
//
// It is 0 if x or y is empty or zero, and NaN if a NaN or infinity is involved. x and y may overlap. It
// panics if the lengths differ.
func Cosine[T Float](x, y []T) float32 { return pair(measureCosine, "Cosine", x, y) }

// Norm returns √(Σ x[i]²), the Euclidean length, the sum being that of [Dot]. Where squares would
// overflow or vanish, the sum is taken again in float64, which takes much longer.
//
// It is 0 if x is empty or zero, +Inf if x has an infinity or its length is beyond float32, and NaN if x
// has a NaN.
func Norm[T Float](x []T) float32 {
	if sum := Dot(x, x); inRange(sum) {
		return float32(math.Sqrt(float64(sum))) // rounding twice gives the nearest float32
	}
	return wideNorm(vector{formatOf[T](), unsafe.Pointer(unsafe.SliceData(x))}, len(x))
}

func wideNorm(x vector, n int) float32 {
	_, xx, _ := wideSums(isa.Active(), x, x, n)
	return float32(math.Sqrt(xx))
}

// Sums that serve a cosine or a norm, besides being finite. Bits depend on both: see ARITHMETIC.md.
const (
	leastSum   = 0x1p-90 // what products have lost in underflow is less than 2⁻³² of it
	leastApart = 0.25    // of xx and yy, if xy is smaller: vectors often have no element in common
)

// usual reports that float32 sums have neither overflowed nor lost much, in the usual way.
func usual(xy, xx, yy float32) bool { return inRange(xx) && inRange(yy) && inRange(abs(xy)) }

// apart reports that they serve though xy is small: because the vectors have next to nothing in common, not because
// they are small.
func apart(xy, xx, yy float32) bool {
	return inRange(xx) && inRange(yy) && abs(xy) < leastSum && xx >= leastApart && yy >= leastApart
}

// inRange reports that a sum is finite and at least leastSum. It is one comparison: those numbers have bits in a row.
func inRange(sum float32) bool {
	const least, infinity = (127 - 90) << 23, 255 << 23
	return math.Float32bits(sum)-least < infinity-least
}

// abs has no branch: signs are not to be foreseen.
func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// cosineOf is xy / √(xx·yy), and 0 for a zero vector.
func cosineOf(xy, xx, yy float64) float32 {
	if (xx == 0 || yy == 0) && xy == xy {
		return 0
	}
	return ratio(xy, xx, yy)
}

// ratio is xy / √(xx·yy) for xx and yy that are not 0. The product of two float32 is exact in float64.
func ratio(xy, xx, yy float64) float32 {
	c := float32(xy / math.Sqrt(xx*yy))
	if c > 1 {
		return 1
	}
	if c < -1 {
		return -1
	}
	return c + 0
}

// rareCosine is the cosine of two vectors whose sums in float32 are not the usual ones: from these, or from wider ones.
func rareCosine(level isa.Level, xy, xx, yy float32, x, y vector, n int) float32 {
	if apart(xy, xx, yy) {
		return ratio(float64(xy), float64(xx), float64(yy))
	}
	if xy == xy && (x.zero(level, n) || y.zero(level, n)) {
		return 0 // what the sums would give, but rows of zeros are common and this is quicker
	}
	return cosineOf(wideSums(level, x, y, n))
}

// wideSums are x·y, x·x and y·y, each a chain in ascending order. Products of two float32 are exact in
// float64, so it does not matter whether they are fused, and neither they nor sums of them leave its range.
func wideSums(level isa.Level, x, y vector, n int) (xy, xx, yy float64) {
	var xs, ys [vectorPiece]float32
	for from := 0; from < n; from += vectorPiece {
		some := min(n-from, vectorPiece)
		x.read(level, xs[:some], from)
		y.read(level, ys[:some], from)
		for i, x := range xs[:some] {
			a, b := float64(x), float64(ys[i])
			xy += a * b
			xx += a * a
			yy += b * b
		}
	}
	return xy, xx, yy
}

// vector is where numbers lie in memory.
type vector struct {
	format Format
	data   unsafe.Pointer
}

// vectorPiece is how many numbers are converted at a time.
const vectorPiece = 256

// read converts some numbers, from one on.
func (v vector) read(level isa.Level, dst []float32, from int) {
	v.format.widen(level, &dst[0], unsafe.Add(v.data, from*v.format.size()), len(dst))
}

// zero reports that all n numbers are ±0.
func (v vector) zero(level isa.Level, n int) bool {
	var piece [vectorPiece]float32
	for from := 0; from < n; from += vectorPiece {
		some := piece[:min(n-from, vectorPiece)]
		v.read(level, some, from)
		for _, x := range some {
			if x != 0 {
				return false
			}
		}
	}
	return true
}
