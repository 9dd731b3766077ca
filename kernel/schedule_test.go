package kernel_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestSlotsAreNotTakenEarly runs documents of very different lengths, many of them empty, on several
// workers: an empty document has no work, but the slot of its keys may still be in use by the one
// before.
func TestSlotsAreNotTakenEarly(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		cum := []int{0}
		for range 3 + rng.IntN(20) {
			n := 0
			if rng.IntN(3) == 0 {
				n = 100 + rng.IntN(200)
			}
			cum = append(cum, cum[len(cum)-1]+n)
		}
		const dim = 5
		total := cum[len(cum)-1]
		x := make([]float32, 4*total*dim)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		view := func(i int) kernel.Tensor { return kernel.BHSD(x[i*total*dim:(i+1)*total*dim], 1, 1, total, dim) }
		run := func(workers int) []float32 {
			err := kernel.Attention(view(3), view(0), view(1), view(2), kernel.Options{Workers: workers, Ragged: kernel.Ragged{CumQueries: cum}})
			require.NoError(t, err)
			return append([]float32(nil), x[3*total*dim:]...)
		}
		one := run(1)
		for workers := 2; workers <= 4; workers++ {
			require.True(t, slices.Equal(one, run(workers)), "%d workers, documents %v", workers, cum)
		}
	}
}
