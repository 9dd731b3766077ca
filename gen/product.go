package main

import "github.com/quern-go/quern/gen/machine"

// panel is the number of columns of a packed panel: B is stored depth by depth, 32 columns each.
const (
	panel      = 32
	panelPitch = 4 * panel // bytes from one depth to the next
)

// product is the outer-product tile behind scores (S = Q'·Kᵀ), accumulate (O = α·O + P·V) and
// MatMul: C = A·B, one fused chain per element over ascending depth, the vector along columns.
//
// A tile of C stays in registers for the whole depth. Its shape comes from the machine: on AVX-512
// 12 rows by 2 values use 24 accumulators, 2 columns of B and one factor of A at a time; every
// load of B then serves 12 FMAs, and 14 loads stand against 24 FMAs.
func product(m *machine.Machine) {
	// What the inner loop does not need is loaded from the arguments again where it is used: the
	// pointers and counters of three loops fill the general-purpose registers.
	c, b, cols := m.Arg("c"), m.Arg("b"), m.Arg("cols")
	for values := m.TileValues; values >= 1; values /= 2 {
		width := values * machine.LogicalLanes
		m.While(cols, width, "columns", func() {
			t := productTile{m: m, values: values, a: m.Arg("a"), b: b, c: m.Word("c_tile"), alpha: m.Arg("alpha")}
			m.Set(t.c, c)
			rows := m.Arg("rows")
			for _, n := range tileRows(m.TileRows) {
				m.While(rows, n, "rows", func() { t.emit(n) })
			}
			m.AddImm(c, 4*width)
			m.AddImm(b, 4*width)
		})
	}
}

// tileRows lists the heights of tiles that make up any number of rows: the largest repeats.
func tileRows(most int) []int {
	rows := []int{most}
	for _, n := range []int{8, 4, 2, 1} {
		if n < most {
			rows = append(rows, n)
		}
	}
	return rows
}

type productTile struct {
	m              *machine.Machine
	values         int
	a, b, c, alpha machine.Word
}

func (t productTile) emit(rows int) {
	m := t.m
	acc := make([][]machine.Value, rows)
	for r := range acc {
		for v := range t.values {
			acc[r] = append(acc[r], m.Named("C[%d][%d]", r, v))
		}
	}

	m.Note("C = α·C, or 0 without α")
	m.IfElse(t.alpha, 1, func() {
		c := m.Rows(t.c, t.stride("cStride"), rows)
		for r := range acc {
			scale := m.Native("α[%d]", r)
			m.Splat(scale, t.alpha.At(4*r))
			for v := range acc[r] {
				m.Load(acc[r][v], c.At(r, 64*v))
				m.Mul(acc[r][v], acc[r][v], scale)
			}
		}
		m.AddImm(t.alpha, 4*rows)
	}, func() {
		for r := range acc {
			for v := range acc[r] {
				m.Zero(acc[r][v])
			}
		}
	})

	m.Note("C += A·B")
	aStride := t.stride("aStride")
	a := m.Rows(t.a, aStride, rows)
	b, depth := m.Word("b_k"), m.Arg("depth")
	m.Set(b, t.b)
	for _, steps := range []int{8, 1} {
		m.While(depth, steps, "depth", func() {
			for k := range steps {
				column := make([]machine.Value, t.values)
				for v := range column {
					column[v] = m.Named("B[%d][%d]", k, v)
					m.Load(column[v], b.At(panelPitch*k+64*v))
				}
				for r := range acc {
					if len(column) == 1 {
						m.FMASplat(acc[r][0], column[0], a.At(r, 4*k))
						continue
					}
					f := m.Native("A[%d][%d]", r, k)
					m.Factor(f, a.At(r, 4*k))
					for v := range column {
						m.FMAFactor(acc[r][v], column[v], f)
					}
				}
			}
			m.Advance(a, 4*steps)
			m.AddImm(b, panelPitch*steps)
		})
	}

	m.Note("store")
	cStride := t.stride("cStride")
	c := m.Rows(t.c, cStride, rows)
	for r := range acc {
		for v := range acc[r] {
			m.Store(c.At(r, 64*v), acc[r][v])
		}
	}
	t.next(t.c, "cStride", rows)
	t.next(t.a, "aStride", rows)
}

func (t productTile) stride(name string) machine.Word {
	w := t.m.Arg(name)
	t.m.Floats(w)
	return w
}

// next moves a row pointer down by the height of the tile.
func (t productTile) next(p machine.Word, stride string, rows int) {
	w := t.stride(stride)
	for ; rows > 0; rows &= rows - 1 {
		// One set bit of rows at a time: p += stride << bit.
		s := t.m.Word(stride)
		t.m.Set(s, w)
		for bit := rows & -rows; bit > 1; bit >>= 1 {
			t.m.Shift(s, 1)
		}
		t.m.AddWord(p, s)
	}
}
