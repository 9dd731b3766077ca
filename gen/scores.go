package main

import (
	"math"

	"github.com/quern-go/quern/gen/machine"
	"github.com/quern-go/quern/internal/portable"
)

// Changes of scores, in place: rows of S and whole vectors, stride apart.

// capTile is softcap, s = cap·tanh(s·inverse).
func capTile(m *machine.Machine) {
	var (
		s       = m.Arg("s")
		stride  = m.Arg("stride")
		rows    = m.Arg("rows")
		inverse = m.ArgSplat("inverse")
		top     = m.ArgSplat("cap")
		tanh    = newTanh(m)
	)
	m.Floats(stride)
	m.While(rows, 1, "rows", func() {
		cols, p := m.Arg("cols"), m.Word("s_col")
		m.Set(p, s)
		for _, wide := range widths(m, m.Interleave/2) {
			m.While(cols, 16*wide, "cols", func() {
				x := m.Wide(wide, "S")
				m.Load(x, p.At(0))
				m.Mul(x, x, inverse)
				y := tanh.apply(x)
				m.Mul(y, y, top)
				m.Store(p.At(0), y)
				m.AddImm(p, 64*wide)
			})
		}
		m.AddWord(s, stride)
	})
}

// tanhText is the hyperbolic tangent.
type tanhText struct {
	powEText
	small                       []machine.Value
	one, most, below, magnitude machine.Value
}

func newTanh(m *machine.Machine) tanhText {
	return tanhText{
		powEText: powEText{newPow(m), m.Const("-2 log2e_hi", portable.TanhHi), m.Const("-2 log2e_lo", portable.TanhLo)},
		small:    coefficients(m, "tanh_", portable.TanhCoefficients[:]),
		one:      m.Const("1", 1), most: m.Const("most", (portable.MinExponent-1)/portable.TanhHi),
		below:     m.Const("below switch", math.Nextafter32(portable.TanhSwitch, 0)),
		magnitude: m.ConstBits("magnitude", 1<<31-1),
	}
}

// apply returns tanh x and consumes x.
func (e tanhText) apply(x machine.Value) machine.Value {
	m := e.m
	a := m.Like(x, "|x|")
	m.And(a, x, e.magnitude)
	m.Xor(x, x, a) // the sign
	m.AtMost(a, a, e.most)

	// |x| + |x|·(s·q(s)) with s = x²
	y, s, large := m.Like(x, "y"), m.Like(x, "s"), m.MaskFor(x, "large")
	m.Mul(s, a, a)
	horner(m, y, s, e.small)
	m.Mul(s, s, y)
	m.Copy(y, a)
	m.FMA(y, a, s)

	// 1 - 2u/(1+u) with u = e^(-2|x|), if any lane needs it: scores are seldom near their cap
	m.Less(large, e.below, a)
	m.IfAny(large, func() {
		u, v := e.powEText.apply(a), m.Like(x, "1+u")
		m.Add(v, u, e.one)
		m.Add(u, u, u)
		m.Div(u, u, v)
		m.Copy(v, e.one)
		m.Sub(v, v, u)
		m.Choose(y, large, v, y)
	})
	m.Or(y, y, x)
	return y
}

// biasTile adds a bias and ALiBi, clamps, and changes units: s = max(fma(slope, position, fma(bias, factor,
// s)), lowest)·unit, and -Inf where the bias is -Inf. The position of a column is the integer at its
// place in numbers plus that of its row in first, and with a sign of -0 what is farther in either direction is the more
// negative.
func biasTile(m *machine.Machine) {
	var (
		s          = m.Arg("s")
		stride     = m.Arg("stride")
		bias       = m.Arg("bias")
		biasStride = m.Arg("biasStride")
		first      = m.Arg("first")
		rows       = m.Arg("rows")
		factor     = m.ArgSplat("factor")
		slope      = m.ArgSplat("slope")
		sign       = m.ArgSplat("sign")
		least      = m.ArgSplat("lowest")
		unit       = m.ArgSplat("unit")
		masked     = m.Const("-Inf", negInf)
	)
	m.Floats(stride)
	m.Floats(biasStride)
	m.While(rows, 1, "rows", func() {
		cols, p, from, number := m.Arg("cols"), m.Word("s_col"), m.Word("bias_col"), m.Arg("numbers")
		m.Set(p, s)
		m.Set(from, bias)
		start := m.Native("first")
		m.Splat(start, first.At(0))
		step := func(load func(b machine.Value)) {
			b, t, x := m.Named("bias"), m.Named("S"), m.Named("position")
			hidden, low := m.MaskFor(t, "hidden"), m.MaskFor(t, "low")
			load(b)
			m.Load(t, p.At(0))
			m.FMA(t, b, factor)
			m.Load(x, number.At(0))
			m.IntAdd(x, x, start)
			m.ToFloat(x, x)
			m.Or(x, x, sign)
			m.FMA(t, x, slope)
			m.Less(low, t, least)
			m.Choose(t, low, least, t)
			m.Mul(t, t, unit)
			m.Equal(hidden, b, masked)
			m.Choose(t, hidden, masked, t)
			m.Store(p.At(0), t)
		}
		m.While(cols, 16, "cols", func() {
			step(func(b machine.Value) { m.Load(b, from.At(0)) })
			m.AddImm(p, 64)
			m.AddImm(from, 64)
			m.AddImm(number, 64)
		})
		m.If(cols, 1, func() {
			tail := m.Tail(cols)
			step(func(b machine.Value) { m.LoadTail(b, from.At(0), tail) })
		})
		m.AddWord(s, stride)
		m.AddWord(bias, biasStride)
		m.AddImm(first, 4)
	})
}
