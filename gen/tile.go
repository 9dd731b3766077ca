package main

import "github.com/quern-go/quern/gen/machine"

// softmaxTile is the step of the online softmax for up to 16 rows of scores and one block of keys:
// the new maxima, α = 2^(m-m'), the row sums, and P = 2^(S-m') in place.
//
// The exponential of the rows' α is taken for all rows at once, which is why there are three
// passes: maxima row by row, m' and α as vectors over rows, then P row by row.
func softmaxTile(m *machine.Machine) {
	var (
		s      = m.Arg("s")
		stride = m.Arg("stride")
		rows   = m.Arg("rows")
		max    = m.Arg("max")
		alpha  = m.Arg("alpha")
		shift  = m.Arg("shift")
		lowest = m.Const("-Inf", negInf)
		zero   = m.Const("0", 0)
		exp    = newExp2(m)
	)
	m.Floats(stride)

	m.Note("the largest score of each row, ignoring NaN")
	row, best, left := m.Word("s_row"), m.Word("best"), m.Word("rows_left")
	m.Set(row, s)
	m.Set(best, shift)
	m.Set(left, rows)
	m.While(left, 1, "max", func() {
		cols, p := m.Arg("cols"), m.Word("s_col")
		m.Set(p, row)
		acc := m.Named("max")
		m.Copy(acc, lowest)
		for _, wide := range widths(m, 4) {
			m.While(cols, 16*wide, "max_cols", func() {
				t := m.Wide(wide, "S")
				m.Load(t, p.At(0))
				for _, part := range m.Parts(t) {
					m.Max(acc, part)
				}
				m.AddImm(p, 64*wide)
			})
		}
		m.FoldMax(acc)
		m.StoreLane(best.At(0), acc)
		m.AddImm(best, 4)
		m.AddWord(row, stride)
	})

	m.Note("m' = max(m, scores); α = 2^(m-m'); a row that has seen nothing yet subtracts 0")
	tail := m.Tail(rows)
	old, now := m.Named("m"), m.Named("S")
	m.LoadTail(old, max.At(0), tail)
	m.LoadTail(now, shift.At(0), tail)
	now = guardedMax(m, now, old, max, tail, lowest, zero)
	m.StoreTail(shift.At(0), now, tail)
	m.Sub(old, old, now)
	m.StoreTail(alpha.At(0), exp.apply(old), tail)

	m.Note("P = 2^(S-m'), l = α·l + P")
	l := m.Arg("l")
	m.While(rows, 1, "exp", func() {
		cols, p := m.Arg("cols"), m.Word("s_col")
		m.Set(p, s)
		sub, a, sum := m.Native("m'"), m.Native("α"), m.Named("l")
		m.Splat(sub, shift.At(0))
		m.Splat(a, alpha.At(0))
		m.Load(sum, l.At(0))
		m.Mul(sum, sum, a)
		for _, wide := range widths(m, 4) {
			m.While(cols, 16*wide, "exp_cols", func() {
				t := m.Wide(wide, "S")
				m.Load(t, p.At(0))
				m.Sub(t, t, sub)
				t = exp.apply(t)
				for _, part := range m.Parts(t) {
					m.Add(sum, sum, part)
				}
				m.Store(p.At(0), t)
				m.AddImm(p, 64*wide)
			})
		}
		m.Store(l.At(0), sum)
		m.AddImm(shift, 4)
		m.AddImm(alpha, 4)
		m.AddImm(l, 64)
		m.AddWord(s, stride)
	})
}

// guardedMax stores max(x, old) at max and returns the same with 0 for -Inf: 2^(-Inf - -Inf) would
// be NaN. Adding 0 makes the sign of a zero independent of the order of comparisons.
func guardedMax(m *machine.Machine, x, old machine.Value, max machine.Word, tail machine.Tail, lowest, zero machine.Value) machine.Value {
	now, none := m.Named("m'"), m.MaskFor(x, "none")
	m.Copy(now, old)
	m.Max(now, x)
	m.Add(now, now, zero)
	m.StoreTail(max.At(0), now, tail)
	m.Equal(none, now, lowest)
	m.ZeroWhere(now, none)
	return now
}

// maskTile puts -Inf where a bit is 0: two words of 64 bits for the 128 keys of a row, of which s begins
// at the key first.
func maskTile(m *machine.Machine) {
	var (
		s      = m.Arg("s")
		stride = m.Arg("stride")
		rows   = m.Arg("rows")
		bits   = m.Arg("bits")
		first  = m.Arg("first")
		lowest = m.Const("-Inf", negInf)
	)
	m.Floats(stride)
	m.ShiftDown(first, 3)
	m.AddWord(bits, first)
	m.While(rows, 1, "rows", func() {
		cols, p, b := m.Arg("cols"), m.Word("s_col"), m.Word("bits_col")
		m.Set(p, s)
		m.Set(b, bits)
		m.While(cols, 16, "cols", func() {
			t := m.Named("S")
			seen := m.MaskFor(t, "seen")
			m.Bits(seen, b.At(0))
			m.Load(t, p.At(0))
			m.Choose(t, seen, t, lowest)
			m.Store(p.At(0), t)
			m.AddImm(p, 64)
			m.AddImm(b, 2)
		})
		m.AddWord(s, stride)
		m.AddImm(bits, 16)
	})
}

// closeRows reduces the 16 lanes of each row's sum to one number.
func closeRows(m *machine.Machine) {
	sum, l, rows := m.Arg("sum"), m.Arg("l"), m.Arg("rows")
	m.While(rows, 1, "rows", func() {
		v := m.Named("l")
		m.Load(v, l.At(0))
		m.FoldAdd(v)
		m.StoreLane(sum.At(0), v)
		m.AddImm(l, 64)
		m.AddImm(sum, 4)
	})
}

// mergeRows folds the states (mb, lb, ob) of up to 16 rows into (ma, la, oa): the later keys into
// the earlier ones.
func mergeRows(m *machine.Machine) {
	var (
		ma, la, oa = m.Arg("ma"), m.Arg("la"), m.Arg("oa")
		mb, lb, ob = m.Arg("mb"), m.Arg("lb"), m.Arg("ob")
		weights    = m.Arg("weights")
		stride     = m.Arg("stride")
		rows       = m.Arg("rows")
		lowest     = m.Const("-Inf", negInf)
		zero       = m.Const("0", 0)
		exp        = newExp2(m)
	)
	m.Floats(stride)
	m.Note("w = 2^(m - max), l = la·wa + lb·wb")
	tail := m.Tail(rows)
	wa, wb := m.Named("wa"), m.Named("wb")
	m.LoadTail(wa, ma.At(0), tail)
	m.LoadTail(wb, mb.At(0), tail)
	both := guardedMax(m, wb, wa, ma, tail, lowest, zero)
	m.Sub(wa, wa, both)
	m.Sub(wb, wb, both)
	wa = exp.apply(wa)
	m.Store(weights.At(0), wa)
	sum, other := m.Named("la"), m.Named("lb")
	m.LoadTail(sum, la.At(0), tail)
	m.Mul(sum, sum, wa)
	wb = exp.apply(wb)
	m.Store(weights.At(64), wb)
	m.LoadTail(other, lb.At(0), tail)
	m.FMA(sum, other, wb)
	m.StoreTail(la.At(0), sum, tail)

	m.Note("O likewise")
	m.While(rows, 1, "rows", func() {
		fa, fb := m.Native("wa"), m.Native("wb")
		m.Splat(fa, weights.At(0))
		m.Splat(fb, weights.At(64))
		cols, a, b := m.Arg("cols"), m.Word("oa_col"), m.Word("ob_col")
		m.Set(a, oa)
		m.Set(b, ob)
		m.While(cols, 16, "cols", func() {
			x, y := m.Named("Oa"), m.Named("Ob")
			m.Load(x, a.At(0))
			m.Mul(x, x, fa)
			m.Load(y, b.At(0))
			m.FMA(x, y, fb)
			m.Store(a.At(0), x)
			m.AddImm(a, 64)
			m.AddImm(b, 64)
		})
		m.AddImm(weights, 4)
		m.AddWord(oa, stride)
		m.AddWord(ob, stride)
	})
}

// finishRows is out = O/l + 0. A row that has seen nothing, or only scores of -Inf, has l = 0 and gives
// +0; a row whose visible scores are all NaN has seen something and gives NaN.
func finishRows(m *machine.Machine) {
	var (
		out, o             = m.Arg("out"), m.Arg("o")
		outStride, oStride = m.Arg("outStride"), m.Arg("oStride")
		sum, sumStride     = m.Arg("sum"), m.Arg("sumStride")
		rows               = m.Arg("rows")
		zero               = m.Const("0", 0)
	)
	m.Floats(outStride)
	m.Floats(oStride)
	m.Floats(sumStride)
	m.While(rows, 1, "rows", func() {
		cols, from, to := m.Arg("cols"), m.Word("from"), m.Word("to")
		m.Set(from, o)
		m.Set(to, out)
		l := m.Named("l")
		none := m.MaskFor(l, "none")
		m.Splat(l, sum.At(0))
		m.Equal(none, l, zero)
		step := func(store func(v machine.Value)) {
			v := m.Named("O")
			m.Load(v, from.At(0))
			m.Div(v, v, l)
			m.Add(v, v, zero)
			m.ZeroWhere(v, none)
			store(v)
		}
		m.While(cols, 16, "cols", func() {
			step(func(v machine.Value) { m.Store(to.At(0), v) })
			m.AddImm(from, 64)
			m.AddImm(to, 64)
		})
		m.If(cols, 1, func() {
			tail := m.Tail(cols)
			step(func(v machine.Value) { m.StoreTail(to.At(0), v, tail) })
		})
		m.AddWord(sum, sumStride)
		m.AddWord(o, oStride)
		m.AddWord(out, outStride)
	})
}
