package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
	"github.com/stretchr/testify/require"
)

// TestSameBits runs problems of all kinds in guarded memory, strided, at every level. The result has the bits of the
// portable code over the same numbers, dense, and nothing else is touched.
func TestSameBits(t *testing.T) {
	type variant struct {
		shape kernel.Shape
		opts  kernel.Options
	}
	var variants []variant
	add := func(queries, keys, dim, valueDim int, opts kernel.Options) {
		variants = append(variants, variant{kernel.Shape{
			Batch: 1, Heads: 1, KVHeads: 1, Queries: queries, Keys: keys, Dim: dim, ValueDim: valueDim,
		}, opts})
	}
	causal := kernel.Options{Mask: kernel.Causal{}}
	for d := 1; d <= 130; d++ {
		add(3, 35, d, 131-d, kernel.Options{})
	}
	add(13, 130, 512, 512, causal)
	add(2, 2050, 512, 3, causal)
	small, large := []int{0, 1, 127, 128, 129}, []int{2047, 2048, 2049, 2050, 4097}
	if race || testing.Short() {
		small, large = []int{0, 1, 129}, []int{2049}
	}
	for _, s := range small {
		for _, n := range append(small, large...) {
			add(s, n, 3, 2, kernel.Options{})
			add(s, n, 2, 3, causal)
			add(n, s, 3, 2, kernel.Options{})
			add(n, s, 2, 3, causal)
		}
	}
	add(large[0], large[0], 2, 2, causal)
	for seed := range few(400) {
		s, o := drawShape(rand.New(rand.NewPCG(uint64(seed), 2)), 1<<21)
		variants = append(variants, variant{s, o})
	}

	want := map[int]result{}
	fuzz.Levels(t, func(t *testing.T, level isa.Level) {
		arena := newArena(t)
		for seed, x := range variants {
			p := arena.guard(fuzz.NewSource(uint64(seed), 1), x.shape, x.opts)
			if _, ok := want[seed]; !ok {
				restore := isa.Use(isa.Go)
				want[seed] = p.problem.copy().run(t, 1)
				restore()
			}
			requireSame(t, want[seed], p.run(t), "seed ", seed, ", ", p.problem, "\n", p.description)
		}
	})
}

// TestManyExponentials: the last bit of a coefficient shows in one of 100 000 results.
func TestManyExponentials(t *testing.T) {
	p := normalProblem(15, kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: few(1000), Keys: 2047, Dim: 1, ValueDim: 1}, kernel.Options{})
	x := normal(rand.New(rand.NewPCG(15, 0)), few(1<<20))
	for i := range x {
		x[i] *= 20
	}
	run := func(level isa.Level) (attention result, exp, softmax []float32) {
		defer isa.Use(level)()
		exp, softmax = make([]float32, len(x)), make([]float32, len(x))
		kernel.Exp(exp, x)
		kernel.Softmax(softmax, x)
		return p.run(t, 1), exp, softmax
	}
	attention, exp, softmax := run(isa.Go)
	fuzz.Levels(t, func(t *testing.T, level isa.Level) {
		a, e, s := run(level)
		requireSame(t, attention, a)
		requireSameBits(t, exp, e, "Exp")
		requireSameBits(t, softmax, s, "Softmax")
	})
}

// TestAgainstOracle bounds the error against float64. With u = 2⁻²⁴ a score is off by some u·Σ|q·k|·scale, which
// the exponential turns into a relative error; sums add a few u to it. A weight below 2⁻¹²⁶ of the largest, which may
// be a sink's, is lost.
func TestAgainstOracle(t *testing.T) {
	worst := 0.0
	for seed := range few(100) {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		p := drawProblem(r, 1<<19)
		shape := p.shape()
		if shape.Queries == 0 {
			continue
		}
		got, exact, scale := p.run(t, 1), ref.Attention(p.oracle()), magnitudes(p)
		lost := 0x1p-126 * float64(shape.Keys) * largest(p.v.data)
		for i, want := range exact.LSE {
			bound := 0x1p-24 * (4*scale.scores[i] + 4*math.Abs(want) + 4)
			if math.IsInf(want, -1) {
				require.Equal(t, math.Inf(-1), float64(got.lse[i]), "LSE %d of seed %d, %v", i, seed, p)
				bound = 0
			} else {
				worst = math.Max(worst, math.Abs(float64(got.lse[i])-want)/bound)
				require.InDelta(t, want, got.lse[i], bound, "LSE %d of seed %d, %v", i, seed, p)
			}
		}
		for i, want := range exact.O {
			bound := 0x1p-24 * (4*scale.scores[i/shape.ValueDim] + 8) * scale.values[i]
			if bound > 0 {
				worst = math.Max(worst, math.Abs(float64(got.out[i])-want)/(bound+lost))
			}
			require.InDelta(t, want, got.out[i], bound+lost, "element %d of seed %d, %v", i, seed, p)
		}
	}
	t.Logf("the largest error is %.2f of its bound", worst)
}

// largest is the largest magnitude.
func largest(x []float32) (most float64) {
	for _, v := range x {
		most = math.Max(most, math.Abs(float64(v)))
	}
	return most
}

// scale is what errors are measured with.
type scale struct {
	scores []float64 // of each row: the largest Σ|q·k|·scale that it sees
	values []float64 // of each element: Σ P·|v|
}

func magnitudes(p problem) scale {
	q := p.oracle()
	positive := func(x ref.Tensor) ref.Tensor {
		return func(b, h, s, d int) float64 { return math.Abs(x(b, h, s, d)) }
	}
	q.V = positive(q.V)
	s := scale{values: ref.Attention(q).O}
	magnitude(&q)
	q.Q, q.K, q.Scale, q.Scores = positive(q.Q), positive(q.K), math.Abs(q.Scale), true
	final := ref.Attention(q).Final
	p.eachRow(func(row, _, _, _ int) {
		most := 0.0
		for _, x := range final[row*q.N : (row+1)*q.N] {
			most = math.Max(most, x)
		}
		s.scores = append(s.scores, most)
	})
	return s
}

// promised are problems that the promises are tested on: several tiles, blocks and spans; all kinds of sequences
// and masks.
func promised(r *rand.Rand) []problem {
	shape := func(b, h, kv, l, n, d, dv int) kernel.Shape {
		return kernel.Shape{Batch: b, Heads: h, KVHeads: kv, Queries: l, Keys: n, Dim: d, ValueDim: dv}
	}
	all := []problem{
		normalProblem(1, shape(2, 4, 2, 110, 150, 9, 20), kernel.Options{}),
		normalProblem(2, shape(1, 2, 2, 130, 300, 16, 3), kernel.Options{Mask: kernel.Causal{}}),
		normalProblem(3, shape(1, 3, 1, 40, 300, 5, 7), kernel.Options{Mask: kernel.Causal{Align: kernel.TopLeft}}),
		normalProblem(4, shape(1, 1, 1, 20, 2200, 4, 4), kernel.Options{Mask: kernel.Causal{}}),
		normalProblem(5, shape(3, 2, 1, 60, 140, 4, 6), kernel.Options{
			Mask: kernel.Causal{}, Ragged: kernel.Ragged{KeyStart: []int{0, 13, 140}, KeyCount: []int{60, 127, 0}}}),
		normalProblem(10, shape(3, 2, 1, 140, 140, 4, 6), kernel.Options{Mask: kernel.Causal{}, Ragged: kernel.Ragged{
			KeyStart: []int{0, 13, 100}, KeyCount: []int{60, 127, 0}, QueryStart: []int{0, 13,
				100}, QueryCount: []int{60, 127, 0}}}),
		normalProblem(6, shape(2, 2, 2, 9, 400, 4, 6), kernel.Options{
			Mask: kernel.Causal{Offset: []int{-3, 200}}, Ragged: kernel.Ragged{KeyStart: []int{130, 1}}}),
		normalProblem(7, shape(1, 2, 1, 260, 260, 8, 8), kernel.Options{
			Mask: kernel.Causal{}, Ragged: kernel.Ragged{CumQueries: []int{0, 1, 1, 130, 260}}}),
		normalProblem(8, shape(1, 2, 2, 50, 170, 8, 8), kernel.Options{
			Ragged: kernel.Ragged{CumQueries: []int{0, 20, 50, 50}, CumKeys: []int{0, 0, 140, 170}}}),
		normalProblem(9, shape(1, 2, 2, 30, 100, 8, 8), kernel.Options{KeyOffset: 2048, Mask: kernel.Causal{}}),
	}
	for range few(20) {
		all = append(all, drawProblem(r, 1<<19))
	}
	return all
}

// eachPromised runs f on every problem above, at every level.
func eachPromised(t *testing.T, f func(t *testing.T, p problem)) {
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for i, p := range promised(rand.New(rand.NewPCG(0, 4))) {
			if !t.Run(fmt.Sprint(i), func(t *testing.T) { f(t, p) }) {
				t.Log(p)
			}
		}
	})
}

func TestWorkersDoNotMatter(t *testing.T) {
	eachPromised(t, func(t *testing.T, p problem) {
		want := p.run(t, 1)
		for _, workers := range []int{2, 3, 4, 0} {
			requireSame(t, want, p.run(t, workers), workers, " workers")
		}
	})
}

// TestPlan: a plan gives what a call gives, every time it is run, after it was something else, and as a clone.
func TestPlan(t *testing.T) {
	reused := new(kernel.Plan)
	eachPromised(t, func(t *testing.T, p problem) {
		want := p.run(t, 1)
		s := p.shape()
		got := result{make([]float32, len(want.out)), make([]float32, len(want.lse))}
		p.opts = p.withBias()
		p.opts.LSE, p.opts.Workers = got.lse, 2
		check := func(plan *kernel.Plan, what string) {
			clear(got.out)
			clear(got.lse)
			out := kernel.BHSD(got.out, s.Batch, s.Heads, s.Queries, s.ValueDim)
			require.NoError(t, plan.Run(out, p.q.tensor(), p.k.tensor(), p.v.tensor()))
			requireSame(t, want, got, what)
		}
		plan, err := kernel.NewAttention(s, p.opts)
		require.NoError(t, err)
		check(plan, "a plan")
		check(plan, "a plan, again")
		check(plan.Clone(), "a clone")
		require.NoError(t, reused.Reset(s, p.opts))
		check(reused, "a plan that was another")
	})
}

// TestSequencesAlone: a sequence of a packed or padded batch has the bits that it has alone.
func TestSequencesAlone(t *testing.T) {
	eachPromised(t, func(t *testing.T, p problem) {
		shape, whole := p.shape(), p.run(t, 1)
		for n, s := range p.sequences() {
			alone := p.alone(s)
			part := alone.run(t, 1)
			alone.eachRow(func(row, _, h, i int) {
				at := (s.batch*shape.Heads+h)*shape.Queries + s.query0 + i
				requireSame(t, part.row(row), whole.row(at), "sequence ", n, ", head ", h, ", query ", i)
			})
		}
	})
}

// TestQueriesAlone: queries attended a few at a time, or one, have the bits of all at once: here from a
// cache that holds the keys up to the last of them, aligned bottom right.
func TestQueriesAlone(t *testing.T) {
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for _, c := range []struct {
			queries, keys int
			chunks        []int // how many queries at a time, again and again
		}{
			{140, 140, []int{1}},
			{300, 300, []int{97, 1, 128, 2, 3}},
			{20, 2060, []int{1}},
			{20, 4100, []int{3, 2, 1}},
		} {
			shape := kernel.Shape{Batch: 2, Heads: 4, KVHeads: 2, Queries: c.queries, Keys: c.keys, Dim: 6, ValueDim: 5}
			p := normalProblem(10, shape, kernel.Options{Mask: kernel.Causal{}})
			whole := p.run(t, 1)
			past := c.keys - c.queries
			for from, n := 0, 0; from < c.queries; n++ {
				to := min(from+c.chunks[n%len(c.chunks)], c.queries)
				for b := range shape.Batch {
					chunk := problem{q: p.q.part(b, from, to), k: p.k.part(b, 0, past+to), v: p.v.part(b, 0, past+to), opts: p.opts}
					got := chunk.run(t, 1)
					chunk.eachRow(func(row, _, h, i int) {
						at := (b*shape.Heads+h)*shape.Queries + from + i
						requireSame(t, whole.row(at), got.row(row), "queries ", from, " to ", to, ", head ", h)
					})
				}
				from = to
			}
		}
	})
}

// TestStrides: the same numbers give the same bits wherever they lie, output included.
func TestStrides(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 6, KVHeads: 3, Queries: 30, Keys: 140, Dim: 10, ValueDim: 19}
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		arena := newArena(t)
		for _, in := range layouts {
			for _, out := range layouts[:4] {
				p := normalProblem(11, shape, kernel.Options{Mask: kernel.Causal{}})
				s := rand.New(rand.NewPCG(11, 0))
				for name, x := range []*array{&p.q, &p.k, &p.v} {
					a, b := arena.place(fmt.Sprint(name), x.shape, in, fuzz.Tail, 3)
					b.Fill(func() float32 { return float32(s.NormFloat64()) })
					*x = a
				}
				o, b := arena.place("out", [4]int{shape.Batch, shape.Heads, shape.Queries, shape.ValueDim}, out, 0, 5)
				b.Seal()
				require.True(t, out.writable)
				require.NoError(t, kernel.Attention(o.tensor(), p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts))
				require.NoError(t, b.Intact())
				requireSameBits(t, p.copy().run(t, 1).out, o.copy().data, in.name, " to ", out.name)
			}
		}
	})
}

// poison is what may stand where nobody looks.
var poison = []float32{nan, infinity, -infinity, 1e38, -math.MaxFloat32, 0}

// TestMaskedIsAbsent puts poison in one key or value, or all behind it, and wants the bits of every row that does
// not see it unchanged. Of rows that do, a NaN among the scores makes all NaN, and one among the values its column.
func TestMaskedIsAbsent(t *testing.T) {
	eachPromised(t, func(t *testing.T, p problem) {
		shape := p.shape()
		if shape.Keys == 0 || shape.Queries == 0 {
			return
		}
		clean, sees := p.run(t, 1), p.sees()
		r := rand.New(rand.NewPCG(uint64(shape.Keys), 5))
		for _, bad := range poison {
			for _, what := range []string{"key", "value", "both"} {
				dirty := p.copy()
				first, kvHead := r.IntN(shape.Keys), r.IntN(shape.KVHeads)
				last := first
				if r.IntN(2) == 0 {
					last = shape.Keys - 1
				}
				column := r.IntN(shape.ValueDim)
				for b := range shape.Batch {
					for j := first; j <= last; j++ {
						if what != "value" {
							dirty.k.row(b, kvHead, j)[r.IntN(shape.Dim)] = bad
						}
						if what != "key" {
							dirty.v.row(b, kvHead, j)[column] = bad
						}
					}
				}
				got := dirty.run(t, 1)
				p.eachRow(func(row, b, h, i int) {
					seen := false
					for j := first; j <= last; j++ {
						seen = seen || sees(b, h, i, j)
					}
					was, is := clean.row(row), got.row(row)
					name := fmt.Sprintf("%v in %s %d to %d, head %d; query %d of head %d in batch %d", bad, what, first, last, kvHead, i, h, b)
					switch {
					case !seen || h/(shape.Heads/shape.KVHeads) != kvHead:
						requireSame(t, was, is, name)
					case bad == bad:
					case what == "value":
						want := append([]float32(nil), was.out...)
						want[column] = nan
						requireSame(t, result{want, was.lse}, is, name)
					default:
						requireSame(t, result{repeat(nan, shape.ValueDim), []float32{nan}}, is, name)
					}
				})
			}
		}
	})
}

func repeat(x float32, n int) []float32 {
	all := make([]float32, n)
	for i := range all {
		all[i] = x
	}
	return all
}

// TestRowsThatSeeNothing are +0 and -Inf.
func TestRowsThatSeeNothing(t *testing.T) {
	some := 0
	eachPromised(t, func(t *testing.T, p problem) {
		got, sees := p.run(t, 1), p.sees()
		p.eachRow(func(row, b, h, i int) {
			for j := range p.shape().Keys {
				if sees(b, h, i, j) {
					return
				}
			}
			some++
			want := result{repeat(0, p.shape().ValueDim), []float32{-infinity}}
			if p.opts.Sinks != nil && p.opts.Sinks[h] > -infinity {
				want.lse = got.row(row).lse
				require.InDelta(t, p.opts.Sinks[h], want.lse[0], 1e-6)
			}
			requireSame(t, want, got.row(row), row)
		})
	})
	require.NotZero(t, some)
}

// TestSpecialScores has one query with D = 1, so that q·k·scale is the score.
func TestSpecialScores(t *testing.T) {
	tiny := math.Float32frombits(1)
	negZero := float32(math.Copysign(0, -1))
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for _, c := range []struct {
			name     string
			k, v     []float32
			out, lse float32
		}{
			{"no keys", nil, nil, 0, -infinity},
			{"one key", []float32{3}, []float32{5}, 5, 3},
			{"all -Inf", []float32{-infinity, -infinity}, []float32{1, 2}, 0, -infinity},
			{"all -Inf, and values too", []float32{-infinity, -infinity}, []float32{-infinity, nan}, 0, -infinity},
			{"-Inf has no weight", []float32{-infinity, 1}, []float32{1, 2}, 2, 1},
			{"one NaN", []float32{1, nan}, []float32{1, 2}, nan, nan},
			{"all NaN", []float32{nan, nan}, []float32{1, 2}, nan, nan},
			{"NaN and -Inf", []float32{-infinity, nan}, []float32{1, 2}, nan, nan},
			{"+Inf", []float32{1, infinity}, []float32{1, 2}, nan, nan},
			{"value NaN", []float32{1, 1}, []float32{nan, 2}, nan, 1 + math.Ln2},
			{"value Inf", []float32{0, 0}, []float32{infinity, 2}, infinity, math.Ln2},
			{"values ±Inf", []float32{0, 0}, []float32{infinity, -infinity}, nan, math.Ln2},
			{"value Inf, weight 0", []float32{0, -1000}, []float32{2, infinity}, nan, 0},
			{"values -0", []float32{0, 0}, []float32{negZero, negZero}, 0, math.Ln2},
			{"underflow to -0", []float32{0, 0}, []float32{-tiny, 0}, 0, math.Ln2},
		} {
			// Side by side, in two blocks, and in two spans.
			for _, distance := range []int{1, 128, 2049} {
				n := len(c.k)
				if n == 2 {
					n = distance + 1
				}
				k, v := repeat(-infinity, n), make([]float32, n)
				for x := range c.k {
					k[x*distance], v[x*distance] = c.k[x], c.v[x]
				}
				p := problem{q: dense([]float32{1}, 1, 1, 1, 1), k: dense(k, 1, 1, n, 1), v: dense(v, 1, 1, n, 1)}
				got := p.run(t, 1)
				requireSameBits(t, []float32{c.out}, got.out, c.name, ", distance ", distance)
				if lse := float64(c.lse); lse-lse == 0 {
					require.InDelta(t, lse, got.lse[0], 3e-7, c.name)
				} else {
					requireSameBits(t, []float32{c.lse}, got.lse, c.name, ", distance ", distance)
				}
			}
		}
	})
}

// TestNeverMinusZero: neither from values that are -0 nor from results that underflow.
func TestNeverMinusZero(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 14, Keys: 2100, Dim: 4, ValueDim: 18}
	p := normalProblem(12, shape, kernel.Options{Mask: kernel.Causal{}})
	for i := range p.v.data {
		p.v.data[i] = -math.Float32frombits(uint32(i % 3))
	}
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		zeros := 0
		for _, x := range p.run(t, 1).out {
			if x == 0 {
				zeros++
				require.Zero(t, math.Float32bits(x))
			}
		}
		require.NotZero(t, zeros)
	})
}

// TestKeyOffset: a piece of a longer sequence is what the same keys are alone, masks apart, which count from the
// sequence's start; and the pieces' results, weighed by log-sum-exp, are the whole.
func TestKeyOffset(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 7, Keys: 5000, Dim: 8, ValueDim: 3}
	p := normalProblem(13, shape, kernel.Options{Mask: kernel.Causal{Offset: []int{4500}}})
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		whole := p.run(t, 1)
		var pieces []result
		for from := 0; from < shape.Keys; from += 2048 {
			to := min(from+2048, shape.Keys)
			piece := problem{q: p.q, k: p.k.part(0, from, to), v: p.v.part(0, from, to), opts: p.opts}
			piece.opts.KeyOffset = from
			pieces = append(pieces, piece.run(t, 1))
			alone := piece
			alone.opts = kernel.Options{Mask: kernel.Causal{Offset: []int{4500 - from}}}
			requireSame(t, alone.run(t, 1), pieces[len(pieces)-1], "keys from ", from)
		}
		p.eachRow(func(row, _, _, _ int) {
			want := whole.row(row)
			for c := range want.out {
				sum := 0.0
				for _, piece := range pieces {
					r := piece.row(row)
					sum += math.Exp(float64(r.lse[0])-float64(want.lse[0])) * float64(r.out[c])
				}
				require.InDelta(t, want.out[c], sum, 2e-6)
			}
		})
	})
}

// TestFarOffsets: an offset that shows everything or nothing may be as large as it likes, or is refused.
func TestFarOffsets(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 3, Keys: 140, Dim: 2, ValueDim: 2}
	all := normalProblem(14, shape, kernel.Options{})
	none := result{make([]float32, 6), repeat(-infinity, 3)}
	for _, offset := range []int{1 << 20, 1 << 30, math.MaxInt - 140, math.MaxInt - 1, math.MaxInt} {
		for _, sign := range []int{1, -1} {
			p, want := all, all.run(t, 1)
			if sign < 0 {
				want = none
			}
			got := result{make([]float32, 6), make([]float32, 3)}
			p.opts = kernel.Options{Mask: kernel.Causal{Offset: []int{sign * offset}}, LSE: got.lse}
			err := kernel.Attention(kernel.BHSD(got.out, 1, 1, 3, 2), p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts)
			if err != nil {
				require.ErrorIs(t, err, kernel.ErrOption)
				continue
			}
			requireSame(t, want, got, "offset ", sign*offset)
		}
	}
}
