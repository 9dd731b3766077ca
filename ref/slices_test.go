package ref

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	inf = math.Inf(1)
	nan = math.NaN()
)

const delta = 1e-15

func TestDot(t *testing.T) {
	x, y := []float32{1, -2, 3}, []float32{4, 5, 0.5}
	require.Equal(t, -4.5, Dot(x, y))
	require.Equal(t, 15.5, AbsDot(x, y))
	require.Zero(t, Dot(nil, nil))
	require.Equal(t, 1.0, Dot([]float32{0x1p30, 1, -0x1p30}, []float32{1, 1, 1}), "float32 sums would give 0")
}

func TestSquaredL2(t *testing.T) {
	require.Equal(t, 9+49+6.25, SquaredL2([]float32{1, -2, 3}, []float32{4, 5, 0.5}))
	require.Zero(t, SquaredL2(nil, nil))
}

func TestCosine(t *testing.T) {
	require.InDelta(t, math.Sqrt(0.5), Cosine([]float32{3, 0}, []float32{-2, 2})*-1, delta)
	require.InDelta(t, 1, Cosine([]float32{1, 2, 3}, []float32{2, 4, 6}), delta)
	require.Zero(t, Cosine([]float32{1, 2}, []float32{0, 0}))
	require.Zero(t, Cosine(nil, nil))
}

func TestMatMul(t *testing.T) {
	a := []float32{1, 2, 3, 4, 5, 6}
	b := []float32{1, 0, 2, 1, 0, 1, 1, 2, 3, 1, 0, 1}
	require.Equal(t, []float64{
		10, 5, 4, 8, // (1 2 3)
		22, 11, 13, 20, // (4 5 6)
	}, MatMul(a, b, 2, 3, 4))
	require.Equal(t, []float64{0, 0}, MatMul(nil, nil, 2, 0, 1))
}

func TestExp(t *testing.T) {
	require.InDeltaSlice(t, []float64{1, math.E, 1 / math.E}, Exp([]float32{0, 1, -1}), delta)
	require.Equal(t, []float64{0, inf}, Exp([]float32{float32(negInf), float32(inf)}))
}

func TestSoftmax(t *testing.T) {
	// e^1000, e^999 and nothing.
	x := []float32{1000, 999, float32(negInf)}
	e := math.E
	require.InDeltaSlice(t, []float64{e / (e + 1), 1 / (e + 1), 0}, Softmax(x), delta)
	require.InDelta(t, 1000+math.Log(1+1/e), LogSumExp(x), 1e-12)
	require.InDeltaSlice(t, []float64{-math.Log(1 + 1/e), -1 - math.Log(1+1/e)}, LogSoftmax(x)[:2], delta)
	require.Equal(t, negInf, LogSoftmax(x)[2])
}

func TestSoftmaxSpecialValues(t *testing.T) {
	lowest := []float32{float32(negInf), float32(negInf)}
	require.Equal(t, []float64{0, 0}, Softmax(lowest))
	require.Equal(t, []float64{negInf, negInf}, LogSoftmax(lowest))
	require.Equal(t, negInf, LogSumExp(lowest))
	require.Equal(t, negInf, LogSumExp(nil))
	require.Empty(t, Softmax(nil))
	for _, bad := range []float64{nan, inf} {
		for _, x := range [][]float32{{1, float32(bad)}, {float32(bad)}, {float32(bad), float32(negInf)}} {
			require.True(t, math.IsNaN(LogSumExp(x)), "%v", x)
			for i := range x {
				require.True(t, math.IsNaN(Softmax(x)[i]), "%v", x)
				require.True(t, math.IsNaN(LogSoftmax(x)[i]), "%v", x)
			}
		}
	}
}
