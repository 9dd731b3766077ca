package kernel_test

import (
	"math"
	"testing"

	"github.com/quern-go/quern/internal/onnx"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestThirdParty runs the cases whose numbers stand in the tests of other projects, every one of them.
func TestThirdParty(t *testing.T) {
	cases, ran := onnx.Load(t, "third"), 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Log(c.Source, c.Note)
			switch c.Op {
			case "Attention":
				thirdPartyAttention(t, c)
			case "MSAttention", "ByHand":
				thirdPartyLayer(t, c)
			case "RotaryEmbedding":
				thirdPartyRotary(t, c)
			default:
				require.Fail(t, "nothing runs a case of "+c.Op)
			}
			ran++
		})
	}
	require.Equal(t, len(cases), ran, "all cases of the folder run")
}

// Causal is the standard's in all of these projects: the past, if there is any, stands before the first query, and
// without one query 0 sees key 0. So ExecuTorch's CorrectnessTest_13, of one query and three keys, expects V's first
// row, and tract's causal_with_s_and_p_0, with a past of one key, a mean of two rows and of three. (The rows are
// zeros and a one: 0 and a third.)
func thirdPartyAttention(t *testing.T, c onnx.Case) {
	a := c.Attention()
	p := onnxProblem(a)
	if math.IsInf(a.Scale, 0) { // NaN is expected, which comes out if nothing is checked
		err := kernel.Attention(kernel.BHSD(floats(len(a.Y)), a.Batch, a.Hq, a.L, a.Dv), p.q.tensor(), p.k.tensor(),
			p.v.tensor(), p.opts)
		require.EqualError(t, err,
			"quern: Attention: Options.Scale: option is not valid: is -Inf, want a finite number")
		return
	}
	if c.Inputs["Q"].DType == "float16" {
		requireNear(t, a.Y, inHalves(t, p), c.Tolerance.At)
		return
	}
	requireNear(t, a.Y, p.run(t, 2).out, c.Tolerance.At)
	requireNear(t, a.Y, fromCaches(t, p, a), c.Tolerance.At)
}

// thirdPartyLayer composes a case of matrix product and attention, and gives it to MultiHead, which has no bias of
// scores.
func thirdPartyLayer(t *testing.T, c onnx.Case) {
	l := c.Layer()
	require.Equal(t, c.Op == "MSAttention", l.ScoreBias == nil && l.Dim == l.ValueDim)
	requireNear(t, l.Y, composed(t, &l), c.Tolerance.At)
	if l.ScoreBias == nil {
		requireNear(t, l.Y, byMultiHead(t, &l), c.Tolerance.At)
	}
}

func composed(t *testing.T, l *onnx.Layer) []float32 {
	tokens, columns := l.Batch*l.Tokens, l.Columns()
	qkv := floats(tokens * columns)
	weights := must(kernel.Pack(kernel.RowMajor(l.Weights, l.Width, columns)))
	err := kernel.MatMul(kernel.RowMajor(qkv, tokens, columns), kernel.RowMajor(l.X, tokens, l.Width), weights,
		kernel.MatMulOptions{Bias: l.Bias})
	require.NoError(t, err)
	heads := func(first, dim int) kernel.Tensor { // those that begin at a column
		return kernel.Strided(qkv[first:], [4]int{l.Batch, l.Heads, l.Tokens, dim},
			[3]int{l.Tokens * columns, dim, columns})
	}
	q, k, v := heads(0, l.Dim), heads(l.Heads*l.Dim, l.Dim), heads(2*l.Heads*l.Dim, l.ValueDim)
	opts := kernel.Options{Ragged: kernel.Ragged{KeyCount: l.Keys}}
	if l.ScoreBias != nil {
		opts.Bias = kernel.BHSD(l.ScoreBias, l.Batch, l.Heads, l.Tokens, l.Tokens)
	}
	out := floats(len(l.Y))
	require.NoError(t, kernel.Attention(kernel.BSHD(out, l.Batch, l.Tokens, l.Heads, l.ValueDim), q, k, v, opts))
	return out
}

// byMultiHead takes the identity for W^O, which com.microsoft's Attention leaves to another operator. That computes the
// queries of padding too, so they are all said to be used.
func byMultiHead(t *testing.T, l *onnx.Layer) []float32 {
	all := make([]int, l.Batch)
	for b := range all {
		all[b] = l.Tokens
	}
	width := l.Heads * l.ValueDim
	identity := floats(width * width)
	for i := range width {
		identity[i*width+i] = 1
	}
	layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
		Heads: l.Heads, HeadDim: l.Dim, ValueDim: l.ValueDim,
		QKV: must(kernel.Pack(kernel.RowMajor(l.Weights, l.Width, l.Columns()))), QKVBias: l.Bias,
		Out: must(kernel.Pack(kernel.RowMajor(identity, width, width))),
	})
	require.NoError(t, err)
	y := floats(len(l.Y))
	require.NoError(t, layer.Forward(kernel.BHSD(y, l.Batch, 1, l.Tokens, width), kernel.MultiHeadInput{
		X: kernel.BHSD(l.X, l.Batch, 1, l.Tokens, l.Width), Ragged: kernel.Ragged{KeyCount: l.Keys, QueryCount: all},
	}))
	return y
}

func thirdPartyRotary(t *testing.T, c onnx.Case) {
	r := c.Rotary()
	rotary, err := kernel.NewRotary(kernel.RotaryOptions{
		Dim: r.Dim, Positions: r.Positions, Interleaved: r.Interleaved, Cos: r.Cos, Sin: r.Sin,
	})
	require.NoError(t, err)
	require.NoError(t, rotary.Apply(kernel.BSHD(r.X, r.Batch, r.Tokens, r.Heads, r.Dim),
		kernel.Positions{Offset: r.Offset}))
	requireNear(t, r.Y, r.X, c.Tolerance.At)
}
