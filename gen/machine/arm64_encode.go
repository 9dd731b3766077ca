package machine

import "fmt"

// Go's assembler has no mnemonics for most of NEON's float32 arithmetic. The encoders below turn
// such an instruction into a WORD and the text that explains it, in the syntax of the Arm manual
// (ARM DDI 0487, section C7.2), destination first. A test decodes every WORD and compares.

// vreg is a vector register, 0 to 31.
type vreg uint8

// word is an encoded instruction: the operand of WORD.
type word struct {
	code uint32
	text string
}

func (w word) Asm() string { return fmt.Sprintf("$0x%08x // %s", w.code, w.text) }

// field places a value of an instruction that must lie within least and most.
func field(what string, value, least, most uint8, shift int) uint32 {
	if value < least || value > most {
		panic(fmt.Sprintf("machine: arm64: %s %d is not within %d..%d", what, value, least, most))
	}
	return uint32(value) << shift
}

func rd(v vreg) uint32 { return field("destination register", uint8(v), 0, 31, 0) }
func rn(v vreg) uint32 { return field("first source register", uint8(v), 0, 31, 5) }
func rm(v vreg) uint32 { return field("second source register", uint8(v), 0, 31, 16) }

// three is an instruction with two vector sources of the destination's arrangement.
type three struct {
	name, arrangement string
	code              uint32
}

func (e three) encode(d, n, m vreg) word {
	return word{
		e.code | rd(d) | rn(n) | rm(m),
		fmt.Sprintf("%s V%d.%[3]s, V%[4]d.%[3]s, V%[5]d.%[3]s", e.name, d, e.arrangement, n, m),
	}
}

// two is an instruction with one source, all 4S.
type two struct {
	name string
	code uint32
}

func (e two) encode(d, n vreg) word {
	return word{e.code | rd(d) | rn(n), fmt.Sprintf("%s V%d.4S, V%d.4S", e.name, d, n)}
}

// widening is an instruction with one source whose lanes are half or twice as wide.
type widening struct {
	name, to, from, suffix string
	code                   uint32
}

func (e widening) encode(d, n vreg) word {
	return word{e.code | rd(d) | rn(n), fmt.Sprintf("%s V%d.%s, V%d.%s%s", e.name, d, e.to, n, e.from, e.suffix)}
}

// long multiplies lanes of 16 bits into lanes of 32.
type long struct {
	name, from string
	code       uint32
}

func (e long) encode(d, n, m vreg) word {
	return word{e.code | rd(d) | rn(n) | rm(m), fmt.Sprintf("%s V%d.4S, V%d.%[4]s, V%[5]d.%[4]s", e.name, d, n, e.from, m)}
}

// byElement multiplies by one lane of its second source.
type byElement struct {
	name string
	code uint32
}

func (e byElement) encode(d, n, m vreg, lane uint8) word {
	field("lane", lane, 0, 3, 0)
	l, h := uint32(lane&1)<<21, uint32(lane>>1)<<11
	return word{
		e.code | rd(d) | rn(n) | rm(m) | l | h,
		fmt.Sprintf("%s V%d.4S, V%d.4S, V%d.S[%d]", e.name, d, n, m, lane),
	}
}

// right is a shift to the right by 1 to 32 bits, which is encoded as 64 minus the count.
type right struct {
	name string
	code uint32
}

func (e right) encode(d, n vreg, bits uint8) word {
	field("count of bits", bits, 1, 32, 0)
	return word{
		e.code | rd(d) | rn(n) | uint32(64-bits)<<16,
		fmt.Sprintf("%s V%d.4S, V%d.4S, #%d", e.name, d, n, bits),
	}
}

var (
	encFADD  = three{"FADD", "4S", 0x4e20d400}
	encFSUB  = three{"FSUB", "4S", 0x4ea0d400}
	encFMUL  = three{"FMUL", "4S", 0x6e20dc00}
	encFDIV  = three{"FDIV", "4S", 0x6e20fc00}
	encFMAX  = three{"FMAX", "4S", 0x4e20f400}
	encFMIN  = three{"FMIN", "4S", 0x4ea0f400}
	encFCMGT = three{"FCMGT", "4S", 0x6ea0e400}
	encFCMEQ = three{"FCMEQ", "4S", 0x4e20e400}
	encCMGT  = three{"CMGT", "4S", 0x4ea03400}
	encBIC   = three{"BIC", "16B", 0x4e601c00}

	encFNEG   = two{"FNEG", 0x6ea0f800}
	encFRINTN = two{"FRINTN", 0x4e218800}
	encFCVTNS = two{"FCVTNS", 0x4e21a800}
	encSCVTF  = two{"SCVTF", 0x4e21d800}

	encSHLL    = widening{"SHLL", "4S", "4H", ", #16", 0x2e613800}
	encSHLL2   = widening{"SHLL2", "4S", "8H", ", #16", 0x6e613800}
	encSHRN    = widening{"SHRN", "4H", "4S", ", #16", 0x0f108400}
	encSHRN2   = widening{"SHRN2", "8H", "4S", ", #16", 0x4f108400}
	encFCVTL   = widening{"FCVTL", "4S", "4H", "", 0x0e217800}
	encFCVTL2  = widening{"FCVTL2", "4S", "8H", "", 0x4e217800}
	encFCVTN   = widening{"FCVTN", "4H", "4S", "", 0x0e216800}
	encFCVTN2  = widening{"FCVTN2", "8H", "4S", "", 0x4e216800}
	encSQXTNH  = widening{"SQXTN", "4H", "4S", "", 0x0e614800}
	encSQXTNH2 = widening{"SQXTN2", "8H", "4S", "", 0x4e614800}
	encSQXTNB  = widening{"SQXTN", "8B", "8H", "", 0x0e214800}
	encSQXTNB2 = widening{"SQXTN2", "16B", "8H", "", 0x4e214800}
	encSXTLB   = widening{"SXTL", "8H", "8B", "", 0x0f08a400}
	encSXTLB2  = widening{"SXTL2", "8H", "16B", "", 0x4f08a400}
	encSXTLH   = widening{"SXTL", "4S", "4H", "", 0x0f10a400}
	encSXTLH2  = widening{"SXTL2", "4S", "8H", "", 0x4f10a400}

	encUADDLP = widening{"UADDLP", "8H", "16B", "", 0x6e202800}
	encUADALP = widening{"UADALP", "4S", "8H", "", 0x6e606800}
	encSMLAL  = long{"SMLAL", "4H", 0x0e608000}
	encSMLAL2 = long{"SMLAL2", "8H", 0x4e608000}

	encFMLALane = byElement{"FMLA", 0x4f801000}

	encSSHR = right{"SSHR", 0x4f000400}
)
