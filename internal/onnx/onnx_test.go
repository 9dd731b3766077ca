package onnx

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The numbers are 1.5, -2 as float32; 1, the smallest subnormal and -Inf as float16.
const example = `{
	"name": "example", "op": "Attention", "opset": 24,
	"source": {"repo": "a/b", "test": "T"}, "tolerance": {"atol": 0.5, "rtol": 0.25}, "note": "n",
	"attributes": {"is_causal": 1, "softcap": 2.5, "scale": "-inf"},
	"inputs": {
		"a": {"dtype": "float32", "shape": [1, 2], "data": "AADAPwAAAMA="},
		"b": {"dtype": "float16", "shape": [3], "data": "ADwBAAD8"},
		"c": {"dtype": "bool", "shape": [2], "data": "AAE="},
		"d": {"dtype": "int64", "shape": [1], "data": "BQAAAAAAAAA="},
		"e": {"dtype": "int32", "shape": [2], "data": "BwAAAP////8="}}}`

func TestDecoding(t *testing.T) {
	var c Case
	require.NoError(t, json.Unmarshal([]byte(example), &c))
	require.Equal(t, "example", c.Name)
	require.Equal(t, Attributes{Axis: -1, IsCausal: 1, Softcap: 2.5, Scale: Number(math.Inf(-1)), LeftWindow: -1,
		RightWindow: -1}, c.Attributes)
	require.Equal(t, Source{Repo: "a/b", Test: "T"}, c.Source)
	require.Equal(t, "n", c.Note)
	require.Equal(t, 1.5, c.Tolerance.At(-4))
	require.Equal(t, Tensor{DType: "float32", Shape: []int{1, 2}, Float32: []float32{1.5, -2}}, c.Inputs["a"])
	require.Equal(t, Tensor{DType: "float16", Shape: []int{3}, Float16: []uint16{0x3c00, 1, 0xfc00},
		Float32: []float32{1, 0x1p-24, float32(math.Inf(-1))}}, c.Inputs["b"])
	require.Equal(t, []bool{false, true}, c.Inputs["c"].Bool)
	require.Equal(t, []int64{5}, c.Inputs["d"].Int64)
	require.Equal(t, []int32{7, -1}, c.Inputs["e"].Int32)
}

func TestDecodingErrors(t *testing.T) {
	for text, message := range map[string]string{
		`{"attributes": {"new": 1}}`:                                                "unknown field",
		`{"attributes": {"scale": "inf"}}`:                                          "cannot unmarshal string",
		`{"inputs": {"a": {"dtype": "int4", "shape": [0], "data": ""}}}`:            "unknown dtype",
		`{"inputs": {"a": {"dtype": "float32", "shape": [2], "data": "AADAPw=="}}}`: "needs 8 bytes, not 4",
	} {
		require.ErrorContains(t, json.Unmarshal([]byte(text), new(Case)), message)
	}
}

func TestCheck(t *testing.T) {
	c := Case{Op: "MSAttention", Inputs: map[string]Tensor{"input": {}, "mask_index": {}}}
	require.NoError(t, c.check())
	c.Inputs["past"] = Tensor{}
	require.EqualError(t, c.check(), `onnx: unknown input "past" of MSAttention`)
	c.Op = "MoE"
	require.EqualError(t, c.check(), `onnx: unknown operator "MoE"`)
}

func TestWiden(t *testing.T) {
	for bits, want := range map[uint16]float32{
		0x0000: 0, 0x0400: 0x1p-14, 0x03ff: 0x1p-14 - 0x1p-24, 0x3555: 0.333251953125, 0xc000: -2, 0x7bff: 65504,
	} {
		require.Equal(t, want, widen(bits), "%#04x", bits)
	}
	require.True(t, math.IsNaN(float64(widen(0x7e00))))
	require.True(t, math.Signbit(float64(widen(0x8000))))
}

func TestBroadcast(t *testing.T) {
	mask := Tensor{Shape: []int{3, 1, 2}} // [heads, 1, keys]
	index, ok := mask.broadcast(7, 2, 5, 1)
	require.True(t, ok)
	require.Equal(t, 5, index)
	_, ok = mask.broadcast(7, 2, 5, 2)
	require.False(t, ok, "behind the last key is masked")
	_, ok = Tensor{Shape: []int{1}}.broadcast(0, 0, 0, 1)
	require.False(t, ok, "the last dimension is padded even if it is 1")
}

func TestSplitAndJoin(t *testing.T) {
	// [B=1, S=2, heads·D = 2·1]
	three := Tensor{Shape: []int{1, 2, 2}, Float32: []float32{1, 2, 3, 4}}
	next := split(three, 2)
	require.Equal(t, Tensor{Shape: []int{1, 2, 2, 1}, Float32: []float32{1, 3, 2, 4}}, next)
	past := Tensor{Shape: []int{1, 2, 1, 1}, Float32: []float32{8, 9}}
	require.Equal(t, Tensor{Shape: []int{1, 2, 3, 1}, Float32: []float32{8, 1, 3, 9, 2, 4}}, join(past, next))
}

func TestLayer(t *testing.T) {
	c := Case{
		Attributes: Attributes{Heads: 2},
		Inputs: map[string]Tensor{
			"input": {Shape: []int{1, 5, 4}}, "weights": {Shape: []int{4, 12}}, "mask_index": {Int32: []int32{3}},
		},
	}
	require.Equal(t, Layer{Batch: 1, Tokens: 5, Width: 4, Heads: 2, Dim: 2, ValueDim: 2, Keys: []int{3}}, c.Layer())
	c.Attributes.QueryWidth, c.Attributes.ValueWidth = 2, 8
	l := c.Layer()
	require.Equal(t, []int{1, 4, 12}, []int{l.Dim, l.ValueDim, l.Columns()})
	c.Inputs["mask_index"] = Tensor{Int32: []int32{3, 0}} // where each sequence ends and starts
	require.Panics(t, func() { c.Layer() })
}

func TestRotary(t *testing.T) {
	c := Case{
		Attributes: Attributes{Heads: 2, Interleaved: 1},
		Inputs: map[string]Tensor{
			"X": {Shape: []int{1, 5, 12}}, "cos_cache": {Shape: []int{9, 3}}, "position_ids": {Int64: []int64{4}},
		},
	}
	require.Equal(t, Rotary{Batch: 1, Tokens: 5, Heads: 2, Dim: 6, Interleaved: true, Positions: 9, Offset: 4},
		c.Rotary())
	c.Inputs["position_ids"] = Tensor{Int64: []int64{0, 1, 2, 3, 4}}
	require.Panics(t, func() { c.Rotary() })
}

func TestLoad(t *testing.T) {
	count := map[string]int{}
	for _, c := range Load(t, "attention") {
		for _, f := range Features(c) {
			count[f]++
		}
		a := c.Attention()
		require.Len(t, a.Q, a.Batch*a.Hq*a.L*a.D, c.Name)
		require.Len(t, a.K, a.Batch*a.Hkv*a.N*a.D, c.Name)
		require.Len(t, a.V, a.Batch*a.Hkv*a.N*a.Dv, c.Name)
		require.Len(t, a.Y, a.Batch*a.Hq*a.L*a.Dv, c.Name)
		if present, ok := c.Outputs["present_key"]; ok {
			require.Equal(t, present.Float32, a.K, c.Name)
			require.Equal(t, c.Outputs["present_value"].Float32, a.V, c.Name)
		}
	}
	require.NotEmpty(t, count)
	t.Log(count)
	require.NotEmpty(t, Load(t, "softmax"))
	require.NotEmpty(t, Load(t, "third"))
}
