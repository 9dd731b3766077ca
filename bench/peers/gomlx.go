package main

import (
	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
)

// gomlx runs graphs, here on its back end in Go. Compiling a graph is not timed.
func gomlx() *peer {
	backend := must(simplego.New(""))
	// entryOf runs a function of nodes.
	entryOf := func(out []float32, how string, f func([]*graph.Node) *graph.Node, inputs ...*tensors.Tensor) *entry {
		exec := graph.MustNewExec(backend, f)
		args := make([]any, len(inputs))
		for i, x := range inputs {
			args[i] = x
		}
		var y *tensors.Tensor
		return &entry{how: how, run: func(calls int) {
			for range calls {
				if y != nil {
					y.MustFinalizeAll()
				}
				y = exec.MustExec1(args...)
			}
		}, collect: func() { copy(out, tensors.MustCopyFlatData[float32](y)) }}
	}
	tensor := tensors.FromFlatDataAndDimensions[float32]
	product := func(x []*graph.Node) *graph.Node { return graph.Dot(x[0], x[1]) }
	return &peer{
		name: "gomlx simplego", module: "github.com/gomlx/gomlx",
		dot: func(d *dot) *entry {
			return entryOf(d.result, "Dot", product, tensor(d.x, len(d.x)), tensor(d.y, len(d.y)))
		},
		softmax: func(s *softmax) *entry {
			return entryOf(s.dst, "Softmax", func(x []*graph.Node) *graph.Node { return graph.Softmax(x[0]) }, tensor(s.src, len(s.src)))
		},
		sgemm: func(g *sgemm) *entry {
			return entryOf(g.c, "Dot", product, tensor(g.a, g.n, g.n), tensor(g.b, g.n, g.n))
		},
		attention: func(a *attention) *entry {
			return entryOf(a.out, "composed: Einsum, Softmax", func(x []*graph.Node) *graph.Node {
				s := graph.MulScalar(graph.Einsum("hqd,hkd->hqk", x[0], x[1]), a.scale())
				var p *graph.Node
				if a.causal {
					see := graph.ExpandAndBroadcast(graph.LowerTriangular(s.Graph(), a.length), s.Shape().Dimensions, []int{0})
					p = graph.MaskedSoftmax(s, see, -1)
				} else {
					p = graph.Softmax(s, -1)
				}
				return graph.Einsum("hqk,hkd->hqd", p, x[2])
			}, tensor(a.q, a.heads, a.length, a.dim), tensor(a.k, a.heads, a.length, a.dim), tensor(a.v, a.heads, a.length, a.dim))
		},
	}
}
