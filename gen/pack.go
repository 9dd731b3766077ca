package main

import "github.com/quern-go/quern/gen/machine"

// transpose lays rows of keys out as a panel, with a row for each dimension, so that a vector runs over keys.
// It turns squares in registers.
func transpose(m *machine.Machine) {
	var (
		dst, src  = m.Arg("dst"), m.Arg("src")
		rows      = m.Arg("rows")
		srcStride = m.Arg("srcStride")
		lanes     = m.Lanes
	)
	m.Floats(srcStride)
	group := func(full bool) {
		cols := m.Arg("cols")
		from := m.Rows(src, srcStride, lanes)
		to := m.Word("column")
		m.Set(to, dst)
		if full {
			m.While(cols, lanes, "cols", func() {
				square := squareOf(m)
				for r := range square {
					m.Load(square[r], from.At(r, 0))
				}
				m.Transpose(square)
				dstStride := m.ArgFloats("dstStride") // here, because general-purpose registers are few
				for c := range square {
					m.Store(to.At(0), square[c])
					m.AddWord(to, dstStride)
				}
				m.Advance(from, 4*lanes)
			})
		}
		m.While(cols, 1, "last_cols", func() {
			some := m.Word("some")
			m.SetImm(some, lanes)
			m.MinWord(some, cols)
			tail := m.Tail(some)
			square := squareOf(m)
			for r := range square {
				m.Zero(square[r])
				m.If(rows, r+1, func() { m.LoadTail(square[r], from.At(r, 0), tail) })
			}
			m.Transpose(square)
			dstStride := m.ArgFloats("dstStride")
			for c := range square {
				m.If(some, c+1, func() { m.Store(to.At(0), square[c]) })
				m.AddWord(to, dstStride)
			}
			m.Advance(from, 4*lanes)
			// While takes off one more.
			m.AddImm(cols, 1-lanes)
		})
		m.AddImm(dst, 4*lanes)
	}
	m.While(rows, lanes, "rows", func() {
		group(true)
		for range lanes {
			m.AddWord(src, srcStride)
		}
	})
	m.If(rows, 1, func() { group(false) })
}

func squareOf(m *machine.Machine) []machine.Value {
	square := make([]machine.Value, m.Lanes)
	for i := range square {
		square[i] = m.Native("x%d", i)
	}
	return square
}

// packRows copies rows into panels of 32 columns, panelStride apart, filling the last 16 columns up with
// +0, and returns 0 if all numbers are finite, NaN otherwise: the sum of v·0. It reads each row from
// one end to the other, which is what memory likes best.
func packRows(m *machine.Machine) {
	var (
		dst, src    = m.Arg("dst"), m.Arg("src")
		panelStride = m.Arg("panelStride")
		srcStride   = m.Arg("srcStride")
		rows        = m.Arg("rows")
		zero        = m.Named("zero")
		bad         = m.Named("bad")
	)
	m.Floats(panelStride)
	m.Floats(srcStride)
	m.Zero(zero)
	m.Zero(bad)
	m.While(rows, 1, "rows", func() {
		cols, from, to := m.Arg("cols"), m.Word("from"), m.Word("to")
		m.Set(from, src)
		m.Set(to, dst)
		half := func(at int, load func(v machine.Value)) {
			v := m.Named("v")
			load(v)
			m.FMA(bad, v, zero)
			m.Store(to.At(at), v)
		}
		m.While(cols, panel, "panels", func() {
			for _, at := range []int{0, 64} {
				half(at, func(v machine.Value) { m.Load(v, from.At(at)) })
			}
			m.AddImm(from, panelPitch)
			m.AddWord(to, panelStride)
		})
		m.While(cols, 16, "half", func() {
			half(0, func(v machine.Value) { m.Load(v, from.At(0)) })
			m.AddImm(from, 64)
			m.AddImm(to, 64)
		})
		m.If(cols, 1, func() {
			tail := m.Tail(cols)
			half(0, func(v machine.Value) { m.LoadTail(v, from.At(0), tail) })
		})
		m.AddWord(src, srcStride)
		m.AddImm(dst, panelPitch)
	})
	m.FoldAdd(bad)
	m.Return(bad)
}

// prefetchRows asks for rows that will be needed soon.
func prefetchRows(m *machine.Machine) {
	src, stride, rows := m.Arg("src"), m.Arg("stride"), m.Arg("rows")
	m.Floats(stride)
	m.While(rows, 1, "rows", func() {
		cols, p := m.Arg("cols"), m.Word("line")
		m.Set(p, src)
		m.While(cols, 1, "lines", func() {
			m.Prefetch(p.At(0))
			m.AddImm(p, 64)
			// While takes off one more.
			m.AddImm(cols, -15)
		})
		m.AddWord(src, stride)
	})
}

// scaleRows is dst = src·factor row by row: Q' from Q. The last vector of a row of dst is filled up
// with zeros times factor.
func scaleRows(m *machine.Machine) {
	var (
		dst, src             = m.Arg("dst"), m.Arg("src")
		dstStride, srcStride = m.Arg("dstStride"), m.Arg("srcStride")
		rows                 = m.Arg("rows")
		factor               = m.ArgSplat("factor")
	)
	m.Floats(dstStride)
	m.Floats(srcStride)
	m.While(rows, 1, "rows", func() {
		cols := m.Arg("cols")
		from, to := m.Word("from"), m.Word("to")
		m.Set(from, src)
		m.Set(to, dst)
		step := func(load func(v machine.Value)) {
			v := m.Named("v")
			load(v)
			m.Mul(v, v, factor)
			m.Store(to.At(0), v)
		}
		m.While(cols, 16, "cols", func() {
			step(func(v machine.Value) { m.Load(v, from.At(0)) })
			m.AddImm(from, 64)
			m.AddImm(to, 64)
		})
		m.If(cols, 1, func() {
			tail := m.Tail(cols)
			step(func(v machine.Value) { m.LoadTail(v, from.At(0), tail) })
		})
		m.AddWord(src, srcStride)
		m.AddWord(dst, dstStride)
	})
}
