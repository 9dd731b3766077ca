package main

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int{
		"48K\n": 48 << 10, "491520K\n": 480 << 20, "2M": 2 << 20, "1G": 1 << 30, "64": 64,
		"4G": math.MaxInt32, "": 0, "K": 0, "-1K": 0, "1KM": 0, "big": 0,
	} {
		require.Equal(t, want, parseSize(text), "%q", text)
	}
}

func TestColdBytes(t *testing.T) {
	require.Positive(t, lastLevelCache())
	require.LessOrEqual(t, coldBytes(), math.MaxInt32)
	if lastLevelCache() <= math.MaxInt32/4 {
		require.Equal(t, 4*lastLevelCache(), coldBytes())
	}
}

func TestRing(t *testing.T) {
	made := 0
	r := &ring[int]{bytes: 100, copy: func() int { made++; return made }}
	take := func(n int) (taken []int) {
		for range n {
			taken = append(taken, r.take())
		}
		return taken
	}
	require.Equal(t, []int{1, 1, 1}, take(3))
	require.Equal(t, 300, r.grow(201))
	require.Equal(t, 300, r.grow(300))
	require.Equal(t, []int{1, 2, 3, 1}, take(4))
	r.shrink()
	require.Equal(t, []int{1, 1}, take(2))
	require.Equal(t, 3, made)

	r = &ring[int]{bytes: 100, copy: func() int { return 7 }}
	require.Equal(t, 100, r.grow(1), "a copy that was never taken")
	require.Equal(t, []int{7, 7}, take(2))
}

func TestStreams(t *testing.T) {
	rows := copiesOf(elements[int8](normal(1, 4096)))
	rows.grow(3 * 4096)
	seen := map[*int8]int{}
	streamRing(rows, 2, func(x []int8) []float32 {
		seen[&x[0]]++
		require.Len(t, words(x), 1024)
		return words(x)
	})(6)
	require.Len(t, seen, 3)
	for _, n := range seen {
		require.Equal(t, 2, n)
	}

	memory, read := streamMemory(1000, 1)
	memory.grow(2500)
	read(5)
	require.Len(t, memory.all, 3)
	require.Len(t, memory.all[0], 256)
	require.NotContains(t, memory.all[2], float32(0), "never written: all pages are one")
}

// What comes before a call is not timed, and happens every time.
func TestBefore(t *testing.T) {
	var order []string
	j := &job{
		run:    func(int) { order = append(order, "run") },
		before: func() { order = append(order, "before") },
		calls:  2,
	}
	j.clock(2)
	require.Equal(t, []string{"before", "run", "before", "run"}, order)
	require.Equal(t, 2, newRace(j).calls)
}

// smallKinds are small problems of the kinds whose cases are large.
func smallKinds() map[string]Kind {
	kinds := map[string]Kind{"pairwise": pairwise{3, 130, 70}}
	for _, f := range []kernel.Format{kernel.Float32, kernel.BFloat16, kernel.Float16, kernel.Int8} {
		kinds["decode "+f.String()] = cached{attention: attention{Shape: grouped(4, 2, 1, 300, 24)}, format: f, cold: true}
		kinds["prefill "+f.String()] = cached{attention: attention{Shape: self(2, 70, 24), mask: causal}, format: f}
		kinds["append "+f.String()] = appended{heads: 3, dim: 24, format: f, flush: 1 << 12}
		kinds["row by matrix "+f.String()] = matmul{rows: 1, depth: 70, cols: 50, format: f}
		kinds["dot "+f.String()] = dot{n: 256, format: f, cold: true}
		kinds["scan "+f.String()] = scan{count: 200, dim: 64, format: f}
		kinds["gathered "+f.String()] = scan{count: 200, dim: 64, format: f, gathered: true}
		kinds["best "+f.String()] = scan{count: 200, dim: 64, format: f, best: 9}
	}
	kinds["integers"] = scan{count: 200, dim: 64, format: kernel.Int8, query: kernel.Int8}
	kinds["squared L2"] = dot{n: 256, of: kernel.MetricSquaredL2}
	kinds["cosine"] = dot{n: 256, of: kernel.MetricCosine, format: kernel.Float16}
	return kinds
}

// They are right, have the same bits on every level and for any number of workers, calls and copies, and their
// errors are noticed.
func TestSmallKinds(t *testing.T) {
	for name, kind := range smallKinds() {
		t.Run(name, func(t *testing.T) {
			j := kind.prepare(1)
			j.run(1)
			require.Less(t, j.maxErr(), 1e-6)
			want := digest(j.output()...)
			for _, level := range isa.Supported() {
				require.Equal(t, want, Case{Name: name, Kind: kind}.digest(level), level)
			}
			for _, in := range j.inputs {
				in.grow(coldMost / 1024)
			}
			j.run(5)
			if j.read != nil {
				j.read(5)
			}
			require.Equal(t, want, digest(j.output()...))
			two := kind.prepare(2)
			two.run(2)
			require.Equal(t, want, digest(two.output()...))

			if out := j.output()[0]; &out[0] == &j.output()[0][0] && !strings.HasPrefix(name, "append") {
				out[0]++ // not where output is computed when it is asked for
				require.Greater(t, j.maxErr(), 1e-5)
			}
		})
	}
}

// A cold case says how much memory it went through, and gives the warm time apart.
func TestColdCase(t *testing.T) {
	defer func(most int) { coldMost = most }(coldMost)
	coldMost = 1 << 20
	c := Case{Name: "small", Kind: smallKinds()["decode int8"]}
	r := c.measure(1, 2, &progress{})
	require.GreaterOrEqual(t, *r.Cold, 1<<20)
	require.Less(t, *r.Cold, 1<<20+c.Kind.(cached).bytes())
	require.Positive(t, *r.WarmNS)
	require.Positive(t, *r.BWPct)
	require.Positive(t, *r.PeakPct)
	require.Zero(t, r.Allocs)
	require.Empty(t, r.Differs)
	require.Equal(t, 2*2*300*(24+4), c.Kind.(cached).bytes())

	r = Case{Name: "warm", Kind: smallKinds()["prefill int8"]}.measure(1, 1, &progress{})
	require.Nil(t, r.Cold)
	require.Nil(t, r.WarmNS)
}

// Every kind that is cold is known to be.
func TestCold(t *testing.T) {
	for name, kind := range smallKinds() {
		require.Equal(t, kind.prepare(1).inputs != nil, Case{Name: name, Kind: kind}.cold(), name)
	}
}

func TestScanErr(t *testing.T) {
	s := scan{count: 200, dim: 64, best: 3}
	j := s.prepare(1)
	j.run(1)
	q, rows := normal(1, 64), kernel.RowsOf(normal(2, 200*64), 64)
	best := make([]kernel.Match, 4)
	kernel.TopK(best, kernel.MetricDot, q, rows, kernel.ScanOptions{Workers: 1})
	require.Less(t, scanErr(q, &rows, nil, best[:3]), 1e-6)
	require.Greater(t, scanErr(q, &rows, nil, best[1:]), 1e-4, "the best is missing")
	best[0].ID = best[1].ID
	require.Greater(t, scanErr(q, &rows, nil, best[:3]), 1e-4, "another's number")
}

func TestPermutation(t *testing.T) {
	p := permutation(1000)
	seen := make([]bool, 1000)
	for _, i := range p {
		require.False(t, seen[i])
		seen[i] = true
	}
	require.NotEqual(t, uint32(0), p[0])
}

func TestSample(t *testing.T) {
	require.Equal(t, []int{0, 1, 2}, sample(3))
	s := sample(1000)
	require.Len(t, s, 64)
	require.Contains(t, s, 0)
	require.Contains(t, s, 999)
}
