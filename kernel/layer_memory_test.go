package kernel_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/kernel"
)

func TestMatMulDoesNotAllocate(t *testing.T) {
	if race {
		t.Skip("sync.Pool forgets on purpose")
	}
	r := rand.New(rand.NewPCG(3, 0))
	w := packed(normal(r, 70*90), 70, 90)
	x, y := kernel.RowMajor(normal(r, 100*70), 100, 70), kernel.RowMajor(make([]float32, 100*90), 100, 90)
	for _, workers := range []int{1, 3} {
		require.Zero(t, testing.AllocsPerRun(50, func() {
			if err := kernel.MatMul(y, x, w, kernel.MatMulOptions{Workers: workers}); err != nil {
				t.Fatal(err)
			}
		}), "%d workers", workers)
	}
}

// A page for the keys that are to come is there from the first token on.
func TestMultiHeadWithCachesDoesNotAllocate(t *testing.T) {
	if race {
		t.Skip("sync.Pool forgets on purpose")
	}
	const width, heads, tokens = 24, 3, 50
	r := rand.New(rand.NewPCG(4, 0))
	square := func() *kernel.Weights { return packed(normal(r, width*width), width, width) }
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: heads, Query: square(), Key: square(), Value: square(), Out: square(), Mask: kernel.Causal{}, Workers: 1,
	})
	require.NoError(t, err)
	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: heads, Dim: width / heads})
	require.NoError(t, err)
	x := normal(r, width)
	token := kernel.BHSD(x, 1, 1, 1, width)
	in := kernel.MultiHeadInput{X: token, Caches: []*kernel.Cache{cache}}
	require.Zero(t, testing.AllocsPerRun(tokens, func() {
		if err := layer.Forward(token, in); err != nil {
			t.Fatal(err)
		}
	}))
}
