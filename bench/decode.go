package main

import (
	"fmt"
	"math"
	"sync"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
)

// cached is attention over a key/value cache that is full already. With one query for each head memory
// is the limit: then the case is cold.
type cached struct {
	attention
	format kernel.Format
	cold   bool
}

func (c cached) String() string { return fmt.Sprintf("%v, %v cache", c.attention, c.format) }

func (c cached) prepare(workers int) *job {
	x := newQKV(c.Shape)
	out := x.newOutput()
	pool := must(kernel.NewPool(kernel.CacheConfig{
		KVHeads: c.KVHeads, Dim: c.Dim, ValueDim: c.ValueDim, Format: c.format,
		PageKeys: 2048, // as its documentation advises for long sequences
	}))
	caches := &ring[*kernel.Cache]{bytes: c.bytes(), copy: func() *kernel.Cache {
		cache := pool.NewCache()
		check(cache.Append(x.K(), x.V()))
		return cache
	}}
	attender, one := new(kernel.Attender), make([]*kernel.Cache, 1)
	opts := kernel.Options{Mask: c.mask.kernel, Workers: workers}
	j := &job{
		run: func(calls int) {
			for range calls {
				one[0] = caches.take()
				check(attender.Attend(x.view(out, c.Heads, c.Queries, c.ValueDim), x.Q(), one, opts))
			}
		},
		output:  func() [][]float32 { return [][]float32{out} },
		maxErr:  func() float64 { return x.stored(c.format).maxErr(c.mask.ref, opts, out) },
		workers: workers,
		flops:   c.flops,
	}
	if c.cold {
		memory, read := streamMemory(c.bytes(), workers)
		j.bytes, j.read, j.inputs = c.bytes(), read, []inputs{caches, memory}
	}
	return j
}

// bytes is what keys and values have, with the scales that int8 has for each.
func (c cached) bytes() int {
	rows, bytes := c.KVHeads*c.Keys, (c.Dim+c.ValueDim)*formatSize(c.format)
	if c.format == kernel.Int8 {
		bytes += 2 * 4
	}
	return rows * bytes
}

func formatSize(f kernel.Format) int { return [...]int{4, 2, 2, 1}[f] }

// stored is x with keys and values as a cache keeps them.
func (x *qkv) stored(f kernel.Format) *qkv {
	y := *x
	y.k, y.v = stored(f, x.k, x.Dim), stored(f, x.v, x.ValueDim)
	return &y
}

// stored is rows of numbers as a cache of some format keeps them.
func stored(f kernel.Format, x []float32, width int) []float32 {
	switch f {
	case kernel.BFloat16:
		return widened(elements[kernel.BF16](x))
	case kernel.Float16:
		return widened(elements[kernel.F16](x))
	case kernel.Int8:
		y := make([]float32, 0, len(x))
		for ; len(x) > 0; x = x[width:] {
			largest := float32(0)
			for _, a := range x[:width] {
				largest = max(largest, a, -a)
			}
			scale := largest / 127
			for _, a := range x[:width] {
				n := math.RoundToEven(float64(float32(a * (1 / scale))))
				y = append(y, float32(n*float64(scale)))
			}
		}
		return y
	}
	return x
}

// appended is one more token for a cache, as when generating text: so many bytes went through the caches of the CPU,
// and then the token came out of a projection.
type appended struct {
	heads, dim int
	format     kernel.Format
	flush      int
}

func (a appended) String() string {
	return fmt.Sprintf("append a token to H%d D%d, %v cache, after %s", a.heads, a.dim, a.format, size(a.flush))
}

func (a appended) prepare(int) *job {
	// The tokens go to all places of two panels of 32 keys in turn, so that every 32nd call fills one up.
	const first, last = 960, 1024
	x := newQKV(kernel.Shape{Batch: 1, Heads: a.heads, KVHeads: a.heads, Queries: 1, Keys: last, Dim: a.dim, ValueDim: a.dim})
	k, v := tokenMajor(x.k, a.heads, last, a.dim), tokenMajor(x.v, a.heads, last, a.dim)
	tokens := func(x []float32, from, to int) kernel.Tensor {
		width := a.heads * a.dim
		return kernel.BSHD(x[from*width:to*width], 1, to-from, a.heads, a.dim)
	}
	cache := sync.OnceValue(func() *kernel.Cache {
		c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: a.heads, Dim: a.dim, Format: a.format}))
		check(c.Append(tokens(k, 0, first), tokens(v, 0, first)))
		return c
	})
	full := func() bool { return cache().Len() == last }
	run := func(calls int) {
		c := cache()
		for range calls {
			if full() {
				check(c.Truncate(first))
			}
			n := c.Len()
			check(c.Append(tokens(k, n, n+1), tokens(v, n, n+1)))
		}
	}
	out := x.newOutput()
	output := func() [][]float32 {
		for !full() {
			run(1)
		}
		check(kernel.Attend(x.view(out, a.heads, 1, a.dim), x.Q(), []*kernel.Cache{cache()}, kernel.Options{Workers: 1}))
		return [][]float32{out}
	}
	flush := sync.OnceValue(func() func(calls int) {
		data := make([]float32, a.flush/4)
		fill(data, 1)
		return measure.Stream(data, 1)
	})
	return &job{
		run: run,
		before: func() {
			if full() {
				check(cache().Truncate(first))
			}
			flush()(1)
			width, n := a.heads*a.dim, cache().Len()
			measure.Stream(k[n*width:(n+1)*width], 1)(1)
			measure.Stream(v[n*width:(n+1)*width], 1)(1)
		},
		calls:   last - first,
		output:  output,
		maxErr:  func() float64 { return x.stored(a.format).maxErr(nil, kernel.Options{}, output()[0]) },
		workers: 1,
	}
}

// tokenMajor makes [sequence, heads, dim] of [heads, sequence, dim].
func tokenMajor(x []float32, heads, sequence, dim int) []float32 {
	y := make([]float32, 0, len(x))
	for i := range sequence {
		for h := range heads {
			y = append(y, x[(h*sequence+i)*dim:][:dim]...)
		}
	}
	return y
}
