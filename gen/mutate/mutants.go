package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// source is a generated file of assembly.
type source struct {
	isa, name string // "avx2", "asm/avx2_amd64.s"
	lines     []string
	functions []function
}

// function is a kernel's text: the lines [first, end) of a file.
type function struct {
	name, kernel string // "dotAVX2", "Dot"
	first, end   int
}

// mutant is a file in which one line is another.
type mutant struct {
	file              *source
	function          function
	operator          string
	line              int // from 0
	original, mutated string
}

// text is the file with the mutation.
func (m *mutant) text() string {
	lines := slices.Clone(m.file.lines)
	lines[m.line] = m.mutated
	return strings.Join(lines, "\n")
}

// parse finds the functions of a file. A name ends in that of the instruction set and of an extension.
func parse(isa, name, text string) *source {
	s := &source{isa: isa, name: name, lines: strings.Split(text, "\n")}
	for i, line := range s.lines {
		rest, ok := strings.CutPrefix(line, "TEXT ·")
		if !ok {
			continue
		}
		f := function{first: i + 1}
		f.name, _, _ = strings.Cut(rest, "(")
		kernel, _, _ := strings.Cut(f.name, strings.ToUpper(isa))
		f.kernel = strings.ToUpper(kernel[:1]) + kernel[1:]
		for f.end = f.first; f.end < len(s.lines) && !strings.HasPrefix(s.lines[f.end], "TEXT "); f.end++ {
		}
		s.functions = append(s.functions, f)
	}
	return s
}

// instruction is a line taken apart.
type instruction struct {
	opcode   string
	operands []string
	comment  string
}

func (in instruction) String() string {
	return "\t" + in.opcode + " " + strings.Join(in.operands, ", ") + in.comment
}

// with is the instruction with another operand.
func (in instruction) with(i int, operand string) string {
	in.operands = slices.Clone(in.operands)
	in.operands[i] = operand
	return in.String()
}

// renamed is the instruction with another opcode.
func (in instruction) renamed(opcode string) string {
	in.opcode = opcode
	return in.String()
}

func (in instruction) swapped(i, j int) string {
	in.operands = slices.Clone(in.operands)
	in.operands[i], in.operands[j] = in.operands[j], in.operands[i]
	return in.String()
}

// decode takes a line apart, unless it is a label, a directive, empty or a comment.
func decode(line string) (in instruction, ok bool) {
	if !strings.HasPrefix(line, "\t") {
		return in, false
	}
	code := strings.TrimSpace(line)
	if at := strings.Index(code, "//"); at >= 0 {
		code, in.comment = strings.TrimSpace(code[:at]), " "+code[at:]
	}
	in.opcode, code, _ = strings.Cut(code, " ")
	if in.opcode == "" {
		return in, false
	}
	if code = strings.TrimSpace(code); code != "" {
		in.operands = strings.Split(code, ", ")
	}
	return in, true
}

// operator is a kind of mutation: all that it can make of a line, nothing if it does not apply.
type operator struct {
	name  string
	apply func(in instruction) []string
}

// operators are drawn with equal chances. Prefetching is left alone: it is a hint, and nothing but time
// depends on it. So are loads of arguments, whose names vet compares with the declarations.
var operators = []operator{
	{"instruction dropped", func(in instruction) []string {
		switch in.opcode {
		case "RET", "VZEROUPPER":
			return nil
		}
		return []string{"\t// " + strings.TrimSpace(in.String())}
	}},
	{"VZEROUPPER dropped", func(in instruction) []string {
		if in.opcode != "VZEROUPPER" {
			return nil
		}
		return []string{"\t// VZEROUPPER"}
	}},
	{"operands swapped", swapOperands},
	{"wrong register", wrongRegister},
	{"immediate off by one", func(in instruction) []string {
		return offByOne(in, regexp.MustCompile(`^\$([+-]?)(0x[0-9a-f]+|[0-9]+)$`), 1)
	}},
	{"address off by one element", func(in instruction) []string {
		return offByOne(in, regexp.MustCompile(`^(-?)([0-9]*)\([A-Z][A-Z0-9]*\)`), 4)
	}},
	{"other condition", func(in instruction) []string { return otherOpcode(in, conditions) }},
	{"other operation", otherOperation},
	{"last bit of a constant", nil}, // of a DATA line that the function refers to: see draw
}

// commutes reports that the two factors or terms before the destination may change places.
func commutes(opcode string) bool {
	return regexp.MustCompile(`^(V(ADD|MUL)PS|VFN?M(ADD|SUB)231PS|VP?(ADD[BDW]|X?ORD?|ANDD?|MADDWD)|VXORPS|VFML[AS]|VE?ORR?|VADD|VAND|VMAXPS)(\.BCST)?$`).MatchString(opcode)
}

// swapOperands exchanges two neighbours: all pairs but those that make no difference.
func swapOperands(in instruction) (all []string) {
	n := len(in.operands)
	if in.opcode == "WORD" {
		if w, registers, ok := word(in); ok && registers > 1 {
			all = append(all, in.with(0, hex(w&^0x3ff|w>>5&31|w&31<<5)))
			if strings.Contains(in.comment, "SUB") || strings.Contains(in.comment, "DIV") || strings.Contains(in.comment, "CMGT") || strings.Contains(in.comment, "BIC") {
				all = append(all, in.with(0, hex(w&^(31<<5|31<<16)|w>>5&31<<16|w>>16&31<<5)))
			}
		}
		return all
	}
	for i := 0; i+1 < n; i++ {
		if in.operands[i] == in.operands[i+1] || commutes(in.opcode) && i == n-3 {
			continue
		}
		all = append(all, in.swapped(i, i+1))
	}
	return all
}

var (
	vector  = regexp.MustCompile(`\b([XYZVFK])([0-9]+)\b`)
	general = regexp.MustCompile(`\b(AX|CX|DX|BX|SI|DI|R[0-9]+)\b`)
	// intel is the order in which a wrong general register follows the right one.
	intel = []string{"AX", "CX", "DX", "BX", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13", "R15"}
)

// wrongRegister puts a neighbour in a register's place.
func wrongRegister(in instruction) (all []string) {
	if in.opcode == "WORD" {
		w, registers, ok := word(in)
		for i, shift := range []int{0, 5, 16} {
			if ok && i < registers {
				all = append(all, in.with(0, hex(w^1<<shift)))
			}
		}
		return all
	}
	for i, o := range in.operands {
		if strings.HasPrefix(o, "$") {
			continue
		}
		if at := vector.FindStringSubmatchIndex(o); at != nil {
			n, _ := strconv.Atoi(o[at[4]:at[5]])
			if n ^= 1; o[0] == 'K' && n == 0 {
				n = 2 // K0 is no mask
			}
			all = append(all, in.with(i, o[:at[4]]+strconv.Itoa(n)+o[at[5]:]))
			continue
		}
		for _, at := range general.FindAllStringIndex(o, -1) {
			name := o[at[0]:at[1]]
			if n := slices.Index(intel, name); n >= 0 && strings.HasSuffix(in.opcode, "Q") || n >= 0 && strings.ContainsAny(o, "(") && in.opcode[0] == 'V' {
				name = intel[(n+1)%len(intel)]
			} else if n, err := strconv.Atoi(strings.TrimPrefix(name, "R")); err == nil && n^1 < 26 && n^1 != 18 {
				name = "R" + strconv.Itoa(n^1)
			}
			if mutated := o[:at[0]] + name + o[at[1]:]; mutated != o {
				all = append(all, in.with(i, mutated))
			}
		}
	}
	return all
}

// offByOne adds and subtracts a step at the number that a pattern finds in an operand: a sign and digits.
func offByOne(in instruction, pattern *regexp.Regexp, step int64) (all []string) {
	if in.opcode == "WORD" || strings.Contains(in.opcode, "PREFETCH") || in.opcode == "PRFM" {
		return nil
	}
	for i, o := range in.operands {
		at := pattern.FindStringSubmatchIndex(o)
		if at == nil || strings.Contains(o, "FP") || strings.Contains(o, "SB") {
			continue
		}
		n, err := int64(0), error(nil)
		if at[2] < at[5] {
			n, err = strconv.ParseInt(o[at[2]:at[5]], 0, 64)
		}
		if err != nil {
			panic(fmt.Sprintf("%s: %v", in, err))
		}
		for _, n := range []int64{n + step, n - step} {
			all = append(all, in.with(i, o[:at[2]]+strconv.FormatInt(n, 10)+o[at[5]:]))
		}
	}
	return all
}

// conditions and operations are opcodes and what takes their place.
var (
	conditions = map[string]string{
		"JLT": "JLE", "JGE": "JGT", "JEQ": "JNE", "JNE": "JEQ", "CMOVQLT": "CMOVQLE",
		"BLT": "BLE", "BGE": "BGT", "BEQ": "BNE", "BNE": "BEQ", "TBZ": "TBNZ", "TBNZ": "TBZ",
	}
	operations = map[string]string{
		"VADDPS": "VSUBPS", "VSUBPS": "VADDPS", "VMULPS": "VADDPS", "VDIVPS": "VMULPS", "VMAXPS": "VMINPS",
		"VFMADD231PS": "VFNMADD231PS", "VFNMADD231PS": "VFMADD231PS", "VFMSUB231PS": "VFMADD231PS", "VFMADD213PS": "VFMADD132PS",
		"VFMADD231PS.BCST": "VFNMADD231PS.BCST", "VANDNPS": "VANDPS", "VBLENDVPS": "VANDPS",
		"VPADDD": "VPSUBD", "VPSUBD": "VPADDD", "VPADDB": "VPSUBB", "VPSUBW": "VPADDW", "VPSLLD": "VPSRLD", "VPSRLD": "VPSRAD", "VPSRAD": "VPSRLD",
		"VUNPCKLPS": "VUNPCKHPS", "VUNPCKHPS": "VUNPCKLPS", "VUNPCKLPD": "VUNPCKHPD", "VUNPCKHPD": "VUNPCKLPD",
		"VPMOVSXBD": "VPMOVZXBD", "VPMOVZXWD": "VPMOVSXWD", "VPMOVSXBW": "VPMOVZXBW", "VCVTPS2DQ": "VCVTTPS2DQ",
		"VPXORD": "VPORD", "VXORPS": "VORPS", "VPDPBUSD": "VPDPBUSDS",
		"ADDQ": "SUBQ", "SUBQ": "ADDQ", "SHLQ": "SHRQ", "ORQ": "XORQ", "ANDQ": "ORQ",
		"VFMLA": "VFMLS", "VFMLS": "VFMLA", "VBIT": "VBIF", "VBIF": "VBIT", "VADD": "VSUB", "VSUB": "VADD", "VEOR": "VORR", "VORR": "VAND", "VAND": "VORR",
		"VZIP1": "VZIP2", "VZIP2": "VZIP1", "VUZP1": "VUZP2", "VUZP2": "VUZP1", "VTRN1": "VTRN2", "VTRN2": "VTRN1",
		"ADD": "SUB", "SUB": "ADD", "LSL": "LSR", "LSR": "LSL", "ORR": "EOR", "AND": "ORR", "MOVHU": "MOVH", "MOVBU": "MOVB",
	}
	// negations are the bits of encoded instructions that make the first of a pair the second.
	negations = []struct {
		name string
		bit  int
	}{{"FADD", 23}, {"FSUB", 23}, {"FMLA", 14}, {"FCVTL2", 30}, {"SXTL2", 30}, {"SHLL2", 30}, {"SXTL ", 29}, {"FRINTN", 23}, {"FCVTNS", 23}}
)

func otherOpcode(in instruction, table map[string]string) []string {
	other, ok := table[in.opcode]
	if !ok {
		return nil
	}
	return []string{in.renamed(other)}
}

func otherOperation(in instruction) []string {
	if in.opcode == "WORD" {
		w, _, ok := word(in)
		for _, n := range negations {
			if ok && strings.Contains(in.comment, "// "+n.name) {
				return []string{in.with(0, hex(w^1<<n.bit))}
			}
		}
		return nil
	}
	return otherOpcode(in, operations)
}

// word is the number of an encoded instruction of arm64, and how many of the fields Rd, Rn and Rm it has,
// by the instruction in its comment.
func word(in instruction) (w uint32, registers int, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(in.operands[0], "$"), 0, 32)
	text, _, _ := strings.Cut(in.comment, ";")
	return uint32(n), min(len(regexp.MustCompile(`\bV[0-9]+`).FindAllString(text, -1)), 3), err == nil
}

func hex(w uint32) string { return fmt.Sprintf("$0x%08x", w) }

// draw makes a mutant of files: a file, then a function of it, then an operator, then a line to which that
// applies, each with equal chances, so that long kernels do not have them all.
func draw(r *rand.Rand, files []*source) *mutant {
	for {
		file := files[r.IntN(len(files))]
		f := file.functions[r.IntN(len(file.functions))]
		o := operators[r.IntN(len(operators))]
		var all []*mutant
		add := func(line int, mutated []string) {
			for _, m := range mutated {
				if slices.Equal(strings.Fields(m), strings.Fields(file.lines[line])) {
					continue
				}
				all = append(all, &mutant{file, f, o.name, line, file.lines[line], m})
			}
		}
		if o.apply == nil {
			constants(file, f, add)
		}
		for i := f.first; i < f.end; i++ {
			in, ok := decode(file.lines[i])
			if !ok || o.apply == nil || strings.Contains(in.opcode, "PREFETCH") || in.opcode == "PRFM" || strings.Contains(strings.Join(in.operands, " "), "(FP)") {
				continue
			}
			add(i, o.apply(in))
		}
		if len(all) > 0 {
			return all[r.IntN(len(all))]
		}
	}
}

// constants adds the last bit of everything in the tables that a function refers to.
func constants(file *source, f function, add func(line int, mutated []string)) {
	data := regexp.MustCompile(`^DATA (\w+<>)\+\d+\(SB\)/\d+, (\$0x[0-9a-f]+)$`)
	used := map[string]bool{}
	for i := f.first; i < f.end; i++ {
		if in, ok := decode(file.lines[i]); ok {
			for _, name := range regexp.MustCompile(`\w+<>`).FindAllString(strings.Join(in.operands, " "), -1) {
				used[name] = true
			}
		}
	}
	for i, line := range file.lines {
		if at := data.FindStringSubmatchIndex(line); at != nil && used[line[at[2]:at[3]]] {
			number := line[at[4]:at[5]]
			n, err := strconv.ParseUint(number[1:], 0, 64)
			if err != nil {
				panic(line)
			}
			add(i, []string{line[:at[4]] + fmt.Sprintf("$0x%0*x", len(number)-3, n^1)})
		}
	}
}
