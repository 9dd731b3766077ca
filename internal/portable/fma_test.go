package portable

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	fromBits = math.Float32frombits
	toBits   = math.Float32bits
)

// exactFMA is x*y + z in 640 bits, which hold every float32 product and sum, rounded once.
func exactFMA(x, y, z float32) float32 {
	plain := float64(x)*float64(y) + float64(z)
	if math.IsNaN(plain) || math.IsInf(plain, 0) {
		return float32(plain)
	}
	wide := func(v float32) *big.Float { return new(big.Float).SetPrec(640).SetFloat64(float64(v)) }
	sum := wide(x)
	sum.Mul(sum, wide(y)).Add(sum, wide(z))
	if sum.Sign() == 0 {
		return float32(plain) // float64 knows the sign of an exact zero
	}
	r, _ := sum.Float32()
	return r
}

func checkFMA(t *testing.T, x, y, z float32) {
	t.Helper()
	got, want := FMA(x, y, z), exactFMA(x, y, z)
	if toBits(got) == toBits(want) || got != got && want != want {
		return
	}
	require.Failf(t, "FMA", "FMA(%x, %x, %x) = %x (%#08x), want %x (%#08x)", x, y, z, got, toBits(got), want, toBits(want))
}

func TestFMASpecification(t *testing.T) {
	x := float32(0x1p-75 * (1 + 0x1p-23))
	y := float32(0x1p-75 * (1 - 0x1p-23))
	z := float32(0x1p-127 + 0x1p-149)
	require.Equal(t, uint32(0x00400001), toBits(FMA(x, y, z)))
}

func TestFMANastyOperands(t *testing.T) {
	values := []float32{0, 1, 3, 0x1p-149, 0x3p-149, 0x1p-127, 0x1p-127 + 0x1p-149, 0x1p-126, 0x1.fffffcp-127,
		0x1p-75, 0x1.000002p-75, 0x1.fffffcp-76, 0x1p-24, 0x1.8p-24, 0x1p-25, 0x1.000002p-25, 0x1.fffffep-1, 0x1.000002p0, 0x1.000004p0,
		0x1p23, 0x1.fffffep23, 0x1p24, 0x1p63, 0x1p64, 0x1.fffffep63, 0x1p103, 0x1p127, 0x1.fffffep127, inf, nan}
	for _, v := range values {
		values = append(values, -v)
	}
	for _, x := range values {
		for _, y := range values {
			for _, z := range values {
				checkFMA(t, x, y, z)
			}
		}
	}
}

func TestFMARandomOperands(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	near := func(exponent, spread int) float32 {
		m := 1 + float64(r.Uint32()>>9)*0x1p-23
		if r.IntN(3) == 0 { // few mantissa bits, so that ties are common
			m = 1 + float64(r.IntN(8))*0x1p-23
		}
		return float32(math.Copysign(math.Ldexp(m, exponent+r.IntN(2*spread+1)-spread), float64(r.IntN(2))-0.5))
	}
	for range 100_000 {
		checkFMA(t, fromBits(r.Uint32()), fromBits(r.Uint32()), fromBits(r.Uint32()))
		checkFMA(t, near(0, 20), near(0, 20), near(0, 40))
		checkFMA(t, near(-75, 2), near(-75, 2), near(-135, 14)) // subnormal results
		checkFMA(t, near(63, 2), near(63, 2), near(120, 7))     // near overflow
	}
}

func TestFMANearMidpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		z := fromBits(r.Uint32()&0x807fffff | uint32(r.IntN(254))<<23)
		_, e := math.Frexp(float64(z))
		halfUlp := max(e-25, -150)
		// x*y is half an ulp of z, or that by a hair more or less: (1+2⁻ⁱ)(1-2⁻ⁱ) < 1 < (1+2⁻²³).
		tail := []float64{1, 1 + 0x1p-23, 1 - 0x1p-23}
		x := float32(math.Ldexp(tail[r.IntN(3)], halfUlp/2))
		y := float32(math.Ldexp(tail[r.IntN(3)], halfUlp-halfUlp/2))
		checkFMA(t, x, y, z)
		checkFMA(t, -x, y, z)
	}
}

func BenchmarkFMA(b *testing.B) {
	const n = 1024
	x, y := make([]float32, n), make([]float32, n)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range x {
		x[i], y[i] = r.Float32()-0.5, r.Float32()-0.5
	}
	b.Run("chain", func(b *testing.B) { // latency: one sum
		var s float32
		for range b.N / n {
			for i := range x {
				s = FMA(x[i], y[i], s)
			}
		}
		sink = s
	})
	b.Run("parallel", func(b *testing.B) { // throughput: a sum per element
		sum := make([]float32, n)
		for range b.N / n {
			for i := range sum {
				sum[i] = FMA(x[i], y[i], sum[i])
			}
		}
		sink = sum[0]
	})
	b.Run("exact", func(b *testing.B) { // small integers: always off the short path
		sum := make([]float32, n)
		for i := range x {
			x[i], y[i] = float32(i%7), float32(i%5)
		}
		for range b.N / n {
			for i := range sum {
				sum[i] = FMA(x[i], y[i], sum[i])
			}
			clear(sum)
		}
		sink = sum[0]
	})
	b.Run("plain", func(b *testing.B) { // for comparison: multiply and add, two roundings
		sum := make([]float32, n)
		for range b.N / n {
			for i := range sum {
				sum[i] += float32(x[i] * y[i])
			}
		}
		sink = sum[0]
	})
}

var sink float32
