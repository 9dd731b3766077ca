package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// Kernels over rows and columns, in calls that keep their budgets however wide the rows are. Most fit whole, so that is
// asked first.

// fit is how many columns of so many rows fit in a call, a multiple of 32, and how many of those rows.
func fit(rows, most int) (r, c int) {
	r = min(rows, most/panel)
	return r, max(most/max(r, 1)/panel*panel, panel)
}

// eachPiece calls f with pieces that fit in a call.
func eachPiece(rows, cols, most int, f func(r, c, rows, cols int)) {
	if rows*cols <= most {
		f(0, 0, rows, cols)
		return
	}
	mostRows, mostCols := fit(rows, most)
	for c := 0; c < cols; c += mostCols {
		for r := 0; r < rows; r += mostRows {
			f(r, c, min(mostRows, rows-r), min(mostCols, cols-c))
		}
	}
}

func transpose(level isa.Level, dst *float32, dstStride int, src *float32, srcStride, rows, cols int) {
	if rows*cols <= budget.Numbers {
		asm.Transpose(level, dst, dstStride, src, srcStride, rows, cols)
		return
	}
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		asm.Transpose(level, offset(dst, c*dstStride+r), dstStride, offset(src, r*srcStride+c), srcStride, rows, cols)
	})
}

func packRows(level isa.Level, dst *float32, panelStride int, src *float32, srcStride, rows, cols int) (finite bool) {
	if rows*cols <= budget.Numbers {
		return asm.PackRows(level, dst, panelStride, src, srcStride, rows, cols) == 0
	}
	finite = true
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		bad := asm.PackRows(level, offset(dst, c/panel*panelStride+r*panel), panelStride, offset(src, r*srcStride+c),
			srcStride, rows, cols)
		finite = finite && bad == 0
	})
	return finite
}

func scaleRows(level isa.Level, dst *float32, dstStride int, src *float32, srcStride, rows, cols int, factor float32) {
	if rows*cols <= budget.Numbers {
		asm.ScaleRows(level, dst, dstStride, src, srcStride, rows, cols, factor)
		return
	}
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		asm.ScaleRows(level, offset(dst, r*dstStride+c), dstStride, offset(src, r*srcStride+c), srcStride, rows, cols,
			factor)
	})
}

func scaleColumns(level isa.Level, s *float32, stride, rows, cols int, factors *float32) {
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		asm.ScaleColumns(level, offset(s, r*stride+c), stride, rows, cols, offset(factors, c))
	})
}

// widenRows converts rows of a tensor of 16-bit numbers to float32. Rows of dst are written up to the
// next multiple of 16.
func widenRows(level isa.Level, f Format, dst *float32, dstStride int, src unsafe.Pointer, srcStride, rows, cols int) {
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		to, from := offset(dst, r*dstStride+c), (*uint16)(unsafe.Add(src, 2*(r*srcStride+c)))
		if f == BFloat16 {
			asm.WidenRowsBF16(level, to, dstStride, from, srcStride, rows, cols)
		} else {
			asm.WidenRowsF16(level, to, dstStride, from, srcStride, rows, cols)
		}
	})
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

func finishRows(
	level isa.Level, out *float32, outStride int, o *float32, oStride int, sum *float32, sumStride, rows, cols int,
) {
	eachPiece(rows, cols, budget.Numbers, func(r, c, rows, cols int) {
		asm.FinishRows(level, offset(out, r*outStride+c), outStride, offset(o, r*oStride+c), oStride,
			offset(sum, r*sumStride), sumStride, rows, cols)
	})
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
	_, most := fit(rows, budget.Numbers)
	for c := 0; c < pitch; c += most {
		copy(unsafe.Slice(ma, rows), before[0][:])
		copy(unsafe.Slice(la, rows), before[1][:])
		asm.MergeRows(level, ma, la, offset(oa, c), mb, lb, offset(ob, c), pitch, rows, min(most, pitch-c), weights)
	}
}

func closeRows(level isa.Level, sum, l *float32, rows int) {
	const most = budget.Numbers / lanes
	for r := 0; r < rows; r += most {
		asm.CloseRows(level, offset(sum, r), offset(l, r*lanes), min(most, rows-r))
	}
}

func logSumRows(level isa.Level, dst, maxima, sum *float32, rows int) {
	for r := 0; r < rows; r += budget.Numbers {
		asm.LogSumRows(level, offset(dst, r), offset(maxima, r), offset(sum, r), min(budget.Numbers, rows-r))
	}
}

// columnMax and columnExp take queries that are columns: as many as there are.
func columnMax(
	level isa.Level, s *float32, stride, keys, cols int, maxima, alpha, shift, l *float32, lStride, lRows int,
) {
	_, most := fit(keys+lRows, budget.Numbers)
	for c := 0; c < cols; c += most {
		asm.ColumnMax(level, offset(s, c), stride, keys, min(most, cols-c), offset(maxima, c), offset(alpha, c),
			offset(shift, c), offset(l, c), lStride, lRows)
	}
}

func columnExp(level isa.Level, s, shift, l *float32, n int) {
	for i := 0; i < n; i += budget.Numbers {
		asm.ColumnExp(level, offset(s, i), offset(shift, i), offset(l, i), min(n-i, budget.Numbers))
	}
}

func scaleAdd(
	level isa.Level, o *float32, oStride, rows, cols int, alpha, p *float32, stride int, v *float32, vStride, keys int,
) {
	_, most := fit(rows*keys, budget.FMAs)
	for c := 0; c < cols; c += most {
		asm.ScaleAdd(level, offset(o, c), oStride, rows, min(most, cols-c), alpha, p, stride, offset(v, c), vStride,
			keys)
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
