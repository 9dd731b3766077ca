package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/portable"
)

// exactDot is Σ x·y without rounding.
func exactDot(x, y []float32) float64 {
	sum := new(big.Float).SetPrec(2000)
	for i := range x {
		p := float64(x[i]) * float64(y[i]) // exact
		sum.Add(sum, new(big.Float).SetFloat64(p))
	}
	f, _ := sum.Float64()
	return f
}

func oneChain(x, y []float32) (sum float32) {
	for i := range x {
		sum = portable.FMA(x[i], y[i], sum)
	}
	return sum
}

// illConditioned returns vectors whose products nearly cancel: terms of very different size, each with
// one of about its negative, in random order.
func illConditioned(seed uint64, n int) (x, y []float32) {
	x, y = normals(seed, n), normals(seed+1000, n)
	for i := range n / 2 {
		scale := float32(math.Ldexp(1, i%40-20))
		x[i] *= scale
		x[n-1-i], y[n-1-i] = -x[i]*(1+x[n-1-i]*0x1p-20), y[i]
	}
	rand.New(rand.NewPCG(seed, 2)).Shuffle(n, func(i, j int) {
		x[i], x[j], y[i], y[j] = x[j], x[i], y[j], y[i]
	})
	return x, y
}

// The error of Dot is, as a root mean square over many inputs, at most that of a single chain, and each
// is within the bound of its longest path: n/64 steps and 6 additions.
func TestDotIsMoreAccurateThanOneChain(t *testing.T) {
	for name, draw := range map[string]func(seed uint64, n int) (x, y []float32){
		"random":          func(seed uint64, n int) (x, y []float32) { return normals(seed, n), normals(seed+1000, n) },
		"positive":        func(seed uint64, n int) (x, y []float32) { x = normals(seed, n); return x, x },
		"ill-conditioned": illConditioned,
	} {
		for _, n := range []int{128, 768, 5000} {
			var dot, chain float64
			for seed := range uint64(100) {
				x, y := draw(seed, n)
				want, magnitude := exactDot(x, y), 0.0
				for i := range x {
					magnitude += math.Abs(float64(x[i]) * float64(y[i]))
				}
				e := (float64(Dot(x, y)) - want) / magnitude
				require.LessOrEqual(t, math.Abs(e), float64(n/64+1+6+1)*0x1p-24, "%s n=%d", name, n)
				c := (float64(oneChain(x, y)) - want) / magnitude
				dot, chain = dot+e*e, chain+c*c
			}
			require.LessOrEqual(t, dot, chain, "%s n=%d", name, n)
			t.Logf("%-16s n=%-5d RMS error over Σ|x·y|: %.2e, one chain %.2e", name, n, math.Sqrt(dot/100), math.Sqrt(chain/100))
		}
	}
}

// Against float64, relative to the size of the terms.
func TestMeasuresAgainstFloat64(t *testing.T) {
	for seed := range uint64(50) {
		x, y := normals(seed, 1000), normals(seed+500, 1000)
		var xy, xx, yy, dd float64
		for i := range x {
			p, q := float64(x[i]), float64(y[i])
			xy, xx, yy, dd = xy+p*q, xx+p*p, yy+q*q, dd+(p-q)*(p-q)
		}
		require.InEpsilon(t, dd, SquaredL2(x, y), 1e-6)
		require.InEpsilon(t, math.Sqrt(xx), Norm(x), 1e-6)
		require.InDelta(t, xy/math.Sqrt(xx*yy), Cosine(x, y), 1e-6)
	}
}
