package ref

import (
	"fmt"
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"
)

// weighing is one query over as many keys as there are scores, with D = 1, so that q·k·scale is the
// score: softmax of logarithms is simple fractions.
func weighing(scores, values []float64) Problem {
	return Problem{
		L: 1, N: len(scores), D: 1,
		Q: BHSD([]float64{1}, 1, 1, 1), K: BHSD(scores, 1, len(scores), 1), V: BHSD(values, 1, len(values), 1),
		Scores: true,
	}
}

var log2, log3, log4 = math.Ln2, math.Log(3), math.Log(4)

func TestAttention(t *testing.T) {
	for _, c := range []struct {
		name           string
		scores, values []float64
		change         func(p *Problem)
		O, LSE         float64
	}{
		{"1/4 and 3/4", []float64{0, log3}, []float64{4, 8}, nil, 7, log4},
		{"far from 0", []float64{-900, -900 + log3}, []float64{4, 8}, nil, 7, -900 + log4},
		{"scale", []float64{0, 2 * log3}, []float64{4, 8}, func(p *Problem) { p.Scale = 0.5 }, 7, log4},
		{"no keys", nil, nil, nil, 0, negInf},
		{"one key seen", []float64{nan, log2, nan}, []float64{nan, 5, inf},
			func(p *Problem) { p.Visible = Window(0, 0, 1) }, 5, log2},
		{"nothing seen", []float64{nan, nan}, []float64{nan, inf}, func(p *Problem) { p.Visible = Causal(-1) }, 0, negInf},
		{"softcap: tanh(log 3) = 4/5", []float64{2 * log3, 1.6}, []float64{3, 5},
			func(p *Problem) {
				p.Softcap = 2
				p.Bias = func(_, _, _, j int) float64 { return []float64{0, negInf}[j] }
			}, 3, 1.6},
		{"bias", []float64{0, 0}, []float64{4, 8},
			func(p *Problem) { p.Bias = func(_, _, _, j int) float64 { return float64(j) * log3 } }, 7, log4},
		{"bias -Inf is a mask", []float64{log2, nan}, []float64{5, nan},
			func(p *Problem) { p.Bias = func(_, _, _, j int) float64 { return []float64{0, negInf}[j] } }, 5, log2},
		{"lowest bias averages", []float64{1, 2}, []float64{4, 8},
			func(p *Problem) { p.Bias = func(_, _, _, _ int) float64 { return -math.MaxFloat32 } }, 6, LowestScore},
		{"scores below the lowest are equal", []float64{-1e39, -2e39}, []float64{4, 8},
			func(p *Problem) { p.Slopes = []float64{0} }, 6, LowestScore},
		{"ALiBi: distances -1, 0", []float64{0, 0}, []float64{3, 9},
			func(p *Problem) { p.Slopes, p.SlopeOffset = []float64{log2}, 1 }, 7, math.Log(1.5)},
		{"sink", []float64{0, log3}, []float64{4, 8}, func(p *Problem) { p.Sinks = []float64{log4} }, 3.5, math.Log(8)},
		{"sink above all", []float64{0, 0}, []float64{4, 8}, func(p *Problem) { p.Sinks = []float64{math.Log(6)} }, 1.5, math.Log(8)},
		{"sink and no keys", nil, nil, func(p *Problem) { p.Sinks = []float64{7} }, 0, 7},
		{"sink of -Inf", []float64{0, log3}, []float64{4, 8}, func(p *Problem) { p.Sinks = []float64{negInf} }, 7, log4},
		{"sink of -Inf and no keys", nil, nil, func(p *Problem) { p.Sinks = []float64{negInf} }, 0, negInf},
		{"score function", []float64{9, 9}, []float64{4, 8},
			func(p *Problem) {
				p.ScoreMod = func(_, _, _, j int, s float64) float64 { return s - 9 + float64(j)*log3 }
			}, 7, log4},
		// tanh first: 2·4/5 = 1.6; then bias and slope: 1.6 + 0.4 - 3 = -1; then the function.
		{"all changes in order", []float64{2 * log3}, []float64{3},
			func(p *Problem) {
				p.Softcap = 2
				p.Bias = func(_, _, _, _ int) float64 { return 0.4 }
				p.Slopes, p.SlopeOffset = []float64{0.5}, 6
				p.ScoreMod = func(_, _, _, _ int, s float64) float64 { return 10 * s }
			}, 3, -10},
		{"score function may give -Inf", []float64{0, 0}, []float64{4, 8},
			func(p *Problem) {
				p.ScoreMod = func(_, _, _, j int, s float64) float64 { return []float64{negInf, s}[j] }
			}, 8, 0},
		{"all scores -Inf", []float64{negInf, negInf}, []float64{4, 8}, nil, 0, negInf},
		{"NaN in a key", []float64{0, nan}, []float64{4, 8}, nil, nan, nan},
		{"NaN in all keys", []float64{nan, nan}, []float64{4, 8}, nil, nan, nan},
		{"NaN in a value", []float64{0, -1000}, []float64{4, nan}, nil, nan, 0},
		{"+Inf", []float64{0, inf}, []float64{4, 8}, nil, nan, nan},
	} {
		p := weighing(c.scores, c.values)
		p.Scores = false
		if c.change != nil {
			c.change(&p)
		}
		r := Attention(p)
		requireClose(t, []float64{c.O}, r.O, c.name)
		requireClose(t, []float64{c.LSE}, r.LSE, c.name)
	}
}

func requireClose(t *testing.T, want, got []float64, name string) {
	t.Helper()
	require.Len(t, got, len(want), name)
	for i := range want {
		if math.IsNaN(want[i]) || math.IsInf(want[i], 0) {
			require.Equal(t, fmt.Sprint(want[i]), fmt.Sprint(got[i]), name)
		} else {
			require.InDelta(t, want[i], got[i], 1e-14*max(1, math.Abs(want[i])), name)
		}
	}
}

// Masked keys and values are not even read.
func TestMaskedIsNotRead(t *testing.T) {
	only := func(x Tensor) Tensor {
		return func(b, h, j, d int) float64 {
			require.NotEqual(t, 1, j)
			return x(b, h, j, d)
		}
	}
	p := weighing([]float64{0, nan, log3}, []float64{4, nan, 8})
	p.Scores = false
	p.K, p.V = only(p.K), only(p.V)
	p.Visible = func(_, _, _, j int) bool { return j != 1 }
	requireClose(t, []float64{7}, Attention(p).O, "")
	p.Visible = nil
	p.Bias = func(_, _, _, j int) float64 { return []float64{0, negInf, 0}[j] }
	requireClose(t, []float64{7}, Attention(p).O, "")
}

func TestScoreMatrices(t *testing.T) {
	p := weighing([]float64{4 * log3, 0, 5}, []float64{4, 8, 9})
	p.Scale, p.Softcap = 0.5, 2
	p.Bias = func(_, _, _, j int) float64 { return []float64{-1.6, log3, 0}[j] }
	p.Visible = KeyCount([]int{2})
	r := Attention(p)
	requireClose(t, []float64{2 * log3, 0, 2.5}, r.Raw, "raw")
	requireClose(t, []float64{1.6, 0, 2 * math.Tanh(1.25)}, r.Capped, "capped")
	requireClose(t, []float64{0, log3, negInf}, r.Final, "final")
	requireClose(t, []float64{0.25, 0.75, 0}, r.P, "P")

	p.Sinks = []float64{log4}
	requireClose(t, []float64{0.125, 0.375, 0}, Attention(p).P, "with a sink")
	p.Sinks, p.Visible = nil, KeyCount([]int{0})
	requireClose(t, []float64{0, 0, 0}, Attention(p).P, "nothing seen")
}

// Two batches, four query heads on two key heads, D = 2 and Dv = 3, in both layouts.
func TestShapes(t *testing.T) {
	const B, Hq, Hkv, L, N, D, Dv = 2, 4, 2, 1, 2, 2, 3
	p := Problem{Batch: B, Hq: Hq, Hkv: Hkv, L: L, N: N, D: D, Dv: Dv}
	// q·k = √2·log 3 where d = j and 0 elsewhere: with the default scale 1/√2 query head 0 weighs the
	// keys 3:1 and query head 1 weighs them 1:3.
	p.Q = func(_, h, _, d int) float64 {
		if d == h%2 {
			return math.Sqrt2 * log3
		}
		return 0
	}
	p.K = BHSD([]float64{1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1}, Hkv, N, D)
	values := make([]float32, B*Hkv*N*Dv)
	for x := range values {
		values[x] = float32(4 * x)
	}
	p.V = BHSD(values, Hkv, N, Dv) // v_j of head 0, batch 0: (0 4 8), (12 16 20); 24 more for each head
	requireClose(t, []float64{
		3, 7, 11, 9, 13, 17, 27, 31, 35, 33, 37, 41,
		51, 55, 59, 57, 61, 65, 75, 79, 83, 81, 85, 89,
	}, Attention(p).O, "BHSD")
	p.V = BSHD(values, Hkv, N, Dv) // v_j of head 0, batch 0: (0 4 8), (24 28 32); 12 more for head 1
	requireClose(t, []float64{
		6, 10, 14, 18, 22, 26, 18, 22, 26, 30, 34, 38,
	}, Attention(p).O[:12], "BSHD")
	requireClose(t, []float64{log4, log4, log4, log4, log4, log4, log4, log4}, Attention(p).LSE, "LSE")

	p.Hkv = 3
	require.PanicsWithValue(t, "ref: Hq = 4 is not a multiple of Hkv = 3", func() { Attention(p) })
}

func TestMerge(t *testing.T) {
	a := State{M: 1, L: 1, O: []float64{2, 0}}
	b := State{M: 3, L: 2, O: []float64{8, 4}}
	want := State{M: 3, L: 2.25, O: []float64{8.5, 4}}
	require.Equal(t, want, Merge(a, b))
	require.Equal(t, want, Merge(b, a))
	O, LSE := want.Finish()
	requireClose(t, []float64{8.5 / 2.25, 4 / 2.25}, O, "")
	requireClose(t, []float64{math.Log(8 * 2.25)}, []float64{LSE}, "")

	none := State{M: negInf, O: []float64{0, 0}}
	require.Equal(t, a, Merge(a, none))
	require.Equal(t, none, Merge(none, none))
	require.Equal(t, a, Merge(a, Sink(negInf, 2)), "a sink of -Inf is none")
	O, LSE = none.Finish()
	require.Equal(t, []float64{0, 0}, O)
	require.Equal(t, negInf, LSE)
	require.True(t, math.IsNaN(Merge(a, State{M: negInf, L: nan, O: []float64{nan, nan}}).L), "visible NaN comes through")
}

// random is a problem of normally distributed numbers.
func random(r *rand.Rand, hq, hkv, L, n, d int) Problem {
	normal := func(count int) []float32 {
		x := make([]float32, count)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	return Problem{Hq: hq, Hkv: hkv, L: L, N: n, D: d,
		Q: BHSD(normal(hq*L*d), hq, L, d), K: BHSD(normal(hkv*n*d), hkv, n, d), V: BHSD(normal(hkv*n*d), hkv, n, d)}
}

// States over the pieces of a row, merged, are the row, wherever it is cut and with the sink last.
func TestPartialsMakeTheWhole(t *testing.T) {
	p := random(rand.New(rand.NewSource(1)), 2, 1, 3, 9, 4)
	p.Visible, p.Softcap, p.Slopes, p.Sinks = Causal(4), 1.5, []float64{0.5, 0.25}, []float64{0.3, -2}
	whole := Attention(p)
	for h := range 2 {
		for i := range 3 {
			for cut := range 10 {
				s := Merge(Partial(p, 0, h, i, 0, cut), Partial(p, 0, h, i, cut, 9))
				O, LSE := Merge(s, Sink(p.Sinks[h], 4)).Finish()
				row := h*3 + i
				requireClose(t, whole.O[row*4:(row+1)*4], O, "O")
				requireClose(t, whole.LSE[row:row+1], []float64{LSE}, "LSE")
			}
		}
	}
}

// A NaN is in l and O, and not in m.
func TestMaximumIgnoresNaN(t *testing.T) {
	s := Partial(weighing([]float64{nan, log4, nan}, []float64{1, 2, 3}), 0, 0, 0, 0, 3)
	requireClose(t, []float64{2, nan, nan}, []float64{s.M, s.L, s.O[0]}, "M, L, O")
}

func TestPlainFloat32(t *testing.T) {
	require.Equal(t, []float32{0}, PlainFloat32(weighing(nil, nil)))
	require.Equal(t, []float32{6}, PlainFloat32(weighing([]float64{1, 1}, []float64{4, 8})))
	require.Equal(t, []float32{0x1p24}, PlainFloat32(weighing([]float64{1, 1}, []float64{0x1p25, 1})), "2²⁴ + 1/2 in float32")

	p := random(rand.New(rand.NewSource(2)), 4, 2, 8, 300, 16)
	p.Visible, p.Softcap, p.SlopeOffset = Causal(200), 3, 200
	p.Slopes, p.Sinks = []float64{0.5, 0.25, 0.1, 0}, []float64{0.3, -2, 6, negInf}
	p.Bias = func(_, h, i, j int) float64 { return float64(h-j) / 64 }
	exact, plain := Attention(p).O, PlainFloat32(p)
	for i := range exact {
		require.InDelta(t, exact[i], float64(plain[i]), 1e-6)
	}
	require.NotEqual(t, widen(plain), exact)
}
