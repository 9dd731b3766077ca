package main

import "github.com/quern-go/quern/gen/machine"

// kernel is one row of the manifest: everything that the generator needs to know of a kernel. The
// assembly, the stubs, the dispatch and the harness's list of kernels follow from it.
type kernel struct {
	Name string
	Sig  string // Go signature; float32 pointers, strides and counts in elements
	Doc  string
	Text func(*machine.Machine)

	// Work is how much a call does, in terms of its arguments, and Budget the constant of package budget that says how
	// much it may be. A kernel that package kernel does not call has neither.
	Work, Budget string

	// Cut, if any, lets the dispatch cut a call that is too large into pieces: it says by how many elements the pointers
	// are further on for the piece that begins at row r and column, or number, c. Callers cut the others.
	Cut map[string]string

	// Extended is a second text, if any, for CPUs that have the extension of their instruction set.
	Extended func(*machine.Machine)
}

var manifest = append([]kernel{
	{
		Name:   "Dot",
		Sig:    "func(x, y *float32, n int) float32",
		Doc:    "is Σ x[i]·y[i] over n elements.",
		Work:   "n",
		Budget: "Numbers",
		Text:   dot,
	}, {
		Name:   "DotFrom",
		Sig:    "func(acc, x, y *float32, n int) float32",
		Doc:    "is Dot with 4x16 chains that go on from acc.",
		Work:   "n",
		Budget: "Numbers",
		Text:   dotFrom,
	}, {
		Name:   "DotChunk",
		Sig:    "func(acc, x, y *float32, n int)",
		Doc:    "adds n elements, a multiple of 64, to the 4x16 chains of Dot in acc.",
		Work:   "n",
		Budget: "Numbers",
		Text:   dotChunk,
	}, {
		Name:   "Product",
		Sig:    "func(c *float32, cStride int, a *float32, aStride int, b *float32, depth, rows, cols int, alpha, next *float32, nextStride int)",
		Doc:    "is C = α·C + A·B for rows of A and one panel B of up to 32 columns, cols a multiple of 16; without alpha C starts at 0. Meanwhile it asks for memory without reading it: for every 8 of depth and a tile of rows for some lines from next on, which then goes on by nextStride bytes.",
		Work:   "depth*rows*cols",
		Budget: "FMAs",
		Text:   product,
	}, {
		Name:   "FewF32",
		Sig:    "func(c *float32, cStride int, a *float32, aStride int, b *float32, pitch, panelStride, depth, rows, cols int, alpha *float32)",
		Doc:    "is Product for a few rows over any number of panels of float32: that of depth k and column c is b[c/32*panelStride+k*pitch+c%32].",
		Work:   "depth*rows*cols",
		Budget: "FMAs",
		Text:   few(machine.Float32),
	}, {
		Name:   "FewBF16",
		Sig:    "func(c *float32, cStride int, a *float32, aStride int, b *uint16, pitch, panelStride, depth, rows, cols int, alpha *float32)",
		Doc:    "is Product for a few rows over any number of panels of bfloat16: that of depth k and column c is b[c/32*panelStride+k*pitch+c%32].",
		Work:   "depth*rows*cols",
		Budget: "FMAs",
		Text:   few(machine.BFloat16),
	}, {
		Name:   "FewF16",
		Sig:    "func(c *float32, cStride int, a *float32, aStride int, b *uint16, pitch, panelStride, depth, rows, cols int, alpha *float32)",
		Doc:    "is Product for a few rows over any number of panels of float16: that of depth k and column c is b[c/32*panelStride+k*pitch+c%32].",
		Work:   "depth*rows*cols",
		Budget: "FMAs",
		Text:   few(machine.Float16),
	}, {
		Name:   "FewInt8",
		Sig:    "func(c *float32, cStride int, a *float32, aStride int, b *int8, pitch, panelStride, depth, rows, cols int, alpha *float32)",
		Doc:    "is Product for a few rows over any number of panels of int8: that of depth k and column c is b[c/32*panelStride+k*pitch+c%32].",
		Work:   "depth*rows*cols",
		Budget: "FMAs",
		Text:   few(machine.Int8),
	}, {
		Name:   "ScaleColumns",
		Sig:    "func(s *float32, stride, rows, cols int, factors *float32)",
		Doc:    "multiplies the columns of a tile, a multiple of 16, by a factor each.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"s": "r*stride+c", "factors": "c"},
		Text:   scaleColumns,
	}, {
		Name:   "Transpose",
		Sig:    "func(dst *float32, dstStride int, src *float32, srcStride, rows, cols int)",
		Doc:    "is dst[c*dstStride+r] = src[r*srcStride+c]. Each row of dst is filled up with +0 to a multiple of the register's lanes.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "c*dstStride+r", "src": "r*srcStride+c"},
		Text:   transpose,
	}, {
		Name:   "PackRows",
		Sig:    "func(dst *float32, panelStride int, src *float32, srcStride, rows, cols int) float32",
		Doc:    "copies rows into panels of 32 columns, dst[c/32*panelStride+r*32+c%32] = src[r*srcStride+c], the columns filled up to a multiple of 16 with +0; the result is 0 if all are finite and NaN otherwise.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "c/32*panelStride+r*32", "src": "r*srcStride+c"},
		Text:   packRows,
	}, {
		Name:   "PrefetchRows",
		Sig:    "func(src *float32, stride, rows, cols int)",
		Doc:    "asks for rows that will be needed soon; it reads nothing.",
		Work:   "rows * ((cols + 15) / 16)",
		Budget: "Lines",
		Text:   prefetchRows,
	}, {
		Name:   "ScaleRows",
		Sig:    "func(dst *float32, dstStride int, src *float32, srcStride, rows, cols int, factor float32)",
		Doc:    "is dst = src·factor; each row of dst is written up to the next multiple of 16.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "r*dstStride+c", "src": "r*srcStride+c"},
		Text:   scaleRows,
	}, {
		Name:   "RotaryHalves",
		Sig:    "func(x *float32, stride, rows int, cos, sin *float32, n int)",
		Doc:    "turns the pairs x[i], x[n+i] of each row: a·cos - b·sin and b·cos + a·sin.",
		Work:   "2*rows*n",
		Budget: "Numbers",
		Text:   rotaryHalves,
	}, {
		Name:   "RotaryPairs",
		Sig:    "func(x *float32, stride, rows int, cos, sin *float32, n int)",
		Doc:    "turns the pairs x[2i], x[2i+1] of the n elements of each row: x·cos + partner·sin.",
		Work:   "rows*n",
		Budget: "Numbers",
		Text:   rotaryPairs,
	}, {
		Name:   "AffineRows",
		Sig:    "func(dst *float32, dstStride int, src *float32, srcStride, rows, cols int, scale, bias *float32)",
		Doc:    "is dst = src·scale + bias by column, each operation rounded.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   affineRows,
	}, {
		Name:   "Prefetch",
		Sig:    "func(src *float32, n int)",
		Doc:    "asks for n numbers, a multiple of 64, to be brought into the cache.",
		Work:   "n/16",
		Budget: "Lines",
		Text:   prefetch,
	}, {
		Name:   "SoftmaxTile",
		Sig:    "func(s *float32, stride, rows, cols int, max, alpha, shift, l *float32)",
		Doc:    "is the online softmax of up to 16 rows of scores and cols keys, a multiple of 16: max and l (16 lanes a row) are updated, alpha and shift written, S becomes P.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   softmaxTile,
	}, {
		Name:   "MaskTile",
		Sig:    "func(s *float32, stride, rows, first, cols int, bits *uint64)",
		Doc:    "puts -Inf where a bit is 0; bits has 128 a row, of which s starts at first; first and cols are multiples of 16.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   maskTile,
	}, {
		Name:   "CapTile",
		Sig:    "func(s *float32, stride, rows, cols int, inverse, cap float32)",
		Doc:    "is s = cap·tanh(s·inverse) for rows of scores, cols a multiple of 16.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   capTile,
	}, {
		Name:   "BiasTile",
		Sig:    "func(s *float32, stride int, bias *float32, biasStride, rows, cols int, first, numbers *int32, factor, slope, sign, lowest, unit float32)",
		Doc:    "is s = max(s + factor·bias + slope·x, lowest)·unit, each step rounded once, with x = first[r]+numbers[c], or −|x| if sign is −0 instead of +0, and -Inf where the bias is -Inf; rows of s are read and written, and numbers read, up to the next multiple of 16.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   biasTile,
	}, {
		Name:   "ColumnMax",
		Sig:    "func(s *float32, stride, keys, cols int, max, alpha, shift, l *float32, lStride, lRows int)",
		Doc:    "begins a block of the online softmax of cols queries, a multiple of 16, each a column of s with a row for each key: max is updated, alpha and shift written, and the rows of l multiplied by alpha.",
		Work:   "(keys+lRows)*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"s": "c", "max": "c", "alpha": "c", "shift": "c", "l": "c"},
		Text:   columnMax,
	}, {
		Name:   "ColumnExp",
		Sig:    "func(s, shift, l *float32, n int)",
		Doc:    "is s = 2^(s-shift) and l += s for n columns, a multiple of 16.",
		Work:   "n",
		Budget: "Numbers",
		Cut:    map[string]string{"s": "c", "shift": "c", "l": "c"},
		Text:   columnExp,
	}, {
		Name:   "ScaleAdd",
		Sig:    "func(o *float32, oStride, rows, cols int, alpha, p *float32, stride int, v *float32, vStride, keys int)",
		Doc:    "is o[r] = o[r]·alpha[k][r] + p[k][r]·v[k] for one key k after the other, cols a multiple of 16.",
		Work:   "rows*cols*keys",
		Budget: "FMAs",
		Cut:    map[string]string{"o": "c", "v": "c"},
		Text:   scaleAdd,
	}, {
		Name:   "CloseRows",
		Sig:    "func(sum, l *float32, rows int)",
		Doc:    "reduces the 16 lanes of each row of l to one sum.",
		Work:   "16*rows",
		Budget: "Numbers",
		Cut:    map[string]string{"sum": "r", "l": "16*r"},
		Text:   closeRows,
	}, {
		Name:   "MergeRows",
		Sig:    "func(ma, la, oa, mb, lb, ob *float32, stride, rows, cols int, weights *float32)",
		Doc:    "folds the states b of up to 16 rows into a, cols a multiple of 16; weights is scratch for 32 numbers.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   mergeRows,
	}, {
		Name:   "FinishRows",
		Sig:    "func(out *float32, outStride int, o *float32, oStride int, sum *float32, sumStride, rows, cols int)",
		Doc:    "is out = O/l, +0 for rows whose l is 0; o is read up to the next multiple of 16 columns.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"out": "r*outStride+c", "o": "r*oStride+c", "sum": "r*sumStride"},
		Text:   finishRows,
	},
	{
		Name:   "LogSumRows",
		Sig:    "func(dst, max, sum *float32, n int)",
		Doc:    "is the natural log-sum-exp (m + log2 l)·ln 2 of n base-2 states, -Inf where l is 0.",
		Work:   "n",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "c", "max": "c", "sum": "c"},
		Text:   logSumRows,
	}, {
		Name:   "ExpArray",
		Sig:    "func(dst, src *float32, n int)",
		Doc:    "is dst[i] = e^src[i].",
		Work:   "n",
		Budget: "Numbers",
		Text:   expArray,
	}, {
		Name:   "BlockMax",
		Sig:    "func(src *float32, n int) float32",
		Doc:    "is the largest of n numbers, ignoring NaN; -Inf if there is none.",
		Work:   "n",
		Budget: "Numbers",
		Text:   blockMax,
	}, {
		Name:   "ExpSum",
		Sig:    "func(dst, src *float32, n int, shift float32) float32",
		Doc:    "is dst[i] = e^(src[i]-shift), +0 below about e^-87, and returns the sum over 16 lanes.",
		Work:   "n",
		Budget: "Numbers",
		Text:   expSum,
	}, {
		Name:   "SumExp",
		Sig:    "func(src *float32, n int, shift float32) float32",
		Doc:    "is ExpSum without writing.",
		Work:   "n",
		Budget: "Numbers",
		Text:   sumExp,
	}, {
		Name:   "ScaleVector",
		Sig:    "func(dst, src *float32, n int, factor float32)",
		Doc:    "is dst[i] = src[i]·factor.",
		Work:   "n",
		Budget: "Numbers",
		Text:   scaleVector,
	}, {
		Name:   "Subtract",
		Sig:    "func(dst, src *float32, n int, a, b float32)",
		Doc:    "is dst[i] = (src[i]-a)-b.",
		Work:   "n",
		Budget: "Numbers",
		Text:   subtract,
	}, {
		Name:   "WidenBF16",
		Sig:    "func(dst *float32, src *uint16, n int)",
		Doc:    "converts n bfloat16 to float32.",
		Work:   "n",
		Budget: "Numbers",
		Text:   widenBF16,
	}, {
		Name:   "WidenF16",
		Sig:    "func(dst *float32, src *uint16, n int)",
		Doc:    "converts n float16 to float32.",
		Work:   "n",
		Budget: "Numbers",
		Text:   widenF16,
	}, {
		Name:   "WidenInt8",
		Sig:    "func(dst *float32, src *int8, n int)",
		Doc:    "converts n signed bytes to float32.",
		Work:   "n",
		Budget: "Numbers",
		Text:   widenInt8,
	}, {
		Name:   "NarrowBF16",
		Sig:    "func(dst *uint16, src *float32, n int)",
		Doc:    "converts n float32 to the nearest bfloat16, ties to even.",
		Work:   "n",
		Budget: "Numbers",
		Text:   narrowBF16,
	}, {
		Name:   "NarrowF16",
		Sig:    "func(dst *uint16, src *float32, n int)",
		Doc:    "converts n float32 to the nearest float16, ties to even.",
		Work:   "n",
		Budget: "Numbers",
		Text:   narrowF16,
	}, {
		Name:   "NarrowInt8",
		Sig:    "func(dst *int8, src *float32, n int)",
		Doc:    "converts n integers within a byte, a multiple of 16.",
		Work:   "n",
		Budget: "Numbers",
		Text:   narrowInt8,
	}, {
		Name:   "WidenRowsBF16",
		Sig:    "func(dst *float32, dstStride int, src *uint16, srcStride, rows, cols int)",
		Doc:    "converts rows of bfloat16 to float32, each filled up to a multiple of 16 with +0.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "r*dstStride+c", "src": "r*srcStride+c"},
		Text:   widenRows(machine.BFloat16),
	}, {
		Name:   "WidenRowsF16",
		Sig:    "func(dst *float32, dstStride int, src *uint16, srcStride, rows, cols int)",
		Doc:    "converts rows of float16 to float32, each filled up to a multiple of 16 with +0.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Cut:    map[string]string{"dst": "r*dstStride+c", "src": "r*srcStride+c"},
		Text:   widenRows(machine.Float16),
	}, {
		Name:   "QuantizeRows",
		Sig:    "func(dst *int8, dstStride int, scales, src *float32, srcStride, rows, cols int)",
		Doc:    "converts rows to bytes with a scale each, src = dst·scale, each filled up to a multiple of 16 with 0: the scale is max|src|/127, 1 if that is subnormal, and NaN for a row that is not finite.",
		Work:   "rows*cols",
		Budget: "Numbers",
		Text:   quantizeRows,
	}, {
		Name: "PeakFMA",
		Sig:  "func(n int) float32",
		Doc:  "runs n rounds of 24 independent fused multiply-adds of 16 lanes from registers: what the hardware can do at most.",
		Text: peakFMA,
	}, {
		Name: "ReadSum",
		Sig:  "func(src *float32, n int) float32",
		Doc:  "reads n numbers, a multiple of 64, and does next to nothing with them: what loads can do at most.",
		Text: readSum,
	},
}, dots()...)
