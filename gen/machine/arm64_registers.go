package machine

import (
	"slices"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/reg"
)

// What the arm64 backend does to a whole function before avo binds its registers: it removes copies,
// and it decides where constants are loaded.

// analyse computes which registers are live where.
func analyse(fn *ir.Function) {
	for _, i := range fn.Instructions() {
		i.Pred, i.Succ = nil, nil
	}
	for _, p := range []func(*ir.Function) error{pass.LabelTarget, pass.CFG, pass.Liveness} {
		must(p(fn))
	}
}

// forget leaves the function as the machine expects it.
func forget(fn *ir.Function) {
	for _, i := range fn.Instructions() {
		i.Pred, i.Succ = nil, nil
	}
}

// forwardCopies removes copies of vector registers whose readers can read the original instead. It
// looks no further than to the end of the copy's straight line of code.
//
// This is what makes Horner's rule cost one copy a step: NEON has only acc += x·y, so that
// p = p·f + c is t = c, t += p·f, p = t, and the next step may read t for p.
func forwardCopies(fn *ir.Function) {
	analyse(fn)
	defer forget(fn)
	for n, node := range fn.Nodes {
		i, ok := node.(*ir.Instruction)
		if !ok || i.Opcode != copyOp {
			continue
		}
		readers, ok := readersOf(i, fn.Nodes[n+1:])
		if !ok {
			continue
		}
		for _, reader := range readers {
			readInstead(reader, i.Operands[0], i.Operands[1])
		}
		fn.Nodes[n] = nil
	}
	fn.Nodes = slices.DeleteFunc(fn.Nodes, func(n ir.Node) bool { return n == nil })
}

// readersOf returns the instructions behind the copy d = s that read d, and whether all of them may
// read s: s is not written before the last of them, d is not updated in place, and d does not live on
// beyond this straight line.
func readersOf(copy *ir.Instruction, behind []ir.Node) (readers []*ir.Instruction, ok bool) {
	d, s := copy.Operands[0], copy.Operands[1]
	// What is live at the end of a straight line stays so: no copy that lives on is removed.
	live, changed := copy.LiveOut, false
	for _, node := range behind {
		if _, label := node.(ir.Label); label {
			break
		}
		i, instruction := node.(*ir.Instruction)
		if !instruction {
			continue
		}
		live = i.LiveOut
		if writes(i, d) && arm64Ops[i.Opcode].updates || reads(i, d) && changed {
			return nil, false
		}
		if reads(i, d) {
			readers = append(readers, i)
		}
		if writes(i, d) {
			return readers, true
		}
		changed = changed || writes(i, s)
		if i.IsBranch || i.IsTerminal {
			break
		}
	}
	return readers, live[d.(reg.Register).ID()] == 0
}

// placeConstants replaces each copy of a constant by a load, which costs no more and keeps the
// register free. While the function does not fit the registers, it then moves the constant with the
// fewest readers from its register to loads in front of them.
func (b *arm64Backend) placeConstants() {
	for _, c := range b.constants {
		for n, node := range b.fn.Nodes {
			if i, ok := node.(*ir.Instruction); ok && i.Opcode == copyOp && same(i.Operands[1], c.Operands[0]) {
				b.fn.Nodes[n] = b.reload(c, i.Operands[0], b.m.notes[i])
			}
		}
	}
	b.dropUnread()
	for len(b.constants) > 0 && !vectorsFit(b.fn) {
		least := slices.MinFunc(b.constants, func(x, y *ir.Instruction) int { return b.readers(x) - b.readers(y) })
		b.loadWhereRead(least)
		b.dropUnread()
	}
}

// reload is the load of constant c into another register.
func (b *arm64Backend) reload(c *ir.Instruction, d operand.Op, note string) *ir.Instruction {
	i := &ir.Instruction{
		Opcode:   c.Opcode,
		Operands: append([]operand.Op{d}, c.Operands[1:]...),
		Inputs:   slices.Clone(c.Inputs),
		Outputs:  []operand.Op{d},
	}
	b.m.notes[i] = note
	return i
}

// sharing is how many other instructions may stand between two readers of a constant that use one
// load: the readers in the registers of one value do.
const sharing = 4

// loadWhereRead loads constant c in front of its readers.
func (b *arm64Backend) loadWhereRead(c *ir.Instruction) {
	var nodes []ir.Node
	var d operand.Op
	since := 0
	for _, node := range b.fn.Nodes {
		i, ok := node.(*ir.Instruction)
		if _, label := node.(ir.Label); label {
			d = nil
		}
		if ok && reads(i, c.Operands[0]) {
			if d == nil || since > sharing {
				d = b.vector()
				nodes = append(nodes, b.reload(c, d, b.m.notes[c]))
			}
			readInstead(i, c.Operands[0], d)
			since = 0
		}
		if ok {
			since++
		}
		nodes = append(nodes, node)
	}
	b.fn.Nodes = nodes
}

// readers counts the instructions that read constant c.
func (b *arm64Backend) readers(c *ir.Instruction) (n int) {
	for _, i := range b.fn.Instructions() {
		if reads(i, c.Operands[0]) {
			n++
		}
	}
	return n
}

// dropUnread removes constants that nothing reads.
func (b *arm64Backend) dropUnread() {
	b.constants = slices.DeleteFunc(b.constants, func(c *ir.Instruction) bool {
		if b.readers(c) > 0 {
			return false
		}
		b.fn.Nodes = slices.DeleteFunc(b.fn.Nodes, func(n ir.Node) bool { return n == ir.Node(c) })
		return true
	})
}

// vectorsFit tries what the machine is about to do.
func vectorsFit(fn *ir.Function) bool {
	analyse(fn)
	defer forget(fn)
	a, err := pass.NewAllocatorForKind(reg.KindVector)
	must(err)
	for _, i := range fn.Instructions() {
		for _, r := range i.Registers() {
			if r.Kind() == reg.KindVector {
				a.Add(r.ID())
			}
		}
	}
	for _, i := range fn.Instructions() {
		live := i.LiveOut.OfKind(reg.KindVector)
		if len(live) > NEON.Registers {
			return false
		}
		for _, d := range i.OutputRegisters() {
			if d.Kind() == reg.KindVector {
				others := live.Clone()
				others.DiscardRegister(d)
				a.AddInterferenceSet(d, others)
			}
		}
	}
	_, err = a.Allocate()
	return err == nil
}

// writes reports whether register d is written by i.
func writes(i *ir.Instruction, d operand.Op) bool {
	return len(i.Outputs) > 0 && same(i.Outputs[0], d)
}

// reads reports whether i reads register s, other than to update it in place.
func reads(i *ir.Instruction, s operand.Op) bool {
	return slices.ContainsFunc(sources(i), func(o operand.Op) bool { return same(o, s) })
}

// readInstead makes i read another register.
func readInstead(i *ir.Instruction, from, to operand.Op) {
	for _, operands := range [][]operand.Op{sources(i), i.Inputs} {
		for n := range operands {
			if same(operands[n], from) {
				operands[n] = to
			}
		}
	}
}

// sources returns the operands of i without its destination.
func sources(i *ir.Instruction) []operand.Op {
	if len(i.Outputs) > 0 {
		if _, register := i.Outputs[0].(reg.Register); register {
			return i.Operands[1:]
		}
	}
	return i.Operands
}
