package main

import "github.com/quern-go/quern/gen/machine"

// dot is Σ x·y over four chains of 16 lanes: element i belongs to lane i mod 16 of chain
// (i/16) mod 4. Four chains hide the latency of FMA; a fifth would not be faster, since two loads
// an FMA are the limit. The tail goes through the same FMA, filled up with zeros.
//
// Long vectors are cut into short calls, which hand the chains on: dotChunk, …, dotChunk, dotFrom.
func dot(m *machine.Machine) { dotText(m, false) }

// dotFrom is dot with chains that go on from acc.
func dotFrom(m *machine.Machine) { dotText(m, true) }

func dotText(m *machine.Machine, resume bool) {
	x, y, n, chain := dotChains(m, resume)
	dotRest(m, x, y, n, chain)
	m.Note("(c0+c1) + (c2+c3), then across lanes, then + 0")
	m.Add(chain[0], chain[0], chain[1])
	m.Add(chain[2], chain[2], chain[3])
	m.Add(chain[0], chain[0], chain[2])
	m.FoldAdd(chain[0])
	zero := m.Named("zero")
	m.Zero(zero)
	m.Add(chain[0], chain[0], zero)
	m.Return(chain[0])
}

// dotChunk runs the chains in acc on over a multiple of 64 elements.
func dotChunk(m *machine.Machine) {
	_, _, _, chain := dotChains(m, true)
	acc := m.Arg("acc")
	for c := range chain {
		m.Store(acc.At(64*c), chain[c])
	}
}

// dotChains takes all that comes in sets of four vectors; x, y and n are what is left.
func dotChains(m *machine.Machine, resume bool) (x, y, n machine.Word, chain []machine.Value) {
	x, y, n = m.Arg("x"), m.Arg("y"), m.Arg("n")
	var acc machine.Word
	if resume {
		acc = m.Arg("acc")
	}
	chain = make([]machine.Value, 4)
	for c := range chain {
		chain[c] = m.Named("c%d", c)
		if resume {
			m.Load(chain[c], acc.At(64*c))
		} else {
			m.Zero(chain[c])
		}
	}
	m.While(n, 64, "chains", func() {
		for c := range chain {
			dotStep(m, x, y, chain, c)
		}
		m.AddImm(x, 256)
		m.AddImm(y, 256)
	})
	return x, y, n, chain
}

func dotStep(m *machine.Machine, x, y machine.Word, chain []machine.Value, c int) {
	v := m.Named("x")
	m.Load(v, x.At(64*c))
	m.FMALoad(chain[c], v, y.At(64*c))
}

// dotRest takes fewer than 64 elements: full vectors of chains 0, 1, 2, then a part of the next.
func dotRest(m *machine.Machine, x, y, n machine.Word, chain []machine.Value) {
	var left func(c int)
	left = func(c int) {
		partial := func() {
			m.If(n, 1, func() {
				xv, yv := m.Named("x"), m.Named("y")
				t := m.Tail(n)
				m.LoadTail(xv, x.At(64*c), t)
				m.LoadTail(yv, y.At(64*c), t)
				m.FMA(chain[c], xv, yv)
			})
		}
		if c == 3 {
			partial()
			return
		}
		m.IfElse(n, 16, func() {
			dotStep(m, x, y, chain, c)
			m.AddImm(n, -16)
			left(c + 1)
		}, partial)
	}
	left(0)
}
