// Package onnx reads test vectors: those of the ONNX project for the operators Attention, Softmax and
// LogSoftmax, and cases in the same format whose numbers stand in the tests of other projects. They are
// third-party data and lie outside the repository, in the folder that the environment variable
// QUERN_VECTORS names.
package onnx

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Variable is the environment variable that names the folder of vectors.
const Variable = "QUERN_VECTORS"

// Case is one test vector.
type Case struct {
	Name       string
	Op         string // see inputsOf
	Opset      int    // of the standard; 0 elsewhere
	Source     Source
	Note       string // what is special about it
	Tolerance  Tolerance
	Attributes Attributes
	Inputs     map[string]Tensor // by the standard's names: Q, K, V, attn_mask, ...; input
	Outputs    map[string]Tensor // Y, present_key, present_value, qk_matmul_output; output
}

// Source is where the numbers stand.
type Source struct{ Repo, Commit, Path, Test string }

// Tolerance is how far a result may be from what is expected.
type Tolerance struct{ ATol, RTol float64 }

// At is the tolerance for an expected number.
func (t Tolerance) At(want float64) float64 { return t.ATol + t.RTol*math.Abs(want) }

// inputsOf has the operators and the inputs that each may have. MSAttention is com.microsoft's Attention; a
// case of ByHand is one of its, too, but has more than a layer can be asked for.
var inputsOf = map[string][]string{
	"Attention":       {"Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"},
	"Softmax":         {"input"},
	"LogSoftmax":      {"input"},
	"MSAttention":     {"input", "weights", "bias", "mask_index"},
	"ByHand":          {"input", "weights", "bias", "mask_index", "attention_bias"},
	"RotaryEmbedding": {"X", "cos_cache", "sin_cache", "position_ids"},
}

// check refuses operators and inputs that it does not know, lest one be ignored.
func (c *Case) check() error {
	known, ok := inputsOf[c.Op]
	if !ok {
		return fmt.Errorf("onnx: unknown operator %q", c.Op)
	}
	for name := range c.Inputs {
		if !slices.Contains(known, name) {
			return fmt.Errorf("onnx: unknown input %q of %s", name, c.Op)
		}
	}
	return nil
}

// Attributes are those of all operators. Where a case is silent they have the standard's defaults.
type Attributes struct {
	Axis             int     `json:"axis"`                  // of Softmax and LogSoftmax; default -1
	IsCausal         int     `json:"is_causal"`             // 1: causal
	QHeads           int     `json:"q_num_heads"`           // of 3D inputs; default 0
	KVHeads          int     `json:"kv_num_heads"`          // of 3D inputs; default 0
	Scale            Number  `json:"scale"`                 // default 0: 1/√D
	Softcap          float64 `json:"softcap"`               // default 0: none
	LeftWindow       int     `json:"left_window_size"`      // default -1: unbounded
	RightWindow      int     `json:"right_window_size"`     // default -1: unbounded
	ScoresMode       int     `json:"qk_matmul_output_mode"` // default 0: scores after scale
	SoftmaxPrecision int     `json:"softmax_precision"`     // an ONNX type number; default 0
	Heads            int     `json:"num_heads"`             // of MSAttention, ByHand and RotaryEmbedding
	QueryWidth       int     `json:"qk"`                    // columns of W^Q and of W^K; default 0: a third of all
	ValueWidth       int     `json:"v"`                     // columns of W^V; default 0: a third of all
	Interleaved      int     `json:"interleaved"`           // of RotaryEmbedding, 1: pairs of neighbours
}

// Number is a float64. JSON has no infinities: one is written as the string "-inf".
type Number float64

// UnmarshalJSON takes a number or "-inf".
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == `"-inf"` {
		*n = Number(math.Inf(-1))
		return nil
	}
	return json.Unmarshal(text, (*float64)(n))
}

// UnmarshalJSON refuses attributes that it does not know, lest one be ignored.
func (a *Attributes) UnmarshalJSON(text []byte) error {
	type plain Attributes
	p := plain{Axis: -1, LeftWindow: -1, RightWindow: -1}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	*a = Attributes(p)
	return err
}

// Tensor is an array in row-major order. Which slices hold its elements depends on DType.
type Tensor struct {
	DType   string // float32, float16, bool, int32 or int64
	Shape   []int
	Float32 []float32 // of float32, and of float16, converted exactly
	Float16 []uint16  // the bits of float16
	Bool    []bool
	Int32   []int32
	Int64   []int64
}

// UnmarshalJSON decodes the little-endian bytes and checks their number against the shape.
func (t *Tensor) UnmarshalJSON(text []byte) error {
	var raw struct {
		DType string
		Shape []int
		Data  []byte
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*t = Tensor{DType: raw.DType, Shape: raw.Shape}
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	var data any
	switch t.DType {
	case "float32":
		t.Float32 = make([]float32, n)
		data = t.Float32
	case "float16":
		t.Float16 = make([]uint16, n)
		data = t.Float16
	case "bool":
		t.Bool = make([]bool, n)
		data = t.Bool
	case "int32":
		t.Int32 = make([]int32, n)
		data = t.Int32
	case "int64":
		t.Int64 = make([]int64, n)
		data = t.Int64
	default:
		return fmt.Errorf("onnx: unknown dtype %q", t.DType)
	}
	if size := binary.Size(data); size != len(raw.Data) {
		return fmt.Errorf("onnx: %s %v needs %d bytes, not %d", t.DType, t.Shape, size, len(raw.Data))
	}
	if _, err := binary.Decode(raw.Data, binary.LittleEndian, data); err != nil {
		return err
	}
	for _, bits := range t.Float16 {
		t.Float32 = append(t.Float32, widen(bits))
	}
	return nil
}

var negInf = float32(math.Inf(-1))

// widen returns the value of a float16.
func widen(bits uint16) float32 {
	fraction, exponent := float64(bits&0x3ff), int(bits>>10&0x1f)
	var x float64
	switch {
	case exponent == 0:
		x = math.Ldexp(fraction, -24)
	case exponent < 31:
		x = math.Ldexp(1024+fraction, exponent-25)
	case fraction == 0:
		x = math.Inf(1)
	default:
		x = math.NaN()
	}
	if bits>>15 == 1 {
		x = -x
	}
	return float32(x)
}

// Load returns the cases of a suite, "attention", "softmax" or "third", in the order of their names. It skips
// the test if QUERN_VECTORS is not set, and fails it if the folder holds no cases, or a file that cannot be read
// as one.
func Load(t testing.TB, suite string) []Case {
	t.Helper()
	folder := os.Getenv(Variable)
	if folder == "" {
		t.Skipf("%s is not set: it names the folder of test vectors", Variable)
	}
	files, err := os.ReadDir(filepath.Join(folder, suite))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s=%s holds no cases in %s", Variable, folder, suite)
	}
	cases := make([]Case, len(files))
	for i, file := range files {
		path := filepath.Join(folder, suite, file.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &cases[i]); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := cases[i].check(); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return cases
}

// EachSoftmax runs a subtest for each case of Softmax and LogSoftmax. Check gets every row along the case's
// axis and what is to come out, in slices of its own.
func EachSoftmax(t *testing.T, check func(t *testing.T, op string, x, want []float32)) {
	for _, c := range Load(t, "softmax") {
		t.Run(c.Name, func(t *testing.T) {
			in, out := c.Inputs["input"], c.Outputs["output"]
			axis := (c.Attributes.Axis + len(in.Shape)) % len(in.Shape)
			stride := 1 // between neighbours along the axis
			for _, size := range in.Shape[axis+1:] {
				stride *= size
			}
			length := in.Shape[axis] * stride
			for start := range in.Float32 {
				if start%length >= stride {
					continue // not the first of its row
				}
				var x, want []float32
				for i := start; i < start/length*length+length; i += stride {
					x, want = append(x, in.Float32[i]), append(want, out.Float32[i])
				}
				check(t, c.Op, x, want)
			}
		})
	}
}
