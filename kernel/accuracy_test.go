package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
	"github.com/stretchr/testify/require"
)

// errors2 sums squares of errors.
type errors2 struct {
	sum float64
	n   int
}

func (e *errors2) add(exact []float64, got []float32) {
	for i, x := range exact {
		e.sum += (float64(got[i]) - x) * (float64(got[i]) - x)
		e.n++
	}
}

func (e *errors2) rms() float64 { return math.Sqrt(e.sum / float64(e.n)) }

// TestAttentionIsAccurate compares with what plain float32 code computes in three passes, on N(0, 1).
func TestAttentionIsAccurate(t *testing.T) {
	rows := few(4)
	for _, c := range []struct {
		keys  int
		ratio float64 // the most that the RMS error may be of the plain one
	}{
		{16, 1.25}, {128, 1.25}, {512, 1.25}, {1024, 1}, {2048, 1}, {4096, 1},
	} {
		var ours, plain errors2
		seeds := 100
		if c.keys > 2048 {
			seeds = few(100)
		}
		for seed := range uint64(seeds) {
			p := normalProblem(seed, kernel.Shape{
				Batch: 1, Heads: 1, KVHeads: 1, Queries: rows, Keys: c.keys, Dim: 64, ValueDim: 64,
			}, kernel.Options{})
			exact := ref.Attention(p.oracle()).O
			ours.add(exact, p.run(t, 1).out)
			plain.add(exact, ref.PlainFloat32(p.oracle()))
		}
		ratio := ours.rms() / plain.rms()
		t.Logf("%4d keys: RMS error %.3g, plain float32 %.3g, ratio %.2f", c.keys, ours.rms(), plain.rms(), ratio)
		require.LessOrEqual(t, ratio, c.ratio, "%d keys", c.keys)
	}
}

// TestDotIsAccurate compares with one float32 sum, on random numbers and on sums that nearly cancel.
func TestDotIsAccurate(t *testing.T) {
	for _, n := range []int{100, 1000, 10000} {
		for name, draw := range map[string]func(r *rand.Rand) (x, y []float32){
			"normal": func(r *rand.Rand) (x, y []float32) { return normal(r, n), normal(r, n) },
			"positive": func(r *rand.Rand) (x, y []float32) {
				x, y = make([]float32, n), make([]float32, n)
				for i := range x {
					x[i], y[i] = r.Float32(), r.Float32()
				}
				return x, y
			},
			// Each product comes back with the other sign and a small change, somewhere else.
			"ill-conditioned": func(r *rand.Rand) (x, y []float32) {
				x, y = normal(r, n), normal(r, n)
				order := r.Perm(n)
				for i := range n / 2 {
					a, b := order[i], order[n-1-i]
					x[a] *= float32(math.Ldexp(1, r.IntN(20)))
					x[b], y[b] = -x[a], y[a]*(1+0x1p-20*float32(r.NormFloat64()))
				}
				return x, y
			},
		} {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				var ours, plain errors2
				for seed := range uint64(100) {
					x, y := draw(rand.New(rand.NewPCG(seed, 7)))
					var chain float32
					for i := range x {
						chain += float32(x[i] * y[i])
					}
					exact := []float64{ref.Dot(x, y)}
					got := kernel.Dot(x, y)
					ours.add(exact, []float32{got})
					plain.add(exact, []float32{chain})
					require.InDelta(t, exact[0], got, 0x1p-24*float64(n/64+8)*ref.AbsDot(x, y), "worst case")
				}
				require.LessOrEqual(t, ours.rms(), plain.rms())
			})
		}
	}
}
