package main

import "github.com/quern-go/quern/gen/machine"

// affineRows is the end of MatMul: dst = src·scale + bias, both by column, each operation rounded on
// its own.
func affineRows(m *machine.Machine) {
	var (
		dst, src             = m.Arg("dst"), m.Arg("src")
		dstStride, srcStride = m.Arg("dstStride"), m.Arg("srcStride")
		scales, biases       = m.Arg("scale"), m.Arg("bias")
		cols                 = m.Arg("cols")
	)
	m.Floats(dstStride)
	m.Floats(srcStride)
	column := func(load func(machine.Value, machine.Addr), store func(machine.Addr, machine.Value)) {
		scale, bias := m.Named("scale"), m.Named("bias")
		load(scale, scales.At(0))
		load(bias, biases.At(0))
		from, to, rows := m.Word("from"), m.Word("to"), m.Arg("rows")
		m.Set(from, src)
		m.Set(to, dst)
		m.While(rows, 1, "rows", func() {
			v := m.Named("v")
			load(v, from.At(0))
			m.Mul(v, v, scale)
			m.Add(v, v, bias)
			store(to.At(0), v)
			m.AddWord(from, srcStride)
			m.AddWord(to, dstStride)
		})
	}
	m.While(cols, 16, "cols", func() {
		column(m.Load, m.Store)
		for _, p := range []machine.Word{src, dst, scales, biases} {
			m.AddImm(p, 64)
		}
	})
	m.If(cols, 1, func() {
		tail := m.Tail(cols)
		column(
			func(v machine.Value, a machine.Addr) { m.LoadTail(v, a, tail) },
			func(a machine.Addr, v machine.Value) { m.StoreTail(a, v, tail) })
	})
}
