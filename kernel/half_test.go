package kernel

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
)

// eachLevel runs a test on every instruction set that this CPU has, or on that of QUERN_ISA.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, l := range isa.Supported() {
		t.Run(l.String(), func(t *testing.T) {
			if forced := os.Getenv(isa.ForceVariable); forced != "" && forced != l.String() {
				t.Skipf("%s=%s", isa.ForceVariable, forced)
			}
			defer isa.Use(l)()
			f(t)
		})
	}
}

// Every number of 16 bits survives the way to float32 and back; NaN becomes quiet at most.
func TestHalvesWidenAndNarrow(t *testing.T) {
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	eachLevel(t, func(t *testing.T) {
		wide, back := make([]float32, len(all)), make([]uint16, len(all))
		Widen(wide, View[BF16](all))
		Narrow(View[BF16](back), wide)
		for i, h := range all {
			require.Equal(t, uint32(h)<<16, math.Float32bits(wide[i]))
			want := h
			if wide[i] != wide[i] {
				want |= 0x40
			}
			require.Equal(t, want, back[i])
			require.Equal(t, back[i], uint16(ToBF16(wide[i])))
		}
		Widen(wide, View[F16](all))
		Narrow(View[F16](back), wide)
		for i, h := range all {
			require.Equal(t, math.Float32bits(F16(h).Float32()), math.Float32bits(wide[i]))
			want := h
			if wide[i] != wide[i] {
				want |= 0x200
			} else {
				require.Equal(t, exactF16(h), float64(wide[i]), "%#04x", h)
			}
			require.Equal(t, want, back[i])
			require.Equal(t, back[i], uint16(ToF16(wide[i])))
		}
	})
}

// exactF16 is the value of a float16 that is not NaN.
func exactF16(h uint16) float64 {
	sign := 1 - 2*float64(h>>15)
	e, f := int(h>>10&31), float64(h&0x3ff)
	switch e {
	case 31:
		return math.Inf(int(sign))
	case 0:
		return sign * math.Ldexp(f, -24)
	}
	return sign * math.Ldexp(1024+f, e-25)
}

// nasty returns float32 around every boundary of the 16-bit formats, and random ones.
func nasty() []float32 {
	var x []float32
	add := func(b uint32) { x = append(x, math.Float32frombits(b)) }
	for h := range uint32(1 << 16) {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			add(h<<16 | low)
		}
		f := math.Float32bits(F16(h).Float32())
		for _, d := range []uint32{0xfff, 0x1000, 0x1001, 0x1fff, 1, ^uint32(0)} {
			add(f + d)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		add(r.Uint32())
		add(r.Uint32()%0x0a000000 + 0x32000000 | r.Uint32()&0x80000000) // near the subnormal float16
	}
	return x
}

func TestNarrowRoundsAlikeEverywhere(t *testing.T) {
	x := nasty()
	wantB, wantF := make([]BF16, len(x)), make([]F16, len(x))
	for i, f := range x {
		wantB[i], wantF[i] = ToBF16(f), ToF16(f)
		if f == f {
			requireNearest(t, float64(f), wantB[i], 0x1p128)
			requireNearest(t, float64(f), wantF[i], 0x1p16)
		} else {
			require.True(t, isNaN(wantB[i].Float32()) && isNaN(wantF[i].Float32()))
		}
	}
	eachLevel(t, func(t *testing.T) {
		b, f := make([]BF16, len(x)), make([]F16, len(x))
		Narrow(b, x)
		require.Equal(t, wantB, b)
		Narrow(f, x)
		require.Equal(t, wantF, f)
	})
}

func isNaN(f float32) bool { return f != f }

// requireNearest checks that neither neighbour of h is nearer to f, nor as near and even. Infinity
// counts as the next power of two.
func requireNearest[T interface {
	Half
	Float32() float32
}](t *testing.T, f float64, h T, top float64) {
	value := func(h T) float64 {
		v := float64(h.Float32())
		if math.IsInf(v, 0) {
			return math.Copysign(top, v)
		}
		return v
	}
	if math.IsInf(f, 0) {
		require.Equal(t, f, float64(h.Float32()))
		return
	}
	// Without require, which takes most of the time.
	if math.Signbit(f) != math.Signbit(float64(h.Float32())) {
		t.Fatalf("%g became %g", f, value(h))
	}
	d := math.Abs(f - value(h))
	magnitude := h & 0x7fff
	if magnitude > 0 {
		e := math.Abs(f - value(h-1))
		if !(d < e || d == e && h&1 == 0) {
			t.Fatalf("%g became %g", f, value(h))
		}
	}
	if !math.IsInf(float64(h.Float32()), 0) {
		e := math.Abs(f - value(h+1))
		if !(d < e || d == e && h&1 == 0) {
			t.Fatalf("%g became %g", f, value(h))
		}
	}
}

// Every length, with guards on both sides.
func TestConversionsOfEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	src := make([]float32, 100)
	for i := range src {
		src[i] = float32(r.NormFloat64())
	}
	eachLevel(t, func(t *testing.T) {
		for n := range len(src) {
			b, f := make([]BF16, n+2), make([]F16, n+2)
			Narrow(b[1:n+1], src[:n])
			Narrow(f[1:n+1], src[:n])
			wb, wf := make([]float32, n+2), make([]float32, n+2)
			Widen(wb[1:n+1], b[1:n+1])
			Widen(wf[1:n+1], f[1:n+1])
			for i := range n {
				require.Equal(t, ToBF16(src[i]), b[1+i])
				require.Equal(t, ToF16(src[i]), f[1+i])
				require.Equal(t, b[1+i].Float32(), wb[1+i])
				require.Equal(t, f[1+i].Float32(), wf[1+i])
			}
			require.Zero(t, b[0]|b[n+1])
			require.Zero(t, f[0]|f[n+1])
			require.Zero(t, wb[0]+wb[n+1]+wf[0]+wf[n+1])
		}
	})
}

func TestConversionsRefuseLengthsThatDiffer(t *testing.T) {
	require.PanicsWithValue(t, "quern: Widen: len(dst) is 3, len(src) is 2", func() { Widen(make([]float32, 3), make([]F16, 2)) })
	require.PanicsWithValue(t, "quern: Narrow: len(dst) is 3, len(src) is 2", func() { Narrow(make([]BF16, 3), make([]float32, 2)) })
}

func TestConversionsDoNotAllocate(t *testing.T) {
	wide, half := make([]float32, 100), make([]F16, 100)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		Narrow(half, wide)
		Widen(wide, half)
	}))
}
