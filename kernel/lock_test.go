package kernel_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// someCache is a cache of so many keys, all 0, of one head 8 wide.
func someCache(t *testing.T, keys int) *kernel.Cache {
	c, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 8})
	require.NoError(t, err)
	appendZeros(t, c, keys)
	return c
}

func appendZeros(t *testing.T, c *kernel.Cache, keys int) {
	x := kernel.BHSD(floats(keys*8), 1, 1, keys, 8)
	require.NoError(t, c.Append(x, x))
}

// attendOne is one query over caches.
func attendOne(t *testing.T, opts kernel.Options, caches ...*kernel.Cache) {
	n := len(caches)
	require.NoError(t, kernel.Attend(kernel.BHSD(floats(n*8), n, 1, 1, 8), kernel.BHSD(floats(n*8), n, 1, 1, 8),
		caches, opts))
}

// TestFunctionsReadCaches: what Attend calls may read the caches that it reads, while others wait to change them.
func TestFunctionsReadCaches(t *testing.T) {
	one, two := someCache(t, 300), someCache(t, 200)
	for name, opts := range map[string]func(read func()) kernel.Options{
		"ScoreFunc": func(read func()) kernel.Options {
			return kernel.Options{ScoreFunc: func(_, _, _, _ int, _ []float32) { read() }}
		},
		"MaskFunc": func(read func()) kernel.Options {
			return kernel.Options{Mask: kernel.And{kernel.Causal{},
				kernel.MaskFunc{See: func(_, _, _ int) bool { read(); return true }}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var writers sync.WaitGroup
			var once sync.Once
			read := func() {
				once.Do(func() {
					for _, c := range []*kernel.Cache{one, two} {
						writers.Go(func() { appendZeros(t, c, 1) })
					}
					time.Sleep(20 * time.Millisecond) // until they wait
					for _, c := range []*kernel.Cache{one, two} {
						require.NotZero(t, c.Len())
						require.NotZero(t, c.Bytes())
						require.Equal(t, c.Len(), c.Fork().Len())
					}
					attendOne(t, kernel.Options{}, two, one)
				})
			}
			before := one.Len() + two.Len()
			require.True(t, endOf(t, func() { attendOne(t, opts(read), one, two) }).returned)
			writers.Wait()
			require.Equal(t, before+2, one.Len()+two.Len())
		})
	}
}

// TestWritersGetTheirTurn: readers that never pause do not keep a writer waiting.
func TestWritersGetTheirTurn(t *testing.T) {
	c := someCache(t, 300)
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				attendOne(t, kernel.Options{Workers: 1}, c)
			}
		})
	}
	require.True(t, endOf(t, func() {
		for range 20 {
			appendZeros(t, c, 1)
		}
	}).returned)
	stop.Store(true)
	readers.Wait()
	require.Equal(t, 320, c.Len())
}
