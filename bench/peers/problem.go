package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/ref"
)

// problem is something to compute, with its inputs and the place for its output.
type problem interface {
	kind() string
	fmt.Stringer
	// start asks a peer for a function that computes the output once. It returns nil if the peer has none.
	start(p *peer) *entry
	// output is what the function last computed.
	output() []float32
	// maxErr is the output's largest error against ref: in units of Σ|x·y| for dot and sgemm, relative for
	// softmax, absolute for attention.
	maxErr() float64
	flops() float64 // useful ones; 0 where there is no telling
}

// tolerance is the error above which a result is wrong: a hundred times what float32 arithmetic needs.
const tolerance = 1e-4

// problems makes all problems, always with the same inputs. A name says what it is: those of attention are
// those of ./bench.
func problems() []problem {
	return []problem{
		newDot(64), newDot(1024), newDot(65536), newDot(1 << 20),
		newSoftmax(1024), newSoftmax(32768),
		newSgemm(512), newSgemm(1024), newSgemm(2048),
		newAttention("P1", 8, 1024, 64, false), newAttention("P1c", 8, 1024, 64, true),
		newAttention("P2", 8, 2048, 128, false), newAttention("S1", 12, 128, 64, false),
	}
}

// dot is a dot product.
type dot struct{ x, y, result []float32 }

func newDot(n int) *dot { return &dot{measure.Normal(1, n), measure.Normal(2, n), make([]float32, 1)} }

func (d *dot) kind() string      { return "dot" }
func (d *dot) String() string    { return fmt.Sprintf("dot %d", len(d.x)) }
func (d *dot) output() []float32 { return d.result }
func (d *dot) flops() float64    { return 2 * float64(len(d.x)) }

func (d *dot) start(p *peer) *entry {
	if p.dot == nil {
		return nil
	}
	return p.dot(d)
}

func (d *dot) maxErr() float64 {
	return greater(0, math.Abs(float64(d.result[0])-ref.Dot(d.x, d.y))/ref.AbsDot(d.x, d.y))
}

// softmax is a softmax of one row.
type softmax struct{ src, dst []float32 }

func newSoftmax(n int) *softmax { return &softmax{measure.Normal(1, n), make([]float32, n)} }

func (s *softmax) kind() string      { return "softmax" }
func (s *softmax) String() string    { return fmt.Sprintf("softmax %d", len(s.src)) }
func (s *softmax) output() []float32 { return s.dst }
func (s *softmax) flops() float64    { return 0 }

func (s *softmax) start(p *peer) *entry {
	if p.softmax == nil {
		return nil
	}
	return p.softmax(s)
}

func (s *softmax) maxErr() float64 {
	worst := 0.0
	for i, want := range ref.Softmax(s.src) {
		worst = greater(worst, math.Abs(float64(s.dst[i])-want)/want)
	}
	return worst
}

// sgemm is C = A·B of row-major n×n matrices.
type sgemm struct {
	n       int
	a, b, c []float32
}

func newSgemm(n int) *sgemm {
	return &sgemm{n, measure.Normal(1, n*n), measure.Normal(2, n*n), make([]float32, n*n)}
}

func (g *sgemm) kind() string      { return "sgemm" }
func (g *sgemm) String() string    { return fmt.Sprintf("sgemm %d", g.n) }
func (g *sgemm) output() []float32 { return g.c }
func (g *sgemm) flops() float64    { return 2 * math.Pow(float64(g.n), 3) }

func (g *sgemm) start(p *peer) *entry {
	if p.sgemm == nil {
		return nil
	}
	return p.sgemm(g)
}

// maxErr compares a sample of elements.
func (g *sgemm) maxErr() float64 {
	worst := 0.0
	column := make([]float32, g.n)
	random := rand.New(rand.NewPCG(3, 0))
	for range 64 {
		i, j := random.IntN(g.n), random.IntN(g.n)
		for k := range column {
			column[k] = g.b[k*g.n+j]
		}
		row := g.a[i*g.n:][:g.n]
		worst = greater(worst, math.Abs(float64(g.c[i*g.n+j])-ref.Dot(row, column))/ref.AbsDot(row, column))
	}
	return worst
}

// attention is self-attention of one sequence. Q, K, V and the output are [heads, length, dim].
type attention struct {
	name               string
	heads, length, dim int
	causal             bool
	q, k, v, out       []float32
}

func newAttention(name string, heads, length, dim int, causal bool) *attention {
	n := heads * length * dim
	return &attention{name, heads, length, dim, causal, measure.Normal(1, n), measure.Normal(2, n), measure.Normal(3, n), make([]float32, n)}
}

func (a *attention) kind() string      { return "attention" }
func (a *attention) String() string    { return "attention " + a.name }
func (a *attention) output() []float32 { return a.out }
func (a *attention) scale() float64    { return 1 / math.Sqrt(float64(a.dim)) }

// head is what belongs to one head of x.
func (a *attention) head(x []float32, h int) []float32 {
	return x[h*a.length*a.dim:][:a.length*a.dim]
}

func (a *attention) start(p *peer) *entry {
	if p.attention == nil {
		return nil
	}
	return p.attention(a)
}

// flops counts visible pairs of query and key.
func (a *attention) flops() float64 {
	pairs := a.heads * a.length * a.length
	if a.causal {
		pairs = a.heads * a.length * (a.length + 1) / 2
	}
	return 4 * float64(a.dim) * float64(pairs)
}

// maxErr compares a sample of rows.
func (a *attention) maxErr() float64 {
	p := ref.Problem{
		Batch: 1, Hq: a.heads, Hkv: a.heads, L: a.length, N: a.length, D: a.dim, Dv: a.dim,
		Q: ref.BHSD(a.q, a.heads, a.length, a.dim),
		K: ref.BHSD(a.k, a.heads, a.length, a.dim),
		V: ref.BHSD(a.v, a.heads, a.length, a.dim),
	}
	if a.causal {
		p.Visible = ref.Causal(0)
	}
	worst := 0.0
	random := rand.New(rand.NewPCG(3, 0))
	for range 64 {
		h, i := random.IntN(a.heads), random.IntN(a.length)
		row, _ := ref.Partial(p, 0, h, i, 0, a.length).Finish()
		for c, want := range row {
			worst = greater(worst, math.Abs(float64(a.out[(h*a.length+i)*a.dim+c])-want))
		}
	}
	return worst
}

// greater is the maximum of two errors. NaN is the greatest.
func greater(x, y float64) float64 {
	if math.IsNaN(y) {
		return math.Inf(1)
	}
	return max(x, y)
}
