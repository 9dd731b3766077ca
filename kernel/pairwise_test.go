package kernel

import (
	"fmt"
	"math/rand/v2"
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
			if r.IntN(20) == 0 {
				dim, n, count = 3000, 3, 20 // cut along the depth
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
			var want []float32
			for i := range queries.Len() {
				for j := range rows.Len() {
					id := int(rows.ID(j))
					x, y := asFloat32(queries.Data[i*dim:][:dim]), asFloat32(rows.Data[id*rows.Stride:][:dim])
					var chain float32
					for k := range x {
						chain = portable.FMA(x[k], y[k], chain)
					}
					if rows.Scale != nil {
						chain *= rows.Scale[id]
					}
					if queries.Scale != nil {
						chain *= queries.Scale[i]
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
