package portable

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

var exhaustive = flag.Bool("exhaustive", false, "try all 2³² inputs of every elementary function")

// functions lists what is promised: the largest error over all of [lo, hi], in units of the last
// place of the exact result. The reference is Go's float64 mathematics, good to 2⁻²⁸ of such a unit.
var functions = []struct {
	name   string
	f      func(float32) float32
	exact  func(float64) float64
	lo, hi float32 // where the bound holds
	ulp    float64
	a, b   float32 // where the RMS error is taken, uniformly
}{
	{"Exp2", Exp2, math.Exp2, -125.5, 127, 0.7782, -30, 0},
	{"Exp", Exp, math.Exp, ExpMin, ExpMax, 0.993, -20, 20},
	{"Log2", Log2, math.Log2, 0x1p-149, math.MaxFloat32, 0.932, 0.5, 2},
	{"Tanh", Tanh, math.Tanh, -math.MaxFloat32, math.MaxFloat32, 1.255, -4, 4},
}

// ulps is the error of got in units of the last place of the exact value.
func ulps(got float32, exact float64) float64 {
	exponent := int(math.Float64bits(exact)>>52&0x7ff) - 1023
	unit := math.Float64frombits(uint64(max(exponent, -126)-23+1023) << 52)
	return math.Abs(float64(got)-exact) / unit
}

// sequence is a fixed generator of 32-bit integers (splitmix64), the same on every machine.
func sequence(seed uint64) func() uint32 {
	return func() uint32 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return uint32((z ^ z>>31) >> 32)
	}
}

// between maps u to [a, b]. The conversion keeps compilers from fusing.
func between(a, b float32, u uint32) float32 {
	return a + float32((b-a)*float32(float32(u)*0x1p-32))
}

func TestErrorBounds(t *testing.T) {
	for _, fn := range functions {
		t.Run(fn.name, func(t *testing.T) {
			next := sequence(1)
			worst, at := 0.0, float32(0)
			try := func(x float32) float64 {
				if !(fn.lo <= x && x <= fn.hi) {
					return 0
				}
				e := ulps(fn.f(x), fn.exact(float64(x)))
				if !(e <= worst) {
					worst, at = e, x
				}
				return e
			}
			const n = 1 << 20
			squares := 0.0
			for range n {
				try(fromBits(next()))
				e := try(between(fn.a, fn.b, next()))
				squares += e * e
			}
			require.LessOrEqual(t, worst, fn.ulp, "at %x", at)
			t.Logf("max %.4f ULP at %x, RMS %.4f ULP for %v to %v", worst, at, math.Sqrt(squares/n), fn.a, fn.b)
		})
	}
}

// TestExhaustive takes some minutes per function: go test -run Exhaustive -exhaustive -timeout 1h -v
func TestExhaustive(t *testing.T) {
	if !*exhaustive {
		t.Skip("without -exhaustive")
	}
	for _, fn := range functions {
		t.Run(fn.name, func(t *testing.T) {
			worst, at, inversions := 0.0, float32(0), 0
			for sign := uint32(0); sign <= 1; sign++ {
				previous := fn.f(fromBits(sign << 31))
				for u := range uint32(1 << 31) {
					x := fromBits(sign<<31 | u)
					y := fn.f(x)
					if fn.lo <= x && x <= fn.hi {
						if e := ulps(y, fn.exact(float64(x))); !(e <= worst) {
							worst, at = e, x
						}
						if sign == 0 && y < previous || sign == 1 && y > previous {
							inversions++
						}
						previous = y
						continue
					}
					if want := beyond(fn.name, x); !same(y, want) {
						require.Failf(t, "special value", "%s(%x) = %x, want %x", fn.name, x, y, want)
					}
				}
			}
			t.Logf("max %.5f ULP at %x, %d inversions between neighbours", worst, at, inversions)
			require.LessOrEqual(t, worst, fn.ulp, "at %x", at)
		})
	}
}

// beyond is the specified result outside the range where the error bound applies.
func beyond(name string, x float32) float32 {
	switch {
	case x != x, name == "Log2" && x < 0:
		return nan
	case name == "Exp2" && x > 127:
		return Exp2(x) // unspecified
	case name == "Tanh":
		return float32(math.Copysign(1, float64(x)))
	case name == "Log2" && x == 0:
		return -inf
	case x < 0:
		return 0
	}
	return inf
}

// same is equality of bits, with all NaN alike.
func same(a, b float32) bool { return toBits(a) == toBits(b) || a != a && b != b }

func TestSpecialValues(t *testing.T) {
	negZero := float32(math.Copysign(0, -1))
	cases := []struct {
		name    string
		f       func(float32) float32
		x, want float32
	}{
		{"Exp2", Exp2, 0, 1}, {"Exp2", Exp2, negZero, 1}, {"Exp2", Exp2, nan, nan}, {"Exp2", Exp2, -inf, 0},
		{"Exp2", Exp2, -125, 0x1p-125}, {"Exp2", Exp2, -125.5, 0}, {"Exp2", Exp2, -126, 0}, {"Exp2", Exp2, -math.MaxFloat32, 0},
		{"Exp2", Exp2, fromBits(0x7f800001), nan}, {"Exp2", Exp2, fromBits(0xffffffff), nan},
		{"Exp", Exp, 0, 1}, {"Exp", Exp, negZero, 1}, {"Exp", Exp, nan, nan}, {"Exp", Exp, inf, inf}, {"Exp", Exp, -inf, 0},
		{"Exp", Exp, 0x1p-149, 1}, {"Exp", Exp, -0x1p-149, 1}, {"Exp", Exp, fromBits(0x7f800001), nan}, {"Exp", Exp, fromBits(0xffffffff), nan},
		{"Exp", Exp, math.Nextafter32(ExpMax, inf), inf}, {"Exp", Exp, ExpMin, 0x1p-149}, {"Exp", Exp, math.Nextafter32(ExpMin, -inf), 0},
		{"Log2", Log2, 1, 0}, {"Log2", Log2, 0, -inf}, {"Log2", Log2, negZero, -inf}, {"Log2", Log2, inf, inf}, {"Log2", Log2, -inf, nan},
		{"Log2", Log2, nan, nan}, {"Log2", Log2, -1, nan}, {"Log2", Log2, -0x1p-149, nan}, {"Log2", Log2, fromBits(0xffffffff), nan},
		{"Tanh", Tanh, 0, 0}, {"Tanh", Tanh, negZero, negZero}, {"Tanh", Tanh, inf, 1}, {"Tanh", Tanh, -inf, -1}, {"Tanh", Tanh, nan, nan},
		{"Tanh", Tanh, 0x1p-149, 0x1p-149}, {"Tanh", Tanh, -0x1p-149, -0x1p-149}, {"Tanh", Tanh, 9.02, 1}, {"Tanh", Tanh, -math.MaxFloat32, -1},
		{"Tanh", Tanh, fromBits(0xff800001), nan},
	}
	for _, c := range cases {
		require.Truef(t, same(c.f(c.x), c.want), "%s(%x) = %x, want %x", c.name, c.x, c.f(c.x), c.want)
	}
}

func TestPowersOfTwoAreExact(t *testing.T) {
	for n := -149; n <= 127; n++ {
		power := float32(math.Ldexp(1, n))
		require.Equal(t, float32(n), Log2(power), "Log2(2^%d)", n)
		if n >= -125 {
			require.Equal(t, power, Exp2(float32(n)), "Exp2(%d)", n)
		}
	}
}

func TestTanhIsOdd(t *testing.T) {
	next := sequence(2)
	for range 1 << 18 {
		x := fromBits(next())
		require.True(t, same(Tanh(-x), -Tanh(x)), "at %x", x)
	}
}

func TestRoundEven(t *testing.T) {
	for i := -4000; i <= 4000; i++ {
		for _, base := range []float32{0, 1 << 21, -(1 << 21)} {
			x := base + float32(i)/8
			require.Equal(t, float32(math.RoundToEven(float64(x))), RoundEven(x)+0, "at %v", x)
		}
	}
}

// TestDigests compares the bits of all results over fixed inputs, on whatever machine this is, with those written down.
func TestDigests(t *testing.T) {
	want := map[string]string{
		"FMA":  "b8edf974672a6fbd",
		"Exp2": "a242b1a1d568cc65",
		"Exp":  "babe9c4116bc4506",
		"Log2": "2e3ce70dae986c40",
		"Tanh": "4f5e7f6097f96565",
	}
	digest := func(f func(next func() uint32) float32) string {
		h, next := fnv.New64a(), sequence(3)
		for range 1 << 17 {
			bits := uint32(0x7fc00000)
			if y := f(next); y == y {
				bits = toBits(y)
			}
			h.Write(binary.LittleEndian.AppendUint32(nil, bits))
		}
		return fmt.Sprintf("%016x", h.Sum64())
	}
	got := map[string]string{"FMA": digest(func(next func() uint32) float32 {
		// exponents close together, so that the addend matters; and often few mantissa bits
		operand := func() float32 {
			u := next()
			if u&1 != 0 {
				u &= 0xffff0003
			}
			return fromBits(u&0x8fffffff | 0x30000000)
		}
		return FMA(operand(), operand(), operand())
	})}
	for _, fn := range functions {
		got[fn.name] = digest(func(next func() uint32) float32 {
			u := next()
			if x := fromBits(u); next()&3 == 0 && !(fn.name == "Exp2" && x > fn.hi) {
				return fn.f(x) // any bit pattern
			}
			return fn.f(between(fn.a, fn.b, u))
		})
	}
	require.Equal(t, want, got)
}

func BenchmarkFunctions(b *testing.B) {
	for _, fn := range functions {
		b.Run(fn.name, func(b *testing.B) {
			x, s := make([]float32, 1024), float32(0)
			next := sequence(4)
			for i := range x {
				x[i] = between(fn.a, fn.b, next())
			}
			for i := range b.N {
				s += fn.f(x[i%len(x)])
			}
			sink = s
		})
	}
}
