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
	t := productTile{m: m, a: m.Arg("a"), c: m.Arg("c"), rows: m.Arg("rows"), next: m.Arg("next")}
	m.While(t.rows, 1, "rows", t.split)
}

// split takes the next rows: a tile of the full height while two such are left, then one or two of
// equal height. A low tile has too few accumulators to hide the latency of FMA, so that 13 rows go
// faster as 7 and 6 than as 12 and 1.
func (t productTile) split() {
	m, rows, most := t.m, t.rows, t.m.TileRows
	height := m.Word("height")
	m.Set(height, rows)
	m.If(rows, most+1, func() {
		m.AddImm(height, 1)
		m.ShiftDown(height, 1)
		m.If(rows, 2*most, func() { m.SetImm(height, most) })
	})
	var choose func(n int)
	choose = func(n int) {
		tile := func() {
			t.columns(n)
			m.AddImm(rows, 1-n) // While takes off one more
		}
		if n == 1 {
			tile()
			return
		}
		m.IfElse(height, n, tile, func() { choose(n - 1) })
	}
	choose(most)
}

// columns computes some rows in all columns: where a panel takes two passes, those rows of A are at hand for the
// second. The other way round 216 rows of 1 KiB, which are more than the first-level cache, take 2 % longer (avx2).
func (t productTile) columns(rows int) {
	// What the inner loop does not need is loaded from the arguments again where it is used: the
	// pointers and counters of three loops fill the general-purpose registers.
	m, cols := t.m, t.m.Arg("cols")
	t.b = m.Arg("b")
	for t.values = m.TileValues; t.values >= 1; t.values /= 2 {
		width := t.values * machine.LogicalLanes
		m.While(cols, width, "columns", func() {
			t.emit(rows)
			m.AddImm(t.c, 4*width)
			m.AddImm(t.b, 4*width)
		})
	}
	m.SubWord(t.c, m.ArgFloats("cols"))
	t.down(t.c, "cStride", rows)
	t.down(t.a, "aStride", rows)
}

// tile is the rows by values of C that product and few keep in registers for the whole depth.
type tile [][]machine.Value

func newTile(m *machine.Machine, rows, values int) tile {
	acc := make(tile, rows)
	for r := range acc {
		for v := range values {
			acc[r] = append(acc[r], m.Named("C[%d][%d]", r, v))
		}
	}
	return acc
}

// begin sets the tile to α·C, or without alpha to 0. So many rows are left, those of the tile included.
func (acc tile) begin(m *machine.Machine, at, left machine.Word) {
	m.Note("C = α·C, or 0 without α")
	alpha := m.Arg("alpha")
	m.IfElse(alpha, 1, func() {
		done := m.Arg("rows")
		m.SubWord(done, left)
		m.Floats(done)
		m.AddWord(alpha, done)
		c := m.Rows(at, m.ArgFloats("cStride"), len(acc))
		for r := range acc {
			scale := m.Native("α[%d]", r)
			m.Splat(scale, alpha.At(4*r))
			for v := range acc[r] {
				m.Load(acc[r][v], c.At(r, 64*v))
				m.Mul(acc[r][v], acc[r][v], scale)
			}
		}
	}, func() {
		for r := range acc {
			for v := range acc[r] {
				m.Zero(acc[r][v])
			}
		}
	})
}

// store writes the tile where C is.
func (acc tile) store(m *machine.Machine, at machine.Word) {
	m.Note("store")
	c := m.Rows(at, m.ArgFloats("cStride"), len(acc))
	for r := range acc {
		for v := range acc[r] {
			m.Store(c.At(r, 64*v), acc[r][v])
		}
	}
}

type productTile struct {
	m       *machine.Machine
	a, b, c machine.Word
	rows    machine.Word // that are left, those of the tile included
	next    machine.Word // what to prefetch, some lines in each round
	values  int
}

// round is the number of steps of depth between two branches, which are predicted better the fewer there are.
const round = 8

// requested is how many lines of next are asked for in the first steps of a round, three of them for tiles of 12 rows: as
// much as rows of float32 that two panels are multiplied with, and few enough that memory keeps up. With two, PairwiseDot
// of 64 queries runs at 78 instead of 83 %, with four at 76. For lower tiles, which take as many steps for fewer rows, two.
func (t productTile) requested(steps int) int { return steps * (1 + t.m.TileRows/6) / round }

func (t productTile) emit(rows int) {
	m := t.m
	acc := newTile(m, rows, t.values)
	acc.begin(m, t.c, t.rows)

	m.Note("C += A·B")
	a := m.Rows(t.a, m.ArgFloats("aStride"), rows)
	b, depth := m.Word("b_k"), m.Arg("depth")
	m.Set(b, t.b)
	for _, steps := range []int{round, 1} {
		requests := steps == round
		m.While(depth, steps, "depth", func() {
			for k := range steps {
				column := make([]machine.Value, t.values)
				for v := range column {
					column[v] = m.Named("B[%d][%d]", k, v)
					m.Load(column[v], b.At(panelPitch*k+64*v))
				}
				t.outer(acc, column, a, k)
				if requests && t.requested(k+1) > t.requested(k) {
					m.PrefetchFar(t.next.At(64 * t.requested(k)))
				}
			}
			m.Advance(a, 4*steps)
			m.AddImm(b, panelPitch*steps)
			if requests {
				m.AddArg(t.next, "nextStride")
			}
		})
	}

	acc.store(m, t.c)
}

// factors is how many rows multiply the columns of B at a time: first all by one column, then all by the
// next. Row by row instead, each factor going straight into two FMAs, Intel's two 512-bit units
// settle at random into running at 93 or at 99 % of their peak.
const factors = 3

// outer adds the products of one depth, the factors of A k numbers on.
func (t productTile) outer(acc tile, column []machine.Value, a machine.Rows, k int) {
	m := t.m
	if len(column) == 1 {
		for r := range acc {
			m.FMASplat(acc[r][0], column[0], a.At(r, 4*k))
		}
		return
	}
	for first := 0; first < len(acc); first += factors {
		rows := acc[first:min(first+factors, len(acc))]
		f := make([]machine.Value, len(rows))
		for r := range rows {
			f[r] = m.Native("A[%d][%d]", first+r, k)
			m.Factor(f[r], a.At(first+r, 4*k))
		}
		for v := range column {
			for r := range rows {
				m.FMAFactor(rows[r][v], column[v], f[r])
			}
		}
	}
}

// down moves a row pointer down by the height of the tile.
func (t productTile) down(p machine.Word, stride string, rows int) {
	w := t.m.ArgFloats(stride)
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
