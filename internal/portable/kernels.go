package portable

import (
	"math"
	"unsafe"
)

// The kernels below are the "go" instruction set: same signatures, same bits as the assembly in
// package asm, where their documentation is. Pointers may be nil only where the count is 0.

const (
	lanes = 16 // sums across lanes have 16 logical lanes everywhere
	panel = 32 // columns of a packed panel
)

var negInf = float32(math.Inf(-1))

// at returns the n floats that lie offset floats behind p.
func at(p *float32, offset, n int) []float32 {
	if n <= 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(p), 4*offset)), n)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// foldAdd sums 16 lanes: l += l+8, l+4, l+2, l+1.
func foldAdd(v *[lanes]float32) float32 {
	for half := lanes / 2; half > 0; half /= 2 {
		for i := range half {
			v[i] += v[i+half]
		}
	}
	return v[0]
}

// larger returns x if x > acc, and acc otherwise, so that NaN is ignored.
func larger(acc, x float32) float32 {
	if x > acc {
		return x
	}
	return acc
}

// Dot is the kernel of that name.
func Dot(x, y *float32, n int) float32 {
	var c [4][lanes]float32
	return dotChains(&c, x, y, n)
}

// DotFrom is the kernel of that name.
func DotFrom(acc, x, y *float32, n int) float32 {
	c := *(*[4][lanes]float32)(unsafe.Pointer(acc))
	return dotChains(&c, x, y, n)
}

// DotChunk is the kernel of that name.
func DotChunk(acc, x, y *float32, n int) {
	dotChains((*[4][lanes]float32)(unsafe.Pointer(acc)), x, y, n)
}

// dotChains runs the chains on and returns their sum.
func dotChains(c *[4][lanes]float32, x, y *float32, n int) float32 {
	xs, ys := at(x, 0, n), at(y, 0, n)
	for i := range xs {
		l := &c[i/lanes%4][i%lanes]
		*l = FMA(xs[i], ys[i], *l)
	}
	// A partial last vector is filled up with zeros, which go through the same FMA.
	if rest := n % lanes; rest > 0 {
		chain := &c[n/lanes%4]
		for l := rest; l < lanes; l++ {
			chain[l] = FMA(0, 0, chain[l])
		}
	}
	var sum [lanes]float32
	for l := range sum {
		sum[l] = (c[0][l] + c[1][l]) + (c[2][l] + c[3][l])
	}
	return foldAdd(&sum) + 0
}

// begin makes α·C of row r of C, or 0 without alpha.
func begin(out []float32, alpha *float32, r int) {
	if alpha == nil {
		clear(out)
		return
	}
	scale := at(alpha, r, 1)[0]
	for j := range out {
		out[j] *= scale
	}
}

// Product is the kernel of that name.
func Product(c *float32, cStride int, a *float32, aStride int, b *float32, depth, rows, cols int, alpha, _ *float32, _ int) {
	for r := range rows {
		out := at(c, r*cStride, cols)
		begin(out, alpha, r)
		for k, f := range at(a, r*aStride, depth) {
			for j, v := range at(b, k*panel, cols) {
				out[j] = FMA(f, v, out[j])
			}
		}
	}
}

// Transpose is the kernel of that name, for registers of 16 lanes.
func Transpose(dst *float32, dstStride int, src *float32, srcStride, rows, cols int) {
	for r := range roundUp(rows, lanes) {
		if r >= rows {
			for c := range cols {
				at(dst, c*dstStride+r, 1)[0] = 0
			}
			continue
		}
		for c, v := range at(src, r*srcStride, cols) {
			at(dst, c*dstStride+r, 1)[0] = v
		}
	}
}

// PackRows is the kernel of that name.
func PackRows(dst *float32, panelStride int, src *float32, srcStride, rows, cols int) float32 {
	var bad float32
	for r := range rows {
		row := at(src, r*srcStride, cols)
		for c := 0; c < cols; c += lanes {
			to := at(dst, c/panel*panelStride+r*panel+c%panel, lanes)
			clear(to[copy(to, row[c:]):])
			for _, v := range to {
				bad += float32(v * 0)
			}
		}
	}
	return bad
}

// PrefetchRows is the kernel of that name: portable code cannot ask.
func PrefetchRows(src *float32, stride, rows, cols int) {}

// ScaleRows is the kernel of that name.
func ScaleRows(dst *float32, dstStride int, src *float32, srcStride, rows, cols int, factor float32) {
	for r := range rows {
		to := at(dst, r*dstStride, roundUp(cols, lanes))
		n := copy(to, at(src, r*srcStride, cols))
		clear(to[n:])
		for i := range to {
			to[i] *= factor
		}
	}
}

// RotaryHalves is the kernel of that name.
func RotaryHalves(x *float32, stride, rows int, cos, sin *float32, n int) {
	cs, ss := at(cos, 0, n), at(sin, 0, n)
	for r := range rows {
		first, second := at(x, r*stride, n), at(x, r*stride+n, n)
		for i, a := range first {
			b := second[i]
			first[i] = FMA(a, cs[i], -float32(b*ss[i]))
			second[i] = FMA(b, cs[i], float32(a*ss[i]))
		}
	}
}

// RotaryPairs is the kernel of that name.
func RotaryPairs(x *float32, stride, rows int, cos, sin *float32, n int) {
	cs, ss := at(cos, 0, n), at(sin, 0, n)
	for r := range rows {
		row := at(x, r*stride, n)
		for i := 0; i < n; i += 2 {
			a, b := row[i], row[i+1]
			row[i] = FMA(a, cs[i], float32(b*ss[i]))
			row[i+1] = FMA(b, cs[i+1], float32(a*ss[i+1]))
		}
	}
}

// AffineRows is the kernel of that name.
func AffineRows(dst *float32, dstStride int, src *float32, srcStride, rows, cols int, scale, bias *float32) {
	scales, biases := at(scale, 0, cols), at(bias, 0, cols)
	for r := range rows {
		to := at(dst, r*dstStride, cols)
		for i, v := range at(src, r*srcStride, cols) {
			to[i] = float32(v*scales[i]) + biases[i]
		}
	}
}

// Prefetch is the kernel of that name: it changes no result.
func Prefetch(*float32, int) {}

// SoftmaxTile is the kernel of that name.
func SoftmaxTile(s *float32, stride, rows, cols int, max, alpha, shift, l *float32) {
	for r := range rows {
		row := at(s, r*stride, cols)
		best := negInf
		for _, t := range row {
			best = larger(best, t)
		}
		m, sub, a := &at(max, r, 1)[0], &at(shift, r, 1)[0], &at(alpha, r, 1)[0]
		old := *m
		*m = larger(old, best) + 0
		*sub = guarded(*m)
		*a = Exp2(old - *sub)

		sums := at(l, r*lanes, lanes)
		for i := range sums {
			sums[i] *= *a
		}
		for j, t := range row {
			p := Exp2(t - *sub)
			row[j] = p
			sums[j%lanes] += p
		}
	}
}

// guarded is what scores subtract for a maximum: 0 for -Inf, because -Inf - -Inf is NaN.
func guarded(max float32) float32 {
	if max == negInf {
		return 0
	}
	return max
}

// MaskTile is the kernel of that name.
func MaskTile(s *float32, stride, rows, first, cols int, bits *uint64) {
	for r := range rows {
		seen := unsafe.Slice((*uint64)(unsafe.Add(unsafe.Pointer(bits), 16*r)), 2)
		row := at(s, r*stride, cols)
		for j := range row {
			if i := first + j; seen[i/64]>>(i%64)&1 == 0 {
				row[j] = negInf
			}
		}
	}
}

// CapTile is the kernel of that name.
func CapTile(s *float32, stride, rows, cols int, inverse, cap float32) {
	for r := range rows {
		row := at(s, r*stride, cols)
		for j, x := range row {
			row[j] = cap * Tanh(x*inverse)
		}
	}
}

// BiasTile is the kernel of that name.
func BiasTile(s *float32, stride int, bias *float32, biasStride, rows, cols int, first, numbers *int32, factor, slope,
	sign, lowest, unit float32) {
	number := unsafe.Slice(numbers, roundUp(cols, lanes))
	for r, start := range unsafe.Slice(first, rows) {
		row := at(s, r*stride, roundUp(cols, lanes))
		biases := at(bias, r*biasStride, cols)
		for j, t := range row {
			var b float32
			if j < cols {
				b = biases[j]
			}
			t = FMA(b, factor, t)
			x := math.Float32frombits(math.Float32bits(float32(start+number[j])) | math.Float32bits(sign))
			t = FMA(x, slope, t)
			if t < lowest {
				t = lowest
			}
			t *= unit
			if b == negInf {
				t = negInf
			}
			row[j] = t
		}
	}
}

// ColumnMax is the kernel of that name.
func ColumnMax(s *float32, stride, keys, cols int, max, alpha, shift, l *float32, lStride, lRows int) {
	ms, as, subs := at(max, 0, cols), at(alpha, 0, cols), at(shift, 0, cols)
	for c := range cols {
		old, best := ms[c], ms[c]
		for k := range keys {
			best = larger(best, at(s, k*stride+c, 1)[0])
		}
		ms[c] = best + 0
		subs[c] = guarded(ms[c])
		as[c] = Exp2(old - subs[c])
		for r := range lRows {
			at(l, r*lStride+c, 1)[0] *= as[c]
		}
	}
}

// ColumnExp is the kernel of that name.
func ColumnExp(s, shift, l *float32, n int) {
	row, subs, sums := at(s, 0, n), at(shift, 0, n), at(l, 0, n)
	for c := range row {
		row[c] = Exp2(row[c] - subs[c])
		sums[c] += row[c]
	}
}

// ScaleAdd is the kernel of that name.
func ScaleAdd(o *float32, oStride, rows, cols int, alpha, p *float32, stride int, v *float32, vStride, keys int) {
	for r := range rows {
		out := at(o, r*oStride, cols)
		for k := range keys {
			a, weight := at(alpha, k*stride+r, 1)[0], at(p, k*stride+r, 1)[0]
			for c, x := range at(v, k*vStride, cols) {
				out[c] = FMA(weight, x, float32(out[c]*a))
			}
		}
	}
}

// CloseRows is the kernel of that name.
func CloseRows(sum, l *float32, rows int) {
	for r := range rows {
		var v [lanes]float32
		copy(v[:], at(l, r*lanes, lanes))
		at(sum, r, 1)[0] = foldAdd(&v)
	}
}

// MergeRows is the kernel of that name.
func MergeRows(ma, la, oa, mb, lb, ob *float32, stride, rows, cols int, weights *float32) {
	for r := range rows {
		m, l := &at(ma, r, 1)[0], &at(la, r, 1)[0]
		first, second := *m, at(mb, r, 1)[0]
		*m = larger(first, second) + 0
		sub := guarded(*m)
		wa, wb := Exp2(first-sub), Exp2(second-sub)
		at(weights, r, 1)[0], at(weights, lanes+r, 1)[0] = wa, wb
		*l = FMA(at(lb, r, 1)[0], wb, float32(*l*wa))
		a, b := at(oa, r*stride, cols), at(ob, r*stride, cols)
		for i := range a {
			a[i] = FMA(b[i], wb, float32(a[i]*wa))
		}
	}
}

// FinishRows is the kernel of that name.
func FinishRows(out *float32, outStride int, o *float32, oStride int, sum *float32, sumStride, rows, cols int) {
	for r := range rows {
		to := at(out, r*outStride, cols)
		l := at(sum, r*sumStride, 1)[0]
		if l == 0 {
			clear(to)
			continue
		}
		for i, v := range at(o, r*oStride, cols) {
			to[i] = v/l + 0
		}
	}
}

// LogSumRows is the kernel of that name.
func LogSumRows(dst, max, sum *float32, n int) {
	to, ms, ls := at(dst, 0, n), at(max, 0, n), at(sum, 0, n)
	for i, m := range ms {
		if ls[i] == 0 {
			to[i] = negInf
			continue
		}
		to[i] = (m + Log2(ls[i])) * Ln2
	}
}

// ExpArray applies Exp to n numbers.
func ExpArray(dst, src *float32, n int) {
	to := at(dst, 0, n)
	for i, x := range at(src, 0, n) {
		to[i] = Exp(x)
	}
}

// BlockMax is the kernel of that name.
func BlockMax(src *float32, n int) float32 {
	best := negInf
	for _, x := range at(src, 0, n) {
		best = larger(best, x)
	}
	return best
}

// ExpSum is the kernel of that name.
func ExpSum(dst, src *float32, n int, shift float32) float32 {
	var sum [lanes]float32
	to := at(dst, 0, n)
	for i, x := range at(src, 0, n) {
		to[i] = SoftExp(x - shift)
		sum[i%lanes] += to[i]
	}
	return foldAdd(&sum)
}

// SumExp is the kernel of that name.
func SumExp(src *float32, n int, shift float32) float32 {
	var sum [lanes]float32
	for i, x := range at(src, 0, n) {
		sum[i%lanes] += SoftExp(x - shift)
	}
	return foldAdd(&sum)
}

// ScaleVector is the kernel of that name.
func ScaleVector(dst, src *float32, n int, factor float32) {
	to := at(dst, 0, n)
	for i, x := range at(src, 0, n) {
		to[i] = x * factor
	}
}

// Subtract is the kernel of that name.
func Subtract(dst, src *float32, n int, a, b float32) {
	to := at(dst, 0, n)
	for i, x := range at(src, 0, n) {
		to[i] = (x - a) - b
	}
}

// PeakFMA is the kernel of that name. Its operands take the usual way through FMA.
func PeakFMA(n int) float32 {
	var acc [24 * lanes]float32
	for range n {
		for i := range acc {
			acc[i] = FMA(0x1.123456p-1, 0x1.fedcbap-1, acc[i])
		}
	}
	return acc[0]
}

// ReadSum is the kernel of that name.
func ReadSum(src *float32, n int) float32 {
	var or uint32
	for _, x := range at(src, 0, n) {
		or |= math.Float32bits(x)
	}
	return math.Float32frombits(or)
}

// FewF32 is the kernel of that name.
func FewF32(c *float32, cStride int, a *float32, aStride int, b *float32, pitch, panelStride, depth, rows, cols int, alpha *float32) {
	few(c, cStride, a, aStride, b, pitch, panelStride, depth, rows, cols, alpha, func(x float32) float32 { return x })
}

// FewBF16 is the kernel of that name.
func FewBF16(c *float32, cStride int, a *float32, aStride int, b *uint16, pitch, panelStride, depth, rows, cols int, alpha *float32) {
	few(c, cStride, a, aStride, b, pitch, panelStride, depth, rows, cols, alpha, BF16ToFloat32)
}

// FewF16 is the kernel of that name.
func FewF16(c *float32, cStride int, a *float32, aStride int, b *uint16, pitch, panelStride, depth, rows, cols int, alpha *float32) {
	few(c, cStride, a, aStride, b, pitch, panelStride, depth, rows, cols, alpha, F16ToFloat32)
}

// FewInt8 is the kernel of that name.
func FewInt8(c *float32, cStride int, a *float32, aStride int, b *int8, pitch, panelStride, depth, rows, cols int, alpha *float32) {
	few(c, cStride, a, aStride, b, pitch, panelStride, depth, rows, cols, alpha, func(x int8) float32 { return float32(x) })
}

func few[T any](c *float32, cStride int, a *float32, aStride int, b *T, pitch, panelStride, depth, rows, cols int, alpha *float32, widen func(T) float32) {
	for r := range rows {
		out := at(c, r*cStride, cols)
		begin(out, alpha, r)
		for k, f := range at(a, r*aStride, depth) {
			for j := 0; j < cols; j += panel {
				n := min(panel, cols-j)
				first := (*T)(unsafe.Add(unsafe.Pointer(b), (j/panel*panelStride+k*pitch)*int(unsafe.Sizeof(*b))))
				for i, x := range elements(first, n) {
					out[j+i] = FMA(f, widen(x), out[j+i])
				}
			}
		}
	}
}

// ScaleColumns is the kernel of that name.
func ScaleColumns(s *float32, stride, rows, cols int, factors *float32) {
	by := at(factors, 0, cols)
	for r := range rows {
		row := at(s, r*stride, cols)
		for i := range row {
			row[i] *= by[i]
		}
	}
}
