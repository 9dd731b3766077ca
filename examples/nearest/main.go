// Command nearest searches generated vectors by brute force: for each query the k nearest, exactly, among
// all and among those of one tenant of ten. It prints the recall against a plain search in float64, vectors per
// second, and which share of the memory bandwidth that is.
//
//	go run ./examples/nearest
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quern-go/quern/kernel"
)

func main() {
	var (
		dim     = flag.Int("dim", 768, "numbers in a vector")
		count   = flag.Int("count", 100_000, "vectors")
		queries = flag.Int("queries", 20, "queries")
		k       = flag.Int("k", 10, "neighbours of each")
		workers = flag.Int("workers", 0, "goroutines; 0: one a processor")
	)
	flag.Parse()

	data, asked := generate(*dim, *count, *queries)
	half := make([]kernel.BF16, len(data))
	kernel.Narrow(half, data)

	fmt.Printf("%d vectors of %d numbers, %d nearest, %s\n", *count, *dim, *k, kernel.ISA())
	bandwidth := streaming(data)
	fmt.Printf("summing the data with one goroutine: %.1f GB/s\n", bandwidth/1e9)
	o := kernel.ScanOptions{Workers: *workers}
	rows := kernel.RowsOf(half, *dim)
	search("float32", asked, kernel.RowsOf(data, *dim), *k, 4, o, bandwidth)
	search("bfloat16", asked, rows, *k, 2, o, bandwidth)
	search("bfloat16, a tenant's", asked, ownedBy(3, rows), *k, 2, o, bandwidth)
}

// ownedBy returns the vectors of one tenant.
func ownedBy[T kernel.Float](tenant uint32, rows kernel.Rows[T]) kernel.Rows[T] {
	const tenants = 10
	return rows.Where(func(id uint32) bool { return id%tenants == tenant })
}

// generate makes vectors, and queries that are near one of them each, but not quite there.
func generate(dim, count, queries int) (data []float32, asked [][]float32) {
	r := rand.New(rand.NewPCG(1, 2))
	data = make([]float32, dim*count)
	for i := range data {
		data[i] = float32(r.NormFloat64())
	}
	asked = make([][]float32, queries)
	for i := range asked {
		from := r.IntN(count) * dim
		asked[i] = slices.Clone(data[from : from+dim])
		for d := range asked[i] {
			asked[i][d] += float32(r.NormFloat64())
		}
	}
	return data, asked
}

// search prints what it measures, and returns the recall.
func search[T kernel.Float](name string, queries [][]float32, rows kernel.Rows[T], k, size int, o kernel.ScanOptions,
	bandwidth float64) (recall float64) {
	best := make([]kernel.Match, k)
	var spent time.Duration
	found := 0
	for _, q := range queries {
		start := time.Now()
		best := kernel.TopK(best, kernel.MetricSquaredL2, q, rows, o)
		spent += time.Since(start)
		found += overlap(best, plain(q, rows, k))
	}
	scanned := float64(len(queries) * rows.Len())
	recall = float64(found) / float64(len(queries)*min(k, rows.Len()))
	rate := scanned / spent.Seconds()
	fmt.Printf("%-20s recall %.3f, %.1f million vectors/s, %.0f %% of that bandwidth\n", name,
		recall, rate/1e6, 100*rate*float64(rows.Dim*size)/bandwidth)
	return recall
}

// streaming is the rate, in bytes per second, at which one goroutine reads the data to sum it.
func streaming(data []float32) float64 {
	best := time.Duration(1 << 62)
	for range 5 {
		start := time.Now()
		kernel.Norm(data)
		best = min(best, time.Since(start))
	}
	return 4 * float64(len(data)) / best.Seconds()
}

// plain finds the nearest in float64, with a sort.
func plain[T kernel.Float](q []float32, rows kernel.Rows[T], k int) map[uint32]bool {
	type match struct {
		id       uint32
		distance float64
	}
	all := make([]match, rows.Len())
	row := make([]float32, rows.Dim)
	for i := range all {
		id := rows.ID(i)
		values(row, rows.Data[int(id)*rows.Dim:])
		sum := 0.0
		for d, x := range q {
			difference := float64(x) - float64(row[d])
			sum += difference * difference
		}
		all[i] = match{id, sum}
	}
	slices.SortFunc(all, func(x, y match) int {
		if x.distance < y.distance {
			return -1
		}
		return 1
	})
	ids := map[uint32]bool{}
	for _, m := range all[:min(k, len(all))] {
		ids[m.id] = true
	}
	return ids
}

// values copies numbers as float32.
func values[T kernel.Float](dst []float32, src []T) {
	switch src := any(src[:len(dst)]).(type) {
	case []float32:
		copy(dst, src)
	case []kernel.BF16:
		kernel.Widen(dst, src)
	case []kernel.F16:
		kernel.Widen(dst, src)
	}
}

func overlap(matches []kernel.Match, ids map[uint32]bool) (n int) {
	for _, m := range matches {
		if ids[m.ID] {
			n++
		}
	}
	return n
}
