package main

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// gonum has BLAS in float32, but no exponential.
func gonum() *peer {
	return &peer{
		name: "gonum", module: "gonum.org/v1/gonum",
		dot: func(d *dot) *entry {
			x, y := blas32.Vector{N: len(d.x), Data: d.x, Inc: 1}, blas32.Vector{N: len(d.y), Data: d.y, Inc: 1}
			return &entry{how: "blas32.Dot", run: func(calls int) {
				var r float32
				for range calls {
					r = blas32.Dot(x, y)
				}
				d.result[0] = r
			}}
		},
		sgemm: func(g *sgemm) *entry {
			a, b, c := general(g.a, g.n), general(g.b, g.n), general(g.c, g.n)
			return &entry{how: "blas32.Gemm", run: func(calls int) {
				for range calls {
					blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, a, b, 0, c)
				}
			}}
		},
		attention: func(a *attention) *entry {
			e := a.compose(parts{
				scores: func(s, q, k []float32) {
					blas32.Gemm(blas.NoTrans, blas.Trans, float32(a.scale()), general(q, a.dim), general(k, a.dim), 0, general(s, a.length))
				},
				softmax: func(row []float32) { plainSoftmax(row, row) },
				values: func(o, p, v []float32) {
					blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, general(p, a.length), general(v, a.dim), 0, general(o, a.dim))
				},
			})
			e.how = "composed; plain softmax"
			return e
		},
	}
}

// general is a row-major matrix.
func general(data []float32, cols int) blas32.General {
	return blas32.General{Rows: len(data) / cols, Cols: cols, Stride: cols, Data: data}
}
