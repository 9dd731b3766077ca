package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// ids lists what rows has.
func ids[T Scalar](rows Rows[T]) []uint32 {
	list := []uint32{}
	for i := range rows.Len() {
		list = append(list, rows.ID(i))
	}
	return list
}

// A filter that lets nothing through must not let everything through.
func TestNothingPickedIsNothing(t *testing.T) {
	const count = 100
	all := RowsOf(normals(1, 3*count), 3)
	all.Scale = normals(2, count)
	var matching []uint32 // never appended to
	for name, none := range map[string]Rows[float32]{
		"nil index":   all.Pick(matching),
		"empty index": all.Pick([]uint32{}),
		"nil bits":    all.PickBits(nil),
		"no bits":     all.PickBits(make([]uint64, 2)),
		"predicate":   all.Where(func(uint32) bool { return false }),
		"again":       all.Pick(nil).Pick([]uint32{1}).PickBits([]uint64{3}).Where(func(uint32) bool { return true }),
		"disjoint":    all.Pick([]uint32{1, 2}).Pick([]uint32{3}),
	} {
		require.Zero(t, none.Len(), name)
		for _, o := range []ScanOptions{{}, {Workers: 2}} {
			q := all.Data[:3]
			for metric := MetricDot; metric <= MetricCosine; metric++ {
				require.Empty(t, TopK(make([]Match, 5), metric, q, none, o), name)
			}
			DotRows(nil, q, none, o)
			SquaredL2Rows(nil, q, none, o)
			CosineRows(nil, q, none, o)
			PairwiseDot(nil, none, all, o)
			PairwiseDot(nil, all, none, o)
			require.Panics(t, func() { DotRows(make([]float32, count), q, none, o) }, name)
		}
	}
	require.Equal(t, count, all.Len())
	require.Zero(t, Rows[int8]{}.Len())
}

// However it is picked and in whatever order: what was left out stays out.
func TestPickingNarrows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		count := r.IntN(200)
		rows := Rows[int8]{Data: make([]int8, 2*count), Dim: 2}
		if count > 0 && r.IntN(2) == 0 {
			rows.Stride = 1 // count vectors and another that overlaps each
			count = 2*count - 1
		}
		want := make([]uint32, count)
		for i := range want {
			want[i] = uint32(i)
		}
		what := ""
		for step := range r.IntN(5) {
			switch r.IntN(3) {
			case 0:
				index := make([]uint32, r.IntN(2*count+1))
				for i := range index {
					index[i] = uint32(r.IntN(count))
				}
				given := slices.Clone(index)
				rows = rows.Pick(index)
				require.Equal(t, given, index)
				if step > 0 {
					index = slices.DeleteFunc(index, func(id uint32) bool { return !slices.Contains(want, id) })
				}
				want = index
				what += fmt.Sprint(" Pick ", given)
			case 1:
				bits := make([]uint64, r.IntN(5))
				for i := range bits {
					bits[i] = r.Uint64() | r.Uint64()
				}
				rows = rows.PickBits(bits)
				want = slices.DeleteFunc(slices.Clone(want), func(id uint32) bool {
					return int(id/64) >= len(bits) || bits[id/64]&(1<<(id%64)) == 0
				})
				what += fmt.Sprintf(" PickBits %x", bits)
			case 2:
				n := 1 + uint32(r.IntN(4))
				var asked []uint32
				rows = rows.Where(func(id uint32) bool { asked = append(asked, id); return id%n == 0 })
				require.True(t, slices.Equal(want, asked))
				want = slices.DeleteFunc(slices.Clone(want), func(id uint32) bool { return id%n != 0 })
				what += fmt.Sprint(" Where ", n)
			}
		}
		require.True(t, slices.Equal(want, ids(rows)), "%d vectors%s: want %v, got %v", count, what, want, ids(rows))
		require.Equal(t, len(want), rows.Len())
	}
}

// The scores of what was picked are those of the same vectors among all.
func TestPickedVectorsHaveTheirOwnScoresAndScales(t *testing.T) {
	const dim, count = 20, 300
	all := Rows[int8]{Data: randomInt8(1, dim*count), Dim: dim, Scale: normals(2, count)}
	odd := all.Where(func(id uint32) bool { return id%3 == 1 })
	q := normals(3, dim)
	for _, score := range []func([]float32, []float32, Rows[int8], ScanOptions){DotRows[float32, int8],
		SquaredL2Rows[float32, int8], CosineRows[float32, int8]} {
		every, some := make([]float32, count), make([]float32, odd.Len())
		score(every, q, all, ScanOptions{})
		score(some, q, odd, ScanOptions{})
		for i, s := range some {
			require.Equal(t, every[odd.ID(i)], s)
		}
	}
	for _, m := range TopK(make([]Match, count), MetricCosine, q, odd, ScanOptions{}) {
		require.EqualValues(t, 1, m.ID%3)
	}
	products := make([]float32, odd.Len()*odd.Len())
	PairwiseDot(products, odd, odd, ScanOptions{})
	for i := range odd.Len() {
		a, b := RowsOf(all.Data, dim).Pick([]uint32{odd.ID(i)}), make([]float32, 1)
		a.Scale = all.Scale
		PairwiseDot(b, a, a, ScanOptions{})
		require.Equal(t, b[0], products[i*odd.Len()+i])
	}
}
