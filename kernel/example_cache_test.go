package kernel_test

import (
	"errors"
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

// A long prompt goes into a window of 128 keys and its own queries see what they should, though the pool never has room
// for all of it.
func ExampleAppendAttend() {
	const tokens, dim = 5000, 8
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, tokens*dim)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	prompt := kernel.BHSD(x, 1, 1, tokens, dim)

	config := kernel.CacheConfig{KVHeads: 1, Dim: dim, Window: 128, PageKeys: 128, MaxBytes: 64 << 10}
	cache, err := kernel.NewCache(config)
	if err != nil {
		panic(err)
	}
	out, want := make([]float32, tokens*dim), make([]float32, tokens*dim)
	err = kernel.AppendAttend(kernel.BHSD(out, 1, 1, tokens, dim), prompt, prompt, prompt,
		[]*kernel.Cache{cache}, kernel.Options{Mask: kernel.Causal{}})
	if err != nil {
		panic(err)
	}
	err = kernel.Attention(kernel.BHSD(want, 1, 1, tokens, dim), prompt, prompt, prompt,
		kernel.Options{Mask: kernel.Window{Left: 127}})
	if err != nil {
		panic(err)
	}
	fmt.Println(cache.Len(), "tokens in", cache.Bytes()/1024, "KiB, equal bits:", slices.Equal(want, out))
	// Output: 5000 tokens in 60 KiB, equal bits: true
}

// A server that appends the keys of a step's tokens and attends to them in one call, token by token, without
// allocating.
func ExampleAttender_AppendAttend() {
	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 1})
	if err != nil {
		panic(err)
	}
	var attender kernel.Attender
	for _, value := range []float32{2, 4, 9} {
		zero, out := kernel.BHSD([]float32{0}, 1, 1, 1, 1), []float32{0}
		err := attender.AppendAttend(kernel.BHSD(out, 1, 1, 1, 1), zero, zero,
			kernel.BHSD([]float32{value}, 1, 1, 1, 1),
			[]*kernel.Cache{cache}, kernel.Options{Workers: 1})
		fmt.Println(out, err)
	}
	// Output:
	// [2] <nil>
	// [3] <nil>
	// [5] <nil>
}

// When a server is idle, its pool gives up the memory of the peak.
func ExamplePool_Trim() {
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 64})
	if err != nil {
		panic(err)
	}
	cache := pool.NewCache()
	prompt := kernel.BHSD(make([]float32, 2048*64), 1, 1, 2048, 64)
	if err := cache.Append(prompt, prompt); err != nil {
		panic(err)
	}
	fmt.Println(pool.Bytes() > 0, pool.Trim() >= pool.Bytes())
	cache.Free()
	fmt.Println(pool.Bytes(), pool.Trim() > 0, pool.Trim())
	// Output:
	// true false
	// 0 true 0
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

// What a page of 128 keys of one head takes: 128 numbers a key and as many a value.
func ExampleFormat() {
	for _, format := range []kernel.Format{kernel.Float32, kernel.BFloat16, kernel.Float16, kernel.Int8} {
		pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 128, PageKeys: 128, Format: format})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%-8v %d KiB\n", format, pool.PageBytes()>>10)
	}
	// Output:
	// float32  128 KiB
	// bfloat16 64 KiB
	// float16  64 KiB
	// int8     33 KiB
}

// Guesses are appended and attended to, and those that turn out wrong forgotten.
func ExampleCache_Truncate() {
	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 1})
	if err != nil {
		panic(err)
	}
	add := func(values ...float32) {
		x := kernel.BHSD(values, 1, 1, len(values), 1)
		if err := cache.Append(x, x); err != nil {
			panic(err)
		}
	}
	add(1, 2, 3)
	add(10, 20) // guesses
	err = cache.Truncate(3)
	fmt.Println(cache.Len(), err)
	cache.Reset() // another sequence
	fmt.Println(cache.Len(), cache.Bytes())
	cache.Free() // for good
	// Output:
	// 3 <nil>
	// 0 0
}

// A budget for all sequences: one that finds no room can make some.
func ExampleErrPool() {
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 64, PageKeys: 128, MaxBytes: 200_000})
	if err != nil {
		panic(err)
	}
	prompt := kernel.BHSD(make([]float32, 200*64), 1, 1, 200, 64)
	old, next := pool.NewCache(), pool.NewCache()
	fmt.Println(old.Append(prompt, prompt), pool.FreeBytes()/int64(pool.PageBytes()), "page is free")
	if err := next.Append(prompt, prompt); errors.Is(err, kernel.ErrPool) {
		old.Free()
	}
	fmt.Println(next.Append(prompt, prompt), next.Len(), next.Pool() == pool)
	// Output:
	// <nil> 1 page is free
	// <nil> 200 true
}

// Of a sliding window of 300 keys, pages that nobody can see any more are given back.
func ExampleCacheConfig_window() {
	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 8, Window: 300, PageKeys: 128})
	if err != nil {
		panic(err)
	}
	chunk := kernel.BHSD(make([]float32, 100*8), 1, 1, 100, 8)
	for range 50 {
		if err := cache.Append(chunk, chunk); err != nil {
			panic(err)
		}
	}
	fmt.Println(cache.Len(), "keys so far,", cache.Bytes()/int64(cache.Pool().PageBytes()), "pages")
	// Output: 5000 keys so far, 5 pages
}

// One step of a server: a sequence whose prompt arrives, three tokens, beside one that generates its second token. Their
// queries lie end to end. All scores are 0, so that a query gets the mean of the values that it sees.
func ExampleAttend() {
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 1})
	if err != nil {
		panic(err)
	}
	caches := []*kernel.Cache{pool.NewCache(), pool.NewCache()}
	add := func(c *kernel.Cache, values ...float32) {
		keys := make([]float32, len(values))
		if err := c.Append(kernel.BHSD(keys, 1, 1, len(keys), 1), kernel.BHSD(values, 1, 1, len(values), 1)); err != nil {
			panic(err)
		}
	}
	add(caches[1], 10) // before
	add(caches[0], 3, 6, 9)
	add(caches[1], 30)

	q, out := make([]float32, 4), make([]float32, 4)
	err = kernel.Attend(kernel.BHSD(out, 1, 1, 4, 1), kernel.BHSD(q, 1, 1, 4, 1), caches, kernel.Options{
		Mask: kernel.Causal{}, Ragged: kernel.Ragged{CumQueries: []int{0, 3, 4}},
	})
	fmt.Println(out, err)
	// Output: [3 4.5 6 20] <nil>
}
