package main

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/quern-go/quern/kernel"
)

type size struct{ layers, width, heads, kvHeads, words, positions int }

// model is a transformer: x += attention(norm(x)), x += mlp(norm(x)) in each layer. Its word vectors serve at
// both ends.
type model struct {
	size
	dim    int // of a head
	words  []float32
	rotary *kernel.Rotary
	layers []layer
}

type layer struct{ qkv, out, up, down *kernel.Weights }

func newModel(s size) (*model, error) {
	m := &model{size: s, dim: s.width / s.heads}
	r := rand.New(rand.NewPCG(1, 2))
	m.words = random(r, s.words*s.width, 1)
	var err error
	if m.rotary, err = kernel.NewRotary(kernel.RotaryOptions{Dim: m.dim / 2 * 2, Positions: s.positions}); err != nil {
		return nil, err
	}
	for range s.layers {
		var l layer
		for _, w := range []struct {
			to         **kernel.Weights
			rows, cols int
		}{
			{&l.qkv, s.width, (s.heads + 2*s.kvHeads) * m.dim},
			{&l.out, s.heads * m.dim, s.width},
			{&l.up, s.width, 4 * s.width},
			{&l.down, 4 * s.width, s.width},
		} {
			data := random(r, w.rows*w.cols, 1/math.Sqrt(float64(w.rows)))
			if *w.to, err = kernel.Pack(kernel.RowMajor(data, w.rows, w.cols)); err != nil {
				return nil, err
			}
		}
		m.layers = append(m.layers, l)
	}
	return m, nil
}

func random(r *rand.Rand, n int, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(deviation * r.NormFloat64())
	}
	return x
}

// embed returns the vectors of tokens.
func (m *model) embed(tokens []uint32) []float32 {
	var x []float32
	for _, t := range tokens {
		x = append(x, m.words[int(t)*m.width:][:m.width]...)
	}
	return x
}

// prefill computes all tokens at once, with the layer of package kernel.
func (m *model) prefill(tokens []uint32) ([]float32, error) {
	x, n := m.embed(tokens), len(tokens)
	y := make([]float32, len(x))
	for _, l := range m.layers {
		attention, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
			Heads: m.heads, KVHeads: m.kvHeads, QKV: l.qkv, Out: l.out, Rotary: m.rotary, Mask: kernel.Causal{},
		})
		if err != nil {
			return nil, err
		}
		in := kernel.BHSD(m.norm(x), 1, 1, n, m.width)
		if err := attention.Forward(kernel.BHSD(y, 1, 1, n, m.width), kernel.MultiHeadInput{X: in}); err != nil {
			return nil, err
		}
		add(x, y)
		if err := m.mlp(l, x); err != nil {
			return nil, err
		}
	}
	return m.norm(x), nil
}

// mlp is x += down(silu(up(norm(x)))), row by row.
func (m *model) mlp(l layer, x []float32) error {
	n := len(x) / m.width
	inner, y := make([]float32, n*l.up.Cols()), make([]float32, len(x))
	err := kernel.MatMul(kernel.RowMajor(inner, n, l.up.Cols()), kernel.RowMajor(m.norm(x), n, m.width), l.up, kernel.MatMulOptions{})
	if err != nil {
		return err
	}
	silu(inner)
	err = kernel.MatMul(kernel.RowMajor(y, n, m.width), kernel.RowMajor(inner, n, l.down.Rows()), l.down, kernel.MatMulOptions{})
	add(x, y)
	return err
}

// norm returns the rows of x with a root mean square of 1.
func (m *model) norm(x []float32) []float32 {
	y := slices.Clone(x)
	for i := 0; i < len(y); i += m.width {
		row := y[i : i+m.width]
		factor := float32(math.Sqrt(float64(m.width))) / kernel.Norm(row)
		for c := range row {
			row[c] *= factor
		}
	}
	return y
}

// silu is x/(1 + e^-x).
func silu(x []float32) {
	e := make([]float32, len(x))
	for i := range x {
		e[i] = -x[i]
	}
	kernel.Exp(e, e)
	for i := range x {
		x[i] /= 1 + e[i]
	}
}

func add(x, y []float32) {
	for i := range x {
		x[i] += y[i]
	}
}

// equal compares bits.
func equal(x, y []float32) bool {
	return slices.EqualFunc(x, y, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}
