package kernel_test

import (
	"math"
	"math/rand/v2"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// The options that change scores, twice: for package kernel, and for the oracle.

// withBias is the options with the problem's bias in them.
func (p problem) withBias() kernel.Options {
	o := p.opts
	if p.bias.shape != [4]int{} {
		o.Bias = p.bias.tensor()
	}
	return o
}

// biasAt is the bias of a query and a key in a sequence, or else masked.
func (p problem) biasAt(s sequence, h, i, j int) float64 {
	switch b := p.bias; {
	case b.shape == [4]int{}:
		return 0
	case b.shape[3] != 1 && j >= b.shape[3]:
		return math.Inf(-1)
	default:
		if b.shape[3] == 1 {
			j = 0
		}
		return float64(b.row(s.index%b.shape[0], h%b.shape[1], i%b.shape[2])[j])
	}
}

// changeScores adds to q what p's options do to scores.
func (p problem) changeScores(q *ref.Problem) {
	all, o := p.sequences(), p.opts
	q.Softcap = o.Softcap
	if slopes := o.ALiBi.Slopes; slopes != nil || p.bias.shape != [4]int{} {
		q.Bias = func(b, h, i, j int) float64 {
			s, i, j := locate(all, b, i, j)
			x := p.biasAt(s, h, i, j)
			if slopes != nil {
				distance := float64(j - i - s.offset(o.ALiBi.Align, o.ALiBi.Offset))
				if o.ALiBi.Symmetric {
					distance = -math.Abs(distance)
				}
				x += float64(slopes[h]) * distance
			}
			return x
		}
	}
	if o.ScoreFunc != nil {
		q.ScoreMod = func(b, h, i, j int, x float64) float64 {
			_, i, j = locate(all, b, i, j)
			factor, term := scoreChange(h, i, j)
			return x*factor + term
		}
	}
	if o.Sinks != nil {
		for _, sink := range o.Sinks {
			q.Sinks = append(q.Sinks, float64(sink))
		}
	}
}

// locate turns a pair of the tensors into one of its sequence.
func locate(all []sequence, b, i, j int) (sequence, int, int) {
	for _, s := range all {
		if s.batch == b && s.query0 <= i && i < s.query0+s.queries {
			return s, i - s.query0, j - s.key0 + s.keyOffset
		}
	}
	panic("a query of no sequence")
}

// scoreChange is what changeScore does to a score: multiply and add.
func scoreChange(h, i, j int) (factor, term float64) {
	if (i+j)%11 == 3 {
		return 0, math.Inf(-1)
	}
	return 0.75, float64((h+i+j)%5) / 8
}

func changeScore(_, head, query, key int, scores []float32) {
	for x := range scores {
		factor, term := scoreChange(head, query, key+x)
		scores[x] = float32(scores[x]*float32(factor)) + float32(term)
	}
}

// magnitude replaces every change of a score by one that is at least as large as the error it lets through.
func magnitude(q *ref.Problem) {
	if bias := q.Bias; bias != nil {
		q.Bias = func(b, h, i, j int) float64 {
			switch x := bias(b, h, i, j); {
			case math.IsInf(x, -1):
				return x
			case math.Abs(x) > 1e30:
				return 0 // the lowest score, exactly
			default:
				return math.Abs(x)
			}
		}
	}
	q.Softcap, q.ScoreMod, q.Sinks = 0, nil, nil
}

// drawScores draws options that change scores.
func drawScores(r *rand.Rand, heads int, all []sequence, o *kernel.Options) {
	if r.IntN(4) == 0 {
		o.Softcap = 0.5 + 5*r.Float64()
	}
	if r.IntN(4) == 0 {
		for range heads {
			o.ALiBi.Slopes = append(o.ALiBi.Slopes, float32(r.NormFloat64()*math.Exp2(-float64(r.IntN(8)))))
		}
		o.ALiBi.Align, o.ALiBi.Symmetric = kernel.Alignment(r.IntN(2)), r.IntN(3) == 0
		if r.IntN(2) == 0 {
			for _, s := range all {
				o.ALiBi.Offset = append(o.ALiBi.Offset, s.keyOffset+r.IntN(100)-50)
			}
		}
	}
	if r.IntN(6) == 0 {
		o.ScoreFunc = changeScore
	}
	if r.IntN(4) == 0 {
		for range heads {
			o.Sinks = append(o.Sinks, []float32{float32(r.NormFloat64()), float32(3 * r.NormFloat64()), -infinity}[r.IntN(3)])
		}
	}
}

// biasShape draws a shape that broadcasts, usually none.
func biasShape(r *rand.Rand, s kernel.Shape, o kernel.Options) [4]int {
	if r.IntN(3) > 0 {
		return [4]int{}
	}
	all := sequences(s, o)
	queries, keys := extent(s, o, all)
	oneOr := func(n int) int {
		if r.IntN(2) == 0 {
			return 1
		}
		return n
	}
	return [4]int{oneOr(len(all)), oneOr(s.Heads), oneOr(queries), columns(r, keys)}
}

// columns draws how many columns a mask or bias has for so many keys: as many, fewer, or one for all.
func columns(r *rand.Rand, keys int) int {
	if r.IntN(5) == 0 {
		return 1
	}
	return max(0, keys-r.IntN(4)*r.IntN(100))
}

// extent is the queries and keys that a mask or bias must broadcast to.
func extent(s kernel.Shape, o kernel.Options, all []sequence) (queries, keys int) {
	if o.Ragged.CumQueries == nil {
		return s.Queries, o.KeyOffset + s.Keys
	}
	for _, s := range all {
		queries, keys = max(queries, s.queries), max(keys, s.keyOffset+s.keys)
	}
	return queries, keys
}

// biasElement draws from numbers, and what masks or nearly does.
func biasElement(r *rand.Rand, number func() float32) float32 {
	switch r.IntN(12) {
	case 0:
		return -infinity
	case 1:
		return -math.MaxFloat32
	}
	return number()
}
