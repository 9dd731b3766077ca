package kernel_test

import (
	"math"
	"slices"
	"testing"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/onnx"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestONNXAttention runs the vectors of the ONNX project, at every level. Past keys stand before the new ones.
func TestONNXAttention(t *testing.T) {
	cases := onnx.Load(t, "attention")
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for _, c := range cases {
			t.Run(c.Name, func(t *testing.T) {
				if slices.Contains(onnx.Features(c), "float16") {
					t.Skip("storage in float16")
				}
				a := c.Attention()
				y, o := make([]float32, a.Batch*a.Hq*a.L*a.Dv), options(a)
				scores := make([]float32, a.Batch*a.Hq*a.L*a.N)
				if a.Scores != nil {
					o.Scores, o.Stage = kernel.BHSD(scores, a.Batch, a.Hq, a.L, a.N), kernel.ScoreStage(a.ScoresMode)
				}
				require.NoError(t, kernel.Attention(kernel.BHSD(y, a.Batch, a.Hq, a.L, a.Dv),
					kernel.BHSD(a.Q, a.Batch, a.Hq, a.L, a.D), kernel.BHSD(a.K, a.Batch, a.Hkv, a.N, a.D), kernel.BHSD(a.V, a.Batch, a.Hkv, a.N, a.Dv), o))
				requireNear(t, a.Y, y)
				if a.Scores != nil {
					requireNear(t, a.Scores, scores)
				}
			})
		}
	})
}

// options says in this package's words what a case asks for.
func options(a onnx.Attention) kernel.Options {
	o := kernel.Options{Scale: a.Scale, Softcap: a.Softcap, Ragged: kernel.Ragged{KeyCount: a.Keys}}
	var masks kernel.And
	if a.Causal {
		masks = append(masks, kernel.Causal{Offset: a.Offset})
	}
	if a.Left != -1 || a.Right != -1 {
		masks = append(masks, kernel.Window{Left: a.Left, Right: a.Right, Offset: a.Offset})
	}
	if a.Mask != nil {
		m := kernel.BoolMask{Shape: [4]int{a.Batch, a.Hq, a.L, a.N}}
		eachPair(a, func(b, h, i, j int) { m.Data = append(m.Data, a.Mask(b, h, i, j)) })
		masks = append(masks, m)
	}
	if a.Bias != nil {
		var bias []float32
		eachPair(a, func(b, h, i, j int) { bias = append(bias, a.Bias(b, h, i, j)) })
		o.Bias = kernel.BHSD(bias, a.Batch, a.Hq, a.L, a.N)
	}
	o.Mask = masks
	return o
}

func eachPair(a onnx.Attention, f func(b, h, i, j int)) {
	for b := range a.Batch {
		for h := range a.Hq {
			for i := range a.L {
				for j := range a.N {
					f(b, h, i, j)
				}
			}
		}
	}
}

// requireNear wants equality to 2e-6, absolute below 1 and relative above.
func requireNear(t *testing.T, want, got []float32) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, w := range want {
		if math.IsInf(float64(w), 0) {
			require.Equal(t, w, got[i], "element %d", i)
		} else {
			require.InDelta(t, w, got[i], 2e-6*max(1, math.Abs(float64(w))), "element %d", i)
		}
	}
}
