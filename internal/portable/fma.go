// Package portable is the scalar arithmetic that every kernel of quern agrees on: a float32
// fused multiply-add and the elementary functions, in Go that gives the same bits on every GOARCH.
// The portable kernels are built from it, and the assembly generators read its constants.
//
// All of it assumes the default floating-point environment: round to nearest even, subnormals kept.
// Which NaN comes back is not specified; that a NaN comes back is.
package portable

import "math"

// FMA returns x*y + z rounded once to float32, as VFMADD and FMLA do, special values included.
//
// The product of two float32 is exact in float64. The float64 sum s is rounded, and rounding it
// again to float32 goes wrong only if s lies on a rounding boundary of float32 (a float32, or the
// midpoint of two) without being the exact sum. Every such boundary, in the normal, subnormal
// and overflow range alike, has its low 28 bits clear, so any other s is done. Otherwise TwoSum
// gives the sign of what s lost, and s is moved by a 2⁻⁴⁰th of itself to that side: off the
// boundary, and not as far as the next one. An exact s has lost 0, and an infinite or NaN s lost NaN;
// both stay as they are.
//
// The method is Boldo and Melquiond's, "Emulation of FMA and correctly rounded sums: proved
// algorithms using rounding to odd" (2008), with a nudge in place of rounding to odd.
// The body is as small as it is so that it inlines (cost 73 of 80).
func FMA(x, y, z float32) float32 {
	p := float64(float64(x) * float64(y)) // exact, so a compiler that fuses it changes nothing
	c := float64(z)
	s := p + c
	if math.Float64bits(s)<<36 == 0 {
		v := s - p
		if lost := s * ((p - (s - v)) + (c - v)); lost > 0 {
			s *= 1 + 0x1p-40
		} else if lost < 0 {
			s *= 1 - 0x1p-40
		}
	}
	return float32(s)
}
