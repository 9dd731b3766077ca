package main

import (
	"fmt"

	"github.com/quern-go/quern/kernel"
)

// caches: every format, with and without a window, in one prompt and token by token.
func (l *oddList) caches() {
	const heads, kvHeads, tokens, dim, valueDim = 4, 2, 300, 9, 17
	for _, format := range []kernel.Format{kernel.Float32, kernel.BFloat16, kernel.Float16, kernel.Int8} {
		for _, window := range []int{0, 70} {
			config := kernel.CacheConfig{KVHeads: kvHeads, Dim: dim, ValueDim: valueDim, Format: format,
				Window: window, PageKeys: 128}
			// in appends and attends to pieces of some tokens.
			in := func(piece int) func() [][]float32 {
				return func() [][]float32 {
					q, k := normal(1, tokens*heads*dim), normal(2, tokens*kvHeads*dim)
					v := normal(3, tokens*kvHeads*valueDim)
					out := make([]float32, tokens*heads*valueDim)
					caches := []*kernel.Cache{must(kernel.NewCache(config))}
					for from := 0; from < tokens; from += piece {
						n := min(piece, tokens-from)
						part := func(x []float32, heads, dim int) kernel.Tensor {
							return kernel.BSHD(x[from*heads*dim:], 1, n, heads, dim)
						}
						check(kernel.AppendAttend(part(out, heads, valueDim), part(q, heads, dim),
							part(k, kvHeads, dim), part(v, kvHeads, valueDim),
							caches, kernel.Options{Mask: kernel.Causal{}}))
					}
					return [][]float32{out}
				}
			}
			name := fmt.Sprintf("caches/%v/window%d", format, window)
			l.add(name, in(tokens))
			l.addSame(name+"/pieces", name, in(29))
			l.addSame(name+"/tokens", name, in(1))
		}
	}
}
