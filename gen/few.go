package main

import "github.com/quern-go/quern/gen/machine"

// few is product for a few rows, the query heads that share a key in decoding, over any number of
// panels and every format that keys are stored in. It is bound by memory: it reads B once from one
// end to the other and converts in registers.
//
// Measured on a Zen 4, GB/s out of DRAM where plain reading gives 25 to 28, for 1, 2 and 4 rows:
//
//	one panel at a time    float32 27 28 27   bfloat16 29 28 20   int8 24 18 11
//	two panels side by side        18 17 16            16 16 14        25 20 13   with prefetch
//	four panels                    21 18 15            17 17 13        15 14 10
//
// One panel at a time is what the hardware's prefetching understands best, although one row then
// has two accumulators only.
//
// Lines are asked for by hand, because the hardware stops at the end of each 4 KiB: where arithmetic takes about
// as long as memory, the two overlap only so. On Granite Rapids, GB/s out of DRAM where plain reading gives 14.5, for 1 and 4
// rows, by how far ahead:
//
//	not at all    float32 14.2 13.4   bfloat16 14.9 12.5   int8 12.1 10.2
//	2 KiB                 15.8 14.6            15.7 14.5        14.6 10.8
//	4 KiB                 15.4 13.7            13.1 12.4        12.7  9.8
//	12 KiB                                     11.9 10.4        14.7  9.8
//
// There, four rows of int8 take 12.3 GB/s so, and 10.5 with two panels side by side.
func few(f machine.Format) func(*machine.Machine) {
	return func(m *machine.Machine) {
		t := fewTile{m: m, f: f, c: m.Arg("c"), a: m.Arg("a")}
		rows := m.Arg("rows")
		for _, n := range []int{8, 6, 4, 3, 2, 1} {
			if t.values(n) > 0 {
				m.While(rows, n, "rows", func() { t.pass(n, rows) })
			}
		}
	}
}

type fewTile struct {
	m    *machine.Machine
	f    machine.Format
	c, a machine.Word
}

// values is how many logical values of columns a pass of some rows takes at a time, a panel or half of one:
// accumulators are at most half of the registers.
func (t fewTile) values(rows int) int {
	values := panel / machine.LogicalLanes
	for values*rows*machine.LogicalLanes/t.m.Lanes > t.m.Registers/2 {
		values /= 2
	}
	return values
}

// pass takes some rows through all columns.
func (t fewTile) pass(rows int, left machine.Word) {
	m := t.m
	cols, b := m.Arg("cols"), m.Arg("b")
	m.While(cols, panel, "panels", func() {
		values := t.values(rows)
		for v := 0; v < panel/machine.LogicalLanes; v += values {
			t.emit(rows, values, b, v, left)
		}
		m.AddWord(b, t.elements("panelStride"))
	})
	m.If(cols, 1, func() { t.emit(rows, 1, b, 0, left) })

	m.Note("the next rows")
	whole := m.Arg("cols")
	m.Floats(whole)
	m.SubWord(t.c, whole)
	t.down(t.c, "cStride", rows)
	t.down(t.a, "aStride", rows)
}

// down moves a row pointer.
func (t fewTile) down(p machine.Word, stride string, rows int) {
	w := t.m.ArgFloats(stride)
	for range rows {
		t.m.AddWord(p, w)
	}
}

// elements is a stride of numbers of B in bytes.
func (t fewTile) elements(name string) machine.Word {
	w := t.m.Arg(name)
	if s := t.f.Size(); s > 1 {
		t.m.Shift(w, uint8(s/2))
	}
	return w
}

// emit computes rows by values of C, from the value first of a panel on.
func (t fewTile) emit(rows, values int, start machine.Word, first int, left machine.Word) {
	m := t.m
	acc := newTile(m, rows, values)
	acc.begin(m, t.c, left)

	m.Note("C += A·B")
	pitch, depth := t.elements("pitch"), m.Arg("depth")
	a := m.Rows(t.a, m.ArgFloats("aStride"), rows)
	b := m.Word("b_k")
	m.Set(b, start)
	for _, steps := range []int{4, 1} {
		m.While(depth, steps, "depth", func() {
			for k := range steps {
				t.step(acc, a, b, k, first)
				m.AddWord(b, pitch)
			}
			m.Advance(a, 4*steps)
			if first == 0 && steps > 1 { // for the whole panel
				for at := 0; at < steps*panel*t.f.Size(); at += 64 {
					m.Prefetch(b.At(askAhead + at))
				}
			}
		})
	}

	acc.store(m, t.c)
	m.AddImm(t.c, 64*values)
}

// step adds the products of one depth, the factors of A k numbers on.
func (t fewTile) step(acc tile, a machine.Rows, b machine.Word, k, first int) {
	m, values, vector := t.m, len(acc[0]), machine.LogicalLanes*t.f.Size()
	column := func(v int) machine.Value {
		x := m.Named("B[%d][%d]", k, v)
		m.LoadAs(t.f, x, b.At((first+v)*vector))
		return x
	}
	if values == 1 {
		x := column(0)
		for r := range acc {
			m.FMASplat(acc[r][0], x, a.At(r, 4*k))
		}
		return
	}
	factor := make([]machine.Value, len(acc))
	for r := range factor {
		factor[r] = m.Native("A[%d][%d]", r, k)
		m.Factor(factor[r], a.At(r, 4*k))
	}
	for v := range values {
		x := column(v)
		for r := range acc {
			m.FMAFactor(acc[r][v], x, factor[r])
		}
	}
}

// scaleColumns multiplies each column of a tile by a factor of its own: what int8 keys and values
// stand for.
func scaleColumns(m *machine.Machine) {
	s, stride, rows := m.Arg("s"), m.Arg("stride"), m.Arg("rows")
	m.Floats(stride)
	m.While(rows, 1, "rows", func() {
		cols, p, f := m.Arg("cols"), m.Word("s_col"), m.Arg("factors")
		m.Set(p, s)
		m.While(cols, 16, "cols", func() {
			x, factor := m.Named("S"), m.Named("factor")
			m.Load(x, p.At(0))
			m.Load(factor, f.At(0))
			m.Mul(x, x, factor)
			m.Store(p.At(0), x)
			m.AddImm(p, 64)
			m.AddImm(f, 64)
		})
		m.AddWord(s, stride)
	})
}

// askAhead is how many bytes ahead of where B is read lines are asked for.
const askAhead = 2 << 10
