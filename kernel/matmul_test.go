package kernel

import (
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
	"github.com/quern-go/quern/ref"
)

// chain is the definition of MatMul for one element.
func chain(x, w func(k int) float32, depth int) float32 {
	var c float32
	for k := range depth {
		c = portable.FMA(x(k), w(k), c)
	}
	return c
}

func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestMatMulIsItsDefinition(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for i := range 60 {
		m, k, n := r.Intn(140), r.Intn(300), r.Intn(120)
		if i%6 == 0 { // more than a chunk
			m, k = r.Intn(30), chunkDepth+1+r.Intn(2300)
		}
		xt, wt := r.Intn(2) == 0, r.Intn(2) == 0
		view := func(rows, cols int, transposed bool) (Matrix, func(i, j int) float32) {
			if transposed {
				stride := rows + r.Intn(5)
				data := gaussian(r, cols*stride)
				return StridedRows(data, cols, rows, stride).T(), func(i, j int) float32 { return data[j*stride+i] }
			}
			stride := cols + r.Intn(5)
			data := gaussian(r, rows*stride)
			return StridedRows(data, rows, cols, stride), func(i, j int) float32 { return data[i*stride+j] }
		}
		x, xAt := view(m, k, xt)
		w, wAt := view(k, n, wt)
		var bias []float32
		if r.Intn(2) == 0 {
			bias = gaussian(r, n)
		}
		stride := n + r.Intn(4)
		for _, l := range isa.Supported() {
			func() {
				defer isa.Use(l)()
				packed, err := Pack(w)
				if err != nil {
					t.Fatal(err)
				}
				for _, workers := range []int{1, 3} {
					got := gaussian(r, m*stride)
					before := append([]float32(nil), got...)
					if err := MatMul(StridedRows(got, m, n, stride), x, packed, MatMulOptions{Bias: bias, Workers: workers}); err != nil {
						t.Fatal(err)
					}
					for i := range m {
						for j := range stride {
							want := before[i*stride+j]
							if j < n {
								if r.Intn(20) > 0 && j+5 < n {
									continue
								}
								want = chain(func(k int) float32 { return xAt(i, k) }, func(k int) float32 { return wAt(k, j) }, k)
								if bias != nil {
									want += bias[j]
								}
							}
							if !sameBits(got[i*stride+j], want) {
								t.Fatalf("%v %d×%d·%d×%d x transposed %v, w transposed %v, %d workers: [%d][%d] is %v, want %v", l, m, k, k, n, xt, wt, workers, i, j, got[i*stride+j], want)
							}
						}
					}
				}
			}()
		}
	}
}

// Weights of other formats give the bits of the widened ones, scaled.
func TestMatMulFormats(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for range 30 {
		m, k, n := r.Intn(40), r.Intn(300), r.Intn(80)
		if r.Intn(6) == 0 {
			k = 1100
		}
		w := gaussian(r, k*n)
		bf16, f16, i8 := make([]BF16, k*n), make([]F16, k*n), make([]int8, k*n)
		Narrow(bf16, w)
		Narrow(f16, w)
		scale := make([]float32, n)
		require.NoError(t, Quantize(i8, scale, RowMajor(w, k, n)))
		x, bias := gaussian(r, m*k), gaussian(r, n)
		check := func(name string, w Matrix, scale []float32, at func(i int) float32) {
			wide := make([]float32, k*n)
			for i := range wide {
				wide[i] = at(i)
			}
			if r.Intn(2) == 0 {
				// The same matrix, given transposed.
				w = transposed(w)
			}
			packed, err := PackScaled(w, scale)
			require.NoError(t, err)
			plain, err := Pack(RowMajor(wide, k, n))
			require.NoError(t, err)
			want, got := make([]float32, m*n), make([]float32, m*n)
			require.NoError(t, MatMul(RowMajor(want, m, n), RowMajor(x, m, k), plain, MatMulOptions{}))
			for i := range want {
				if scale != nil {
					want[i] *= scale[i%n]
				}
				want[i] += bias[i%n]
			}
			for _, l := range isa.Supported() {
				restore := isa.Use(l)
				require.NoError(t, MatMul(RowMajor(got, m, n), RowMajor(x, m, k), packed, MatMulOptions{Bias: bias, Workers: 2}))
				requireBits(t, want, got, "%s on %v, %d×%d×%d", name, l, m, k, n)
				restore()
			}
		}
		check("float32", RowMajor(w, k, n), scale, func(i int) float32 { return w[i] })
		check("bfloat16", RowMajor(bf16, k, n), nil, func(i int) float32 { return bf16[i].Float32() })
		check("float16", RowMajor(f16, k, n), nil, func(i int) float32 { return f16[i].Float32() })
		check("int8", RowMajor(i8, k, n), scale, func(i int) float32 { return float32(i8[i]) })
	}
}

// transposed copies a row-major matrix so that T of the copy is the matrix.
func transposed(m Matrix) Matrix {
	swap := func(copyTo func(to, from int)) {
		for i := range m.Rows {
			for j := range m.Cols {
				copyTo(j*m.Rows+i, i*m.Stride+j)
			}
		}
	}
	switch m.format {
	case BFloat16, Float16:
		from, to := elements[uint16](m), make([]BF16, m.length)
		swap(func(t, f int) { to[t] = BF16(from[f]) })
		v := RowMajor(to, m.Cols, m.Rows).T()
		v.format = m.format
		return v
	case Int8:
		from, to := elements[int8](m), make([]int8, m.length)
		swap(func(t, f int) { to[t] = from[f] })
		return RowMajor(to, m.Cols, m.Rows).T()
	}
	from, to := elements[float32](m), make([]float32, m.length)
	swap(func(t, f int) { to[t] = from[f] })
	return RowMajor(to, m.Cols, m.Rows).T()
}

func TestQuantize(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	w := []float32{
		127, 0, 1, nan, 1,
		-63.5, 0, -0.5, 1, -inf,
		1.5, 0, 0.25, 2, 3,
	}
	q, scale := make([]int8, 15), make([]float32, 5)
	require.NoError(t, Quantize(q, scale, RowMajor(w, 3, 5)))
	require.Equal(t, []int8{127, 0, 127, 0, 0, -64, 0, -64, 0, 0, 2, 0, 32, 0, 0}, q)
	require.Equal(t, []float32{1, 1, float32(1) / 127}, scale[:3])
	require.True(t, scale[3] != scale[3] && scale[4] != scale[4])
	require.ErrorIs(t, Quantize(q[1:], scale, RowMajor(w, 3, 5)), ErrShape)
	require.ErrorIs(t, Quantize(q, scale[1:], RowMajor(w, 3, 5)), ErrShape)
}

// TestQuantizersAgree: columns of weights and rows of keys follow one rule, whatever their magnitude. A number is at
// most half a step off, and tiny ones are 0 with the scale 1.
func TestQuantizersAgree(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	const n, pitch = 37, 48
	x, q, row := make([]float32, n), make([]int8, n), make([]int8, pitch)
	for exponent := -45; exponent <= 38; exponent++ {
		for _, digit := range []float64{1, 1.4, 1.6, 3, 3.4, 3.7} {
			magnitude := math.Pow(10, float64(exponent)) * digit
			if magnitude > math.MaxFloat32 {
				continue
			}
			for i := range x {
				x[i] = float32(magnitude * (2*r.Float64() - 1))
			}
			x[r.Intn(n)] = float32(magnitude)
			var scale, rowScale [1]float32
			require.NoError(t, Quantize(q, scale[:], RowMajor(x, n, 1)))
			for i, x := range x {
				value, step := float64(q[i])*float64(scale[0]), float64(scale[0])
				require.LessOrEqual(t, math.Abs(value-float64(x)), step*0.50001, "%v of %v", x, magnitude)
				require.GreaterOrEqual(t, q[i], int8(-127))
			}
			if magnitude > 1.5e-36 {
				require.Contains(t, q, int8(127))
			}
			for _, level := range isa.Supported() {
				asm.QuantizeRows(level, &row[0], pitch, &rowScale[0], &x[0], n, 1, n)
				require.Equal(t, scale, rowScale, "scale of %v on %v", magnitude, level)
				require.Equal(t, q, row[:n], "of %v on %v", magnitude, level)
			}
		}
	}
}

func TestMatMulSpecialNumbers(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	x := []float32{1, inf, 0, nan, 2, 0}
	w := pack(t, []float32{1, 0, 2, 1}, 2, 2)
	y := make([]float32, 6)
	require.NoError(t, MatMul(RowMajor(y, 3, 2), RowMajor(x, 3, 2), w, MatMulOptions{}))
	requireBits(t, []float32{inf, inf, nan, nan, 2, 0}, y, "special")
	// -0 comes from a product that underflows, and the absence of a bias leaves it alone.
	tiny := float32(math.SmallestNonzeroFloat32)
	require.NoError(t, MatMul(RowMajor(y, 1, 1), RowMajor([]float32{-tiny}, 1, 1), pack(t, []float32{tiny}, 1, 1), MatMulOptions{}))
	require.Equal(t, uint32(1<<31), math.Float32bits(y[0]))
}

func TestMatMulEmpty(t *testing.T) {
	y := []float32{7, 7, 7, 7}
	bias := []float32{1, 2}
	require.NoError(t, MatMul(RowMajor(y, 2, 2), RowMajor([]float32{}, 2, 0), pack(t, nil, 0, 2), MatMulOptions{Bias: bias}))
	require.Equal(t, []float32{1, 2, 1, 2}, y)
	require.NoError(t, MatMul(RowMajor(y, 2, 2), RowMajor([]float32{}, 2, 0), pack(t, nil, 0, 2), MatMulOptions{}))
	require.Equal(t, make([]float32, 4), y)
	require.NoError(t, MatMul(RowMajor(y, 0, 2), RowMajor(y, 0, 2), pack(t, make([]float32, 4), 2, 2), MatMulOptions{}))
	require.NoError(t, MatMul(RowMajor(y, 2, 0), RowMajor([]float32{1, 1, 1, 1}, 2, 2), pack(t, nil, 2, 0), MatMulOptions{Workers: 3}))
	require.NoError(t, MatMul(Matrix{}, Matrix{}, pack(t, nil, 0, 0), MatMulOptions{}))
}

func TestMatMulErrors(t *testing.T) {
	x, y := make([]float32, 64), make([]float32, 64)
	w := pack(t, make([]float32, 12), 3, 4)
	good := func() (y2, x2 Matrix, o MatMulOptions) { return RowMajor(y, 5, 4), RowMajor(x, 5, 3), MatMulOptions{} }
	for name, c := range map[string]struct {
		change   func(y, x *Matrix, o *MatMulOptions)
		argument string
		kind     error
	}{
		"columns":      {func(_, x *Matrix, _ *MatMulOptions) { x.Cols = 4 }, "x", ErrShape},
		"short":        {func(_, x *Matrix, _ *MatMulOptions) { x.length = 14 }, "x", ErrShape},
		"negative":     {func(_, x *Matrix, _ *MatMulOptions) { x.Stride = -1 }, "x", ErrStride},
		"rows":         {func(y, _ *Matrix, _ *MatMulOptions) { y.Rows = 4 }, "y", ErrShape},
		"short y":      {func(y, _ *Matrix, _ *MatMulOptions) { y.length = 19 }, "y", ErrShape},
		"overlap rows": {func(y, _ *Matrix, _ *MatMulOptions) { y.Stride = 3 }, "y", ErrOverlap},
		"transposed":   {func(y, _ *Matrix, _ *MatMulOptions) { y.Transposed = true }, "y", ErrOption},
		"same memory":  {func(y, x *Matrix, _ *MatMulOptions) { y.data, y.length = x.data, x.length }, "y", ErrOverlap},
		"bias":         {func(_, _ *Matrix, o *MatMulOptions) { o.Bias = make([]float32, 3) }, "MatMulOptions.Bias", ErrShape},
		"bias in y":    {func(_, _ *Matrix, o *MatMulOptions) { o.Bias = y[16:20] }, "y", ErrOverlap},
		"workers":      {func(_, _ *Matrix, o *MatMulOptions) { o.Workers = -1 }, "MatMulOptions.Workers", ErrOption},
		"format":       {func(_, x *Matrix, _ *MatMulOptions) { *x = RowMajor(make([]BF16, 15), 5, 3) }, "x", ErrFormat},
	} {
		y2, x2, o := good()
		c.change(&y2, &x2, &o)
		err := MatMul(y2, x2, w, o)
		var e *ArgumentError
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, c.argument, e.Argument, name)
		require.ErrorIs(t, err, c.kind, name)
	}
	y2, x2, o := good()
	require.ErrorIs(t, MatMul(y2, x2, nil, o), ErrOption)
	require.NoError(t, MatMul(y2, x2, w, o))
	_, err := Pack(RowMajor(x, 5, 13))
	require.ErrorIs(t, err, ErrShape)
	_, err = Pack(RowMajor(x, -1, 4))
	require.ErrorIs(t, err, ErrShape)
	_, err = PackScaled(RowMajor(x, 5, 4), x[:5])
	require.ErrorIs(t, err, ErrShape)
}

// The error against float64 is that of plain float32, products and sums rounded, or less: as long as sums
// are no larger than products, fusing spares a rounding, later it makes no difference.
func TestMatMulAccuracy(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	const m, n = 16, 32
	for _, c := range []struct {
		k     int
		share float64
	}{{2, 0.95}, {32, 1}, {1024, 1.02}} {
		var ours, plain float64
		for range 40 {
			x, wd, y := gaussian(r, m*c.k), gaussian(r, c.k*n), make([]float32, m*n)
			require.NoError(t, MatMul(RowMajor(y, m, n), RowMajor(x, m, c.k), pack(t, wd, c.k, n), MatMulOptions{}))
			want := ref.MatMul(x, wd, m, c.k, n)
			for i := range m {
				for j := range n {
					var sum float32
					for d := range c.k {
						sum += float32(x[i*c.k+d] * wd[d*n+j])
					}
					ours += math.Pow(float64(y[i*n+j])-want[i*n+j], 2)
					plain += math.Pow(float64(sum)-want[i*n+j], 2)
				}
			}
		}
		require.LessOrEqual(t, math.Sqrt(ours), c.share*math.Sqrt(plain), "k = %d", c.k)
		t.Logf("k = %d: RMS error %.3f of plain float32", c.k, math.Sqrt(ours/plain))
	}
}

func FuzzMatMul(f *testing.F) {
	f.Add(int64(1))
	f.Fuzz(func(t *testing.T, seed int64) {
		r := rand.New(rand.NewSource(seed))
		m, k, n := r.Intn(60), r.Intn(400), r.Intn(100)
		x, w := gaussian(r, m*k), pack(t, gaussian(r, k*n), k, n)
		var first []float32
		for _, l := range isa.Supported() {
			restore := isa.Use(l)
			y := make([]float32, m*n)
			require.NoError(t, MatMul(RowMajor(y, m, n), RowMajor(x, m, k), w, MatMulOptions{Workers: 1 + r.Intn(4)}))
			if first == nil {
				first = y
			}
			requireBits(t, first, y, "%v", l)
			// Row by row, too.
			for i := range m {
				row := make([]float32, n)
				require.NoError(t, MatMul(RowMajor(row, 1, n), RowMajor(x[i*k:(i+1)*k], 1, k), w, MatMulOptions{}))
				requireBits(t, first[i*n:(i+1)*n], row, "%v, row %d", l, i)
			}
			restore()
		}
	})
}

// gaussian is n numbers from N(0, 1).
func gaussian(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}
