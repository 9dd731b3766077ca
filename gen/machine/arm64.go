package machine

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// arm64Backend emits NEON.
//
// avo knows x86 only, so its registers stand in for those of arm64 until they are bound:
//
//	X0..X31                       V0..V31
//	AX..R15 without SP and BP     R0..R15 without R4 and R5
//	K1..K7                        R20..R26, for row pointers and the table of constants
//
// R18 and R27 to R30 belong to the platform, the assembler and the runtime.
//
// Instructions are kept under the names of [arm64Ops], destination first and sources in the order of
// the Arm manual, until lower writes them as Go's assembler wants them.
type arm64Backend struct {
	m       *Machine
	table   *ir.Global        // constants of four lanes, one table per file
	offsets map[[4]uint32]int // where they are
	arm64Function
}

// arm64Function is what belongs to the function that is being emitted.
type arm64Function struct {
	fn        *ir.Function
	start     []ir.Node         // instructions that go before all others
	tableBase reg.Register      // address of the table, once something needs it
	laneBits  operand.Op        // 1, 2, 4, 8, once something needs it
	constants []*ir.Instruction // definitions of registers that hold constants
}

func newARM64(m *Machine) backend { return &arm64Backend{m: m, offsets: map[[4]uint32]int{}} }

// arm64Op says how an instruction is written.
type arm64Op struct {
	updates bool // the destination is also a source
	write   func(o []operand.Op) (opcode, operands string)
}

var arm64Ops = map[string]arm64Op{
	// Vectors in memory.
	"FMOVQ":    {write: loadText("FMOVQ")},
	"FMOVS":    {write: loadText("FMOVS")},
	"FMOVD":    {write: loadText("FMOVD")},
	"FMOVQ_st": {write: storeText("FMOVQ")},
	"FMOVD_st": {write: storeText("FMOVD")},
	"FMOVS_st": {write: storeText("FMOVS")},
	"LD1R": {write: func(o []operand.Op) (string, string) {
		return "VLD1R", fmt.Sprintf("%s, [%s.S4]", memory(o[1]), v(o[0]))
	}},
	"LD1_2": {updates: true, write: func(o []operand.Op) (string, string) {
		return "VLD1", fmt.Sprintf("%s, %s.S[2]", memory(o[1]), v(o[0]))
	}},
	"ST1_2": {write: func(o []operand.Op) (string, string) {
		return "VST1", fmt.Sprintf("%s.S[2], %s", v(o[0]), memory(o[1]))
	}},
	"PRFM": {write: func(o []operand.Op) (string, string) { return "PRFM", memory(o[0]) + ", PLDL1KEEP" }},

	"ST1_H0": {write: func(o []operand.Op) (string, string) {
		return "VST1", fmt.Sprintf("%s.H[0], %s", v(o[0]), memory(o[1]))
	}},

	"PRFM_L2": {write: func(o []operand.Op) (string, string) { return "PRFM", memory(o[0]) + ", PLDL2KEEP" }},

	// Formats.
	"SHLL":    {write: encSHLL.write},
	"SHLL2":   {write: encSHLL2.write},
	"SHRN":    {write: encSHRN.write},
	"SHRN2":   {updates: true, write: encSHRN2.write},
	"FCVTL":   {write: encFCVTL.write},
	"FCVTL2":  {write: encFCVTL2.write},
	"FCVTN":   {write: encFCVTN.write},
	"FCVTN2":  {updates: true, write: encFCVTN2.write},
	"SQXTNH":  {write: encSQXTNH.write},
	"SQXTNH2": {updates: true, write: encSQXTNH2.write},
	"SQXTNB":  {write: encSQXTNB.write},
	"SQXTNB2": {updates: true, write: encSQXTNB2.write},
	"SXTLB":   {write: encSXTLB.write},
	"SXTLB2":  {write: encSXTLB2.write},
	"SXTLH":   {write: encSXTLH.write},
	"SXTLH2":  {write: encSXTLH2.write},

	// Arithmetic.
	"FADD":  {write: encFADD.write},
	"FSUB":  {write: encFSUB.write},
	"FMUL":  {write: encFMUL.write},
	"FDIV":  {write: encFDIV.write},
	"FMAX":  {write: encFMAX.write},
	"FMIN":  {write: encFMIN.write},
	"FCMGT": {write: encFCMGT.write},
	"FCMEQ": {write: encFCMEQ.write},
	"FMLA":  {updates: true, write: sourcesFirst("VFMLA", "S4")},
	"FMLA_0": {updates: true, write: func(o []operand.Op) (string, string) {
		return "WORD", encFMLALane.encode(vindex(o[0]), vindex(o[1]), vindex(o[2]), 0).Asm()
	}},
	"FMLS":   {updates: true, write: sourcesFirst("VFMLS", "S4")},
	"CMGT":   {write: encCMGT.write},
	"FNEG":   {write: encFNEG.write},
	"FRINTN": {write: encFRINTN.write},
	"FCVTNS": {write: encFCVTNS.write},
	"SCVTF":  {write: encSCVTF.write},

	// Bits and integers.
	"ADD":   {write: sourcesFirst("VADD", "S4")},
	"SUB":   {write: sourcesFirst("VSUB", "S4")},
	"AND":   {write: sourcesFirst("VAND", "B16")},
	"ORR":   {write: sourcesFirst("VORR", "B16")},
	"EOR":   {write: sourcesFirst("VEOR", "B16")},
	"BIC":   {write: encBIC.write},
	"BIT":   {updates: true, write: sourcesFirst("VBIT", "B16")},
	"BIF":   {updates: true, write: sourcesFirst("VBIF", "B16")},
	"CMTST": {write: sourcesFirst("VCMTST", "S4")},
	"SHL":   {write: shiftText("VSHL")},
	"USHR":  {write: shiftText("VUSHR")},
	"SSHR":  {write: encSSHR.write},
	"CLEAR": {write: func(o []operand.Op) (string, string) {
		return "VEOR", fmt.Sprintf("%[1]s.B16, %[1]s.B16, %[1]s.B16", v(o[0]))
	}},

	// Small integers.
	"SUB16":  {write: sourcesFirst("VSUB", "H8")},
	"SMLAL":  {updates: true, write: encSMLAL.write},
	"SMLAL2": {updates: true, write: encSMLAL2.write},
	"CNT":    {write: sourcesFirst("VCNT", "B16")},
	"UADDLP": {write: encUADDLP.write},
	"UADALP": {updates: true, write: encUADALP.write},
	"ADDV":   {write: func(o []operand.Op) (string, string) { return "VADDV", v(o[1]) + ".S4, " + v(o[0]) }},

	// Between and within vectors.
	copyOp:  {write: func(o []operand.Op) (string, string) { return "VMOV", v(o[1]) + ".B16, " + v(o[0]) + ".B16" }},
	"ZIP1":  {write: sourcesFirst("VZIP1", "S4")},
	"ZIP2":  {write: sourcesFirst("VZIP2", "S4")},
	"UZP1":  {write: sourcesFirst("VUZP1", "S4")},
	"UZP2":  {write: sourcesFirst("VUZP2", "S4")},
	"TRN1S": {write: sourcesFirst("VTRN1", "S4")},
	"TRN2S": {write: sourcesFirst("VTRN2", "S4")},
	"TRN1D": {write: sourcesFirst("VTRN1", "D2")},
	"TRN2D": {write: sourcesFirst("VTRN2", "D2")},
	"HIGH": {write: func(o []operand.Op) (string, string) {
		return "VEXT", fmt.Sprintf("$8, %[1]s.B16, %[1]s.B16, %[2]s.B16", v(o[1]), v(o[0]))
	}},
	"EXT": {write: func(o []operand.Op) (string, string) {
		return "VEXT", fmt.Sprintf("%s, %[2]s.B16, %[2]s.B16, %[3]s.B16", word64(o[2]), v(o[1]), v(o[0]))
	}},
	"INS_D1": {updates: true, write: func(o []operand.Op) (string, string) { return "VMOV", v(o[1]) + ".D[0], " + v(o[0]) + ".D[1]" }},
	"FROM":   {write: func(o []operand.Op) (string, string) { return "FMOVD", r(o[1]) + ", " + float(o[0]) }},
	"TO":     {write: func(o []operand.Op) (string, string) { return "FMOVD", float(o[1]) + ", " + r(o[0]) }},
	"REV64":  {write: sourcesFirst("VREV64", "S4")},
	"DUP_0":  {write: func(o []operand.Op) (string, string) { return "VDUP", v(o[1]) + ".S[0], " + v(o[0]) + ".S4" }},
	"DUP_1":  {write: func(o []operand.Op) (string, string) { return "VDUP", v(o[1]) + ".S[1], " + v(o[0]) + ".S4" }},
	"DUP":    {write: func(o []operand.Op) (string, string) { return "VDUP", r(o[1]) + ", " + v(o[0]) + ".S4" }},

	// Words.
	"MOVD":  {write: wordText("MOVD")},
	"TABLE": {write: func(o []operand.Op) (string, string) { return "MOVD", "$" + tableName + "<>(SB), " + r(o[0]) }},
	"MOVBU": {write: wordText("MOVBU")},
	"MOVHU": {write: wordText("MOVHU")},
	"MOVWU": {write: wordText("MOVWU")},
	"ORRX":  {write: wordText("ORR")},
	"ANDX":  {write: wordText("AND")},
	"MULX":  {write: wordText("MUL")},
	"ADDX":  {write: wordText("ADD")},
	"SUBX":  {write: wordText("SUB")},
	"LSLX":  {write: wordText("LSL")},
	"LSRX":  {write: wordText("LSR")},
	"CMP":   {write: func(o []operand.Op) (string, string) { return "CMP", word64(o[1]) + ", " + word64(o[0]) }},
	"CSEL_LT": {write: func(o []operand.Op) (string, string) {
		return "CSEL", fmt.Sprintf("LT, %s, %s, %s", r(o[1]), r(o[2]), r(o[0]))
	}},

	// Control. avo looks for the label in front.
	"BLT": {write: func(o []operand.Op) (string, string) { return "BLT", o[0].Asm() }},
	"BEQ": {write: func(o []operand.Op) (string, string) { return "BEQ", o[0].Asm() }},
	"BGE": {write: func(o []operand.Op) (string, string) { return "BGE", o[0].Asm() }},
	"JMP": {write: func(o []operand.Op) (string, string) { return "JMP", o[0].Asm() }},
	"TBZ": {write: func(o []operand.Op) (string, string) {
		return "TBZ", fmt.Sprintf("%s, %s, %s", word64(o[1]), r(o[2]), o[0].Asm())
	}},
	"RET": {write: func([]operand.Op) (string, string) { return "RET", "" }},
}

const copyOp = "MOV"

// Writing operands. Go's order is the reverse of Arm's: sources from the last to the first, then the
// destination.

func vindex(o operand.Op) vreg  { return vreg(o.(reg.VecPhysical).PhysicalIndex()) }
func v(o operand.Op) string     { return fmt.Sprintf("V%d", vindex(o)) }
func float(o operand.Op) string { return fmt.Sprintf("F%d", vindex(o)) }

func r(o operand.Op) string {
	p := reg.ToPhysical(o.(reg.Register))
	if p.Kind() == reg.KindOpmask {
		return fmt.Sprintf("R%d", 19+p.PhysicalIndex())
	}
	return fmt.Sprintf("R%d", p.PhysicalIndex())
}

// word64 writes a word, a constant or an address.
func word64(o operand.Op) string {
	switch o := o.(type) {
	case operand.I32:
		return fmt.Sprintf("$%d", int32(o))
	case operand.U8:
		return fmt.Sprintf("$%d", uint8(o))
	case operand.Mem:
		return memory(o)
	}
	return r(o)
}

func memory(o operand.Op) string {
	a := o.(operand.Mem)
	switch {
	case a.Index != nil:
		panic("machine: arm64: address with an index")
	case a.Base == reg.FramePointer:
		return a.Asm()
	case a.Disp == 0:
		return fmt.Sprintf("(%s)", r(a.Base))
	}
	return fmt.Sprintf("%d(%s)", a.Disp, r(a.Base))
}

func sourcesFirst(opcode, arrangement string) func(o []operand.Op) (string, string) {
	return func(o []operand.Op) (string, string) {
		var text []string
		for i := range o {
			text = append(text, v(o[len(o)-1-i])+"."+arrangement)
		}
		return opcode, strings.Join(text[:len(o)-1], ", ") + ", " + text[len(o)-1]
	}
}

func loadText(opcode string) func(o []operand.Op) (string, string) {
	return func(o []operand.Op) (string, string) { return opcode, memory(o[1]) + ", " + float(o[0]) }
}

func storeText(opcode string) func(o []operand.Op) (string, string) {
	return func(o []operand.Op) (string, string) { return opcode, float(o[0]) + ", " + memory(o[1]) }
}

func shiftText(opcode string) func(o []operand.Op) (string, string) {
	return func(o []operand.Op) (string, string) {
		return opcode, fmt.Sprintf("%s, %s.S4, %s.S4", word64(o[2]), v(o[1]), v(o[0]))
	}
}

func wordText(opcode string) func(o []operand.Op) (string, string) {
	return func(o []operand.Op) (string, string) {
		var text []string
		for i := range o {
			text = append(text, word64(o[len(o)-1-i]))
		}
		return opcode, strings.Join(text, ", ")
	}
}

func (e three) write(o []operand.Op) (string, string) {
	return "WORD", e.encode(vindex(o[0]), vindex(o[1]), vindex(o[2])).Asm()
}

func (e two) write(o []operand.Op) (string, string) {
	return "WORD", e.encode(vindex(o[0]), vindex(o[1])).Asm()
}

func (e widening) write(o []operand.Op) (string, string) {
	return "WORD", e.encode(vindex(o[0]), vindex(o[1])).Asm()
}

func (e long) write(o []operand.Op) (string, string) {
	return "WORD", e.encode(vindex(o[0]), vindex(o[1]), vindex(o[2])).Asm()
}

func (e right) write(o []operand.Op) (string, string) {
	return "WORD", e.encode(vindex(o[0]), vindex(o[1]), uint8(o[2].(operand.U8))).Asm()
}

// Emitting.

// set emits an instruction that writes the register d.
func (b *arm64Backend) set(name string, d operand.Op, sources ...operand.Op) *ir.Instruction {
	inputs := slices.Clone(sources)
	if arm64Ops[name].updates {
		inputs = append(inputs, d)
	}
	return b.m.op(name, append([]operand.Op{d}, sources...), inputs, []operand.Op{d})
}

// put emits a store.
func (b *arm64Backend) put(name string, s operand.Op, a operand.Mem) {
	b.m.op(name, []operand.Op{s, a}, []operand.Op{s}, []operand.Op{a})
}

func (b *arm64Backend) branch(name, label string, inputs ...operand.Op) {
	i := b.m.op(name, append([]operand.Op{operand.LabelRef(label)}, inputs...), inputs, nil)
	i.IsBranch, i.IsConditional = true, name != "JMP"
}

func (b *arm64Backend) label(name string) { b.m.fn.AddLabel(ir.Label(name)) }

// atStart sets d before all that has been emitted so far, but behind what was set like this before.
func (b *arm64Backend) atStart(note, name string, d operand.Op, sources ...operand.Op) *ir.Instruction {
	i := b.set(name, d, sources...)
	b.m.notes[i] = note
	b.fn.Nodes = b.fn.Nodes[:len(b.fn.Nodes)-1]
	b.start = append(b.start, i)
	return i
}

// begin forgets the previous function.
func (b *arm64Backend) begin() {
	if b.fn != b.m.fn {
		b.arm64Function = arm64Function{fn: b.m.fn}
	}
}

// near returns a without displacement, for the instructions that allow none.
func (b *arm64Backend) near(a operand.Mem) operand.Mem {
	if a.Disp == 0 {
		return a
	}
	p := b.m.GP64()
	b.set("ADDX", p, a.Base, operand.I32(a.Disp))
	return operand.Mem{Base: p}
}

// Data movement.

func (b *arm64Backend) vector() reg.VecVirtual { return b.m.XMM() }

func (b *arm64Backend) zero(d operand.Op)                 { b.set("CLEAR", d) }
func (b *arm64Backend) copy(d, s operand.Op)              { b.set(copyOp, d, s) }
func (b *arm64Backend) load(d operand.Op, a operand.Mem)  { b.set("FMOVQ", d, a) }
func (b *arm64Backend) store(a operand.Mem, s operand.Op) { b.put("FMOVQ_st", s, a) }

func (b *arm64Backend) splat(d operand.Op, a operand.Mem) {
	if a.Disp == 0 && a.Base != reg.FramePointer {
		b.set("LD1R", d, a)
		return
	}
	b.set("FMOVS", d, a)
	b.set("DUP_0", d, d)
}

// factor reads one lane: fmaFactor multiplies by it as it is.
func (b *arm64Backend) factor(d operand.Op, a operand.Mem) { b.set("FMOVS", d, a) }

func (b *arm64Backend) storeLane(a operand.Mem, s operand.Op) { b.put("FMOVS_st", s, a) }

func (b *arm64Backend) prefetch(a operand.Mem)    { b.prefetchTo("PRFM", a) }
func (b *arm64Backend) prefetchFar(a operand.Mem) { b.prefetchTo("PRFM_L2", a) }

func (b *arm64Backend) prefetchTo(name string, a operand.Mem) {
	if a.Disp < 0 || a.Disp%8 != 0 || a.Disp > 8*4095 {
		a = b.near(a)
	}
	b.m.op(name, []operand.Op{a}, []operand.Op{a}, nil)
}

const tableName = "constants"

// lanes returns the address of four words in the table of constants.
func (b *arm64Backend) lanes(words ...uint32) operand.Mem {
	b.begin()
	if b.table == nil {
		b.table = ir.NewStaticGlobal(tableName)
		b.table.Attributes = attr.RODATA | attr.NOPTR
		b.m.file.AddSection(b.table)
	}
	at, ok := b.offsets[[4]uint32(words)]
	if !ok {
		at = b.table.Size
		b.offsets[[4]uint32(words)] = at
		for _, w := range words {
			b.table.Append(operand.U32(w))
		}
	}
	if b.tableBase == nil {
		b.tableBase = b.m.K()
		b.atStart("constants", "TABLE", b.tableBase)
	}
	return operand.Mem{Base: b.tableBase, Disp: at}
}

// constant loads into a register; where registers run short, or where it would only be copied,
// epilogue puts the load there instead.
func (b *arm64Backend) constant(bits uint32) operand.Op {
	d := b.vector()
	b.begin()
	if bits == 0 {
		b.constants = append(b.constants, b.set("CLEAR", d))
	} else {
		a := b.lanes(repeat(bits, 4)...)
		b.constants = append(b.constants, b.set("FMOVQ", d, a))
	}
	return d
}

// Tails have no masks here: they branch on the count. The registers before the last part are whole,
// and in that one the bits of the count say whether two lanes and one lane are left.

func (b *arm64Backend) tail(n Word) Tail { return Tail{n: n} }

func (b *arm64Backend) loadTail(d []operand.Op, a operand.Mem, t Tail) {
	for _, v := range d {
		b.zero(v)
	}
	b.inParts(d, a, t, b.load, func(v operand.Op, a operand.Mem, one, done string) {
		b.set("FMOVD", v, a)
		b.branch("TBZ", done, operand.U8(0), t.n.reg)
		b.set("LD1_2", v, b.near(a.Offset(8)))
		b.jump(done)
		b.label(one)
		b.branch("TBZ", done, operand.U8(0), t.n.reg)
		b.set("FMOVS", v, a)
	})
}

func (b *arm64Backend) storeTail(a operand.Mem, s []operand.Op, t Tail) {
	store := func(v operand.Op, a operand.Mem) { b.store(a, v) }
	b.inParts(s, a, t, store, func(v operand.Op, a operand.Mem, one, done string) {
		b.put("FMOVD_st", v, a)
		b.branch("TBZ", done, operand.U8(0), t.n.reg)
		b.put("ST1_2", v, b.near(a.Offset(8)))
		b.jump(done)
		b.label(one)
		b.branch("TBZ", done, operand.U8(0), t.n.reg)
		b.put("FMOVS_st", v, a)
	})
}

// inParts moves whole registers while n has four more lanes, then one register in part. Part is
// entered with two or three lanes left, and at the label one with one or none.
func (b *arm64Backend) inParts(v []operand.Op, a operand.Mem, t Tail, whole func(v operand.Op, a operand.Mem), part func(v operand.Op, a operand.Mem, one, done string)) {
	parts, done := make([]string, len(v)), b.m.label("tail_done")
	for r := range v {
		parts[r] = b.m.label("tail")
		b.jumpLess(t.n.reg, operand.I32(4*(r+1)), parts[r])
		whole(v[r], a.Offset(16*r))
	}
	b.jump(done)
	for r := range v {
		one := b.m.label("tail_one")
		b.label(parts[r])
		b.branch("TBZ", one, operand.U8(1), t.n.reg)
		part(v[r], a.Offset(16*r), one, done)
		if r < len(v)-1 {
			b.jump(done)
		}
	}
	b.label(done)
}

// Formats.

func (b *arm64Backend) loadAs(f Format, d []operand.Op, a operand.Mem) {
	b.load(d[0], a)
	if f.Size() == 2 {
		b.load(d[2], a.Offset(16))
	}
	b.widen(f, d)
}

// widen converts packed numbers, all in d[0] or in d[0] and d[2], to four lanes in each register.
func (b *arm64Backend) widen(f Format, d []operand.Op) {
	low, high := "SHLL", "SHLL2"
	switch f {
	case Float16:
		low, high = "FCVTL", "FCVTL2"
	case Int8:
		low, high = "SXTLH", "SXTLH2"
		b.set("SXTLB2", d[2], d[0])
		b.set("SXTLB", d[0], d[0])
	}
	for r := 0; r < 4; r += 2 {
		b.set(high, d[r+1], d[r])
		b.set(low, d[r], d[r])
	}
	if f == Int8 {
		for r := range d {
			b.toFloat(d[r], d[r])
		}
	}
}

// narrowed returns 16 lanes as packed 16-bit numbers.
func (b *arm64Backend) narrowed(f Format, s []operand.Op) []operand.Op {
	low, high := "SHRN", "SHRN2"
	if f == Float16 {
		low, high = "FCVTN", "FCVTN2"
	}
	packed := []operand.Op{b.vector(), b.vector()}
	for r := range packed {
		b.set(low, packed[r], s[2*r])
		b.set(high, packed[r], s[2*r+1])
	}
	return packed
}

func (b *arm64Backend) storeAs(f Format, a operand.Mem, s []operand.Op) {
	for r, x := range b.narrowed(f, s) {
		b.store(a.Offset(16*r), x)
	}
}

// loadSplit clears the lower halves by shifting: a mask would need a register more.
func (b *arm64Backend) loadSplit(even, odd []operand.Op, a operand.Mem) {
	for r := range odd {
		b.load(odd[r], a.Offset(16*r))
		b.set("SHL", even[r], odd[r], operand.U8(16))
		b.set("USHR", odd[r], odd[r], operand.U8(16))
		b.set("SHL", odd[r], odd[r], operand.U8(16))
	}
}

func (b *arm64Backend) zip(x, y []operand.Op) {
	var out []operand.Op
	for r := range x {
		low, high := b.vector(), b.vector()
		b.set("ZIP1", low, x[r], y[r])
		b.set("ZIP2", high, x[r], y[r])
		out = append(out, low, high)
	}
	b.copyPair(x, y, out)
}

func (b *arm64Backend) unzip(x, y []operand.Op) {
	all := slices.Concat(x, y)
	var even, odd []operand.Op
	for r := 0; r < len(all); r += 2 {
		e, o := b.vector(), b.vector()
		b.set("UZP1", e, all[r], all[r+1])
		b.set("UZP2", o, all[r], all[r+1])
		even, odd = append(even, e), append(odd, o)
	}
	b.copyPair(x, y, append(even, odd...))
}

func (b *arm64Backend) copyPair(x, y, from []operand.Op) {
	for r := range x {
		b.copy(x[r], from[r])
		b.copy(y[r], from[len(x)+r])
	}
}

func (b *arm64Backend) narrowTail(n Word) Tail { return b.tail(n) }

func (b *arm64Backend) loadTailAs(f Format, d []operand.Op, a operand.Mem, t Tail) {
	b.loadPart(d[0], d[2], a, t.n, f.Size())
	b.widen(f, d)
}

// loadPart reads n elements of some size, less than 32 bytes in all, into low and high and fills up
// with zeros. It puts together the pieces of 1, 2 and 4 bytes at the end in a word, those of 8 and
// 16 before them in a vector.
func (b *arm64Backend) loadPart(low, high operand.Op, a operand.Mem, n Word, size int) {
	end, rest, piece := b.m.GP64(), b.m.GP64(), b.m.GP64()
	b.set("MOVD", end, n.reg)
	if size > 1 {
		b.set("LSLX", end, end, operand.U8(size/2))
	}
	b.set("ADDX", end, end, a.Base)
	if a.Disp != 0 {
		b.set("ADDX", end, end, operand.I32(a.Disp))
	}
	b.set("MOVD", rest, operand.I32(0))
	at := operand.Mem{Base: end}
	loads := map[int]string{1: "MOVBU", 2: "MOVHU", 4: "MOVWU"}
	for _, bytes := range []int{1, 2, 4} {
		b.ifPiece(n, size, bytes, func() {
			b.set("SUBX", end, end, operand.I32(bytes))
			b.set(loads[bytes], piece, at)
			b.set("LSLX", rest, rest, operand.U8(8*bytes))
			b.set("ORRX", rest, rest, piece)
		})
	}
	b.zero(high)
	b.set("FROM", low, rest)
	b.ifPiece(n, size, 8, func() {
		first := b.vector()
		b.set("SUBX", end, end, operand.I32(8))
		b.set("FMOVD", first, at)
		b.set("INS_D1", first, low)
		b.copy(low, first)
	})
	b.ifPiece(n, size, 16, func() {
		b.copy(high, low)
		b.load(low, a)
	})
}

// ifPiece runs body if the bytes of n elements have a piece of that many bytes, a power of two.
func (b *arm64Backend) ifPiece(n Word, size, bytes int, body func()) {
	if bytes < size {
		return
	}
	none := b.m.label("no_piece")
	b.branch("TBZ", none, operand.U8(bits.TrailingZeros(uint(bytes/size))), n.reg)
	body()
	b.label(none)
}

func (b *arm64Backend) storeTailAs(f Format, a operand.Mem, s []operand.Op, t Tail) {
	packed := b.narrowed(f, s)
	p := b.m.GP64()
	b.set("ADDX", p, a.Base, operand.I32(a.Disp))
	at, x := operand.Mem{Base: p}, packed[0]
	stores := map[int]string{16: "FMOVQ_st", 8: "FMOVD_st", 4: "FMOVS_st", 2: "ST1_H0"}
	for _, bytes := range []int{16, 8, 4, 2} {
		b.ifPiece(t.n, f.Size(), bytes, func() {
			b.put(stores[bytes], x, at)
			if bytes == 16 {
				b.copy(x, packed[1])
			} else {
				b.set("EXT", x, x, operand.U8(bytes))
			}
			b.set("ADDX", p, p, operand.I32(bytes))
		})
	}
}

func (b *arm64Backend) storeBytes(a operand.Mem, s []operand.Op) {
	words := []operand.Op{b.vector(), b.vector()}
	for r := range words {
		b.set("SQXTNH", words[r], s[2*r])
		b.set("SQXTNH2", words[r], s[2*r+1])
	}
	bytes := b.vector()
	b.set("SQXTNB", bytes, words[0])
	b.set("SQXTNB2", bytes, words[1])
	b.store(a, bytes)
}

func (b *arm64Backend) swapPairs(d, x operand.Op) { b.set("REV64", d, x) }

// Arithmetic.

func (b *arm64Backend) add(d, x, y operand.Op) { b.set("FADD", d, x, y) }
func (b *arm64Backend) sub(d, x, y operand.Op) { b.set("FSUB", d, x, y) }
func (b *arm64Backend) mul(d, x, y operand.Op) { b.set("FMUL", d, x, y) }
func (b *arm64Backend) div(d, x, y operand.Op) { b.set("FDIV", d, x, y) }

// max compares and inserts: FMAXNM would return a signalling NaN and +0 for -0.
func (b *arm64Backend) max(acc, x operand.Op) {
	k := b.vector()
	b.set("FCMGT", k, x, acc)
	b.set("BIT", acc, x, k)
}

func (b *arm64Backend) atLeast(d, x, bound operand.Op) { b.set("FMAX", d, x, bound) }
func (b *arm64Backend) atMost(d, x, bound operand.Op)  { b.set("FMIN", d, x, bound) }

func (b *arm64Backend) fma(acc, x, y operand.Op) { b.set("FMLA", acc, x, y) }
func (b *arm64Backend) fmaLoad(acc, x operand.Op, a operand.Mem) {
	y := b.vector()
	b.load(y, a)
	b.fma(acc, x, y)
}

func (b *arm64Backend) fmaSplat(acc, x operand.Op, a operand.Mem) {
	f := b.vector()
	b.factor(f, a)
	b.fmaFactor(acc, x, f)
}

func (b *arm64Backend) fmaFactor(acc, x, factor operand.Op) { b.set("FMLA_0", acc, x, factor) }

// fms negates first: -(x·y - acc) would round alike, but give zeros the other sign.
func (b *arm64Backend) fms(acc, x, y operand.Op) {
	if same(acc, x) || same(acc, y) {
		panic("machine: arm64: FMS of the accumulator itself")
	}
	b.set("FNEG", acc, acc)
	b.set("FMLA", acc, x, y)
}

func (b *arm64Backend) subMul(acc, x, y operand.Op) { b.set("FMLS", acc, x, y) }

// mulAdd accumulates onto a copy of c. The copy back into p falls away where p is not updated in
// place afterwards: see forwardCopies.
func (b *arm64Backend) mulAdd(p, f, c operand.Op) {
	t := b.vector()
	b.copy(t, c)
	b.set("FMLA", t, p, f)
	b.copy(p, t)
}

func (b *arm64Backend) round(d, x operand.Op) { b.set("FRINTN", d, x) }

// Bits and integers.

func (b *arm64Backend) toInt(d, x operand.Op)     { b.set("FCVTNS", d, x) }
func (b *arm64Backend) toFloat(d, x operand.Op)   { b.set("SCVTF", d, x) }
func (b *arm64Backend) intAdd(d, x, y operand.Op) { b.set("ADD", d, x, y) }
func (b *arm64Backend) intSub(d, x, y operand.Op) { b.set("SUB", d, x, y) }
func (b *arm64Backend) and(d, x, y operand.Op)    { b.set("AND", d, x, y) }
func (b *arm64Backend) or(d, x, y operand.Op)     { b.set("ORR", d, x, y) }

func (b *arm64Backend) xor(d, x, y operand.Op) { b.set("EOR", d, x, y) }

func (b *arm64Backend) shiftLeft(d, x operand.Op, n uint8) { b.set("SHL", d, x, operand.U8(n)) }

func (b *arm64Backend) shiftRight(d, x operand.Op, n uint8) { b.set("SSHR", d, x, operand.U8(n)) }

// Small integers.

func (b *arm64Backend) loadInt16(d []operand.Op, a operand.Mem) {
	b.load(d[0], a)
	b.load(d[2], a.Offset(16))
	b.bytesToInt16(d)
}

func (b *arm64Backend) loadTailInt16(d []operand.Op, a operand.Mem, t Tail) {
	b.loadPart(d[0], d[2], a, t.n, 1)
	b.bytesToInt16(d)
}

func (b *arm64Backend) bytesToInt16(d []operand.Op) {
	for r := 0; r < 4; r += 2 {
		b.set("SXTLB2", d[r+1], d[r])
		b.set("SXTLB", d[r], d[r])
	}
}

func (b *arm64Backend) sub16(d, x, y operand.Op) { b.set("SUB16", d, x, y) }

func (b *arm64Backend) mulPairs(acc, x, y operand.Op) {
	b.set("SMLAL", acc, x, y)
	b.set("SMLAL2", acc, x, y)
}

func (b *arm64Backend) loadTailBytes([]operand.Op, operand.Mem, Tail) {
	panic("machine: arm64 has no extension")
}
func (b *arm64Backend) dotBytes(acc, x, y operand.Op) { panic("machine: arm64 has no extension") }

func (b *arm64Backend) bitCounter() []operand.Op { return nil }

// countBits counts in bytes, then adds neighbours twice.
func (b *arm64Backend) countBits(acc, x operand.Op, _ []operand.Op) {
	t := b.vector()
	b.set("CNT", t, x)
	b.set("UADDLP", t, t)
	b.set("UADALP", acc, t)
}

// Masks: all ones or zeros in the lanes of a vector register.

func (b *arm64Backend) mask() reg.Register { return b.vector() }

func (b *arm64Backend) less(k, x, y operand.Op)  { b.set("FCMGT", k, y, x) }
func (b *arm64Backend) equal(k, x, y operand.Op) { b.set("FCMEQ", k, x, y) }

// bits tests the bits 1, 2, 4 and 8 of the word, then of the word shifted by 4, 8 and 12.
func (b *arm64Backend) bits(k []operand.Op, a operand.Mem) {
	table := b.lanes(1, 2, 4, 8)
	if b.laneBits == nil {
		b.laneBits = b.vector()
		b.constants = append(b.constants, b.atStart("1, 2, 4, 8", "FMOVQ", b.laneBits, table))
	}
	w, all := b.m.GP64(), b.vector()
	b.set("MOVHU", w, a)
	b.set("DUP", all, w)
	for r := range k {
		part := all
		if r > 0 {
			part = b.vector()
			b.set("USHR", part, all, operand.U8(4*r))
		}
		b.set("CMTST", k[r], part, b.laneBits)
	}
}

// first compares the numbers of the lanes with n.
func (b *arm64Backend) first(k []operand.Op, t Tail) {
	n := b.vector()
	b.set("DUP", n, t.n.reg)
	for r := range k {
		lane := uint32(4 * r)
		b.set("FMOVQ", k[r], b.lanes(lane, lane+1, lane+2, lane+3))
		b.set("CMGT", k[r], n, k[r])
	}
}

func (b *arm64Backend) choose(d, k, x, y operand.Op) {
	switch {
	case same(d, x) && !same(d, y):
		b.set("BIF", d, y, k)
	case same(d, y):
		b.set("BIT", d, x, k)
	default:
		b.copy(d, y)
		b.set("BIT", d, x, k)
	}
}

func (b *arm64Backend) zeroWhere(d, k operand.Op) { b.set("BIC", d, d, k) }

// Across lanes.

func (b *arm64Backend) foldAdd(s []operand.Op) {
	b.fold(s, func(d, x operand.Op) { b.add(d, d, x) })
}

func (b *arm64Backend) foldMax(s []operand.Op) { b.fold(s, b.max) }

func (b *arm64Backend) foldInt(s []operand.Op) {
	b.intAdd(s[0], s[0], s[1])
	b.intAdd(s[2], s[2], s[3])
	b.intAdd(s[0], s[0], s[2])
	b.set("ADDV", s[0], s[0])
}

// fold combines lanes l with l+8, l+4, l+2 and l+1.
func (b *arm64Backend) fold(s []operand.Op, combine func(d, x operand.Op)) {
	combine(s[0], s[2])
	combine(s[1], s[3])
	combine(s[0], s[1])
	t := b.vector()
	b.set("HIGH", t, s[0])
	combine(s[0], t)
	b.set("DUP_1", t, s[0])
	combine(s[0], t)
}

// transpose exchanges within 2x2 blocks, then the blocks.
func (b *arm64Backend) transpose(rows []operand.Op) {
	pairs := func(step int, low, high string) {
		for i := range rows {
			if i&step != 0 {
				continue
			}
			l, h := b.vector(), b.vector()
			b.set(low, l, rows[i], rows[i+step])
			b.set(high, h, rows[i], rows[i+step])
			rows[i], rows[i+step] = l, h
		}
	}
	pairs(1, "TRN1S", "TRN2S")
	pairs(2, "TRN1D", "TRN2D")
}

// Words and control.

func (b *arm64Backend) param(d reg.Register, a operand.Mem) { b.set("MOVD", d, a) }
func (b *arm64Backend) move(d, s operand.Op)                { b.set("MOVD", d, s) }
func (b *arm64Backend) addParam(d reg.Register, p operand.Mem) {
	t := b.m.GP64()
	b.param(t, p)
	b.addWord(d, t)
}
func (b *arm64Backend) addWord(d, s operand.Op)             { b.set("ADDX", d, d, s) }
func (b *arm64Backend) subWord(d, s operand.Op)             { b.set("SUBX", d, d, s) }
func (b *arm64Backend) shiftWord(d operand.Op, n uint8)     { b.set("LSLX", d, d, operand.U8(n)) }
func (b *arm64Backend) shiftWordDown(d operand.Op, n uint8) { b.set("LSRX", d, d, operand.U8(n)) }

func (b *arm64Backend) compare(x, y operand.Op) {
	b.m.op("CMP", []operand.Op{x, y}, []operand.Op{x, y}, nil)
}

func (b *arm64Backend) minWord(d, s operand.Op) {
	b.compare(d, s)
	b.set("CSEL_LT", d, d, s)
}

func (b *arm64Backend) mulWord(d, s operand.Op)              { b.set("MULX", d, d, s) }
func (b *arm64Backend) andWord(d operand.Op, k int)          { b.set("ANDX", d, d, operand.I32(k)) }
func (b *arm64Backend) index(d reg.GPVirtual, a operand.Mem) { b.set("MOVWU", d, a) }

func (b *arm64Backend) jumpLess(x, y operand.Op, label string) {
	b.compare(x, y)
	b.branch("BLT", label)
}

func (b *arm64Backend) jumpNotLess(x, y operand.Op, label string) {
	b.compare(x, y)
	b.branch("BGE", label)
}

// jumpNone folds the masks into 64 bits.
func (b *arm64Backend) jumpNone(k []operand.Op, label string) {
	all, high, word := b.vector(), b.vector(), b.m.GP64()
	b.copy(all, k[0])
	for _, other := range k[1:] {
		b.or(all, all, other)
	}
	b.set("HIGH", high, all)
	b.or(all, all, high)
	b.set("TO", word, all)
	b.compare(word, operand.I32(0))
	b.branch("BEQ", label)
}

func (b *arm64Backend) jump(label string) { b.branch("JMP", label) }

// spareWords is the number of rows that have a register which x86 does not have.
const spareWords = 6

// spareWord is a row pointer in such a register, which avo takes for a mask register.
type spareWord struct{ reg.OpmaskVirtual }

func (spareWord) As8() reg.Register    { panic("machine: arm64: a part of a row pointer") }
func (spareWord) As8L() reg.Register   { panic("machine: arm64: a part of a row pointer") }
func (spareWord) As8H() reg.Register   { panic("machine: arm64: a part of a row pointer") }
func (spareWord) As16() reg.Register   { panic("machine: arm64: a part of a row pointer") }
func (spareWord) As32() reg.Register   { panic("machine: arm64: a part of a row pointer") }
func (w spareWord) As64() reg.Register { return w }

// rows keeps a pointer for every row: no addressing mode of vector loads has both an index and a
// displacement.
func (b *arm64Backend) rows(base, stride Word, n int) Rows {
	var rows Rows
	for i := range n {
		p := Word{fmt.Sprintf("%s%d", base.name, i), spareWord{b.m.K()}}
		if i >= spareWords {
			p.reg = b.m.GP64()
		}
		if i == 0 {
			b.move(p.reg, base.reg)
		} else {
			b.set("ADDX", p.reg, rows.pointers[i-1].reg, stride.reg)
		}
		rows.pointers = append(rows.pointers, p)
	}
	rows.at = func(row, disp int) Addr {
		return Addr{base: rows.pointers[row], disp: disp, label: fmt.Sprintf("%s[%d][%d]", base.name, row, disp/4)}
	}
	return rows
}

func (b *arm64Backend) epilogue() {
	b.begin()
	b.m.op("RET", nil, nil, nil).IsTerminal = true
	b.fn.Nodes = slices.Concat(b.start, b.fn.Nodes)
	forwardCopies(b.fn)
	b.placeConstants()
}

// lower rewrites bound instructions for Go's assembler and drops copies of a register to itself.
func (b *arm64Backend) lower(fn *ir.Function) {
	fn.Nodes = slices.DeleteFunc(fn.Nodes, func(n ir.Node) bool {
		i, ok := n.(*ir.Instruction)
		return ok && (i.Opcode == copyOp || i.Opcode == "MOVD") && same(i.Operands[0], i.Operands[1])
	})
	for _, i := range fn.Instructions() {
		opcode, operands := arm64Ops[i.Opcode].write(i.Operands)
		i.Opcode, i.Operands = opcode, nil
		if operands != "" {
			i.Operands = []operand.Op{lowered(operands)}
		}
	}
}

// lowered is the text of all operands of an instruction.
type lowered string

func (l lowered) Asm() string { return string(l) }

// same reports whether two operands are one register.
func same(x, y operand.Op) bool {
	a, ok := x.(reg.Register)
	b, also := y.(reg.Register)
	return ok && also && a.ID() == b.ID()
}
