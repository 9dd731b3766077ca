package main

import "github.com/quern-go/quern/gen/machine"

// Conversion between float32 and the 16-bit formats. Widening is exact; narrowing rounds to the
// nearest, ties to even.

func widenBF16(m *machine.Machine)  { convert(m, machine.Float32, machine.BFloat16, keep) }
func widenF16(m *machine.Machine)   { convert(m, machine.Float32, machine.Float16, keep) }
func widenInt8(m *machine.Machine)  { convert(m, machine.Float32, machine.Int8, keep) }
func narrowF16(m *machine.Machine)  { convert(m, machine.Float16, machine.Float32, keep) }
func narrowBF16(m *machine.Machine) { convert(m, machine.BFloat16, machine.Float32, roundBF16) }

func keep(*machine.Machine) func(x machine.Value) { return func(machine.Value) {} }

// roundBF16 rounds the upper half of x: half of its last place is added to the bits, less one if the
// upper half is even. A NaN is made quiet instead, or its payload could round away.
func roundBF16(m *machine.Machine) func(x machine.Value) {
	one, half, quiet := m.ConstBits("1", 1), m.ConstBits("half - 1", 0x7fff), m.ConstBits("quiet", 0x400000)
	return func(x machine.Value) {
		rounded, number := m.Named("rounded"), m.MaskFor(x, "number")
		m.ShiftRight(rounded, x, 16)
		m.And(rounded, rounded, one)
		m.IntAdd(rounded, rounded, x)
		m.IntAdd(rounded, rounded, half)
		m.Equal(number, x, x)
		m.Or(x, x, quiet)
		m.Choose(x, number, rounded, x)
	}
}

func convert(m *machine.Machine, to, from machine.Format, prepare func(*machine.Machine) func(machine.Value)) {
	dst, src, n := m.Arg("dst"), m.Arg("src"), m.Arg("n")
	round := prepare(m)
	m.While(n, 16, "vectors", func() {
		x := m.Named("x")
		m.LoadAs(from, x, src.At(0))
		round(x)
		m.StoreAs(to, dst.At(0), x)
		m.AddImm(src, 16*from.Size())
		m.AddImm(dst, 16*to.Size())
	})
	m.If(n, 1, func() {
		x := m.Named("x")
		m.LoadTailAs(from, x, src.At(0), m.TailAs(from, n))
		round(x)
		m.StoreTailAs(to, dst.At(0), x, m.TailAs(to, n))
	})
}
