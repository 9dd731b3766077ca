package kernel_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/quern-go/quern/kernel"
)

// A sequence is decoded token by token over a cache, and every token gets the bits that one prefill of
// the whole sequence gives it.
func ExampleCache() {
	const tokens, heads, kvHeads, dim = 300, 8, 2, 64
	r := rand.New(rand.NewPCG(1, 2))
	random := func(heads int) []float32 {
		x := make([]float32, tokens*heads*dim)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	q, k, v := random(heads), random(kvHeads), random(kvHeads) // as projections give them: [token, head, dim]

	prefill := make([]float32, len(q))
	err := kernel.Attention(kernel.BSHD(prefill, 1, tokens, heads, dim),
		kernel.BSHD(q, 1, tokens, heads, dim), kernel.BSHD(k, 1, tokens, kvHeads, dim), kernel.BSHD(v, 1, tokens, kvHeads, dim),
		kernel.Options{Mask: kernel.Causal{}})
	if err != nil {
		panic(err)
	}

	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: kvHeads, Dim: dim})
	if err != nil {
		panic(err)
	}
	decoded := make([]float32, len(q))
	var attender kernel.Attender
	for i := range tokens {
		token := func(x []float32, heads int) kernel.Tensor {
			return kernel.BSHD(x[i*heads*dim:(i+1)*heads*dim], 1, 1, heads, dim)
		}
		if err := cache.Append(token(k, kvHeads), token(v, kvHeads)); err != nil {
			panic(err)
		}
		if err := attender.Attend(token(decoded, heads), token(q, heads), []*kernel.Cache{cache}, kernel.Options{}); err != nil {
			panic(err)
		}
	}
	fmt.Println(cache.Len(), "tokens, equal bits:", slices.Equal(prefill, decoded))
	// Output: 300 tokens, equal bits: true
}

// Sequences that begin alike share the pages of what they have in common, and a step serves them all
// in one call. When the pool is exhausted Append says so and changes nothing.
func ExamplePool() {
	const heads, dim = 4, 32
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: dim, Format: kernel.BFloat16, PageKeys: 128, MaxBytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	prompt := make([]float32, 1000*dim)
	first := pool.NewCache()
	if err := first.Append(kernel.BHSD(prompt, 1, 1, 1000, dim), kernel.BHSD(prompt, 1, 1, 1000, dim)); err != nil {
		panic(err)
	}
	second := first.Fork()
	caches := []*kernel.Cache{first, second}
	k := kernel.BHSD(make([]float32, 2*dim), 2, 1, 1, dim)
	for b, c := range caches {
		if err := c.Append(k.Batch(b), k.Batch(b)); err != nil {
			panic(err)
		}
	}
	q, out := make([]float32, 2*heads*dim), make([]float32, 2*heads*dim)
	if err := kernel.Attend(kernel.BHSD(out, 2, heads, 1, dim), kernel.BHSD(q, 2, heads, 1, dim), caches, kernel.Options{}); err != nil {
		panic(err)
	}
	fmt.Println(first.Len(), second.Len(), "keys in", pool.Bytes()/int64(pool.PageBytes()), "pages")
	fmt.Println(second.Truncate(998), second.Len())
	// Output:
	// 1001 1001 keys in 9 pages
	// <nil> 998
}
