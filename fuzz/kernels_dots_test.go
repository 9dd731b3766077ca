package fuzz

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// identical is for integers and packed numbers, among which a NaN is one by chance.
func identical(_ int, got, want float32) bool { return math.Float32bits(got) == math.Float32bits(want) }

// format is a type smaller than float32, or integers: draws makes one as bits.
type format struct {
	size  int
	draws func(d *draw) uint32
}

var (
	bfloat16 = format{2, func(d *draw) uint32 { return math.Float32bits(d.Float32()) >> 16 }}
	float16  = format{2, func(d *draw) uint32 { return uint32(portable.Float32ToF16(d.Float32())) }}
	int8s    = format{1, func(d *draw) uint32 { return d.Uint32() & 0xff }}
	float32s = format{4, func(d *draw) uint32 { return math.Float32bits(d.Float32()) }}
	uint64s  = format{8, func(d *draw) uint32 { return d.Uint32() }}
)

// packed returns the address of n numbers of a format, flush with the guard that d places buffers at.
func (d *draw) packed(name string, f format, n int, same rule) unsafe.Pointer {
	words := (n*f.size + 3) / 4
	b := d.out(name, vector(words), func() float32 {
		var word uint32
		for shift := 0; shift < 32; shift += 8 * f.size {
			word |= f.draws(d) << shift
		}
		return math.Float32frombits(word)
	}, same)
	p := unsafe.Pointer(b.Ptr())
	if d.at == Tail {
		p = unsafe.Add(p, 4*words-n*f.size)
	}
	return p
}

// manyRows are the arguments of a kernel that measures rows: all of them, or indexed ones.
type manyRows struct {
	q, rows            unsafe.Pointer
	dim, stride, count int
	index, last        *uint32
	ahead              int
}

func (d *draw) manyRows(n int, q, rows format) manyRows {
	r := manyRows{dim: n, stride: n + d.IntN(3), count: 1 + d.IntN(3), ahead: 4 * d.IntN(5)}
	stored := r.count
	if d.IntN(2) == 0 {
		stored, r.count = 2, 1+d.IntN(4)
		words := d.in("index", vector(r.count), func() float32 { return math.Float32frombits(uint32(d.IntN(stored))) })
		r.index = (*uint32)(unsafe.Pointer(words.Ptr()))
		r.last = (*uint32)(unsafe.Add(unsafe.Pointer(r.index), 4*(r.count-1)))
	}
	r.q, r.rows = d.packed("q", q, n, nil), d.packed("rows", rows, (stored-1)*r.stride+n, nil)
	return r
}

// chains returns the accumulators of some sums, which only a kernel with one row may resume.
func (d *draw) chains(sums, count int, must bool) (acc *float32, resume int) {
	b := d.out("acc", vector(64*sums), d.Float32, exact)
	if !must && d.IntN(2) == 0 {
		return nil, 0
	}
	if count == 1 {
		resume = d.IntN(2)
	}
	return b.Ptr(), resume
}

func sumRows[T any](name string, f format, sums int, kernelOf func(l isa.Level, dst *float32, q *float32, rows *T, r *manyRows, acc *float32, resume int, scale float32)) kernel {
	return kernel{name, long, func(d *draw, n int) call {
		r, scale := d.manyRows(n, float32s, f), d.Float32()
		dst := d.out("dst", vector(sums*r.count), d.Float32, exact)
		acc, resume := d.chains(sums, r.count, sums > 1)
		return func(l isa.Level) float32 {
			kernelOf(l, dst.Ptr(), (*float32)(r.q), (*T)(r.rows), &r, acc, resume, scale)
			return 0
		}
	}}
}

func sumPair[T any](name string, f format, sums int, kernelOf func(l isa.Level, dst *float32, x, y *T, n int, acc *float32, resume int)) kernel {
	return kernel{name, long, func(d *draw, n int) call {
		x, y := d.packed("x", f, n, nil), d.packed("y", f, n, nil)
		dst := d.out("sums", vector(sums), d.Float32, exact)
		acc, resume := d.chains(sums, 1, sums > 1)
		return func(l isa.Level) float32 {
			kernelOf(l, dst.Ptr(), (*T)(x), (*T)(y), n, acc, resume)
			return 0
		}
	}}
}

func integerRows[T any](name string, f format, sums int, kernelOf func(l isa.Level, dst *int32, q, rows *T, r *manyRows)) kernel {
	return kernel{name, long, func(d *draw, n int) call {
		r := d.manyRows(n, f, f)
		dst := d.out("dst", vector(sums*r.count), d.Float32, identical)
		return func(l isa.Level) float32 {
			kernelOf(l, (*int32)(unsafe.Pointer(dst.Ptr())), (*T)(r.q), (*T)(r.rows), &r)
			return 0
		}
	}}
}

func widening[T any](name string, f format, kernelOf func(l isa.Level, dst *float32, src *T, n int)) kernel {
	return kernel{name, long, func(d *draw, n int) call {
		dst, src := d.out("dst", vector(n), d.Float32, exact), d.packed("src", f, n, nil)
		return func(l isa.Level) float32 { kernelOf(l, dst.Ptr(), (*T)(src), n); return 0 }
	}}
}

func narrowing(name string, f format, kernelOf func(l isa.Level, dst *uint16, src *float32, n int)) kernel {
	return kernel{name, long, func(d *draw, n int) call {
		dst, src := d.packed("dst", f, n, identical), d.in("src", vector(n), d.Float32)
		return func(l isa.Level) float32 { kernelOf(l, (*uint16)(dst), src.Ptr(), n); return 0 }
	}}
}

// dotKernels are the rows for the dot-product family and the conversions.
var dotKernels = []kernel{
	sumRows("DotRowsF32", float32s, 1, func(l isa.Level, dst, q *float32, rows *float32, r *manyRows, acc *float32, resume int, _ float32) {
		asm.DotRowsF32(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("L2RowsF32", float32s, 1, func(l isa.Level, dst, q *float32, rows *float32, r *manyRows, acc *float32, resume int, scale float32) {
		asm.L2RowsF32(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume, scale)
	}),
	sumRows("CosineRowsF32", float32s, 2, func(l isa.Level, dst, q *float32, rows *float32, r *manyRows, acc *float32, resume int, _ float32) {
		asm.CosineRowsF32(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("DotRowsBF16", bfloat16, 1, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, _ float32) {
		asm.DotRowsBF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("L2RowsBF16", bfloat16, 1, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, scale float32) {
		asm.L2RowsBF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume, scale)
	}),
	sumRows("CosineRowsBF16", bfloat16, 2, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, _ float32) {
		asm.CosineRowsBF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("DotRowsF16", float16, 1, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, _ float32) {
		asm.DotRowsF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("L2RowsF16", float16, 1, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, scale float32) {
		asm.L2RowsF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume, scale)
	}),
	sumRows("CosineRowsF16", float16, 2, func(l isa.Level, dst, q *float32, rows *uint16, r *manyRows, acc *float32, resume int, _ float32) {
		asm.CosineRowsF16(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("DotRowsInt8", int8s, 1, func(l isa.Level, dst, q *float32, rows *int8, r *manyRows, acc *float32, resume int, _ float32) {
		asm.DotRowsInt8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumRows("L2RowsInt8", int8s, 1, func(l isa.Level, dst, q *float32, rows *int8, r *manyRows, acc *float32, resume int, scale float32) {
		asm.L2RowsInt8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume, scale)
	}),
	sumRows("CosineRowsInt8", int8s, 2, func(l isa.Level, dst, q *float32, rows *int8, r *manyRows, acc *float32, resume int, _ float32) {
		asm.CosineRowsInt8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead, acc, resume)
	}),
	sumPair("L2PairF32", float32s, 1, asm.L2PairF32),
	sumPair("CosinePairF32", float32s, 3, asm.CosinePairF32),
	sumPair("DotPairBF16", bfloat16, 1, asm.DotPairBF16),
	sumPair("L2PairBF16", bfloat16, 1, asm.L2PairBF16),
	sumPair("CosinePairBF16", bfloat16, 3, asm.CosinePairBF16),
	sumPair("DotPairF16", float16, 1, asm.DotPairF16),
	sumPair("L2PairF16", float16, 1, asm.L2PairF16),
	sumPair("CosinePairF16", float16, 3, asm.CosinePairF16),
	integerRows("DotInt8", int8s, 1, func(l isa.Level, dst *int32, q, rows *int8, r *manyRows) {
		asm.DotInt8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead)
	}),
	integerRows("L2Int8", int8s, 1, func(l isa.Level, dst *int32, q, rows *int8, r *manyRows) {
		asm.L2Int8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead)
	}),
	integerRows("CosineInt8", int8s, 3, func(l isa.Level, dst *int32, q, rows *int8, r *manyRows) {
		asm.CosineInt8(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead)
	}),
	integerRows("HammingRows", uint64s, 1, func(l isa.Level, dst *int32, q, rows *uint64, r *manyRows) {
		asm.HammingRows(l, dst, q, rows, r.dim, r.stride, r.count, r.index, r.last, r.ahead)
	}),
	{"DotPairInt8", 2*128 + 128, func(d *draw, n int) call {
		x, y := d.packed("x", int8s, n, nil), d.packed("y", int8s, n, nil)
		plain := d.IntN(2) == 0
		return func(l isa.Level) float32 {
			if plain {
				defer isa.WithoutExtension()()
			}
			return float32(asm.DotPairInt8(l, (*int8)(x), (*int8)(y), n)) // below 2²⁴
		}
	}},
	widening("WidenBF16", bfloat16, asm.WidenBF16),
	widening("WidenF16", float16, asm.WidenF16),
	widening("WidenInt8", int8s, asm.WidenInt8),
	narrowing("NarrowBF16", bfloat16, asm.NarrowBF16),
	narrowing("NarrowF16", float16, asm.NarrowF16),
}
