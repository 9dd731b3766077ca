package main

import (
	"fmt"

	"github.com/quern-go/quern/gen/machine"
)

// The dot-product family: sums over two vectors, in the chains of dot, for numbers of any format, of
// one pair or of one vector against many rows.

// measure is what a kernel sums: any number of sums, each over four chains of its own.
type measure struct {
	name, formula string
	sums          int
	// add adds 16 lanes to the chain c of every sum. It may overwrite x.
	add func(m *machine.Machine, c []machine.Value, x, y machine.Value)
}

var (
	dotProduct = measure{"Dot", "Σ x·y", 1, func(m *machine.Machine, c []machine.Value, x, y machine.Value) {
		m.FMA(c[0], x, y)
	}}
	squaredL2 = measure{"L2", "Σ (x-y)²", 1, func(m *machine.Machine, c []machine.Value, x, y machine.Value) {
		m.Sub(x, x, y)
		m.FMA(c[0], x, x)
	}}
	// cosineRow leaves out Σ x², which is the same for all rows.
	cosineRow = measure{"Cosine", "Σ x·y and Σ y²", 2, func(m *machine.Machine, c []machine.Value, x, y machine.Value) {
		m.FMA(c[0], x, y)
		m.FMA(c[1], y, y)
	}}
	cosinePair = measure{"Cosine", "Σ x·y, Σ y² and Σ x²", 3, func(m *machine.Machine, c []machine.Value, x, y machine.Value) {
		m.FMA(c[0], x, y)
		m.FMA(c[1], y, y)
		m.FMA(c[2], x, x)
	}}
)

// scaledL2 is Σ (x - scale·y)², the difference rounded once.
func scaledL2(scale machine.Value) measure {
	return measure{"L2", "Σ (x-scale·y)²", 1, func(m *machine.Machine, c []machine.Value, x, y machine.Value) {
		m.SubMul(x, scale, y)
		m.FMA(c[0], x, x)
	}}
}

// suffix and goType name a format in the manifest.
var (
	suffix = map[machine.Format]string{machine.Float32: "F32", machine.BFloat16: "BF16", machine.Float16: "F16", machine.Int8: "Int8"}
	goType = map[machine.Format]string{machine.Float32: "float32", machine.BFloat16: "uint16", machine.Float16: "uint16", machine.Int8: "int8"}
)

const (
	rowsParameters = "dim, stride, count int, index, last *uint32, ahead int"
	rowsDoc        = " of q and each of count rows of dim numbers, stride apart, or those that index names. The row ahead is prefetched: " +
		"that many bytes on, or that many bytes of index, but not beyond last."
	accDoc = " The 4x16 chains of each sum start from acc if resume is 1, and are left there unless it is nil."
)

// dots are the rows of the manifest for the family.
func dots() (rows []kernel) {
	for _, f := range []machine.Format{machine.Float32, machine.BFloat16, machine.Float16, machine.Int8} {
		for _, of := range []measure{dotProduct, squaredL2, cosineRow} {
			extra := ""
			if of.name == "L2" {
				extra, of.formula = ", scale float32", "Σ (x-scale·y)²"
			}
			acc := accDoc
			if of.sums > 1 {
				acc += " It must not be."
			}
			rows = append(rows, kernel{
				Name: of.name + "Rows" + suffix[f],
				Sig: fmt.Sprintf("func(dst, q *float32, rows *%s, %s, acc *float32, resume int%s)", goType[f],
					rowsParameters, extra),
				Doc:    "is " + of.formula + rowsDoc + acc,
				Work:   "dim*count",
				Budget: "Scanned",
				Text: func(m *machine.Machine) {
					if extra != "" {
						of = scaledL2(m.ArgSplat("scale"))
					}
					rowSums(m, of, f)
				},
			})
		}
	}
	for _, f := range []machine.Format{machine.Float32, machine.BFloat16, machine.Float16} {
		for _, of := range []measure{dotProduct, squaredL2, cosinePair} {
			if f == machine.Float32 && of.name == "Dot" {
				continue // gen/dot.go
			}
			acc := accDoc
			if of.sums > 1 {
				acc += " It must not be."
			}
			rows = append(rows, kernel{
				Name:   of.name + "Pair" + suffix[f],
				Sig:    fmt.Sprintf("func(sums *float32, x, y *%s, n int, acc *float32, resume int)", goType[f]),
				Doc:    "is " + of.formula + " over n numbers." + acc,
				Work:   "n",
				Budget: "Numbers",
				Text:   func(m *machine.Machine) { pairSums(m, of, f) },
			})
		}
	}
	for _, of := range []intMeasure{intDot, intL2, intCosine} {
		rows = append(rows, kernel{
			Name:   of.name + "Int8",
			Sig:    fmt.Sprintf("func(dst *int32, q, rows *int8, %s)", rowsParameters),
			Doc:    "is " + of.formula + rowsDoc + " dim is at most 32768, so that 32 bits hold the sums.",
			Work:   "dim*count",
			Budget: "Scanned",
			Text:   of.rows,
		})
	}
	return append(rows, kernel{
		Name:     "DotPairInt8",
		Sig:      "func(x, y *int8, n int) int32",
		Doc:      "is Σ x·y over n numbers, at most 32768, so that 32 bits hold the sum.",
		Work:     "n",
		Budget:   "Numbers",
		Text:     intDotPair,
		Extended: intDotPairVNNI,
	}, kernel{
		Name:   "HammingRows",
		Sig:    fmt.Sprintf("func(dst *int32, q, rows *uint64, %s)", rowsParameters),
		Doc:    "is the number of bits that differ" + rowsDoc,
		Work:   "2*dim*count",
		Budget: "Scanned",
		Text:   hammingRows,
	})
}

// pairSums writes the sums over one pair of vectors.
func pairSums(m *machine.Machine, of measure, f machine.Format) {
	s := sumsText{m: m, measure: of, x: f, y: f, argX: "x", argN: "n"}
	if s.split() {
		m.ConstBits("upper half", 0xffff0000)
	}
	s.emit(func() machine.Word { return m.Arg("y") }, machine.Word{})
	s.store(m.Arg("sums"))
}

// rowSums writes the sums over q and each row, a row after the other: memory is read in order, and q
// stays in the first-level cache.
//
// Of long rows that index names, one line for 64 numbers is prefetched, and the hardware, which sees that a
// row has begun, brings the others: it has more lines under way than it lets a program ask for. Rows of 768 float32
// by random index out of 2 GiB, Granite Rapids: 5.1 → 8.6 GB/s, 7.6 → 10.7 in large pages; rows of 128, 7.8 → 7.3.
func rowSums(m *machine.Machine, of measure, f machine.Format) {
	const long = 2 << 10 // bytes
	dst, all := m.Arg("dst"), m.Word("all")
	m.SetImm(all, 1)
	m.If(m.Arg("index"), 1, func() {
		m.If(m.Arg("dim"), long/f.Size(), func() { m.SetImm(all, 0) })
	})
	eachRow(m, f.Size(), func(row, ahead machine.Word) {
		s := sumsText{m: m, measure: of, x: machine.Float32, y: f, argX: "q", argN: "dim", prefetch: true, all: all}
		s.emit(func() machine.Word {
			y := m.Word("y")
			m.Set(y, row)
			return y
		}, ahead)
		s.store(dst)
		m.AddImm(dst, 4*of.sums)
	})
}

// eachRow runs body for every row: those that index names, or without one, those that lie a stride
// apart. Ahead is where a later row lies.
func eachRow(m *machine.Machine, size int, body func(row, ahead machine.Word)) {
	rows, count, index := m.Arg("rows"), m.Arg("count"), m.Arg("index")
	m.While(count, 1, "rows", func() {
		row, ahead, stride := m.Word("row"), m.Word("ahead"), m.Arg("stride")
		for s := size; s > 1; s /= 2 {
			m.Shift(stride, 1)
		}
		m.IfElse(index, 1, func() {
			at := func(w, p machine.Word) {
				m.Index(w, p.At(0))
				m.MulWord(w, stride)
				m.AddWord(w, rows)
			}
			at(row, index)
			later := m.Arg("ahead")
			m.AddWord(later, index)
			m.MinWord(later, m.Arg("last"))
			at(ahead, later)
			m.AddImm(index, 4)
		}, func() {
			m.Set(row, rows)
			m.Set(ahead, m.Arg("ahead"))
			m.AddWord(ahead, rows)
			m.AddWord(rows, stride)
		})
		body(row, ahead)
	})
}

// sumsText sums over two vectors in the order of dot: four chains of 16 lanes for each sum.
type sumsText struct {
	m *machine.Machine
	measure
	x, y       machine.Format
	argX, argN string // parameters: the vector x, the number of elements
	prefetch   bool
	all        machine.Word // not 0: every line is prefetched, and not only one for 64 numbers
	result     []machine.Value
}

// together is the number of chains that fit the registers at once, with x and y.
func (s *sumsText) together() int {
	chains := 4
	for (s.sums*chains+2)*machine.LogicalLanes/s.m.Lanes > s.m.Registers {
		chains /= 2
	}
	return chains
}

// emit leaves the sums in lane 0 of result. Where not all chains fit the registers, the vectors are
// gone through more than once, each time for some of the chains and with the steps of these only: no
// number is read twice.
func (s *sumsText) emit(startY func() machine.Word, ahead machine.Word) {
	m := s.m
	together := s.together()
	chain := make([][]machine.Value, 4) // by chain and sum
	for lo := 0; lo < 4; lo += together {
		hi := lo + together
		for c := lo; c < hi; c++ {
			chain[c] = nil
			for k := range s.sums {
				chain[c] = append(chain[c], m.Named("s%d_c%d", k, c))
			}
		}
		chains := func(emit func(v machine.Value, at int)) {
			for c := lo; c < hi; c++ {
				for k, v := range chain[c] {
					emit(v, 64*(4*k+c))
				}
			}
		}
		m.IfElse(m.Arg("resume"), 1, func() {
			acc := m.Arg("acc")
			chains(func(v machine.Value, at int) { m.Load(v, acc.At(at)) })
		}, func() {
			chains(func(v machine.Value, _ int) { m.Zero(v) })
		})
		s.pass(chain, lo, hi, startY(), ahead)
		acc := m.Arg("acc")
		store := func() { chains(func(v machine.Value, at int) { m.Store(acc.At(at), v) }) }
		if together < 4 {
			store()
		} else {
			m.If(acc, 1, store)
		}
	}

	m.Note("(c0+c1) + (c2+c3), then across lanes, then + 0")
	s.result = nil
	zero := m.Named("zero")
	m.Zero(zero)
	for k := range s.sums {
		var c []machine.Value
		for i := range 4 {
			if together == 4 {
				c = append(c, chain[i][k])
				continue
			}
			c = append(c, m.Named("c%d", i))
			m.Load(c[i], m.Arg("acc").At(64*(4*k+i)))
		}
		m.Add(c[0], c[0], c[1])
		m.Add(c[2], c[2], c[3])
		m.Add(c[0], c[0], c[2])
		m.FoldAdd(c[0])
		m.Add(c[0], c[0], zero)
		s.result = append(s.result, c[0])
	}
}

// pass goes through the vectors for the chains from lo up to hi.
func (s *sumsText) pass(chain [][]machine.Value, lo, hi int, y, ahead machine.Word) {
	m := s.m
	x, n := m.Arg(s.argX), m.Arg(s.argN)
	step := func(c int) {
		xv, yv := m.Named("x"), m.Named("y")
		m.LoadAs(s.x, xv, x.At(16*c*s.x.Size()))
		m.LoadAs(s.y, yv, y.At(16*c*s.y.Size()))
		s.add(m, chain[c], xv, yv)
	}
	prefetch := func() {
		if s.prefetch && lo == 0 {
			m.PrefetchFar(ahead.At(0))
			if lines := s.y.Size(); lines > 1 {
				m.If(s.all, 1, func() {
					for line := 1; line < lines; line++ {
						m.PrefetchFar(ahead.At(64 * line))
					}
				})
			}
		}
	}
	if s.split() {
		s.splitLoop(chain, x, y, n)
	} else {
		m.While(n, 64, "chains", func() {
			prefetch()
			for c := lo; c < hi; c++ {
				step(c)
			}
			m.AddImm(x, 64*s.x.Size())
			m.AddImm(y, 64*s.y.Size())
			if s.prefetch && lo == 0 {
				m.AddImm(ahead, 64*s.y.Size())
			}
		})
	}
	m.Note("what is left: full vectors of the first chains, then a part of the next")
	m.If(n, 1, func() {
		prefetch()
		for c := lo; c < hi; c++ {
			m.If(n, 16*(c+1), func() { step(c) })
		}
		rest := m.Word("rest")
		m.Set(rest, n)
		m.AndImm(rest, 15)
		m.If(rest, 1, func() {
			part := func() {
				m.SubWord(n, rest)
				xv, yv := m.Named("x"), m.Named("y")
				for _, v := range []struct {
					machine.Value
					machine.Format
					p machine.Word
				}{{xv, s.x, x}, {yv, s.y, y}} {
					for range v.Size() {
						m.AddWord(v.p, n)
					}
					m.LoadTailAs(v.Format, v.Value, v.p.At(0), m.TailAs(v.Format, rest))
				}
				s.pick(n, lo, hi-1, func(c int) { s.add(m, chain[c], xv, yv) })
			}
			if hi < 4 {
				m.IfElse(n, 16*hi, func() {}, part)
			} else {
				m.If(n, 16*lo, part)
			}
		})
	})
}

// split reports whether both vectors are bfloat16 and the registers have room to read them split.
func (s *sumsText) split() bool {
	return s.x == machine.BFloat16 && s.y == machine.BFloat16 && s.together() == 4 && s.sums == 1
}

// splitLoop is the loop over 64 numbers for bfloat16. Of two chains, one takes the numbers at even
// places and one those at odd places; a sum stays the same wherever its lane is, and Zip
// brings the lanes back into order at the end.
func (s *sumsText) splitLoop(chain [][]machine.Value, x, y, n machine.Word) {
	m := s.m
	m.If(n, 64, func() {
		for c := 0; c < 4; c += 2 {
			m.Unzip(chain[c][0], chain[c+1][0])
		}
		m.While(n, 64, "split", func() {
			for c := 0; c < 4; c += 2 {
				xe, xo, ye, yo := m.Named("x_even"), m.Named("x_odd"), m.Named("y_even"), m.Named("y_odd")
				m.LoadSplit(xe, xo, x.At(32*c))
				m.LoadSplit(ye, yo, y.At(32*c))
				s.add(m, chain[c], xe, ye)
				s.add(m, chain[c+1], xo, yo)
			}
			m.AddImm(x, 128)
			m.AddImm(y, 128)
		})
		for c := 0; c < 4; c += 2 {
			m.Zip(chain[c][0], chain[c+1][0])
		}
	})
}

// pick emits a choice: the chain from lo to hi that full, a multiple of 16, comes to.
func (s *sumsText) pick(full machine.Word, lo, hi int, emit func(c int)) {
	if lo == hi {
		emit(lo)
		return
	}
	s.m.IfElse(full, 16*hi, func() { emit(hi) }, func() { s.pick(full, lo, hi-1, emit) })
}

func (s *sumsText) store(dst machine.Word) {
	for k, v := range s.result {
		s.m.StoreLane(dst.At(4*k), v)
	}
}

// intMeasure is a measure of signed bytes, exact: what it adds to is one chain for each sum.
type intMeasure measure

var (
	intDot = intMeasure{"Dot", "Σ x·y", 1, func(m *machine.Machine, sum []machine.Value, x, y machine.Value) {
		m.MulPairs(sum[0], x, y)
	}}
	intL2 = intMeasure{"L2", "Σ (x-y)²", 1, func(m *machine.Machine, sum []machine.Value, x, y machine.Value) {
		m.Sub16(x, x, y)
		m.MulPairs(sum[0], x, x)
	}}
	intCosine = intMeasure{"Cosine", "Σ x·y, Σ y² and Σ x²", 3, func(m *machine.Machine, sum []machine.Value, x, y machine.Value) {
		m.MulPairs(sum[0], x, y)
		m.MulPairs(sum[1], y, y)
		m.MulPairs(sum[2], x, x)
	}}
)

// rows writes the sums of q and each row.
func (of intMeasure) rows(m *machine.Machine) {
	dst := m.Arg("dst")
	eachRow(m, 1, func(row, ahead machine.Word) {
		for k, v := range of.emit(m, m.Arg("q"), row, m.Arg("dim"), func() {
			m.PrefetchFar(ahead.At(0))
			m.AddImm(ahead, 64)
		}) {
			m.StoreLane(dst.At(4*k), v)
		}
		m.AddImm(dst, 4*of.sums)
	})
}

// emit returns the sums over n numbers in lane 0; each is called for every 64 numbers.
func (of intMeasure) emit(m *machine.Machine, x, y, n machine.Word, each func()) []machine.Value {
	var sum []machine.Value
	for k := range of.sums {
		sum = append(sum, m.Named("sum%d", k))
		m.Zero(sum[k])
	}
	step := func(load func(v machine.Value, a machine.Addr), at int) {
		xv, yv := m.Named("x"), m.Named("y")
		load(xv, x.At(at))
		load(yv, y.At(at))
		of.add(m, sum, xv, yv)
	}
	m.While(n, 64, "lines", func() {
		each()
		step(m.LoadInt16, 0)
		step(m.LoadInt16, 32)
		m.AddImm(x, 64)
		m.AddImm(y, 64)
	})
	m.If(n, 1, func() {
		each()
		m.While(n, 32, "half_line", func() {
			step(m.LoadInt16, 0)
			m.AddImm(x, 32)
			m.AddImm(y, 32)
		})
		m.If(n, 1, func() {
			t := m.TailAs(machine.Int8, n)
			step(func(v machine.Value, a machine.Addr) { m.LoadTailInt16(v, a, t) }, 0)
		})
	})
	for _, v := range sum {
		m.FoldInt(v)
	}
	return sum
}

func intDotPair(m *machine.Machine) {
	m.Return(intDot.emit(m, m.Arg("x"), m.Arg("y"), m.Arg("n"), func() {})[0])
}

// intDotPairVNNI is intDotPair with products of unsigned by signed bytes: Σ x·y = Σ (x+128)·y - 128·Σ y,
// where x+128 is x with its sign bit changed. It does in 12 steps what the other does in 24, with half the
// instructions a step: TestDotTargets has both, for n=768.
func intDotPairVNNI(m *machine.Machine) {
	sign, ones := m.ConstBits("sign bits", 0x80808080), m.ConstBits("ones", 0x01010101)
	x, y, n := m.Arg("x"), m.Arg("y"), m.Arg("n")
	sum, sumY := make([]machine.Value, 2), make([]machine.Value, 2)
	for i := range sum {
		sum[i], sumY[i] = m.Named("sum%d", i), m.Named("sumY%d", i)
		m.Zero(sum[i])
		m.Zero(sumY[i])
	}
	step := func(i int, load func(v machine.Value, a machine.Addr), at int) {
		xv, yv := m.Named("x"), m.Named("y")
		load(xv, x.At(at))
		load(yv, y.At(at))
		m.Xor(xv, xv, sign)
		m.DotBytes(sum[i], xv, yv)
		m.DotBytes(sumY[i], ones, yv)
	}
	for _, lines := range []int{2, 1} {
		m.While(n, 64*lines, "lines", func() {
			for i := range lines {
				step(i, m.Load, 64*i)
			}
			m.AddImm(x, 64*lines)
			m.AddImm(y, 64*lines)
		})
	}
	m.If(n, 1, func() {
		t := m.TailAs(machine.Int8, n)
		step(1, func(v machine.Value, a machine.Addr) { m.LoadTailBytes(v, a, t) }, 0)
	})
	m.IntAdd(sum[0], sum[0], sum[1])
	m.IntAdd(sumY[0], sumY[0], sumY[1])
	m.ShiftLeft(sumY[0], sumY[0], 7)
	m.IntSub(sum[0], sum[0], sumY[0])
	m.FoldInt(sum[0])
	m.Return(sum[0])
}

// hammingRows counts the bits in which q and each row differ.
func hammingRows(m *machine.Machine) {
	dst := m.Arg("dst")
	counter := m.BitCounter()
	eachRow(m, 8, func(y, ahead machine.Word) {
		x, n := m.Arg("q"), m.Arg("dim")
		sum := m.Named("sum")
		m.Zero(sum)
		step := func(load func(v machine.Value, a machine.Addr)) {
			xv, yv := m.Named("x"), m.Named("y")
			m.PrefetchFar(ahead.At(0))
			load(xv, x.At(0))
			load(yv, y.At(0))
			m.Xor(xv, xv, yv)
			m.CountBits(sum, xv, counter)
		}
		m.While(n, 8, "lines", func() {
			step(m.Load)
			for _, p := range []machine.Word{x, y, ahead} {
				m.AddImm(p, 64)
			}
		})
		m.If(n, 1, func() {
			m.Shift(n, 1) // lanes of 32 bits
			t := m.Tail(n)
			step(func(v machine.Value, a machine.Addr) { m.LoadTail(v, a, t) })
		})
		m.FoldInt(sum)
		m.StoreLane(dst.At(0), sum)
		m.AddImm(dst, 4)
	})
}
