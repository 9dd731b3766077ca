package main

import "github.com/quern-go/quern/gen/machine"

// blockMax is the largest of n numbers, ignoring NaN, -Inf if there is none.
func blockMax(m *machine.Machine) {
	src, n := m.Arg("src"), m.Arg("n")
	lowest := m.Const("-Inf", negInf)
	acc := make([]machine.Value, 2)
	for i := range acc {
		acc[i] = m.Named("max%d", i)
		m.Copy(acc[i], lowest)
	}
	m.While(n, 32, "pairs", func() {
		for i := range acc {
			x := m.Named("x")
			m.Load(x, src.At(64*i))
			m.Max(acc[i], x)
		}
		m.AddImm(src, 128)
	})
	m.While(n, 16, "vectors", func() {
		x := m.Named("x")
		m.Load(x, src.At(0))
		m.Max(acc[0], x)
		m.AddImm(src, 64)
	})
	m.While(n, 1, "last", func() {
		x := m.Named("x")
		m.Splat(x, src.At(0))
		m.Max(acc[1], x)
		m.AddImm(src, 4)
	})
	m.Max(acc[0], acc[1])
	m.FoldMax(acc[0])
	m.Return(acc[0])
}

// expSum is dst = e^(src - shift), and the sum of dst over 16 lanes, element i in lane i mod 16.
func expSum(m *machine.Machine) { expSumText(m, true) }

// sumExp is the sum of expSum without the writing.
func sumExp(m *machine.Machine) { expSumText(m, false) }

func expSumText(m *machine.Machine, write bool) {
	src, n := m.Arg("src"), m.Arg("n")
	var dst machine.Word
	if write {
		dst = m.Arg("dst")
	}
	shift, exp := m.ArgSplat("shift"), newSoftExp(m)
	sum, zero := m.Named("sum"), m.Const("0", 0)
	m.Zero(sum)
	for _, wide := range widths(m, 4) {
		m.While(n, 16*wide, "vectors", func() {
			x := m.Wide(wide, "x")
			m.Load(x, src.At(0))
			m.Sub(x, x, shift)
			p := exp.apply(x)
			for _, part := range m.Parts(p) {
				m.Add(sum, sum, part)
			}
			m.AddImm(src, 64*wide)
			if write {
				m.Store(dst.At(0), p)
				m.AddImm(dst, 64*wide)
			}
		})
	}
	m.If(n, 1, func() {
		t := m.Tail(n)
		x, first := m.Named("x"), m.MaskFor(sum, "first")
		m.LoadTail(x, src.At(0), t)
		m.Sub(x, x, shift)
		p := exp.apply(x)
		m.First(first, t)
		m.Choose(p, first, p, zero)
		m.Add(sum, sum, p)
		if write {
			m.StoreTail(dst.At(0), p, t)
		}
	})
	m.FoldAdd(sum)
	m.Return(sum)
}

// scaleVector is dst = src·factor.
func scaleVector(m *machine.Machine) {
	factor := m.ArgSplat("factor")
	eachVector(m, 4, func(x machine.Value) machine.Value {
		m.Mul(x, x, factor)
		return x
	})
}

// subtract is dst = (src - a) - b.
func subtract(m *machine.Machine) {
	a, b := m.ArgSplat("a"), m.ArgSplat("b")
	eachVector(m, 4, func(x machine.Value) machine.Value {
		m.Sub(x, x, a)
		m.Sub(x, x, b)
		return x
	})
}
