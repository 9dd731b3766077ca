package kernel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// Measuring on a machine that others use too: every case runs beside its limit, round by round, and
// what counts is the median of the ratios.

// race runs the cases in turn, for some rounds, and returns the median nanoseconds of each and the
// median of its ratio to the first, both per repetition.
func race(rounds, repeat int, cases ...func()) (ns, ratio []float64) {
	times := make([][]float64, len(cases))
	for _, f := range cases {
		f()
	}
	for range rounds {
		for i, f := range cases {
			start := time.Now()
			for range repeat {
				f()
			}
			times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/float64(repeat))
		}
	}
	median := func(x []float64) float64 {
		x = slices.Clone(x)
		slices.Sort(x)
		return x[len(x)/2]
	}
	for _, t := range times {
		r := make([]float64, len(t))
		for i := range t {
			r[i] = times[0][i] / t[i]
		}
		ns, ratio = append(ns, median(t)), append(ratio, median(r))
	}
	return ns, ratio
}

func report(name string, ns, ratio []float64, labels ...string) {
	for i, l := range labels {
		fmt.Printf("%-22s %-22s %12.1f ns  %5.1f%% of the first's speed\n", name, l, ns[i], 100*ratio[i])
	}
}

var sinkFloat float32

// TestDotTargets prints what the issue asks for: QUERN_TARGETS=1 go test -run DotTargets ./kernel
func TestDotTargets(t *testing.T) {
	if os.Getenv("QUERN_TARGETS") == "" {
		t.Skip("prints figures: set QUERN_TARGETS")
	}
	for _, l := range isa.Supported() {
		if l == isa.Go {
			continue
		}
		restore := isa.Use(l)
		fmt.Println(l)
		pairTargets(l)
		rowTargets(l)
		restore()
	}
}

func pairTargets(l isa.Level) {
	for _, n := range []int{64, 128, 768, 1024, 1 << 20} {
		x, y := numbers[float32](1, n), numbers[float32](2, n)
		b, c, f, g := numbers[BF16](1, n), numbers[BF16](2, n), numbers[F16](1, n), numbers[F16](2, n)
		i, j := numbers[int8](1, n), numbers[int8](2, n)
		both := numbers[float32](3, 2*n)
		rounds, repeat := 41, 1+2_000_000/n/10
		ns, ratio := race(rounds, repeat,
			func() { sinkFloat = asm.ReadSum(l, &both[0], 2*n) },
			func() { sinkFloat = Dot(x, y) },
			func() { sinkFloat = SquaredL2(x, y) },
			func() { sinkFloat = Cosine(x, y) },
			func() { sinkFloat = Dot(b, c) },
			func() { sinkFloat = Cosine(b, c) },
			func() { sinkFloat = Dot(f, g) },
			func() { sinkFloat = float32(DotInt8(i, j)) },
			func() {
				defer isa.WithoutExtension()()
				sinkFloat = float32(DotInt8(i, j))
			},
			func() { sinkFloat = CosineInt8(i, j) },
		)
		report(fmt.Sprintf("n=%d", n), ns, ratio, "load only", "Dot", "SquaredL2", "Cosine", "Dot BF16", "Cosine BF16", "Dot F16", "DotInt8", "DotInt8 no extension", "CosineInt8")
	}
}

// stream reads bytes as fast as loads go.
func stream[T any](l isa.Level, data []T) {
	n := len(data) * int(unsafe.Sizeof(data[0])) / 4 / 64 * 64
	p := (*float32)(unsafe.Pointer(&data[0]))
	for n > 0 {
		m := min(n, budget.Numbers)
		asm.ReadSum(l, p, m)
		p, n = offset(p, m), n-m
	}
}

func rowTargets(l isa.Level) {
	const dim, count = 768, 100_000
	rounds := 9
	q, qi := normals(9, dim), randomInt8(9, dim)
	dst := make([]float32, count)
	best := make([]Match, 100)
	index := make([]uint32, count)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range index {
		index[i] = uint32(r.IntN(count))
	}
	{
		data := normals(1, dim*count)
		rows := RowsOf(data, dim)
		gathered := rows.Pick(index)
		ns, ratio := race(rounds, 1,
			func() { stream(l, data) },
			func() { DotRows(dst, q, rows, ScanOptions{Workers: 1}) },
			func() { SquaredL2Rows(dst, q, rows, ScanOptions{Workers: 1}) },
			func() { CosineRows(dst, q, rows, ScanOptions{Workers: 1}) },
			func() { TopK(best, MetricDot, q, rows, ScanOptions{Workers: 1}) },
			func() { DotRows(dst, q, gathered, ScanOptions{Workers: 1}) },
			func() { DotRows(dst, q, rows, ScanOptions{Workers: 2}) },
		)
		// 24 FMAs of 16 lanes a round; as many as 64 queries against all rows need.
		const queries = 64
		many := RowsOf(normals(2, dim*queries), dim)
		products := make([]float32, queries*count)
		pairNs, pairRatio := race(5, 1,
			func() { asm.PeakFMA(l, queries*count*dim/(24*16)) },
			func() { PairwiseDot(products, many, rows, ScanOptions{Workers: 1}) },
		)
		report("64 x 100000 x 768", pairNs, pairRatio, "FMA peak", "PairwiseDot")
		report("rows float32", ns, ratio, "stream", "DotRows", "SquaredL2Rows", "CosineRows", "TopK 100", "gathered", "DotRows 2 workers")
	}
	halves := func(name string, stream, dot, gathered func()) {
		ns, ratio := race(rounds, 1, stream, dot, gathered)
		report("rows "+name, ns, ratio, "stream", "DotRows", "gathered")
	}
	{
		rows := RowsOf(numbers[BF16](1, dim*count), dim)
		halves("BF16", func() { stream(l, rows.Data) }, func() { DotRows(dst, q, rows, ScanOptions{Workers: 1}) },
			func() {
				DotRows(dst, q, rows.Pick(index), ScanOptions{Workers: 1})
			})
	}
	{
		rows := RowsOf(numbers[F16](1, dim*count), dim)
		halves("F16", func() { stream(l, rows.Data) }, func() { DotRows(dst, q, rows, ScanOptions{Workers: 1}) },
			func() {
				DotRows(dst, q, rows.Pick(index), ScanOptions{Workers: 1})
			})
	}
	{
		rows := RowsOf(numbers[int8](1, dim*count), dim)
		halves("int8 x float32", func() { stream(l, rows.Data) },
			func() { DotRows(dst, q, rows, ScanOptions{Workers: 1}) }, func() {
				DotRows(dst, q, rows.Pick(index), ScanOptions{Workers: 1})
			})
		halves("int8 x int8", func() { stream(l, rows.Data) },
			func() { DotRows(dst, qi, rows, ScanOptions{Workers: 1}) }, func() {
				DotRows(dst, qi, rows.Pick(index), ScanOptions{Workers: 1})
			})
	}
}
