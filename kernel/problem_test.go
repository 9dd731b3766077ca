package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
	"github.com/stretchr/testify/require"
)

// What the tests of attention share: a problem, where it lies in memory, what it gives, and what of it is
// visible, written from the definitions.

// few is full in a full run, and a tenth of it where everything is slow.
func few(full int) int {
	if race || testing.Short() {
		return (full + 9) / 10
	}
	return full
}

var (
	nan      = float32(math.NaN())
	infinity = float32(math.Inf(1))
)

// array is memory seen as [batch, heads, sequence, dim].
type array struct {
	data   []float32
	shape  [4]int
	stride [3]int
}

// dense is contiguous, in the order of its dimensions.
func dense(data []float32, batch, heads, sequence, dim int) array {
	return array{data, [4]int{batch, heads, sequence, dim}, [3]int{heads * sequence * dim, sequence * dim, dim}}
}

func (a array) tensor() kernel.Tensor { return kernel.Strided(a.data, a.shape, a.stride) }

func (a array) oracle() ref.Tensor { return ref.View(a.data, a.stride[0], a.stride[1], a.stride[2]) }

func (a array) row(b, h, s int) []float32 {
	if a.shape[3] == 0 {
		return nil
	}
	from := b*a.stride[0] + h*a.stride[1] + s*a.stride[2]
	return a.data[from : from+a.shape[3]]
}

// copy returns the elements in memory of their own, dense.
func (a array) copy() array {
	data := make([]float32, 0, a.shape[0]*a.shape[1]*a.shape[2]*a.shape[3])
	for b := range a.shape[0] {
		for h := range a.shape[1] {
			for s := range a.shape[2] {
				data = append(data, a.row(b, h, s)...)
			}
		}
	}
	return dense(data, a.shape[0], a.shape[1], a.shape[2], a.shape[3])
}

// part is the positions [from, to) of one batch.
func (a array) part(batch, from, to int) array {
	if from < to && !slices.Contains(a.shape[:], 0) {
		a.data = a.data[batch*a.stride[0]+from*a.stride[2]:]
	}
	a.shape[0], a.shape[2] = 1, to-from
	return a
}

// problem is inputs and options; LSE and Workers are chosen when it is run, and the bias is a field of its own.
type problem struct {
	q, k, v, bias array // bias is usually empty
	opts          kernel.Options
}

func (p problem) shape() kernel.Shape {
	return kernel.ShapeOf(p.q.tensor(), p.k.tensor(), p.v.tensor())
}

func (p problem) String() string {
	return fmt.Sprintf("%+v\nmask %#v, ragged %+v, key offset %d", p.shape(), p.opts.Mask, p.opts.Ragged, p.opts.KeyOffset)
}

func (p problem) copy() problem {
	p.q, p.k, p.v = p.q.copy(), p.k.copy(), p.v.copy()
	if p.bias.shape != [4]int{} {
		p.bias = p.bias.copy()
	}
	return p
}

// normal draws n numbers from N(0, 1).
func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// normalProblem is a problem of one shape over N(0, 1).
func normalProblem(seed uint64, s kernel.Shape, opts kernel.Options) problem {
	r := rand.New(rand.NewPCG(seed, 0))
	return problem{
		q:    dense(normal(r, s.Batch*s.Heads*s.Queries*s.Dim), s.Batch, s.Heads, s.Queries, s.Dim),
		k:    dense(normal(r, s.Batch*s.KVHeads*s.Keys*s.Dim), s.Batch, s.KVHeads, s.Keys, s.Dim),
		v:    dense(normal(r, s.Batch*s.KVHeads*s.Keys*s.ValueDim), s.Batch, s.KVHeads, s.Keys, s.ValueDim),
		opts: opts,
	}
}

// result is what a problem gives: out dense, and lse with one number for each row of it.
type result struct {
	out, lse []float32
}

// row returns one row of the output and its log-sum-exp.
func (r result) row(i int) result {
	d := len(r.out) / len(r.lse)
	return result{r.out[i*d : (i+1)*d], r.lse[i : i+1]}
}

// run computes p with the active instruction set.
func (p problem) run(t testing.TB, workers int) result {
	t.Helper()
	s := p.shape()
	r := result{make([]float32, s.Batch*s.Heads*s.Queries*s.ValueDim), make([]float32, s.Batch*s.Heads*s.Queries)}
	p.opts = p.withBias()
	p.opts.LSE, p.opts.Workers = r.lse, workers
	out := dense(r.out, s.Batch, s.Heads, s.Queries, s.ValueDim)
	require.NoError(t, kernel.Attention(out.tensor(), p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts), "%v", p)
	return r
}

// oracle is p for package ref.
func (p problem) oracle() ref.Problem {
	s := p.shape()
	q := ref.Problem{
		Batch: s.Batch, Hq: s.Heads, Hkv: s.KVHeads, L: s.Queries, N: s.Keys, D: s.Dim, Dv: s.ValueDim,
		Q: p.q.oracle(), K: p.k.oracle(), V: p.v.oracle(), Scale: p.opts.Scale, Visible: p.sees(),
	}
	p.changeScores(&q)
	return q
}

// sequence is one of a batch, whatever the layout.
type sequence struct {
	index, batch    int
	query0, queries int
	key0, keys      int
	keyOffset       int
}

func sequences(s kernel.Shape, o kernel.Options) []sequence {
	r := o.Ragged
	var all []sequence
	for i := range max(s.Batch, len(r.CumQueries)-1) {
		q := sequence{index: i, batch: i, queries: s.Queries, keys: s.Keys, keyOffset: o.KeyOffset}
		if r.KeyStart != nil {
			q.key0 = r.KeyStart[i]
			q.keys -= q.key0
		}
		if r.KeyCount != nil {
			q.keys = r.KeyCount[i]
		}
		if r.QueryStart != nil {
			q.query0 = r.QueryStart[i]
			q.queries -= q.query0
		}
		if r.QueryCount != nil {
			q.queries = r.QueryCount[i]
		}
		if cumQ, cumK := r.CumQueries, r.CumKeys; cumQ != nil {
			if cumK == nil {
				cumK = cumQ
			}
			q = sequence{i, 0, cumQ[i], cumQ[i+1] - cumQ[i], cumK[i], cumK[i+1] - cumK[i], o.KeyOffset}
		}
		all = append(all, q)
	}
	return all
}

func (p problem) sequences() []sequence { return sequences(p.shape(), p.opts) }

// sees is what p lets be seen.
func (p problem) sees() ref.Mask {
	all := p.sequences()
	var masks []ref.Mask
	for _, s := range all {
		masks = append(masks, s.oracle(p.opts.Mask))
	}
	return func(b, h, i, j int) bool {
		for n, s := range all {
			if s.batch == b && s.query0 <= i && i < s.query0+s.queries {
				i, j := i-s.query0, j-s.key0
				return 0 <= j && j < s.keys && masks[n](b, h, i, j+s.keyOffset) && !math.IsInf(p.biasAt(s, h, i, j+s.keyOffset), -1)
			}
		}
		return false
	}
}

// alone is one sequence of p without the others.
func (p problem) alone(s sequence) problem {
	opts := p.opts
	opts.Ragged = kernel.Ragged{}
	if opts.Mask != nil {
		opts.Mask = s.isolated(opts.Mask)
	}
	if slopes := &opts.ALiBi; slopes.Slopes != nil {
		slopes.Offset = []int{s.offset(slopes.Align, slopes.Offset)}
	}
	alone := problem{
		q:    p.q.part(s.batch, s.query0, s.query0+s.queries),
		k:    p.k.part(s.batch, s.key0, s.key0+s.keys),
		v:    p.v.part(s.batch, s.key0, s.key0+s.keys),
		opts: opts,
	}
	if b := p.bias; b.shape != [4]int{} {
		alone.bias = b.part(s.index%b.shape[0], 0, min(b.shape[2], max(s.queries, 1)))
		if b.shape[2] > 1 {
			alone.bias.shape[2] = s.queries
		}
		alone.bias.shape[3] = min(b.shape[3], s.keyOffset+s.keys)
		if alone.bias.shape[2] == 0 {
			alone.bias = array{}
		}
	}
	return alone
}

// eachRow calls f for every row of the result of p.
func (p problem) eachRow(f func(row, b, h, i int)) {
	s, row := p.shape(), 0
	for b := range s.Batch {
		for h := range s.Heads {
			for i := range s.Queries {
				f(row, b, h, i)
				row++
			}
		}
	}
}

// requireSame wants equal bits, of the output and of the log-sum-exp.
func requireSame(t testing.TB, want, got result, what ...any) {
	t.Helper()
	requireSameBits(t, want.lse, got.lse, append([]any{"LSE of "}, what...)...)
	requireSameBits(t, want.out, got.out, what...)
}

func requireSameBits(t testing.TB, want, got []float32, what ...any) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if !fuzz.Same(want[i], got[i]) {
			t.Fatalf("%s: element %d of %d is %v (%#08x), want %v (%#08x)", fmt.Sprint(what...), i, len(want),
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// layout says how [b, h, s, d] lies in a matrix whose rows are at least gap elements apart.
type layout struct {
	name     string
	writable bool // no two elements are the same
	lay      func(b, h, s, d, gap int) matrix
}

type matrix struct {
	rows, cols, pitch int
	stride            [3]int
}

var layouts = []layout{
	{"batch, heads, sequence", true, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{b * h * s, d, p, [3]int{h * s * p, s * p, p}}
	}},
	{"batch, sequence, heads", true, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{b * s * h, d, p, [3]int{s * h * p, p, h * p}}
	}},
	{"sequence, batch, heads", true, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{s * b * h, d, p, [3]int{h * p, p, b * h * p}}
	}},
	{"a third of fused QKV", true, func(b, h, s, d, _ int) matrix {
		p := 3 * h * d
		return matrix{b * s, h * d, p, [3]int{s * p, d, p}}
	}},
	{"overlapping heads", false, func(b, h, s, d, gap int) matrix {
		step := (d + 1) / 2
		cols := (h-1)*step + d
		p := cols + gap
		return matrix{b * s, cols, p, [3]int{s * p, step, p}}
	}},
	{"one batch for all", false, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{h * s, d, p, [3]int{0, s * p, p}}
	}},
	{"one head for all", false, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{b * s, d, p, [3]int{s * p, 0, p}}
	}},
	{"one position for all", false, func(b, h, s, d, gap int) matrix {
		p := d + gap
		return matrix{b * h, d, p, [3]int{h * p, p, 0}}
	}},
}

// arena lends guarded memory, the same for one problem after the other.
type arena struct {
	t      testing.TB
	memory map[string]*fuzz.Memory
	size   map[string]int
}

func newArena(t testing.TB) *arena {
	return &arena{t, map[string]*fuzz.Memory{}, map[string]int{}}
}

// place returns an array of one shape in guarded memory, flush against a guard or not, and its memory.
func (a *arena) place(name string, shape [4]int, l layout, at fuzz.Place, gap int) (array, *fuzz.Buffer) {
	m := l.lay(shape[0], shape[1], shape[2], shape[3], gap)
	size := (m.rows-1)*m.pitch + m.cols
	if slices.Contains(shape[:], 0) {
		m.rows, m.cols, size = 0, 0, 0
	}
	if a.memory[name] == nil || a.size[name] < size+32 {
		a.size[name] = 2*size + 1024
		a.memory[name] = fuzz.Map(a.t, a.size[name])
	}
	b := a.memory[name].Place(name, at, m.rows, m.cols, m.pitch)
	return array{unsafe.Slice(b.Ptr(), size), shape, m.stride}, b
}

// guarded is a problem in guarded memory.
type guarded struct {
	problem
	out         array
	lse         []float32
	inputs      []*fuzz.Buffer
	outputs     []*fuzz.Buffer
	description string
}

// guard draws layouts, places and numbers for a shape from s.
func (a *arena) guard(s *fuzz.Source, shape kernel.Shape, opts kernel.Options) *guarded {
	g := &guarded{problem: problem{opts: opts}}
	at := fuzz.Place(s.IntN(18)) - 2 // both kinds of flush are as likely as all offsets together
	if at < 0 || s.IntN(3) == 0 {
		at = []fuzz.Place{0, fuzz.Tail}[s.IntN(2)]
	}
	put := func(name string, choice []layout, size ...int) (array, *fuzz.Buffer) {
		l, gap := choice[0], 0
		if s.IntN(2) == 0 {
			l, gap = choice[s.IntN(len(choice))], s.IntN(19)
		}
		g.description += fmt.Sprintf("%s: %s, gap %d, at %d\n", name, l.name, gap, at)
		return a.place(name, [4]int(size), l, at, gap)
	}
	in := func(name string, size ...int) array {
		x, b := put(name, layouts, size...)
		b.Fill(s.Float32)
		b.Seal()
		g.inputs = append(g.inputs, b)
		return x
	}
	out := func(name string, choice []layout, size ...int) array {
		x, b := put(name, choice, size...)
		b.Seal()
		g.outputs = append(g.outputs, b)
		return x
	}
	if size := biasShape(s.Rand, shape, opts); size != [4]int{} {
		x, b := put("bias", layouts, size[:]...)
		b.Fill(func() float32 { return biasElement(s.Rand, s.Float32) })
		b.Seal()
		g.inputs = append(g.inputs, b)
		g.bias = x
	}
	writable := slices.DeleteFunc(slices.Clone(layouts), func(l layout) bool { return !l.writable })
	g.q = in("q", shape.Batch, shape.Heads, shape.Queries, shape.Dim)
	g.k = in("k", shape.Batch, shape.KVHeads, shape.Keys, shape.Dim)
	g.v = in("v", shape.Batch, shape.KVHeads, shape.Keys, shape.ValueDim)
	g.out = out("out", writable, shape.Batch, shape.Heads, shape.Queries, shape.ValueDim)
	g.lse = out("LSE", layouts[:1], 1, 1, 1, shape.Batch*shape.Heads*shape.Queries).data
	return g
}

// run is like that of problem, with one worker so that a fault can be recovered from.
func (g *guarded) run(t testing.TB) result {
	t.Helper()
	opts := g.withBias()
	opts.LSE, opts.Workers = g.lse, 1
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			t.Fatalf("%v\n%v\n%s%s", cause, g.problem, g.description, debug.Stack())
		}
	}()
	require.NoError(t, kernel.Attention(g.out.tensor(), g.q.tensor(), g.k.tensor(), g.v.tensor(), opts))
	for _, b := range g.inputs {
		require.NoError(t, b.Unchanged(), "%v\n%s", g.problem, g.description)
	}
	for _, b := range g.outputs {
		require.NoError(t, b.Intact(), "%v\n%s", g.problem, g.description)
	}
	return result{g.out.copy().data, g.lse}
}

// pick draws one of some numbers, each a range from first to last.
func pick(r *rand.Rand, ranges ...[2]int) int {
	x := ranges[r.IntN(len(ranges))]
	return x[0] + r.IntN(x[1]-x[0]+1)
}

// drawShape draws a shape that takes at most work multiply-adds, and options of all kinds for it.
func drawShape(r *rand.Rand, work int) (kernel.Shape, kernel.Options) {
	var s kernel.Shape
	for {
		s = kernel.Shape{
			Batch:   pick(r, [2]int{1, 1}, [2]int{2, 3}),
			KVHeads: pick(r, [2]int{1, 1}, [2]int{2, 3}),
			Queries: pick(r, [2]int{0, 3}, [2]int{9, 14}, [2]int{90, 100}, [2]int{1, 40}, [2]int{127, 129}, [2]int{190, 290}),
			Keys:    pick(r, [2]int{0, 3}, [2]int{15, 33}, [2]int{127, 129}, [2]int{1, 300}, [2]int{510, 520}, [2]int{2047, 2050}, [2]int{4095, 4100}),
			Dim:     pick(r, [2]int{1, 17}, [2]int{1, 130}, [2]int{64, 64}), ValueDim: pick(r, [2]int{1, 17}, [2]int{1, 130}, [2]int{64, 64}),
		}
		s.Heads = s.KVHeads * pick(r, [2]int{1, 1}, [2]int{2, 5}, [2]int{13, 13})
		if s.Batch*s.Heads*s.Queries*s.Keys*(s.Dim+s.ValueDim+8) <= work {
			break
		}
	}
	var o kernel.Options
	if r.IntN(3) == 0 {
		o.Scale = r.NormFloat64()
	}
	if r.IntN(4) == 0 {
		o.KeyOffset = 2048 * r.IntN(3)
	}
	switch r.IntN(4) {
	case 0: // padded
		for range s.Batch {
			start := r.IntN(s.Keys + 1)
			o.Ragged.KeyStart = append(o.Ragged.KeyStart, start)
			o.Ragged.KeyCount = append(o.Ragged.KeyCount, r.IntN(s.Keys-start+1))
		}
		if r.IntN(2) == 0 {
			o.Ragged.KeyCount = nil
		}
		queries := r.IntN(2) == 0
		for i := range o.Ragged.KeyCount { // where the last query is not known otherwise
			start, count := o.Ragged.KeyStart[i], o.Ragged.KeyCount[i]
			queries = queries || count < s.Queries && start+count < s.Keys
		}
		for range s.Batch {
			if start := r.IntN(s.Queries + 1); queries {
				o.Ragged.QueryStart = append(o.Ragged.QueryStart, start)
				o.Ragged.QueryCount = append(o.Ragged.QueryCount, r.IntN(s.Queries-start+1))
			}
		}
	case 1: // packed
		s.Batch = 1
		parts := 1 + r.IntN(5)
		o.Ragged.CumQueries = cuts(r, s.Queries, parts)
		if s.Queries != s.Keys || r.IntN(2) == 0 {
			o.Ragged.CumKeys = cuts(r, s.Keys, parts)
		}
	}
	if r.IntN(4) > 0 {
		o.Mask = drawMask(r, s, o, 2)
	}
	drawScores(r, s.Heads, sequences(s, o), &o)
	return s, o
}

// drawProblem draws a problem of all kinds over N(0, 1).
func drawProblem(r *rand.Rand, work int) problem {
	s, o := drawShape(r, work)
	p := normalProblem(r.Uint64(), s, o)
	if size := biasShape(r, s, o); size != [4]int{} {
		data := normal(r, size[0]*size[1]*size[2]*size[3])
		for i, x := range data {
			data[i] = biasElement(r, func() float32 { return x })
		}
		p.bias = dense(data, size[0], size[1], size[2], size[3])
	}
	return p
}

// cuts returns cumulative lengths of n parts of total, some of them empty.
func cuts(r *rand.Rand, total, n int) []int {
	c := []int{0, total}
	for range n - 1 {
		c = append(c, r.IntN(total+1))
	}
	slices.Sort(c)
	return c
}
