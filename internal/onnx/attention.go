package onnx

import "fmt"

// Attention is an Attention case with the standard's conventions resolved: heads are split, the past
// stands before the new keys, and every default is filled in but Scale.
type Attention struct {
	Batch, Hq, Hkv int
	L, N           int // queries; keys, the past included
	D, Dv          int
	Q, K, V        []float32 // [Batch, Hq, L, D], [Batch, Hkv, N, D], [Batch, Hkv, N, Dv]

	Scale, Softcap float64 // 0: 1/√D, none
	Causal         bool
	Left, Right    int                          // window; -1 unbounded
	Offset         []int                        // by batch: the position of query 0 among the keys, for Causal and the window
	Keys           []int                        // by batch: how many keys there are, the rest is padding
	Mask           func(b, h, i, j int) bool    // nil if the case has no bool mask
	Bias           func(b, h, i, j int) float32 // nil if the case has no float mask

	Y          []float32 // expected: [Batch, Hq, L, Dv]
	Scores     []float32 // expected: [Batch, Hq, L, N], or nil
	ScoresMode int       // 0 scores after scale, 1 after softcap, 2 after mask and bias, 3 probabilities
}

// Attention resolves a case of that operator.
func (c Case) Attention() Attention {
	at := c.Attributes
	q, k, v := split(c.Inputs["Q"], at.QHeads), split(c.Inputs["K"], at.KVHeads), split(c.Inputs["V"], at.KVHeads)
	if past, ok := c.Inputs["past_key"]; ok {
		k, v = join(past, k), join(c.Inputs["past_value"], v)
	}
	a := Attention{
		Batch: q.Shape[0], Hq: q.Shape[1], L: q.Shape[2], D: q.Shape[3],
		Hkv: k.Shape[1], N: k.Shape[2], Dv: v.Shape[3],
		Q: q.Float32, K: k.Float32, V: v.Float32,
		Scale: float64(at.Scale), Softcap: at.Softcap, Causal: at.IsCausal == 1,
		Left: at.LeftWindow, Right: at.RightWindow,
		Y:      split(c.Outputs["Y"], at.QHeads).Float32,
		Scores: c.Outputs["qk_matmul_output"].Float32, ScoresMode: at.ScoresMode,
	}
	past := a.N - split(c.Inputs["K"], at.KVHeads).Shape[2]
	for b := range a.Batch {
		offset, keys := past, a.N
		if nonpad, ok := c.Inputs["nonpad_kv_seqlen"]; ok {
			keys = int(nonpad.Int64[b])
			offset = keys - a.L
		}
		a.Offset, a.Keys = append(a.Offset, offset), append(a.Keys, keys)
	}
	mask := c.Inputs["attn_mask"]
	switch mask.DType {
	case "bool":
		a.Mask = func(b, h, i, j int) bool {
			x, ok := mask.broadcast(b, h, i, j)
			return ok && mask.Bool[x]
		}
	case "float32", "float16":
		a.Bias = func(b, h, i, j int) float32 {
			if x, ok := mask.broadcast(b, h, i, j); ok {
				return mask.Float32[x]
			}
			return negInf
		}
	}
	return a
}

// split makes [B, heads, S, D] of [B, S, heads·D], and leaves a tensor of four dimensions alone.
func split(t Tensor, heads int) Tensor {
	if len(t.Shape) == 4 {
		return t
	}
	B, S, D := t.Shape[0], t.Shape[1], t.Shape[2]/heads
	out := Tensor{DType: t.DType, Shape: []int{B, heads, S, D}}
	for b := range B {
		for h := range heads {
			for s := range S {
				from := ((b*S+s)*heads + h) * D
				out.Float32 = append(out.Float32, t.Float32[from:from+D]...)
			}
		}
	}
	return out
}

// join puts two [B, H, S, D] behind each other along S.
func join(past, next Tensor) Tensor {
	B, H, D := next.Shape[0], next.Shape[1], next.Shape[3]
	m, n := past.Shape[2]*D, next.Shape[2]*D
	out := Tensor{DType: next.DType, Shape: []int{B, H, past.Shape[2] + next.Shape[2], D}}
	for head := range B * H {
		out.Float32 = append(out.Float32, past.Float32[head*m:(head+1)*m]...)
		out.Float32 = append(out.Float32, next.Float32[head*n:(head+1)*n]...)
	}
	return out
}

// broadcast is where a mask, seen as [B, H, L, S], has an element. Leading dimensions may be missing or
// 1; the last is never stretched, but padded: ok is false behind its end.
func (t Tensor) broadcast(b, h, i, j int) (index int, ok bool) {
	position := []int{b, h, i, j}[4-len(t.Shape):]
	last := len(t.Shape) - 1
	for x, size := range t.Shape {
		switch {
		case x == last && position[x] >= size:
			return 0, false
		case size == 1:
			position[x] = 0
		}
		index = index*size + position[x]
	}
	return index, true
}

// Features names what a case asks for beyond plain attention or softmax over float32, so that a test
// can skip and count what an implementation lacks:
//
//	"float16"                          storage of Q, K, V
//	"3d"                               layout [B, S, H·D]
//	"gqa"                              fewer key heads than query heads
//	"value width"                      Dv differs from D
//	"scale", "softcap", "causal", "window"
//	"offset by batch"                  causal or window, with offsets that differ between batches
//	"past"                             past keys and values, and present ones as output
//	"nonpad"                           keys by batch
//	"bool mask", "float mask"
//	"short mask"                       padded with masked
//	"scores 0" ... "scores 3"          the scores of that mode as output
//	"axis"                             softmax over another axis than the last
func Features(c Case) []string {
	var names []string
	add := func(name string, needed bool) {
		if needed {
			names = append(names, name)
		}
	}
	if c.Op != "Attention" {
		axis, last := c.Attributes.Axis, len(c.Inputs["input"].Shape)-1
		add("axis", axis != -1 && axis != last)
		return names
	}
	a := c.Attention()
	_, past := c.Inputs["past_key"]
	_, nonpad := c.Inputs["nonpad_kv_seqlen"]
	window := a.Left != -1 || a.Right != -1
	differ := false
	for _, offset := range a.Offset {
		differ = differ || offset != a.Offset[0]
	}
	add("float16", c.Inputs["Q"].DType == "float16")
	add("3d", len(c.Inputs["Q"].Shape) == 3)
	add("gqa", a.Hkv < a.Hq)
	add("value width", a.Dv != a.D)
	add("scale", a.Scale != 0)
	add("softcap", a.Softcap != 0)
	add("causal", a.Causal)
	add("window", window)
	add("offset by batch", (a.Causal || window) && differ)
	add("past", past)
	add("nonpad", nonpad)
	add("bool mask", a.Mask != nil)
	add("float mask", a.Bias != nil)
	if mask := c.Inputs["attn_mask"].Shape; len(mask) > 0 {
		add("short mask", mask[len(mask)-1] < a.N)
	}
	add(fmt.Sprintf("scores %d", a.ScoresMode), a.Scores != nil)
	return names
}
