package ref

import (
	"slices"
	"testing"

	"github.com/quern-go/quern/internal/onnx"
	"github.com/stretchr/testify/require"
)

func TestONNXAttention(t *testing.T) {
	for _, c := range onnx.Load(t, "attention") {
		t.Run(c.Name, func(t *testing.T) {
			a := c.Attention()
			p := Problem{
				Batch: a.Batch, Hq: a.Hq, Hkv: a.Hkv, L: a.L, N: a.N, D: a.D, Dv: a.Dv,
				Q: BHSD(a.Q, a.Hq, a.L, a.D), K: BHSD(a.K, a.Hkv, a.N, a.D), V: BHSD(a.V, a.Hkv, a.N, a.Dv),
				Scale: a.Scale, Softcap: a.Softcap, Scores: true,
			}
			position := func(b, h, i, j int) bool {
				return (!a.Causal || Causal(a.Offset[b])(b, h, i, j)) && Window(a.Left, a.Right, a.Offset[b])(b, h, i, j)
			}
			p.Visible = And(KeyCount(a.Keys), position, a.Mask)
			if a.Bias != nil {
				p.Bias = func(b, h, i, j int) float64 { return float64(a.Bias(b, h, i, j)) }
			}
			r := Attention(p)

			tolerance := 1e-6
			if slices.Contains(onnx.Features(c), "float16") {
				tolerance = 0x1p-11 // half a unit in the last place
			}
			requireNear(t, a.Y, r.O, tolerance)
			if a.Scores != nil {
				requireNear(t, a.Scores, [][]float64{r.Raw, r.Capped, r.Final, r.P}[a.ScoresMode], tolerance)
			}
		})
	}
}

func TestONNXSoftmax(t *testing.T) {
	functions := map[string]func([]float32) []float64{"Softmax": Softmax, "LogSoftmax": LogSoftmax}
	onnx.EachSoftmax(t, func(t *testing.T, op string, x, want []float32) {
		requireNear(t, want, functions[op](x), 1e-6)
	})
}

// requireNear wants equality to the tolerance, absolute below 1 and relative above.
func requireNear(t *testing.T, want []float32, got []float64, tolerance float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, w := range widen(want) {
		if w == negInf {
			require.Equal(t, w, got[i], "element %d", i)
		} else {
			require.InDelta(t, w, got[i], tolerance*max(1, w, -w), "element %d", i)
		}
	}
}
