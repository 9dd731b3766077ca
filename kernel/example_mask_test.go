package kernel_test

import (
	"fmt"

	"github.com/quern-go/quern/kernel"
)

// show prints, for each of some queries, which of some keys it sees in head 0 of 2: those that get weight.
func show(queries, keys int, mask kernel.Mask) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: queries, Keys: keys, Dim: 1, ValueDim: keys}
	v := make([]float32, keys*keys)
	for j := range keys {
		v[j*keys+j] = 1
	}
	out := make([]float32, 2*queries*keys)
	plan, err := kernel.NewAttention(shape, kernel.Options{Mask: mask})
	if err != nil {
		fmt.Println(err)
		return
	}
	zeros := make([]float32, 2*queries+keys)
	err = plan.Run(kernel.BHSD(out, 1, 2, queries, keys), kernel.BHSD(zeros, 1, 2, queries, 1), kernel.BHSD(zeros, 1, 1, keys, 1), kernel.BHSD(v, 1, 1, keys, keys))
	for i := range queries {
		row := ""
		for _, weight := range out[i*keys : (i+1)*keys] {
			if weight > 0 {
				row += "x"
			} else {
				row += "."
			}
		}
		fmt.Println(row)
	}
	if err != nil {
		fmt.Println(err)
	}
}

// Three new tokens behind two in a cache.
func ExampleCausal_cache() {
	show(3, 5, kernel.Causal{})
	// Output:
	// xxx..
	// xxxx.
	// xxxxx
}

// The last three tokens.
func ExampleWindow() {
	show(5, 5, kernel.Window{Left: 2})
	// Output:
	// x....
	// xx...
	// xxx..
	// .xxx.
	// ..xxx
}

// A prompt of three tokens that see each other, and an answer.
func ExamplePrefix() {
	show(5, 5, kernel.Prefix{Keys: 3})
	// Output:
	// xxx..
	// xxx..
	// xxx..
	// xxxx.
	// xxxxx
}

func ExampleSparseStrided() {
	show(8, 8, kernel.SparseStrided{Stride: 3})
	// Output:
	// x.......
	// xx......
	// xxx.....
	// xxxx....
	// .xxxx...
	// ..xxxx..
	// x..xxxx.
	// .x..xxxx
}

func ExampleSparseFixed() {
	show(8, 8, kernel.SparseFixed{Stride: 3, Summary: 1})
	// Output:
	// x.......
	// xx......
	// xxx.....
	// ..xx....
	// ..xxx...
	// ..xxxx..
	// ..x..xx.
	// ..x..xxx
}

// A tree of guesses behind two tokens of a cache: the second and third guess both follow the first.
func ExampleBitMatrix() {
	show(3, 5, kernel.BitMatrix{
		First: []int{2},
		Bits:  []uint64{0b001, 0b011, 0b101},
		Shape: [3]int{1, 1, 3}, Keys: 3,
	})
	// Output:
	// xxx..
	// xxxx.
	// xxx.x
}

// Tiles of two queries by four keys.
func ExampleBlockMap() {
	show(4, 8, kernel.BlockMap{Queries: 2, Keys: 4, Bits: []uint64{0b10_01}, Shape: [4]int{1, 1, 2, 2}})
	// Output:
	// xxxx....
	// xxxx....
	// ....xxxx
	// ....xxxx
}

// One row for all queries: the third key is padding, and so are those beyond the fourth.
func ExampleBoolMask() {
	show(2, 6, kernel.BoolMask{Data: []bool{true, true, false, true}, Shape: [4]int{1, 1, 1, 4}})
	// Output:
	// xx.x..
	// xx.x..
}

func ExampleMaskFunc() {
	show(4, 4, kernel.MaskFunc{See: func(_, query, key int) bool { return query%2 == key%2 }, AllHeadsAlike: true})
	// Output:
	// x.x.
	// .x.x
	// x.x.
	// .x.x
}

func ExampleAnd() {
	show(4, 4, kernel.And{kernel.Causal{}, kernel.SparseFixed{Stride: 2, Summary: 1, Part: kernel.FirstPart}})
	// Output:
	// x...
	// xx..
	// ..x.
	// ..xx
}

// The first token, and the last two.
func ExampleOr() {
	show(5, 5, kernel.And{kernel.Causal{}, kernel.Or{kernel.Window{Left: 1}, kernel.BitMatrix{First: []int{1}, Shape: [3]int{1, 1, 1}}}})
	// Output:
	// x....
	// xx...
	// xxx..
	// x.xx.
	// x..xx
}

// Head 0 sees the past, head 1 everything.
func ExamplePerHead() {
	show(3, 3, kernel.PerHead{kernel.Causal{}, nil})
	// Output:
	// x..
	// xx.
	// xxx
}

// Keys of two machines: 2048 and 10 of them.
func ExampleState() {
	const keys = 2048 + 10
	x := make([]float32, keys)
	q, all := kernel.BHSD(x, 1, 1, 1, 1), kernel.BHSD(x, 1, 1, keys, 1)
	part := func(from, to int) kernel.Tensor { return kernel.BHSD(x[from:to], 1, 1, to-from, 1) }

	near, err := kernel.AttentionState(q, part(0, 2048), part(0, 2048), kernel.Options{})
	if err != nil {
		panic(err)
	}
	far, err := kernel.AttentionState(q, part(2048, keys), part(2048, keys), kernel.Options{KeyOffset: 2048})
	if err != nil {
		panic(err)
	}
	if err := near.Merge(far); err != nil {
		panic(err)
	}
	out, lse, whole := make([]float32, 1), make([]float32, 1), make([]float32, 1)
	if err := near.Finish(kernel.BHSD(out, 1, 1, 1, 1), lse, nil); err != nil {
		panic(err)
	}
	err = kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), q, all, all, kernel.Options{LSE: whole})
	fmt.Println(lse[0] == whole[0], err)
	// Output: true <nil>
}

// A slope for each head, a cap, and a function that forgets what is far.
func ExampleOptions_scores() {
	q, k := kernel.BHSD([]float32{1}, 1, 1, 1, 1), kernel.BHSD([]float32{1, 2, 3}, 1, 1, 3, 1)
	out, scores := make([]float32, 1), make([]float32, 3)
	err := kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), q, k, k, kernel.Options{
		Softcap: 2,
		ALiBi:   kernel.ALiBi{Slopes: []float32{0.5}},
		ScoreFunc: func(_, _, query, key int, scores []float32) {
			for x := range scores {
				if key+x == 0 {
					scores[x] -= 10
				}
			}
		},
		Scores: kernel.BHSD(scores, 1, 1, 1, 3),
		Stage:  kernel.FinalScores,
	})
	fmt.Printf("%.3f %v\n", scores, err)
	// Output: [-10.076 1.023 1.810] <nil>
}

// Two queries among four keys.
func ExampleAlignment() {
	show(2, 4, kernel.Causal{Align: kernel.BottomRight})
	fmt.Println()
	show(2, 4, kernel.Causal{Align: kernel.TopLeft})
	// Output:
	// xxx.
	// xxxx
	//
	// x...
	// xx..
}

// The two parts of a pattern, for layers or heads that take turns.
func ExampleSparsePart() {
	for _, part := range []kernel.SparsePart{kernel.Merged, kernel.FirstPart, kernel.SecondPart} {
		show(6, 6, kernel.SparseStrided{Stride: 2, Part: part})
		fmt.Println()
	}
	// Output:
	// x.....
	// xx....
	// xxx...
	// .xxx..
	// x.xxx.
	// .x.xxx
	//
	// x.....
	// xx....
	// xxx...
	// .xxx..
	// ..xxx.
	// ...xxx
	//
	// x.....
	// .x....
	// x.x...
	// .x.x..
	// x.x.x.
	// .x.x.x
}

// A query, two keys of which it sees the first, and what becomes of the scores.
func ExampleScoreStage() {
	q, k := kernel.BHSD([]float32{1}, 1, 1, 1, 1), kernel.BHSD([]float32{3, 5}, 1, 1, 2, 1)
	out, scores := make([]float32, 1), make([]float32, 2)
	for _, stage := range []kernel.ScoreStage{kernel.ScaledScores, kernel.CappedScores, kernel.FinalScores, kernel.Probabilities} {
		err := kernel.Attention(kernel.BHSD(out, 1, 1, 1, 1), q, k, k, kernel.Options{
			Mask: kernel.Causal{Align: kernel.TopLeft}, Softcap: 2, Scores: kernel.BHSD(scores, 1, 1, 1, 2), Stage: stage,
		})
		fmt.Printf("%.3f %v\n", scores, err)
	}
	// Output:
	// [3.000 5.000] <nil>
	// [1.810 1.973] <nil>
	// [1.810 -Inf] <nil>
	// [1.000 0.000] <nil>
}

// A prepared plan fills the same state again and again.
func ExamplePlan_RunState() {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 1, Keys: 2, Dim: 1, ValueDim: 1}
	plan, err := kernel.NewAttention(shape, kernel.Options{Workers: 1})
	if err != nil {
		panic(err)
	}
	q, k := kernel.BHSD([]float32{0}, 1, 1, 1, 1), kernel.BHSD([]float32{1, 2}, 1, 1, 2, 1)
	var state kernel.State
	out := make([]float32, 1)
	for _, values := range [][]float32{{1, 3}, {10, 30}} {
		if err := plan.RunState(&state, q, k, kernel.BHSD(values, 1, 1, 2, 1)); err != nil {
			panic(err)
		}
		fmt.Println(state.Finish(kernel.BHSD(out, 1, 1, 1, 1), nil, nil), out)
	}
	// Output:
	// <nil> [2]
	// <nil> [20]
}

// A state goes to another machine, which has the other keys.
func ExampleState_MarshalBinary() {
	q, near, far := []float32{0}, []float32{1, 3}, []float32{8}
	view := func(x []float32) kernel.Tensor { return kernel.BHSD(x, 1, 1, len(x), 1) }
	here, err := kernel.AttentionState(view(q), view(near), view(near), kernel.Options{})
	if err != nil {
		panic(err)
	}
	message, err := here.MarshalBinary()
	if err != nil {
		panic(err)
	}

	var there kernel.State
	if err := there.UnmarshalBinary(message); err != nil {
		panic(err)
	}
	later, err := kernel.AttentionState(view(q), view(far), view(far), kernel.Options{})
	if err != nil {
		panic(err)
	}
	out := make([]float32, 1)
	fmt.Println(there.Merge(later), there.Finish(view(out), nil, nil), out)
	// Output: <nil> <nil> [4]
}
