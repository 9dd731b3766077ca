package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// BF16 is a bfloat16: the upper half of a float32, 8 significant bits and the same exponents.
type BF16 uint16

// F16 is an IEEE 754 binary16: 11 significant bits, exponents from -14 to 15, subnormals down to 2⁻²⁴.
type F16 uint16

// Half is a 16-bit floating-point number.
type Half interface{ BF16 | F16 }

// ToBF16 returns the bfloat16 nearest to f, ties to even: ±Inf for what rounds to 2¹²⁸ or more,
// subnormals kept. NaN stays NaN, with its sign and the upper bits of its payload.
func ToBF16(f float32) BF16 { return BF16(portable.Float32ToBF16(f)) }

// ToF16 returns the float16 nearest to f, ties to even: ±Inf from ±65520 on, ±0 up to 2⁻²⁵, subnormals
// between. NaN stays NaN, with its sign and the upper bits of its payload.
func ToF16(f float32) F16 { return F16(portable.Float32ToF16(f)) }

// Float32 returns x, which is exact.
func (x BF16) Float32() float32 { return portable.BF16ToFloat32(uint16(x)) }

// Float32 returns x, which is exact.
func (x F16) Float32() float32 { return portable.F16ToFloat32(uint16(x)) }

// View returns the same memory as 16-bit elements of another type, without copying: []uint16 as []BF16
// or []F16, or back. Length and capacity stay the same, and so do bits.
func View[To, From uint16 | BF16 | F16](s []From) []To {
	return unsafe.Slice((*To)(unsafe.Pointer(unsafe.SliceData(s))), cap(s))[:len(s)]
}

// Widen sets dst[i] to src[i], which is exact: infinities, zeros and subnormals stay what they are, and NaN
// stays NaN. dst and src must not overlap. It panics if the lengths differ.
func Widen[T Half](dst []float32, src []T) {
	mustMatch("Widen", "dst", len(dst), "src", len(src))
	level, from := isa.Active(), View[uint16](src)
	for len(from) > 0 {
		n := min(len(from), budget.Numbers)
		switch any(src).(type) {
		case []BF16:
			asm.WidenBF16(level, &dst[0], &from[0], n)
		case []F16:
			asm.WidenF16(level, &dst[0], &from[0], n)
		}
		dst, from = dst[n:], from[n:]
	}
}

// Narrow sets dst[i] to the number nearest to src[i], ties to even, as [ToBF16] and [ToF16] do. dst and
// src must not overlap. It panics if the lengths differ.
func Narrow[T Half](dst []T, src []float32) {
	mustMatch("Narrow", "dst", len(dst), "src", len(src))
	level, to := isa.Active(), View[uint16](dst)
	for len(to) > 0 {
		n := min(len(to), budget.Numbers)
		switch any(dst).(type) {
		case []BF16:
			asm.NarrowBF16(level, &to[0], &src[0], n)
		case []F16:
			asm.NarrowF16(level, &to[0], &src[0], n)
		}
		to, src = to[n:], src[n:]
	}
}
