package machine

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/arch/arm64/arm64asm"
)

// wordLine is an encoded instruction, the text that explains it, and perhaps a note.
var wordLine = regexp.MustCompile(`^\s*WORD\s+\$(0x[0-9a-f]{8}) // ([A-Z0-9]+ [^/]*?)( // .*)?$`)

// checkWords decodes every WORD of an assembly file and compares it with its text. It returns the
// mnemonics it has seen.
func checkWords(t *testing.T, name, assembly string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for n, line := range strings.Split(assembly, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "WORD") {
			continue
		}
		match := wordLine.FindStringSubmatch(line)
		require.NotNil(t, match, "%s:%d: %s", name, n+1, line)
		code, err := strconv.ParseUint(match[1], 0, 32)
		require.NoError(t, err)
		require.Equal(t, match[2], decode(t, uint32(code)), "%s:%d", name, n+1)
		mnemonic, _, _ := strings.Cut(match[2], " ")
		seen[mnemonic] = true
	}
	return seen
}

func decode(t *testing.T, code uint32) string {
	t.Helper()
	i, err := arm64asm.Decode(binary.LittleEndian.AppendUint32(nil, code))
	require.NoError(t, err, "%#08x", code)
	return i.String()
}

func requireEncodes(t *testing.T, w word) {
	t.Helper()
	require.Equal(t, w.text, decode(t, w.code))
	require.Equal(t, fmt.Sprintf("$0x%08x // %s", w.code, w.text), w.Asm())
}

// registers has both ends and every bit of a register number.
var registers = []vreg{0, 1, 2, 4, 8, 15, 16, 21, 30, 31}

var (
	allThree    = []three{encFADD, encFSUB, encFMUL, encFDIV, encFMAX, encFMIN, encFCMGT, encFCMEQ, encCMGT, encBIC}
	allTwo      = []two{encFNEG, encFRINTN, encFCVTNS, encSCVTF}
	allWidening = []widening{
		encSHLL, encSHLL2, encSHRN, encSHRN2, encFCVTL, encFCVTL2, encFCVTN, encFCVTN2,
		encSXTLB, encSXTLB2, encSXTLH, encSXTLH2, encUADDLP, encUADALP,
		encSQXTNH, encSQXTNH2, encSQXTNB, encSQXTNB2,
	}
	allLong  = []long{encSMLAL, encSMLAL2}
	allRight = []right{encSSHR}
)

func TestARM64EncodersDecode(t *testing.T) {
	for _, d := range registers {
		for _, n := range registers {
			for _, e := range allTwo {
				requireEncodes(t, e.encode(d, n))
			}
			for _, e := range allWidening {
				requireEncodes(t, e.encode(d, n))
			}
			for _, e := range allRight {
				for bits := uint8(1); bits <= 32; bits++ {
					requireEncodes(t, e.encode(d, n, bits))
				}
			}
			for _, m := range registers {
				for _, e := range allThree {
					requireEncodes(t, e.encode(d, n, m))
				}
				for _, e := range allLong {
					requireEncodes(t, e.encode(d, n, m))
				}
				for lane := range uint8(4) {
					requireEncodes(t, encFMLALane.encode(d, n, m, lane))
				}
			}
		}
	}
}

func TestARM64EncodersRejectWhatIsOutOfRange(t *testing.T) {
	for _, bad := range []vreg{32, 33, 64, 255} {
		for _, e := range allThree {
			require.Panics(t, func() { e.encode(bad, 0, 0) }, e.name)
			require.Panics(t, func() { e.encode(0, bad, 0) }, e.name)
			require.Panics(t, func() { e.encode(0, 0, bad) }, e.name)
		}
		for _, e := range allTwo {
			require.Panics(t, func() { e.encode(bad, 0) }, e.name)
			require.Panics(t, func() { e.encode(0, bad) }, e.name)
		}
		for _, e := range allRight {
			require.Panics(t, func() { e.encode(bad, 0, 1) }, e.name)
			require.Panics(t, func() { e.encode(0, bad, 1) }, e.name)
		}
		require.Panics(t, func() { encFMLALane.encode(bad, 0, 0, 0) })
		require.Panics(t, func() { encFMLALane.encode(0, bad, 0, 0) })
		require.Panics(t, func() { encFMLALane.encode(0, 0, bad, 0) })
	}
	for _, e := range allRight {
		require.Panics(t, func() { e.encode(0, 0, 0) }, e.name)
		require.Panics(t, func() { e.encode(0, 0, 33) }, e.name)
	}
	require.Panics(t, func() { encFMLALane.encode(0, 0, 0, 4) })
}

// everything is a kernel that uses every operation of the machine.
func everything(m *Machine) {
	src, dst, stride, n := m.Arg("src"), m.Arg("dst"), m.Arg("stride"), m.Arg("n")
	factor := m.ArgSplat("factor")
	one, mask := m.Const("one", 1), m.ConstBits("mask", 0x7fffffff)
	zero := m.Const("0", 0)
	rows := m.Rows(src, stride, 7)
	x, y, acc := m.Named("x"), m.Named("y"), m.Named("acc")
	m.Load(x, rows.At(0, 0))
	m.Load(y, rows.At(6, 16))
	m.Zero(acc)
	m.While(n, 16, "loop", func() {
		m.Prefetch(src.At(256))
		m.Prefetch(src.At(-4))
		m.Add(x, x, y)
		m.Sub(x, x, factor)
		m.Mul(x, x, one)
		m.Div(y, x, y)
		m.Max(acc, x)
		m.FMA(acc, x, y)
		m.FMS(acc, x, y)
		m.MulAdd(acc, y, one)
		f := m.Native("f")
		m.Factor(f, rows.At(3, 4))
		m.FMAFactor(acc, x, f)
		m.Round(y, acc)
		m.AtLeast(x, y, one)
		m.AtMost(x, y, one)
		m.Advance(rows, 64)
	})
	m.Note("bits and integers")
	m.ToInt(x, y)
	m.IntAdd(x, x, y)
	m.IntSub(x, x, y)
	m.And(x, x, mask)
	m.Or(x, x, mask)
	m.ShiftLeft(x, x, 23)
	m.ShiftRight(x, x, 23)
	m.ToFloat(x, x)
	m.SwapPairs(y, x)
	m.Copy(y, x)
	m.Note("masks")
	tail := m.Tail(n)
	k := m.MaskFor(x, "k")
	m.Less(k, x, y)
	m.Choose(x, k, y, x)
	m.Equal(k, x, y)
	m.Choose(x, k, x, y)
	m.Bits(k, src.At(2))
	m.IfAny(k, func() { m.ZeroWhere(x, k) })
	m.First(k, tail)
	m.Choose(acc, k, x, zero)
	m.Note("memory")
	m.LoadTail(y, src.At(4), tail)
	m.StoreTail(dst.At(8), y, tail)
	one1 := m.Native("all")
	m.Splat(one1, src.At(0))
	m.Splat(one1, src.At(4))
	m.Store(dst.At(64), x)
	m.StoreLane(dst.At(0), one1)
	square := make([]Value, m.Lanes)
	for i := range square {
		square[i] = m.Native("s%d", i)
		m.Load(square[i], src.At(16*i))
	}
	m.Transpose(square)
	for i := range square {
		m.Store(dst.At(16*i), square[i])
	}
	m.Note("words")
	w := m.Word("w")
	m.SetImm(w, 3)
	m.MinWord(w, n)
	m.AddWord(w, n)
	m.SubWord(w, stride)
	m.Floats(w)
	m.Shift(w, 3)
	m.IfElse(w, 5, func() { m.FoldAdd(acc) }, func() { m.FoldMax(acc) })
	m.If(w, 1, func() { m.Add(acc, acc, acc) })
	m.Return(acc)
}

func emitNEON(t *testing.T, signature string, text func(*Machine)) string {
	t.Helper()
	m := New(NEON)
	m.Func("kernelNEON", signature, "is a test.", text)
	assembly, err := m.Assembly()
	require.NoError(t, err)
	return string(assembly)
}

const everythingSignature = "func(dst, src *float32, stride, n int, factor float32) float32"

func TestARM64WordsSayWhatTheyAre(t *testing.T) {
	seen := checkWords(t, "everything", emitNEON(t, everythingSignature, everything))
	for _, mnemonic := range []string{
		"FADD", "FSUB", "FMUL", "FDIV", "FMAX", "FMIN", "FCMGT", "FCMEQ", "CMGT", "BIC",
		"FNEG", "FRINTN", "FCVTNS", "SCVTF", "FMLA", "SSHR",
	} {
		require.True(t, seen[mnemonic], "no %s in the sample", mnemonic)
	}
}

func TestARM64GeneratedWordsSayWhatTheyAre(t *testing.T) {
	files, err := filepath.Glob("../../asm/*_arm64.s")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotEmpty(t, checkWords(t, name, string(text)), name)
	}
}

// The platform, the assembler and the runtime own some registers.
func TestARM64LeavesReservedRegistersAlone(t *testing.T) {
	text := emitNEON(t, everythingSignature, everything)
	require.NotRegexp(t, `\b(R18|R27|R28|R29|R30|RSP)\b`, text)
}

func TestARM64NotesFollowTheMnemonic(t *testing.T) {
	text := emitNEON(t, everythingSignature, everything)
	require.Regexp(t, `WORD\s+\$0x[0-9a-f]{8} // FMUL V\d+\.4S, V\d+\.4S, V\d+\.4S // x = x \* one, lanes 4\.\.7\n`, text)
	require.Regexp(t, `FMOVS\s+F\d+, ret\+40\(FP\) // return acc\[0\]\n`, text)
}

// Horner's rule needs one multiplication and one load a step, and no copy.
func TestARM64HornerCopiesNothing(t *testing.T) {
	text := emitNEON(t, "func(dst, src *float32, n int)", func(m *Machine) {
		dst, src, n := m.Arg("dst"), m.Arg("src"), m.Arg("n")
		var c []Value
		for i := range 6 {
			c = append(c, m.Const(fmt.Sprintf("c%d", i), float32(i)+1.5))
		}
		m.While(n, 16, "loop", func() {
			x, p := m.Named("x"), m.Named("p")
			m.Load(x, src.At(0))
			m.Copy(p, c[0])
			for _, c := range c[1:] {
				m.MulAdd(p, x, c)
			}
			m.Add(p, p, x)
			m.Store(dst.At(0), p)
		})
	})
	require.NotContains(t, text, "VMOV")
	require.Equal(t, 4*5, strings.Count(text, "VFMLA"))
	require.Equal(t, 1+4*5+4, strings.Count(text, ", F"), "c0, then the constants of every step, and x")
}

// A copy stays where a reader could tell the difference.
func TestARM64KeepsCopiesThatMatter(t *testing.T) {
	for name, text := range map[string]func(m *Machine, a, b, c Value){
		"the source is written before the copy is read": func(m *Machine, a, b, c Value) {
			m.Copy(b, a)
			m.Add(a, a, c)
			m.Mul(c, b, a)
		},
		"the copy is updated in place": func(m *Machine, a, b, c Value) {
			m.Copy(b, a)
			m.FMA(b, c, c)
			m.Mul(c, b, a)
		},
		"the copy lives on": func(m *Machine, a, b, c Value) {
			m.Copy(b, a)
			w := m.Word("w")
			m.SetImm(w, 1)
			m.If(w, 1, func() { m.Add(a, a, c) })
			m.Mul(c, b, a)
		},
	} {
		assembly := emitNEON(t, "func(p *float32)", func(m *Machine) {
			p := m.Arg("p")
			v := make([]Value, 3)
			for i := range v {
				v[i] = m.Native("v%d", i)
				m.Load(v[i], p.At(16*i))
			}
			text(m, v[0], v[1], v[2])
			m.Store(p.At(0), v[2])
		})
		require.Equal(t, 1, strings.Count(assembly, "VMOV"), name)
	}
}

// Constants leave their registers when values need them, as loads in front of their readers.
func TestARM64ConstantsMakeRoom(t *testing.T) {
	kernel := func(constants, values int) func(m *Machine) {
		return func(m *Machine) {
			p, n := m.Arg("p"), m.Arg("n")
			var c, v []Value
			for i := range constants {
				c = append(c, m.Const(fmt.Sprintf("c%d", i), float32(i)+1.5))
			}
			for i := range values {
				v = append(v, m.Named("v%d", i))
				m.Load(v[i], p.At(64*i))
			}
			m.While(n, 1, "loop", func() {
				for i := range c {
					m.Mul(v[i%values], v[i%values], c[i])
				}
			})
			for i := range v {
				m.Store(p.At(64*i), v[i])
			}
		}
	}
	require.Equal(t, 20+4*3, strings.Count(emitNEON(t, "func(p *float32, n int)", kernel(20, 3)), ", F"), "one load of each constant")
	tight := emitNEON(t, "func(p *float32, n int)", kernel(20, 7))
	require.Equal(t, 20+4*7, strings.Count(tight, ", F"), "still one: readers side by side share")
	_, loop, _ := strings.Cut(tight, "loop_1:")
	loop, _, _ = strings.Cut(loop, "BGE")
	require.Equal(t, 17, strings.Count(loop, "FMOVQ"), "as many as had to leave")
	require.Panics(t, func() { emitNEON(t, "func(p *float32, n int)", kernel(1, 8)) }, "values are never spilled")
}
