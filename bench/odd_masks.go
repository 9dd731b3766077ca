package main

import (
	"fmt"
	"math"

	"github.com/quern-go/quern/kernel"
)

// masks: every mask, and the same pattern as bits where it has a path of its own.
func (l *oddList) masks() {
	s := kernel.Shape{Batch: 1, Heads: 4, KVHeads: 2, Queries: 70, Keys: 300, Dim: 9, ValueDim: 17}
	for _, m := range []struct {
		name string
		mask kernel.Mask
	}{
		{"window", kernel.Window{Left: 40, Right: 3}},
		{"window/left", kernel.Window{Left: -1, Right: 0, Align: kernel.TopLeft}},
		{"prefix", kernel.Prefix{Keys: 130, Align: kernel.TopLeft}},
		{"fixed", kernel.SparseFixed{Stride: 50, Summary: 7}},
		{"fixed/runs", kernel.SparseFixed{Stride: 64, Summary: 16, RunPerHead: true, Part: kernel.SecondPart}},
		{"bits", kernel.BitMatrix{Bits: []uint64{0xdeadbeef12345678, 0x1f}, Shape: [3]int{1, 1, 1}, Keys: 70, First: []int{190}}},
		{"blocks", kernel.BlockMap{Queries: 35, Keys: 100, Bits: []uint64{0b101_010}, Shape: [4]int{1, 1, 2, 3}}},
		{"function", kernel.MaskFunc{See: func(h, i, j int) bool { return (h+i+j)%7 < 3 }}},
		{"and", kernel.And{kernel.Causal{}, kernel.SparseFixed{Stride: 50, Summary: 7}}},
		{"or", kernel.Or{kernel.Window{Left: 40}, kernel.BlockMap{Queries: 35, Keys: 100, Bits: []uint64{0b101_010}, Shape: [4]int{1, 1, 2, 3}}}},
		{"per-head", kernel.PerHead{kernel.Causal{}, nil, kernel.SparseStrided{Stride: 30}}},
	} {
		l.attention("mask/"+m.name, "", s, kernel.Options{Mask: m.mask})
	}
	for _, stride := range []int{24, 128, 200} {
		for _, c := range []struct {
			part kernel.SparsePart
			near bool
		}{{kernel.Merged, true}, {kernel.SecondPart, false}} {
			see := func(_, i, j int) bool { return j <= i && (c.near && i-j <= stride || (i-j)%stride == 0) }
			name := fmt.Sprintf("mask/strided%d/part%d", stride, c.part)
			l.attention(name+"/function", "", one(2100, 2100, 8, 9), kernel.Options{Mask: kernel.MaskFunc{See: see, AllHeadsAlike: true}})
			l.attention(name, name+"/function", one(2100, 2100, 8, 9), kernel.Options{Mask: kernel.SparseStrided{Stride: stride, Part: c.part}})
		}
	}
}

// scores: everything that changes them, scores as output, and states.
func (l *oddList) scores() {
	s := kernel.Shape{Batch: 2, Heads: 4, KVHeads: 2, Queries: 30, Keys: 170, Dim: 9, ValueDim: 17}
	bias := kernel.BHSD(normal(5, 30*160), 1, 1, 30, 160)
	slopes := kernel.ALiBi{Slopes: []float32{0.5, 0.25, 0.125, -1}}
	sinks := []float32{0, 1, -2, 3}
	function := func(_, head, query, key int, scores []float32) {
		for x := range scores {
			scores[x] = float32(scores[x]*0.75) + float32((head+query+key+x)%3)
		}
	}
	limits := func(_, _, query, key int, scores []float32) {
		for x := range scores {
			if (query+key+x)%4 == 0 {
				scores[x] = float32(math.Copysign(math.MaxFloat32, float64(query%5-3)))
			}
		}
	}
	for _, c := range []struct {
		name string
		opts kernel.Options
	}{
		{"softcap", kernel.Options{Softcap: 1.5}},
		{"bias", kernel.Options{Bias: bias}},
		{"alibi", kernel.Options{ALiBi: slopes}},
		{"alibi-symmetric", kernel.Options{ALiBi: kernel.ALiBi{Slopes: slopes.Slopes, Symmetric: true}}},
		{"sinks", kernel.Options{Sinks: sinks}},
		{"function", kernel.Options{ScoreFunc: function}},
		{"bias-column", kernel.Options{Bias: kernel.BHSD(normal(5, 30), 1, 1, 30, 1), ScoreFunc: limits}},
		{"bias+alibi", kernel.Options{Bias: bias, ALiBi: slopes, Mask: kernel.Causal{}}},
		{"all", kernel.Options{Softcap: 2, Bias: bias, ALiBi: slopes, Sinks: sinks, ScoreFunc: function, Mask: kernel.Window{Left: 60}}},
	} {
		l.attention("scores/"+c.name, "", s, c.opts)
	}
	for stage := kernel.ScaledScores; stage <= kernel.Probabilities; stage++ {
		l.addSame(fmt.Sprintf("scores/stage%d", stage), "", func() [][]float32 {
			x, scores := newQKV(s), make([]float32, 2*4*30*170)
			o := kernel.Options{Softcap: 2, Bias: bias, Sinks: sinks, Mask: kernel.Causal{}, Scores: kernel.BHSD(scores, 2, 4, 30, 170), Stage: stage}
			return append(x.attend(o), scores)
		})
	}

	long := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 5, Keys: 5000, Dim: 6, ValueDim: 7}
	l.attention("state/whole", "", long, kernel.Options{})
	l.addSame("state/pieces", "state/whole", func() [][]float32 {
		x := newQKV(long)
		piece := func(from, to int) *kernel.State {
			part := func(data []float32, dim int) kernel.Tensor {
				return kernel.BHSD(data[from*dim:to*dim], 1, 1, to-from, dim)
			}
			return must(kernel.AttentionState(x.Q(), part(x.k, 6), part(x.v, 7), kernel.Options{KeyOffset: from}))
		}
		state := piece(0, 2048)
		check(state.Merge(piece(2048, 5000)))
		out, lse := x.newOutput(), x.newLSE()
		check(state.Finish(x.view(out, 2, 5, 7), lse, nil))
		return [][]float32{out, lse}
	})
}
