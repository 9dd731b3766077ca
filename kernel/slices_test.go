package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
	"github.com/stretchr/testify/require"
)

// sliceFunctions are all functions over slices. Each returns its result, which is dst or a single number.
var sliceFunctions = []struct {
	name    string
	inPlace bool // dst and x may be the same
	call    func(dst, x, y []float32) []float32
}{
	{"Dot", false, func(_, x, y []float32) []float32 { return []float32{kernel.Dot(x, y)} }},
	{"Exp", true, func(dst, x, _ []float32) []float32 { kernel.Exp(dst, x); return dst }},
	{"Softmax", true, func(dst, x, _ []float32) []float32 { kernel.Softmax(dst, x); return dst }},
	{"LogSoftmax", true, func(dst, x, _ []float32) []float32 { kernel.LogSoftmax(dst, x); return dst }},
	{"LogSumExp", false, func(_, x, _ []float32) []float32 { return []float32{kernel.LogSumExp(x)} }},
}

// lengths are those at which vectors, blocks and pieces end.
func lengths() []int {
	var all []int
	for n := range few(300) {
		all = append(all, n)
	}
	for _, edge := range []int{1024, 2048, 1 << 15, 1 << 16} {
		all = append(all, edge-1, edge, edge+1, edge+17)
	}
	return all
}

// TestSlicesSameBits runs every function on every length in guarded memory, in place too, at every level.
func TestSlicesSameBits(t *testing.T) {
	fuzz.Levels(t, func(t *testing.T, level isa.Level) {
		var memory [3]*fuzz.Memory
		for i := range memory {
			memory[i] = fuzz.Map(t, 1<<17)
		}
		for seed, n := range lengths() {
			s := fuzz.NewSource(uint64(seed), 1)
			at := []fuzz.Place{fuzz.Tail, 0, fuzz.Place(s.IntN(16))}[s.IntN(3)]
			var buffers [3]*fuzz.Buffer
			var arguments [3][]float32
			for i, name := range []string{"dst", "x", "y"} {
				b := memory[i].Place(name, at, 1, n, n)
				b.Fill(s.Float32)
				b.Seal()
				buffers[i], arguments[i] = b, unsafe.Slice(b.Ptr(), n)
			}
			dst, x, y := arguments[0], arguments[1], arguments[2]
			for _, f := range sliceFunctions {
				what := fmt.Sprintf("%s of %d, seed %d, at %d", f.name, n, seed, at)
				restore := isa.Use(isa.Go)
				want := f.call(make([]float32, n), slices.Clone(x), slices.Clone(y))
				restore()
				unfaulting(t, what, func() { requireSameBits(t, want, f.call(dst, x, y), what) })
				for _, err := range []error{buffers[0].Intact(), buffers[1].Unchanged(), buffers[2].Unchanged()} {
					require.NoError(t, err, what)
				}
				if f.inPlace {
					unfaulting(t, what, func() { requireSameBits(t, want, f.call(x, x, y), what, ", in place") })
					require.NoError(t, buffers[1].Intact(), what)
					buffers[1].Restore()
				}
			}
		}
	})
}

// unfaulting runs f and turns an access to a guard page into a failure of the test alone.
func unfaulting(t testing.TB, what string, f func()) {
	t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			t.Fatalf("%s: %v\n%s", what, cause, debug.Stack())
		}
	}()
	f()
}

// TestSpecialSlices: what the documentation says of special values, at every level.
func TestSpecialSlices(t *testing.T) {
	inf := infinity
	type row struct{ x, softmax, logSoftmax, logSumExp []float32 }
	allNaN := []float32{nan, nan, nan}
	rows := []row{
		{nil, nil, nil, []float32{-inf}},
		{[]float32{7}, []float32{1}, []float32{0}, []float32{7}},
		{[]float32{-inf}, []float32{0}, []float32{-inf}, []float32{-inf}},
		{[]float32{-inf, -inf}, []float32{0, 0}, []float32{-inf, -inf}, []float32{-inf}},
		{[]float32{-inf, 3}, []float32{0, 1}, []float32{-inf, 0}, []float32{3}},
		{[]float32{1, nan, 2}, allNaN, allNaN, []float32{nan}},
		{[]float32{nan, nan, nan}, allNaN, allNaN, []float32{nan}},
		{[]float32{nan, -inf, -inf}, allNaN, []float32{nan, nan, nan}, []float32{nan}},
		{[]float32{1, inf, 2}, allNaN, allNaN, []float32{nan}},
		{[]float32{-inf, inf, 2}, allNaN, allNaN, []float32{nan}},
		{[]float32{0, 0, 0, 0}, []float32{.25, .25, .25, .25}, repeat(-2*math.Ln2, 4), []float32{2 * math.Ln2}},
		{[]float32{math.MaxFloat32, -math.MaxFloat32}, []float32{1, 0}, []float32{0, -inf}, []float32{math.MaxFloat32}},
		{[]float32{0, -88, -1000}, []float32{1, 0, 0}, []float32{0, -88, -1000}, []float32{0}},
	}
	// far puts its last element into another block of 1024.
	far := func(x []float32, filler float32) []float32 {
		if len(x) < 2 {
			return x
		}
		return slices.Concat(x[:len(x)-1], repeat(filler, 1024), x[len(x)-1:])
	}
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for _, r := range rows {
			x, softmax, logSoftmax := r.x, r.softmax, r.logSoftmax
			for range 2 {
				what := fmt.Sprint(r.x, len(x))
				dst := make([]float32, len(x))
				kernel.Softmax(dst, x)
				requireSameBits(t, softmax, dst, "Softmax of ", what)
				kernel.LogSoftmax(dst, x)
				requireSameBits(t, logSoftmax, dst, "LogSoftmax of ", what)
				requireSameBits(t, r.logSumExp, []float32{kernel.LogSumExp(x)}, "LogSumExp of ", what)

				absent, logAbsent := float32(0), -inf
				if slices.ContainsFunc(r.softmax, func(p float32) bool { return p != p }) {
					absent, logAbsent = nan, nan
				}
				x, softmax, logSoftmax = far(r.x, -inf), far(r.softmax, absent), far(r.logSoftmax, logAbsent)
			}
		}
		const largest, smallest = 88.72283, -103.97208 // the last arguments that do not overflow to Inf or underflow to 0
		require.Less(t, exp(largest), infinity)
		for _, c := range []struct{ x, want float32 }{
			{0, 1}, {float32(math.Copysign(0, -1)), 1}, {math.SmallestNonzeroFloat32, 1}, {-math.SmallestNonzeroFloat32, 1},
			{nan, nan}, {inf, inf}, {-inf, 0}, {math.MaxFloat32, inf}, {-math.MaxFloat32, 0},
			{math.Nextafter32(largest, 100), inf}, {smallest, math.SmallestNonzeroFloat32}, {math.Nextafter32(smallest, -200), 0},
		} {
			requireSameBits(t, []float32{c.want}, []float32{exp(c.x)}, "Exp of ", c.x)
		}
		negZero := float32(math.Copysign(0, -1))
		for n := range 70 {
			for _, c := range [][2]float32{{negZero, 1}, {negZero, negZero}, {0, -1}, {-0x1p-100, 0x1p-100}} {
				got := kernel.Dot(repeat(c[0], n), repeat(c[1], n))
				require.Zero(t, math.Float32bits(got), "Dot of %d times %v·%v", n, c[0], c[1])
			}
		}
	})
}

func exp(x float32) float32 {
	dst := []float32{sentinel}
	kernel.Exp(dst, []float32{x})
	return dst[0]
}

// ulps is |got - exact| in units in the last place, as ARITHMETIC.md counts them.
func ulps(got float32, exact float64) float64 {
	exponent := max(math.Ilogb(exact), -126)
	return math.Abs(float64(got)-exact) / math.Ldexp(1, exponent-23)
}

func TestExpWithinOneULP(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	x := make([]float32, few(1<<20))
	for i := range x {
		switch i % 3 {
		case 0: // over the whole range
			x[i] = float32(-104 + r.Float64()*(88.72+104))
		case 1: // results are subnormal
			x[i] = float32(-104 + r.Float64()*(104-87))
		default: // of any exponent that matters
			x[i] = float32(math.Copysign(math.Ldexp(1+r.Float64(), r.IntN(35)-28), r.Float64()-0.5))
		}
	}
	got, worst := make([]float32, len(x)), 0.0
	kernel.Exp(got, x)
	for i, exact := range ref.Exp(x) {
		if exact > math.MaxFloat32 {
			require.True(t, math.IsInf(float64(got[i]), 1), "Exp(%v) is %v", x[i], got[i])
			continue
		}
		e := ulps(got[i], exact)
		worst = math.Max(worst, e)
		require.LessOrEqual(t, e, 1.0, "Exp(%v) is %v, want %v", x[i], got[i], exact)
	}
	t.Logf("the largest error is %.3f ULP", worst)
}

// TestSoftmaxAgainstOracle, where arguments are near each other and where they are far from 0.
func TestSoftmaxAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 0))
	for _, n := range []int{1, 2, 10, 100, 1000, 1025, 5000, 70000} {
		for _, c := range []struct{ mean, deviation float64 }{{0, 1}, {0, 30}, {10000, 3}, {-3, 0.001}} {
			x, got := make([]float32, n), make([]float32, n)
			for i := range x {
				x[i] = float32(c.mean + c.deviation*r.NormFloat64())
			}
			what := fmt.Sprintf("%d around %v ± %v", n, c.mean, c.deviation)
			kernel.Softmax(got, x)
			sum, most := 0.0, slices.Max(x)
			for i, want := range ref.Softmax(x) {
				sum += float64(got[i])
				below := float64(most - x[i]) // a difference that is rounded
				require.InDelta(t, want, got[i], 0x1p-24*(below+6)*want+math.Exp(-87), "Softmax of %s", what)
			}
			require.InDelta(t, 1, sum, 0x1p-24*6, "Σ Softmax of %s", what)
			kernel.LogSoftmax(got, x)
			for i, want := range ref.LogSoftmax(x) {
				require.InDelta(t, want, got[i], 0x1p-24*(2*math.Abs(want)+6), "LogSoftmax of %s", what)
			}
			lse := ref.LogSumExp(x)
			require.InDelta(t, lse, kernel.LogSumExp(x), 0x1p-24*(math.Abs(lse)+6), "LogSumExp of %s", what)
		}
	}
}

// Blocks that are alike are rounded to the same side, so a sum of them must not be rounded at every step.
func TestSoftmaxOfManyBlocks(t *testing.T) {
	sizes := []int{1 << 23}
	if !testing.Short() && !race {
		sizes = append(sizes, 1<<27)
	}
	block := normal(rand.New(rand.NewPCG(3, 0)), 1024)
	for _, n := range sizes {
		x := make([]float32, n)
		for i := 0; i < n; i += len(block) {
			copy(x[i:], block)
		}
		lse := ref.LogSumExp(block) + math.Log(float64(n/len(block)))
		require.LessOrEqual(t, ulps(kernel.LogSumExp(x), lse), 4., "LogSumExp of %d", n)

		kernel.Softmax(x, x)
		sum := 0.0
		for _, p := range x {
			sum += float64(p)
		}
		require.InDelta(t, 1, sum, 0x1p-24*6, "Σ Softmax of %d", n)

		if n > sizes[0] {
			continue
		}
		log := slices.Repeat(block, n/len(block))
		kernel.LogSoftmax(log, log)
		for i, v := range log[:len(block)] {
			want := float64(block[i]) - lse
			require.InDelta(t, want, v, 0x1p-24*(2*math.Abs(want)+6), "LogSoftmax of %d", n)
		}
	}
}
