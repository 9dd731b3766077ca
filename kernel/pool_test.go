package kernel_test

import (
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestTrim: a pool gives up what no cache has, all of it when it is idle, and what caches have stays as it is.
func TestTrim(t *testing.T) {
	config := kernel.CacheConfig{KVHeads: 2, Dim: 64}
	pool := must(kernel.NewPool(config))
	r := rand.New(rand.NewPCG(1, 0))
	const keys = 512
	x := kernel.BHSD(normal(r, 2*keys*64), 1, 2, keys, 64)
	var all []*kernel.Cache
	fill := func(n int) {
		for range n {
			c := pool.NewCache()
			require.NoError(t, c.Append(x, x))
			all = append(all, c)
		}
	}
	fill(100)
	attend := func(c *kernel.Cache) []float32 {
		out := floats(2 * 64)
		require.NoError(t, kernel.Attend(kernel.BHSD(out, 1, 2, 1, 64),
			kernel.BHSD(normal(rand.New(rand.NewPCG(2, 0)), 128), 1, 2, 1, 64), []*kernel.Cache{c}, kernel.Options{}))
		return out
	}
	want := attend(all[0])
	require.Zero(t, pool.Trim()%int64(pool.PageBytes()))

	kept := all[:0:0]
	for i, c := range all { // pages between others
		if i%3 == 0 {
			kept = append(kept, c)
		} else {
			c.Free()
		}
	}
	require.Equal(t, int64(len(kept)*pool.PageBytes()), pool.Bytes())
	require.GreaterOrEqual(t, pool.Trim(), int64((100-len(kept))*pool.PageBytes()))
	for _, c := range kept {
		require.Equal(t, want, attend(c))
	}
	fill(100) // into pages of which the system has had the memory
	for _, c := range append(kept, all...) {
		if c.Len() > 0 {
			require.Equal(t, want, attend(c))
		}
		c.Free()
	}
	require.Zero(t, pool.Bytes())

	heap := func() uint64 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	given := pool.Trim()
	require.Positive(t, given)
	require.Less(t, heap()+uint64(given)*9/10, before)
	require.Zero(t, pool.Trim())
	fill(3)
	require.Equal(t, want, attend(all[len(all)-1]))
}

// TestTrimWithin: pages that were given up count as free again where the memory is bounded.
func TestTrimWithin(t *testing.T) {
	config := kernel.CacheConfig{KVHeads: 1, Dim: 8, PageKeys: 128}
	probe := must(kernel.NewPool(config))
	config.MaxBytes = int64(10 * probe.PageBytes())
	pool := must(kernel.NewPool(config))
	x := kernel.BHSD(floats(1280*8), 1, 1, 1280, 8)
	for range 3 {
		c := pool.NewCache()
		require.NoError(t, c.Append(x, x))
		require.Zero(t, pool.FreeBytes())
		c.Free()
		require.Equal(t, config.MaxBytes, pool.FreeBytes())
		require.Equal(t, config.MaxBytes, pool.Trim())
		require.Equal(t, config.MaxBytes, pool.FreeBytes())
	}
}
