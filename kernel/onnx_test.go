package kernel_test

import (
	"math"
	"slices"
	"testing"

	"github.com/quern-go/quern/internal/onnx"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// supported are the features of ONNX cases that package kernel has. What it lacks skips a case; a feature that lands
// goes here, and the cases run.
var supported = []string{
	"float16", "3d", "gqa", "value width", "scale", "causal", "offset by batch", "past", "nonpad", "softcap", "window", "bool mask",
	"float mask", "short mask", "scores 0", "scores 1", "scores 2", "scores 3",
}

func TestONNXAttention(t *testing.T) {
	ran, skipped := 0, map[string]int{}
	for _, c := range onnx.Load(t, "attention") {
		lacking := slices.DeleteFunc(onnx.Features(c), func(f string) bool { return slices.Contains(supported, f) })
		if len(lacking) > 0 {
			for _, f := range lacking {
				skipped[f]++
			}
			continue
		}
		ran++
		t.Run(c.Name, func(t *testing.T) {
			a := c.Attention()
			p := onnxProblem(a)
			scores := make([]float32, a.Batch*a.Hq*a.L*a.N)
			if a.Scores != nil {
				p.opts.Scores, p.opts.Stage = kernel.BHSD(scores, a.Batch, a.Hq, a.L, a.N), kernel.ScoreStage(a.ScoresMode)
			}
			if slices.Contains(onnx.Features(c), "float16") {
				// Expected numbers are rounded to float16, and their reference may round on the way, too: how
				// much of it NumPy does in float16 depends on NumPy's version. They may be off by a unit in
				// the last place.
				requireNear(t, a.Y, inHalves(t, p), within(0x1p-10))
				return
			}
			requireNear(t, a.Y, p.run(t, 2).out, within(1e-6))
			if !slices.Contains(onnx.Features(c), "nonpad") {
				requireNear(t, a.Y, fromCaches(t, p, a), within(1e-6))
			}
			if a.Scores != nil {
				requireNear(t, a.Scores, scores, within(1e-6))
			}
		})
	}
	t.Logf("%d cases ran; of those skipped, this many lack: %v", ran, skipped)
	require.NotZero(t, ran)
}

// inHalves runs a problem over tensors of float16.
func inHalves(t *testing.T, p problem) []float32 {
	s := p.shape()
	out := make([]float32, s.Batch*s.Heads*s.Queries*s.ValueDim)
	half := func(x array) kernel.Tensor { return numbers{x, kernel.Float16}.as(nil) }
	require.NoError(t, kernel.Attention(kernel.BHSD(out, s.Batch, s.Heads, s.Queries, s.ValueDim), half(p.q), half(p.k), half(p.v), p.withBias()))
	return out
}

// fromCaches runs a problem over caches to which the past and then the new keys were appended.
func fromCaches(t *testing.T, p problem, a onnx.Attention) []float32 {
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: a.Hkv, Dim: a.D, ValueDim: a.Dv})
	require.NoError(t, err)
	var caches []*kernel.Cache
	for b := range a.Batch {
		c := pool.NewCache()
		past := max(a.N-a.L, 0)
		for _, cut := range [][2]int{{0, past}, {past, a.N}} {
			require.NoError(t, c.Append(p.k.part(b, cut[0], cut[1]).tensor(), p.v.part(b, cut[0], cut[1]).tensor()))
		}
		caches = append(caches, c)
	}
	opts := p.withBias()
	opts.Ragged, opts.Scores = kernel.Ragged{}, kernel.Tensor{}
	out := make([]float32, a.Batch*a.Hq*a.L*a.Dv)
	require.NoError(t, kernel.Attend(kernel.BHSD(out, a.Batch, a.Hq, a.L, a.Dv), p.q.tensor(), caches, opts))
	return out
}

// onnxProblem says in this package's words what a case asks for.
func onnxProblem(a onnx.Attention) problem {
	p := problem{
		q:    dense(a.Q, a.Batch, a.Hq, a.L, a.D),
		k:    dense(a.K, a.Batch, a.Hkv, a.N, a.D),
		v:    dense(a.V, a.Batch, a.Hkv, a.N, a.Dv),
		opts: kernel.Options{Scale: a.Scale, Softcap: a.Softcap, Ragged: kernel.Ragged{KeyCount: a.Keys}},
	}
	var masks kernel.And
	if a.Causal {
		masks = append(masks, kernel.Causal{Offset: a.Offset})
	}
	if a.Left != -1 || a.Right != -1 {
		masks = append(masks, kernel.Window{Left: a.Left, Right: a.Right, Offset: a.Offset})
	}
	eachPair := func(f func(b, h, i, j int)) {
		for x := range a.Batch * a.Hq * a.L * a.N {
			f(x/a.N/a.L/a.Hq, x/a.N/a.L%a.Hq, x/a.N%a.L, x%a.N)
		}
	}
	if a.Mask != nil {
		m := kernel.BoolMask{Shape: [4]int{a.Batch, a.Hq, a.L, a.N}}
		eachPair(func(b, h, i, j int) { m.Data = append(m.Data, a.Mask(b, h, i, j)) })
		masks = append(masks, m)
	}
	if a.Bias != nil {
		var bias []float32
		eachPair(func(b, h, i, j int) { bias = append(bias, a.Bias(b, h, i, j)) })
		p.bias = dense(bias, a.Batch, a.Hq, a.L, a.N)
	}
	p.opts.Mask = masks
	return p
}

func TestONNXSoftmax(t *testing.T) {
	functions := map[string]func(dst, src []float32){"Softmax": kernel.Softmax, "LogSoftmax": kernel.LogSoftmax}
	onnx.EachSoftmax(t, func(t *testing.T, op string, x, want []float32) {
		functions[op](x, x)
		requireNear(t, want, x, within(1e-6))
	})
}

// within is a tolerance that is absolute below 1 and relative above.
func within(tolerance float64) func(want float64) float64 {
	return func(want float64) float64 { return tolerance * math.Max(1, math.Abs(want)) }
}

// requireNear wants equality to a tolerance, which depends on the number. Infinities and NaN must be there.
func requireNear(t *testing.T, want, got []float32, tolerance func(want float64) float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		w, g := float64(want[i]), float64(got[i])
		switch {
		case math.IsNaN(w):
			require.True(t, math.IsNaN(g), "element %d is %v, want NaN", i, g)
		case math.IsInf(w, 0):
			require.Equal(t, w, g, "element %d", i)
		default:
			require.InDelta(t, w, g, tolerance(w), "element %d", i)
		}
	}
}
