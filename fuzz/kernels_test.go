package fuzz

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// kernel is one row of the table. Its sizes are 0 to most, of the dimension of which every residue matters: the
// length of a vector, the rows of a tile, the columns of a tail. Arguments draws the rest and returns the call.
type kernel struct {
	name      string
	most      int
	arguments func(d *draw, n int) call
}

// long is twice around the longest loop, and every residue.
const long = 2*64 + 64

// kernels has a row for every kernel of the manifest. Buffers are exactly as large as a kernel may use.
var kernels = append([]kernel{
	{"Dot", long, func(d *draw, n int) call {
		x, y := d.in("x", vector(n), d.Float32), d.in("y", vector(n), d.Float32)
		return func(l isa.Level) float32 { return asm.Dot(l, x.Ptr(), y.Ptr(), n) }
	}},
	{"DotFrom", long, func(d *draw, n int) call {
		x, y := d.in("x", vector(n), d.Float32), d.in("y", vector(n), d.Float32)
		acc := d.in("acc", vector(64), d.Float32)
		return func(l isa.Level) float32 { return asm.DotFrom(l, acc.Ptr(), x.Ptr(), y.Ptr(), n) }
	}},
	{"DotChunk", 5, func(d *draw, n int) call {
		n *= 64
		acc := d.out("acc", vector(64), d.Float32, exact)
		x, y := d.in("x", vector(n), d.Float32), d.in("y", vector(n), d.Float32)
		return func(l isa.Level) float32 { asm.DotChunk(l, acc.Ptr(), x.Ptr(), y.Ptr(), n); return 0 }
	}},
	{"Product", 40, func(d *draw, n int) call {
		depth, cols := d.IntN(20), 16*d.upTo(2)
		c := d.out("c", d.matrix(n, cols), d.Float32, exact)
		a, b := d.in("a", d.matrix(n, depth), d.Float32), d.in("b", panel(depth, cols), d.Float32)
		alpha := d.orNil(d.in("alpha", vector(n), d.Float32))
		return func(l isa.Level) float32 {
			asm.Product(l, c.Ptr(), c.Stride, a.Ptr(), a.Stride, b.Ptr(), depth, n, cols, alpha, b.Ptr(), 192)
			return 0
		}
	}},
	{"FewF32", 12, func(d *draw, n int) call {
		f := d.few(n)
		b := d.in("b", f.b, d.Float32)
		return func(l isa.Level) float32 {
			asm.FewF32(l, f.c.Ptr(), f.c.Stride, f.a.Ptr(), f.a.Stride, b.Ptr(), f.pitch, f.panelStride, f.depth, n, f.cols, f.alpha)
			return 0
		}
	}},
	{"FewBF16", 12, func(d *draw, n int) call {
		f := d.few(n)
		b := d.small("b", f.b, 2, bf16, nil)
		return func(l isa.Level) float32 {
			asm.FewBF16(l, f.c.Ptr(), f.c.Stride, f.a.Ptr(), f.a.Stride, b.half(), f.pitch, f.panelStride, f.depth, n, f.cols, f.alpha)
			return 0
		}
	}},
	{"FewF16", 12, func(d *draw, n int) call {
		f := d.few(n)
		b := d.small("b", f.b, 2, f16, nil)
		return func(l isa.Level) float32 {
			asm.FewF16(l, f.c.Ptr(), f.c.Stride, f.a.Ptr(), f.a.Stride, b.half(), f.pitch, f.panelStride, f.depth, n, f.cols, f.alpha)
			return 0
		}
	}},
	{"FewInt8", 12, func(d *draw, n int) call {
		f := d.few(n)
		b := d.small("b", f.b, 1, byteOf, nil)
		return func(l isa.Level) float32 {
			asm.FewInt8(l, f.c.Ptr(), f.c.Stride, f.a.Ptr(), f.a.Stride, b.byte(), f.pitch, f.panelStride, f.depth, n, f.cols, f.alpha)
			return 0
		}
	}},
	{"ScaleColumns", 20, func(d *draw, n int) call {
		s := d.out("s", d.matrix(n, 16*d.IntN(9)), d.Float32, exact)
		factors := d.in("factors", vector(s.Cols), d.Float32)
		return func(l isa.Level) float32 { asm.ScaleColumns(l, s.Ptr(), s.Stride, n, s.Cols, factors.Ptr()); return 0 }
	}},
	{"Transpose", 70, func(d *draw, n int) call {
		cols := d.upTo(40)
		dst := d.out("dst", d.matrix(cols, roundUp(n)), d.Float32, firstColumns(n))
		src := d.in("src", d.matrix(n, cols), d.Float32)
		return func(l isa.Level) float32 {
			asm.Transpose(l, dst.Ptr(), dst.Stride, src.Ptr(), src.Stride, n, cols)
			return 0
		}
	}},
	{"PackRows", 100, func(d *draw, n int) call {
		rows := d.upTo(8)
		dst := d.out("dst", d.matrix((n+31)/32, 32*rows), d.Float32, exact)
		src := d.in("src", d.matrix(rows, n), d.Float32)
		return func(l isa.Level) float32 {
			return asm.PackRows(l, dst.Ptr(), dst.Stride, src.Ptr(), src.Stride, rows, n)
		}
	}},
	{"PrefetchRows", 40, func(d *draw, n int) call {
		// It reads nothing, not even where that would fault.
		src := d.pool.get(0).Place("src", Outside, n, 40, 50)
		return func(l isa.Level) float32 { asm.PrefetchRows(l, src.Ptr(), src.Stride, n, src.Cols); return 0 }
	}},
	{"ScaleRows", long, func(d *draw, n int) call {
		rows, factor := d.upTo(4), d.Float32()
		dst := d.out("dst", d.matrix(rows, roundUp(n)), d.Float32, exact)
		src := d.in("src", d.matrix(rows, n), d.Float32)
		return func(l isa.Level) float32 {
			asm.ScaleRows(l, dst.Ptr(), dst.Stride, src.Ptr(), src.Stride, rows, n, factor)
			return 0
		}
	}},
	{"AffineRows", long, func(d *draw, n int) call {
		rows := d.upTo(4)
		dst, src := d.out("dst", d.matrix(rows, n), d.Float32, exact), d.in("src", d.matrix(rows, n), d.Float32)
		scale, bias := d.in("scale", vector(n), d.Float32), d.in("bias", vector(n), d.Float32)
		return func(l isa.Level) float32 {
			asm.AffineRows(l, dst.Ptr(), dst.Stride, src.Ptr(), src.Stride, rows, n, scale.Ptr(), bias.Ptr())
			return 0
		}
	}},
	{"RotaryHalves", 100, func(d *draw, n int) call {
		rows := d.upTo(4)
		x := d.out("x", d.matrix(rows, 2*n), d.Float32, exact)
		cos, sin := d.in("cos", vector(n), d.Float32), d.in("sin", vector(n), d.Float32)
		return func(l isa.Level) float32 {
			asm.RotaryHalves(l, x.Ptr(), x.Stride, rows, cos.Ptr(), sin.Ptr(), n)
			return 0
		}
	}},
	{"RotaryPairs", 100, func(d *draw, n int) call {
		rows := d.upTo(4)
		x := d.out("x", d.matrix(rows, 2*n), d.Float32, exact)
		cos, sin := d.in("cos", vector(2*n), d.Float32), d.in("sin", vector(2*n), d.Float32)
		return func(l isa.Level) float32 {
			asm.RotaryPairs(l, x.Ptr(), x.Stride, rows, cos.Ptr(), sin.Ptr(), 2*n)
			return 0
		}
	}},
	{"Prefetch", 20, func(d *draw, n int) call {
		// It reads nothing, not even where that would fault.
		src := d.pool.get(0).Place("src", Outside, 1, 64*n, 64*n)
		return func(l isa.Level) float32 { asm.Prefetch(l, src.Ptr(), 64*n); return 0 }
	}},
	{"SoftmaxTile", 16, func(d *draw, n int) call {
		first := 16 * d.IntN(9)
		s := d.out("s", d.matrix(n, 16*d.IntN(9-first/16)), d.Float32, exact)
		max := d.out("max", vector(n), d.maximum, anyZero)
		alpha, shift := d.out("alpha", vector(n), d.Float32, exact), d.out("shift", vector(n), d.Float32, anyZero)
		sums := d.out("l", vector(16*n), d.sum, exact)
		return func(l isa.Level) float32 {
			asm.SoftmaxTile(l, s.Ptr(), s.Stride, n, s.Cols, max.Ptr(), alpha.Ptr(), shift.Ptr(), sums.Ptr())
			return 0
		}
	}},
	{"MaskTile", 20, func(d *draw, n int) call {
		first := 16 * d.IntN(9)
		s := d.out("s", d.matrix(n, 16*d.IntN(9-first/16)), d.Float32, exact)
		bits := d.in("bits", vector(4*n), d.bits)
		return func(l isa.Level) float32 {
			asm.MaskTile(l, s.Ptr(), s.Stride, n, first, s.Cols, (*uint64)(unsafe.Pointer(bits.Ptr())))
			return 0
		}
	}},
	{"CapTile", 6, func(d *draw, n int) call {
		s := d.out("s", d.matrix(n, 16*d.IntN(9)), d.Float32, exact)
		inverse, cap := d.Float32(), d.Float32()
		return func(l isa.Level) float32 { asm.CapTile(l, s.Ptr(), s.Stride, n, s.Cols, inverse, cap); return 0 }
	}},
	{"BiasTile", 5 * 17, func(d *draw, n int) call {
		rows := (n + 16) / 17
		n %= 17
		n += 16 * d.IntN(8)
		s := d.out("s", d.matrix(rows, roundUp(n)), d.Float32, exact)
		integer := func() float32 { return math.Float32frombits(uint32(int32(d.NormFloat64() * 1e8))) }
		bias := d.in("bias", d.matrix(rows, n), d.Float32)
		first, numbers := d.in("first", vector(rows), integer), d.in("numbers", vector(roundUp(n)), integer)
		factor, slope, lowest, unit := d.Float32(), d.Float32(), -float32(math.Abs(float64(d.Float32()))), d.Float32()
		sign := []float32{0, float32(math.Copysign(0, -1))}[d.IntN(2)]
		return func(l isa.Level) float32 {
			asm.BiasTile(l, s.Ptr(), s.Stride, bias.Ptr(), bias.Stride, rows, n, (*int32)(unsafe.Pointer(first.Ptr())),
				(*int32)(unsafe.Pointer(numbers.Ptr())), factor, slope, sign, lowest, unit)
			return 0
		}
	}},
	{"ColumnMax", 9, func(d *draw, n int) call {
		n *= 16
		s := d.in("s", d.matrix(d.upTo(5), n), d.Float32)
		max := d.out("max", vector(n), d.maximum, anyZero)
		alpha, shift := d.out("alpha", vector(n), d.Float32, exact), d.out("shift", vector(n), d.Float32, anyZero)
		sums := d.out("l", d.matrix(d.upTo(16), n), d.sum, exact)
		return func(l isa.Level) float32 {
			asm.ColumnMax(l, s.Ptr(), s.Stride, s.Rows, n, max.Ptr(), alpha.Ptr(), shift.Ptr(), sums.Ptr(), sums.Stride, sums.Rows)
			return 0
		}
	}},
	{"ColumnExp", 9, func(d *draw, n int) call {
		n *= 16
		max := d.maximum()
		s, shift := d.out("s", vector(n), d.below(max), exact), d.in("shift", vector(n), func() float32 { return max })
		sums := d.out("l", vector(n), d.sum, exact)
		return func(l isa.Level) float32 { asm.ColumnExp(l, s.Ptr(), shift.Ptr(), sums.Ptr(), n); return 0 }
	}},
	{"ScaleAdd", 11, func(d *draw, n int) call {
		rows, keys := d.upTo(18), d.IntN(5)
		n *= 16
		o, v := d.out("o", d.matrix(rows, n), d.Float32, exact), d.in("v", d.matrix(keys, n), d.Float32)
		m := d.matrix(keys, rows)
		alpha, p := d.in("alpha", m, d.Float32), d.in("p", m, d.Float32)
		return func(l isa.Level) float32 {
			asm.ScaleAdd(l, o.Ptr(), o.Stride, rows, n, alpha.Ptr(), p.Ptr(), p.Stride, v.Ptr(), v.Stride, keys)
			return 0
		}
	}},
	{"CloseRows", 20, func(d *draw, n int) call {
		sum, lanes := d.out("sum", vector(n), d.Float32, exact), d.in("l", vector(16*n), d.Float32)
		return func(l isa.Level) float32 { asm.CloseRows(l, sum.Ptr(), lanes.Ptr(), n); return 0 }
	}},
	{"MergeRows", 16, func(d *draw, n int) call {
		o := d.matrix(n, 16*d.IntN(20))
		ma, la, oa := d.out("ma", vector(n), d.maximum, anyZero), d.out("la", vector(n), d.sum, exact), d.out("oa", o, d.Float32, exact)
		row := -1
		mb := d.in("mb", vector(n), func() float32 {
			if row++; d.IntN(2) == 0 {
				return d.maximum()
			}
			return ma.Row(0)[row] + float32(d.IntN(321)-160) // where weights become subnormal and vanish
		})
		lb, ob := d.in("lb", vector(n), d.sum), d.in("ob", o, d.Float32)
		weights := d.out("weights", vector(32), d.Float32, func(c int, got, want float32) bool { return c%16 >= n || Same(got, want) })
		return func(l isa.Level) float32 {
			asm.MergeRows(l, ma.Ptr(), la.Ptr(), oa.Ptr(), mb.Ptr(), lb.Ptr(), ob.Ptr(), o.stride, n, o.cols, weights.Ptr())
			return 0
		}
	}},
	{"FinishRows", long, func(d *draw, n int) call {
		rows, pitch := d.upTo(4), d.upTo(3)
		// As in the state of attention, rows of o are whole vectors, and are read to the end.
		out, o := d.out("out", d.matrix(rows, n), d.Float32, exact), d.in("o", d.matrix(rows, roundUp(n)), d.Float32)
		sum := d.in("sum", shape{rows, 1, pitch}, d.sum)
		return func(l isa.Level) float32 {
			asm.FinishRows(l, out.Ptr(), out.Stride, o.Ptr(), o.Stride, sum.Ptr(), pitch, rows, n)
			return 0
		}
	}},
	{"LogSumRows", long, func(d *draw, n int) call {
		dst := d.out("dst", vector(n), d.Float32, exact)
		max, sum := d.in("max", vector(n), d.maximum), d.in("sum", vector(n), d.sum)
		return func(l isa.Level) float32 { asm.LogSumRows(l, dst.Ptr(), max.Ptr(), sum.Ptr(), n); return 0 }
	}},
	{"ExpArray", long, func(d *draw, n int) call {
		dst, src := d.elementwise(n, d.Float32)
		return func(l isa.Level) float32 { asm.ExpArray(l, dst.Ptr(), src.Ptr(), n); return 0 }
	}},
	{"BlockMax", long, func(d *draw, n int) call {
		src := d.in("src", vector(n), d.Float32)
		// Which of +0 and -0 it is depends on the lanes; + 0 makes it +0.
		return func(l isa.Level) float32 { return asm.BlockMax(l, src.Ptr(), n) + 0 }
	}},
	{"ExpSum", long, func(d *draw, n int) call {
		shift := d.maximum()
		dst, src := d.elementwise(n, d.below(shift))
		return func(l isa.Level) float32 { return asm.ExpSum(l, dst.Ptr(), src.Ptr(), n, shift) }
	}},
	{"SumExp", long, func(d *draw, n int) call {
		shift := d.maximum()
		src := d.in("src", vector(n), d.below(shift))
		return func(l isa.Level) float32 { return asm.SumExp(l, src.Ptr(), n, shift) }
	}},
	{"ScaleVector", long, func(d *draw, n int) call {
		factor := d.Float32()
		dst, src := d.elementwise(n, d.Float32)
		return func(l isa.Level) float32 { asm.ScaleVector(l, dst.Ptr(), src.Ptr(), n, factor); return 0 }
	}},
	{"Subtract", long, func(d *draw, n int) call {
		a, b := d.Float32(), d.Float32()
		dst, src := d.elementwise(n, d.Float32)
		return func(l isa.Level) float32 { asm.Subtract(l, dst.Ptr(), src.Ptr(), n, a, b); return 0 }
	}},
	{"NarrowInt8", 10, func(d *draw, n int) call {
		n *= 16
		dst := d.small("dst", vector(n), 1, byteOf, sameBits)
		src := d.in("src", vector(n), func() float32 { return float32(d.IntN(256) - 128) })
		return func(l isa.Level) float32 { asm.NarrowInt8(l, dst.byte(), src.Ptr(), n); return 0 }
	}},
	{"WidenRowsBF16", long, func(d *draw, n int) call {
		rows := d.upTo(4)
		dst := d.out("dst", d.matrix(rows, roundUp(n)), d.Float32, exact)
		src := d.small("src", d.matrix(rows, n), 2, bf16, nil)
		return func(l isa.Level) float32 {
			asm.WidenRowsBF16(l, dst.Ptr(), dst.Stride, src.half(), src.stride, rows, n)
			return 0
		}
	}},
	{"WidenRowsF16", long, func(d *draw, n int) call {
		rows := d.upTo(4)
		dst := d.out("dst", d.matrix(rows, roundUp(n)), d.Float32, exact)
		src := d.small("src", d.matrix(rows, n), 2, f16, nil)
		return func(l isa.Level) float32 {
			asm.WidenRowsF16(l, dst.Ptr(), dst.Stride, src.half(), src.stride, rows, n)
			return 0
		}
	}},
	{"QuantizeRows", long, func(d *draw, n int) call {
		rows := d.upTo(4)
		dst := d.small("dst", shape{rows, roundUp(n), roundUp(n) + 16*d.IntN(2)}, 1, byteOf, sameBits)
		scales, src := d.out("scales", vector(rows), d.Float32, exact), d.in("src", d.matrix(rows, n), d.Float32)
		return func(l isa.Level) float32 {
			asm.QuantizeRows(l, dst.byte(), dst.stride, scales.Ptr(), src.Ptr(), src.Stride, rows, n)
			return 0
		}
	}},
	{"PeakFMA", 3, func(d *draw, n int) call {
		return func(l isa.Level) float32 { asm.PeakFMA(l, n); return 0 } // only how long it takes matters
	}},
	{"ReadSum", 4, func(d *draw, n int) call {
		n *= 64
		src := d.in("src", vector(n), d.Float32)
		return func(l isa.Level) float32 { asm.ReadSum(l, src.Ptr(), n); return 0 }
	}},
}, dotKernels...)

// fewArguments are what the kernels for a few rows have in common.
type fewArguments struct {
	c, a                            *Buffer
	b                               shape // of B: panels of 32 columns, or rows
	pitch, panelStride, depth, cols int
	alpha                           *float32
}

func (d *draw) few(rows int) fewArguments {
	f := fewArguments{depth: d.IntN(20), cols: 16 * d.upTo(7)}
	if d.IntN(2) == 0 { // panels one behind the other
		f.pitch, f.panelStride = 32, 32*f.depth+d.IntN(40)
		last := (f.cols - 1) / 32
		f.b = vector(0)
		if f.depth > 0 {
			f.b = vector(last*f.panelStride + 32*(f.depth-1) + f.cols - 32*last)
		}
	} else { // rows
		f.pitch, f.panelStride = f.cols+d.IntN(19), 32
		f.b = shape{f.depth, f.cols, f.pitch}
	}
	f.c = d.out("c", d.matrix(rows, f.cols), d.Float32, exact)
	f.a = d.in("a", d.matrix(rows, f.depth), d.Float32)
	f.alpha = d.orNil(d.in("alpha", vector(rows), d.Float32))
	return f
}
