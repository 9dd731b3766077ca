package main

import (
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
)

// quern is one peer for every instruction set but portable Go, and one for weights packed once.
func quern() []*peer {
	var all []*peer
	for _, level := range isa.Supported() {
		if level == isa.Go {
			continue
		}
		all = append(all, &peer{
			name: "quern " + level.String(),
			use:  func() func() { return isa.Use(level) },
			dot: func(d *dot) *entry {
				return &entry{run: func(calls int) {
					var r float32
					for range calls {
						r = kernel.Dot(d.x, d.y)
					}
					d.result[0] = r
				}}
			},
			softmax: func(s *softmax) *entry {
				return &entry{run: func(calls int) {
					for range calls {
						kernel.Softmax(s.dst, s.src)
					}
				}}
			},
			sgemm: func(g *sgemm) *entry {
				return &entry{how: "packs B in every call", run: func(calls int) {
					for range calls {
						g.multiply(must(kernel.Pack(kernel.RowMajor(g.b, g.n, g.n))))
					}
				}}
			},
			attention: func(a *attention) *entry {
				view := func(x []float32) kernel.Tensor { return kernel.BHSD(x, 1, a.heads, a.length, a.dim) }
				opts := kernel.Options{Workers: 1}
				if a.causal {
					opts.Mask = kernel.Causal{}
				}
				plan := must(kernel.NewAttention(kernel.ShapeOf(view(a.q), view(a.k), view(a.v)), opts))
				return &entry{how: "plan", run: func(calls int) {
					for range calls {
						check(plan.Run(view(a.out), view(a.q), view(a.k), view(a.v)))
					}
				}}
			},
		})
	}
	if len(all) == 0 {
		return nil
	}
	best := *all[0]
	best.name += ", packed"
	best.dot, best.softmax, best.attention = nil, nil, nil
	best.sgemm = func(g *sgemm) *entry {
		weights := must(kernel.Pack(kernel.RowMajor(g.b, g.n, g.n)))
		return &entry{how: "B packed once", run: func(calls int) {
			for range calls {
				g.multiply(weights)
			}
		}}
	}
	return append(all, &best)
}

// multiply computes C = A·B with packed B.
func (g *sgemm) multiply(b *kernel.Weights) {
	check(kernel.MatMul(kernel.RowMajor(g.c, g.n, g.n), kernel.RowMajor(g.a, g.n, g.n), b, kernel.MatMulOptions{Workers: 1}))
}

func must[T any](x T, err error) T {
	check(err)
	return x
}

// check panics: all arguments are the program's own.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
