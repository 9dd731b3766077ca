package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOperators(t *testing.T) {
	for _, c := range []struct {
		operator, line string
		want           []string
	}{
		{"instruction dropped", "ADDQ $+64, AX // x", []string{"// ADDQ $+64, AX // x"}},
		{"instruction dropped", "RET", nil},
		{"VZEROUPPER dropped", "VZEROUPPER", []string{"// VZEROUPPER"}},
		{"operands swapped", "VADDPS Y0, Y1, Y2", []string{"VADDPS Y0, Y2, Y1"}}, // the first two commute
		{"operands swapped", "VSUBPS Y0, Y1, Y2", []string{"VSUBPS Y1, Y0, Y2", "VSUBPS Y0, Y2, Y1"}},
		{"operands swapped", "WORD $0x4e20d421 // FADD V1.4S, V1.4S, V0.4S", []string{"WORD $0x4e20d421 // FADD V1.4S, V1.4S, V0.4S"}},
		{"wrong register", "VMOVUPS 32(AX), Y8", []string{"VMOVUPS 32(CX), Y8", "VMOVUPS 32(AX), Y9"}},
		{"wrong register", "ADD R0, R17, R2", []string{"ADD R1, R17, R2", "ADD R0, R16, R2", "ADD R0, R17, R3"}},
		{"wrong register", "WORD $0x4e217a11 // FCVTL2 V17.4S, V16.8H", []string{"WORD $0x4e217a10 // FCVTL2 V17.4S, V16.8H", "WORD $0x4e217a31 // FCVTL2 V17.4S, V16.8H"}},
		{"immediate off by one", "CMPQ DX, $+64", []string{"CMPQ DX, $65", "CMPQ DX, $63"}},
		{"immediate off by one", "PREFETCHT0 64(AX)", nil},
		{"address off by one element", "VMOVUPS (AX), Y8", []string{"VMOVUPS 4(AX), Y8", "VMOVUPS -4(AX), Y8"}},
		{"other condition", "JGE loop_1", []string{"JGT loop_1"}},
		{"other operation", "VFMLA V1.S4, V9.S4, V5.S4", []string{"VFMLS V1.S4, V9.S4, V5.S4"}},
		{"other operation", "WORD $0x4e21d400 // FADD V0.4S, V0.4S, V1.4S", []string{"WORD $0x4ea1d400 // FADD V0.4S, V0.4S, V1.4S"}},
	} {
		in, ok := decode("\t" + c.line)
		require.True(t, ok, c.line)
		for _, o := range operators {
			if o.name != c.operator {
				continue
			}
			var got []string
			for _, m := range o.apply(in) {
				got = append(got, strings.TrimSpace(m))
			}
			require.Equal(t, c.want, got, "%s: %s", c.operator, c.line)
		}
	}
}

// TestDraw: every kernel has mutants, each differs from its file in one line, and the seed decides which is drawn.
func TestDraw(t *testing.T) {
	var files []*source
	for isa, a := range arch {
		text, err := os.ReadFile(filepath.Join("../..", a.file))
		require.NoError(t, err)
		files = append(files, parse(isa, a.file, string(text)))
		require.Greater(t, len(files[len(files)-1].functions), 50)
	}
	drawn := map[string]int{}
	for seed := range uint64(200) {
		m, again := draw(rand.New(rand.NewPCG(seed, 0)), files), draw(rand.New(rand.NewPCG(seed, 0)), files)
		require.Equal(t, fmt.Sprint(m.line, m.mutated), fmt.Sprint(again.line, again.mutated))
		before, after := strings.Split(strings.Join(m.file.lines, "\n"), "\n"), strings.Split(m.text(), "\n")
		require.Equal(t, len(before), len(after))
		for i := range before {
			require.Equal(t, i != m.line, before[i] == after[i], "%+v", m)
		}
		drawn[m.operator]++
	}
	require.Len(t, drawn, len(operators))
}
