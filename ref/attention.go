package ref

import (
	"fmt"
	"math"
)

// Problem is attention over whole tensors: O_i = Σ_j softmax_j(q_i·k_j·scale) v_j in every batch and
// head, and everything that may change a score or hide a key. The zero value of a field leaves out
// what it describes.
//
// The score of query i and key j is made in this order:
//
//  1. s = q·k·Scale
//  2. s = Softcap·tanh(s/Softcap)
//  3. s += Bias, s += Slopes[h]·(j-i-SlopeOffset), or -Slopes[h]·|j-i-SlopeOffset| if Symmetric, and with either s is at
//     least [LowestScore]
//  4. s = ScoreMod(s)
//
// A key is seen if Visible says so and its bias is not -Inf. All others are absent: their keys and
// values are never read. A query that sees nothing gets O = 0 and LSE = -Inf.
type Problem struct {
	Batch, Hq, Hkv int // 0: Batch = 1, Hq = 1, Hkv = Hq. Query head h uses key head h/(Hq/Hkv)
	L, N           int // queries and keys
	D, Dv          int // width of Q and K, and of V; Dv = 0: D
	Q, K, V        Tensor
	Scale          float64 // 0: 1/√D

	Softcap     float64                                 // 0: none
	Bias        func(b, h, i, j int) float64            // -Inf: masked
	Slopes      []float64                               // ALiBi, by query head
	SlopeOffset int                                     // position of query 0 among the keys
	Symmetric   bool                                    // ALiBi by distance: -|j-i-SlopeOffset| in the place of j-i-SlopeOffset
	ScoreMod    func(b, h, i, j int, s float64) float64 // -Inf: weight 0, but not masked
	Visible     Mask                                    // nil: all
	Sinks       []float64                               // by query head; -Inf: none

	Scores bool // Attention also returns the score matrices
}

// LowestScore is what the most negative bias, -MaxFloat32 or below, makes of a score. It is
// -MaxFloat32 in the base-2 units of a [State], so rows that such a bias fills average their values.
const LowestScore = -math.MaxFloat32 * math.Ln2

// Result is what [Attention] computes. The matrices of shape [Batch, Hq, L, N] are there if
// Problem.Scores asks for them.
type Result struct {
	O   []float64 // [Batch, Hq, L, Dv]
	LSE []float64 // [Batch, Hq, L]: log Σ_j exp(s_j), with the sink

	Raw    []float64 // after step 1, for all keys: masked ones are read for it
	Capped []float64 // after step 2, likewise
	Final  []float64 // after step 4, masked ones -Inf
	P      []float64 // probabilities, masked ones 0; with a sink they sum to less than 1
}

// Attention computes p in float64. It panics if Hq is no multiple of Hkv.
func Attention(p Problem) Result {
	p = p.withDefaults()
	rows := p.Batch * p.Hq * p.L
	r := Result{LSE: make([]float64, 0, rows), O: make([]float64, 0, rows*p.Dv)}
	for b := range p.Batch {
		for h := range p.Hq {
			for i := range p.L {
				sink := negInf
				if p.Sinks != nil {
					sink = p.Sinks[h]
				}
				row := p.row(b, h, i, 0, p.N, sink)
				O, LSE := row.state().Finish()
				r.O = append(r.O, O...)
				r.LSE = append(r.LSE, LSE)
				if p.Scores {
					p.record(&r, b, h, i, row)
				}
			}
		}
	}
	return r
}

// row is one query's attention, before division by l.
type row struct {
	J []int     // the keys it sees
	S []float64 // their scores
	m float64   // the maximum of S and the sink
	P []float64 // exp(S - m)
	l float64   // Σ P + exp(sink - m)
	O []float64 // Σ P·v
}

// row computes query i over the keys lo <= j < hi and a sink.
func (p *Problem) row(b, h, i, lo, hi int, sink float64) row {
	var r row

	// Pass 1: J, the keys that are seen. Nothing is read of any other.
	r.J = p.seen(b, h, i, lo, hi)

	// Pass 2: S.
	for _, j := range r.J {
		s := p.raw(b, h, i, j)
		s = p.capped(s)
		s = p.changed(s, b, h, i, j)
		r.S = append(r.S, s)
	}

	// Pass 3: m, P, l.
	r.m, r.l, r.P = exponentials(r.S, sink)

	// Pass 4: O.
	r.O = make([]float64, p.Dv)
	for x, j := range r.J {
		for c := range p.Dv {
			r.O[c] += r.P[x] * p.V(b, p.keyHead(h), j, c)
		}
	}
	return r
}

// record adds a row to the score matrices.
func (p *Problem) record(r *Result, b, h, i int, row row) {
	final, probability := make([]float64, p.N), make([]float64, p.N)
	for j := range p.N {
		s := p.raw(b, h, i, j)
		r.Raw = append(r.Raw, s)
		r.Capped = append(r.Capped, p.capped(s))
		final[j] = negInf
	}
	for x, P := range divided(row.P, row.l) {
		final[row.J[x]] = row.S[x]
		probability[row.J[x]] = P
	}
	r.Final = append(r.Final, final...)
	r.P = append(r.P, probability...)
}

func (p *Problem) seen(b, h, i, lo, hi int) []int {
	var J []int
	for j := lo; j < hi; j++ {
		visible := p.Visible == nil || p.Visible(b, h, i, j)
		if visible && (p.Bias == nil || p.Bias(b, h, i, j) != negInf) {
			J = append(J, j)
		}
	}
	return J
}

func (p *Problem) raw(b, h, i, j int) float64 {
	s := 0.0
	for d := range p.D {
		s += p.Q(b, h, i, d) * p.K(b, p.keyHead(h), j, d)
	}
	return s * p.Scale
}

func (p *Problem) capped(s float64) float64 {
	if p.Softcap == 0 {
		return s
	}
	return p.Softcap * math.Tanh(s/p.Softcap)
}

func (p *Problem) changed(s float64, b, h, i, j int) float64 {
	if p.Bias != nil {
		s += p.Bias(b, h, i, j)
	}
	if p.Slopes != nil {
		x := float64(j - i - p.SlopeOffset)
		if p.Symmetric {
			x = -math.Abs(x)
		}
		s += p.Slopes[h] * x
	}
	if p.Bias != nil || p.Slopes != nil {
		s = math.Max(s, LowestScore) // NaN stays
	}
	if p.ScoreMod != nil {
		s = p.ScoreMod(b, h, i, j, s)
	}
	return s
}

// keyHead is the key head that query head h uses.
func (p *Problem) keyHead(h int) int { return h / (p.Hq / p.Hkv) }

func (p Problem) withDefaults() Problem {
	otherwise := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	otherwise(&p.Batch, 1)
	otherwise(&p.Hq, 1)
	otherwise(&p.Hkv, p.Hq)
	otherwise(&p.Dv, p.D)
	if p.Scale == 0 {
		p.Scale = 1 / math.Sqrt(float64(p.D))
	}
	if p.Hq%p.Hkv != 0 {
		panic(fmt.Sprintf("ref: Hq = %d is not a multiple of Hkv = %d", p.Hq, p.Hkv))
	}
	return p
}
