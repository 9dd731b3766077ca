package main

import (
	"fmt"
	"math"
	"sync"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// job is a case with its inputs in memory.
type job struct {
	run    func(calls int)    // what is timed; before the first call there is no plan
	output func() [][]float32 // what the last call computed
	// maxErr is the output's largest error against ref: absolute for attention, relative for exp and
	// softmax, and in units of Σ|x·y| for dot.
	maxErr func() float64

	workers  int
	flops    func() float64  // useful ones in a call; nil where there is no telling
	elements int             // in a call, where time is told by the element
	bytes    int             // that a call must read, where memory is the limit
	read     func(calls int) // reads as many, and does nothing else

	inputs []inputs // of a cold case, the first those of run; nil where calls take the same again
	before func()   // what comes before each call that is timed, without being timed; or nil
	calls  int      // in a round; 0 is as many as fill a slice of time
}

// attention is attention with a plan.
type attention struct {
	kernel.Shape
	mask   pattern
	opts   kernel.Options // but mask and workers
	change string         // what opts does to scores
}

func (a attention) String() string {
	heads, length, dim := fmt.Sprint("H", a.Heads), fmt.Sprint("S", a.Keys), fmt.Sprint("D", a.Dim)
	if a.KVHeads != a.Heads {
		heads = fmt.Sprintf("Hq%d Hkv%d", a.Heads, a.KVHeads)
	}
	if a.Queries != a.Keys {
		length = fmt.Sprintf("Sq%d Skv%d", a.Queries, a.Keys)
	}
	if a.ValueDim != a.Dim {
		dim += fmt.Sprint(" Dv", a.ValueDim)
	}
	change := ""
	if a.change != "" {
		change = " " + a.change
	}
	return fmt.Sprintf("attention B%d %s %s %s%s%s", a.Batch, heads, length, dim, a.mask.name, change)
}

func (a attention) prepare(workers int) *job {
	x := newQKV(a.Shape)
	out := x.newOutput()
	plan := sync.OnceValue(func() *kernel.Plan {
		opts := a.opts
		opts.Mask, opts.Workers = a.mask.kernel, workers
		return must(kernel.NewAttention(a.Shape, opts))
	})
	return &job{
		run: func(calls int) {
			p := plan()
			for range calls {
				check(p.Run(x.view(out, a.Heads, a.Queries, a.ValueDim), x.Q(), x.K(), x.V()))
			}
		},
		output:  func() [][]float32 { return [][]float32{out} },
		maxErr:  func() float64 { return x.maxErr(a.mask.ref, a.opts, out) },
		workers: workers,
		flops:   a.flops,
	}
}

// flops counts 2·(Dim+ValueDim) for every visible pair of query and key.
func (a attention) flops() float64 {
	pairs := a.Batch * a.Heads * a.Queries * a.Keys
	if seen := a.mask.ref; seen != nil {
		pairs = 0
		for b := range a.Batch {
			for h := range a.Heads {
				for i := range a.Queries {
					for j := range a.Keys {
						if seen(b, h, i, j) {
							pairs++
						}
					}
				}
			}
		}
	}
	return 2 * float64(a.Dim+a.ValueDim) * float64(pairs)
}

// maxErr compares out with ref on a sample of rows.
func (x *qkv) maxErr(seen ref.Mask, o kernel.Options, out []float32) float64 {
	p := ref.Problem{
		Batch: x.Batch, Hq: x.Heads, Hkv: x.KVHeads, L: x.Queries, N: x.Keys, D: x.Dim, Dv: x.ValueDim,
		Q: ref.BHSD(x.q, x.Heads, x.Queries, x.Dim),
		K: ref.BHSD(x.k, x.KVHeads, x.Keys, x.Dim),
		V: ref.BHSD(x.v, x.KVHeads, x.Keys, x.ValueDim), Visible: seen,
		Softcap: o.Softcap,
	}
	if o.Bias.Shape != [4]int{} {
		bias := normal(9, x.Queries*x.Keys)
		p.Bias = func(_, _, i, j int) float64 { return float64(bias[i*x.Keys+j]) }
	}
	for _, slope := range o.ALiBi.Slopes {
		p.Slopes = append(p.Slopes, float64(slope))
	}
	worst := 0.0
	for _, row := range sample(x.Batch * x.Heads * x.Queries) {
		b, h, i := row/x.Queries/x.Heads, row/x.Queries%x.Heads, row%x.Queries
		want, _ := ref.Partial(p, b, h, i, 0, x.Keys).Finish()
		worst = max(worst, maxErr(out[row*x.ValueDim:][:x.ValueDim], want, func(int) float64 { return 1 }))
	}
	return worst
}

// sample is 64 numbers below n, the first and the last among them, or all if there are no more.
func sample(n int) []int {
	var numbers []int
	if n <= 64 {
		for i := range n {
			numbers = append(numbers, i)
		}
		return numbers
	}
	numbers = []int{0, n - 1}
	for random := source(99); len(numbers) < 64; {
		numbers = append(numbers, int(random.next()%uint64(n)))
	}
	return numbers
}

// exp is e^x of so many elements.
type exp int

func (n exp) String() string { return fmt.Sprintf("exp n=%d", int(n)) }

func (n exp) prepare(int) *job { return mapping(int(n), kernel.Exp, ref.Exp) }

// softmax is a softmax over so many elements.
type softmax int

func (n softmax) String() string { return fmt.Sprintf("softmax n=%d", int(n)) }

func (n softmax) prepare(int) *job { return mapping(int(n), kernel.Softmax, ref.Softmax) }

// mapping is a job that takes a slice to a slice.
func mapping(n int, f func(dst, src []float32), reference func([]float32) []float64) *job {
	dst, src := make([]float32, n), normal(1, n)
	return &job{
		run: func(calls int) {
			for range calls {
				f(dst, src)
			}
		},
		output: func() [][]float32 { return [][]float32{dst} },
		maxErr: func() float64 {
			want := reference(src)
			return maxErr(dst, want, func(i int) float64 { return want[i] })
		},
		workers:  1,
		elements: n,
	}
}

// maxErr is the largest |got-want|/scale. A NaN counts as the largest error there is.
func maxErr(got []float32, want []float64, scale func(i int) float64) float64 {
	worst := 0.0
	for i, g := range got {
		err := math.Abs(float64(g)-want[i]) / math.Abs(scale(i))
		if !(err <= math.MaxFloat64) {
			err = math.MaxFloat64 // which JSON can say
		}
		worst = max(worst, err)
	}
	return worst
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
