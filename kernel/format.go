package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// Format is how numbers are stored. Arithmetic is float32 whatever the format.
type Format uint8

// The formats. The zero Format is Float32.
const (
	Float32  Format = iota
	BFloat16        // elements of type BF16
	Float16         // elements of type F16
	Int8            // signed bytes with scales: one for each column of weights, or key and head of a Cache
	formats
)

// String returns "float32", "bfloat16", "float16" or "int8".
func (f Format) String() string {
	if f >= formats {
		return "unknown"
	}
	return [...]string{"float32", "bfloat16", "float16", "int8"}[f]
}

// size is the number of bytes of an element.
func (f Format) size() int { return [...]int{4, 2, 2, 1}[f] }

// Float is a floating-point element, of a tensor or a vector. [BF16] and [F16] are converted to float32,
// which is exact, and then treated alike: results are those for the converted numbers, bit for bit.
type Float interface{ float32 | BF16 | F16 }

// Scalar is an element of a vector or a matrix. Of matrices only weights may be other than float32.
type Scalar interface{ float32 | BF16 | F16 | int8 }

func formatOf[T Scalar]() Format {
	var x T
	switch any(x).(type) {
	case BF16:
		return BFloat16
	case F16:
		return Float16
	case int8:
		return Int8
	}
	return Float32
}

// widen converts n numbers of format f to float32, exactly.
func (f Format) widen(level isa.Level, dst *float32, src unsafe.Pointer, n int) {
	for i := 0; i < n; i += budget.Numbers {
		to, from, some := offset(dst, i), unsafe.Add(src, i*f.size()), min(n-i, budget.Numbers)
		switch f {
		case Float32:
			copy(unsafe.Slice(to, some), unsafe.Slice((*float32)(from), some))
		case BFloat16:
			asm.WidenBF16(level, to, (*uint16)(from), some)
		case Float16:
			asm.WidenF16(level, to, (*uint16)(from), some)
		case Int8:
			asm.WidenInt8(level, to, (*int8)(from), some)
		}
	}
}

// narrow converts n float32 to format f: to the nearest 16-bit number; for int8, integers that are
// within a byte, n being a multiple of 16.
func (f Format) narrow(level isa.Level, dst unsafe.Pointer, src *float32, n int) {
	for i := 0; i < n; i += budget.Numbers {
		to, from, some := unsafe.Add(dst, i*f.size()), offset(src, i), min(n-i, budget.Numbers)
		switch f {
		case Float32:
			copy(unsafe.Slice((*float32)(to), some), unsafe.Slice(from, some))
		case BFloat16:
			asm.NarrowBF16(level, (*uint16)(to), from, some)
		case Float16:
			asm.NarrowF16(level, (*uint16)(to), from, some)
		case Int8:
			asm.NarrowInt8(level, (*int8)(to), from, some)
		}
	}
}
