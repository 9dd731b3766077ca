package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// lengths has every residue of 64, and chunks with their neighbours.
func lengths() []int {
	var n []int
	for i := range 200 {
		n = append(n, i)
	}
	return append(n, 768, 1000, budget.Numbers-1, budget.Numbers, budget.Numbers+1, 2*budget.Numbers+77)
}

func normals(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 0))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func narrowed[T Half](x []float32) []T {
	h := make([]T, len(x))
	Narrow(h, x)
	return h
}

func widened[T Half](h []T) []float32 {
	x := make([]float32, len(h))
	Widen(x, h)
	return x
}

func randomInt8(seed uint64, n int) []int8 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]int8, n)
	for i := range x {
		x[i] = int8(r.Uint32())
	}
	return x
}

// bitsOf is for comparing results: all NaN are equal.
func bitsOf(x ...float32) []uint32 {
	b := make([]uint32, len(x))
	for i, f := range x {
		b[i] = math.Float32bits(f)
		if f != f {
			b[i] = 0x7fc00000
		}
	}
	return b
}

func measures[T Float](x, y []T) []uint32 {
	return bitsOf(Dot(x, y), SquaredL2(x, y), Cosine(x, y), Norm(x))
}

// chainSums is the specification, without haste: the sum of products of x and y.
func chainSums(x, y []float32) float32 {
	defer isa.Use(isa.Go)()
	return Dot(x, y)
}

func TestPairsHaveTheSameBitsEverywhere(t *testing.T) {
	x, y := normals(1, 2*budget.Numbers+100), normals(2, 2*budget.Numbers+100)
	b, c := narrowed[BF16](x), narrowed[BF16](y)
	f, g := narrowed[F16](x), narrowed[F16](y)
	wide := [][2][]float32{{x, y}, {widened(b), widened(c)}, {widened(f), widened(g)}}
	for _, n := range lengths() {
		var want [3][]uint32
		for k, w := range wide {
			x, y := w[0][:n], w[1][:n]
			d := make([]float32, n)
			for i := range d {
				d[i] = x[i] - y[i]
			}
			xx := chainSums(x, x)
			want[k] = bitsOf(chainSums(x, y), chainSums(d, d),
				cosineOf(float64(chainSums(x, y)), float64(xx),
					float64(chainSums(y, y))), float32(math.Sqrt(float64(xx))))
		}
		for _, l := range isa.Supported() {
			restore := isa.Use(l)
			require.Equal(t, want[0], measures(x[:n], y[:n]), "%v float32 n=%d", l, n)
			require.Equal(t, want[1], measures(b[:n], c[:n]), "%v BF16 n=%d", l, n)
			require.Equal(t, want[2], measures(f[:n], g[:n]), "%v F16 n=%d", l, n)
			restore()
		}
	}
}

func TestIntegersAreExactEverywhere(t *testing.T) {
	for _, fill := range []func(x, y []int8){
		func(x, y []int8) {},
		func(x, y []int8) {
			for i := range x {
				x[i], y[i] = -128, 127
			}
		},
		func(x, y []int8) {
			for i := range x {
				x[i], y[i] = -128, -128
			}
		},
	} {
		x, y := randomInt8(1, 2*budget.Numbers+100), randomInt8(2, 2*budget.Numbers+100)
		fill(x, y)
		a, b := make([]uint64, len(x)), make([]uint64, len(y))
		r := rand.New(rand.NewPCG(9, 9))
		for i := range a {
			a[i], b[i] = r.Uint64(), r.Uint64()
		}
		for _, n := range lengths() {
			var xy, xx, yy, dd int64
			hamming := 0
			for i := range n {
				p, q := int64(x[i]), int64(y[i])
				xy, xx, yy, dd = xy+p*q, xx+p*p, yy+q*q, dd+(p-q)*(p-q)
				for bits := a[i] ^ b[i]; bits != 0; bits &= bits - 1 {
					hamming++
				}
			}
			for _, l := range isa.Supported() {
				restore := isa.Use(l)
				require.Equal(t, xy, DotInt8(x[:n], y[:n]), "%v n=%d", l, n)
				again := isa.WithoutExtension()
				require.Equal(t, xy, DotInt8(x[:n], y[:n]), "%v n=%d, without the extension", l, n)
				again()
				require.Equal(t, dd, SquaredL2Int8(x[:n], y[:n]), "%v n=%d", l, n)
				require.Equal(t, intCosine(xy, xx, yy), CosineInt8(x[:n], y[:n]), "%v n=%d", l, n)
				require.Equal(t, hamming, Hamming(a[:n], b[:n]), "%v n=%d", l, n)
				restore()
			}
		}
	}
}

func TestPairsOfNothingAndOfTheUnusual(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	eachLevel(t, func(t *testing.T) {
		require.Equal(t, []uint32{0, 0, 0, 0}, measures[float32](nil, []float32{}))
		require.Equal(t, []uint32{0, 0, 0, 0}, measures[BF16](nil, nil))
		require.Equal(t, []uint32{0, 0, 0, 0}, measures[F16](nil, nil))
		require.Zero(t, DotInt8(nil, nil)+SquaredL2Int8(nil, nil))
		require.Zero(t, CosineInt8(nil, nil))
		require.Zero(t, Hamming(nil, nil))

		zero, one := make([]float32, 5), []float32{1, 0, 0, 0, 0}
		require.Equal(t, bitsOf(0), bitsOf(Cosine(zero, one)))
		require.Equal(t, float32(1), Cosine(one, one))
		require.Equal(t, float32(-1), Cosine(one, []float32{-3, 0, 0, 0, 0}))
		require.Equal(t, float32(1), Cosine([]float32{1e19}, []float32{1e-19}))
		require.True(t, isNaN(Cosine(zero, []float32{nan, 0, 0, 0, 0})))
		require.True(t, isNaN(Cosine(one, []float32{inf, 0, 0, 0, 0})))
		require.True(t, isNaN(Dot(one, []float32{nan, 0, 0, 0, 0})))
		require.True(t, isNaN(SquaredL2([]float32{inf}, []float32{inf})))
		require.Equal(t, inf, SquaredL2([]float32{inf}, []float32{0}))
		require.Equal(t, bitsOf(0), bitsOf(Dot([]float32{-1e-30}, []float32{1e-30})), "no -0")
	})
}

func TestPairsRefuseLengthsThatDiffer(t *testing.T) {
	x, y := make([]float32, 3), make([]float32, 4)
	for name, f := range map[string]func(){
		"Dot":           func() { Dot(x, y) },
		"SquaredL2":     func() { SquaredL2(x, y) },
		"Cosine":        func() { Cosine(make([]BF16, 3), make([]BF16, 4)) },
		"DotInt8":       func() { DotInt8(make([]int8, 3), make([]int8, 4)) },
		"SquaredL2Int8": func() { SquaredL2Int8(make([]int8, 3), make([]int8, 4)) },
		"CosineInt8":    func() { CosineInt8(make([]int8, 3), make([]int8, 4)) },
		"Hamming":       func() { Hamming(make([]uint64, 3), make([]uint64, 4)) },
	} {
		require.PanicsWithValue(t, fmt.Sprintf("quern: %s: len(x) is 3, len(y) is 4", name), f)
	}
}

func TestPairsDoNotAllocate(t *testing.T) {
	n := 2*budget.Numbers + 5
	x, b, f, i, w := make([]float32, n), make([]BF16, n), make([]F16, n), make([]int8, n), make([]uint64, n)
	eachLevel(t, func(t *testing.T) {
		if isa.Active() == isa.Go {
			n = 100 // for speed; the same code
		}
		require.Zero(t, testing.AllocsPerRun(2, func() {
			measures := Dot(x[:n], x[:n]) + SquaredL2(x[:n], x[:n]) + Cosine(x[:n], x[:n]) + Norm(x[:n])
			measures += Dot(b[:n], b[:n]) + SquaredL2(b[:n], b[:n]) + Cosine(b[:n], b[:n])
			measures += Dot(f[:n], f[:n]) + SquaredL2(f[:n], f[:n]) + Cosine(f[:n], f[:n])
			measures += float32(DotInt8(i[:n], i[:n])) + CosineInt8(i[:n], i[:n]) + float32(Hamming(w[:n], w[:n]))
			_ = measures
		}))
	})
}
