package kernel

import (
	"math"
	"math/big"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// RotaryOptions describes rotary position embeddings: pairs of channels (a, b) are turned by an
// angle that grows with the position, to a·cos - b·sin and b·cos + a·sin. Pair i of Dim/2 turns by
// position·Base^(-2i/Dim).
type RotaryOptions struct {
	// Dim is the number of channels that are turned, the first ones of each head: an even number.
	// The others stay as they are.
	Dim int
	// Positions is the number of positions that tables are made for: 0 to Positions-1.
	Positions int
	// Base of the frequencies; 0 means 10000.
	Base float64
	// Interleaved pairs channel 2i with 2i+1, as GPT-J and the paper do. Otherwise channel i goes with
	// i + Dim/2, as GPT-NeoX and Llama in Hugging Face's layout do.
	Interleaved bool
	// Cos and Sin, if not nil, are used instead of Base: [Positions, Dim/2] contiguous. They are
	// copied.
	Cos, Sin []float32
}

// Rotary holds the tables of rotary position embeddings (Su et al., "RoFormer", 2021). It never
// changes: layers and goroutines may share it.
type Rotary struct {
	dim, positions int
	interleaved    bool
	// A row for each position: Dim/2 numbers, or if interleaved Dim, two the same in cos and in sin
	// the negative one first.
	cos, sin []float32
}

// NewRotary makes tables. The frequencies are rounded to float64 once, the angle, a float64 product,
// once more, and its sine and cosine, within 1 ULP in float64, to float32: the same bits on every
// machine. Errors are of type [*ArgumentError].
func NewRotary(o RotaryOptions) (*Rotary, error) {
	switch {
	case o.Dim < 0 || o.Dim%2 != 0 || o.Dim > maxSize:
		return nil, argument(ErrOption, "RotaryOptions.Dim", "is %d, want an even number from 0 to %d", o.Dim, maxSize)
	case o.Positions < 0 || o.Positions > maxSize/max(o.Dim, 1):
		return nil, argument(ErrOption, "RotaryOptions.Positions", "is %d, want 0 to %d for %d channels", o.Positions, maxSize/max(o.Dim, 1), o.Dim)
	case o.Base < 0 || math.IsNaN(o.Base) || math.IsInf(o.Base, 0) || o.Base > 0 && o.Base < 1:
		return nil, argument(ErrOption, "RotaryOptions.Base", "is %v, want a finite number from 1 on", o.Base)
	case (o.Cos == nil) != (o.Sin == nil):
		return nil, argument(ErrOption, "RotaryOptions.Cos", "and Sin must both be given or both be nil")
	}
	pairs := o.Dim / 2
	if o.Cos != nil && (len(o.Cos) != o.Positions*pairs || len(o.Sin) != len(o.Cos)) {
		return nil, argument(ErrShape, "RotaryOptions.Cos", "has %d elements and Sin %d, want %d·%d", len(o.Cos), len(o.Sin), o.Positions, pairs)
	}
	if o.Base == 0 {
		o.Base = 10000
	}
	r := &Rotary{dim: o.Dim, positions: o.Positions, interleaved: o.Interleaved}
	n := o.Positions * r.width()
	r.cos, r.sin = make([]float32, 0, n), make([]float32, 0, n)
	var frequencies []float64
	if o.Cos == nil {
		frequencies = rotaryFrequencies(o.Base, pairs)
	}
	for p := range o.Positions {
		for i := range pairs {
			var cos, sin float32
			if o.Cos != nil {
				cos, sin = o.Cos[p*pairs+i], o.Sin[p*pairs+i]
			} else {
				s, c := portable.SinCos(float64(float64(p) * frequencies[i]))
				cos, sin = float32(c), float32(s)
			}
			r.cos, r.sin = append(r.cos, cos), append(r.sin, sin)
			if o.Interleaved {
				r.sin[len(r.sin)-1] = -sin
				r.cos, r.sin = append(r.cos, cos), append(r.sin, sin)
			}
		}
	}
	return r, nil
}

// width is the length of a table's row.
func (r *Rotary) width() int {
	if r.interleaved {
		return r.dim
	}
	return r.dim / 2
}

// rotaryFrequencies returns base^(-i/pairs) for every pair, correctly rounded but for cases closer
// than 2⁻⁹⁰ to the middle of two numbers. math/big computes in integers, so it is the same everywhere.
func rotaryFrequencies(base float64, pairs int) []float64 {
	if pairs == 0 {
		return nil
	}
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(192).SetFloat64(x) }
	one, b := number(1), number(base)
	// The root x of base·x^pairs = 1, by bisection between 0 and 1.
	root, step := number(0), number(0.5)
	for range 170 {
		x := number(0).Add(root, step)
		power, square := number(0).Set(b), number(0).Set(x)
		for n := pairs; n > 0; n >>= 1 {
			if n&1 == 1 {
				power.Mul(power, square)
			}
			square.Mul(square, square)
		}
		if power.Cmp(one) <= 0 {
			root = x
		}
		step.Quo(step, number(2))
	}
	frequencies := make([]float64, pairs)
	x := number(1)
	for i := range frequencies {
		frequencies[i], _ = x.Float64()
		x.Mul(x, root)
	}
	return frequencies
}

// Positions says which position the rows of a tensor have, the same in all heads. The zero value counts from
// 0 in each batch entry.
type Positions struct {
	// Offset is the position of the first row.
	Offset int
	// Offsets, if not nil, replaces Offset by one for each batch entry.
	Offsets []int
	// IDs, if not nil, replaces both by a position for each row: [batch, sequence], or [sequence] for
	// all batch entries alike.
	IDs []int
}

// given reports that p says anything.
func (p *Positions) given() bool { return p.IDs != nil || p.Offsets != nil || p.Offset != 0 }

// check reports positions that do not exist for a tensor, of which limit there are.
func (p *Positions) check(name string, batch, sequence, limit int) error {
	in := func(position, entry int) error {
		if position < 0 || position >= limit {
			return argument(ErrOption, name, "position %d of batch entry %d: there are tables for 0 to %d", position, entry, limit-1)
		}
		return nil
	}
	switch {
	case batch == 0 || sequence == 0:
		return nil
	case p.IDs != nil:
		if len(p.IDs) != sequence && len(p.IDs) != batch*sequence {
			return argument(ErrShape, name+".IDs", "has %d entries, want %d or %d·%d", len(p.IDs), sequence, batch, sequence)
		}
		for i, id := range p.IDs {
			if err := in(id, i/sequence); err != nil {
				return err
			}
		}
		return nil
	case p.Offsets != nil:
		if len(p.Offsets) != batch {
			return argument(ErrShape, name+".Offsets", "has %d entries, want %d", len(p.Offsets), batch)
		}
	}
	for b := range batch {
		first := p.at(b, 0, sequence)
		if err := in(first, b); err != nil {
			return err
		}
		if err := in(first+sequence-1, b); err != nil {
			return err
		}
	}
	return nil
}

// at is the position of row s of batch entry b.
func (p *Positions) at(b, s, sequence int) int {
	switch {
	case p.IDs != nil:
		return p.IDs[(b*sequence+s)%len(p.IDs)]
	case p.Offsets != nil:
		return p.Offsets[b] + s
	}
	return p.Offset + s
}

// Apply turns every head of x in place: queries, or keys before attention or a cache sees them. x is of
// float32, at least Dim channels wide, and its elements must not overlap. Positions must be among those that
// there are tables for. Errors are of type [*ArgumentError]; nothing has been written then. It does not
// allocate.
//
// With a and b the channels of a pair, the results are fma(a, cos, -(b·sin)) and fma(b, cos, a·sin):
// the product with sin is rounded, the other one fused with the sum.
func (r *Rotary) Apply(x Tensor, at Positions) error {
	if err := x.checkOutput("x", x.Shape); err != nil {
		return err
	}
	if x.Shape[3] < r.dim {
		return argument(ErrShape, "x", "has heads of %d channels, %d are to be turned", x.Shape[3], r.dim)
	}
	if x.empty() {
		return nil
	}
	if err := at.check("at", x.Shape[0], x.Shape[2], r.positions); err != nil {
		return err
	}
	level := isa.Active()
	for b := range x.Shape[0] {
		r.rotate(level, &x, &at, b, 0, x.Shape[2])
	}
	return nil
}

// rotate turns the rows [from, to) of a batch entry.
func (r *Rotary) rotate(level isa.Level, x *Tensor, at *Positions, b, from, to int) {
	const most = 1 << 14 // elements of one call of assembly
	width := r.width()
	if width == 0 {
		return
	}
	piece := max(most/width, 1)
	for s := from; s < to; s++ {
		row := at.at(b, s, x.Shape[2]) * width
		for h := 0; h < x.Shape[1]; h += piece {
			heads := min(piece, x.Shape[1]-h)
			if r.interleaved {
				asm.RotaryPairs(level, x.row(b, h, s), x.Stride[1], heads, &r.cos[row], &r.sin[row], width)
			} else {
				asm.RotaryHalves(level, x.row(b, h, s), x.Stride[1], heads, &r.cos[row], &r.sin[row], width)
			}
		}
	}
}
