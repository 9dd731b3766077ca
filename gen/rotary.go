package main

import "github.com/quern-go/quern/gen/machine"

// rotaryHalves turns the pairs (x[i], x[n+i]) of rows by the angles of one position:
// a·cos - b·sin and b·cos + a·sin, the product with sin rounded, the other one fused with the sum.
func rotaryHalves(m *machine.Machine) {
	rotateRows(m, func(row, half machine.Word, cos, sin machine.Addr, load func(machine.Value, machine.Addr), store func(machine.Addr, machine.Value)) {
		a, b, c, s := m.Named("a"), m.Named("b"), m.Named("cos"), m.Named("sin")
		load(a, row.At(0))
		load(b, half.At(0))
		load(c, cos)
		load(s, sin)
		t := m.Named("t")
		m.Mul(t, b, s)
		m.FMS(t, a, c)
		store(row.At(0), t)
		m.Mul(t, a, s)
		m.FMA(t, b, c)
		store(half.At(0), t)
	})
}

// rotaryPairs turns the pairs (x[2i], x[2i+1]) of rows in the same way. The tables have an entry for
// each element, and sin is negative for the first of a pair: x·cos + partner·sin is both formulas.
func rotaryPairs(m *machine.Machine) {
	rotateRows(m, func(row, _ machine.Word, cos, sin machine.Addr, load func(machine.Value, machine.Addr), store func(machine.Addr, machine.Value)) {
		x, t, c, s := m.Named("x"), m.Named("partner"), m.Named("cos"), m.Named("sin")
		load(x, row.At(0))
		load(c, cos)
		load(s, sin)
		m.SwapPairs(t, x)
		m.Mul(t, t, s)
		m.FMA(t, x, c)
		store(row.At(0), t)
	})
}

// rotateRows goes over n elements of every row, 16 at a time. Half is n elements further on.
func rotateRows(m *machine.Machine, rotate func(row, half machine.Word, cos, sin machine.Addr, load func(machine.Value, machine.Addr), store func(machine.Addr, machine.Value))) {
	x, stride, rows := m.Arg("x"), m.Arg("stride"), m.Arg("rows")
	m.Floats(stride)
	m.While(rows, 1, "rows", func() {
		n, cos, sin := m.Arg("n"), m.Arg("cos"), m.Arg("sin")
		row, half := m.Word("row"), m.Word("half")
		m.Set(row, x)
		m.Set(half, n)
		m.Floats(half)
		m.AddWord(half, x)
		m.While(n, 16, "elements", func() {
			rotate(row, half, cos.At(0), sin.At(0), m.Load, m.Store)
			for _, p := range []machine.Word{row, half, cos, sin} {
				m.AddImm(p, 64)
			}
		})
		m.If(n, 1, func() {
			tail := m.Tail(n)
			rotate(row, half, cos.At(0), sin.At(0),
				func(v machine.Value, a machine.Addr) { m.LoadTail(v, a, tail) },
				func(a machine.Addr, v machine.Value) { m.StoreTail(a, v, tail) })
		})
		m.AddWord(x, stride)
	})
}
