package main

import "github.com/viterin/vek/vek32"

// vek has elementwise functions and a matrix product; a softmax is composed of five of them.
func vek() *peer {
	return &peer{
		name: "vek", module: "github.com/viterin/vek",
		dot: func(d *dot) *entry {
			return &entry{run: func(calls int) {
				var r float32
				for range calls {
					r = vek32.Dot(d.x, d.y)
				}
				d.result[0] = r
			}}
		},
		softmax: func(s *softmax) *entry {
			return &entry{how: "composed", run: func(calls int) {
				for range calls {
					vek32.SubNumber_Into(s.dst, s.src, vek32.Max(s.src))
					vekNormalise(s.dst)
				}
			}}
		},
		sgemm: func(g *sgemm) *entry {
			return &entry{run: func(calls int) {
				for range calls {
					vek32.MatMul_Into(g.c, g.a, g.b, g.n)
				}
			}}
		},
		attention: func(a *attention) *entry {
			turned := make([]float32, a.length*a.dim)
			return a.compose(parts{
				scores: func(s, q, k []float32) {
					for j := range a.length {
						for c := range a.dim {
							turned[c*a.length+j] = k[j*a.dim+c]
						}
					}
					vek32.MatMul_Into(s, q, turned, a.dim)
					vek32.MulNumber_Inplace(s, float32(a.scale()))
				},
				softmax: func(row []float32) {
					vek32.SubNumber_Inplace(row, vek32.Max(row))
					vekNormalise(row)
				},
				values: func(o, p, v []float32) { vek32.MatMul_Into(o, p, v, a.length) },
			})
		},
	}
}

// vekNormalise is the second half of a softmax.
func vekNormalise(x []float32) {
	vek32.Exp_Inplace(x)
	vek32.MulNumber_Inplace(x, 1/vek32.Sum(x))
}
