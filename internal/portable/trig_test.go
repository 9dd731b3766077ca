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

// nearMultiples returns the float64 up to 2³⁰ that come closest to multiples of π/2: there, most of x is cancelled.
// A float64 is m·2^(e-52), so m/n is to be close to (π/2)/2^(e-52): its convergents are the closest.
func nearMultiples(pi *big.Float) (hard []float64) {
	for e := range 30 {
		rest := bigFloat().SetMantExp(pi, -1-(e-52))
		before, last := 0.0, 1.0 // numerators
		for {
			term, _ := rest.Int(nil)
			a, _ := new(big.Float).SetInt(term).Float64()
			before, last = last, a*last+before
			if last >= 1<<53 {
				break
			}
			hard = append(hard, math.Ldexp(last, e-52))
			rest.Quo(bigFloat().SetInt64(1), rest.Sub(rest, bigFloat().SetInt(term)))
		}
	}
	return hard
}

// TestSinCosError: up to 2³⁰, the error is less than what ARITHMETIC.md calls the largest that was found, and
// negative arguments give the mirror image.
func TestSinCosError(t *testing.T) {
	pi := bigPi()
	r := rand.New(rand.NewSource(1))
	worst, nearest := 0.0, 1.0
	try := func(x float64) {
		sin, cos := SinCos(x)
		bigSin, bigCos := bigSinCos(x, pi)
		e := math.Max(ulps64(sin, bigSin), ulps64(cos, bigCos))
		require.LessOrEqual(t, e, 0.79, "x = %v", x)
		worst = math.Max(worst, e)
		if x > 0.5 { // otherwise x itself is small
			nearest = math.Min(nearest, math.Min(math.Abs(sin), math.Abs(cos)))
		}
		mirroredSin, mirroredCos := SinCos(-x)
		require.Equal(t, math.Float64bits(-sin), math.Float64bits(mirroredSin), "x = %v", -x)
		require.Equal(t, math.Float64bits(cos), math.Float64bits(mirroredCos), "x = %v", -x)
	}
	for range 2000 {
		try(r.Float64() * math.Exp2(float64(r.Intn(61)-30)))
		try(-float64(r.Intn(1 << 30)))
		try((r.Float64()*2 - 1) * (1 << 30))
		n, side := float64(r.Intn(1<<29)), float64(r.Intn(2))*1e10
		try(math.Nextafter(n*math.Pi/2, side))        // near the zeros
		try(math.Nextafter((n+0.5)*math.Pi/2, side))  // where n is in doubt
		try((n + 0.5 - r.Float64()/20) * math.Pi / 2) // where errors are largest
	}
	for _, x := range nearMultiples(pi) {
		try(x)
		try(-x)
	}
	try(1 << 30)
	require.Less(t, nearest, 0x1p-60, "hard arguments are among those tried")
	t.Logf("worst error %.3f ULP; the sine or cosine nearest to 0 is %v", worst, nearest)

	sin, cos := SinCos(0)
	require.Equal(t, []float64{0, 1}, []float64{sin, cos})
	sin, cos = SinCos(math.NaN())
	require.True(t, math.IsNaN(sin) && math.IsNaN(cos))
}
