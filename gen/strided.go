package main

import "github.com/quern-go/quern/gen/machine"

// The online softmax for rows that see one key here and one there: scores are transposed, a row for each key
// and a column for each query, so that the vector runs over queries.

// columnMax begins a block of keys: m' = max(m, scores), α = 2^(m-m'), l = l·α.
func columnMax(m *machine.Machine) {
	var (
		s       = m.Arg("s")
		stride  = m.Arg("stride")
		best    = m.Arg("max")
		alpha   = m.Arg("alpha")
		shift   = m.Arg("shift")
		l       = m.Arg("l")
		lStride = m.Arg("lStride")
		cols    = m.Arg("cols")
		lowest  = m.Const("-Inf", negInf)
		zero    = m.Const("0", 0)
		exp     = newExp2(m)
	)
	m.Floats(stride)
	m.Floats(lStride)
	m.While(cols, 16, "cols", func() {
		old, now, t := m.Named("m"), m.Named("m'"), m.Named("S")
		m.Load(old, best.At(0))
		m.Copy(now, old)
		p, keys := m.Word("s_row"), m.Arg("keys")
		m.Set(p, s)
		m.While(keys, 1, "keys", func() {
			m.Load(t, p.At(0))
			m.Max(now, t)
			m.AddWord(p, stride)
		})
		m.Add(now, now, zero)
		m.Store(best.At(0), now)
		none := m.MaskFor(now, "none")
		m.Equal(none, now, lowest)
		m.ZeroWhere(now, none)
		m.Store(shift.At(0), now)
		m.Sub(old, old, now)
		a := exp.apply(old)
		m.Store(alpha.At(0), a)
		m.Set(p, l)
		rows := m.Arg("lRows")
		m.While(rows, 1, "lanes", func() {
			m.Load(t, p.At(0))
			m.Mul(t, t, a)
			m.Store(p.At(0), t)
			m.AddWord(p, lStride)
		})
		for _, w := range []machine.Word{s, best, alpha, shift, l} {
			m.AddImm(w, 64)
		}
	})
}

// columnExp is P = 2^(S-m') for one key, in place, and l += P.
func columnExp(m *machine.Machine) {
	s, shift, l, n, exp := m.Arg("s"), m.Arg("shift"), m.Arg("l"), m.Arg("n"), newExp2(m)
	m.While(n, 16, "cols", func() {
		t, x := m.Named("S"), m.Named("m'")
		m.Load(t, s.At(0))
		m.Load(x, shift.At(0))
		m.Sub(t, t, x)
		p := exp.apply(t)
		m.Store(s.At(0), p)
		m.Load(x, l.At(0))
		m.Add(x, x, p)
		m.Store(l.At(0), x)
		for _, w := range []machine.Word{s, shift, l} {
			m.AddImm(w, 64)
		}
	})
}

// scaleAdd is O = O·α + p·v for one key after the other. α and p are a row for each key and a column for
// each row of O.
func scaleAdd(m *machine.Machine) {
	cols, o, v := m.Arg("cols"), m.Arg("o"), m.Arg("v")
	for _, wide := range []int{4, 1} {
		m.While(cols, 16*wide, "cols", func() {
			to, column, rows := m.Word("o_row"), m.Word("row"), m.Arg("rows")
			m.Set(to, o)
			m.SetImm(column, 0)
			m.While(rows, 1, "rows", func() {
				acc := m.Wide(wide, "O")
				m.Load(acc, to.At(0))
				a, p, from, keys := m.Arg("alpha"), m.Arg("p"), m.Word("v_row"), m.Arg("keys")
				m.AddWord(a, column)
				m.AddWord(p, column)
				m.Set(from, v)
				m.While(keys, 1, "keys", func() {
					stride, vStride := m.Arg("stride"), m.Arg("vStride")
					m.Floats(stride)
					m.Floats(vStride)
					alpha, weight := m.Native("α"), m.Native("p")
					m.Splat(alpha, a.At(0))
					m.Splat(weight, p.At(0))
					m.Mul(acc, acc, alpha)
					for i, part := range m.Parts(acc) {
						x := m.Named("v%d", i)
						m.Load(x, from.At(64*i))
						m.FMA(part, x, weight)
					}
					m.AddWord(a, stride)
					m.AddWord(p, stride)
					m.AddWord(from, vStride)
				})
				m.Store(to.At(0), acc)
				m.AddWord(to, m.ArgFloats("oStride"))
				m.AddImm(column, 4)
			})
			m.AddImm(o, 64*wide)
			m.AddImm(v, 64*wide)
		})
	}
}
