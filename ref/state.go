package ref

import "math"

// State is what a query knows of a set of keys, with t = score·log2 e:
//
//	M = max t    L = Σ 2^(t-M)    O = Σ 2^(t-M)·v, not divided
//
// For no keys it is -Inf, 0 and 0.
type State struct {
	M, L float64
	O    []float64
}

// Partial returns the state of query i over the keys lo <= j < hi that it sees. Sinks are left out:
// see [Sink].
func Partial(p Problem, b, h, i, lo, hi int) State {
	p = p.withDefaults()
	return p.row(b, h, i, lo, hi, negInf).state()
}

func (r row) state() State { return State{M: r.m * math.Log2E, L: r.l, O: r.O} }

// Sink returns a sink as a state: one more logit, without a value vector. It is merged like any other.
func Sink(logit float64, dv int) State {
	return State{M: logit * math.Log2E, L: 1, O: make([]float64, dv)}
}

// Merge returns the state over the union of two disjoint sets of keys.
func Merge(a, b State) State {
	m := negInf
	for _, s := range []State{a, b} {
		if s.M > m {
			m = s.M
		}
	}
	weight := func(s State) float64 {
		if s.M == negInf {
			return 0 // a factor, not a case: NaN in L or O comes through
		}
		return math.Exp2(s.M - m)
	}
	merged := State{M: m, L: a.L*weight(a) + b.L*weight(b), O: make([]float64, len(a.O))}
	for c := range merged.O {
		merged.O[c] = a.O[c]*weight(a) + b.O[c]*weight(b)
	}
	return merged
}

// Finish returns the output O/L and the natural log-sum-exp. If nothing was seen (L = 0) they are 0
// and -Inf.
func (s State) Finish() (O []float64, LSE float64) {
	return divided(s.O, s.L), (s.M + math.Log2(s.L)) * math.Ln2
}
