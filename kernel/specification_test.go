package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quern-go/quern/internal/portable"
	"github.com/quern-go/quern/kernel"
)

// ARITHMETIC.md once more, row by row, as it is written there: no tiles, no packing, and of package portable only
// the functions of one number. Package kernel must give the same bits.

const (
	chains, lanes                   = 4, 16
	blockKeys, spanKeys, sliceBlock = 128, 2048, 1024
)

func fma(x, y, z float32) float32 { return portable.FMA(x, y, z) }

func larger(acc, x float32) float32 {
	if x > acc {
		return x
	}
	return acc
}

// orZero is what is subtracted for a maximum.
func orZero(m float32) float32 {
	if m == -infinity {
		return 0
	}
	return m
}

func fold(l [lanes]float32) float32 {
	for half := lanes / 2; half > 0; half /= 2 {
		for i := range half {
			l[i] += l[i+half]
		}
	}
	return l[0]
}

func specifiedDot(x, y []float32) float32 {
	var c [chains][lanes]float32
	for i := range x {
		c[i/lanes%chains][i%lanes] = fma(x[i], y[i], c[i/lanes%chains][i%lanes])
	}
	for l := range lanes {
		c[0][l] = (c[0][l] + c[1][l]) + (c[2][l] + c[3][l])
	}
	return fold(c[0]) + 0
}

// wide is a sum of products in float64.
func wide(x, y []float32) (sum float64) {
	for i := range x {
		sum += float64(float64(x[i]) * float64(y[i]))
	}
	return sum
}

func finite(x float32) bool { return x-x == 0 }

func specifiedNorm(x []float32) float32 {
	if xx := specifiedDot(x, x); finite(xx) && xx >= 0x1p-90 {
		return float32(math.Sqrt(float64(xx)))
	}
	return float32(math.Sqrt(wide(x, x)))
}

func specifiedCosine(x, y []float32) float32 {
	a, b, c := specifiedDot(x, y), specifiedDot(x, x), specifiedDot(y, y)
	xy, xx, yy := float64(a), float64(b), float64(c)
	least := min(xx, yy)
	if !finite(a) || !finite(b) || !finite(c) || least < 0x1p-90 || math.Abs(xy) < 0x1p-90 && least < 0.25 {
		xy, xx, yy = wide(x, y), wide(x, x), wide(y, y)
	}
	if (xx == 0 || yy == 0) && xy == xy {
		return 0
	}
	quotient := float32(xy / math.Sqrt(float64(xx*yy)))
	if quotient > 1 {
		return 1
	}
	if quotient < -1 {
		return -1
	}
	return quotient + 0
}

// signOf is what a scale makes of a cosine of 1.
func signOf(scale float32) float32 {
	switch {
	case !finite(scale):
		return nan
	case scale < 0:
		return -1
	case scale > 0:
		return 1
	}
	return 0
}

// specifiedSoftmax returns Softmax, LogSoftmax and LogSumExp of x.
func specifiedSoftmax(x []float32) (softmax, logSoftmax []float32, logSumExp float32) {
	M, sum := -infinity, 0.0
	var m, s []float32 // of each block
	p := make([]float32, len(x))
	for from := 0; from < len(x); from += sliceBlock {
		block := x[from:min(from+sliceBlock, len(x))]
		most, sums := -infinity, [lanes]float32{}
		for _, v := range block {
			most = larger(most, v)
		}
		most += 0
		for i, v := range block {
			p[from+i] = portable.SoftExp(v - orZero(most))
			sums[i%lanes] += p[from+i]
		}
		m, s, M = append(m, most), append(s, fold(sums)), larger(M, most)
	}
	w := make([]float32, len(m))
	for b := range m {
		w[b] = portable.SoftExp(m[b] - orZero(M))
		sum += float64(float64(s[b]) * float64(w[b]))
	}
	l := float32(sum)
	log := float32(portable.Log2(l) * portable.Ln2)
	if l == 0 {
		log = 0
	}
	for i := range x {
		if l == 0 {
			p[i] = 0
		} else {
			p[i] *= float32(w[i/sliceBlock] * (1 / l))
		}
		logSoftmax = append(logSoftmax, (x[i]-orZero(M))-log)
	}
	return p, logSoftmax, M + log
}

// state is what a row knows of its keys.
type state struct {
	m, l float32
	o    []float32
}

func merge(a, b state) state {
	m := larger(a.m, b.m) + 0
	wa, wb := portable.Exp2(a.m-orZero(m)), portable.Exp2(b.m-orZero(m))
	c := state{m: m, l: fma(b.l, wb, float32(a.l*wa))}
	for i := range a.o {
		c.o = append(c.o, fma(b.o[i], wb, float32(a.o[i]*wa)))
	}
	return c
}

// specified computes p.
func specified(p problem) result {
	shape, sees, sequences := p.shape(), p.sees(), p.sequences()
	scale := p.opts.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(shape.Dim))
	}
	factor := float32(scale * math.Log2E)
	if p.natural() {
		factor = float32(scale)
	}
	var r result
	p.eachRow(func(_, b, h, i int) {
		kv := h / (shape.Heads / shape.KVHeads)
		var closed []state
		for _, s := range sequences {
			if s.batch != b || i < s.query0 || i >= s.query0+s.queries {
				continue
			}
			for span := 0; span < s.keys; span += spanKeys {
				now, some := state{-infinity, 0, make([]float32, shape.ValueDim)}, false
				var l [lanes]float32
				for block := span; block < min(span+spanKeys, s.keys); block += blockKeys {
					var seen []int // keys, counted in the block
					for j := range min(blockKeys, s.keys-block) {
						if sees(b, h, i, s.key0+block+j) {
							seen = append(seen, j)
						}
					}
					if len(seen) == 0 {
						continue
					}
					some = true
					most, t := now.m, [blockKeys]float32{}
					for _, j := range seen {
						k := p.k.row(b, kv, s.key0+block+j)
						for d, q := range p.q.row(b, h, i) {
							t[j] = fma(float32(q*factor), k[d], t[j])
						}
						t[j] = p.changed(s, h, i-s.query0, s.keyOffset+block+j, t[j])
						most = larger(most, t[j])
					}
					most += 0
					alpha := portable.Exp2(now.m - orZero(most))
					for lane := range l {
						l[lane] = float32(l[lane] * alpha)
					}
					for c := range now.o {
						now.o[c] = float32(now.o[c] * alpha)
					}
					for _, j := range seen {
						weight := portable.Exp2(t[j] - orZero(most))
						l[j%lanes] += weight
						for c, v := range p.v.row(b, kv, s.key0+block+j) {
							now.o[c] = fma(weight, v, now.o[c])
						}
					}
					now.m = most
				}
				if now.l = fold(l); some {
					closed = append(closed, now)
				}
			}
		}
		all := state{-infinity, 0, make([]float32, shape.ValueDim)}
		for n, s := range closed {
			if n == 0 {
				all = s
			} else {
				all = merge(all, s)
			}
		}
		if p.opts.Sinks != nil {
			all = merge(all, state{float32(float64(p.opts.Sinks[h]) * math.Log2E), 1, make([]float32, shape.ValueDim)})
		}
		lse := float32((all.m + portable.Log2(all.l)) * portable.Ln2)
		if all.l == 0 {
			lse = -infinity
		}
		r.lse = append(r.lse, lse)
		for _, o := range all.o {
			if all.l == 0 {
				r.out = append(r.out, 0)
			} else {
				r.out = append(r.out, o/all.l+0)
			}
		}
	})
	return r
}

// natural reports that scores stay in natural units until they have been changed.
func (p problem) natural() bool { return p.opts.Softcap != 0 || p.opts.ScoreFunc != nil }

// changed is what becomes of a score of a sequence's query i and key j that is not masked.
func (p problem) changed(s sequence, h, i, j int, t float32) float32 {
	o := p.opts
	unit, lowest := portable.Log2eHi, float32(-math.MaxFloat32)
	if p.natural() {
		unit, lowest = 1, portable.LowestScore
	}
	if o.Softcap != 0 {
		t = float32(o.Softcap) * portable.Tanh(float32(t*float32(1/o.Softcap)))
	}
	if p.bias.shape != [4]int{} {
		t = fma(float32(p.biasAt(s, h, i, j)), unit, t)
	}
	if slopes := o.ALiBi.Slopes; slopes != nil {
		slope := slopes[h]
		if !p.natural() {
			slope = float32(float64(slope) * math.Log2E)
		}
		x := float32(j - i - s.offset(o.ALiBi.Align, o.ALiBi.Offset))
		if o.ALiBi.Symmetric {
			x = -float32(math.Abs(float64(x)))
		}
		t = fma(slope, x, t)
	}
	if (p.bias.shape != [4]int{} || o.ALiBi.Slopes != nil) && t < lowest {
		t = lowest
	}
	if o.ScoreFunc != nil {
		one := []float32{t}
		o.ScoreFunc(s.index, h, i, j, one)
		t = one[0]
	}
	if p.natural() {
		t *= portable.Log2eHi
	}
	return t
}

func TestAttentionIsAsSpecified(t *testing.T) {
	r := rand.New(rand.NewPCG(0, 8))
	for i, p := range promised(r) {
		requireSame(t, specified(p), p.run(t, 1), i, ": ", p)
	}
	// Scores far apart, special numbers, and more spans.
	for seed := range uint64(few(30)) {
		shape := kernel.Shape{
			Batch: 1, Heads: 1, KVHeads: 1, Queries: 1 + r.IntN(3), Keys: 1 + r.IntN(8000), Dim: 1 + r.IntN(4), ValueDim: 1 + r.IntN(4),
		}
		p := normalProblem(seed, shape, kernel.Options{Mask: kernel.Causal{}, Scale: math.Exp(3 * r.NormFloat64())})
		for range r.IntN(3) {
			p.v.data[r.IntN(len(p.v.data))] = poison[r.IntN(len(poison))]
		}
		if r.IntN(8) == 0 {
			p.k.data[r.IntN(len(p.k.data))] = poison[r.IntN(len(poison))]
		}
		requireSame(t, specified(p), p.run(t, 1), "seed ", seed, ": ", p)
	}
}

func TestSlicesAreAsSpecified(t *testing.T) {
	r := rand.New(rand.NewPCG(0, 9))
	for _, n := range lengths() {
		x, y, dst := normal(r, n), normal(r, n), make([]float32, n)
		for i := range x {
			x[i] = float32(10 * x[i])
		}
		if n > 0 && r.IntN(8) == 0 {
			x[r.IntN(n)] = poison[r.IntN(len(poison))]
		}
		difference, scaled, s := make([]float32, n), make([]float32, n), float32(r.NormFloat64())
		for i := range x {
			difference[i], scaled[i] = x[i]-y[i], fma(-s, y[i], x[i])
		}
		xy := specifiedDot(x, y)
		requireSameBits(t,
			[]float32{xy, specifiedDot(difference, difference), specifiedCosine(x, y), specifiedNorm(x)},
			[]float32{kernel.Dot(x, y), kernel.SquaredL2(x, y), kernel.Cosine(x, y), kernel.Norm(x)}, "Dot, SquaredL2, Cosine, Norm of ", n)
		if n > 0 {
			row, got := kernel.Rows[float32]{Data: y, Dim: n, Scale: []float32{s}}, make([]float32, 2)
			kernel.DotRows(got[:1], x, row, kernel.ScanOptions{Workers: 1})
			kernel.SquaredL2Rows(got[1:], x, row, kernel.ScanOptions{Workers: 1})
			requireSameBits(t, []float32{xy * s, specifiedDot(scaled, scaled)}, got, "DotRows, SquaredL2Rows of ", n)
		}
		softmax, logSoftmax, logSumExp := specifiedSoftmax(x)
		kernel.Softmax(dst, x)
		requireSameBits(t, softmax, dst, "Softmax of ", n)
		kernel.LogSoftmax(dst, x)
		requireSameBits(t, logSoftmax, dst, "LogSoftmax of ", n)
		requireSameBits(t, []float32{logSumExp}, []float32{kernel.LogSumExp(x)}, "LogSumExp of ", n)
	}
}

// Vectors of any length, and what scales make of their cosines.
func TestCosineAndNormAreAsSpecified(t *testing.T) {
	r := rand.New(rand.NewPCG(0, 10))
	scaled := func(x []float32, exponent int) []float32 {
		y := make([]float32, len(x))
		for i := range x {
			y[i] = float32(math.Ldexp(float64(x[i]), exponent))
		}
		return y
	}
	for _, n := range lengths() {
		if n == 0 || n > 2000 && n%16 != 1 {
			continue
		}
		x, y := scaled(normal(r, n), r.IntN(270)-145), scaled(normal(r, n), r.IntN(270)-145)
		switch r.IntN(6) {
		case 0:
			clear(y)
		case 1: // nothing in common
			for i := range x {
				*[]*float32{&x[i], &y[i]}[i%2] = 0
			}
		case 2:
			y[r.IntN(n)] = poison[r.IntN(len(poison))]
		}
		for exponent := -149; exponent < 120; exponent += 10 + r.IntN(20) {
			x := scaled(x, exponent)
			cosine := specifiedCosine(x, y)
			requireSameBits(t, []float32{cosine, specifiedNorm(x)}, []float32{kernel.Cosine(x, y), kernel.Norm(x)},
				"Cosine, Norm of ", n, " times 2^", exponent)
			scale := []float32{1, -1e-40, 3e38, 0, float32(math.Copysign(0, -1)), nan, infinity, -infinity}[r.IntN(8)]
			got := make([]float32, 1)
			kernel.CosineRows(got, x, kernel.Rows[float32]{Data: y, Dim: n, Scale: []float32{scale}},
				kernel.ScanOptions{Workers: 1})
			requireSameBits(t, []float32{float32(cosine*signOf(scale)) + 0}, got, "CosineRows of ", n, " with scale ",
				scale)
		}
	}
}
