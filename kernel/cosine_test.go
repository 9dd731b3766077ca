package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/quern-go/quern/internal/budget"
	"github.com/stretchr/testify/require"
)

// exactSum is Σ x·y without rounding: products of float32 have exponents from -298 to 256.
func exactSum(x, y []float32) *big.Float {
	sum, p := new(big.Float).SetPrec(700), new(big.Float).SetPrec(700)
	for i := range x {
		sum.Add(sum, p.SetFloat64(float64(x[i])*float64(y[i])))
	}
	return sum
}

// exactCosine is the cosine of x and y, and Σ|x·y| in the same unit.
func exactCosine(x, y []float32) (cosine, terms float64) {
	squares := exactSum(x, x)
	squares.Mul(squares, exactSum(y, y))
	if squares.Sign() == 0 {
		return 0, 0
	}
	length := squares.Sqrt(squares)
	cosine, _ = new(big.Float).Quo(exactSum(x, y), length).Float64()
	terms, _ = new(big.Float).Quo(exactSum(absolute(x), absolute(y)), length).Float64()
	return cosine, terms
}

func absolute(x []float32) []float32 {
	a := make([]float32, len(x))
	for i, v := range x {
		a[i] = max(v, -v)
	}
	return a
}

// farApart draws n numbers with exponents in a part of the whole range, which may be all of it or next to nothing.
func farApart(r *rand.Rand, n int) []float32 {
	const lowest, highest = -149, 127
	from := lowest + r.IntN(highest-lowest)
	width := 1 + r.IntN([]int{1, 10, 50, 276}[r.IntN(4)])
	x := make([]float32, n)
	for i := range x {
		if r.IntN(8) > 0 {
			m := float64(1+r.Float32()) * float64(1-2*r.IntN(2))
			x[i] = float32(math.Ldexp(m, min(from+r.IntN(width), highest)))
		}
		if x[i]-x[i] != 0 {
			x[i] = math.MaxFloat32
		}
	}
	return x
}

// requireCosine compares with the exact cosine. The bound is the error of sums that are in range.
func requireCosine(t *testing.T, x, y []float32, got float32, what ...any) {
	t.Helper()
	want, terms := exactCosine(x, y)
	bound := (terms+math.Abs(want))*float64(len(x)/64+8)*0x1p-24 + float64(len(x)+1)*0x1p-148
	require.LessOrEqual(t, math.Abs(float64(got)-want), bound,
		append([]any{"cosine of ", len(x), ": got ", got, ", want ", want, " "}, what...)...)
}

// The error has no part that depends on how long the vectors are.
func TestCosineOverTheWholeRange(t *testing.T) {
	count := 100_000
	if testing.Short() {
		count = 10_000
	}
	r := rand.New(rand.NewPCG(1, 9))
	for range count {
		n := 1 + r.IntN(8)
		if r.IntN(8) == 0 {
			n = 1 + r.IntN(200)
		}
		x, y := farApart(r, n), farApart(r, n)
		requireCosine(t, x, y, Cosine(x, y))
		norm, _ := new(big.Float).Sqrt(exactSum(x, x)).Float64()
		if norm > math.MaxFloat32 {
			require.True(t, math.IsInf(float64(Norm(x)), 1))
			continue
		}
		require.InDelta(t, norm, Norm(x), norm*float64(n/64+8)*0x1p-24+0x1p-149, "Norm")
	}
}

// Numbers that are alike are all rounded to the same side, if their squares are subnormal.
func TestCosineOfManySmallNumbers(t *testing.T) {
	for _, n := range []int{budget.Numbers, 2*budget.Numbers + 5} {
		for exponent := -77; exponent < -40; exponent++ {
			x, y := make([]float32, n), make([]float32, n)
			for i := range x {
				x[i] = float32(math.Ldexp(1.1, exponent))
				y[i] = float32(math.Ldexp(1+float64(i%2), exponent+3))
			}
			requireCosine(t, x, y, Cosine(x, y), "with exponent ", exponent)
			norm := math.Ldexp(float64(float32(1.1))*math.Sqrt(float64(n)), exponent)
			require.InEpsilon(t, norm, Norm(x), 1e-6)
		}
	}
}

// A product that vanishes may be all that two vectors have in common.
func TestCosineOfNearlyOrthogonalVectors(t *testing.T) {
	for exponent := -60; exponent < 60; exponent++ {
		for smaller := max(exponent-149, -149); smaller < exponent; smaller++ {
			large, small := float32(math.Ldexp(1, exponent)), float32(math.Ldexp(1.3, smaller))
			x, y := []float32{large, 0}, []float32{small, large}
			requireCosine(t, x, y, Cosine(x, y), exponent, " and ", smaller)
		}
	}
	require.Zero(t, Cosine([]float32{1e-25, 0}, []float32{0, 1e-25}))
}

func checkLengths[T Float](t *testing.T, exponents ...int) {
	of := func(x ...float32) []T {
		y := make([]T, len(x))
		for i := range x {
			y[i] = numberOf[T](x[i])
		}
		return y
	}
	for _, e := range exponents {
		s := float32(math.Ldexp(1, e))
		require.Equal(t, float32(1), Cosine(of(3*s, 3*s), of(1, 1)), "2^%d", e)
		require.Equal(t, float32(0.8), Cosine(of(2*s, s), of(1, 2)), "2^%d", e)
		require.Equal(t, float32(-0.8), Cosine(of(-2, -1), of(s, 2*s)), "2^%d", e)
		require.Equal(t, 5*s, Norm(of(3*s, -4*s)), "2^%d", e)
	}
}

func numberOf[T Float](x float32) (y T) {
	switch p := any(&y).(type) {
	case *float32:
		*p = x
	case *BF16:
		*p = ToBF16(x)
	case *F16:
		*p = ToF16(x)
	}
	return y
}

func TestCosineAndNormOfAnyLength(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachLevel(t, func(t *testing.T) {
		checkLengths[float32](t, -149, -148, -140, -126, -74, -63, -45, 0, 40, 62, 63, 64, 100, 124)
		checkLengths[BF16](t, -133, -126, -74, -63, -45, 0, 40, 62, 63, 64, 100, 124)
		checkLengths[F16](t, -24, -14, 0, 13)

		require.Equal(t, inf, Norm([]float32{3e38, 3e38}), "the length itself")
		require.Equal(t, float32(math.MaxFloat32), Norm([]float32{math.MaxFloat32, 1}))
		require.Equal(t, inf, Norm([]float32{1, -inf}))
		require.True(t, isNaN(Norm([]float32{nan, inf})))
		require.Zero(t, Norm(make([]BF16, 1000)))

		zero, huge, tiny := make([]float32, 600), make([]float32, 600), make([]float32, 600)
		huge[599], tiny[599] = 1e30, 1e-30
		require.Equal(t, bitsOf(0), bitsOf(Cosine(zero, huge)))
		require.Equal(t, bitsOf(0), bitsOf(Cosine(tiny, zero)))
		require.Equal(t, float32(1), Cosine(tiny, huge))
		huge[0], tiny[0] = 1e30, -1e-30
		require.Equal(t, bitsOf(0), bitsOf(Cosine(tiny, huge)))
		require.Equal(t, bitsOf(0), bitsOf(Cosine([]float32{1e20, -1e-40}, []float32{0, 1e-20})), "no -0")
		for _, bad := range []float32{nan, inf, -inf} {
			huge[300] = bad
			for _, x := range [][]float32{zero, tiny, huge} {
				require.True(t, isNaN(Cosine(huge, x)))
				require.True(t, isNaN(Cosine(x, huge)))
			}
		}
	})
}

func checkFarRows[T Scalar](t *testing.T, dim, count int) {
	r := rand.New(rand.NewPCG(4, uint64(dim)))
	rows := RowsOf(numbers[T](1, dim*count), dim)
	if data, ok := any(rows.Data).([]float32); ok {
		for i := range count {
			copy(data[i*dim:], farApart(r, dim))
		}
	}
	clear(rows.Data[dim : 2*dim])
	for range 4 {
		q := farApart(r, dim)
		want := bitsOf(oneByOne(measureCosine, q, rows)...)
		eachLevel(t, func(t *testing.T) {
			got, best := make([]float32, count), make([]Match, count)
			CosineRows(got, q, rows, ScanOptions{Workers: 1})
			require.Equal(t, want, bitsOf(got...), "%T", rows.Data)
			for _, m := range TopK(best, MetricCosine, q, rows, ScanOptions{Workers: 1}) {
				require.Equal(t, want[m.ID], bitsOf(m.Score)[0])
			}
		})
	}
}

func TestCosineRowsOfAnyLength(t *testing.T) {
	for _, c := range [][2]int{{1, 30}, {3, 300}, {70, 30}, {budget.Scanned + 3, 3}} {
		checkFarRows[float32](t, c[0], c[1])
		checkFarRows[BF16](t, c[0], c[1])
		checkFarRows[F16](t, c[0], c[1])
		checkFarRows[int8](t, c[0], c[1])
	}
}

// The sign of a scale turns a vector round, and what is no number makes it none.
func TestCosineObeysTheSignOfScales(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	scale := []float32{1, -1, nan, 0, inf, -inf, 1e-45, -3e38, float32(math.Copysign(0, -1))}
	want := []float32{1, -1, nan, 0, nan, nan, 1, -1, 0}
	order := []uint32{0, 6, 3, 8, 1, 7, 2, 4, 5}
	eachLevel(t, func(t *testing.T) {
		checkScales(t, []float32{1, 0}, []float32{10, 0}, scale, want, order)
		checkScales(t, []float32{1, 0}, []int8{10, 0}, scale, want, order)
		checkScales(t, []int8{1, 0}, []int8{10, 0}, scale, want, order)
		checkScales(t, []BF16{ToBF16(1), 0}, []F16{ToF16(10), 0}, scale, want, order)
		checkScales(t, make([]int8, intChunk+1), make([]int8, intChunk+1), scale,
			[]float32{0, 0, nan, 0, nan, nan, 0, 0, 0}, []uint32{0, 1, 3, 6, 7, 8, 2, 4, 5})
		checkScales(t, []float32{0, 1}, []float32{-10, 0}, scale, []float32{0, 0, nan, 0, nan, nan, 0, 0, 0},
			[]uint32{0, 1, 3, 6, 7, 8, 2, 4, 5})
	})
}

// checkScales has the same row with each scale.
func checkScales[Q, T Scalar](t *testing.T, q []Q, row []T, scale, want []float32, order []uint32) {
	rows, got := Rows[T]{Dim: len(row), Scale: scale}, make([]float32, len(scale))
	for range scale {
		rows.Data = append(rows.Data, row...)
	}
	CosineRows(got, q, rows, ScanOptions{Workers: 1})
	require.Equal(t, bitsOf(want...), bitsOf(got...), "%T and %T", q, row)
	for i, m := range TopK(make([]Match, len(scale)), MetricCosine, q, rows, ScanOptions{Workers: 1}) {
		require.Equal(t, order[i], m.ID)
		require.Equal(t, bitsOf(want[m.ID]), bitsOf(m.Score))
	}
}
