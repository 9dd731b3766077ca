//go:build purego

package kernel_test

import (
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestCallsKeepTheirBudgets walks through everything that calls kernels, with the widest arguments that a test has time
// for, and counts the work of each call. That is possible where portable code stands in for assembly.
func TestCallsKeepTheirBudgets(t *testing.T) {
	seen, kernels := map[string]int{}, kernelsWithBudgets(t)
	where := ""
	var mu sync.Mutex
	asm.Observe = func(kernel string, work, most int) {
		mu.Lock()
		defer mu.Unlock()
		seen[kernel] = max(seen[kernel], work)
		if work > most {
			t.Errorf("%s: a call of %s does %d, want at most %d", where, kernel, work, most)
		}
	}
	defer func() { asm.Observe = nil }()
	for _, walk := range []struct {
		name string
		f    func(t *testing.T)
	}{
		{"wide heads", wideHeads}, {"changed scores", changedScores}, {"strided", stridedHeads}, {"states", wideStates},
		{"caches", wideCaches}, {"products", wideProducts}, {"vectors", longVectors}, {"rows", wideRows}, {"slices",
			longSlices},
	} {
		where = walk.name
		walk.f(t)
	}
	for _, name := range kernels {
		require.NotZero(t, seen[name], "nothing has called %s", name)
	}
}

// kernelsWithBudgets are their names, from the generated dispatch.
func kernelsWithBudgets(t *testing.T) (names []string) {
	text, err := os.ReadFile("../asm/dispatch_other.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`Observe\("(\w+)"`).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	require.Greater(t, len(names), 50)
	return names
}

const widest = 1 << 16 // of a head

func wideHeads(t *testing.T) {
	for _, s := range []kernel.Shape{
		{Batch: 1, Heads: 1, KVHeads: 1, Queries: 13, Keys: 128, Dim: widest, ValueDim: 8},
		{Batch: 1, Heads: 1, KVHeads: 1, Queries: 13, Keys: 128, Dim: 8, ValueDim: widest + 16},
		{Batch: 1, Heads: 1, KVHeads: 1, Queries: 8, Keys: 3, Dim: 8, ValueDim: 5 * widest},
		{Batch: 1, Heads: 2000, KVHeads: 1, Queries: 2, Keys: 130, Dim: 4, ValueDim: 4},
	} {
		p := normalProblem(1, s, kernel.Options{Sinks: floats(s.Heads)})
		p.run(t, 1)
		for _, f := range []kernel.Format{kernel.Float16, kernel.BFloat16} {
			out := kernel.BHSD(floats(s.Batch*s.Heads*s.Queries*s.ValueDim), s.Batch, s.Heads, s.Queries, s.ValueDim)
			half := func(a array) kernel.Tensor { return numbers{a, f}.as(nil) }
			require.NoError(t, kernel.Attention(out, half(p.q), half(p.k), half(p.v), kernel.Options{Workers: 1}))
		}
	}
}

func changedScores(t *testing.T) {
	s := kernel.Shape{Batch: 1, Heads: 4, KVHeads: 1, Queries: 60, Keys: 300, Dim: 8, ValueDim: 8}
	p := normalProblem(1, s, kernel.Options{Softcap: 2, ALiBi: kernel.ALiBi{Slopes: floats(4)},
		Mask: kernel.Window{Left: 50}})
	p.bias = dense(floats(300), 1, 1, 1, 300)
	p.run(t, 1)
}

func stridedHeads(t *testing.T) {
	for _, s := range []kernel.Shape{
		{Batch: 1, Heads: 1, KVHeads: 1, Queries: 40, Keys: 40, Dim: widest, ValueDim: 8},
		{Batch: 1, Heads: 1, KVHeads: 1, Queries: 40, Keys: 40, Dim: 8, ValueDim: widest},
		{Batch: 1, Heads: 600, KVHeads: 1, Queries: 300, Keys: 300, Dim: 2, ValueDim: 2},
	} {
		normalProblem(1, s, kernel.Options{Mask: kernel.SparseStrided{Stride: 16}}).run(t, 1)
	}
}

func wideStates(t *testing.T) {
	p := normalProblem(1, kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 17, Keys: 3, Dim: 2, ValueDim: widest},
		kernel.Options{})
	one := must(kernel.AttentionState(p.q.tensor(), p.k.tensor(), p.v.tensor(), kernel.Options{Workers: 1}))
	two := must(kernel.AttentionState(p.q.tensor(), p.k.tensor(), p.v.tensor(),
		kernel.Options{Workers: 1, KeyOffset: 2048}))
	require.NoError(t, one.Merge(two))
	require.NoError(t, one.Finish(kernel.BHSD(floats(17*widest), 1, 1, 17, widest), floats(17), floats(1)))
}

func wideCaches(t *testing.T) {
	for _, format := range formats {
		for _, config := range []kernel.CacheConfig{
			{KVHeads: 1, Dim: widest, ValueDim: widest, PageKeys: 128, Format: format},
			{KVHeads: 5000, Dim: 2, PageKeys: 128, Format: format},
		} {
			c := must(kernel.NewCache(config))
			defer c.Free()
			if config.ValueDim == 0 {
				config.ValueDim = config.Dim
			}
			x := func(rows, dim int) kernel.Tensor {
				return kernel.BHSD(floats(config.KVHeads*rows*dim), 1, config.KVHeads, rows, dim)
			}
			for _, rows := range []int{1, 10, 30} {
				require.NoError(t, c.Append(x(rows, config.Dim), x(rows, config.ValueDim)))
			}
			for _, queries := range []int{1, 9} {
				require.NoError(t, kernel.Attend(x(queries, config.ValueDim), x(queries, config.Dim),
					[]*kernel.Cache{c}, kernel.Options{Workers: 1}))
			}
		}
	}
}

func wideProducts(t *testing.T) {
	for _, s := range [][3]int{{1, 5000, 40}, {8, 3000, 40}, {30, 2500, 40}, {400, 300, 40}} {
		rows, depth, cols := s[0], s[1], s[2]
		q, scale := make([]int8, depth*cols), floats(cols)
		w := kernel.RowMajor(floats(depth*cols), depth, cols)
		require.NoError(t, kernel.Quantize(q, scale, w))
		halves := make([]kernel.BF16, depth*cols)
		for _, w := range []*kernel.Weights{
			must(kernel.Pack(w)),
			must(kernel.Pack(kernel.RowMajor(floats(depth*cols), cols, depth).T())),
			must(kernel.PackScaled(kernel.RowMajor(q, depth, cols), scale)),
			must(kernel.Pack(kernel.RowMajor(halves, depth, cols))),
			must(kernel.Pack(kernel.RowMajor(kernel.View[kernel.F16](halves), depth, cols))),
		} {
			y := kernel.RowMajor(floats(rows*cols), rows, cols)
			for _, x := range []kernel.Matrix{kernel.RowMajor(floats(rows*depth), rows, depth),
				kernel.RowMajor(floats(rows*depth), depth, rows).T()} {
				require.NoError(t, kernel.MatMul(y, x, w, kernel.MatMulOptions{Workers: 1}))
			}
		}
	}
	for _, interleaved := range []bool{false, true} {
		for _, heads := range []int{1, 300} {
			rotary := must(kernel.NewRotary(kernel.RotaryOptions{Dim: widest, Positions: 1, Interleaved: interleaved}))
			require.NoError(t, rotary.Apply(kernel.BHSD(floats(heads*2*widest), 1, heads, 2, widest),
				kernel.Positions{}))
		}
	}
}

func longVectors(t *testing.T) {
	const n = 200_000
	x, bytes, words := floats(n), make([]int8, n), make([]uint64, n)
	halves := make([]kernel.BF16, n)
	others := kernel.View[kernel.F16](halves)
	kernel.Dot(x, x)
	kernel.SquaredL2(x, x)
	kernel.Cosine(x, x)
	kernel.Dot(halves, halves)
	kernel.SquaredL2(halves, halves)
	kernel.Cosine(halves, halves)
	kernel.Dot(others, others)
	kernel.SquaredL2(others, others)
	kernel.Cosine(others, others)
	kernel.DotInt8(bytes, bytes)
	kernel.DotInt8(bytes[:100], bytes[:100])
	kernel.SquaredL2Int8(bytes, bytes)
	kernel.CosineInt8(bytes, bytes)
	kernel.Hamming(words, words)
	kernel.HammingRows(make([]int32, n/10), words[:10], words)
	kernel.HammingRows(make([]int32, 4), words[:n/4], words)
	kernel.Widen(x, halves)
	kernel.Widen(x, others)
	kernel.Narrow(halves, x)
	kernel.Narrow(others, x)
}

func longSlices(t *testing.T) {
	x := floats(200_000)
	kernel.Exp(x, x)
	kernel.Softmax(x, x)
	kernel.LogSoftmax(x, x)
	kernel.LogSumExp(x)
}

func wideRows(t *testing.T) {
	for _, dim := range []int{100, 40_000, 100_000} {
		scanEachFormat(kernel.RowsOf(floats(30*dim), dim))
		scanEachFormat(kernel.RowsOf(make([]kernel.BF16, 30*dim), dim))
		scanEachFormat(kernel.RowsOf(make([]kernel.F16, 30*dim), dim))
		scanEachFormat(kernel.RowsOf(make([]int8, 30*dim), dim))
	}
	many := kernel.RowsOf(floats(3000*20), 20)
	scanEachFormat(many)
	kernel.PairwiseDot(floats(3000*3000), many, many, kernel.ScanOptions{Workers: 1})
}

// scanEachFormat compares rows with queries of float32 and of int8, in every way.
func scanEachFormat[T kernel.Scalar](rows kernel.Rows[T]) {
	dst, alone := floats(rows.Len()), kernel.ScanOptions{Workers: 1}
	for _, rows := range []kernel.Rows[T]{rows, rows.Pick([]uint32{3, 1, 2})} {
		dst := dst[:rows.Len()]
		scanAll(dst, floats(rows.Dim), rows)
		scanAll(dst, make([]int8, rows.Dim), rows)
		kernel.PairwiseDot(dst, kernel.RowsOf(floats(rows.Dim), rows.Dim), rows, alone)
	}
	kernel.PairwiseDot(dst, rows, kernel.RowsOf(floats(rows.Dim), rows.Dim), alone)
}

func scanAll[Q, T kernel.Scalar](dst []float32, q []Q, rows kernel.Rows[T]) {
	alone := kernel.ScanOptions{Workers: 1}
	kernel.DotRows(dst, q, rows, alone)
	kernel.SquaredL2Rows(dst, q, rows, alone)
	kernel.CosineRows(dst, q, rows, alone)
	rows.Scale = floats(len(rows.Data) / rows.Dim)
	kernel.SquaredL2Rows(dst, q, rows, alone)
	kernel.TopK(make([]kernel.Match, 2), kernel.MetricDot, q, rows, alone)
}
