package kernel

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

func checkPairwise[Q, T Scalar](t *testing.T) {
	t.Run(fmt.Sprintf("%T x %T", *new(Q), *new(T)), func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for range 60 {
			dim, n, count := r.IntN(90), r.IntN(70), r.IntN(250)
			if r.IntN(6) == 0 { // cut along the depth, for few queries and for others; more queries than are held
				sizes := [][3]int{{pairDepth + 1, 3, 100}, {2*pairDepth + 70, 17, 20}, {pairDepth, 1, 49},
					{5, queriesHeld + 20, 60}, {1, 2*queriesHeld + 1, 17}}
				size := sizes[r.IntN(len(sizes))]
				dim, n, count = size[0], size[1], size[2]
			}
			queries, rows := Rows[Q]{Dim: dim, Data: numbers[Q](1, dim*n)}, Rows[T]{Dim: dim, Stride: dim + r.IntN(3)}
			if dim > 0 {
				rows.Data = numbers[T](2, rows.Stride*count)
			}
			if stored := rows.stored(); stored > 0 && r.IntN(2) == 0 {
				index := make([]uint32, count)
				for i := range index {
					index[i] = uint32(r.IntN(stored))
				}
				rows = rows.Pick(index)
				rows.Scale = normals(3, stored)
			}
			if queries.stored() > 0 && r.IntN(2) == 0 {
				queries.Scale = normals(4, queries.stored())
			}
			if queries.stored() > 0 && r.IntN(2) == 0 {
				queries = queries.Where(func(id uint32) bool { return id%4 != 2 })
			}
			var want []float32
			for i := range queries.Len() {
				for j := range rows.Len() {
					id := int(rows.ID(j))
					asked := int(queries.ID(i))
					x, y := asFloat32(queries.Data[asked*dim:][:dim]), asFloat32(rows.Data[id*rows.Stride:][:dim])
					var chain float32
					for k := range x {
						chain = portable.FMA(x[k], y[k], chain)
					}
					if rows.Scale != nil {
						chain *= rows.Scale[id]
					}
					if queries.Scale != nil {
						chain *= queries.Scale[asked]
					}
					want = append(want, chain)
				}
			}
			for _, l := range isa.Supported() {
				restore := isa.Use(l)
				got := make([]float32, len(want)+1)
				got[len(want)] = 42
				PairwiseDot(got[:len(want)], queries, rows, ScanOptions{Workers: 1 + r.IntN(3)})
				restore()
				require.Equal(t, bitsOf(want...), bitsOf(got[:len(want)]...), "%v dim %d, %d x %d", l, dim, n, count)
				require.Equal(t, float32(42), got[len(want)])
			}
		}
	})
}

func TestPairwiseDotIsOneChain(t *testing.T) {
	checkPairwise[float32, float32](t)
	checkPairwise[float32, BF16](t)
	checkPairwise[F16, int8](t)
}

func TestPairwiseDotRefusesWhatDoesNotFit(t *testing.T) {
	rows := RowsOf(make([]float32, 12), 3)
	require.PanicsWithValue(t, "quern: PairwiseDot: len(dst) is 15, queries has 4 vectors, rows has 4", func() {
		PairwiseDot(make([]float32, 15), rows, rows, ScanOptions{Workers: 1})
	})
	require.PanicsWithValue(t, "quern: PairwiseDot: queries.Dim is 3, rows.Dim is 4", func() {
		PairwiseDot(make([]float32, 12), rows, RowsOf(make([]float32, 12), 4), ScanOptions{Workers: 1})
	})
}

// Memory does not grow with the length of a query beyond its own.
func TestPairwiseDotTakesLittleMemory(t *testing.T) {
	const mib = 1 << 20
	long := 1 << 22
	if testing.Short() {
		long = 1 << 20
	}
	floats, bytes := make([]float32, 3*long), make([]int8, 3*long)
	one, rows := RowsOf(floats[:long], long), RowsOf(floats, long)
	tiny := RowsOf(make([]float32, 8*(1<<18)), 8)
	products := make([]float32, 1<<18)
	for name, c := range map[string]struct {
		most int
		call func(o ScanOptions)
	}{
		"few": {32 << 10, func(o ScanOptions) {
			PairwiseDot(products[:6], RowsOf(floats[:40], 20),
				RowsOf(bytes[:60], 20), o)
		}},
		"float32": {2 * mib, func(o ScanOptions) { PairwiseDot(products[:3], one, rows, o) }},
		"int8":    {2 * mib, func(o ScanOptions) { PairwiseDot(products[:3], one, RowsOf(bytes, long), o) }},
		"int8 queries": {2 * mib, func(o ScanOptions) {
			PairwiseDot(products[:9], RowsOf(bytes, long), rows, o)
		}},
		"picked": {2 * mib, func(o ScanOptions) {
			PairwiseDot(products[:4], one.Pick([]uint32{0, 0}),
				rows.Pick([]uint32{2, 0}), o)
		}},
		"many of 8": {2*8*4<<18 + 2*mib, func(o ScanOptions) {
			PairwiseDot(products, tiny, RowsOf(floats[:8], 8),
				o)
		}},
		"against many": {2 * mib, func(o ScanOptions) { PairwiseDot(products, RowsOf(floats[:8], 8), tiny, o) }},
		"of 8, two tasks": {2 * (2 * mib), func(o ScanOptions) {
			PairwiseDot(products[:100*64], RowsOf(floats[:64*8], 8), RowsOf(floats[:100*8], 8), o)
		}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.call(ScanOptions{Workers: 2})
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, int(after.TotalAlloc-before.TotalAlloc), c.most, name)
	}
}

// What the documentation says of the length of a chain.
func TestOneChainStops(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long in portable code")
	}
	ones := make([]float32, 1<<24+64)
	for i := range ones {
		ones[i] = 1
	}
	rows, got := RowsOf(ones, len(ones)), make([]float32, 1)
	PairwiseDot(got, rows, rows, ScanOptions{})
	require.Equal(t, float32(1<<24), got[0])
	DotRows(got, ones, rows, ScanOptions{})
	require.Equal(t, float32(len(ones)), got[0])
}
