package main

import (
	"fmt"
	"math"
	"sync"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// matmul is a product of rows×depth with packed weights of depth×cols. Few rows are limited by the
// memory of the weights, which are cold.
type matmul struct {
	rows, depth, cols int
	format            kernel.Format // of the weights
}

func (m matmul) String() string {
	s := fmt.Sprintf("matmul %d×%d · %d×%d", m.rows, m.depth, m.depth, m.cols)
	if m.format != kernel.Float32 {
		s += ", " + m.format.String() + " weights"
	}
	return s
}

// few reports that it is the memory of the weights that limits it.
func (m matmul) few() bool { return m.rows <= 8 }

func (m matmul) prepare(workers int) *job {
	x, w, y := normal(1, m.rows*m.depth), normal(2, m.depth*m.cols), make([]float32, m.rows*m.cols)
	bytes := len(w) * formatSize(m.format)
	weights := sync.OnceValues(func() (*ring[*kernel.Weights], []float32) {
		pack, stored := m.weights(w)
		return &ring[*kernel.Weights]{bytes: bytes, copy: pack}, stored
	})
	j := &job{
		run: func(calls int) {
			packed, _ := weights()
			for range calls {
				check(kernel.MatMul(kernel.RowMajor(y, m.rows, m.cols), kernel.RowMajor(x, m.rows, m.depth), packed.take(), kernel.MatMulOptions{Workers: workers}))
			}
		},
		output: func() [][]float32 { return [][]float32{y} },
		maxErr: func() float64 {
			_, stored := weights()
			return m.maxErr(x, stored, y)
		},
		workers: workers,
		flops:   func() float64 { return 2 * float64(m.rows) * float64(m.depth) * float64(m.cols) },
	}
	if m.few() {
		packed, _ := weights()
		memory, read := streamMemory(bytes, workers)
		j.bytes, j.read, j.inputs = bytes, read, []inputs{packed, memory}
	}
	return j
}

// weights returns what packs w in the format of the case, and what the packed stand for.
func (m matmul) weights(w []float32) (pack func() *kernel.Weights, stored []float32) {
	switch m.format {
	case kernel.BFloat16:
		small := elements[kernel.BF16](w)
		return packer(m, small, nil), widened(small)
	case kernel.Float16:
		small := elements[kernel.F16](w)
		return packer(m, small, nil), widened(small)
	case kernel.Int8:
		small, scale := make([]int8, len(w)), make([]float32, m.cols)
		check(kernel.Quantize(small, scale, kernel.RowMajor(w, m.depth, m.cols)))
		stored = make([]float32, len(w))
		for i, x := range small {
			stored[i] = float32(x) * scale[i%m.cols]
		}
		return packer(m, small, scale), stored
	}
	return packer(m, w, nil), w
}

func packer[T kernel.Scalar](m matmul, w []T, scale []float32) func() *kernel.Weights {
	return func() *kernel.Weights {
		return must(kernel.PackScaled(kernel.RowMajor(w, m.depth, m.cols), scale))
	}
}

// maxErr compares a sample of elements, in units of Σ|x·w|.
func (m matmul) maxErr(x, w, y []float32) float64 {
	worst := 0.0
	column := make([]float32, m.depth)
	for _, n := range sample(len(y)) {
		i, c := n/m.cols, n%m.cols
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
