package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/quern-go/quern/kernel"
)

// oddCase is one line of -digest: a small computation whose shape or values are odd.
type oddCase struct {
	name string
	same string // the name of a case that must have the same bits, if there is one
	run  func() [][]float32
}

// oddCases cover every feature of package kernel. Their names and digests stand in
// testdata/digests.txt.
func oddCases() []oddCase {
	var l oddList
	l.shapes()
	l.options()
	l.masks()
	l.scores()
	l.values()
	l.pieces()
	l.batches()
	l.layouts()
	l.slices()
	l.vectors()
	l.layer()
	l.caches()
	return l
}

type oddList []oddCase

func (l *oddList) add(name string, run func() [][]float32) { l.addSame(name, "", run) }

func (l *oddList) addSame(name, same string, run func() [][]float32) {
	*l = append(*l, oddCase{name, same, run})
}

// attention adds attention of contiguous inputs.
func (l *oddList) attention(name, same string, s kernel.Shape, o kernel.Options) {
	l.addSame(name, same, func() [][]float32 { return newQKV(s).attend(o) })
}

// qkv is the inputs of attention, each contiguous [batch, heads, sequence, dim].
type qkv struct {
	kernel.Shape
	q, k, v []float32
}

func newQKV(s kernel.Shape) *qkv {
	return &qkv{
		Shape: s,
		q:     normal(1, s.Batch*s.Heads*s.Queries*s.Dim),
		k:     normal(2, s.Batch*s.KVHeads*s.Keys*s.Dim),
		v:     normal(3, s.Batch*s.KVHeads*s.Keys*s.ValueDim),
	}
}

func (x *qkv) newOutput() []float32 { return make([]float32, x.Batch*x.Heads*x.Queries*x.ValueDim) }
func (x *qkv) newLSE() []float32    { return make([]float32, x.Batch*x.Heads*x.Queries) }

func (x *qkv) view(data []float32, heads, length, dim int) kernel.Tensor {
	return kernel.BHSD(data, x.Batch, heads, length, dim)
}

func (x *qkv) Q() kernel.Tensor { return x.view(x.q, x.Heads, x.Queries, x.Dim) }
func (x *qkv) K() kernel.Tensor { return x.view(x.k, x.KVHeads, x.Keys, x.Dim) }
func (x *qkv) V() kernel.Tensor { return x.view(x.v, x.KVHeads, x.Keys, x.ValueDim) }

// attend returns the output and the log-sum-exp.
func (x *qkv) attend(o kernel.Options) [][]float32 {
	out := x.newOutput()
	o.LSE = x.newLSE()
	check(kernel.Attention(x.view(out, x.Heads, x.Queries, x.ValueDim), x.Q(), x.K(), x.V(), o))
	return [][]float32{out, o.LSE}
}

// one is attention of one head.
func one(queries, keys, dim, valueDim int) kernel.Shape {
	return kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: queries, Keys: keys, Dim: dim, ValueDim: valueDim}
}

// shapes: every width by every number of keys, across the edges of a vector, a panel, a block and a
// span.
func (l *oddList) shapes() {
	for _, dim := range []int{1, 17, 65} {
		for _, keys := range []int{1, 127, 128, 129, 2049} {
			l.attention(fmt.Sprintf("attention/D%d/Skv%d", dim, keys), "", one(3, keys, dim, dim), kernel.Options{})
		}
	}
	l.attention("attention/spans", "", one(2, 4097, 8, 5), kernel.Options{})
	l.attention("attention/D512", "", one(2, 40, 512, 512), kernel.Options{})
	l.attention("attention/D3/Dv70", "", one(5, 33, 3, 70), kernel.Options{})
	l.attention("attention/D70/Dv3", "", one(5, 33, 70, 3), kernel.Options{})
	for _, queries := range []int{1, 2, 4, 16, 77, 197} {
		l.attention(fmt.Sprintf("attention/Sq%d", queries), "", one(queries, 50, 16, 16), kernel.Options{})
	}
	l.attention("attention/no-keys", "", one(3, 0, 4, 4), kernel.Options{})
	l.attention("attention/no-queries", "", one(0, 3, 4, 4), kernel.Options{})
	l.attention("attention/no-values", "", one(3, 5, 4, 0), kernel.Options{})
	for _, kvHeads := range []int{1, 2, 3, 6} {
		l.attention(fmt.Sprintf("attention/Hq6/Hkv%d", kvHeads), "", kernel.Shape{
			Batch: 2, Heads: 6, KVHeads: kvHeads, Queries: 19, Keys: 70, Dim: 8, ValueDim: 9}, kernel.Options{})
	}
}

func (l *oddList) options() {
	for _, s := range []kernel.Shape{one(70, 200, 17, 17), one(200, 70, 17, 17), one(131, 131, 17, 17)} {
		name := fmt.Sprintf("causal/Sq%d/Skv%d/", s.Queries, s.Keys)
		l.attention(name+"bottom-right", "", s, kernel.Options{Mask: kernel.Causal{}})
		l.attention(name+"top-left", "", s, kernel.Options{Mask: kernel.Causal{Align: kernel.TopLeft}})
	}
	three := kernel.Shape{Batch: 3, Heads: 2, KVHeads: 2, Queries: 40, Keys: 60, Dim: 5, ValueDim: 5}
	l.attention("causal/offsets", "", three, kernel.Options{Mask: kernel.Causal{Offset: []int{-7, 0, 100}}})

	l.attention("scale", "", one(9, 33, 17, 17), kernel.Options{Scale: 2.5})
	l.attention("scale/negative", "", one(9, 33, 17, 17), kernel.Options{Scale: -0.3})

	// Without a mask an offset changes nothing.
	l.attention("key-offset/without", "", one(9, 2100, 5, 5), kernel.Options{})
	l.attention("key-offset/with", "key-offset/without", one(9, 2100, 5, 5), kernel.Options{KeyOffset: 4096})
	l.attention("key-offset/causal", "", one(9, 60, 5, 5), kernel.Options{KeyOffset: 2048, Mask: kernel.Causal{}})
	l.attention("key-offset/causal-offsets", "", one(9, 60, 5, 5), kernel.Options{KeyOffset: 2048, Mask: kernel.Causal{Offset: []int{2050}}})

	four := kernel.Shape{Batch: 1, Heads: 4, KVHeads: 2, Queries: 150, Keys: 300, Dim: 9, ValueDim: 9}
	for _, workers := range []int{1, 2, 5} {
		name, same := fmt.Sprintf("workers/%d", workers), "workers/1"
		if workers == 1 {
			same = ""
		}
		l.attention(name, same, four, kernel.Options{Workers: workers, Mask: kernel.Causal{}})
	}
	l.addSame("plan/reused", "workers/1", func() [][]float32 {
		x, garbage := newQKV(four), newQKV(four)
		fill(garbage.v, float32(math.NaN()))
		out := x.newOutput()
		lse := x.newLSE()
		plan := must(kernel.NewAttention(four, kernel.Options{Workers: 1, Mask: kernel.Causal{}, LSE: lse}))
		for _, in := range []*qkv{garbage, x} {
			check(plan.Run(x.view(out, x.Heads, x.Queries, x.ValueDim), in.Q(), in.K(), in.V()))
		}
		return [][]float32{out, lse}
	})
}

// values: numbers that are not ordinary, where a query sees them and where it does not.
func (l *oddList) values() {
	s := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 20, Keys: 150, Dim: 17, ValueDim: 18}
	spoil := func(name, same string, o kernel.Options, change func(x *qkv)) {
		l.addSame(name, same, func() [][]float32 {
			x := newQKV(s)
			change(x)
			return x.attend(o)
		})
	}
	nan, inf, tiny := float32(math.NaN()), float32(math.Inf(1)), float32(math.SmallestNonzeroFloat32)
	negative0 := float32(math.Copysign(0, -1))
	set := func(x []float32, values ...float32) { // every third element, in turn
		for i := 0; i < len(x); i += 3 {
			x[i] = values[i/3%len(values)]
		}
	}
	causal := kernel.Options{Mask: kernel.Causal{Align: kernel.TopLeft}}

	spoil("visible/zeros", "", causal, func(x *qkv) { set(x.q, 0, negative0); set(x.k, negative0, 0); set(x.v, 0, negative0) })
	spoil("visible/minus-0", "", causal, func(x *qkv) { fill(x.v, negative0) })
	spoil("visible/subnormal", "", causal, func(x *qkv) { set(x.q, tiny, 1e-39); set(x.k, -1e-40, tiny); fill(x.v, 3*tiny) })
	spoil("visible/large", "", causal, func(x *qkv) { set(x.q, 1e18, -1e18); set(x.k, 1e19, -1e19); set(x.v, 3e38, -3e38) })
	spoil("visible/far-apart", "", causal, func(x *qkv) { set(x.q, 40, -40) })
	spoil("visible/q-NaN", "", causal, func(x *qkv) { x.q[5*s.Dim] = nan })
	spoil("visible/k-NaN", "", causal, func(x *qkv) { x.k[7*s.Dim] = nan })
	spoil("visible/k-Inf", "", causal, func(x *qkv) { x.k[7*s.Dim] = inf })
	spoil("visible/v-NaN", "", causal, func(x *qkv) { x.v[7*s.ValueDim+3] = nan })
	spoil("visible/v-Inf", "", causal, func(x *qkv) { x.v[7*s.ValueDim+3] = inf; x.v[9*s.ValueDim+3] = -inf })

	spoil("masked/clean", "", causal, func(*qkv) {})
	for _, bad := range []float32{nan, inf, -inf, 3e38} {
		spoil(fmt.Sprintf("masked/%g", bad), "masked/clean", causal, func(x *qkv) {
			fill(x.k[s.Queries*s.Dim:], bad)
			fill(x.v[s.Queries*s.ValueDim:], bad)
		})
	}
	spoil("masked/all", "", kernel.Options{Mask: kernel.Causal{Offset: []int{-s.Queries}}}, func(x *qkv) { fill(x.k, nan); fill(x.v, nan) })
}

// pieces: a causal sequence of two spans and a bit, whole and in pieces of any size, with a query or
// a few at a time.
func (l *oddList) pieces() {
	s := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 260, Keys: 4200, Dim: 6, ValueDim: 5}
	o := kernel.Options{Mask: kernel.Causal{}}
	l.attention("pieces/whole", "", s, o)
	for _, n := range []int{1, 3, 100, 128} {
		l.addSame(fmt.Sprintf("pieces/%d", n), "pieces/whole", func() [][]float32 {
			x := newQKV(s)
			out, lse := x.newOutput(), x.newLSE()
			// rows is the rows [from, to) of each head.
			rows := func(data []float32, heads, length, dim, from, to int) kernel.Tensor {
				return kernel.Strided(data[from*dim:], [4]int{1, heads, to - from, dim}, [3]int{0, length * dim, dim})
			}
			for from := 0; from < s.Queries; from += n {
				to := min(from+n, s.Queries)
				keys := s.Keys - s.Queries + to
				piece := o
				piece.LSE = make([]float32, s.Heads*(to-from))
				check(kernel.Attention(
					rows(out, s.Heads, s.Queries, s.ValueDim, from, to), rows(x.q, s.Heads, s.Queries, s.Dim, from, to),
					rows(x.k, s.KVHeads, s.Keys, s.Dim, 0, keys), rows(x.v, s.KVHeads, s.Keys, s.ValueDim, 0, keys), piece))
				for h := range s.Heads {
					copy(lse[h*s.Queries+from:], piece.LSE[h*(to-from):(h+1)*(to-from)])
				}
			}
			return [][]float32{out, lse}
		})
	}
}

// batches: sequences of unequal length alone, packed end to end, and padded with NaN on either side.
func (l *oddList) batches() {
	const heads, dim = 2, 7
	lengths := []int{1, 17, 0, 129, 200}
	type seq struct{ q, k, v []float32 } // [length, heads, dim]
	var sequences []seq
	cumulative := []int{0}
	total, longest := 0, 0
	for i, n := range lengths {
		seed := uint64(10 * (i + 1))
		sequences = append(sequences, seq{normal(seed, n*heads*dim), normal(seed+1, n*heads*dim), normal(seed+2, n*heads*dim)})
		total += n
		longest = max(longest, n)
		cumulative = append(cumulative, total)
	}
	for _, m := range []struct {
		name string
		mask kernel.Mask
	}{{"batch/", nil}, {"batch/causal/", kernel.Causal{}}} {
		l.add(m.name+"alone", func() (outs [][]float32) {
			for i, s := range sequences {
				out := make([]float32, len(s.q))
				view := func(x []float32) kernel.Tensor { return kernel.BSHD(x, 1, lengths[i], heads, dim) }
				check(kernel.Attention(view(out), view(s.q), view(s.k), view(s.v), kernel.Options{Mask: m.mask}))
				outs = append(outs, out)
			}
			return outs
		})
		l.addSame(m.name+"packed", m.name+"alone", func() [][]float32 {
			var q, k, v []float32
			for _, s := range sequences {
				q, k, v = append(q, s.q...), append(k, s.k...), append(v, s.v...)
			}
			out := make([]float32, len(q))
			view := func(x []float32) kernel.Tensor { return kernel.BSHD(x, 1, total, heads, dim) }
			check(kernel.Attention(view(out), view(q), view(k), view(v), kernel.Options{
				Mask: m.mask, Ragged: kernel.Ragged{CumQueries: cumulative}, Workers: 2}))
			return [][]float32{out}
		})
		// With rows added before or after a sequence's own, the offset that aligns its last query with
		// its last key changes, unless the queries' own numbers are given.
		padded := func(left, placed bool) func() [][]float32 {
			return func() (outs [][]float32) {
				const n = heads * dim
				q, k, v := make([]float32, 5*longest*n), make([]float32, 5*longest*n), make([]float32, 5*longest*n)
				fill(k, float32(math.NaN()))
				fill(v, float32(math.Inf(1)))
				o := kernel.Options{Ragged: kernel.Ragged{KeyCount: lengths}}
				offsets := make([]int, len(lengths))
				first := make([]int, len(lengths))
				for i, s := range sequences {
					if left {
						first[i] = longest - lengths[i]
						offsets[i] = -first[i]
					}
					at := (i*longest + first[i]) * n
					copy(q[at:], s.q)
					copy(k[at:], s.k)
					copy(v[at:], s.v)
				}
				if left {
					o.Ragged = kernel.Ragged{KeyStart: first}
				}
				if m.mask != nil {
					o.Mask = kernel.Causal{Offset: offsets}
				}
				if placed {
					o.Mask = m.mask
					o.Ragged = kernel.Ragged{KeyStart: first, KeyCount: lengths, QueryStart: first, QueryCount: lengths}
				}
				out := make([]float32, len(q))
				view := func(x []float32) kernel.Tensor { return kernel.BSHD(x, len(lengths), longest, heads, dim) }
				check(kernel.Attention(view(out), view(q), view(k), view(v), o))
				for i, s := range sequences {
					outs = append(outs, out[(i*longest+first[i])*n:][:len(s.q)])
				}
				return outs
			}
		}
		for _, side := range []string{"left", "right"} {
			l.addSame(m.name+"padded-"+side, m.name+"alone", padded(side == "left", false))
			l.addSame(m.name+"padded-"+side+"/queries", m.name+"alone", padded(side == "left", true))
		}
	}
}

// layouts: the same numbers lying differently in memory.
func (l *oddList) layouts() {
	const batch, heads, length, dim = 2, 3, 37, 9
	s := kernel.Shape{Batch: batch, Heads: heads, KVHeads: heads, Queries: length, Keys: length, Dim: dim, ValueDim: dim}
	o := kernel.Options{Mask: kernel.Causal{}}
	l.attention("layout/BHSD", "", s, o)

	// lay puts contiguous x where a tensor of the same shape with other strides has it; gather is the
	// way back.
	each := func(stride [3]int, f func(from, to int)) {
		from := 0
		for b := range batch {
			for h := range heads {
				for i := range length {
					f(from, b*stride[0]+h*stride[1]+i*stride[2])
					from += dim
				}
			}
		}
	}
	lay := func(dst, x []float32, stride [3]int) {
		each(stride, func(from, to int) { copy(dst[to:], x[from:from+dim]) })
	}
	gather := func(x []float32, stride [3]int) []float32 {
		y := make([]float32, batch*heads*length*dim)
		each(stride, func(from, to int) { copy(y[from:from+dim], x[to:]) })
		return y
	}
	shape := [4]int{batch, heads, length, dim}

	l.addSame("layout/BSHD", "layout/BHSD", func() [][]float32 {
		x := newQKV(s)
		stride := kernel.BSHD[float32](nil, batch, length, heads, dim).Stride
		view := func(x []float32) kernel.Tensor {
			y := make([]float32, len(x))
			lay(y, x, stride)
			return kernel.BSHD(y, batch, length, heads, dim)
		}
		out := x.newOutput()
		o := o
		o.LSE = x.newLSE()
		check(kernel.Attention(kernel.BSHD(out, batch, length, heads, dim), view(x.q), view(x.k), view(x.v), o))
		return [][]float32{gather(out, stride), o.LSE}
	})
	l.addSame("layout/fused-in-place", "layout/BHSD", func() [][]float32 {
		x := newQKV(s)
		const width = 3*heads*dim + 1 // of a row of Q, K, V and one more number
		stride := [3]int{length * width, dim, width}
		fused := make([]float32, batch*length*width)
		part := func(i int, x []float32) kernel.Tensor {
			lay(fused[i*heads*dim:], x, stride)
			return kernel.Strided(fused[i*heads*dim:], shape, stride)
		}
		o := o
		o.LSE = x.newLSE()
		q, k, v := part(0, x.q), part(1, x.k), part(2, x.v)
		check(kernel.Attention(q, q, k, v, o))
		return [][]float32{gather(fused, stride), o.LSE}
	})

	l.add("layout/copied-keys", func() [][]float32 {
		x := newQKV(s)
		copy(x.k[len(x.k)/2:], x.k[:len(x.k)/2])
		copy(x.v[len(x.v)/2:], x.v[:len(x.v)/2])
		return x.attend(o)
	})
	l.addSame("layout/broadcast-keys", "layout/copied-keys", func() [][]float32 {
		x := newQKV(s)
		out := x.newOutput()
		o := o
		o.LSE = x.newLSE()
		stride := [3]int{0, length * dim, dim}
		check(kernel.Attention(x.view(out, heads, length, dim), x.Q(), kernel.Strided(x.k, shape, stride), kernel.Strided(x.v, shape, stride), o))
		return [][]float32{out, o.LSE}
	})
}

// slices: the functions on slices.
func (l *oddList) slices() {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))

	dots := func(lengths ...int) func() [][]float32 {
		return func() [][]float32 {
			var dots []float32
			for _, n := range lengths {
				dots = append(dots, kernel.Dot(normal(uint64(n), n), normal(uint64(n)+1, n)))
			}
			return [][]float32{dots}
		}
	}
	var upTo200 []int
	for n := range 201 {
		upTo200 = append(upTo200, n)
	}
	l.add("dot/0-to-200", dots(upTo200...))
	l.add("dot/long", dots(1023, 4096, 32767, 32768, 32769, 70000))
	l.add("dot/values", func() [][]float32 {
		var dots []float32
		for _, bad := range []float32{nan, inf, -inf, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, 3e38} {
			x, y := normal(1, 77), normal(2, 77)
			for _, i := range []int{3, 70} {
				x[i] = bad
				dots = append(dots, kernel.Dot(x, y), kernel.Dot(x, x))
			}
			fill(x, bad)
			fill(y, 0)
			dots = append(dots, kernel.Dot(x, y))
		}
		return [][]float32{dots}
	})

	l.add("exp/sweep", func() [][]float32 {
		var x []float32
		for bits := uint64(0); bits < 1<<32; bits += 99991 {
			x = append(x, math.Float32frombits(uint32(bits)))
		}
		kernel.Exp(x, x)
		return [][]float32{x}
	})
	l.add("exp/edges", func() [][]float32 {
		var x []float32
		for _, edge := range []float32{0, 1, -1, 88.72283, -87.33654, -103.97208, -126, 126, inf} {
			bits := math.Float32bits(edge)
			for d := range uint32(41) {
				x = append(x, math.Float32frombits(bits+d-20))
			}
		}
		y := make([]float32, len(x))
		kernel.Exp(y, x)
		return [][]float32{y}
	})

	all := func(x []float32) [][]float32 {
		p, log := make([]float32, len(x)), make([]float32, len(x))
		kernel.Softmax(p, x)
		kernel.LogSoftmax(log, x)
		return [][]float32{p, log, {kernel.LogSumExp(x)}}
	}
	for _, n := range []int{0, 1, 17, 1024, 1025, 70000} {
		name := fmt.Sprintf("softmax/%d", n)
		l.add(name, func() [][]float32 { return all(normal(1, n)) })
		l.addSame(name+"/in-place", name, func() [][]float32 {
			p, log := normal(1, n), normal(1, n)
			sum := kernel.LogSumExp(p)
			kernel.Softmax(p, p)
			kernel.LogSoftmax(log, log)
			return [][]float32{p, log, {sum}}
		})
	}
	for _, bad := range []float32{nan, inf, -inf, 3e38, -3e38, 1e-40} {
		l.add(fmt.Sprintf("softmax/one-%g", bad), func() [][]float32 {
			x := normal(1, 2100)
			x[1500] = bad
			return all(x)
		})
		l.add(fmt.Sprintf("softmax/all-%g", bad), func() [][]float32 {
			x := make([]float32, 1030)
			fill(x, bad)
			return all(x)
		})
	}
	l.add("softmax/many-blocks", func() [][]float32 { return all(normal(1, 1<<20+5)) })
	l.add("softmax/blocks-alike", func() [][]float32 { return all(slices.Repeat(normal(1, 1024), 1<<10)) })
	l.add("softmax/wide", func() [][]float32 {
		x := normal(1, 3000)
		for i := range x {
			x[i] *= 64
		}
		return all(x)
	})
}

func fill(x []float32, value float32) {
	for i := range x {
		x[i] = value
	}
}
