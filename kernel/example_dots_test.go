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
	rows := kernel.Rows[float32]{
		Data: []float32{
			1, 0,
			0, 1,
			1, 1,
		},
		Dim:   2,
		Index: []uint32{2, 0}, // the candidates
	}
	scores := make([]float32, rows.Len())
	kernel.DotRows(scores, []float32{3, 4}, rows, 1)
	fmt.Println(scores)
	// Output: [7 3]
}

func ExampleDotRows_quantised() {
	rows := kernel.Rows[int8]{
		Data:  []int8{127, 0, 64, -64},
		Dim:   2,
		Scale: []float32{0.5, 0.25}, // of each row
	}
	scores := make([]float32, rows.Len())
	kernel.DotRows(scores, []float32{1, 1}, rows, 1)
	fmt.Println(scores)
	// Output: [63.5 0]
}

func ExampleTopK() {
	rows := kernel.RowsOf([]float32{0, 0, 3, 4, 1, 1}, 2)
	best := kernel.TopK(make([]kernel.Match, 2), kernel.MetricSquaredL2, []float32{1, 2}, rows, 1)
	fmt.Println(best)
	// Output: [{2 1} {0 5}]
}

func ExamplePairwiseDot() {
	queries := kernel.RowsOf([]float32{1, 0, 0, 1}, 2)
	rows := kernel.RowsOf([]float32{1, 2, 3, 4, 5, 6}, 2)
	products := make([]float32, 2*3)
	kernel.PairwiseDot(products, queries, rows, 1)
	fmt.Println(products)
	// Output: [1 3 5 2 4 6]
}
