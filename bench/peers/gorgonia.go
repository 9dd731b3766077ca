package main

import (
	_ "go4.org/unsafe/assume-no-moving-gc" // a version that knows this Go, which gorgonia's own go.mod does not ask for
	"gorgonia.org/tensor"
)

// gorgonia multiplies with gonum's BLAS.
func gorgonia() *peer {
	dense := func(data []float32, shape ...int) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
	}
	return &peer{
		name: "gorgonia", module: "gorgonia.org/tensor",
		dot: func(d *dot) *entry {
			x, y := dense(d.x, len(d.x)), dense(d.y, len(d.y))
			return &entry{how: "Inner", run: func(calls int) {
				var r any
				for range calls {
					r = must(tensor.Inner(x, y))
				}
				d.result[0] = r.(float32)
			}}
		},
		softmax: func(s *softmax) *entry {
			x := dense(s.src, 1, len(s.src))
			var y tensor.Tensor
			return &entry{run: func(calls int) {
				for range calls {
					y = must(tensor.SoftMax(x, 1))
				}
			}, collect: func() { copy(s.dst, y.Data().([]float32)) }}
		},
		sgemm: func(g *sgemm) *entry {
			a, b, c := dense(g.a, g.n, g.n), dense(g.b, g.n, g.n), dense(g.c, g.n, g.n)
			return &entry{run: func(calls int) {
				for range calls {
					must(tensor.MatMul(a, b, tensor.WithReuse(c)))
				}
			}}
		},
		attention: func(a *attention) *entry {
			return a.compose(parts{
				scores: func(s, q, k []float32) {
					turned := dense(k, a.length, a.dim)
					check(turned.T())
					scores := dense(s, a.length, a.length)
					must(tensor.MatMul(dense(q, a.length, a.dim), turned, tensor.WithReuse(scores)))
					must(scores.MulScalar(float32(a.scale()), true, tensor.UseUnsafe()))
				},
				softmax: func(row []float32) {
					copy(row, must(tensor.SoftMax(dense(row, 1, len(row)), 1)).Data().([]float32))
				},
				values: func(o, p, v []float32) {
					must(tensor.MatMul(dense(p, a.length, a.length), dense(v, a.length, a.dim), tensor.WithReuse(dense(o, a.length, a.dim))))
				},
			})
		},
	}
}
