package main

import (
	"github.com/nlpodyssey/spago/mat"
	spagonn "github.com/nlpodyssey/spago/nn/attention"
)

// spago has scaled dot-product attention, which takes one query at a time.
func spago() *peer {
	dense := func(data []float32, rows, cols int) mat.Matrix {
		return mat.NewDense[float32](mat.WithShape(rows, cols), mat.WithBacking(data))
	}
	return &peer{
		name: "spago", module: "github.com/nlpodyssey/spago",
		dot: func(d *dot) *entry {
			x, y := dense(d.x, len(d.x), 1), dense(d.y, len(d.y), 1)
			return &entry{run: func(calls int) {
				for range calls {
					d.result[0] = mat.Data[float32](x.DotUnitary(y))[0]
				}
			}}
		},
		softmax: func(s *softmax) *entry {
			x := dense(s.src, len(s.src), 1)
			var y mat.Matrix
			return &entry{run: func(calls int) {
				for range calls {
					y = x.Softmax()
				}
			}, collect: func() { copy(s.dst, mat.Data[float32](y)) }}
		},
		sgemm: func(g *sgemm) *entry {
			a, b := dense(g.a, g.n, g.n), dense(g.b, g.n, g.n)
			var c mat.Matrix
			return &entry{run: func(calls int) {
				for range calls {
					c = a.Mul(b)
				}
			}, collect: func() { copy(g.c, mat.Data[float32](c)) }}
		},
		attention: func(a *attention) *entry {
			q, k, v := make([][]mat.Tensor, a.heads), make([]mat.Tensor, a.heads), make([]mat.Tensor, a.heads)
			for h := range a.heads {
				k[h], v[h] = dense(a.head(a.k, h), a.length, a.dim), dense(a.head(a.v, h), a.length, a.dim)
				for i := range a.length {
					q[h] = append(q[h], dense(a.head(a.q, h)[i*a.dim:][:a.dim], a.dim, 1))
				}
			}
			scale := mat.Scalar(float32(a.scale()))
			return &entry{how: "ScaledDotProductAttention", run: func(calls int) {
				for range calls {
					for h := range a.heads {
						rows, _ := spagonn.ScaledDotProductAttention(q[h], k[h], v[h], scale, a.causal)
						for i, row := range rows { // the graph computes when it is asked
							copy(a.head(a.out, h)[i*a.dim:], mat.Data[float32](row.Value()))
						}
					}
				}
			}}
		},
	}
}
