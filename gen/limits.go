package main

import "github.com/quern-go/quern/gen/machine"

// The limits that benchmarks are measured against, in the same process.

// peakFMA keeps as many accumulators as registers allow in flight; a round counts as 24 FMAs of 16
// lanes on every instruction set.
func peakFMA(m *machine.Machine) {
	n := m.Arg("n")
	acc := make([]machine.Value, 12*m.Lanes/16)
	if len(acc) < 6 {
		acc = make([]machine.Value, 6)
	}
	x, y := m.Native("x"), m.Native("y")
	m.Zero(x)
	m.Zero(y)
	for i := range acc {
		acc[i] = m.Named("acc%d", i)
		m.Zero(acc[i])
	}
	m.While(n, 1, "rounds", func() {
		for i := range 24 {
			m.FMA(acc[i%len(acc)], x, y)
		}
	})
	for i := range acc[1:] {
		m.Add(acc[0], acc[0], acc[i+1])
	}
	m.Return(acc[0])
}

// readSum ors its input together: one load and one integer operation a vector.
func readSum(m *machine.Machine) {
	src, n := m.Arg("src"), m.Arg("n")
	acc := make([]machine.Value, 4)
	for i := range acc {
		acc[i] = m.Named("or%d", i)
		m.Zero(acc[i])
	}
	m.While(n, 64, "vectors", func() {
		for i := range acc {
			x := m.Named("x")
			m.Load(x, src.At(64*i))
			m.Or(acc[i], acc[i], x)
		}
		m.AddImm(src, 256)
	})
	for i := range acc[1:] {
		m.Or(acc[0], acc[0], acc[i+1])
	}
	m.Return(acc[0])
}
