package main

import "github.com/quern-go/quern/gen/machine"

// affineRows is the end of MatMul: dst = src·scale + bias, both by column, each operation rounded on
// its own. A panel's two halves go together, because rows of dst are far apart.
func affineRows(m *machine.Machine) {
	var (
		dst, src             = m.Arg("dst"), m.Arg("src")
		dstStride, srcStride = m.Arg("dstStride"), m.Arg("srcStride")
		scales, biases       = m.Arg("scale"), m.Arg("bias")
		cols                 = m.Arg("cols")
	)
	m.Floats(dstStride)
	m.Floats(srcStride)
	column := func(wide int, load func(machine.Value, machine.Addr), store func(machine.Addr, machine.Value)) {
		scale, bias := m.Wide(wide, "scale"), m.Wide(wide, "bias")
		load(scale, scales.At(0))
		load(bias, biases.At(0))
		from, to, rows := m.Word("from"), m.Word("to"), m.Arg("rows")
		m.Set(from, src)
		m.Set(to, dst)
		m.While(rows, 1, "rows", func() {
			v := m.Wide(wide, "v")
			load(v, from.At(0))
			m.Mul(v, v, scale)
			m.Add(v, v, bias)
			store(to.At(0), v)
			m.AddWord(from, srcStride)
			m.AddWord(to, dstStride)
		})
	}
	for _, wide := range []int{panel / machine.LogicalLanes, 1} {
		m.While(cols, 16*wide, "cols", func() {
			column(wide, m.Load, m.Store)
			for _, p := range []machine.Word{src, dst, scales, biases} {
				m.AddImm(p, 64*wide)
			}
		})
	}
	m.If(cols, 1, func() {
		tail := m.Tail(cols)
		column(1,
			func(v machine.Value, a machine.Addr) { m.LoadTail(v, a, tail) },
			func(a machine.Addr, v machine.Value) { m.StoreTail(a, v, tail) })
	})
}

// prefetch asks for memory that will be read soon.
func prefetch(m *machine.Machine) {
	src, n := m.Arg("src"), m.Arg("n")
	m.While(n, 64, "lines", func() {
		for line := range 4 {
			m.PrefetchFar(src.At(64 * line))
		}
		m.AddImm(src, 256)
	})
}
