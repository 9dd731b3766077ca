package portable

import (
	"math"
	"unsafe"
)

// The 16-bit formats. NaN keeps its sign and the upper bits of its payload, as in hardware; it
// becomes quiet, but for bfloat16 to float32, which only shifts.

// BF16ToFloat32 is exact.
func BF16ToFloat32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// Float32ToBF16 rounds to nearest, ties to even.
func Float32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// F16ToFloat32 is exact.
func F16ToFloat32(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch {
	case exponent == 0: // zero, or fraction · 2⁻²⁴: exact, and never a subnormal float32
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case exponent == 0x1f && fraction != 0:
		fraction |= 0x200
		fallthrough
	case exponent == 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// Float32ToF16 rounds to nearest, ties to even: to ±Inf from 65520 on, to zero up to 2⁻²⁵.
func Float32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case b > 0xff<<23: // NaN
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x47800000: // 2¹⁶
		return sign | 0x7c00
	case b >= 0x38800000: // 2⁻¹⁴: a normal number, or 2¹⁶ after rounding
		b -= (127 - 15) << 23
		return sign | uint16((b+0xfff+b>>13&1)>>13)
	}
	// A multiple of 2⁻²⁴: adding 0.5, whose last place is that, rounds it.
	return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-math.Float32bits(0.5))
}

// elements returns n elements from p on.
func elements[T any](p *T, n int) []T { return unsafe.Slice(p, n) }

// WidenBF16 is the kernel of that name.
func WidenBF16(dst *float32, src *uint16, n int) { convert(dst, src, n, BF16ToFloat32) }

// WidenF16 is the kernel of that name.
func WidenF16(dst *float32, src *uint16, n int) { convert(dst, src, n, F16ToFloat32) }

// WidenInt8 is the kernel of that name.
func WidenInt8(dst *float32, src *int8, n int) {
	convert(dst, src, n, func(x int8) float32 { return float32(x) })
}

// NarrowBF16 is the kernel of that name.
func NarrowBF16(dst *uint16, src *float32, n int) { convert(dst, src, n, Float32ToBF16) }

// NarrowF16 is the kernel of that name.
func NarrowF16(dst *uint16, src *float32, n int) { convert(dst, src, n, Float32ToF16) }

func convert[To, From any](dst *To, src *From, n int, f func(From) To) {
	to := elements(dst, n)
	for i, x := range elements(src, n) {
		to[i] = f(x)
	}
}

// WidenRowsBF16 is the kernel of that name.
func WidenRowsBF16(dst *float32, dstStride int, src *uint16, srcStride, rows, cols int) {
	widenRows(dst, dstStride, src, srcStride, rows, cols, BF16ToFloat32)
}

// WidenRowsF16 is the kernel of that name.
func WidenRowsF16(dst *float32, dstStride int, src *uint16, srcStride, rows, cols int) {
	widenRows(dst, dstStride, src, srcStride, rows, cols, F16ToFloat32)
}

func widenRows(dst *float32, dstStride int, src *uint16, srcStride, rows, cols int, f func(uint16) float32) {
	for r := range rows {
		to := at(dst, r*dstStride, roundUp(cols, lanes))
		if cols > 0 {
			for i, x := range elements((*uint16)(unsafe.Add(unsafe.Pointer(src), 2*r*srcStride)), cols) {
				to[i] = f(x)
			}
		}
		clear(to[max(cols, 0):])
	}
}

// NarrowInt8 is the kernel of that name.
func NarrowInt8(dst *int8, src *float32, n int) {
	convert(dst, src, n, func(x float32) int8 { return int8(x) })
}

// QuantizeRows is the kernel of that name.
func QuantizeRows(dst *int8, dstStride int, scales, src *float32, srcStride, rows, cols int) {
	for r := range rows {
		row := at(src, r*srcStride, cols)
		var largest, bad float32
		for _, x := range row {
			bad += float32(x * 0)
			largest = larger(largest, float32(math.Abs(float64(x))))
		}
		scale := Int8Scale(largest + bad)
		at(scales, r, 1)[0] = scale
		inverse := 1 / scale
		to := elements((*int8)(unsafe.Add(unsafe.Pointer(dst), r*dstStride)), roundUp(cols, lanes))
		clear(to)
		for i, x := range row {
			if y := float32(x * inverse); y == y {
				to[i] = int8(math.RoundToEven(float64(y)))
			}
		}
	}
}

// Int8Scale is the scale of numbers of which this is the largest magnitude, as bytes: it makes 127 of that. Where the
// inverse of such a scale would be too large it is 1, which makes all of them 0. Without a finite largest number it is
// NaN.
func Int8Scale(largest float32) float32 {
	scale := largest / 127
	switch {
	case scale < 0x1p-126:
		return 1
	case scale <= math.MaxFloat32:
		return scale
	}
	return float32(math.NaN())
}
