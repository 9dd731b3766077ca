package kernel_test

import (
	"fmt"
	"math"
	"slices"

	"github.com/quern-go/quern/kernel"
)

// packed is Pack for matrices that are known to be right.
func packed(data []float32, rows, cols int) *kernel.Weights {
	w, err := kernel.Pack(kernel.RowMajor(data, rows, cols))
	if err != nil {
		panic(err)
	}
	return w
}

// Weights are packed once. PyTorch stores them as [out, in], which is the transpose.
func ExampleMatMul() {
	linear := []float32{ // two outputs, three inputs
		1, 2, 3,
		0, 1, 0,
	}
	w, err := kernel.Pack(kernel.RowMajor(linear, 2, 3).T())
	if err != nil {
		fmt.Println(err)
		return
	}
	x := []float32{1, 1, 1, 0, 0, 2} // two rows
	y := make([]float32, 4)

	err = kernel.MatMul(kernel.RowMajor(y, 2, 2), kernel.RowMajor(x, 2, 3), w, kernel.MatMulOptions{Bias: []float32{10, 20}})
	fmt.Println(y, err)
	// Output: [16 21 16 20] <nil>
}

// Weights in bfloat16 take half the memory.
func ExamplePack_bfloat16() {
	half := make([]kernel.BF16, 4)
	kernel.Narrow(half, []float32{1, 2, 3, 4})
	w, err := kernel.Pack(kernel.RowMajor(half, 2, 2))
	if err != nil {
		fmt.Println(err)
		return
	}
	y := make([]float32, 2)
	err = kernel.MatMul(kernel.RowMajor(y, 1, 2), kernel.RowMajor([]float32{1, 1}, 1, 2), w, kernel.MatMulOptions{})
	fmt.Println(y, err)
	// Output: [4 6] <nil>
}

// Weights in int8, with a scale for each column, take a quarter.
func ExampleQuantize() {
	w := kernel.RowMajor([]float32{12.7, 1, -6.4, 0.5}, 2, 2)
	q, scale := make([]int8, 4), make([]float32, 2)
	if err := kernel.Quantize(q, scale, w); err != nil {
		fmt.Println(err)
		return
	}
	weights, err := kernel.PackScaled(kernel.RowMajor(q, 2, 2), scale)
	if err != nil {
		fmt.Println(err)
		return
	}
	y := make([]float32, 2)
	err = kernel.MatMul(kernel.RowMajor(y, 1, 2), kernel.RowMajor([]float32{1, 1}, 1, 2), weights, kernel.MatMulOptions{})
	fmt.Printf("%v %.4f %.2f %v\n", q, scale, y, err)
	// Output: [127 127 -64 64] [0.1000 0.0079] [6.30 1.50] <nil>
}

// Without tables: any position will do, negative ones too. Tables would give the same bits.
func ExampleNewRotary() {
	rotary, err := kernel.NewRotary(kernel.RotaryOptions{Dim: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	keys := []float32{1, 0, 1, 0, 1, 0}
	err = rotary.Apply(kernel.BHSD(keys, 1, 1, 3, 2), kernel.Positions{IDs: []int{-1, 1, 3_000_000}})
	fmt.Printf("%.3f %v\n", keys, err)
	// Output: [0.540 -0.841 0.540 0.841 0.478 -0.878] <nil>
}

// A quarter turn at position 1: a user's own tables.
func ExampleRotary_Apply() {
	rotary, err := kernel.NewRotary(kernel.RotaryOptions{
		Dim: 2, Positions: 3,
		Cos: []float32{1, 0, -1}, Sin: []float32{0, 1, 0},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	keys := []float32{5, 6, 5, 6, 5, 6} // the same key at positions 0, 1 and 2
	err = rotary.Apply(kernel.BHSD(keys, 1, 1, 3, 2), kernel.Positions{})
	fmt.Println(keys, err)
	// Output: [5 6 -6 5 -5 -6] <nil>
}

// A layer with two heads of one channel each. Self-attention: queries, keys and values come from the
// same tokens. The weights are the identity, so that the heads are the two channels.
func ExampleMultiHead() {
	identity := packed([]float32{1, 0, 0, 1}, 2, 2)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 2, Query: identity, Key: identity, Value: identity, Out: identity,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x := []float32{0, 2, 1, 0} // two tokens
	y := make([]float32, 4)
	err = layer.Forward(kernel.BHSD(y, 1, 1, 2, 2), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 2, 2)})
	fmt.Printf("%.3f %v\n", y, err)
	// Output: [0.500 1.964 0.731 1.000] <nil>
}

// Causal self-attention: a token sees itself and those before it. The same layer one token at a time
// gives the same bits.
func ExampleMultiHead_causal() {
	identity := packed([]float32{1}, 1, 1)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 1, Query: packed([]float32{0}, 1, 1), Key: identity, Value: identity, Out: identity,
		Mask: kernel.Causal{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, y := []float32{3, 6, 9}, make([]float32, 3)
	err = layer.Forward(kernel.BHSD(y, 1, 1, 3, 1), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 3, 1)})
	fmt.Println(y, err) // all scores are 0, so that a token gets the mean of what it sees
	// Output: [3 4.5 6] <nil>
}

// Token by token, with the keys and values of those before in a cache: the bits are those of the whole
// sequence at once.
func ExampleMultiHead_caches() {
	identity := packed([]float32{1, 0, 0, 1}, 2, 2)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 2, Query: identity, Key: identity, Value: identity, Out: identity, Mask: kernel.Causal{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, whole := []float32{0, 2, 1, 0, 1, 1}, make([]float32, 6)
	err = layer.Forward(kernel.BHSD(whole, 1, 1, 3, 2), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 3, 2)})
	fmt.Printf("%.3f %v\n", whole, err)

	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: 2, Dim: 1})
	for i := 0; i < 3 && err == nil; i++ {
		y, token := make([]float32, 2), kernel.BHSD(x[2*i:][:2], 1, 1, 1, 2)
		err = layer.Forward(kernel.BHSD(y, 1, 1, 1, 2), kernel.MultiHeadInput{X: token, Caches: []*kernel.Cache{cache}})
		fmt.Println(cache.Len(), slices.Equal(y, whole[2*i:][:2]), err)
	}
	// Output:
	// [0.000 2.000 0.731 1.000 0.845 1.575] <nil>
	// 1 true <nil>
	// 2 true <nil>
	// 3 true <nil>
}

// Encoder and decoder: two tokens attend to three of another sequence.
func ExampleMultiHead_cross() {
	identity := packed([]float32{1}, 1, 1)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 1, Query: packed([]float32{0}, 1, 1), Key: identity, Value: identity, Out: identity,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	decoder, encoder, y := []float32{1, 2}, []float32{3, 6, 9}, make([]float32, 2)
	err = layer.Forward(kernel.BHSD(y, 1, 1, 2, 1), kernel.MultiHeadInput{
		X:       kernel.BHSD(decoder, 1, 1, 2, 1),
		Context: kernel.BHSD(encoder, 1, 1, 3, 1),
	})
	fmt.Println(y, err)
	// Output: [6 6] <nil>
}

// Grouped queries: four query heads share two heads of keys and values, and W^Q, W^K, W^V are one matrix.
func ExampleMultiHead_groupedQueries() {
	qkv := packed([]float32{0, 0, 0, 0, 1, 1, 1, 10}, 1, 4+2+2) // of one input channel
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 4, KVHeads: 2, QKV: qkv, Out: packed([]float32{1, 0, 1, 0, 0, 1, 0, 1}, 4, 2),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, y := []float32{1, 3}, make([]float32, 4)
	err = layer.Forward(kernel.BHSD(y, 1, 1, 2, 2), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 2, 1)})
	fmt.Println(y, err) // the first two heads see values 1 and 3, the others 10 and 30
	// Output: [4 40 4 40] <nil>
}

// Several sentences in one batch, packed end to end: each gets the bits that it gets alone.
func ExampleMultiHead_packed() {
	identity := packed([]float32{1}, 1, 1)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 1, Query: packed([]float32{0}, 1, 1), Key: identity, Value: identity, Out: identity,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, y := []float32{3, 6, 9, 100, 200}, make([]float32, 5)
	err = layer.Forward(kernel.BHSD(y, 1, 1, 5, 1), kernel.MultiHeadInput{
		X:      kernel.BHSD(x, 1, 1, 5, 1),
		Ragged: kernel.Ragged{CumQueries: []int{0, 3, 5}},
	})
	fmt.Println(y, err)
	// Output: [6 6 6 150 150] <nil>
}

// Overlapped heads: with overlap 1, each of two heads of one channel also sees its neighbour, and zeros
// at the ends. Out has three rows a head.
func ExampleMultiHead_overlapped() {
	identity := packed([]float32{1, 0, 0, 1}, 2, 2)
	all := make([]float32, 6*6) // shows the concatenated heads as they are
	for i := range 6 {
		all[i*6+i] = 1
	}
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 2, Overlap: 1, Query: identity, Key: identity, Value: identity, Out: packed(all, 6, 6),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, y := []float32{7, 8}, make([]float32, 6) // one token sees itself
	err = layer.Forward(kernel.BHSD(y, 1, 1, 1, 6), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 1, 2)})
	fmt.Println(y, err)
	// Output: [0 7 8 7 8 0] <nil>
}

// The same without a layer: overlapping heads are a strided view of padded channels.
func ExampleStrided_overlappedHeads() {
	const tokens, heads, dim, overlap = 1, 2, 1, 1
	const width = heads*dim + 2*overlap
	padded := []float32{0, 7, 8, 0}
	view := kernel.Strided(padded, [4]int{1, heads, tokens, dim + 2*overlap}, [3]int{tokens * width, dim, width})
	out := make([]float32, tokens*heads*(dim+2*overlap))

	err := kernel.Attention(kernel.BSHD(out, 1, tokens, heads, dim+2*overlap), view, view, view, kernel.Options{Scale: 1 / math.Sqrt(dim)})
	fmt.Println(out, err)
	// Output: [0 7 8 7 8 0] <nil>
}

// Overlap that grows by one every other layer.
func ExampleOverlapSchedule() {
	schedule := kernel.OverlapSchedule{Half: true, PlusOne: true}
	for layer := range 6 {
		fmt.Print(schedule.Overlap(layer, 6), " ")
	}
	// Output: 1 1 2 2 3 3
}

// Some of the columns of a wider matrix.
func ExampleStridedRows() {
	wide := []float32{
		1, 2, 9, 9,
		3, 4, 9, 9,
	}
	x, y := kernel.StridedRows(wide, 2, 2, 4), make([]float32, 2)
	err := kernel.MatMul(kernel.RowMajor(y, 2, 1), x, packed([]float32{1, 1}, 2, 1), kernel.MatMulOptions{})
	fmt.Println(y, err)
	// Output: [3 7] <nil>
}

func ExampleWeights() {
	w, err := kernel.Pack(kernel.RowMajor(make([]float32, 768*2304), 768, 2304))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("from", w.Rows(), "channels to", w.Cols())
	// Output: from 768 channels to 2304
}

// Goroutines that share the weights of a layer.
func ExampleMultiHead_Clone() {
	identity := packed([]float32{1}, 1, 1)
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: 1, Query: identity, Key: identity, Value: identity, Out: identity, Workers: 1,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan float32)
	for range 2 {
		layer := layer.Clone()
		go func() {
			x, y := []float32{7}, []float32{0}
			if err := layer.Forward(kernel.BHSD(y, 1, 1, 1, 1), kernel.MultiHeadInput{X: kernel.BHSD(x, 1, 1, 1, 1)}); err != nil {
				panic(err)
			}
			done <- y[0]
		}()
	}
	fmt.Println(<-done, <-done)
	// Output: 7 7
}
