// Package machine is the vector machine that Quern's kernels are written for.
//
// A kernel is one Go function that calls the methods of a [Machine]; running it once for every
// instruction set emits one assembly function each. Kernels never ask which instruction set they
// are emitting for. What differs is hidden in three places: the number of lanes in a register, the
// backend behind the operations, and the few properties in [ISA].
//
// # Values
//
// A [Value] is a named row of float32 lanes. A logical value has 16 lanes and occupies one, two or
// four registers (AVX-512, AVX2, NEON); a native value is one register; a uniform value holds the
// same number in every lane of one register and combines with values of any width. Operations work
// register by register. The destination comes first and may be one of the sources.
//
// # Words
//
// A [Word] is a general-purpose register: a pointer, a stride or a count. Pointers are advanced in
// bytes; [Addr] is a pointer with a constant displacement.
//
// # Registers
//
// Values and words are virtual until the function is finished; avo's liveness and graph colouring
// bind them. The machine panics when it runs out of registers: nothing is ever spilled.
package machine

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/gotypes"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

// LogicalLanes is the number of lanes of a logical value on every instruction set: sums across
// lanes are defined over 16 lanes, whatever the hardware has.
const LogicalLanes = 16

// ISA describes one instruction set to the generator.
type ISA struct {
	Name      string // as in the names of generated functions: AVX512
	GOARCH    string
	Lanes     int // float32 lanes of one register
	Registers int // vector registers that may be allocated

	// TileRows and TileValues are the shape of the outer-product tile that the registers hold:
	// rows of C by logical values of 16 columns.
	TileRows, TileValues int

	// Extension names what some CPUs have beyond the instruction set and some kernels have a second
	// text for, such as VNNI; it ends the names of their functions.
	Extension string

	// Interleave is the number of logical values that a loop over elements takes at once.
	Interleave int
}

// The instruction sets, in order of preference within an architecture.
var (
	AVX512 = ISA{Name: "AVX512", GOARCH: "amd64", Lanes: 16, Registers: 32, TileRows: 12, TileValues: 2, Interleave: 4, Extension: "VNNI"}
	AVX2   = ISA{Name: "AVX2", GOARCH: "amd64", Lanes: 8, Registers: 16, TileRows: 6, TileValues: 1, Interleave: 2}
	NEON   = ISA{Name: "NEON", GOARCH: "arm64", Lanes: 4, Registers: 32, TileRows: 6, TileValues: 1, Interleave: 1}

	ISAs = []ISA{AVX512, AVX2, NEON}
)

// backend emits the instructions of one instruction set, one register at a time. Vector operands
// are registers, or for constants that an instruction set keeps in memory, memory references;
// those appear only as the last source.
type backend interface {
	// Data movement.
	vector() reg.VecVirtual
	zero(d operand.Op)
	copy(d, s operand.Op)
	load(d operand.Op, a operand.Mem)
	store(a operand.Mem, s operand.Op)
	splat(d operand.Op, a operand.Mem)
	factor(d operand.Op, a operand.Mem)
	storeLane(a operand.Mem, s operand.Op)
	constant(bits uint32) operand.Op
	tail(n Word) Tail
	loadTail(d []operand.Op, a operand.Mem, t Tail)
	storeTail(a operand.Mem, s []operand.Op, t Tail)
	prefetch(a operand.Mem)
	prefetchFar(a operand.Mem)

	// Formats other than Float32, a logical value at a time.
	loadAs(f Format, d []operand.Op, a operand.Mem)
	storeAs(f Format, a operand.Mem, s []operand.Op)
	loadSplit(even, odd []operand.Op, a operand.Mem)
	zip(a, b []operand.Op)
	unzip(a, b []operand.Op)
	narrowTail(n Word) Tail
	loadTailAs(f Format, d []operand.Op, a operand.Mem, t Tail)
	storeTailAs(f Format, a operand.Mem, s []operand.Op, t Tail)
	storeBytes(a operand.Mem, s []operand.Op)

	// Arithmetic. x and y are the sources in mathematical order.
	add(d, x, y operand.Op)
	sub(d, x, y operand.Op)
	mul(d, x, y operand.Op)
	div(d, x, y operand.Op)
	max(acc, x operand.Op)
	atLeast(d, x, bound operand.Op)
	atMost(d, x, bound operand.Op)
	fma(acc, x, y operand.Op)
	fmaFactor(acc, x, factor operand.Op)
	fmaSplat(acc, x operand.Op, a operand.Mem)
	fmaLoad(acc, x operand.Op, a operand.Mem)
	mulAdd(p, f, c operand.Op)
	fms(acc, x, y operand.Op)
	subMul(acc, x, y operand.Op)
	round(d, x operand.Op)

	// Bits and integers.
	toInt(d, x operand.Op)
	toFloat(d, x operand.Op)
	intAdd(d, x, y operand.Op)
	intSub(d, x, y operand.Op)
	and(d, x, y operand.Op)
	or(d, x, y operand.Op)
	xor(d, x, y operand.Op)
	shiftLeft(d, x operand.Op, n uint8)
	shiftRight(d, x operand.Op, n uint8) // arithmetic

	// Small integers.
	loadInt16(d []operand.Op, a operand.Mem)
	loadTailInt16(d []operand.Op, a operand.Mem, t Tail)
	sub16(d, x, y operand.Op)
	mulPairs(acc, x, y operand.Op)
	loadTailBytes(d []operand.Op, a operand.Mem, t Tail)
	dotBytes(acc, x, y operand.Op)
	bitCounter() []operand.Op
	countBits(acc, x operand.Op, counter []operand.Op)

	// Masks.
	mask() reg.Register
	less(k, x, y operand.Op)
	equal(k, x, y operand.Op)
	bits(k []operand.Op, a operand.Mem)
	first(k []operand.Op, t Tail)
	choose(d, k, x, y operand.Op)
	zeroWhere(d, k operand.Op)

	// Across lanes.
	foldAdd(s []operand.Op)
	foldMax(s []operand.Op)
	foldInt(s []operand.Op)
	transpose(v []operand.Op)
	swapPairs(d, x operand.Op)

	// Words and control.
	param(d reg.Register, a operand.Mem)
	move(d, s operand.Op)
	addWord(d, s operand.Op)
	addParam(d reg.Register, a operand.Mem)
	subWord(d, s operand.Op)
	shiftWord(d operand.Op, n uint8)
	shiftWordDown(d operand.Op, n uint8)
	minWord(d, s operand.Op)
	mulWord(d, s operand.Op)
	andWord(d operand.Op, k int)
	index(d reg.GPVirtual, a operand.Mem)
	jumpLess(x, y operand.Op, label string)
	jumpNotLess(x, y operand.Op, label string)
	jumpNone(k []operand.Op, label string)
	jump(label string)
	rows(base, stride Word, n int) Rows
	epilogue()

	// lower rewrites a function whose registers are bound into text that Go's assembler accepts.
	lower(fn *ir.Function)
}

// Machine emits one assembly file for one instruction set.
type Machine struct {
	ISA
	b    backend
	file *ir.File

	reg.Collection
	fn        *ir.Function
	notes     map[*ir.Instruction]string
	note      string
	labels    int
	constants map[uint32]operand.Op
}

// New returns a machine that emits for isa.
func New(isa ISA) *Machine {
	m := &Machine{ISA: isa, file: ir.NewFile(), Collection: *reg.NewCollection()}
	tags, err := buildtags.ParseConstraint("!purego")
	must(err)
	m.file.Constraints = tags.ToConstraints()
	switch isa.GOARCH {
	case "amd64":
		m.b = newX86(m)
	case "arm64":
		m.b = newARM64(m)
	default:
		panic("machine: no backend for " + isa.GOARCH)
	}
	return m
}

// Func emits one function: name and Go signature as in the stub, body as its text.
func (m *Machine) Func(name, signature, doc string, body func(*Machine)) {
	sig, err := gotypes.ParseSignature(signature)
	must(err)
	m.Collection = *reg.NewCollection()
	m.fn = ir.NewFunction(name)
	m.fn.SetSignature(sig)
	m.fn.Attributes = attr.NOSPLIT
	m.fn.Doc = []string{doc}
	m.fn.AddPragma("noescape")
	m.file.AddSection(m.fn)
	m.notes = map[*ir.Instruction]string{}
	m.note = ""
	m.labels = 0
	m.constants = map[uint32]operand.Op{}

	body(m)
	m.b.epilogue()
	m.finish(name)
}

// finish binds registers and turns names into trailing comments.
func (m *Machine) finish(name string) {
	for _, p := range []func(*ir.Function) error{
		pass.LabelTarget, pass.CFG, pass.Liveness, pass.AllocateRegisters,
		pass.BindRegisters, pass.VerifyAllocation, pass.PruneSelfMoves,
	} {
		if err := p(m.fn); err != nil {
			panic(fmt.Sprintf("machine: %s%s: %v", name, m.Name, err))
		}
	}
	for _, i := range m.fn.Instructions() {
		for _, r := range i.OutputRegisters() {
			p, vec := r.(reg.VecPhysical)
			if vec && int(p.PhysicalIndex()) >= m.Registers {
				panic(fmt.Sprintf("machine: %s: out of vector registers", name))
			}
			if g, gp := r.(reg.GPPhysical); gp && g.Info()&reg.BasePointer != 0 {
				panic(fmt.Sprintf("machine: %s: out of general-purpose registers", name))
			}
		}
	}
	m.b.lower(m.fn)
	for i, note := range m.notes {
		if n := len(i.Operands); n > 0 && note != "" {
			i.Operands[n-1] = annotated{i.Operands[n-1], note}
		}
	}
}

// annotated is an operand with a comment behind it: the last of its line.
type annotated struct {
	operand.Op
	note string
}

func (a annotated) Asm() string { return a.Op.Asm() + " // " + a.note }

// Assembly returns the text of the file.
func (m *Machine) Assembly() ([]byte, error) {
	if err := pass.IncludeTextFlagHeader(m.file); err != nil {
		return nil, err
	}
	return printer.NewGoAsm(printer.Config{Name: "quern/gen", Pkg: "asm"}).Print(m.file)
}

// emit appends an instruction with the note that explains it.
func (m *Machine) emit(i *ir.Instruction, err error) {
	if err != nil {
		panic(fmt.Sprintf("machine: %s: %v", m.Name, err))
	}
	m.fn.AddInstruction(i)
	m.notes[i] = m.note
}

// op emits an instruction that is not checked by avo: those of arm64.
func (m *Machine) op(opcode string, operands, inputs, outputs []operand.Op) *ir.Instruction {
	i := &ir.Instruction{Opcode: opcode, Operands: operands, Inputs: inputs, Outputs: outputs}
	m.emit(i, nil)
	return i
}

// Note writes a line of its own into the assembly.
func (m *Machine) Note(format string, args ...any) {
	m.fn.AddComment(fmt.Sprintf(format, args...))
}

func (m *Machine) explain(format string, args ...any) { m.note = fmt.Sprintf(format, args...) }

// ---------------------------------------------------------------------------------------------
// Values

// Value is a named row of lanes in one or more registers.
type Value struct {
	name string
	regs []operand.Op
}

// Named returns a logical value of 16 lanes.
func (m *Machine) Named(format string, args ...any) Value {
	return m.Wide(1, fmt.Sprintf(format, args...))
}

// Wide returns n logical values as one: operations on it go register by register, which interleaves
// n independent chains so that none waits for another.
func (m *Machine) Wide(n int, name string) Value {
	v := Value{name: name}
	for range n * LogicalLanes / m.Lanes {
		v.regs = append(v.regs, m.b.vector())
	}
	return v
}

// Like returns a value as wide as v.
func (m *Machine) Like(v Value, name string) Value {
	w := Value{name: name}
	for range v.regs {
		w.regs = append(w.regs, m.b.vector())
	}
	return w
}

// Parts returns the logical values that a wide one consists of.
func (m *Machine) Parts(v Value) []Value {
	var parts []Value
	for n := LogicalLanes / m.Lanes; len(v.regs) > 0; v.regs = v.regs[n:] {
		parts = append(parts, Value{fmt.Sprintf("%s.%d", v.name, len(parts)), v.regs[:n]})
	}
	return parts
}

// Native returns a value of one register.
func (m *Machine) Native(format string, args ...any) Value {
	return Value{name: fmt.Sprintf(format, args...), regs: []operand.Op{m.b.vector()}}
}

// Const returns the uniform value of x: loaded here into a register, or left in memory where
// registers are scarce. Asking again gives the same register, so a kernel names its constants before
// its first loop or branch.
func (m *Machine) Const(name string, x float32) Value { return m.ConstBits(name, math.Float32bits(x)) }

// ConstBits is Const for a bit pattern.
func (m *Machine) ConstBits(name string, bits uint32) Value {
	c, ok := m.constants[bits]
	if !ok {
		m.explain("%s", name)
		c = m.b.constant(bits)
		m.constants[bits] = c
	}
	return Value{name: name, regs: []operand.Op{c}}
}

// Held returns a constant in a register even where constants stay in memory, for one that a loop takes more than once
// a value. It is loaded here.
func (m *Machine) Held(c Value) Value {
	if _, mem := c.regs[0].(operand.Mem); !mem {
		return c
	}
	v := m.Native("%s", c.name)
	m.Copy(v, c)
	return v
}

// at returns register i of v; a uniform value has the same for all.
func (v Value) at(i int) operand.Op {
	if len(v.regs) == 1 {
		return v.regs[0]
	}
	return v.regs[i]
}

func (m *Machine) each(d Value, text string, emit func(i int)) {
	for i := range d.regs {
		m.note = text
		if len(d.regs) > 1 {
			m.note = fmt.Sprintf("%s, lanes %d..%d", text, i*m.Lanes, (i+1)*m.Lanes-1)
		}
		emit(i)
	}
	m.note = ""
}

// Zero sets d to +0.
func (m *Machine) Zero(d Value) {
	m.each(d, d.name+" = 0", func(i int) { m.b.zero(d.at(i)) })
}

// Copy sets d to s.
func (m *Machine) Copy(d, s Value) {
	m.each(d, d.name+" = "+s.name, func(i int) { m.b.copy(d.at(i), s.at(i)) })
}

// Load reads d from consecutive memory.
func (m *Machine) Load(d Value, a Addr) {
	m.each(d, d.name+" = "+a.name(), func(i int) { m.b.load(d.at(i), a.mem(4*i*m.Lanes)) })
}

// Store writes s to consecutive memory.
func (m *Machine) Store(a Addr, s Value) {
	m.each(s, a.name()+" = "+s.name, func(i int) { m.b.store(a.mem(4*i*m.Lanes), s.at(i)) })
}

// Splat reads one number into every lane.
func (m *Machine) Splat(d Value, a Addr) {
	m.each(d, d.name+" = all "+a.name(), func(i int) { m.b.splat(d.at(i), a.mem(0)) })
}

// Factor reads one number into d, one register, for use as the factor of FMAFactor and nothing
// else: an instruction set that multiplies by a single lane does not replicate it.
func (m *Machine) Factor(d Value, a Addr) {
	m.each(d, d.name+" = "+a.name(), func(i int) { m.b.factor(d.at(i), a.mem(0)) })
}

// StoreLane writes lane 0 of s.
func (m *Machine) StoreLane(a Addr, s Value) {
	m.explain("%s = %s[0]", a.name(), s.name)
	m.b.storeLane(a.mem(0), s.at(0))
	m.note = ""
}

// Prefetch asks for the cache line at a.
func (m *Machine) Prefetch(a Addr) {
	m.explain("prefetch %s", a.name())
	m.b.prefetch(a.mem(0))
	m.note = ""
}

// PrefetchFar asks for the cache line at a, but no nearer than the second-level cache, which takes
// more such requests at a time.
func (m *Machine) PrefetchFar(a Addr) {
	m.explain("prefetch %s", a.name())
	m.b.prefetchFar(a.mem(0))
	m.note = ""
}

// Tail stands for the first n lanes of a value, n a word that is at most its number of lanes.
type Tail struct {
	n    Word
	regs []operand.Op // backends that have masks keep them here
}

// Tail prepares n lanes, 0 ≤ n ≤ 16, for LoadTail and StoreTail. n must stay as it is while the
// tail is in use.
func (m *Machine) Tail(n Word) Tail {
	m.explain("first %s lanes", n.name)
	defer func() { m.note = "" }()
	return m.b.tail(n)
}

// LoadTail reads the first lanes of d, as many as t says, and sets the others to +0. No byte
// beyond them is read.
func (m *Machine) LoadTail(d Value, a Addr, t Tail) {
	m.explain("%s = %s, %s lanes", d.name, a.name(), t.n.name)
	m.b.loadTail(d.regs, a.mem(0), t)
	m.note = ""
}

// StoreTail writes the first lanes of s, as many as t says.
func (m *Machine) StoreTail(a Addr, s Value, t Tail) {
	m.explain("%s = %s, %s lanes", a.name(), s.name, t.n.name)
	m.b.storeTail(a.mem(0), s.regs, t)
	m.note = ""
}

// Format is how numbers lie in memory. In registers all are float32.
type Format uint8

// The formats. Every number of them is a float32, so that loading is exact.
const (
	Float32  Format = iota
	BFloat16        // the upper half of a float32
	Float16         // IEEE binary16
	Int8            // signed, only to be loaded
)

// Size is the number of bytes of one number.
func (f Format) Size() int { return [...]int{4, 2, 2, 1}[f] }

func (f Format) String() string { return [...]string{"float32", "bfloat16", "float16", "int8"}[f] }

// LoadAs reads the 16 lanes of d from consecutive numbers of format f.
func (m *Machine) LoadAs(f Format, d Value, a Addr) {
	if f == Float32 {
		m.Load(d, a)
		return
	}
	m.explain("%s = %s of %s", d.name, f, a.name())
	m.b.loadAs(f, d.regs, a.mem(0))
	m.note = ""
}

// StoreAs writes the 16 lanes of s to consecutive numbers of format f: to the nearest float16, ties
// to even, and to bfloat16 by dropping the lower half, so that rounding comes before.
func (m *Machine) StoreAs(f Format, a Addr, s Value) {
	if f == Float32 {
		m.Store(a, s)
		return
	}
	m.explain("%s = %s of %s", a.name(), f, s.name)
	m.b.storeAs(f, a.mem(0), s.regs)
	m.note = ""
}

// LoadSplit reads 32 bfloat16: those at even places into one value, those at odd places into the
// other. This is faster than reading them in order with LoadAs, since both halves of a 32-bit word
// need one operation each and no shuffle; Zip brings results into order.
func (m *Machine) LoadSplit(even, odd Value, a Addr) {
	m.explain("%s, %s = every other bfloat16 of %s", even.name, odd.name, a.name())
	m.b.loadSplit(even.regs, odd.regs, a.mem(0))
	m.note = ""
}

// Zip takes the lanes of a and b in turn: a0, b0, a1, b1 and so on, the first sixteen into a,
// the others into b.
func (m *Machine) Zip(a, b Value) {
	m.explain("zip %s, %s", a.name, b.name)
	m.b.zip(a.regs, b.regs)
	m.note = ""
}

// Unzip is the inverse of Zip.
func (m *Machine) Unzip(a, b Value) {
	m.explain("unzip %s, %s", a.name, b.name)
	m.b.unzip(a.regs, b.regs)
	m.note = ""
}

// TailAs is Tail for LoadTailAs and StoreTailAs, 0 ≤ n < 16.
func (m *Machine) TailAs(f Format, n Word) Tail {
	if f == Float32 {
		return m.Tail(n)
	}
	m.explain("first %s lanes", n.name)
	defer func() { m.note = "" }()
	return m.b.narrowTail(n)
}

// LoadTailAs is LoadTail for format f.
func (m *Machine) LoadTailAs(f Format, d Value, a Addr, t Tail) {
	if f == Float32 {
		m.LoadTail(d, a, t)
		return
	}
	m.explain("%s = %s of %s, %s lanes", d.name, f, a.name(), t.n.name)
	m.b.loadTailAs(f, d.regs, a.mem(0), t)
	m.note = ""
}

// StoreTailAs is StoreTail for format f, rounding as StoreAs does.
func (m *Machine) StoreTailAs(f Format, a Addr, s Value, t Tail) {
	if f == Float32 {
		m.StoreTail(a, s, t)
		return
	}
	m.explain("%s = %s of %s, %s lanes", a.name(), f, s.name, t.n.name)
	m.b.storeTailAs(f, a.mem(0), s.regs, t)
	m.note = ""
}

// StoreBytes writes the 16 lanes of s, 32-bit integers, as signed bytes, saturating.
func (m *Machine) StoreBytes(a Addr, s Value) {
	m.mustBeLogical(s.regs)
	m.explain("%s = bytes of %s", a.name(), s.name)
	m.b.storeBytes(a.mem(0), s.regs)
	m.note = ""
}

// Arithmetic: float32, round to nearest even.

// Add sets d to x + y.
func (m *Machine) Add(d, x, y Value) { m.binary(d, x, y, "+", m.b.add) }

// Sub sets d to x - y.
func (m *Machine) Sub(d, x, y Value) { m.binary(d, x, y, "-", m.b.sub) }

// Mul sets d to x · y.
func (m *Machine) Mul(d, x, y Value) { m.binary(d, x, y, "*", m.b.mul) }

// Div sets d to x / y.
func (m *Machine) Div(d, x, y Value) { m.binary(d, x, y, "/", m.b.div) }

// IntAdd sets d to x + y, lanes as 32-bit integers.
func (m *Machine) IntAdd(d, x, y Value) { m.binary(d, x, y, "+ (int)", m.b.intAdd) }

// IntSub sets d to x - y, lanes as 32-bit integers.
func (m *Machine) IntSub(d, x, y Value) { m.binary(d, x, y, "- (int)", m.b.intSub) }

// And sets d to the bits that x and y have in common.
func (m *Machine) And(d, x, y Value) { m.binary(d, x, y, "&", m.b.and) }

// Or sets d to the bits of x and of y.
func (m *Machine) Or(d, x, y Value) { m.binary(d, x, y, "|", m.b.or) }

// Xor sets d to the bits in which x and y differ.
func (m *Machine) Xor(d, x, y Value) { m.binary(d, x, y, "^", m.b.xor) }

func (m *Machine) binary(d, x, y Value, sign string, emit func(d, x, y operand.Op)) {
	m.each(d, fmt.Sprintf("%s = %s %s %s", d.name, x.name, sign, y.name), func(i int) { emit(d.at(i), x.at(i), y.at(i)) })
}

// Max sets acc to x where x > acc. A NaN in x is ignored; of two zeros acc stays.
func (m *Machine) Max(acc, x Value) {
	m.each(acc, fmt.Sprintf("%s = max(%[1]s, %s)", acc.name, x.name), func(i int) { m.b.max(acc.at(i), x.at(i)) })
}

// AtLeast sets d to x, or to bound where x is less. A NaN in x stays one.
func (m *Machine) AtLeast(d, x, bound Value) { m.binary(d, x, bound, "or at least", m.b.atLeast) }

// AtMost sets d to x, or to bound where x is greater. A NaN in x stays one.
func (m *Machine) AtMost(d, x, bound Value) { m.binary(d, x, bound, "or at most", m.b.atMost) }

// FMA adds x · y to acc with one rounding.
func (m *Machine) FMA(acc, x, y Value) {
	m.each(acc, fmt.Sprintf("%s += %s * %s", acc.name, x.name, y.name), func(i int) { m.b.fma(acc.at(i), x.at(i), y.at(i)) })
}

// FMAFactor is FMA with a factor read by Factor.
func (m *Machine) FMAFactor(acc, x, factor Value) {
	m.each(acc, fmt.Sprintf("%s += %s * %s", acc.name, factor.name, x.name), func(i int) { m.b.fmaFactor(acc.at(i), x.at(i), factor.at(i)) })
}

// FMALoad is FMA with y from consecutive memory.
func (m *Machine) FMALoad(acc, x Value, a Addr) {
	m.each(acc, fmt.Sprintf("%s += %s * %s", acc.name, x.name, a.name()), func(i int) { m.b.fmaLoad(acc.at(i), x.at(i), a.mem(4*i*m.Lanes)) })
}

// FMASplat is FMA with one number from memory as the factor of all lanes, for a factor that serves a
// single value: where that is a single register too, the instruction may fetch it itself.
func (m *Machine) FMASplat(acc, x Value, a Addr) {
	if len(acc.regs) > 1 {
		f := m.Native("%s", a.name())
		m.Factor(f, a)
		m.FMAFactor(acc, x, f)
		return
	}
	m.explain("%s += %s * %s", acc.name, a.name(), x.name)
	m.b.fmaSplat(acc.at(0), x.at(0), a.mem(0))
	m.note = ""
}

// MulAdd sets p to p·f + c with one rounding: a step of Horner's rule.
func (m *Machine) MulAdd(p, f, c Value) {
	m.each(p, fmt.Sprintf("%s = %[1]s*%s + %s", p.name, f.name, c.name), func(i int) { m.b.mulAdd(p.at(i), f.at(i), c.at(i)) })
}

// FMS sets acc to x · y - acc with one rounding.
func (m *Machine) FMS(acc, x, y Value) {
	m.each(acc, fmt.Sprintf("%s = %s * %s - %[1]s", acc.name, x.name, y.name), func(i int) { m.b.fms(acc.at(i), x.at(i), y.at(i)) })
}

// SubMul subtracts x · y from acc with one rounding.
func (m *Machine) SubMul(acc, x, y Value) {
	m.each(acc, fmt.Sprintf("%s -= %s * %s", acc.name, x.name, y.name), func(i int) { m.b.subMul(acc.at(i), x.at(i), y.at(i)) })
}

// Round sets d to the integer nearest to x, ties to even.
func (m *Machine) Round(d, x Value) {
	m.each(d, fmt.Sprintf("%s = round(%s)", d.name, x.name), func(i int) { m.b.round(d.at(i), x.at(i)) })
}

// ToInt converts to 32-bit integers, nearest even. What NaN and numbers out of range become
// differs from machine to machine.
func (m *Machine) ToInt(d, x Value) {
	m.each(d, fmt.Sprintf("%s = int(%s)", d.name, x.name), func(i int) { m.b.toInt(d.at(i), x.at(i)) })
}

// ToFloat converts from 32-bit integers.
func (m *Machine) ToFloat(d, x Value) {
	m.each(d, fmt.Sprintf("%s = float(%s)", d.name, x.name), func(i int) { m.b.toFloat(d.at(i), x.at(i)) })
}

// ShiftLeft shifts the bits of each lane.
func (m *Machine) ShiftLeft(d, x Value, n uint8) {
	m.each(d, fmt.Sprintf("%s = %s << %d", d.name, x.name, n), func(i int) { m.b.shiftLeft(d.at(i), x.at(i), n) })
}

// ShiftRight shifts the bits of each lane, copying the sign.
func (m *Machine) ShiftRight(d, x Value, n uint8) {
	m.each(d, fmt.Sprintf("%s = %s >> %d", d.name, x.name, n), func(i int) { m.b.shiftRight(d.at(i), x.at(i), n) })
}

// ---------------------------------------------------------------------------------------------
// Small integers
//
// Sums of integers are exact in any order. So it is left open in which of the 16 lanes of 32 bits a
// term arrives: only their sum counts, which FoldInt gives.

// LoadInt16 reads 32 signed bytes into lanes of 16 bits.
func (m *Machine) LoadInt16(d Value, a Addr) {
	m.explain("%s = 32 bytes of %s", d.name, a.name())
	m.b.loadInt16(d.regs, a.mem(0))
	m.note = ""
}

// LoadTailInt16 is LoadInt16 for the first bytes, as many as t says, which TailAs(Int8) made for
// 0 ≤ n < 32. The other lanes are 0.
func (m *Machine) LoadTailInt16(d Value, a Addr, t Tail) {
	m.explain("%s = %s bytes of %s", d.name, t.n.name, a.name())
	m.b.loadTailInt16(d.regs, a.mem(0), t)
	m.note = ""
}

// Sub16 sets d to x - y in lanes of 16 bits.
func (m *Machine) Sub16(d, x, y Value) { m.binary(d, x, y, "- (int16)", m.b.sub16) }

// MulPairs adds the products of lanes of 16 bits, two to a lane of 32 bits.
func (m *Machine) MulPairs(acc, x, y Value) {
	m.each(acc, fmt.Sprintf("%s += pairs of %s * %s", acc.name, x.name, y.name), func(i int) { m.b.mulPairs(acc.at(i), x.at(i), y.at(i)) })
}

// LoadTailBytes reads the first bytes of d, as many as t says, which TailAs(Int8) made for
// 0 ≤ n < 64, and sets the others to 0. Only with an Extension.
func (m *Machine) LoadTailBytes(d Value, a Addr, t Tail) {
	m.explain("%s = %s bytes of %s", d.name, t.n.name, a.name())
	m.b.loadTailBytes(d.regs, a.mem(0), t)
	m.note = ""
}

// DotBytes adds the products of bytes, unsigned in x and signed in y, four to a lane of 32 bits. Only
// with an Extension.
func (m *Machine) DotBytes(acc, x, y Value) {
	m.each(acc, fmt.Sprintf("%s += fours of %s * %s", acc.name, x.name, y.name), func(i int) { m.b.dotBytes(acc.at(i), x.at(i), y.at(i)) })
}

// BitCounter is what CountBits needs: tables, where there is no instruction.
type BitCounter struct{ regs []operand.Op }

// BitCounter prepares for CountBits.
func (m *Machine) BitCounter() BitCounter {
	m.explain("to count bits")
	defer func() { m.note = "" }()
	return BitCounter{m.b.bitCounter()}
}

// CountBits adds the number of bits set in x to the lanes of 32 bits of acc.
func (m *Machine) CountBits(acc, x Value, c BitCounter) {
	m.each(acc, fmt.Sprintf("%s += bits of %s", acc.name, x.name), func(i int) { m.b.countBits(acc.at(i), x.at(i), c.regs) })
}

// FoldInt sums the 16 lanes of 32 bits into lane 0. The other lanes are lost.
func (m *Machine) FoldInt(s Value) {
	m.explain("%s[0] = sum of lanes (int)", s.name)
	m.b.foldInt(s.regs)
	m.note = ""
}

// ---------------------------------------------------------------------------------------------
// Masks

// Mask holds one truth per lane of a value.
type Mask Value

// MaskFor returns a mask for values as wide as v.
func (m *Machine) MaskFor(v Value, name string) Mask {
	k := Mask{name: name}
	for range v.regs {
		k.regs = append(k.regs, m.b.mask())
	}
	return k
}

// Less sets k where x < y; never for a NaN.
func (m *Machine) Less(k Mask, x, y Value) {
	m.each(Value(k), fmt.Sprintf("%s = %s < %s", k.name, x.name, y.name), func(i int) { m.b.less(k.regs[i], x.at(i), y.at(i)) })
}

// Equal sets k where x = y; never for a NaN.
func (m *Machine) Equal(k Mask, x, y Value) {
	m.each(Value(k), fmt.Sprintf("%s = %s == %s", k.name, x.name, y.name), func(i int) { m.b.equal(k.regs[i], x.at(i), y.at(i)) })
}

// Bits sets the 16 lanes of k from the 16 bits at a, lane 0 from the lowest.
func (m *Machine) Bits(k Mask, a Addr) {
	m.mustBeLogical(k.regs)
	m.explain("%s = 16 bits of %s", k.name, a.name())
	m.b.bits(k.regs, a.mem(0))
	m.note = ""
}

// First sets the lanes of k that t stands for.
func (m *Machine) First(k Mask, t Tail) {
	m.mustBeLogical(k.regs)
	m.explain("%s = first %s lanes", k.name, t.n.name)
	m.b.first(k.regs, t)
	m.note = ""
}

// Choose sets d to x where k is set and to y elsewhere. y may be d.
func (m *Machine) Choose(d Value, k Mask, x, y Value) {
	m.each(d, fmt.Sprintf("%s = %s ? %s : %s", d.name, k.name, x.name, y.name), func(i int) { m.b.choose(d.at(i), k.regs[i], x.at(i), y.at(i)) })
}

// ZeroWhere sets d to +0 where k is set.
func (m *Machine) ZeroWhere(d Value, k Mask) {
	m.each(d, fmt.Sprintf("%s = 0 where %s", d.name, k.name), func(i int) { m.b.zeroWhere(d.at(i), k.regs[i]) })
}

// ---------------------------------------------------------------------------------------------
// Across lanes

// FoldAdd sums the 16 lanes of s into lane 0 in the order of the specification: lanes l += l+8,
// then l+4, l+2, l+1. The other lanes are lost.
func (m *Machine) FoldAdd(s Value) {
	m.mustBeLogical(s.regs)
	m.explain("%s[0] = sum of lanes", s.name)
	m.b.foldAdd(s.regs)
	m.note = ""
}

// FoldMax puts the largest of the 16 lanes of s into lane 0, ignoring NaN only as Max does. The
// other lanes are lost.
func (m *Machine) FoldMax(s Value) {
	m.mustBeLogical(s.regs)
	m.explain("%s[0] = max of lanes", s.name)
	m.b.foldMax(s.regs)
	m.note = ""
}

func (m *Machine) mustBeLogical(regs []operand.Op) {
	if len(regs)*m.Lanes != LogicalLanes {
		panic("machine: the operation takes a logical value of 16 lanes")
	}
}

// Transpose exchanges rows and lanes of a square: as many native values as a register has lanes.
func (m *Machine) Transpose(v []Value) {
	if len(v) != m.Lanes {
		panic("machine: Transpose takes a square")
	}
	regs := make([]operand.Op, len(v))
	for i := range v {
		regs[i] = v[i].regs[0]
	}
	m.explain("transpose")
	m.b.transpose(regs)
	m.note = ""
	for i := range v {
		v[i].regs[0] = regs[i]
	}
}

// SwapPairs sets d to x with lanes 0 and 1, 2 and 3 and so on exchanged.
func (m *Machine) SwapPairs(d, x Value) {
	m.each(d, fmt.Sprintf("%s = %s, pairs swapped", d.name, x.name), func(i int) { m.b.swapPairs(d.at(i), x.at(i)) })
}

// ---------------------------------------------------------------------------------------------
// Words, addresses and control

// Word is a named general-purpose register.
type Word struct {
	name string
	reg  reg.GPVirtual
}

// Addr is a pointer with a displacement in bytes.
type Addr struct {
	base, index Word
	scale       uint8
	disp        int
	label       string
}

func (a Addr) name() string {
	if a.label != "" {
		return a.label
	}
	if a.disp == 0 {
		return a.base.name + "[0]"
	}
	return fmt.Sprintf("%s[%d]", a.base.name, a.disp/4)
}

func (a Addr) mem(offset int) operand.Mem {
	o := operand.Mem{Base: a.base.reg, Disp: a.disp + offset}
	if a.scale != 0 {
		o.Index, o.Scale = a.index.reg, a.scale
	}
	return o
}

// At returns the address disp bytes behind w.
func (w Word) At(disp int) Addr { return Addr{base: w, disp: disp} }

// Word returns a fresh register.
func (m *Machine) Word(name string) Word { return Word{name, m.GP64()} }

// Arg loads a parameter: a pointer or an int.
func (m *Machine) Arg(name string) Word {
	w := m.Word(name)
	m.explain("%s", name)
	m.b.param(w.reg, m.param(name))
	m.note = ""
	return w
}

// param is where a parameter lies.
func (m *Machine) param(name string) operand.Mem {
	c, err := m.fn.Signature.Params().Lookup(name).Resolve()
	must(err)
	return c.Addr
}

// ArgFloats returns an argument that counts float32, in bytes.
func (m *Machine) ArgFloats(name string) Word {
	w := m.Arg(name)
	m.Floats(w)
	return w
}

// ArgSplat loads a float32 parameter into every lane of one register.
func (m *Machine) ArgSplat(name string) Value {
	v := m.Native("%s", name)
	m.explain("%s in all lanes", name)
	m.b.splat(v.regs[0], m.param(name))
	m.note = ""
	return v
}

// Return stores lane 0 of v as the float32 result.
func (m *Machine) Return(v Value) {
	c, err := m.fn.Signature.Results().At(0).Resolve()
	must(err)
	m.explain("return %s[0]", v.name)
	m.b.storeLane(c.Addr, v.regs[0])
	m.note = ""
}

// Set copies a word.
func (m *Machine) Set(d, s Word) { m.words("=", d, s, m.b.move) }

// SetImm sets a word to a constant.
func (m *Machine) SetImm(d Word, k int) {
	m.explain("%s = %d", d.name, k)
	m.b.move(d.reg, operand.I32(k))
	m.note = ""
}

// AddWord adds s to d.
func (m *Machine) AddWord(d, s Word) { m.words("+=", d, s, m.b.addWord) }

// AddArg adds an int parameter to d, on x86 straight from memory.
func (m *Machine) AddArg(d Word, name string) {
	m.explain("%s += %s", d.name, name)
	m.b.addParam(d.reg, m.param(name))
	m.note = ""
}

// SubWord subtracts s from d.
func (m *Machine) SubWord(d, s Word) { m.words("-=", d, s, m.b.subWord) }

// MinWord sets d to the smaller of d and s.
func (m *Machine) MinWord(d, s Word) { m.words("min=", d, s, m.b.minWord) }

// MulWord multiplies d by s.
func (m *Machine) MulWord(d, s Word) { m.words("*=", d, s, m.b.mulWord) }

// AndImm keeps the bits of d that k has, k one less than a power of two.
func (m *Machine) AndImm(d Word, k int) {
	m.explain("%s &= %d", d.name, k)
	m.b.andWord(d.reg, k)
	m.note = ""
}

// Index sets d to the unsigned 32-bit integer at a.
func (m *Machine) Index(d Word, a Addr) {
	m.explain("%s = %s", d.name, a.name())
	m.b.index(d.reg, a.mem(0))
	m.note = ""
}

func (m *Machine) words(sign string, d, s Word, emit func(d, s operand.Op)) {
	m.explain("%s %s %s", d.name, sign, s.name)
	emit(d.reg, s.reg)
	m.note = ""
}

// AddImm adds a constant to d: bytes for a pointer.
func (m *Machine) AddImm(d Word, k int) {
	m.explain("%s += %d", d.name, k)
	switch {
	case k >= 0:
		m.b.addWord(d.reg, operand.I32(k))
	default:
		m.b.subWord(d.reg, operand.I32(-k))
	}
	m.note = ""
}

// Floats turns a count of float32 into bytes, in place.
func (m *Machine) Floats(w Word) {
	m.explain("%s in bytes", w.name)
	m.b.shiftWord(w.reg, 2)
	m.note = ""
}

// Shift multiplies w by 2ⁿ.
func (m *Machine) Shift(w Word, n uint8) {
	m.explain("%s <<= %d", w.name, n)
	m.b.shiftWord(w.reg, n)
	m.note = ""
}

// ShiftDown divides w, which is not negative, by 2ⁿ.
func (m *Machine) ShiftDown(w Word, n uint8) {
	m.explain("%s >>= %d", w.name, n)
	m.b.shiftWordDown(w.reg, n)
	m.note = ""
}

func (m *Machine) label(name string) string {
	m.labels++
	return fmt.Sprintf("%s_%d", name, m.labels)
}

// While repeats body as long as n ≥ step and subtracts step from n after each round.
func (m *Machine) While(n Word, step int, name string, body func()) {
	loop, end := m.label(name), m.label(name+"_end")
	m.jumpLess(n, step, end)
	m.fn.AddLabel(ir.Label(loop))
	body()
	m.AddImm(n, -step)
	m.jumpNotLess(n, step, loop)
	m.fn.AddLabel(ir.Label(end))
}

// If runs body when n ≥ k.
func (m *Machine) If(n Word, k int, body func()) {
	end := m.label("less")
	m.jumpLess(n, k, end)
	body()
	m.fn.AddLabel(ir.Label(end))
}

// IfElse runs body when n ≥ k, and other otherwise.
func (m *Machine) IfElse(n Word, k int, body, other func()) {
	less, end := m.label("less"), m.label("end")
	m.jumpLess(n, k, less)
	body()
	m.b.jump(end)
	m.fn.AddLabel(ir.Label(less))
	other()
	m.fn.AddLabel(ir.Label(end))
}

func (m *Machine) jumpLess(n Word, k int, label string) {
	m.explain("%s < %d", n.name, k)
	m.b.jumpLess(n.reg, operand.I32(k), label)
	m.note = ""
}

func (m *Machine) jumpNotLess(n Word, k int, label string) {
	m.explain("%s >= %d", n.name, k)
	m.b.jumpNotLess(n.reg, operand.I32(k), label)
	m.note = ""
}

// IfAny runs body when some lane of k is set.
func (m *Machine) IfAny(k Mask, body func()) {
	end := m.label("none")
	m.explain("any %s", k.name)
	m.b.jumpNone(k.regs, end)
	m.note = ""
	body()
	m.fn.AddLabel(ir.Label(end))
}

// Rows gives the addresses of several rows that lie a stride apart.
type Rows struct {
	at       func(r, disp int) Addr
	pointers []Word
}

// Rows returns the addresses of n rows from base, stride bytes apart. Base itself is left alone.
func (m *Machine) Rows(base, stride Word, n int) Rows {
	m.explain("rows of %s", base.name)
	defer func() { m.note = "" }()
	return m.b.rows(base, stride, n)
}

// At is the address disp bytes into row r.
func (r Rows) At(row, disp int) Addr {
	return r.at(row, disp)
}

// Advance moves all rows forward by the same number of bytes.
func (m *Machine) Advance(r Rows, bytes int) {
	for _, p := range r.pointers {
		m.AddImm(p, bytes)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
