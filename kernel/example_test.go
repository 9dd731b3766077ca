package kernel_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/quern-go/quern/kernel"
)

// Three tokens of two channels, one head: each attends to itself and to those before it.
func Example() {
	x := []float32{1, 0, 0, 1, 1, 1}
	out := make([]float32, len(x))
	view := func(x []float32) kernel.Tensor { return kernel.BHSD(x, 1, 1, 3, 2) } // batch, heads, sequence, dim
	err := kernel.Attention(view(out), view(x), view(x), view(x), kernel.Options{Mask: kernel.Causal{}})
	fmt.Printf("%.3f %v\n", out, err)
	// Output: [1.000 0.000 0.330 0.670 0.752 0.752] <nil>
}

// With all scores 0 a token gets the mean of what it sees: itself and those before it.
func ExampleAttention() {
	q := kernel.BHSD([]float32{1, 1, 1}, 1, 1, 3, 1)
	k := kernel.BHSD([]float32{0, 0, 0}, 1, 1, 3, 1)
	v := kernel.BHSD([]float32{3, 6, 9}, 1, 1, 3, 1)
	out, lse := make([]float32, 3), make([]float32, 3)

	err := kernel.Attention(kernel.BHSD(out, 1, 1, 3, 1), q, k, v, kernel.Options{Mask: kernel.Causal{}, LSE: lse})
	fmt.Printf("%v %.3f %v\n", out, lse, err)
	// Output: [3 4.5 6] [0.000 0.693 1.099] <nil>
}

// One new token attends to a cache with room for 8 keys, of which 3 are filled: aligned with the last key, it
// sees them all.
func ExampleAttention_decode() {
	cache := kernel.Strided(make([]float32, 8), [4]int{1, 1, 3, 1}, [3]int{8, 8, 1})
	values := kernel.Strided([]float32{3, 6, 9, 0, 0, 0, 0, 0}, [4]int{1, 1, 3, 1}, [3]int{8, 8, 1})
	token := kernel.BHSD([]float32{1}, 1, 1, 1, 1)
	out := make([]float32, 1)

	err := kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), token, cache, values, kernel.Options{Mask: kernel.Causal{}})
	fmt.Println(out, err)
	// Output: [6] <nil>
}

// Two queries attend to four keys of another sequence. Values may be of another width than keys.
func ExampleAttention_cross() {
	q := kernel.BHSD([]float32{0, 0}, 1, 1, 2, 1)
	k := kernel.BHSD([]float32{1, 2, 3, 4}, 1, 1, 4, 1)
	v := kernel.BHSD([]float32{1, 10, 2, 20, 3, 30, 4, 40}, 1, 1, 4, 2)
	out := make([]float32, 4)

	err := kernel.Attention(kernel.BHSD(out, 1, 1, 2, 2), q, k, v, kernel.Options{})
	fmt.Println(out, err)
	// Output: [2.5 25 2.5 25] <nil>
}

// Four query heads on two key/value heads, which lie beside each other as a projection leaves them.
func ExampleAttention_groupedQueries() {
	q := kernel.BSHD(make([]float32, 4), 1, 1, 4, 1)
	k := kernel.BSHD(make([]float32, 4), 1, 2, 2, 1)
	v := kernel.BSHD([]float32{1, 10, 3, 30}, 1, 2, 2, 1) // position 0: 1 and 10, position 1: 3 and 30
	out := make([]float32, 4)

	err := kernel.Attention(kernel.BSHD(out, 1, 1, 4, 1), q, k, v, kernel.Options{})
	fmt.Println(out, err)
	// Output: [2 2 20 20] <nil>
}

// Documents of two tokens and of three, packed end to end: neither sees the other.
func ExampleRagged_packed() {
	x := kernel.BHSD(make([]float32, 5), 1, 1, 5, 1)
	v := kernel.BHSD([]float32{1, 3, 10, 20, 30}, 1, 1, 5, 1)
	out := make([]float32, 5)

	err := kernel.Attention(kernel.BHSD(out, 1, 1, 5, 1), x, x, v, kernel.Options{
		Ragged: kernel.Ragged{CumQueries: []int{0, 2, 5}},
	})
	fmt.Println(out, err)
	// Output: [2 2 20 20 20] <nil>
}

// Causal self-attention of a batch of two with room for three tokens. The first sequence is padded on the left and the
// second on the right; what stands in the padding does not matter, and its output is 0.
func ExampleRagged_padded() {
	nan := float32(math.NaN())
	x := kernel.BHSD([]float32{nan, 0, 0, 0, 0, nan}, 2, 1, 3, 1)
	v := kernel.BHSD([]float32{nan, 2, 4, 10, 30, nan}, 2, 1, 3, 1)
	out := make([]float32, 6)

	first, length := []int{1, 0}, []int{2, 2}
	err := kernel.Attention(kernel.BHSD(out, 2, 1, 3, 1), x, x, v, kernel.Options{
		Mask:   kernel.Causal{},
		Ragged: kernel.Ragged{KeyStart: first, KeyCount: length, QueryStart: first, QueryCount: length},
	})
	fmt.Println(out, err)
	// Output: [0 2 3 10 20 0] <nil>
}

// Two sequences whose queries start at different positions among their keys: the first query of the first sees key 0
// only, that of the second keys 0 to 2.
func ExampleCausal() {
	zeros := make([]float32, 8)
	q, k := kernel.BHSD(zeros, 2, 1, 2, 1), kernel.BHSD(zeros, 2, 1, 4, 1)
	v := kernel.BHSD([]float32{1, 3, 5, 7, 1, 3, 5, 7}, 2, 1, 4, 1)
	out := make([]float32, 4)

	err := kernel.Attention(kernel.BHSD(out, 2, 1, 2, 1), q, k, v, kernel.Options{
		Mask: kernel.Causal{Offset: []int{0, 2}},
	})
	fmt.Println(out, err)
	// Output: [1 2 3 4] <nil>
}

// A layer prepares a plan once and runs it without allocating. Other goroutines take clones.
func ExampleNewAttention() {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 1, Keys: 2, Dim: 1, ValueDim: 1}
	plan, err := kernel.NewAttention(shape, kernel.Options{Workers: 1})
	if err != nil {
		panic(err)
	}
	q, k := kernel.BHSD([]float32{0}, 1, 1, 1, 1), kernel.BHSD([]float32{1, 2}, 1, 1, 2, 1)
	out := make([]float32, 1)
	for _, values := range [][]float32{{1, 3}, {10, 30}} {
		err = plan.Run(kernel.BHSD(out, 1, 1, 1, 1), q, k, kernel.BHSD(values, 1, 1, 2, 1))
		fmt.Println(out, err)
	}
	// Output:
	// [2] <nil>
	// [20] <nil>
}

// A decoder resets one plan as its cache grows, and keeps the plan's memory.
func ExamplePlan_Reset() {
	var plan kernel.Plan
	cache, values, out := []float32{0, 0, 0}, []float32{3, 6, 9}, []float32{0}
	for n := 1; n <= 3; n++ {
		q, k, v := kernel.BHSD(out, 1, 1, 1, 1), kernel.BHSD(cache, 1, 1, n, 1), kernel.BHSD(values, 1, 1, n, 1)
		if err := plan.Reset(kernel.ShapeOf(q, k, v), kernel.Options{Workers: 1}); err != nil {
			panic(err)
		}
		err := plan.Run(q, q, k, v)
		fmt.Println(out, err)
	}
	// Output:
	// [3] <nil>
	// [4.5] <nil>
	// [6] <nil>
}

func ExamplePlan_Clone() {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 1, Keys: 2, Dim: 1, ValueDim: 1}
	plan, err := kernel.NewAttention(shape, kernel.Options{})
	if err != nil {
		panic(err)
	}
	done := make(chan float32)
	for _, p := range []*kernel.Plan{plan, plan.Clone()} {
		go func() {
			q, k, v, out := []float32{0}, []float32{1, 2}, []float32{1, 3}, []float32{0}
			view := func(x []float32) kernel.Tensor { return kernel.BHSD(x, 1, 1, len(x), 1) }
			if err := p.Run(view(out), view(q), view(k), view(v)); err != nil {
				panic(err)
			}
			done <- out[0]
		}()
	}
	fmt.Println(<-done, <-done)
	// Output: 2 2
}

// Each token of a sequence has its query, key and value in one row: views of it need no copy.
func ExampleStrided() {
	qkv := []float32{
		0, 0, 1,
		0, 0, 3,
	}
	view := func(column int) kernel.Tensor {
		return kernel.Strided(qkv[column:], [4]int{1, 1, 2, 1}, [3]int{6, 1, 3})
	}
	q, k, v := view(0), view(1), view(2)
	err := kernel.Attention(q, q, k, v, kernel.Options{}) // out may take the place of q
	fmt.Println(qkv, err)
	// Output: [2 0 1 2 0 3] <nil>
}

func ExampleArgumentError() {
	q := kernel.BHSD(make([]float32, 8), 1, 1, 2, 4)
	k := kernel.BHSD(make([]float32, 6), 1, 1, 2, 3)
	err := kernel.Attention(q, q, k, q, kernel.Options{})

	var wrong *kernel.ArgumentError
	fmt.Println(errors.As(err, &wrong), wrong.Argument, errors.Is(err, kernel.ErrShape))
	fmt.Println(err)
	// Output:
	// true k true
	// quern: Attention: k: shape does not match: is [1 1 2 3] (batch, heads, sequence, dim), want [1 1 2 4]
}

func ExampleDot() {
	fmt.Println(kernel.Dot([]float32{1, 2, 3}, []float32{4, 5, 6}))
	// Output: 32
}

func ExampleExp() {
	x := []float32{0, 1, -1000}
	kernel.Exp(x, x)
	fmt.Printf("%.5f\n", x)
	// Output: [1.00000 2.71828 0.00000]
}

func ExampleSoftmax() {
	x := []float32{0, 0, float32(math.Log(2)), float32(math.Inf(-1))}
	kernel.Softmax(x, x)
	fmt.Printf("%.2f\n", x)
	// Output: [0.25 0.25 0.50 0.00]
}

func ExampleLogSoftmax() {
	x := []float32{7, 7, 7, 7}
	kernel.LogSoftmax(x, x)
	fmt.Printf("%.3f\n", x)
	// Output: [-1.386 -1.386 -1.386 -1.386]
}

func ExampleLogSumExp() {
	fmt.Printf("%.3f\n", kernel.LogSumExp([]float32{1000, 1000}))
	// Output: 1000.693
}

func ExampleISA() {
	if err := kernel.ISAError(); err != nil {
		fmt.Println(err) // QUERN_ISA asks for what there is not
	}
	all := kernel.ISAs() // best first
	fmt.Println(slices.Contains(all, kernel.ISA()), all[len(all)-1])
	// Output: true go
}

// What to put into the report of a bug.
func ExampleVersion() {
	fmt.Println(strings.HasPrefix(kernel.Version(), "quern "))
	// Output: true
}

// Results that are kept to be compared with later ones, bit for bit, belong to a version of the arithmetic.
func ExampleArithmeticVersion() {
	fmt.Println("results of arithmetic", kernel.ArithmeticVersion)
	// Output: results of arithmetic 1
}

// One wrong argument of each kind.
func ExampleErrShape() {
	vectors := func(n int) kernel.Tensor { return kernel.BHSD(make([]float32, n), 1, 1, n, 1) }
	half := kernel.BHSD(make([]kernel.F16, 3), 1, 1, 3, 1)
	backwards := kernel.Strided(make([]float32, 3), [4]int{1, 1, 3, 1}, [3]int{0, 0, -1})
	kinds := []error{kernel.ErrShape, kernel.ErrStride, kernel.ErrOption, kernel.ErrOverlap, kernel.ErrFormat}
	x := vectors(3)
	for _, err := range []error{
		kernel.Attention(vectors(2), x, x, x, kernel.Options{}),
		kernel.Attention(vectors(3), x, backwards, x, kernel.Options{}),
		kernel.Attention(vectors(3), x, x, x, kernel.Options{Workers: -1}),
		kernel.Attention(x, vectors(3), x, x, kernel.Options{}),
		kernel.Attention(half, x, x, x, kernel.Options{}),
	} {
		for _, kind := range kinds {
			if errors.Is(err, kind) {
				fmt.Println(err)
			}
		}
	}
	// Output:
	// quern: Attention: out: shape does not match: is [1 1 2 1] (batch, heads, sequence, dim), want [1 1 3 1]
	// quern: Attention: k: strides are not usable: stride 2 is -1, want 0 or more
	// quern: Attention: Options.Workers: option is not valid: is -1, want 0 or more
	// quern: Attention: out: memory overlaps: shares memory with k
	// quern: Attention: out: elements have the wrong type: is float16, want float32
}

func ExampleErrInUse() {
	x := kernel.BHSD([]float32{1, 0, 0, 1}, 1, 1, 2, 2)
	out := kernel.BHSD(make([]float32, 4), 1, 1, 2, 2)
	var plan kernel.Plan
	err := plan.Reset(kernel.ShapeOf(x, x, x), kernel.Options{
		Workers: 1,
		ScoreFunc: func(_, _, query, _ int, _ []float32) { // while the plan runs
			err := plan.Run(out, x, x, x)
			fmt.Println(query, errors.Is(err, kernel.ErrInUse))
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(plan.Run(out, x, x, x))
	// Output:
	// 0 true
	// 1 true
	// <nil>
}

// Keys and values in half the memory: queries and the output stay float32.
func ExampleTensor_Format() {
	half := make([]kernel.BF16, 2)
	kernel.Narrow(half, []float32{1, 3})
	q, kv := kernel.BHSD([]float32{0}, 1, 1, 1, 1), kernel.BHSD(half, 1, 1, 2, 1)
	out := make([]float32, 1)
	err := kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), q, kv, kv, kernel.Options{})
	fmt.Println(q.Format(), kv.Format(), out, err)
	// Output: float32 bfloat16 [2] <nil>
}
