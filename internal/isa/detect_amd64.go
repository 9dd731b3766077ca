//go:build amd64 && !purego

package isa

import "golang.org/x/sys/cpu"

// detect tests every bit of a bundle: GODEBUG=cpu.avx512=off, for example, clears HasAVX512 and
// nothing else.
func detect() []Level {
	x := &cpu.X86
	// F16C comes with every CPU that has AVX2 and FMA; x/sys does not report it before v0.47.
	avx2 := x.HasAVX && x.HasAVX2 && x.HasFMA && x.HasBMI2
	avx512 := avx2 && x.HasAVX512 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL
	var levels []Level
	if avx512 {
		levels = append(levels, AVX512)
	}
	if avx2 {
		levels = append(levels, AVX2)
	}
	return levels
}

// detectExtension tests for VNNI.
func detectExtension() bool { return cpu.X86.HasAVX512VNNI }
