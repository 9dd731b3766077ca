package ref

import "math"

// PlainFloat32 computes p as naive float32 code does, in three passes, every operation rounded to
// float32 and none fused (bias, ALiBi and ScoreMod are rounded once, together). It is the yardstick of
// accuracy, never of bits or of special values. The result is O, of shape [Batch, Hq, L, Dv].
func PlainFloat32(p Problem) []float32 {
	p = p.withDefaults()
	var out []float32
	for b := range p.Batch {
		for h := range p.Hq {
			for i := range p.L {
				out = append(out, p.plainRow(b, h, i)...)
			}
		}
	}
	return out
}

func (p *Problem) plainRow(b, h, i int) []float32 {
	// Pass 1: scores, each one chain of sums.
	J := p.seen(b, h, i, 0, p.N)
	S := make([]float32, len(J))
	for x, j := range J {
		var s float32
		for d := range p.D {
			s += float32(float32(p.Q(b, h, i, d)) * float32(p.K(b, p.keyHead(h), j, d)))
		}
		s *= float32(p.Scale)
		if c := float32(p.Softcap); c != 0 {
			s = c * float32(math.Tanh(float64(s/c)))
		}
		S[x] = float32(p.changed(float64(s), b, h, i, j))
	}

	// Pass 2: softmax.
	m := float32(negInf)
	if p.Sinks != nil {
		m = float32(p.Sinks[h])
	}
	sink := m
	for _, s := range S {
		if s > m {
			m = s
		}
	}
	P := make([]float32, len(J))
	var l float32
	for x, s := range S {
		P[x] = float32(math.Exp(float64(s - m)))
		l += P[x]
	}
	if p.Sinks != nil {
		l += float32(math.Exp(float64(sink - m)))
	}
	for x := range P {
		P[x] /= l
	}

	// Pass 3: output.
	O := make([]float32, p.Dv)
	for x, j := range J {
		for c := range O {
			O[c] += float32(P[x] * float32(p.V(b, p.keyHead(h), j, c)))
		}
	}
	return O
}
