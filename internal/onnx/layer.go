package onnx

import "fmt"

// Layer is a case of com.microsoft's Attention with its conventions resolved: the weights of queries, keys and
// values stand side by side, and there is no projection behind attention.
type Layer struct {
	Batch, Tokens, Width int
	Heads, Dim, ValueDim int
	X, Weights, Bias     []float32 // [Batch, Tokens, Width], [Width, columns], [columns]
	Keys                 []int     // by batch: how many tokens there are; padding follows, of which queries are computed all the same
	ScoreBias            []float32 // [Batch, Heads, Tokens, Tokens], or nil
	Y                    []float32 // expected: [Batch, Tokens, Heads·ValueDim]
}

// Columns is the width of a row of queries, keys and values side by side.
func (l *Layer) Columns() int { return l.Heads * (2*l.Dim + l.ValueDim) }

// Layer resolves a case of MSAttention or ByHand.
func (c Case) Layer() Layer {
	at, x, weights := c.Attributes, c.Inputs["input"], c.Inputs["weights"]
	qk, v := at.QueryWidth, at.ValueWidth
	if qk == 0 && v == 0 {
		qk, v = weights.Shape[1]/3, weights.Shape[1]/3
	}
	l := Layer{
		Batch: x.Shape[0], Tokens: x.Shape[1], Width: x.Shape[2],
		Heads: at.Heads, Dim: qk / at.Heads, ValueDim: v / at.Heads,
		X: x.Float32, Weights: weights.Float32, Bias: c.Inputs["bias"].Float32,
		ScoreBias: c.Inputs["attention_bias"].Float32, Y: c.Outputs["output"].Float32,
	}
	for _, count := range c.Inputs["mask_index"].Int32 {
		l.Keys = append(l.Keys, int(count))
	}
	if len(l.Keys) != l.Batch { // the operator has other kinds, which none of the cases uses
		panic(fmt.Sprintf("onnx: %s: mask_index has %d entries, want a number of tokens for each of %d", c.Name,
			len(l.Keys), l.Batch))
	}
	return l
}

// Rotary is a case of RotaryEmbedding with its conventions resolved.
type Rotary struct {
	Batch, Tokens, Heads, Dim int
	Interleaved               bool
	Positions                 int       // of the tables
	Cos, Sin                  []float32 // [Positions, Dim/2]
	Offset                    int       // the position of token 0
	X, Y                      []float32 // [Batch, Tokens, Heads, Dim]; Y is expected
}

// Rotary resolves a case of RotaryEmbedding.
func (c Case) Rotary() Rotary {
	at, x, cos, ids := c.Attributes, c.Inputs["X"], c.Inputs["cos_cache"], c.Inputs["position_ids"].Int64
	if len(ids) != 1 { // or a position for each token, which none of the cases has
		panic(fmt.Sprintf("onnx: %s: position_ids has %d entries, want the position of the first token", c.Name,
			len(ids)))
	}
	return Rotary{
		Batch: x.Shape[0], Tokens: x.Shape[1], Heads: at.Heads, Dim: x.Shape[2] / at.Heads,
		Interleaved: at.Interleaved == 1, Positions: cos.Shape[0],
		Cos: cos.Float32, Sin: c.Inputs["sin_cache"].Float32, Offset: int(ids[0]),
		X: x.Float32, Y: c.Outputs["Y"].Float32,
	}
}
