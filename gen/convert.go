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

// widenRows converts rows to float32; the last vector of a row is filled up with +0.
func widenRows(f machine.Format) func(*machine.Machine) {
	return func(m *machine.Machine) {
		dst, src, rows := m.Arg("dst"), m.Arg("src"), m.Arg("rows")
		dstStride, srcStride := m.Arg("dstStride"), m.Arg("srcStride")
		m.Floats(dstStride)
		m.Shift(srcStride, uint8(f.Size()/2))
		m.While(rows, 1, "rows", func() {
			cols, from, to := m.Arg("cols"), m.Word("from"), m.Word("to")
			m.Set(from, src)
			m.Set(to, dst)
			m.While(cols, 16, "vectors", func() {
				x := m.Named("x")
				m.LoadAs(f, x, from.At(0))
				m.Store(to.At(0), x)
				m.AddImm(from, 16*f.Size())
				m.AddImm(to, 64)
			})
			m.If(cols, 1, func() {
				x := m.Named("x")
				m.LoadTailAs(f, x, from.At(0), m.TailAs(f, cols))
				m.Store(to.At(0), x)
			})
			m.AddWord(src, srcStride)
			m.AddWord(dst, dstStride)
		})
	}
}

// quantizeRows turns each row into bytes and a scale: the largest magnitude is 127. A scale that would
// be subnormal is 1, so that 1/scale is finite; that of a row with a number that is not finite is
// NaN, and its bytes are 0: the NaN is kept, for the whole row.
func quantizeRows(m *machine.Machine) {
	var (
		dst, src, scales = m.Arg("dst"), m.Arg("src"), m.Arg("scales")
		srcStride        = m.Arg("srcStride")
		rows             = m.Arg("rows")
		magnitude        = m.ConstBits("magnitude", 0x7fffffff)
		zero, one        = m.Const("0", 0), m.Const("1", 1)
		most             = m.Const("127", 127)
		smallest         = m.Const("2**-126", 0x1p-126)
	)
	m.Floats(srcStride)
	eachVector := func(f func(x machine.Value)) {
		cols, from := m.Arg("cols"), m.Word("from")
		m.Set(from, src)
		m.While(cols, 16, "vectors", func() {
			x := m.Named("x")
			m.Load(x, from.At(0))
			f(x)
			m.AddImm(from, 64)
		})
		m.If(cols, 1, func() {
			x := m.Named("x")
			m.LoadTail(x, from.At(0), m.Tail(cols))
			f(x)
		})
	}
	m.While(rows, 1, "rows", func() {
		largest, bad := m.Named("largest"), m.Named("bad")
		m.Zero(largest)
		m.Zero(bad)
		eachVector(func(x machine.Value) {
			m.FMA(bad, x, zero)
			m.And(x, x, magnitude)
			m.Max(largest, x)
		})
		m.FoldMax(largest)
		m.FoldAdd(bad)
		tiny := m.MaskFor(largest, "tiny")
		m.Div(largest, largest, most)
		m.Less(tiny, largest, smallest)
		m.Choose(largest, tiny, one, largest)
		m.Add(largest, largest, bad)
		m.StoreLane(scales.At(0), largest)

		scale, inverse := m.Native("scale"), m.Native("1/scale")
		m.Splat(scale, scales.At(0))
		m.Copy(inverse, one)
		m.Div(inverse, inverse, scale)
		to := m.Word("to")
		m.Set(to, dst)
		eachVector(func(x machine.Value) {
			number := m.MaskFor(x, "number")
			m.Mul(x, x, inverse)
			m.Equal(number, x, x)
			y := m.Named("y")
			m.Zero(y)
			m.Choose(y, number, x, y)
			m.ToInt(y, y)
			m.StoreBytes(to.At(0), y)
			m.AddImm(to, 16)
		})
		m.AddWord(src, srcStride)
		stride := m.Arg("dstStride")
		m.AddWord(dst, stride)
		m.AddImm(scales, 4)
	})
}

// narrowInt8 is for integers that are known to fit a byte.
func narrowInt8(m *machine.Machine) {
	dst, src, n := m.Arg("dst"), m.Arg("src"), m.Arg("n")
	m.While(n, 16, "vectors", func() {
		x := m.Named("x")
		m.Load(x, src.At(0))
		m.ToInt(x, x)
		m.StoreBytes(dst.At(0), x)
		m.AddImm(src, 64)
		m.AddImm(dst, 16)
	})
}
