package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// Calls of kernels that the dispatch does not cut by itself, and what else the runtime would not let be preempted. Each
// keeps its budget.

// widenRows converts rows of a tensor of 16-bit numbers to float32. Rows of dst are written up to the
// next multiple of 16.
func widenRows(level isa.Level, f Format, dst *float32, dstStride int, src unsafe.Pointer, srcStride, rows, cols int) {
	if f == BFloat16 {
		asm.WidenRowsBF16(level, dst, dstStride, (*uint16)(src), srcStride, rows, cols)
	} else {
		asm.WidenRowsF16(level, dst, dstStride, (*uint16)(src), srcStride, rows, cols)
	}
}

// quantizeRows is the kernel of that name. A row that is too wide for a call goes through portable code, which can be
// preempted.
func quantizeRows(level isa.Level, dst *int8, dstStride int, scales, src *float32, srcStride, rows, cols int) {
	if cols > budget.Numbers {
		portable.QuantizeRows(dst, dstStride, scales, src, srcStride, rows, cols)
		return
	}
	for r, most := 0, max(budget.Numbers/max(cols, 1), 1); r < rows; r += most {
		to := (*int8)(unsafe.Add(unsafe.Pointer(dst), r*dstStride))
		n := min(most, rows-r)
		asm.QuantizeRows(level, to, dstStride, offset(scales, r), offset(src, r*srcStride), srcStride, n, cols)
	}
}

// mergeRows folds states b of any number of rows into a; weights is scratch for 32 numbers.
func mergeRows(level isa.Level, a, b *state, rows, pitch int, weights []float32) {
	for r := 0; r < rows; r += lanes {
		mergeFewRows(level, at(a.max, r), at(a.sum, r), at(a.o, r*pitch), at(b.max, r), at(b.sum, r), at(b.o, r*pitch),
			min(lanes, rows-r), pitch, at(weights, 0))
	}
}

// mergeFewRows folds states of up to 16 rows. Each piece of O begins with the maxima and sums that there were before.
func mergeFewRows(level isa.Level, ma, la, oa, mb, lb, ob *float32, rows, pitch int, weights *float32) {
	if rows*pitch <= budget.Numbers {
		asm.MergeRows(level, ma, la, oa, mb, lb, ob, pitch, rows, pitch, weights)
		return
	}
	var before [2][lanes]float32
	for i, x := range [...]*float32{ma, la} {
		copy(before[i][:], unsafe.Slice(x, rows))
	}
	for most, c := budget.Numbers/lanes, 0; c < pitch; c += most {
		copy(unsafe.Slice(ma, rows), before[0][:])
		copy(unsafe.Slice(la, rows), before[1][:])
		asm.MergeRows(level, ma, la, offset(oa, c), mb, lb, offset(ob, c), pitch, rows, min(most, pitch-c), weights)
	}
}

// prefetchRows asks for rows, as many as a cache could hold.
func prefetchRows(level isa.Level, src *float32, stride, rows, cols int) {
	cols = min(cols, budget.Lines*lanes)
	asm.PrefetchRows(level, src, stride, min(rows, budget.Lines/max((cols+lanes-1)/lanes, 1)), cols)
}

// clearAll and copyAll are the built-in functions, in pieces.
func clearAll[T any](x []T) {
	for most := pieceOf[T](); len(x) > 0; {
		n := min(len(x), most)
		clear(x[:n])
		x = x[n:]
	}
}

func copyAll[T any](dst, src []T) {
	for most, left := pieceOf[T](), min(len(dst), len(src)); left > 0; {
		n := min(left, most)
		copy(dst[:n], src[:n])
		dst, src, left = dst[n:], src[n:], left-n
	}
}

// pieceOf is how many elements fit in a call.
func pieceOf[T any]() int {
	var x T
	return budget.Bytes / int(unsafe.Sizeof(x))
}

// few is O = α·O + A·B for at most directRows rows, where B is panels as they are stored.
func few(
	level isa.Level, f Format, c *float32, cStride int, a *float32, aStride int,
	b unsafe.Pointer, pitch, panelStride, depth, rows, cols int, alpha *float32,
) {
	most := max(budget.FMAs/panel/max(rows, 1), 1) * panel // columns
	for col := 0; col < cols; col += most {
		from := unsafe.Add(b, f.size()*(col/panel)*panelStride)
		fewColumns(level, f, offset(c, col), cStride, a, aStride, from, pitch, panelStride, depth, rows, min(most, cols-col), alpha)
	}
}

func fewColumns(
	level isa.Level, f Format, c *float32, cStride int, a *float32, aStride int,
	b unsafe.Pointer, pitch, panelStride, depth, rows, cols int, alpha *float32,
) {
	for most := max(budget.FMAs/max(rows*cols, 1), 1); ; {
		d := min(depth, most)
		switch f {
		case Float32:
			asm.FewF32(level, c, cStride, a, aStride, (*float32)(b), pitch, panelStride, d, rows, cols, alpha)
		case BFloat16:
			asm.FewBF16(level, c, cStride, a, aStride, (*uint16)(b), pitch, panelStride, d, rows, cols, alpha)
		case Float16:
			asm.FewF16(level, c, cStride, a, aStride, (*uint16)(b), pitch, panelStride, d, rows, cols, alpha)
		case Int8:
			asm.FewInt8(level, c, cStride, a, aStride, (*int8)(b), pitch, panelStride, d, rows, cols, alpha)
		}
		if depth -= d; depth <= 0 {
			return
		}
		a, b = offset(a, d), unsafe.Add(b, f.size()*d*pitch)
		alpha = &ones[0]
	}
}
