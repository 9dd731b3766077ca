package portable

import (
	"math"
	"math/big"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"
)

const bigPrec = 300

func bigFloat() *big.Float { return new(big.Float).SetPrec(bigPrec) }

// bigPi is π by Machin's formula.
func bigPi() *big.Float {
	arctan := func(inverse int64) *big.Float { // of 1/inverse
		x := bigFloat().Quo(bigFloat().SetInt64(1), bigFloat().SetInt64(inverse))
		square := bigFloat().Mul(x, x)
		sum := bigFloat()
		for k, power := int64(0), bigFloat().Set(x); k < 250; k++ {
			term := bigFloat().Quo(power, bigFloat().SetInt64(2*k+1))
			if k%2 == 1 {
				term.Neg(term)
			}
			sum.Add(sum, term)
			power = bigFloat().Mul(power, square)
		}
		return sum
	}
	a := bigFloat().Mul(bigFloat().SetInt64(16), arctan(5))
	return a.Sub(a, bigFloat().Mul(bigFloat().SetInt64(4), arctan(239)))
}

// bigSinCos sums the power series after taking off multiples of π/2.
func bigSinCos(x float64, pi *big.Float) (sin, cos *big.Float) {
	half := bigFloat().Quo(pi, bigFloat().SetInt64(2))
	n := math.RoundToEven(x * 2 / math.Pi)
	r := bigFloat().SetFloat64(x)
	r.Sub(r, bigFloat().Mul(half, bigFloat().SetFloat64(n)))
	series := func(term *big.Float, k int64) *big.Float {
		sum := bigFloat()
		for ; k < 80; k += 2 {
			sum.Add(sum, term)
			term = bigFloat().Mul(term, r)
			term.Mul(term, r)
			term.Quo(term, bigFloat().SetInt64(-(k+1)*(k+2)))
		}
		return sum
	}
	s, c := series(bigFloat().Set(r), 1), series(bigFloat().SetInt64(1), 0)
	switch int64(n) & 3 {
	case 1:
		s, c = c, s.Neg(s)
	case 2:
		s, c = s.Neg(s), c.Neg(c)
	case 3:
		s, c = c.Neg(c), s
	}
	return s, c
}

// ulps64 is the distance from want in units of the last place of got.
func ulps64(got float64, want *big.Float) float64 {
	unit := math.Nextafter(math.Abs(got), math.Inf(1)) - math.Abs(got)
	diff, _ := bigFloat().Sub(bigFloat().SetFloat64(got), want).Float64()
	return math.Abs(diff) / unit
}

func TestSinCosWithinOneULP(t *testing.T) {
	pi := bigPi()
	r := rand.New(rand.NewSource(1))
	worst := 0.0
	try := func(x float64) {
		sin, cos := SinCos(x)
		bigSin, bigCos := bigSinCos(x, pi)
		e := math.Max(ulps64(sin, bigSin), ulps64(cos, bigCos))
		require.LessOrEqual(t, e, 1.0, "x = %v", x)
		worst = math.Max(worst, e)
	}
	for range 3000 {
		try(r.Float64() * math.Exp2(float64(r.Intn(61)-30)))
		try(-float64(r.Intn(1 << 30)))
		// Near the zeros.
		try(math.Nextafter(float64(r.Intn(1<<29))*math.Pi/2, float64(r.Intn(2))*1e10))
	}
	try(1 << 30)
	t.Logf("worst error %.3f ULP", worst)

	sin, cos := SinCos(0)
	require.Equal(t, []float64{0, 1}, []float64{sin, cos})
	sin, cos = SinCos(math.NaN())
	require.True(t, math.IsNaN(sin) && math.IsNaN(cos))
}
