package main

import (
	"fmt"
	"math"

	"github.com/quern-go/quern/gen/machine"
	"github.com/quern-go/quern/internal/portable"
)

// The elementary functions of kernel/ARITHMETIC.md, step for step as in package portable, whose
// constants they share. Each is made with its constants before the first loop of a kernel, and then
// applied to any number of values.

var (
	negInf = float32(math.Inf(-1))
	posInf = float32(math.Inf(1))
)

// coefficients names the constants of a polynomial, highest first.
func coefficients(m *machine.Machine, name string, c []float32) []machine.Value {
	poly := make([]machine.Value, len(c))
	for i, x := range c {
		poly[len(c)-1-i] = m.Const(fmt.Sprintf("%s%d", name, i), x)
	}
	return poly
}

// horner sets p to the polynomial at f.
func horner(m *machine.Machine, p, f machine.Value, poly []machine.Value) {
	m.Copy(p, poly[0])
	for _, c := range poly[1:] {
		m.MulAdd(p, f, c)
	}
}

// powText is 2^f·2ⁿ, +0 for n below MinExponent: what the exponentials of softmax share.
//
// n is rounded by adding a number so large that its sum has no bits for fractions. The number is chosen so that the
// sum's low bits are n+126: shifted into the exponent they are 2^(n-1), and +0 for n = -126. So the
// polynomial gives 2·2^f, and arguments are kept from lower n beforehand, which leaves neither a comparison nor a
// conversion to be done. A NaN loses its payload to the shift, but the polynomial is NaN then, and so
// is its product with anything.
type powText struct {
	m     *machine.Machine
	poly  []machine.Value
	round machine.Value
}

func newPow(m *machine.Machine) powText {
	doubled := portable.Exp2Coefficients
	for i := range doubled {
		doubled[i] *= 2
	}
	return powText{m, coefficients(m, "2 exp2_", doubled[:]), m.Held(m.Const("round", 0x1.8p23+1-portable.MinExponent))}
}

// split sets n to the integer nearest to t and k, which may be t, to what apply takes in its place.
func (e powText) split(n, k, t machine.Value) {
	e.m.Add(k, t, e.round)
	e.m.Sub(n, k, e.round)
}

// apply consumes f and k.
func (e powText) apply(f, k machine.Value) machine.Value {
	m := e.m
	p := m.Like(f, "p")
	horner(m, p, f, e.poly)
	m.ShiftLeft(k, k, 23)
	m.Mul(p, p, k)
	return p
}

// exp2Text is 2ᵗ for t ≤ 0: the exponential of attention.
type exp2Text struct {
	powText
	least machine.Value
}

func newExp2(m *machine.Machine) exp2Text {
	return exp2Text{newPow(m), m.Const("least", portable.MinExponent-1)}
}

// apply returns 2ᵗ and consumes t.
func (e exp2Text) apply(t machine.Value) machine.Value {
	n, k := e.m.Like(t, "n"), e.m.Like(t, "k")
	e.m.AtLeast(t, t, e.least)
	e.split(n, k, t)
	e.m.Sub(t, t, n)
	return e.powText.apply(t, k)
}

// powEText is e to the power of a multiple of x, with log2 e times the multiple as the sum of two numbers.
type powEText struct {
	powText
	hi, lo machine.Value
}

// apply returns the power of x, for which n is at least -126.
func (e powEText) apply(x machine.Value) machine.Value {
	f, k := e.m.Like(x, "f"), e.m.Like(x, "k")
	e.m.Mul(k, x, e.hi)
	e.split(f, k, k)
	reduce(e.m, f, x, e.hi, e.lo)
	return e.powText.apply(f, k)
}

// reduce sets f from n to x·(hi + lo) - n.
func reduce(m *machine.Machine, f, x, hi, lo machine.Value) {
	m.FMS(f, x, hi)
	m.FMA(f, x, lo)
}

// softExpText is eᵈ for d ≤ 0: the exponential of the softmax of a slice.
type softExpText struct {
	powEText
	least machine.Value
}

func newSoftExp(m *machine.Machine) softExpText {
	return softExpText{
		powEText{newPow(m), m.Const("log2e_hi", portable.Log2eHi), m.Const("log2e_lo", portable.Log2eLo)},
		m.Const("least", (portable.MinExponent-1)/portable.Log2eHi),
	}
}

// apply returns eᵈ and changes d.
func (e softExpText) apply(d machine.Value) machine.Value {
	e.m.AtLeast(d, d, e.least)
	return e.powEText.apply(d)
}

// expArray is eˣ over the whole range: the polynomial times two halves of 2ⁿ, of which only the
// last product can round.
func expArray(m *machine.Machine) {
	var (
		poly     = coefficients(m, "exp2_", portable.Exp2Coefficients[:])
		hi, lo   = m.Const("log2e_hi", portable.Log2eHi), m.Const("log2e_lo", portable.Log2eLo)
		max, min = m.Const("max", portable.ExpMax), m.Const("min", portable.ExpMin)
		inf      = m.Const("+Inf", posInf)
		bias     = m.ConstBits("127", 127)
	)
	eachVector(m, 2, func(x machine.Value) machine.Value {
		n, f, p := m.Like(x, "n"), m.Like(x, "f"), m.Like(x, "p")
		m.Mul(n, x, hi)
		m.Round(n, n)
		m.Copy(f, n)
		reduce(m, f, x, hi, lo)
		horner(m, p, f, poly)
		half := m.Like(x, "n/2")
		m.ToInt(n, n)
		m.ShiftRight(half, n, 1)
		m.IntSub(n, n, half)
		for _, k := range []machine.Value{half, n} {
			m.IntAdd(k, k, bias)
			m.ShiftLeft(k, k, 23)
			m.Mul(p, p, k)
		}
		large, small := m.MaskFor(x, "large"), m.MaskFor(x, "small")
		m.Less(large, max, x)
		m.Less(small, x, min)
		m.Choose(p, large, inf, p)
		m.ZeroWhere(p, small)
		return p
	})
}

// widths lists how many logical values a loop takes at once: up to most where
// the machine has the registers, then one by one.
func widths(m *machine.Machine, most int) []int {
	if wide := min(m.Interleave, most); wide > 1 {
		return []int{wide, 1}
	}
	return []int{1}
}

// eachVector is dst[i] = f(src[i]) over n elements, up to most logical values at once.
func eachVector(m *machine.Machine, most int, f func(x machine.Value) machine.Value) {
	dst, src, n := m.Arg("dst"), m.Arg("src"), m.Arg("n")
	for _, wide := range widths(m, most) {
		m.While(n, 16*wide, "vectors", func() {
			x := m.Wide(wide, "x")
			m.Load(x, src.At(0))
			m.Store(dst.At(0), f(x))
			m.AddImm(src, 64*wide)
			m.AddImm(dst, 64*wide)
		})
	}
	m.If(n, 1, func() {
		t := m.Tail(n)
		x := m.Named("x")
		m.LoadTail(x, src.At(0), t)
		m.StoreTail(dst.At(0), f(x), t)
	})
}

// log2Text is the base-2 logarithm.
type log2Text struct {
	m                                *machine.Machine
	poly                             []machine.Value
	hi, lo, zero, one, inf, nan      machine.Value
	normal, up, upBias, root, lowest machine.Value
}

func newLog2(m *machine.Machine) log2Text {
	return log2Text{
		m: m, poly: coefficients(m, "log2_", portable.Log2Coefficients[:]),
		hi: m.Const("log2e_hi", portable.Log2eHi), lo: m.Const("log2e_lo", portable.Log2eLo),
		zero: m.Const("0", 0), one: m.Const("1", 1),
		inf: m.Const("+Inf", posInf), nan: m.ConstBits("NaN", 0x7fc00000), lowest: m.Const("-Inf", negInf),
		normal: m.Const("2**-126", 0x1p-126), up: m.Const("2**23", 0x1p23), upBias: m.Const("-23", -23),
		root: m.ConstBits("bits of √½", portable.SqrtHalfBits),
	}
}

// apply returns log2 x and leaves x alone.
func (e log2Text) apply(x machine.Value) machine.Value {
	m := e.m
	y, scaled, bias := m.Named("y"), m.Named("x'"), m.Named("bias")
	k := m.MaskFor(x, "subnormal")
	m.Less(k, x, e.normal)
	m.Mul(scaled, x, e.up)
	m.Choose(scaled, k, scaled, x)
	m.Zero(bias)
	m.Copy(y, e.upBias)
	m.Choose(bias, k, y, bias)

	exponent, z := m.Named("k"), m.Named("z")
	m.IntSub(exponent, scaled, e.root)
	m.ShiftRight(exponent, exponent, 23)
	m.ShiftLeft(z, exponent, 23)
	m.IntSub(z, scaled, z)
	m.Sub(z, z, e.one)
	m.ToFloat(exponent, exponent)
	m.Add(exponent, exponent, bias)

	q := m.Named("q")
	horner(m, q, z, e.poly)
	m.MulAdd(q, z, e.lo)
	m.Mul(q, q, z)
	m.FMA(q, z, e.hi)
	m.Add(y, q, exponent)

	m.Note("0, +Inf, and NaN for NaN and below 0")
	m.Equal(k, x, e.zero)
	m.Choose(y, k, e.lowest, y)
	m.Equal(k, x, e.inf)
	m.Choose(y, k, e.inf, y)
	m.Less(k, x, e.zero)
	m.Choose(y, k, e.nan, y)
	m.Add(bias, x, x) // NaN stays NaN; any other x is replaced below
	m.Equal(k, x, x)
	m.Choose(y, k, y, bias)
	return y
}

// logSumRows is (m + log2 l)·ln 2, the natural log-sum-exp of base-2 states; -Inf where l is 0.
func logSumRows(m *machine.Machine) {
	max := m.Arg("max")
	lowest, zero, ln2 := m.Const("-Inf", negInf), m.Const("0", 0), m.Const("ln 2", portable.Ln2)
	log2 := newLog2(m)
	n, sum, dst := m.Arg("n"), m.Arg("sum"), m.Arg("dst")
	step := func(load func(v machine.Value, p machine.Word), store func(v machine.Value)) {
		best, l := m.Named("m"), m.Named("l")
		load(l, sum)
		y := log2.apply(l)
		load(best, max)
		m.Add(y, y, best)
		m.Mul(y, y, ln2)
		none := m.MaskFor(l, "none")
		m.Equal(none, l, zero)
		m.Choose(y, none, lowest, y)
		store(y)
	}
	m.While(n, 16, "vectors", func() {
		step(func(v machine.Value, p machine.Word) { m.Load(v, p.At(0)) }, func(v machine.Value) { m.Store(dst.At(0), v) })
		for _, p := range []machine.Word{max, sum, dst} {
			m.AddImm(p, 64)
		}
	})
	m.If(n, 1, func() {
		t := m.Tail(n)
		step(func(v machine.Value, p machine.Word) { m.LoadTail(v, p.At(0), t) }, func(v machine.Value) { m.StoreTail(dst.At(0), v, t) })
	})
}
