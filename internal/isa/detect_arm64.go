//go:build arm64 && !purego

package isa

// detect: Advanced SIMD is part of every arm64 that Go runs on.
func detect() []Level { return []Level{NEON} }

func detectExtension() bool { return false }
