package kernel_test

import (
	"runtime"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// longPrompt is a windowed cache that has room for its window and twice PageKeys keys, and a prompt that is much
// longer.
type longPrompt struct {
	config kernel.CacheConfig
	cache  *kernel.Cache
	problem
}

func newLongPrompt(t *testing.T, format kernel.Format) longPrompt {
	p := longPrompt{config: kernel.CacheConfig{KVHeads: 2, Dim: 16, ValueDim: 9, Format: format, Window: 64,
		PageKeys: 128}}
	probe, err := kernel.NewPool(p.config)
	require.NoError(t, err)
	p.config.MaxBytes = int64((64 + 2*128 + 127) / 128 * probe.PageBytes())
	p.cache, err = kernel.NewCache(p.config)
	require.NoError(t, err)
	p.problem = normalProblem(7, kernel.Shape{Batch: 1, Heads: 4, KVHeads: 2, Queries: 4096, Keys: 4096, Dim: 16,
		ValueDim: 9},
		kernel.Options{Mask: kernel.Causal{}})
	return p
}

// take appends and attends to the positions [from, to) and returns their output.
func (p *longPrompt) take(from, to int, opts kernel.Options) ([]float32, error) {
	out := floats(4 * (to - from) * 9)
	err := kernel.AppendAttend(kernel.BHSD(out, 1, 4, to-from, 9), p.q.part(0, from, to).tensor(),
		p.k.part(0, from, to).tensor(), p.v.part(0, from, to).tensor(), []*kernel.Cache{p.cache}, opts)
	return out, err
}

// TestLongPromptInAWindow: a prompt far longer than window and pool gives what it gives to a cache that holds all of
// it, and leaves the cache as small as its window.
func TestLongPromptInAWindow(t *testing.T) {
	for _, format := range formats {
		t.Run(format.String(), func(t *testing.T) {
			p := newLongPrompt(t, format)
			wide := p
			wide.config.MaxBytes, wide.config.Window = 0, 0
			wide.cache = must(kernel.NewCache(wide.config))
			causal := kernel.Options{Mask: kernel.Causal{}}
			window := kernel.Options{Mask: kernel.Window{Left: 63}}

			require.ErrorIs(t, p.cache.Append(p.k.tensor(), p.v.tensor()), kernel.ErrPool, "all at once does not fit")
			for _, part := range [][2]int{{0, 2000}, {2000, 2001}, {2001, 2100}, {2100, 3900}, {3900, 4096}} {
				want, err := wide.take(part[0], part[1], window)
				require.NoError(t, err)
				got, err := p.take(part[0], part[1], causal)
				require.NoError(t, err)
				requireSameBits(t, want, got, format, part)
				require.Equal(t, part[1], p.cache.Len())
				require.LessOrEqual(t, p.cache.Bytes(), p.config.MaxBytes)
			}
			// Speculative decoding goes back, and on.
			require.NoError(t, p.cache.Truncate(4096-128))
			require.NoError(t, wide.cache.Truncate(4096-128))
			want, err := wide.take(4096-128, 4096-120, window)
			require.NoError(t, err)
			got, err := p.take(4096-128, 4096-120, causal)
			require.NoError(t, err)
			requireSameBits(t, want, got, format, "after Truncate")
		})
	}
}

// TestLongPromptThatEnds: whatever a function does in the middle of a long prompt, the cache has all of it or none,
// and no page is lost.
func TestLongPromptThatEnds(t *testing.T) {
	for name, end := range map[string]func(c *kernel.Cache){
		"panic":  func(*kernel.Cache) { panic("ScoreFunc") },
		"Goexit": func(*kernel.Cache) { runtime.Goexit() },
		"Fork":   func(c *kernel.Cache) { require.Equal(t, 100, c.Fork().Len()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newLongPrompt(t, kernel.Float32)
			_, err := p.take(0, 100, kernel.Options{})
			require.NoError(t, err)
			free, first := p.cache.Pool().FreeBytes(), true
			opts := kernel.Options{Workers: 1, Mask: kernel.Causal{}, ScoreFunc: func(_, _, query, _ int, _ []float32) {
				if first && query > 500 {
					first = false
					end(p.cache)
				}
			}}
			ended := endOf(t, func() { _, err = p.take(100, 1072, opts) })
			if name == "Fork" {
				require.ErrorIs(t, err, kernel.ErrPool, "the fork has the page that was to be given back")
			} else {
				require.False(t, ended.returned)
			}
			require.Equal(t, 100, p.cache.Len())
			require.Equal(t, free, p.cache.Pool().FreeBytes())
			if name != "Fork" {
				_, err = p.take(100, 1072, kernel.Options{})
				require.NoError(t, err)
			}
		})
	}
}

// TestAppendAttendErrors: what is wrong is said, and nothing has been appended then.
func TestAppendAttendErrors(t *testing.T) {
	pool := must(kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 2}))
	one, two, freed := pool.NewCache(), pool.NewCache(), pool.NewCache()
	freed.Free()
	tensor := func(batch, heads, rows, dim int) kernel.Tensor {
		return kernel.BHSD(floats(batch*heads*rows*dim), batch, heads, rows, dim)
	}
	shared := floats(12)
	for name, c := range map[string]struct {
		out, q, k, v kernel.Tensor
		caches       []*kernel.Cache
		opts         kernel.Options
		want         string
	}{
		"k of other heads": {tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 2, 3, 2), tensor(1, 1, 3, 2),
			[]*kernel.Cache{one}, kernel.Options{},
			"k: shape does not match: is [1 2 3 2] (batch, heads, sequence, dim), want [1 1 3 2]"},
		"v of fewer keys": {tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 2, 2),
			[]*kernel.Cache{one}, kernel.Options{},
			"v: shape does not match: is [1 1 2 2] (batch, heads, sequence, dim), want [1 1 3 2]"},
		"twice": {tensor(2, 1, 3, 2), tensor(2, 1, 3, 2), tensor(2, 1, 3, 2), tensor(2, 1, 3, 2),
			[]*kernel.Cache{one, one}, kernel.Options{},
			"caches: option is not valid: entry 0 is there twice"},
		"freed": {tensor(2, 1, 3, 2), tensor(2, 1, 3, 2), tensor(2, 1, 3, 2), tensor(2, 1, 3, 2),
			[]*kernel.Cache{one, freed}, kernel.Options{},
			"caches: option is not valid: entry 1 was freed"},
		"lengths of keys": {tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 4, 2), tensor(1, 1, 4, 2),
			[]*kernel.Cache{one, two},
			kernel.Options{Ragged: kernel.Ragged{CumQueries: []int{0, 1,
				3}}}, "Options.Ragged.CumKeys: option is not valid: runs from 0 to 3, want 0 to 4"},
		"out is v": {kernel.BHSD(shared[:6], 1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 3, 2),
			kernel.BHSD(shared[2:8], 1, 1, 3, 2), []*kernel.Cache{one}, kernel.Options{},
			"out: memory overlaps: shares memory with k or v"},
		"q narrow": {tensor(1, 1, 3, 2), tensor(1, 1, 3, 1), tensor(1, 1, 3, 2), tensor(1, 1, 3, 2),
			[]*kernel.Cache{one}, kernel.Options{},
			"q: shape does not match: is [1 1 3 1] (batch, heads, sequence, dim), want [1 1 3 2]"},
		"workers": {tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 3, 2), tensor(1, 1, 3, 2),
			[]*kernel.Cache{one}, kernel.Options{Workers: -1},
			"Options.Workers: option is not valid: is -1, want 0 or more"},
	} {
		err := kernel.AppendAttend(c.out, c.q, c.k, c.v, c.caches, c.opts)
		require.EqualError(t, err, "quern: AppendAttend: "+c.want, name)
		require.Zero(t, one.Len()+two.Len(), name)
		require.Zero(t, pool.Bytes(), name)
	}
	none := kernel.Tensor{}
	require.NoError(t, kernel.AppendAttend(none, none, none, none, nil, kernel.Options{}), "nothing to nothing")
}
