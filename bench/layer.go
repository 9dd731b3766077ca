package main

import (
	"fmt"
	"math"
	"sync"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// matmul is a product of rows×depth with packed weights of depth×cols. Few rows are limited by the
// memory of the weights.
type matmul struct{ rows, depth, cols int }

func (m matmul) String() string {
	return fmt.Sprintf("matmul %d×%d · %d×%d", m.rows, m.depth, m.depth, m.cols)
}

func (m matmul) prepare(workers int) *job {
	x, w, y := normal(1, m.rows*m.depth), normal(2, m.depth*m.cols), make([]float32, m.rows*m.cols)
	weights := sync.OnceValue(func() *kernel.Weights { return must(kernel.Pack(kernel.RowMajor(w, m.depth, m.cols))) })
	j := &job{
		run: func(calls int) {
			packed := weights()
			for range calls {
				check(kernel.MatMul(kernel.RowMajor(y, m.rows, m.cols), kernel.RowMajor(x, m.rows, m.depth), packed, kernel.MatMulOptions{Workers: workers}))
			}
		},
		output:  func() [][]float32 { return [][]float32{y} },
		maxErr:  func() float64 { return m.maxErr(x, w, y) },
		workers: workers,
		flops:   func() float64 { return 2 * float64(m.rows) * float64(m.depth) * float64(m.cols) },
	}
	if m.rows <= 8 {
		j.bytes, j.read = 4*len(w), measure.Stream(w, workers)
	}
	return j
}

// maxErr compares a sample of elements, in units of Σ|x·w|.
func (m matmul) maxErr(x, w, y []float32) float64 {
	worst := 0.0
	column := make([]float32, m.depth)
	for random, n := source(99), 0; n < 64; n++ {
		i, c := int(random.next()%uint64(m.rows)), int(random.next()%uint64(m.cols))
		for k := range column {
			column[k] = w[k*m.cols+c]
		}
		row := x[i*m.depth:][:m.depth]
		worst = max(worst, maxErr(y[i*m.cols+c:][:1], []float64{ref.Dot(row, column)}, func(int) float64 { return ref.AbsDot(row, column) }))
	}
	return worst
}

// multihead is self-attention of a layer with four projections, of one sequence.
type multihead struct{ tokens, width, heads int }

func (h multihead) String() string {
	return fmt.Sprintf("layer %d tokens, width %d, H%d", h.tokens, h.width, h.heads)
}

func (h multihead) prepare(workers int) *job {
	// A power of two, so that scaling is exact on every machine, that keeps projections near N(0, 1).
	shrink := float32(math.Exp2(-math.Round(math.Log2(float64(h.width)) / 2)))
	weights := func(seed uint64) []float32 {
		w := normal(seed, h.width*h.width)
		for i := range w {
			w[i] *= shrink
		}
		return w
	}
	x, y := normal(1, h.tokens*h.width), make([]float32, h.tokens*h.width)
	wq, wk, wv, wo := weights(2), weights(3), weights(4), weights(5)
	pack := func(w []float32) *kernel.Weights { return must(kernel.Pack(kernel.RowMajor(w, h.width, h.width))) }
	layer := sync.OnceValue(func() *kernel.MultiHead {
		return must(kernel.NewMultiHead(kernel.MultiHeadOptions{
			Heads: h.heads, Query: pack(wq), Key: pack(wk), Value: pack(wv), Out: pack(wo), Workers: workers,
		}))
	})
	view := func(data []float32) kernel.Tensor { return kernel.BHSD(data, 1, 1, h.tokens, h.width) }
	return &job{
		run: func(calls int) {
			l := layer()
			for range calls {
				check(l.Forward(view(y), kernel.MultiHeadInput{X: view(x)}))
			}
		},
		output: func() [][]float32 { return [][]float32{y} },
		maxErr: func() float64 {
			twin := ref.Layer{Hq: h.heads, D: h.width / h.heads, Wq: wq, Wk: wk, Wv: wv, Wo: wo}
			return maxErr(y, twin.Forward(x, x, 1, h.tokens, h.tokens), func(int) float64 { return 1 })
		},
		workers: workers,
		flops: func() float64 {
			n, d := float64(h.tokens), float64(h.width)
			return 4*2*n*d*d + 4*n*n*d
		},
	}
}
