package kernel

import (
	"math"
	"math/big"
	"unsafe"

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
	// Positions is how many positions have tables: those from 0 to Positions-1. 0 means that none has. A
	// table takes 4·Dim bytes, or 8·Dim if Interleaved; Positions·Dim is at most 2²⁸.
	//
	// Tables save time and change no bit. For any other position from -2³⁰ to 2³⁰, sines and cosines are
	// computed when it comes, which adds 0.6 µs to a row of 128 channels. With a table, such a row of 8 heads
	// takes 0.04 µs, of 32 heads 0.17 (an AMD EPYC, Zen 5, with AVX-512; go test -bench Rotary ./kernel).
	//
	// With Cos and Sin there are no other positions.
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

// maxPosition bounds positions on both sides. Up to there the roundings of frequency and angle, 2⁻⁵³ of the angle
// each, come to no more than 2⁻²², and portable.SinCos is as good as it says.
const maxPosition = 1 << 30

// Rotary turns pairs of channels by their position (Su et al., "RoFormer", 2021). It never changes: layers and
// goroutines may share it.
type Rotary struct {
	dim, positions int
	interleaved    bool
	given          bool      // the tables are the user's
	frequencies    []float64 // of each pair, if they are not
	// A row for each position: Dim/2 numbers, or if interleaved Dim, two the same in cos and in sin
	// the negative one first.
	cos, sin []float32
}

// NewRotary computes the frequencies, and tables for as many positions as are asked for. If Positions is 0 there are
// none, and all positions are computed when they come. The frequencies are rounded to float64 once, the angle, a
// float64 product, once more, and its sine and cosine, within 1 ULP in float64, to float32: the same bits on every
// machine. Errors are of type [*ArgumentError].
func NewRotary(o RotaryOptions) (*Rotary, error) {
	r, err := newRotary(o)
	return r, in("NewRotary", err)
}

func newRotary(o RotaryOptions) (*Rotary, error) {
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
	r := &Rotary{dim: o.Dim, positions: o.Positions, interleaved: o.Interleaved, given: o.Cos != nil}
	if !r.given {
		r.frequencies = rotaryFrequencies(o.Base, pairs)
	}
	width := r.width()
	r.cos, r.sin = make([]float32, o.Positions*width), make([]float32, o.Positions*width)
	for p := range o.Positions {
		cos, sin := r.cos[p*width:][:width], r.sin[p*width:][:width]
		if !r.given {
			r.compute(cos, sin, p, 0)
			continue
		}
		for i := range pairs {
			r.put(cos, sin, i, o.Cos[p*pairs+i], o.Sin[p*pairs+i])
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

// compute makes the part of a position's row that begins at entry first.
func (r *Rotary) compute(cos, sin []float32, position, first int) {
	from, to := first, first+len(cos)
	if r.interleaved {
		from, to = from/2, to/2
	}
	for i, frequency := range r.frequencies[from:to] {
		s, c := portable.SinCos(float64(float64(position) * frequency))
		r.put(cos, sin, i, float32(c), float32(s))
	}
}

// put enters the cosine and sine of pair i of a row, or of part of one.
func (r *Rotary) put(cos, sin []float32, i int, c, s float32) {
	if !r.interleaved {
		cos[i], sin[i] = c, s
		return
	}
	cos[2*i], cos[2*i+1] = c, c
	sin[2*i], sin[2*i+1] = -s, s
}

// check reports a position that does not exist.
func (r *Rotary) check(name string, position, entry int) error {
	switch {
	case r.given && (position < 0 || position >= r.positions):
		return argument(ErrOption, name,
			"position %d of batch entry %d is not among the %d of Cos and Sin, which begin at 0", position, entry, r.positions)
	case position < -maxPosition || position > maxPosition:
		return argument(ErrOption, name, "position %d of batch entry %d, want %d to %d", position, entry, -maxPosition,
			maxPosition)
	}
	return nil
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

// Positions says which position the rows of a tensor have, the same in all heads. Positions may be negative. The
// zero value counts from 0 in each batch entry.
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

// check reports positions that do not exist for a tensor.
func (p *Positions) check(name string, batch, sequence int, r *Rotary) error {
	switch {
	case batch == 0 || sequence == 0:
		return nil
	case p.IDs != nil:
		if len(p.IDs) != sequence && len(p.IDs) != batch*sequence {
			return argument(ErrShape, name+".IDs", "has %d entries, want %d or %d·%d", len(p.IDs), sequence, batch, sequence)
		}
		for i, id := range p.IDs {
			if err := r.check(name, id, i/sequence); err != nil {
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
		if err := r.check(name, first, b); err != nil {
			return err // before a sum can overflow
		}
		if err := r.check(name, first+sequence-1, b); err != nil {
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
// float32, at least Dim channels wide, and its elements must not overlap. Positions must be from -2³⁰ to
// 2³⁰, or, if Cos and Sin were given, among theirs. Errors are of type [*ArgumentError]; nothing has been written
// then. It does not allocate.
//
// With a and b the channels of a pair, the results are fma(a, cos, -(b·sin)) and fma(b, cos, a·sin):
// the product with sin is rounded, the other one fused with the sum. Positions p and -p have the same cos and
// opposite sin.
func (r *Rotary) Apply(x Tensor, at Positions) error { return in("Rotary.Apply", r.apply(&x, &at)) }

func (r *Rotary) apply(x *Tensor, at *Positions) error {
	if err := notNil(r, "Rotary"); err != nil {
		return err
	}
	if err := x.checkOutput("x", x.Shape); err != nil {
		return err
	}
	if x.Shape[3] < r.dim {
		return argument(ErrShape, "x", "has heads of %d channels, %d are to be turned", x.Shape[3], r.dim)
	}
	if x.empty() {
		return nil
	}
	if err := at.check("at", x.Shape[0], x.Shape[2], r); err != nil {
		return err
	}
	level := isa.Active()
	for b := range x.Shape[0] {
		r.rotate(level, x, at, b, 0, x.Shape[2])
	}
	return nil
}

// rowPart and headPart are how many entries of a position's row, and how many heads, a call of assembly takes at
// most, so that none is long.
const rowPart, headPart = 256, 64

// rotate turns the rows [from, to) of a batch entry.
func (r *Rotary) rotate(level isa.Level, x *Tensor, at *Positions, b, from, to int) {
	width := r.width()
	if width == 0 {
		return
	}
	for s := from; s < to; s++ {
		position := at.at(b, s, x.Shape[2])
		if position < 0 || position >= r.positions {
			r.rotateFar(level, x, b, s, position)
			continue
		}
		row := position * width
		for first := 0; first < width; first += rowPart {
			n := min(rowPart, width-first)
			r.turn(level, x, b, s, first, r.cos[row+first:][:n], r.sin[row+first:][:n])
		}
	}
}

// rotateFar turns a row whose position has no table.
func (r *Rotary) rotateFar(level isa.Level, x *Tensor, b, s, position int) {
	var cos, sin [rowPart]float32
	width := r.width()
	for first := 0; first < width; first += rowPart {
		n := min(rowPart, width-first)
		r.compute(cos[:n], sin[:n], position, first)
		r.turn(level, x, b, s, first, cos[:n], sin[:n])
	}
}

// turn turns what belongs to the entries from first on of a position's row, in all heads.
func (r *Rotary) turn(level isa.Level, x *Tensor, b, s, first int, cos, sin []float32) {
	n := len(cos)
	for h := 0; h < x.Shape[1]; h += headPart {
		heads, row := min(headPart, x.Shape[1]-h), x.row(b, h, s)
		switch {
		case r.interleaved:
			row = (*float32)(unsafe.Add(unsafe.Pointer(row), 4*first))
			asm.RotaryPairs(level, row, x.Stride[1], heads, &cos[0], &sin[0], n)
		case n == r.dim/2:
			asm.RotaryHalves(level, row, x.Stride[1], heads, &cos[0], &sin[0], n)
		default:
			for i := range heads {
				r.turnApart(level, x.row(b, h+i, s), first, cos, sin)
			}
		}
	}
}

// turnApart turns part of the two halves of a head. Assembly wants them side by side, so it gets a copy.
func (r *Rotary) turnApart(level isa.Level, row *float32, first int, cos, sin []float32) {
	var both [2 * rowPart]float32
	n, head := len(cos), unsafe.Slice(row, r.dim)
	a, b := head[first:][:n], head[r.dim/2+first:][:n]
	copy(both[:n], a)
	copy(both[n:], b)
	asm.RotaryHalves(level, &both[0], 2*n, 1, &cos[0], &sin[0], n)
	copy(a, both[:n])
	copy(b, both[n:])
}
