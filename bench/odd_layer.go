package main

import (
	"fmt"
	"slices"

	"github.com/quern-go/quern/kernel"
)

// layer: matrix products, rotary positions and the multi-head layer.
func (l *oddList) layer() {
	for _, s := range [][3]int{{1, 1, 1}, {3, 0, 5}, {1, 70, 33}, {8, 129, 17}, {9, 65, 100}, {13, 300, 16}, {25, 2100, 31}} {
		m, k, n := s[0], s[1], s[2]
		product := func(x, w kernel.Matrix, workers int) [][]float32 {
			y := make([]float32, m*n)
			packed := must(kernel.PackScaled(w, normal(4, n)))
			check(kernel.MatMul(kernel.RowMajor(y, m, n), x, packed, kernel.MatMulOptions{Bias: normal(3, n), Workers: workers}))
			return [][]float32{y}
		}
		x, w := normal(1, m*k), normal(2, k*n)
		name := fmt.Sprintf("matmul/%dx%dx%d", m, k, n)
		l.add(name, func() [][]float32 { return product(kernel.RowMajor(x, m, k), kernel.RowMajor(w, k, n), 1) })
		l.addSame(name+"/transposed", name, func() [][]float32 {
			return product(kernel.RowMajor(turned(x, m, k), k, m).T(), kernel.RowMajor(turned(w, k, n), n, k).T(), 2)
		})
		l.add(name+"/bfloat16", func() [][]float32 {
			half := make([]kernel.BF16, len(w))
			kernel.Narrow(half, w)
			return product(kernel.RowMajor(x, m, k), kernel.RowMajor(half, k, n), 1)
		})
		l.add(name+"/float16", func() [][]float32 {
			half := make([]kernel.F16, len(w))
			kernel.Narrow(half, w)
			return product(kernel.RowMajor(x, m, k), kernel.RowMajor(half, k, n), 1)
		})
		l.add(name+"/int8", func() [][]float32 {
			q, scale := make([]int8, len(w)), make([]float32, n)
			check(kernel.Quantize(q, scale, kernel.RowMajor(w, k, n)))
			return append(product(kernel.RowMajor(x, m, k), kernel.RowMajor(q, k, n), 1), scale)
		})
		l.add(name+"/int8/tiny-and-huge", func() [][]float32 {
			q, scale := make([]int8, len(w)), make([]float32, n)
			magnitudes := []float32{1e-45, 3e-40, 1e-37, 1.4e-36, 1.6e-36, 3e36}
			scaled := slices.Clone(w)
			for i := range scaled {
				scaled[i] *= magnitudes[i%n%len(magnitudes)]
			}
			check(kernel.Quantize(q, scale, kernel.RowMajor(scaled, k, n)))
			return append(product(kernel.RowMajor(x, m, k), kernel.RowMajor(q, k, n), 1), scale)
		})
	}

	for _, interleaved := range []bool{false, true} {
		for _, dim := range []int{2, 30, 64} {
			name := fmt.Sprintf("rotary/%d/interleaved=%v", dim, interleaved)
			turned := func(tables int, at kernel.Positions) func() [][]float32 {
				return func() [][]float32 {
					r := must(kernel.NewRotary(kernel.RotaryOptions{Dim: dim, Positions: tables,
						Interleaved: interleaved}))
					x := normal(1, 3*40*66)
					check(r.Apply(kernel.BSHD(x, 1, 40, 3, 66), at))
					return [][]float32{x}
				}
			}
			near, far := kernel.Positions{Offset: 4321}, kernel.Positions{Offset: 1<<30 - 39}
			negative, lowest := kernel.Positions{Offset: -20}, kernel.Positions{Offset: -1 << 30}
			l.add(name, turned(5000, near))
			l.addSame(name+"/some-tables", name, turned(4340, near))
			l.add(name+"/far", turned(0, far))
			l.add(name+"/negative", turned(10, negative))
			l.addSame(name+"/negative/no-tables", name+"/negative", turned(0, negative))
			l.add(name+"/lowest", turned(0, lowest))
		}
	}
	l.add("rotary/1100", func() [][]float32 { // wider than what is computed at a time
		r := must(kernel.NewRotary(kernel.RotaryOptions{Dim: 1100, Positions: 2}))
		x := normal(1, 4*1101)
		check(r.Apply(kernel.BHSD(x, 1, 1, 4, 1101), kernel.Positions{IDs: []int{1, -1, 3_000_000, 131_071}}))
		return [][]float32{x}
	})

	const tokens, width, heads = 37, 24, 3
	weights := func(seed uint64, rows, cols int) *kernel.Weights {
		return must(kernel.Pack(kernel.RowMajor(normal(seed, rows*cols), rows, cols)))
	}
	layer := func(change func(*kernel.MultiHeadOptions)) *kernel.MultiHead {
		o := kernel.MultiHeadOptions{
			Heads: heads, Scale: 1.0 / 64, Workers: 1,
			Query: weights(2, width, width), Key: weights(3, width, width), Value: weights(4, width, width), Out: weights(5, width, width),
			QueryBias: normal(6, width), OutBias: normal(7, width),
		}
		change(&o)
		return must(kernel.NewMultiHead(o))
	}
	view := func(data []float32) kernel.Tensor { return kernel.BHSD(data, 1, 1, len(data)/width, width) }
	multihead := func(name string, change func(*kernel.MultiHeadOptions)) {
		l.add("multihead/"+name, func() [][]float32 {
			x, y := normal(1, tokens*width), make([]float32, tokens*width)
			check(layer(change).Forward(view(y), kernel.MultiHeadInput{X: view(x)}))
			return [][]float32{y}
		})
	}
	multihead("plain", func(*kernel.MultiHeadOptions) {})
	causal := func(o *kernel.MultiHeadOptions) { o.Mask = kernel.Causal{} }
	multihead("causal", causal)
	l.addSame("multihead/causal/caches", "multihead/causal", func() [][]float32 {
		x, y, m := normal(1, tokens*width), make([]float32, tokens*width), layer(causal)
		caches := []*kernel.Cache{must(kernel.NewCache(kernel.CacheConfig{KVHeads: heads, Dim: width / heads}))}
		for from, n := 0, 1; from < tokens; from, n = from+n, n+1 {
			part := func(data []float32) kernel.Tensor { return view(data[from*width : min(from+n, tokens)*width]) }
			check(m.Forward(part(y), kernel.MultiHeadInput{X: part(x), Caches: caches}))
		}
		return [][]float32{y}
	})
	multihead("rotary", func(o *kernel.MultiHeadOptions) {
		o.Rotary = must(kernel.NewRotary(kernel.RotaryOptions{Dim: 6, Positions: tokens}))
	})
	multihead("shared-keys", func(o *kernel.MultiHeadOptions) {
		o.KVHeads, o.Key, o.Value = 1, weights(3, width, width/heads), weights(4, width, width/heads)
	})
	for _, overlap := range []int{1, 11} {
		multihead(fmt.Sprintf("overlap-%d", overlap), func(o *kernel.MultiHeadOptions) {
			o.Overlap, o.Out = overlap, weights(5, width+2*heads*overlap, width)
		})
	}
}

// turned is the transpose of a row-major matrix.
func turned(x []float32, rows, cols int) []float32 {
	t := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			t[j*rows+i] = x[i*cols+j]
		}
	}
	return t
}
