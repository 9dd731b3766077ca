package kernel_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// call is the arguments of one attention.
type call struct {
	out, q, k, v kernel.Tensor
	opts         kernel.Options
}

func (c call) run() error { return kernel.Attention(c.out, c.q, c.k, c.v, c.opts) }

const sentinel = 12345

// validCall is a call with nothing wrong: two batches, four query heads on two, 3 queries, 5 keys of width 8, values
// of width 6. Its memory is returned too, of q, k, v and out, one behind the other; out and LSE hold sentinels.
func validCall() (c call, memory []float32) {
	const q, k, v, out = 2 * 4 * 3 * 8, 2 * 2 * 5 * 8, 2 * 2 * 5 * 6, 2 * 4 * 3 * 6
	memory = normal(rand.New(rand.NewPCG(1, 0)), q+k+v+out)
	copy(memory[q+k+v:], repeat(sentinel, out))
	return call{
		q:    kernel.BHSD(memory[:q], 2, 4, 3, 8),
		k:    kernel.BHSD(memory[q:q+k], 2, 2, 5, 8),
		v:    kernel.BHSD(memory[q+k:q+k+v], 2, 2, 5, 6),
		out:  kernel.BHSD(memory[q+k+v:], 2, 4, 3, 6),
		opts: kernel.Options{LSE: repeat(sentinel, 2*4*3), Workers: 1},
	}, memory
}

func TestArgumentErrors(t *testing.T) {
	valid, _ := validCall()
	require.NoError(t, valid.run(), "before any misuse")
	// packed makes a call packed: a batch of one.
	packed := func(c *call, queries, keys []int) {
		for _, x := range []*kernel.Tensor{&c.q, &c.k, &c.v, &c.out} {
			x.Shape[0] = 1
		}
		c.opts.LSE = c.opts.LSE[:4*3]
		c.opts.Ragged = kernel.Ragged{CumQueries: queries, CumKeys: keys}
	}
	const huge = math.MaxInt
	for _, c := range []struct {
		name     string
		misuse   func(c *call, memory []float32)
		argument string
		kind     error
		message  []string // what it must contain: the sizes
	}{
		// Shapes. Q gives batch, heads, queries and dim, K the key/value heads and keys, V the value dim.
		{"k of another batch", func(c *call, _ []float32) { c.k.Shape[0] = 1 }, "k", kernel.ErrShape, []string{"[1 2 5 8]", "[2 2 5 8]"}},
		{"k of another dim", func(c *call, _ []float32) { c.k.Shape[3] = 7 }, "k", kernel.ErrShape, []string{"[2 2 5 7]", "[2 2 5 8]"}},
		{"v of other heads", func(c *call, _ []float32) { c.v.Shape[1] = 1 }, "v", kernel.ErrShape, []string{"[2 1 5 6]", "[2 2 5 6]"}},
		{"v of fewer keys", func(c *call, _ []float32) { c.v.Shape[2] = 4 }, "v", kernel.ErrShape, []string{"[2 2 4 6]", "[2 2 5 6]"}},
		{"out of another batch", func(c *call, _ []float32) { c.out.Shape[0] = 1 }, "out", kernel.ErrShape, []string{"[1 4 3 6]", "[2 4 3 6]"}},
		{"out of fewer queries", func(c *call, _ []float32) { c.out.Shape[2] = 2 }, "out", kernel.ErrShape, []string{"[2 4 2 6]", "[2 4 3 6]"}},
		{"out of another width", func(c *call, _ []float32) { c.out.Shape[3] = 5 }, "out", kernel.ErrShape, []string{"[2 4 3 5]", "[2 4 3 6]"}},
		{"heads not a multiple", func(c *call, _ []float32) { c.q.Shape[1] = 3 }, "q", kernel.ErrShape, []string{"3", "2"}},
		{"no key/value heads", func(c *call, _ []float32) { c.k.Shape[1], c.v.Shape[1] = 0, 0 }, "q", kernel.ErrShape, []string{"4", "0"}},
		{"no width", func(c *call, _ []float32) { c.q.Shape[3], c.k.Shape[3] = 0, 0 }, "q", kernel.ErrShape, []string{"0", "1"}},
		{"negative queries", func(c *call, _ []float32) { c.q.Shape[2] = -1 }, "q", kernel.ErrShape, []string{"-1", "0"}},
		{"negative keys", func(c *call, _ []float32) { c.k.Shape[2] = -5 }, "k", kernel.ErrShape, []string{"-5", "0"}},
		{"huge batch", func(c *call, _ []float32) { c.q.Shape[0] = huge }, "q", kernel.ErrShape, []string{fmt.Sprint(huge), fmt.Sprint(1 << 28)}},
		{"huge width of v", func(c *call, _ []float32) { c.v.Shape[3] = huge }, "v", kernel.ErrShape, []string{fmt.Sprint(huge), fmt.Sprint(1 << 28)}},
		{"LSE too short", func(c *call, _ []float32) { c.opts.LSE = c.opts.LSE[1:] }, "Options.LSE", kernel.ErrShape, []string{"23", "2·4·3"}},
		{"LSE empty", func(c *call, _ []float32) { c.opts.LSE = []float32{} }, "Options.LSE", kernel.ErrShape, []string{"0", "2·4·3"}},

		// Memory.
		{"q too short", func(c *call, m []float32) { c.q = kernel.BHSD(m[:191], 2, 4, 3, 8) }, "q", kernel.ErrShape, []string{"192", "191"}},
		{"k without memory", func(c *call, _ []float32) { c.k = kernel.BHSD[float32](nil, 2, 2, 5, 8) }, "k", kernel.ErrShape, []string{"160", "0"}},
		{"v beyond its memory", func(c *call, _ []float32) { c.v.Stride[2]++ }, "v", kernel.ErrShape, []string{"124", "120"}},
		{"out too short", func(c *call, m []float32) { c.out = kernel.BHSD(m[:143], 2, 4, 3, 6) }, "out", kernel.ErrShape, []string{"144", "143"}},
		{"negative stride", func(c *call, _ []float32) { c.k.Stride[1] = -8 }, "k", kernel.ErrStride, []string{"-8", "0"}},
		{"stride overflows", func(c *call, _ []float32) { c.q.Stride[0] = huge }, "q", kernel.ErrStride, []string{"[2 4 3 8]", fmt.Sprint(huge)}},
		{"strides overflow together", func(c *call, _ []float32) { c.k.Stride = [3]int{huge / 2, huge / 2, huge / 8} }, "k", kernel.ErrStride, []string{"[2 2 5 8]", fmt.Sprint(huge / 2)}},
		{"stride overflows in bytes", func(c *call, _ []float32) { c.v.Stride[0] = huge / 4 }, "v", kernel.ErrStride, []string{"[2 2 5 6]", fmt.Sprint(huge / 4)}},
		{"stride of out overflows", func(c *call, _ []float32) { c.out.Stride[2] = huge / 2 }, "out", kernel.ErrStride, []string{"[2 4 3 6]", fmt.Sprint(huge / 2)}},

		// Overlap.
		{"out broadcast", func(c *call, _ []float32) { c.out.Stride[1] = 0 }, "out", kernel.ErrOverlap, []string{"[2 4 3 6]", "[72 0 6]"}},
		{"out with overlapping heads", func(c *call, _ []float32) { c.out.Stride = [3]int{72, 5, 24} }, "out", kernel.ErrOverlap, []string{"5", "6"}},
		{"out with overlapping batches", func(c *call, _ []float32) { c.out.Stride[0] = 71 }, "out", kernel.ErrOverlap, []string{"71", "72"}},
		{"out is k", func(c *call, m []float32) { c.out = kernel.BHSD(m[192:], 2, 4, 3, 6) }, "out", kernel.ErrOverlap, []string{"k"}},
		{"out is v", func(c *call, m []float32) { c.out = kernel.BHSD(m[192+160:], 2, 4, 3, 6) }, "out", kernel.ErrOverlap, []string{"v"}},
		{"out is q, but narrower", func(c *call, m []float32) { c.out = kernel.BHSD(m[:144], 2, 4, 3, 6) }, "out", kernel.ErrOverlap, []string{"q"}},
		{"out is q, but later", func(c *call, m []float32) {
			c.v = kernel.BHSD(m[192:], 2, 2, 5, 8)
			c.out = kernel.BHSD(m[8:], 2, 4, 3, 8)
		}, "out", kernel.ErrOverlap, []string{"q"}},
		{"out is q, transposed", func(c *call, m []float32) {
			c.v = kernel.BHSD(m[192:], 2, 2, 5, 8)
			c.out = kernel.BSHD(m[:192], 2, 3, 4, 8)
		}, "out", kernel.ErrOverlap, []string{"q"}},

		// Options.
		{"workers", func(c *call, _ []float32) { c.opts.Workers = -1 }, "Options.Workers", kernel.ErrOption, []string{"-1", "0"}},
		{"scale NaN", func(c *call, _ []float32) { c.opts.Scale = math.NaN() }, "Options.Scale", kernel.ErrOption, []string{"NaN"}},
		{"scale infinite", func(c *call, _ []float32) { c.opts.Scale = math.Inf(-1) }, "Options.Scale", kernel.ErrOption, []string{"-Inf"}},
		{"key offset within a span", func(c *call, _ []float32) { c.opts.KeyOffset = 128 }, "Options.KeyOffset", kernel.ErrOption, []string{"128", "2048"}},
		{"key offset negative", func(c *call, _ []float32) { c.opts.KeyOffset = -2048 }, "Options.KeyOffset", kernel.ErrOption, []string{"-2048"}},
		{"key offset huge", func(c *call, _ []float32) { c.opts.KeyOffset = huge / 2048 * 2048 }, "Options.KeyOffset", kernel.ErrOption, []string{fmt.Sprint(huge / 2048 * 2048), fmt.Sprint(1 << 28)}},
		{"alignment", func(c *call, _ []float32) { c.opts.Mask = kernel.Causal{Align: 7} }, "Options.Mask", kernel.ErrOption, []string{"7"}},
		{"offsets missing", func(c *call, _ []float32) { c.opts.Mask = kernel.Causal{Offset: []int{1}} }, "Options.Mask", kernel.ErrOption, []string{"1"}},
		{"key starts missing", func(c *call, _ []float32) { c.opts.Ragged.KeyStart = []int{1} }, "Options.Ragged.KeyStart", kernel.ErrShape, []string{"1", "2"}},
		{"key start behind the keys", func(c *call, _ []float32) { c.opts.Ragged.KeyStart = []int{0, 6} }, "Options.Ragged.KeyStart", kernel.ErrOption, []string{"entry 1", "6", "5"}},
		{"key start negative", func(c *call, _ []float32) { c.opts.Ragged.KeyStart = []int{-1, 0} }, "Options.Ragged.KeyStart", kernel.ErrOption, []string{"entry 0", "-1", "5"}},
		{"too many key counts", func(c *call, _ []float32) { c.opts.Ragged.KeyCount = []int{1, 2, 3} }, "Options.Ragged.KeyCount", kernel.ErrShape, []string{"3", "2"}},
		{"key count", func(c *call, _ []float32) {
			c.opts.Ragged = kernel.Ragged{KeyStart: []int{1, 1}, KeyCount: []int{4, 5}}
		}, "Options.Ragged.KeyCount", kernel.ErrOption, []string{"entry 1", "5", "4"}},
		{"key count huge", func(c *call, _ []float32) { c.opts.Ragged.KeyCount = []int{huge, 0} }, "Options.Ragged.KeyCount", kernel.ErrOption, []string{"entry 0", fmt.Sprint(huge), "5"}},
		{"packed and padded", func(c *call, _ []float32) {
			packed(c, []int{0, 3}, nil)
			c.opts.Ragged.KeyCount = []int{3}
		}, "Options.Ragged", kernel.ErrOption, nil},
		{"packed batch", func(c *call, _ []float32) { c.opts.Ragged.CumQueries = []int{0, 3} }, "Options.Ragged.CumQueries", kernel.ErrShape, []string{"2", "1"}},
		{"packed keys only", func(c *call, _ []float32) { packed(c, nil, []int{0, 5}) }, "Options.Ragged.CumQueries", kernel.ErrOption, []string{"nil"}},
		{"packed without a length", func(c *call, _ []float32) { packed(c, []int{}, []int{}) }, "Options.Ragged.CumQueries", kernel.ErrShape, []string{"0", "1"}},
		{"packed start", func(c *call, _ []float32) { packed(c, []int{1, 3}, []int{0, 5}) }, "Options.Ragged.CumQueries", kernel.ErrOption, []string{"1", "3"}},
		{"packed end", func(c *call, _ []float32) { packed(c, []int{0, 2}, []int{0, 5}) }, "Options.Ragged.CumQueries", kernel.ErrOption, []string{"2", "3"}},
		{"packed decreases", func(c *call, _ []float32) { packed(c, []int{0, 2, 1, 3}, []int{0, 1, 2, 5}) }, "Options.Ragged.CumQueries", kernel.ErrOption, []string{"from 2 to 1"}},
		{"packed keys end", func(c *call, _ []float32) { packed(c, []int{0, 3}, nil) }, "Options.Ragged.CumKeys", kernel.ErrOption, []string{"3", "5"}},
		{"packed keys missing", func(c *call, _ []float32) { packed(c, []int{0, 1, 3}, []int{0, 5}) }, "Options.Ragged.CumKeys", kernel.ErrShape, []string{"2", "3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, memory := validCall()
			lse := x.opts.LSE
			c.misuse(&x, memory)
			before := slices.Clone(memory)
			err := x.run()
			var wrong *kernel.ArgumentError
			require.ErrorAs(t, err, &wrong)
			require.ErrorIs(t, err, c.kind)
			require.Equal(t, c.argument, wrong.Argument, "%v", err)
			require.Contains(t, err.Error(), "quern: Attention: "+c.argument+": ")
			for _, part := range c.message {
				require.Contains(t, wrong.Detail, part)
			}
			requireSameBits(t, before, memory, "memory")
			requireSameBits(t, repeat(sentinel, len(lse)), lse, "LSE")
		})
	}
}

// TestErrorsAreCheap: tensors are compared with their memory before anything of their size is allocated.
func TestErrorsAreCheap(t *testing.T) {
	c := call{
		q: kernel.BHSD(make([]float32, 1), 1, 1, 200, 16), out: kernel.BHSD(make([]float32, 1), 1, 1, 200, 16),
		k: kernel.BHSD(make([]float32, 1), 1, 1, 1<<20, 16), v: kernel.BHSD(make([]float32, 1), 1, 1, 1<<20, 16),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := c.run()
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, kernel.ErrShape)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated for an error")
}

func TestPlanErrors(t *testing.T) {
	x, _ := validCall()
	shape := kernel.ShapeOf(x.q, x.k, x.v)
	var plan kernel.Plan
	require.ErrorIs(t, plan.Run(x.out, x.q, x.k, x.v), kernel.ErrOption, "not prepared")
	require.NoError(t, plan.Reset(shape, x.opts))
	require.NoError(t, plan.Run(x.out, x.q, x.k, x.v))

	// A plan wants its own shape, all of it.
	wide := kernel.Strided(make([]float32, 1000), x.q.Shape, x.q.Stride)
	wide.Shape[2]++
	require.ErrorIs(t, plan.Run(x.out, wide, x.k, x.v), kernel.ErrShape)
	require.NoError(t, plan.Run(x.out, x.q, x.k, x.v), "an error in Run changes nothing")

	require.ErrorIs(t, plan.Reset(shape, kernel.Options{Workers: -1}), kernel.ErrOption)
	require.ErrorIs(t, plan.Run(x.out, x.q, x.k, x.v), kernel.ErrOption, "an error in Reset leaves nothing prepared")
	require.ErrorIs(t, plan.Clone().Run(x.out, x.q, x.k, x.v), kernel.ErrOption, "a clone is as prepared as its plan")

	_, err := kernel.NewAttention(kernel.Shape{}, kernel.Options{})
	require.ErrorIs(t, err, kernel.ErrShape)
}

// TestEmpty: every size but the width of keys may be 0.
func TestEmpty(t *testing.T) {
	full := kernel.Shape{Batch: 2, Heads: 2, KVHeads: 1, Queries: 3, Keys: 4, Dim: 5, ValueDim: 6}
	for _, c := range []struct {
		name string
		zero func(s *kernel.Shape)
	}{
		{"Batch", func(s *kernel.Shape) { s.Batch = 0 }},
		{"Heads", func(s *kernel.Shape) { s.Heads = 0 }},
		{"Heads and KVHeads", func(s *kernel.Shape) { s.Heads, s.KVHeads = 0, 0 }},
		{"Queries", func(s *kernel.Shape) { s.Queries = 0 }},
		{"Keys", func(s *kernel.Shape) { s.Keys = 0 }},
		{"ValueDim", func(s *kernel.Shape) { s.ValueDim = 0 }},
		{"Queries and Keys", func(s *kernel.Shape) { s.Queries, s.Keys = 0, 0 }},
	} {
		fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
			s := full
			c.zero(&s)
			got := normalProblem(1, s, kernel.Options{}).run(t, 2)
			require.Len(t, got.out, s.Batch*s.Heads*s.Queries*s.ValueDim)
			switch {
			case s.Keys == 0:
				requireSame(t, result{make([]float32, len(got.out)), repeat(-infinity, len(got.lse))}, got, c.name)
			case s.ValueDim == 0:
				want := normalProblem(1, full, kernel.Options{}).run(t, 1)
				requireSameBits(t, want.lse, got.lse, c.name)
			}
		})
	}
	// A packed batch of no sequences, and of sequences that are all empty.
	none := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Dim: 5, ValueDim: 6}
	for _, cum := range [][]int{{0}, {0, 0}, {0, 0, 0}} {
		opts := kernel.Options{Mask: kernel.Causal{}, Ragged: kernel.Ragged{CumQueries: cum}}
		require.Empty(t, normalProblem(1, none, opts).run(t, 2).out)
	}
}

// TestOutIsQ: the output may replace the queries, here in a fused projection.
func TestOutIsQ(t *testing.T) {
	const batch, heads, kvHeads, sequence, dim = 2, 6, 2, 110, 8
	const width = (heads + 2*kvHeads) * dim
	fused := normal(rand.New(rand.NewPCG(2, 0)), batch*sequence*width)
	view := func(memory []float32, head, heads int) array {
		return array{memory[head*dim:], [4]int{batch, heads, sequence, dim}, [3]int{sequence * width, dim, width}}
	}
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for workers := 1; workers <= 4; workers++ {
			memory := slices.Clone(fused)
			p := problem{
				q: view(memory, 0, heads), k: view(memory, heads, kvHeads), v: view(memory, heads+kvHeads, kvHeads),
				opts: kernel.Options{Mask: kernel.Causal{}, Workers: workers},
			}
			want := p.run(t, 1)
			require.NoError(t, kernel.Attention(p.q.tensor(), p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts))
			requireSameBits(t, want.out, p.q.copy().data, "out")
			for i := range memory {
				if i%width >= heads*dim {
					require.Equal(t, fused[i], memory[i], "k and v are as they were")
				}
			}
		}
	})
}

// TestOverlapIsFound compares what is refused with sets of elements: nothing that is shared is missed, and views with
// the same strides are refused only if they share something.
func TestOverlapIsFound(t *testing.T) {
	memory := make([]float32, 400)
	draw := func(r *rand.Rand, kv int) array {
		a := array{shape: [4]int{1, 1 + r.IntN(3), 1 + r.IntN(3), 1 + r.IntN(9)}, data: memory[r.IntN(60):]}
		a.stride = [3]int{100, r.IntN(40), r.IntN(12)}
		return a
	}
	elements := func(a array) map[*float32]int {
		set := map[*float32]int{}
		for h := range a.shape[1] {
			for s := range a.shape[2] {
				row := a.row(0, h, s)
				for d := range row {
					set[&row[d]]++
				}
			}
		}
		return set
	}
	overlapping, disjoint := 0, 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 6))
		out, k := draw(r, 1), draw(r, 1)
		k.shape[1] = out.shape[1]
		same := r.IntN(2) == 0
		if same {
			k.stride = out.stride
		}
		q := array{make([]float32, 100), [4]int{1, out.shape[1], out.shape[2], k.shape[3]}, [3]int{}}
		v := array{make([]float32, 100), [4]int{1, k.shape[1], k.shape[2], out.shape[3]}, [3]int{}}
		written, read := elements(out), elements(k)
		shared, twice := false, false
		for x, n := range written {
			shared, twice = shared || read[x] > 0, twice || n > 1
		}
		if twice {
			continue
		}
		err := kernel.Attention(out.tensor(), q.tensor(), k.tensor(), v.tensor(), kernel.Options{Workers: 1})
		what := fmt.Sprintf("seed %d: out %v %v, k %v %v, %d elements further", seed,
			out.shape, out.stride, k.shape, k.stride, cap(out.data)-cap(k.data))
		var wrong *kernel.ArgumentError
		refusedForItself := errors.As(err, &wrong) && strings.Contains(wrong.Detail, "twice")
		switch {
		case refusedForItself:
		case shared:
			overlapping++
			require.ErrorIs(t, err, kernel.ErrOverlap, what)
		case same:
			disjoint++
			require.NoError(t, err, what)
		}
	}
	require.Greater(t, min(overlapping, disjoint), 1000)
}

// TestSlicesPanic: slices of unequal length are refused with both lengths, before anything is written.
func TestSlicesPanic(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		call       func(x, y []float32)
	}{
		{"Dot", "x", "y", func(x, y []float32) { kernel.Dot(x, y) }},
		{"Exp", "dst", "src", kernel.Exp},
		{"Softmax", "dst", "src", kernel.Softmax},
		{"LogSoftmax", "dst", "src", kernel.LogSoftmax},
	} {
		for _, n := range [][2]int{{3, 4}, {4, 3}, {0, 1}, {1, 0}, {70000, 69999}} {
			x, y := repeat(sentinel, n[0]), repeat(1, n[1])
			want := fmt.Sprintf("quern: %s: len(%s) is %d, len(%s) is %d", c.name, c.a, n[0], c.b, n[1])
			require.PanicsWithValue(t, want, func() { c.call(x, y) })
			requireSameBits(t, repeat(sentinel, n[0]), x, c.name)
		}
	}
}
