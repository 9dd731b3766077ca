package kernel_test

import (
	"fmt"

	"github.com/quern-go/quern/kernel"
)

func ExampleDot_half() {
	half := make([]kernel.BF16, 3) // or kernel.F16: half the memory, the same functions
	kernel.Narrow(half, []float32{1, 2, 3})
	fmt.Println(kernel.Dot(half, half))
	// Output: 14
}

func ExampleSquaredL2() {
	fmt.Println(kernel.SquaredL2([]float32{1, 2}, []float32{4, 6}))
	// Output: 25
}

func ExampleCosine() {
	fmt.Println(kernel.Cosine([]float32{1, 0}, []float32{-3, 0}))
	// Output: -1
}

func ExampleView() {
	words := []uint16{0x3f80, 0x4000} // as read from a file
	wide := make([]float32, 2)
	kernel.Widen(wide, kernel.View[kernel.BF16](words))
	fmt.Println(wide)
	// Output: [1 2]
}

func ExampleDotRows() {
	rows := kernel.RowsOf([]float32{
		1, 0,
		0, 1,
		1, 1,
	}, 2)
	scores := make([]float32, rows.Len())
	kernel.DotRows(scores, []float32{3, 4}, rows, kernel.ScanOptions{})
	fmt.Println(scores)
	// Output: [3 4 7]
}

// On a server with more requests than cores, a scan for each of them.
func ExampleScanOptions() {
	rows, scores := kernel.RowsOf([]float32{1, 2, 3, 4}, 2), make([]float32, 2)
	kernel.DotRows(scores, []float32{1, 1}, rows, kernel.ScanOptions{Workers: 1})
	fmt.Println(scores)
	// Output: [3 7]
}

// The vectors of several tenants lie in one store, and each searches its own.
func ExampleRows_Where() {
	vectors := kernel.RowsOf([]float32{
		1, 0,
		0, 1,
		5, 5,
		9, 9,
	}, 2)
	owner := []string{"ada", "bob", "ada", "bob"}
	for _, tenant := range []string{"ada", "bob", "eve"} {
		// To be kept for the tenant's next queries.
		own := vectors.Where(func(id uint32) bool { return owner[id] == tenant })
		best := kernel.TopK(make([]kernel.Match, 1), kernel.MetricSquaredL2, []float32{5, 6}, own, kernel.ScanOptions{})
		fmt.Println(tenant, best)
	}
	// Output:
	// ada [{2 1}]
	// bob [{3 25}]
	// eve []
}

// The neighbours of a node in a graph, by their numbers.
func ExampleRows_Pick() {
	vectors := kernel.RowsOf([]float32{
		1, 0,
		0, 1,
		1, 1,
	}, 2)
	neighbours := vectors.Pick([]uint32{2, 0})
	scores := make([]float32, neighbours.Len())
	kernel.DotRows(scores, []float32{3, 4}, neighbours, kernel.ScanOptions{})
	fmt.Println(scores, vectors.Pick(nil).Len())
	// Output: [7 3] 0
}

// A bitmap of the vectors that have not been deleted, and among those a tenant's.
func ExampleRows_PickBits() {
	vectors := kernel.RowsOf([]float32{10, 11, 12, 13}, 1)
	kept, tenant := []uint64{0b1011}, []uint64{0b0110}
	rows := vectors.PickBits(kept).PickBits(tenant)
	fmt.Println(kernel.TopK(make([]kernel.Match, 4), kernel.MetricDot, []float32{1}, rows, kernel.ScanOptions{}))
	// Output: [{1 11}]
}

// Scores come in the order of what was picked; ID says which vector each belongs to.
func ExampleRows_ID() {
	rows := kernel.RowsOf([]float32{7, 8, 9}, 1).Where(func(id uint32) bool { return id != 1 })
	scores := make([]float32, rows.Len())
	kernel.DotRows(scores, []float32{1}, rows, kernel.ScanOptions{})
	for i, score := range scores {
		fmt.Println(rows.ID(i), score)
	}
	// Output:
	// 0 7
	// 2 9
}

func ExampleDotRows_quantised() {
	rows := kernel.Rows[int8]{
		Data:  []int8{127, 0, 64, -64},
		Dim:   2,
		Scale: []float32{0.5, 0.25}, // of each row
	}
	scores := make([]float32, rows.Len())
	kernel.DotRows(scores, []float32{1, 1}, rows, kernel.ScanOptions{})
	fmt.Println(scores)
	// Output: [63.5 0]
}

func ExampleTopK() {
	rows := kernel.RowsOf([]float32{0, 0, 3, 4, 1, 1}, 2)
	best := kernel.TopK(make([]kernel.Match, 2), kernel.MetricSquaredL2, []float32{1, 2}, rows, kernel.ScanOptions{})
	fmt.Println(best)
	// Output: [{2 1} {0 5}]
}

func ExamplePairwiseDot() {
	queries := kernel.RowsOf([]float32{1, 0, 0, 1}, 2)
	rows := kernel.RowsOf([]float32{1, 2, 3, 4, 5, 6}, 2)
	products := make([]float32, 2*3)
	kernel.PairwiseDot(products, queries, rows, kernel.ScanOptions{})
	fmt.Println(products)
	// Output: [1 3 5 2 4 6]
}

func ExampleNorm() {
	fmt.Println(kernel.Norm([]float32{3, 4}))
	// Output: 5
}

func ExampleDotInt8() {
	x := []int8{-128, 127}
	fmt.Println(kernel.DotInt8(x, x))
	// Output: 32513
}

func ExampleSquaredL2Int8() {
	fmt.Println(kernel.SquaredL2Int8([]int8{-128, 0}, []int8{127, 0}))
	// Output: 65025
}

func ExampleCosineInt8() {
	fmt.Println(kernel.CosineInt8([]int8{1, 1}, []int8{100, 100}))
	// Output: 1
}

// The bits in which two binary codes differ.
func ExampleHamming() {
	fmt.Println(kernel.Hamming([]uint64{0b1100}, []uint64{0b1010}))
	// Output: 2
}

// A code of two words against three.
func ExampleHammingRows() {
	codes := []uint64{
		0, 0,
		1, 0,
		7, 1,
	}
	distances := make([]int32, 3)
	kernel.HammingRows(distances, []uint64{0, 0}, codes)
	fmt.Println(distances)
	// Output: [0 1 4]
}

// Every second vector of a table, by its stride.
func ExampleSquaredL2Rows() {
	table := []float32{
		0, 0, 9, 9,
		3, 4, 9, 9,
	}
	rows := kernel.Rows[float32]{Data: table, Dim: 2, Stride: 4}
	distances := make([]float32, rows.Len())
	kernel.SquaredL2Rows(distances, []float32{0, 0}, rows, kernel.ScanOptions{})
	fmt.Println(distances)
	// Output: [0 25]
}

func ExampleCosineRows() {
	rows := kernel.RowsOf([]float32{5, 0, 0, 7, -2, 0}, 2)
	cosines := make([]float32, rows.Len())
	kernel.CosineRows(cosines, []float32{1, 0}, rows, kernel.ScanOptions{})
	fmt.Println(cosines)
	// Output: [1 0 -1]
}

// The nearest of three vectors depends on what near means.
func ExampleMetric() {
	rows := kernel.RowsOf([]float32{1, 1, 9, 0, 5, 4}, 2)
	for _, metric := range []kernel.Metric{kernel.MetricDot, kernel.MetricSquaredL2, kernel.MetricCosine} {
		best := kernel.TopK(make([]kernel.Match, 1), metric, []float32{2, 1.5}, rows, kernel.ScanOptions{})
		fmt.Println(best[0].ID)
	}
	// Output:
	// 1
	// 0
	// 2
}

// unit makes vectors of any element type unit vectors.
func unit[T kernel.Float](x []T) []float32 {
	length := kernel.Norm(x)
	one := make([]float32, len(x))
	switch x := any(x).(type) {
	case []float32:
		copy(one, x)
	case []kernel.BF16:
		kernel.Widen(one, x)
	case []kernel.F16:
		kernel.Widen(one, x)
	}
	for i := range one {
		one[i] /= length
	}
	return one
}

// A function over vectors of any floating-point type.
func ExampleFloat() {
	half := []kernel.F16{kernel.ToF16(3), kernel.ToF16(4)}
	fmt.Println(unit([]float32{3, 4}), unit(half))
	// Output: [0.6 0.8] [0.6 0.8]
}

// nearest is the number of the row that is nearest to q.
func nearest[T kernel.Scalar](q []float32, rows kernel.Rows[T]) uint32 {
	return kernel.TopK(make([]kernel.Match, 1), kernel.MetricSquaredL2, q, rows, kernel.ScanOptions{})[0].ID
}

// A function over rows of any element type, int8 with scales included.
func ExampleScalar() {
	plain := kernel.RowsOf([]float32{0, 0, 3, 4}, 2)
	small := kernel.Rows[int8]{Data: []int8{0, 0, 95, 127}, Dim: 2, Scale: []float32{1, 4. / 127}}
	q := []float32{3, 3}
	fmt.Println(nearest(q, plain), nearest(q, small))
	// Output: 1 1
}

func ExampleToBF16() {
	fmt.Println(kernel.ToBF16(3.14159).Float32()) // 8 significant bits
	// Output: 3.140625
}

func ExampleToF16() {
	fmt.Println(kernel.ToF16(3.14159).Float32(), kernel.ToF16(65519).Float32(), kernel.ToF16(65520).Float32())
	// Output: 3.140625 65504 +Inf
}

// halved is x in half the memory.
func halved[T kernel.Half](x []float32) []T {
	h := make([]T, len(x))
	kernel.Narrow(h, x)
	return h
}

// What bfloat16 loses in precision it gains in range.
func ExampleHalf() {
	x := []float32{1.001, 1e6}
	b, f := make([]float32, 2), make([]float32, 2)
	kernel.Widen(b, halved[kernel.BF16](x))
	kernel.Widen(f, halved[kernel.F16](x))
	fmt.Println(b, f)
	// Output: [1 999424] [1.0009766 +Inf]
}
