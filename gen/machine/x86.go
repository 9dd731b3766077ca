package machine

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// x86Backend emits AVX2 with FMA, or AVX-512 (F, BW, DQ, VL). The two differ in the width of a
// register, in how masks work and in where constants live.
type x86Backend struct {
	m      *Machine
	wide   bool // AVX-512
	shared map[string]operand.Mem
}

func newX86(m *Machine) *x86Backend {
	return &x86Backend{m: m, wide: m.Lanes == 16, shared: map[string]operand.Mem{}}
}

func (b *x86Backend) vector() reg.VecVirtual {
	if b.wide {
		return b.m.ZMM()
	}
	return b.m.YMM()
}

// table returns the address of a read-only table of 32-bit words, one per file.
func (b *x86Backend) table(name string, words ...uint32) operand.Mem {
	if a, ok := b.shared[name]; ok {
		return a
	}
	g := ir.NewStaticGlobal(name)
	g.Attributes = attr.RODATA | attr.NOPTR
	for _, w := range words {
		g.Append(operand.U32(w))
	}
	b.m.file.AddSection(g)
	b.shared[name] = g.Base()
	return g.Base()
}

func repeat(w uint32, n int) []uint32 {
	words := make([]uint32, n)
	for i := range words {
		words[i] = w
	}
	return words
}

// Data movement.

// zero says that it reads nothing: liveness would otherwise see d in use from the start.
func (b *x86Backend) zero(d operand.Op) {
	xor := x86.VXORPS
	if b.wide {
		xor = func(ops ...operand.Op) (*ir.Instruction, error) { return x86.VPXORD(ops...) }
	}
	i, err := xor(d, d, d)
	must(err)
	i.Inputs, i.CancellingInputs = nil, false
	b.m.emit(i, nil)
}

func (b *x86Backend) copy(d, s operand.Op) {
	if _, mem := s.(operand.Mem); mem {
		b.m.emit(x86.VMOVUPS(s, d))
	} else {
		b.m.emit(x86.VMOVAPS(s, d))
	}
}

func (b *x86Backend) load(d operand.Op, a operand.Mem)  { b.m.emit(x86.VMOVUPS(a, d)) }
func (b *x86Backend) store(a operand.Mem, s operand.Op) { b.m.emit(x86.VMOVUPS(s, a)) }
func (b *x86Backend) splat(d operand.Op, a operand.Mem) { b.m.emit(x86.VBROADCASTSS(a, d)) }

// factor replicates: x86 multiplies by whole registers only.
func (b *x86Backend) factor(d operand.Op, a operand.Mem) { b.splat(d, a) }

func (b *x86Backend) storeLane(a operand.Mem, s operand.Op) {
	b.m.emit(x86.VMOVSS(s.(reg.Vec).AsX(), a))
}

func (b *x86Backend) prefetch(a operand.Mem)    { b.m.emit(x86.PREFETCHT0(a)) }
func (b *x86Backend) prefetchFar(a operand.Mem) { b.m.emit(x86.PREFETCHT1(a)) }

// constant keeps constants in registers on AVX-512, which has 32, and in memory on AVX2.
func (b *x86Backend) constant(bits uint32) operand.Op {
	if !b.wide {
		return b.table(fmt.Sprintf("x8_%08x", bits), repeat(bits, 8)...)
	}
	v := b.vector()
	b.m.emit(x86.VBROADCASTSS(b.table(fmt.Sprintf("x1_%08x", bits), bits), v))
	return v
}

func (b *x86Backend) tail(n Word) Tail {
	t := Tail{n: n}
	if b.wide {
		w, k := b.m.GP64(), b.m.K()
		b.m.emit(x86.MOVQ(operand.I32(-1), w))
		b.m.emit(x86.BZHIQ(n.reg, w, w))
		b.m.emit(x86.KMOVQ(w, k))
		t.regs = []operand.Op{k}
		return t
	}
	// A window into sixteen words of ones and sixteen of zeros, sliding with n.
	base, i := b.m.GP64(), b.m.GP64()
	b.m.emit(x86.LEAQ(b.table("tail_window", append(repeat(^uint32(0), 16), repeat(0, 16)...)...), base))
	b.m.emit(x86.MOVQ(operand.I32(16), i))
	b.m.emit(x86.SUBQ(n.reg, i))
	for r := range 2 {
		v := b.vector()
		b.m.emit(x86.VMOVUPS(operand.Mem{Base: base, Index: i, Scale: 4, Disp: 32 * r}, v))
		t.regs = append(t.regs, v)
	}
	return t
}

func (b *x86Backend) loadTail(d []operand.Op, a operand.Mem, t Tail) {
	if b.wide {
		b.m.emit(x86.VMOVUPS_Z(a, t.regs[0], d[0]))
		return
	}
	for r := range d {
		b.m.emit(x86.VMASKMOVPS(a.Offset(32*r), t.regs[r], d[r]))
	}
}

func (b *x86Backend) storeTail(a operand.Mem, s []operand.Op, t Tail) {
	if b.wide {
		b.m.emit(x86.VMOVUPS(s[0], t.regs[0], a))
		return
	}
	for r := range s {
		b.m.emit(x86.VMASKMOVPS(s[r], t.regs[r], a.Offset(32*r)))
	}
}

// Formats.

func (b *x86Backend) loadAs(f Format, d []operand.Op, a operand.Mem) {
	for r := range d {
		b.widen(f, d[r], a.Offset(r*b.m.Lanes*f.Size()))
	}
}

// widen converts the numbers at s, memory or the lower part of a register, to float32.
func (b *x86Backend) widen(f Format, d, s operand.Op) {
	switch f {
	case BFloat16:
		b.m.emit(x86.VPMOVZXWD(s, d))
		b.shiftLeft(d, d, 16)
	case Float16:
		b.m.emit(x86.VCVTPH2PS(s, d))
	case Int8:
		b.m.emit(x86.VPMOVSXBD(s, d))
		b.toFloat(d, d)
	}
}

func (b *x86Backend) loadSplit(even, odd []operand.Op, a operand.Mem) {
	upper := b.m.ConstBits("upper half", 0xffff0000).regs[0]
	for r := range odd {
		b.load(odd[r], a.Offset(4*b.m.Lanes*r))
		b.shiftLeft(even[r], odd[r], 16)
		b.and(odd[r], odd[r], upper)
	}
}

func (b *x86Backend) zip(x, y []operand.Op) {
	if b.wide {
		b.permutePair(x, y, func(i uint32) uint32 { return i/2 + i%2*16 })
		return
	}
	var out []operand.Op
	for r := range x {
		l, h, first, second := b.vector(), b.vector(), b.vector(), b.vector()
		b.m.emit(x86.VUNPCKLPS(y[r], x[r], l))
		b.m.emit(x86.VUNPCKHPS(y[r], x[r], h))
		b.m.emit(x86.VPERM2F128(operand.U8(0x20), h, l, first))
		b.m.emit(x86.VPERM2F128(operand.U8(0x31), h, l, second))
		out = append(out, first, second)
	}
	b.copyPair(x, y, out)
}

func (b *x86Backend) unzip(x, y []operand.Op) {
	if b.wide {
		b.permutePair(x, y, func(i uint32) uint32 { return i%16*2 + i/16 })
		return
	}
	var even, odd []operand.Op
	for _, pair := range [][]operand.Op{x, y} {
		every := func(places uint8) operand.Op {
			v := b.vector()
			b.m.emit(x86.VSHUFPS(operand.U8(places), pair[1], pair[0], v))
			b.m.emit(x86.VPERMPD(operand.U8(0b_11_01_10_00), v, v)) // shuffling works within 128 bits
			return v
		}
		even, odd = append(even, every(0b_10_00_10_00)), append(odd, every(0b_11_01_11_01))
	}
	b.copyPair(x, y, append(even, odd...))
}

// permutePair makes lane i of x and y, 32 lanes in all, from the lane that from(i) names.
func (b *x86Backend) permutePair(x, y []operand.Op, from func(i uint32) uint32) {
	var lanes []uint32
	for i := range uint32(32) {
		lanes = append(lanes, from(i))
	}
	low, high := b.vector(), b.vector()
	table := b.table(fmt.Sprintf("lanes_%d_%d", lanes[0], lanes[1]), lanes...)
	b.load(low, table)
	b.load(high, table.Offset(64))
	b.m.emit(x86.VPERMI2PS(y[0], x[0], low))
	b.m.emit(x86.VPERMI2PS(y[0], x[0], high))
	b.copyPair(x, y, []operand.Op{low, high})
}

func (b *x86Backend) copyPair(x, y, from []operand.Op) {
	for r := range x {
		b.copy(x[r], from[r])
		b.copy(y[r], from[len(x)+r])
	}
}

// narrowTail needs no window on AVX2, which has no masks for less than 32 bits.
func (b *x86Backend) narrowTail(n Word) Tail {
	if b.wide {
		return b.tail(n)
	}
	return Tail{n: n}
}

func (b *x86Backend) loadTailAs(f Format, d []operand.Op, a operand.Mem, t Tail) {
	if b.wide {
		switch f {
		case BFloat16:
			b.m.emit(x86.VPMOVZXWD_Z(a, t.regs[0], d[0]))
			b.shiftLeft(d[0], d[0], 16)
		case Float16:
			b.m.emit(x86.VCVTPH2PS_Z(a, t.regs[0], d[0]))
		case Int8:
			b.m.emit(x86.VPMOVSXBD_Z(a, t.regs[0], d[0]))
			b.toFloat(d[0], d[0])
		}
		return
	}
	b.loadPart(d[0], d[1], a, t.n, f.Size())
	x, high := d[0].(reg.Vec).AsX(), d[1].(reg.Vec).AsX()
	if f.Size() == 1 {
		b.m.emit(x86.VPSRLDQ(operand.U8(8), x, high))
	} else {
		b.m.emit(x86.VEXTRACTI128(operand.U8(1), d[0], high))
	}
	b.widen(f, d[0], x)
	b.widen(f, d[1], high)
}

// loadPart reads n elements of some size, less than 32 bytes in all, and fills up with zeros. It
// puts together the pieces of 1, 2 and 4 bytes at the end in a word, those of 8 and 16 before them
// in d; it overwrites spare.
func (b *x86Backend) loadPart(d, spare operand.Op, a operand.Mem, n Word, size int) {
	end, rest := b.m.GP64(), b.m.GP64()
	at := a
	at.Index, at.Scale = n.reg, uint8(size)
	b.m.emit(x86.LEAQ(at, end))
	piece := operand.Mem{Base: end}
	b.move(rest, operand.I32(0))
	for _, bytes := range []int{1, 2, 4} {
		b.ifPiece(n, size, bytes, func() {
			b.m.emit(x86.SUBQ(operand.I32(bytes), end))
			w := b.m.GP64()
			switch bytes {
			case 1:
				b.m.emit(x86.MOVBLZX(piece, rest.As32()))
				return
			case 2:
				b.m.emit(x86.MOVWLZX(piece, w.As32()))
			case 4:
				b.m.emit(x86.MOVL(piece, w.As32()))
			}
			b.m.emit(x86.SHLQ(operand.U8(8*bytes), rest))
			b.m.emit(x86.ORQ(w, rest))
		})
	}
	x := d.(reg.Vec).AsX()
	i, err := x86.VMOVQ(rest, x)
	must(err)
	i.Outputs = []operand.Op{d} // VEX instructions clear the rest of the register
	b.m.emit(i, nil)
	b.ifPiece(n, size, 8, func() {
		b.m.emit(x86.SUBQ(operand.I32(8), end))
		first := spare.(reg.Vec).AsX()
		b.m.emit(x86.VMOVQ(piece, first))
		b.m.emit(x86.VPUNPCKLQDQ(x, first, x))
	})
	b.ifPiece(n, size, 16, func() {
		b.m.emit(x86.VINSERTI128(operand.U8(1), x, d, d))
		b.m.emit(x86.VINSERTI128(operand.U8(0), a, d, d))
	})
}

// ifPiece runs body if the bytes of n elements have a piece of that many bytes, a power of two.
func (b *x86Backend) ifPiece(n Word, size, bytes int, body func()) {
	if bytes < size {
		return
	}
	none := b.m.label("no_piece")
	b.m.emit(x86.TESTB(operand.U8(bytes/size), n.reg.As8()))
	b.m.emit(x86.JEQ(operand.LabelRef(none)))
	body()
	b.m.fn.AddLabel(ir.Label(none))
}

func (b *x86Backend) storeAs(f Format, a operand.Mem, s []operand.Op) {
	if b.wide {
		b.narrow(f, s, a)
	} else {
		b.m.emit(x86.VMOVDQU(b.narrowed(f, s), a))
	}
}

// narrow writes 16 lanes on AVX-512; operands are memory, or a mask and memory.
func (b *x86Backend) narrow(f Format, s []operand.Op, to ...operand.Op) {
	if f == Float16 {
		b.m.emit(x86.VCVTPS2PH(append([]operand.Op{operand.U8(0), s[0]}, to...)...))
		return
	}
	t := b.vector()
	b.m.emit(x86.VPSRLD(operand.U8(16), s[0], t))
	b.m.emit(x86.VPMOVDW(append([]operand.Op{t}, to...)...))
}

// narrowed returns 16 lanes as 16-bit numbers in one register on AVX2.
func (b *x86Backend) narrowed(f Format, s []operand.Op) reg.VecVirtual {
	l, h := b.m.YMM(), b.m.YMM()
	if f == Float16 {
		b.m.emit(x86.VCVTPS2PH(operand.U8(0), s[0], l.AsX()))
		b.m.emit(x86.VCVTPS2PH(operand.U8(0), s[1], h.AsX()))
		b.m.emit(x86.VINSERTI128(operand.U8(1), h.AsX(), l, l))
		return l
	}
	b.m.emit(x86.VPSRLD(operand.U8(16), s[0], l))
	b.m.emit(x86.VPSRLD(operand.U8(16), s[1], h))
	b.m.emit(x86.VPACKUSDW(h, l, l))
	b.m.emit(x86.VPERMQ(operand.U8(0b_11_01_10_00), l, l)) // packing works within 128 bits
	return l
}

func (b *x86Backend) storeTailAs(f Format, a operand.Mem, s []operand.Op, t Tail) {
	if b.wide {
		b.narrow(f, s, t.regs[0], a)
		return
	}
	y := b.narrowed(f, s)
	x, p := y.AsX(), b.m.GP64()
	b.m.emit(x86.LEAQ(a, p))
	piece := operand.Mem{Base: p}
	for _, bytes := range []int{16, 8, 4, 2} {
		b.ifPiece(t.n, f.Size(), bytes, func() {
			switch bytes {
			case 16:
				b.m.emit(x86.VMOVDQU(x, piece))
				b.m.emit(x86.VEXTRACTI128(operand.U8(1), y, x))
			case 8:
				b.m.emit(x86.VMOVQ(x, piece))
			case 4:
				b.m.emit(x86.VMOVD(x, piece))
			case 2:
				b.m.emit(x86.VPEXTRW(operand.U8(0), x, piece))
			}
			if bytes < 16 {
				b.m.emit(x86.VPSRLDQ(operand.U8(bytes), x, x))
			}
			b.m.emit(x86.ADDQ(operand.I32(bytes), p))
		})
	}
}

func (b *x86Backend) storeBytes(a operand.Mem, s []operand.Op) {
	if b.wide {
		b.m.emit(x86.VPMOVSDB(s[0], a))
		return
	}
	words, high := b.m.YMM(), b.m.XMM()
	b.m.emit(x86.VPACKSSDW(s[1], s[0], words))
	b.m.emit(x86.VPERMQ(operand.U8(0b_11_01_10_00), words, words)) // packing works within 128 bits
	b.m.emit(x86.VEXTRACTI128(operand.U8(1), words, high))
	b.m.emit(x86.VPACKSSWB(high, words.AsX(), high))
	b.m.emit(x86.VMOVDQU(high, a))
}

// Arithmetic. Go's operand order is the reverse of Intel's: the last source comes first.

func (b *x86Backend) add(d, x, y operand.Op) { b.m.emit(x86.VADDPS(y, x, d)) }
func (b *x86Backend) sub(d, x, y operand.Op) { b.m.emit(x86.VSUBPS(y, x, d)) }
func (b *x86Backend) mul(d, x, y operand.Op) { b.m.emit(x86.VMULPS(y, x, d)) }
func (b *x86Backend) div(d, x, y operand.Op) { b.m.emit(x86.VDIVPS(y, x, d)) }

// max keeps the accumulator as Intel's second source, which MAXPS returns for NaN and for equals.
func (b *x86Backend) max(acc, x operand.Op) { b.m.emit(x86.VMAXPS(acc, x, acc)) }

// The last source, first in Go's order, is what comes out of a comparison with NaN.
func (b *x86Backend) atLeast(d, x, bound operand.Op) { b.m.emit(x86.VMAXPS(x, b.inRegister(bound), d)) }
func (b *x86Backend) atMost(d, x, bound operand.Op)  { b.m.emit(x86.VMINPS(x, b.inRegister(bound), d)) }

// inRegister loads a constant that is in memory.
func (b *x86Backend) inRegister(s operand.Op) operand.Op {
	a, mem := s.(operand.Mem)
	if !mem {
		return s
	}
	v := b.vector()
	b.load(v, a)
	return v
}

func (b *x86Backend) fma(acc, x, y operand.Op)            { b.m.emit(x86.VFMADD231PS(y, x, acc)) }
func (b *x86Backend) fmaFactor(acc, x, factor operand.Op) { b.m.emit(x86.VFMADD231PS(factor, x, acc)) }

func (b *x86Backend) fmaLoad(acc, x operand.Op, a operand.Mem) { b.fma(acc, x, a) }

func (b *x86Backend) fmaSplat(acc, x operand.Op, a operand.Mem) {
	if b.wide {
		b.m.emit(x86.VFMADD231PS_BCST(a, x, acc))
		return
	}
	f := b.vector()
	b.factor(f, a)
	b.fmaFactor(acc, x, f)
}

func (b *x86Backend) mulAdd(p, f, c operand.Op) { b.m.emit(x86.VFMADD213PS(c, f, p)) }
func (b *x86Backend) fms(acc, x, y operand.Op)  { b.m.emit(x86.VFMSUB231PS(y, x, acc)) }

func (b *x86Backend) subMul(acc, x, y operand.Op) { b.m.emit(x86.VFNMADD231PS(y, x, acc)) }

func (b *x86Backend) round(d, x operand.Op) {
	if b.wide {
		b.m.emit(x86.VRNDSCALEPS(operand.U8(0), x, d))
	} else {
		b.m.emit(x86.VROUNDPS(operand.U8(0), x, d))
	}
}

// Bits and integers.

func (b *x86Backend) toInt(d, x operand.Op)     { b.m.emit(x86.VCVTPS2DQ(x, d)) }
func (b *x86Backend) toFloat(d, x operand.Op)   { b.m.emit(x86.VCVTDQ2PS(x, d)) }
func (b *x86Backend) intAdd(d, x, y operand.Op) { b.m.emit(x86.VPADDD(y, x, d)) }
func (b *x86Backend) intSub(d, x, y operand.Op) { b.m.emit(x86.VPSUBD(y, x, d)) }

func (b *x86Backend) and(d, x, y operand.Op) {
	if b.wide {
		b.m.emit(x86.VPANDD(y, x, d))
	} else {
		b.m.emit(x86.VPAND(y, x, d))
	}
}

func (b *x86Backend) or(d, x, y operand.Op) {
	if b.wide {
		b.m.emit(x86.VPORD(y, x, d))
	} else {
		b.m.emit(x86.VPOR(y, x, d))
	}
}

func (b *x86Backend) xor(d, x, y operand.Op) {
	if b.wide {
		b.m.emit(x86.VPXORD(y, x, d))
	} else {
		b.m.emit(x86.VPXOR(y, x, d))
	}
}

func (b *x86Backend) shiftLeft(d, x operand.Op, n uint8)  { b.m.emit(x86.VPSLLD(operand.U8(n), x, d)) }
func (b *x86Backend) shiftRight(d, x operand.Op, n uint8) { b.m.emit(x86.VPSRAD(operand.U8(n), x, d)) }

// Small integers.

func (b *x86Backend) loadInt16(d []operand.Op, a operand.Mem) {
	for r := range d {
		b.m.emit(x86.VPMOVSXBW(a.Offset(2*b.m.Lanes*r), d[r]))
	}
}

func (b *x86Backend) loadTailInt16(d []operand.Op, a operand.Mem, t Tail) {
	if b.wide {
		b.m.emit(x86.VPMOVSXBW_Z(a, t.regs[0], d[0]))
		return
	}
	b.loadPart(d[0], d[1], a, t.n, 1)
	high := d[1].(reg.Vec).AsX()
	b.m.emit(x86.VEXTRACTI128(operand.U8(1), d[0], high))
	b.m.emit(x86.VPMOVSXBW(d[0].(reg.Vec).AsX(), d[0]))
	b.m.emit(x86.VPMOVSXBW(high, d[1]))
}

func (b *x86Backend) sub16(d, x, y operand.Op) { b.m.emit(x86.VPSUBW(y, x, d)) }

func (b *x86Backend) mulPairs(acc, x, y operand.Op) {
	t := b.vector()
	b.m.emit(x86.VPMADDWD(y, x, t))
	b.m.emit(x86.VPADDD(t, acc, acc))
}

func (b *x86Backend) loadTailBytes(d []operand.Op, a operand.Mem, t Tail) {
	b.m.emit(x86.VMOVDQU8_Z(a, t.regs[0], d[0]))
}

func (b *x86Backend) dotBytes(acc, x, y operand.Op) { b.m.emit(x86.VPDPBUSD(y, x, acc)) }

// bitCounter holds the number of bits of 0 to 15, a mask of four bits, and zero.
func (b *x86Backend) bitCounter() []operand.Op {
	counts, low, zero := b.vector(), b.vector(), b.vector()
	var table []uint32
	for range b.m.Lanes / 4 {
		table = append(table, 0x02010100, 0x03020201, 0x03020201, 0x04030302)
	}
	b.load(counts, b.table("bit_counts", table...))
	b.load(low, b.table("low_nibbles", repeat(0x0f0f0f0f, b.m.Lanes)...))
	b.zero(zero)
	return []operand.Op{counts, low, zero}
}

// countBits looks up the bits of the lower and the upper half of each byte; VPSADBW sums bytes.
func (b *x86Backend) countBits(acc, x operand.Op, counter []operand.Op) {
	counts, low, zero := counter[0], counter[1], counter[2]
	l, h := b.vector(), b.vector()
	b.and(l, x, low)
	b.m.emit(x86.VPSRLD(operand.U8(4), x, h))
	b.and(h, h, low)
	b.m.emit(x86.VPSHUFB(l, counts, l))
	b.m.emit(x86.VPSHUFB(h, counts, h))
	b.m.emit(x86.VPADDB(h, l, l))
	b.m.emit(x86.VPSADBW(zero, l, l))
	b.intAdd(acc, acc, l)
}

// Masks: K registers on AVX-512, all ones or zeros in a vector register on AVX2.

func (b *x86Backend) mask() reg.Register {
	if b.wide {
		return b.m.K()
	}
	return b.vector()
}

const (
	// Ordered and quiet: false for NaN.
	cmpEqual   = 0
	cmpLess    = 17
	cmpGreater = 30
)

func (b *x86Backend) less(k, x, y operand.Op) {
	if _, mem := x.(operand.Mem); mem { // only the last source can be in memory
		b.m.emit(x86.VCMPPS(operand.U8(cmpGreater), x, y, k))
		return
	}
	b.m.emit(x86.VCMPPS(operand.U8(cmpLess), y, x, k))
}

func (b *x86Backend) equal(k, x, y operand.Op) { b.m.emit(x86.VCMPPS(operand.U8(cmpEqual), y, x, k)) }

func (b *x86Backend) bits(k []operand.Op, a operand.Mem) {
	if b.wide {
		b.m.emit(x86.KMOVW(a, k[0]))
		return
	}
	w := b.m.GP32()
	b.m.emit(x86.MOVWLZX(a, w))
	word := b.m.XMM()
	b.m.emit(x86.VMOVD(w, word))
	all := b.vector()
	b.m.emit(x86.VPBROADCASTD(word, all))
	lanes := make([]uint32, 16)
	for i := range lanes {
		lanes[i] = 1 << i
	}
	t := b.table("lane_bits", lanes...)
	for r := range k {
		b.m.emit(x86.VPAND(t.Offset(32*r), all, k[r]))
		b.m.emit(x86.VPCMPEQD(t.Offset(32*r), k[r], k[r]))
	}
}

// first copies the masks that tail made.
func (b *x86Backend) first(k []operand.Op, t Tail) {
	for r := range k {
		if b.wide {
			b.m.emit(x86.KMOVW(t.regs[r], k[r]))
		} else {
			b.copy(k[r], t.regs[r])
		}
	}
}

func (b *x86Backend) choose(d, k, x, y operand.Op) {
	if b.wide {
		b.m.emit(x86.VBLENDMPS(x, y, k, d))
		return
	}
	b.m.emit(x86.VBLENDVPS(k, x, b.inRegister(y), d))
}

func (b *x86Backend) zeroWhere(d, k operand.Op) {
	if b.wide {
		b.m.emit(x86.VPXORD(d, d, k, d))
		return
	}
	b.m.emit(x86.VANDNPS(d, k, d))
}

// Across lanes.

func (b *x86Backend) foldAdd(s []operand.Op) {
	b.fold(s, func(d, x reg.Register) { b.m.emit(x86.VADDPS(x, d, d)) })
}

func (b *x86Backend) foldMax(s []operand.Op) {
	b.fold(s, func(d, x reg.Register) { b.m.emit(x86.VMAXPS(d, x, d)) })
}

func (b *x86Backend) foldInt(s []operand.Op) {
	b.fold(s, func(d, x reg.Register) { b.m.emit(x86.VPADDD(x, d, d)) })
}

// fold combines lanes l with l+8, l+4, l+2 and l+1.
func (b *x86Backend) fold(s []operand.Op, combine func(d, x reg.Register)) {
	y := s[0].(reg.Vec).AsY()
	if b.wide {
		high := b.m.YMM()
		b.m.emit(x86.VEXTRACTF64X4(operand.U8(1), s[0], high))
		combine(y, high)
	} else {
		combine(y, s[1].(reg.Register))
	}
	x, t := s[0].(reg.Vec).AsX(), b.m.XMM()
	b.m.emit(x86.VEXTRACTF128(operand.U8(1), y, t))
	combine(x, t)
	b.m.emit(x86.VPSHUFD(operand.U8(0b_11_10_11_10), x, t))
	combine(x, t)
	b.m.emit(x86.VPSHUFD(operand.U8(0b_01_01_01_01), x, t))
	combine(x, t)
}

// transpose works in log2(lanes) rounds: pairs of rows by 1, by 2, then by 4 (and 8) lanes.
func (b *x86Backend) transpose(v []operand.Op) {
	n := len(v)
	pairs := func(step int, low, high func(y, x, d operand.Op) (*ir.Instruction, error)) {
		for i := range n {
			if i&step != 0 {
				continue
			}
			l, h := b.vector(), b.vector()
			b.m.emit(low(v[i+step], v[i], l))
			b.m.emit(high(v[i+step], v[i], h))
			v[i], v[i+step] = l, h
		}
	}
	pairs(1,
		func(y, x, d operand.Op) (*ir.Instruction, error) { return x86.VUNPCKLPS(y, x, d) },
		func(y, x, d operand.Op) (*ir.Instruction, error) { return x86.VUNPCKHPS(y, x, d) })
	pairs(2,
		func(y, x, d operand.Op) (*ir.Instruction, error) { return x86.VUNPCKLPD(y, x, d) },
		func(y, x, d operand.Op) (*ir.Instruction, error) { return x86.VUNPCKHPD(y, x, d) })
	// Unpacking works within 128 bits, so v[i] now holds column i%4 swapped in its two low bits:
	// rows 1 and 2 of each four change places.
	for i := 0; i < n; i += 4 {
		v[i+1], v[i+2] = v[i+2], v[i+1]
	}
	if !b.wide {
		pairs(4,
			func(y, x, d operand.Op) (*ir.Instruction, error) {
				return x86.VPERM2F128(operand.U8(0x20), y, x, d)
			},
			func(y, x, d operand.Op) (*ir.Instruction, error) {
				return x86.VPERM2F128(operand.U8(0x31), y, x, d)
			})
		return
	}
	even := func(y, x, d operand.Op) (*ir.Instruction, error) {
		return x86.VSHUFF32X4(operand.U8(0b_10_00_10_00), y, x, d)
	}
	odd := func(y, x, d operand.Op) (*ir.Instruction, error) {
		return x86.VSHUFF32X4(operand.U8(0b_11_01_11_01), y, x, d)
	}
	pairs(4, even, odd)
	pairs(8, even, odd)
}

func (b *x86Backend) swapPairs(d, x operand.Op) {
	b.m.emit(x86.VPERMILPS(operand.U8(0b_10_11_00_01), x, d))
}

// Words and control.

func (b *x86Backend) param(d reg.Register, a operand.Mem)    { b.m.emit(x86.MOVQ(a, d)) }
func (b *x86Backend) move(d, s operand.Op)                   { b.m.emit(x86.MOVQ(s, d)) }
func (b *x86Backend) addParam(d reg.Register, p operand.Mem) { b.m.emit(x86.ADDQ(p, d)) }
func (b *x86Backend) addWord(d, s operand.Op)                { b.m.emit(x86.ADDQ(s, d)) }
func (b *x86Backend) subWord(d, s operand.Op)                { b.m.emit(x86.SUBQ(s, d)) }
func (b *x86Backend) shiftWord(d operand.Op, n uint8)        { b.m.emit(x86.SHLQ(operand.U8(n), d)) }

func (b *x86Backend) shiftWordDown(d operand.Op, n uint8) { b.m.emit(x86.SHRQ(operand.U8(n), d)) }

func (b *x86Backend) minWord(d, s operand.Op) {
	b.m.emit(x86.CMPQ(s, d))
	b.m.emit(x86.CMOVQLT(s, d))
}

func (b *x86Backend) mulWord(d, s operand.Op) { b.m.emit(x86.IMULQ(s, d)) }

func (b *x86Backend) andWord(d operand.Op, k int) { b.m.emit(x86.ANDQ(operand.I32(k), d)) }

func (b *x86Backend) index(d reg.GPVirtual, a operand.Mem) { b.m.emit(x86.MOVL(a, d.As32())) }

func (b *x86Backend) jumpLess(x, y operand.Op, label string) {
	b.m.emit(x86.CMPQ(x, y))
	b.m.emit(x86.JLT(operand.LabelRef(label)))
}

func (b *x86Backend) jumpNotLess(x, y operand.Op, label string) {
	b.m.emit(x86.CMPQ(x, y))
	b.m.emit(x86.JGE(operand.LabelRef(label)))
}

func (b *x86Backend) jumpNone(k []operand.Op, label string) {
	all := k[0]
	if len(k) > 1 {
		all = b.mask()
		or := func(x, y, d operand.Op) (*ir.Instruction, error) { return x86.VORPS(x, y, d) }
		if b.wide {
			or = x86.KORW
		}
		b.m.emit(or(k[1], k[0], all))
		for _, other := range k[2:] {
			b.m.emit(or(other, all, all))
		}
	}
	if b.wide {
		b.m.emit(x86.KORTESTW(all, all))
	} else {
		b.m.emit(x86.VPTEST(all, all))
	}
	b.m.emit(x86.JEQ(operand.LabelRef(label)))
}

func (b *x86Backend) jump(label string) { b.m.emit(x86.JMP(operand.LabelRef(label))) }

// rows uses a base for every three rows: base, base+stride and base+2·stride are addressing modes.
func (b *x86Backend) rows(base, stride Word, n int) Rows {
	var r Rows
	for i := 0; i < n; i += 3 {
		p := b.m.Word(fmt.Sprintf("%s%d", base.name, i))
		if i == 0 {
			b.m.emit(x86.MOVQ(base.reg, p.reg))
		} else {
			last := r.pointers[len(r.pointers)-1]
			b.m.emit(x86.LEAQ(operand.Mem{Base: last.reg, Index: stride.reg, Scale: 2}, p.reg))
			b.m.emit(x86.ADDQ(stride.reg, p.reg))
		}
		r.pointers = append(r.pointers, p)
	}
	r.at = func(row, disp int) Addr {
		a := Addr{base: r.pointers[row/3], disp: disp, label: fmt.Sprintf("%s[%d][%d]", base.name, row, disp/4)}
		if row%3 != 0 {
			a.index, a.scale = stride, uint8(row%3)
		}
		return a
	}
	return r
}

// epilogue clears the upper halves: SSE code that follows would stall on dirty ones.
func (b *x86Backend) epilogue() {
	b.m.emit(x86.VZEROUPPER())
	b.m.emit(x86.RET())
}

func (b *x86Backend) lower(*ir.Function) {}
