package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
	"github.com/stretchr/testify/require"
)

// TestPatternsAsBits: a mask and the same pattern as bits have the same bits; and poison in keys and values that are
// not seen changes none.
func TestPatternsAsBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	shape := func(heads, kvHeads, queries, keys int) kernel.Shape {
		return kernel.Shape{Batch: 1, Heads: heads, KVHeads: kvHeads, Queries: queries, Keys: keys, Dim: 1 + r.IntN(20), ValueDim: 1 + r.IntN(90)}
	}
	type pattern struct {
		mask  kernel.Mask
		shape kernel.Shape
		bits  kernel.Mask // the same
	}
	var patterns []pattern
	for _, stride := range []int{15, 16, 24, 64, 100, 128, 130, 144, 256, 384, 1000, 3000} {
		for part := kernel.Merged; part <= kernel.SecondPart; part++ {
			n := 1 + r.IntN(2500)
			patterns = append(patterns,
				pattern{kernel.SparseStrided{Stride: stride, Part: part}, shape(1, 1, n, n), nil},
				pattern{kernel.SparseStrided{Stride: stride, Part: part}, shape(4, 2, 1+r.IntN(50), 2000+r.IntN(3000)), nil},
				pattern{kernel.SparseStrided{Stride: stride, Part: part, Offset: []int{r.IntN(5000) - 100}}, shape(3, 1, 1+r.IntN(400), 1+r.IntN(5000)), nil},
				pattern{kernel.SparseFixed{Stride: stride, Summary: 1 + r.IntN(stride), Part: part, RunPerHead: true}, shape(2, 2, 300, 2100), nil},
			)
		}
	}
	patterns = append(patterns,
		pattern{kernel.PerHead{kernel.SparseStrided{Stride: 32, Part: kernel.FirstPart}, kernel.SparseStrided{Stride: 32, Part: kernel.SecondPart}, nil}, shape(4, 4, 200, 300), nil},
		pattern{kernel.PerHead{kernel.SparseStrided{Stride: 32, Part: kernel.FirstPart}, kernel.SparseStrided{Stride: 32, Part: kernel.SecondPart}}, shape(4, 2, 200, 300), nil},
		pattern{kernel.And{kernel.SparseStrided{Stride: 20}, kernel.Window{Left: 100}}, shape(1, 1, 300, 300), nil},
	)
	fuzz.Levels(t, func(t *testing.T, level isa.Level) {
		for i := range patterns {
			if level == isa.Go && i%24 != 0 || (race || testing.Short()) && i%19 != 0 {
				continue
			}
			x := &patterns[i]
			p := normalProblem(uint64(i), x.shape, kernel.Options{Mask: x.mask})
			sees := p.sequences()[0].oracle(x.mask)
			asBits := p
			if x.bits == nil {
				x.bits = bitsOf(sees, x.shape)
			}
			asBits.opts.Mask = x.bits
			want := asBits.run(t, 1)
			for _, workers := range []int{1, 3} {
				requireSame(t, want, p.run(t, workers), fmt.Sprintf("%#v, %+v", x.mask, x.shape))
			}
			// One query, and poison in all that its heads do not see.
			dirty, query := p.copy(), r.IntN(x.shape.Queries)
			for kv := range x.shape.KVHeads {
				for j := range x.shape.Keys {
					seen := false
					for h := range x.shape.Heads {
						seen = seen || h/(x.shape.Heads/x.shape.KVHeads) == kv && sees(0, h, query, j)
					}
					if !seen {
						dirty.k.row(0, kv, j)[0] = poison[j%len(poison)]
						dirty.v.row(0, kv, j)[0] = poison[j/2%len(poison)]
					}
				}
			}
			got := dirty.run(t, 1)
			for h := range x.shape.Heads {
				row := h*x.shape.Queries + query
				requireSame(t, want.row(row), got.row(row), fmt.Sprintf("poisoned: %#v, %+v, query %d, head %d", x.mask, x.shape, query, h))
			}
		}
	})
}

// TestSpanThatNobodySees hides a whole span of 2048 keys between others, after a head whose values are all NaN: nothing of
// what that head left in scratch may come in.
func TestSpanThatNobodySees(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 2, Queries: 20, Keys: 6000, Dim: 8, ValueDim: 20}
	p := normalProblem(7, shape, kernel.Options{Mask: kernel.MaskFunc{See: func(_, _, j int) bool { return j < 10 || j >= 5000 }}})
	dirty := p.copy()
	for j := range shape.Keys {
		for c := range shape.ValueDim {
			dirty.v.row(0, 0, j)[c] = float32(math.NaN())
		}
	}
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		want, got := p.run(t, 1), dirty.run(t, 1)
		for row := shape.Queries; row < 2*shape.Queries; row++ {
			requireSame(t, want.row(row), got.row(row), fmt.Sprintf("row %d", row))
		}
	})
}

func bitsOf(sees ref.Mask, s kernel.Shape) kernel.BitMatrix {
	words := (s.Keys + 63) / 64
	m := kernel.BitMatrix{Shape: [3]int{1, s.Heads, s.Queries}, Keys: s.Keys, Bits: make([]uint64, s.Heads*s.Queries*words)}
	for h := range s.Heads {
		for i := range s.Queries {
			for j := range s.Keys {
				if sees(0, h, i, j) {
					m.Bits[(h*s.Queries+i)*words+j/64] |= 1 << (j % 64)
				}
			}
		}
	}
	return m
}

// TestMaskErrors: misuse is an error that names the option, when the plan is made.
func TestMaskErrors(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 2, KVHeads: 1, Queries: 10, Keys: 200, Dim: 3, ValueDim: 4}
	for _, m := range []kernel.Mask{
		kernel.Window{Left: -2}, kernel.Window{Right: -2}, kernel.Window{Align: 3}, kernel.Window{Offset: []int{1}},
		kernel.Prefix{Keys: -1},
		kernel.SparseStrided{}, kernel.SparseStrided{Stride: -1}, kernel.SparseStrided{Stride: 4, Part: 3}, kernel.SparseStrided{Stride: 4, Offset: []int{0}},
		kernel.SparseFixed{Summary: 1}, kernel.SparseFixed{Stride: 4}, kernel.SparseFixed{Stride: 4, Summary: 5}, kernel.SparseFixed{Stride: 4, Summary: 1, Part: -1},
		kernel.MaskFunc{}, kernel.PerHead{}, kernel.And{nil, kernel.PerHead{}}, kernel.Or{kernel.MaskFunc{}}, kernel.PerHead{kernel.Prefix{Keys: -1}},
		kernel.BoolMask{}, kernel.BoolMask{Shape: [4]int{1, 1, 1, 200}}, kernel.BoolMask{Shape: [4]int{3, 1, 1, 0}}, kernel.BoolMask{Shape: [4]int{2, 3, 1, 0}},
		kernel.BoolMask{Shape: [4]int{2, 2, 9, 0}}, kernel.BoolMask{Shape: [4]int{1, 1, 1, 201}, Data: make([]bool, 201)}, kernel.BoolMask{Shape: [4]int{1, 1, 1, -1}},
		kernel.BitMatrix{Shape: [3]int{1, 1, 1}, Keys: 65, Bits: make([]uint64, 1)}, kernel.BitMatrix{Shape: [3]int{1, 1, 1}, Keys: -1},
		kernel.BitMatrix{Shape: [3]int{1, 1, 1}, First: []int{0}}, kernel.BitMatrix{Shape: [3]int{1, 1, 1}, First: []int{0, -1}}, kernel.BitMatrix{Shape: [3]int{1, 1, 2}},
		kernel.BlockMap{}, kernel.BlockMap{Queries: 10, Keys: 100, Shape: [4]int{1, 1, 1, 3}, Bits: []uint64{0}},
		kernel.BlockMap{Queries: 10, Keys: 100, Shape: [4]int{1, 1, 1, 2}}, kernel.BlockMap{Queries: 10, Keys: 100, Shape: [4]int{1, 3, 1, 2}, Bits: []uint64{0}},
	} {
		_, err := kernel.NewAttention(shape, kernel.Options{Mask: m})
		var wrong *kernel.ArgumentError
		require.ErrorAs(t, err, &wrong, "%#v", m)
		require.Equal(t, "Options.Mask", wrong.Argument)
	}
}

// TestScoreErrors is the same for the options that change scores.
func TestScoreErrors(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 2, KVHeads: 1, Queries: 10, Keys: 20, Dim: 3, ValueDim: 4}
	bias := func(shape ...int) kernel.Options {
		n := shape[0] * shape[1] * shape[2] * shape[3]
		return kernel.Options{Bias: kernel.BHSD(make([]float32, n), shape[0], shape[1], shape[2], shape[3])}
	}
	short := bias(1, 1, 1, 20)
	short.Bias.Shape[2] = 10
	for name, options := range map[string][]kernel.Options{
		"Options.Softcap":      {{Softcap: -1}, {Softcap: float64(nan)}, {Softcap: float64(infinity)}, {Softcap: 1e-60}, {Softcap: 1e60}},
		"Options.Bias":         {bias(3, 1, 1, 20), bias(2, 3, 1, 20), bias(2, 2, 9, 20), bias(2, 2, 10, 21), short},
		"Options.ALiBi.Slopes": {{ALiBi: kernel.ALiBi{Slopes: []float32{1}}}, {ALiBi: kernel.ALiBi{Slopes: []float32{1, infinity}}}},
		"Options.ALiBi":        {{ALiBi: kernel.ALiBi{Slopes: []float32{1, 2}, Offset: []int{1}}}, {ALiBi: kernel.ALiBi{Slopes: []float32{1, 2}, Offset: []int{1, 1 << 30}}}},
		"Options.Sinks":        {{Sinks: []float32{1}}},
		"Options.Scores":       {{Scores: kernel.BHSD(make([]float32, 400), 2, 1, 10, 20)}},
		"Options.Stage":        {{Scores: kernel.BHSD(make([]float32, 800), 2, 2, 10, 20), Stage: 4}},
	} {
		for _, o := range options {
			_, err := kernel.NewAttention(shape, o)
			var wrong *kernel.ArgumentError
			require.ErrorAs(t, err, &wrong, "%s: %+v", name, o)
			require.Equal(t, name, wrong.Argument)
		}
	}
	p := normalProblem(1, shape, bias(1, 1, 10, 20))
	out := p.opts.Bias
	out.Shape, out.Stride = [4]int{2, 2, 10, 4}, [3]int{80, 40, 4}
	require.ErrorIs(t, kernel.Attention(out, p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts), kernel.ErrOverlap)
	p.opts = kernel.Options{Scores: kernel.BHSD(make([]float32, 800), 2, 2, 10, 20)}
	out = p.opts.Scores
	out.Shape, out.Stride = [4]int{2, 2, 10, 4}, [3]int{80, 40, 4}
	require.ErrorIs(t, kernel.Attention(out, p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts), kernel.ErrOverlap)
}

// TestPanics: a panic in a function of the user's reaches the caller, leaves no goroutine, and a plan can be run again.
func TestPanics(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 4, KVHeads: 2, Queries: 300, Keys: 300, Dim: 3, ValueDim: 4}
	require.PanicsWithValue(t, "see", func() {
		_, _ = kernel.NewAttention(shape, kernel.Options{Mask: kernel.MaskFunc{See: func(_, _, _ int) bool { panic("see") }}})
	})
	for workers := 1; workers <= 4; workers++ {
		calm := false
		p := normalProblem(1, shape, kernel.Options{ScoreFunc: func(_, head, query, _ int, _ []float32) {
			if !calm && head == 2 && query == 150 {
				panic("score")
			}
		}})
		p.opts.Workers = workers
		plan, err := kernel.NewAttention(shape, p.opts)
		require.NoError(t, err)
		out := make([]float32, 2*4*300*4)
		run := func() {
			require.NoError(t, plan.Run(kernel.BHSD(out, 2, 4, 300, 4), p.q.tensor(), p.k.tensor(), p.v.tensor()))
		}
		before := runtime.NumGoroutine()
		for range 3 {
			require.PanicsWithValue(t, "score", run)
		}
		require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Second, time.Millisecond) // Eventually has one
		calm = true
		run()
		p.opts.ScoreFunc = func(_, _, _, _ int, _ []float32) {}
		requireSameBits(t, p.run(t, 1).out, out, workers, " workers")
	}
}

// TestOneColumn: a mask or bias with one number for all keys is what it is when that stands in every column.
func TestOneColumn(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 2, KVHeads: 1, Queries: 30, Keys: 300, Dim: 5, ValueDim: 4}
	r := rand.New(rand.NewPCG(3, 0))
	rows := 2 * 2 * 30
	seen, wide, biases := make([]bool, rows), make([]bool, rows*300), normal(r, rows)
	expanded := make([]float32, rows*300)
	for i := range rows {
		seen[i] = r.IntN(3) > 0
		if i%7 == 0 {
			biases[i] = -infinity
		}
		for j := range 300 {
			wide[i*300+j], expanded[i*300+j] = seen[i], biases[i]
		}
	}
	for name, change := range map[string]func(*kernel.Options){
		"plain":    func(*kernel.Options) {},
		"function": func(o *kernel.Options) { o.ScoreFunc = func(_, _, _, _ int, _ []float32) {} },
		"causal":   func(o *kernel.Options) { o.Mask = kernel.And{o.Mask, kernel.Causal{}} },
	} {
		p := normalProblem(1, shape, kernel.Options{Mask: kernel.BoolMask{Data: wide, Shape: [4]int{2, 2, 30, 300}}})
		q := normalProblem(1, shape, kernel.Options{Mask: kernel.BoolMask{Data: seen, Shape: [4]int{2, 2, 30, 1}}})
		p.bias, q.bias = dense(expanded, 2, 2, 30, 300), dense(biases, 2, 2, 30, 1)
		change(&p.opts)
		change(&q.opts)
		want := p.run(t, 1)
		require.NotContains(t, want.out, nan)
		requireSame(t, want, q.run(t, 1), name)
	}
}

// TestScoresAtTheLimit: a function may return any finite score. Those that are all the lowest average, and the largest
// takes all the weight.
func TestScoresAtTheLimit(t *testing.T) {
	v := []float32{1, 2, 3, 6}
	for _, c := range []struct {
		scores []float32
		want   float32
	}{
		{[]float32{-math.MaxFloat32, -math.MaxFloat32, -math.MaxFloat32, -math.MaxFloat32}, 3},
		{[]float32{-3e38, -2.5e38, -2.4e38, -math.MaxFloat32}, 3},
		{[]float32{-math.MaxFloat32, -infinity, -infinity, -math.MaxFloat32}, 3.5},
		{[]float32{-infinity, -infinity, -infinity, -infinity}, 0},
		{[]float32{0, math.MaxFloat32, -math.MaxFloat32, 1}, 2},
		{[]float32{3e38, 0, 0, math.MaxFloat32}, 3.5},
		{[]float32{0, infinity, 0, 0}, nan},
		{[]float32{0, nan, 0, 0}, nan},
	} {
		out := []float32{0}
		x := kernel.BHSD(floats(4), 1, 1, 4, 1)
		err := kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), kernel.BHSD(floats(1), 1, 1, 1, 1), x,
			kernel.BHSD(v, 1, 1, 4, 1),
			kernel.Options{ScoreFunc: func(_, _, _, _ int, scores []float32) { copy(scores, c.scores) }})
		require.NoError(t, err)
		requireSameBits(t, []float32{c.want}, out, c.scores)
	}
}

// TestWhereNumbersBecomeTooLarge is the table of that name in NUMERICS.md.
func TestWhereNumbersBecomeTooLarge(t *testing.T) {
	const most = 2.3585e38
	for _, c := range []struct {
		q, k, v []float32
		want    float32
	}{
		{[]float32{1}, []float32{-most, -most}, []float32{2, 4}, 3},
		{[]float32{1}, []float32{most, 0}, []float32{2, 4}, 2},
		{[]float32{1}, []float32{-2.36e38, -2.36e38}, []float32{2, 4}, 0},
		{[]float32{1}, []float32{2.36e38, 0}, []float32{2, 4}, nan},
		{[]float32{1}, []float32{0, 0}, []float32{1.7e38, 1.7e38}, 1.7e38},
		{[]float32{1}, []float32{0, 0}, []float32{2e38, 2e38}, infinity},
		{[]float32{1}, []float32{0, -200}, []float32{3.4e38, 3.4e38}, 3.4e38},
	} {
		n, out := len(c.k), []float32{0}
		require.NoError(t, kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), kernel.BHSD(c.q, 1, 1, 1, 1),
			kernel.BHSD(c.k, 1, 1, n, 1), kernel.BHSD(c.v, 1, 1, n, 1), kernel.Options{Scale: 1}))
		requireSameBits(t, []float32{c.want}, out, c.k, c.v)
	}
}
