package fuzz_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"unsafe"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// FuzzAttention lets the fuzzer choose shape, mask and sequences, a byte or two each, and as far as its bytes reach
// the numbers; the seed draws what remains.
func FuzzAttention(f *testing.F) {
	for seed, choices := range [][]byte{
		{0, 0, 0, 0, 0, 0, 0, 0},
		{0, 1, 1, 12, 130, 0, 64, 64, 0, 1},
		{1, 0, 2, 3, 20, 8, 7, 17, 1, 1, 5, 9, 200, 3},
		{0, 1, 0, 40, 100, 1, 1, 70, 2, 2, 30, 20, 80, 90},
		{0, 0, 12, 1, 1, 8, 3, 3, 0, 3, 7, 1},
	} {
		f.Add(uint64(seed), choices, []byte(nil))
		f.Add(uint64(seed), choices, []byte{0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0xff, 0, 0, 0, 0x80, 1, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, seed uint64, choices, numbers []byte) {
		p := chosen(choices)
		s := fuzz.NewSource(seed, 0)
		p.place(t, s, func() float32 {
			if len(numbers) < 4 {
				return s.Float32()
			}
			bits := binary.LittleEndian.Uint32(numbers)
			numbers = numbers[4:]
			return math.Float32frombits(bits)
		})
		var want []float32
		for i, level := range append([]isa.Level{isa.Go}, isa.Supported()...) {
			got := p.run(t, level, 1+(i+int(seed%4))%4)
			if want == nil {
				want = got
			}
			for i := range want {
				if !fuzz.Same(got[i], want[i]) {
					t.Fatalf("%s: element %d is %v (%#08x), want %v (%#08x)\n%+v %+v", level, i,
						got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]), p.shape, p.opts)
				}
			}
		}
		if p.tame() {
			p.bound(t, want)
		}
	})
}

// attention is one problem in guarded memory.
type attention struct {
	shape kernel.Shape
	opts  kernel.Options
	sees  ref.Mask

	q, k, v, out, lse *fuzz.Buffer
}

// chosen makes a problem of bytes; where they end, 0 follows.
func chosen(choices []byte) *attention {
	// upTo returns a number from 0 to most.
	upTo := func(most int) int {
		n := 0
		for reach := 0; reach < most; reach = reach<<8 | 255 {
			var c byte
			if len(choices) > 0 {
				c, choices = choices[0], choices[1:]
			}
			n = n<<8 | int(c)
		}
		return n % (most + 1)
	}
	p := new(attention)
	s := &p.shape
	s.Batch, s.KVHeads = 1+upTo(1), 1+upTo(1)
	s.Heads = s.KVHeads * (1 + upTo(12))
	s.Queries, s.Keys = upTo(110), upTo(2200)
	s.Dim, s.ValueDim = 1+upTo(70), 1+upTo(70)
	const work = 1 << 20 // multiply-adds, so that an input takes milliseconds
	s.Keys = min(s.Keys, work/(s.Batch*s.Heads*(s.Queries+1)*(s.Dim+s.ValueDim)))

	layout, mask := upTo(2), upTo(3)
	type sequence struct{ query0, queries, key0, keys int }
	var all []sequence
	ragged := &p.opts.Ragged
	switch layout {
	case 0: // equal
		for range s.Batch {
			all = append(all, sequence{0, s.Queries, 0, s.Keys})
		}
	case 1: // padded
		for range s.Batch {
			start := upTo(s.Keys)
			count := upTo(s.Keys - start)
			ragged.KeyStart, ragged.KeyCount = append(ragged.KeyStart, start), append(ragged.KeyCount, count)
			first := upTo(s.Queries)
			queries := upTo(s.Queries - first)
			ragged.QueryStart, ragged.QueryCount = append(ragged.QueryStart, first), append(ragged.QueryCount, queries)
			all = append(all, sequence{first, queries, start, count})
		}
	case 2: // packed
		s.Batch = 1
		cutQ, cutK := []int{0, upTo(s.Queries), s.Queries}, []int{0, upTo(s.Keys), s.Keys}
		ragged.CumQueries, ragged.CumKeys = cutQ, cutK
		for i := range 2 {
			all = append(all, sequence{cutQ[i], cutQ[i+1] - cutQ[i], cutK[i], cutK[i+1] - cutK[i]})
		}
	}
	p.opts.KeyOffset = 2048 * upTo(1)
	var offsets []int
	for _, q := range all {
		offset := 1 << 30
		switch mask {
		case 1:
			offset = p.opts.KeyOffset + q.keys - q.queries
		case 2:
			offset = 0
		case 3:
			offset = p.opts.KeyOffset + upTo(s.Keys+s.Queries+2) - s.Queries - 1
		}
		offsets = append(offsets, offset)
	}
	p.opts.Mask = []kernel.Mask{nil, kernel.Causal{}, kernel.Causal{Align: kernel.TopLeft}, kernel.Causal{Offset: offsets}}[mask]
	p.sees = func(b, _, i, j int) bool {
		for n, q := range all {
			own := i >= q.query0 && i < q.query0+q.queries && j >= q.key0 && j < q.key0+q.keys
			if own && (layout == 2 || n == b) {
				return j-q.key0+p.opts.KeyOffset <= i-q.query0+offsets[n]
			}
		}
		return false
	}
	return p
}

// place puts the tensors in memory, all flush against its head or its tail, with something between their rows or
// nothing, and takes the inputs from next.
func (p *attention) place(t *testing.T, s *fuzz.Source, next func() float32) {
	at, gap := []fuzz.Place{fuzz.Tail, 0}[s.IntN(2)], []int{0, s.IntN(20)}[s.IntN(2)]
	put := func(name string, rows, cols int) *fuzz.Buffer {
		return fuzz.Map(t, rows*(cols+gap)+1).Place(name, at, rows, cols, cols+gap)
	}
	n := p.shape
	p.q = put("q", n.Batch*n.Heads*n.Queries, n.Dim)
	p.k = put("k", n.Batch*n.KVHeads*n.Keys, n.Dim)
	p.v = put("v", n.Batch*n.KVHeads*n.Keys, n.ValueDim)
	p.out = put("out", n.Batch*n.Heads*n.Queries, n.ValueDim)
	p.lse = put("LSE", 1, n.Batch*n.Heads*n.Queries)
	for _, b := range []*fuzz.Buffer{p.q, p.k, p.v} {
		b.Fill(next)
	}
	for _, b := range []*fuzz.Buffer{p.q, p.k, p.v, p.out, p.lse} {
		b.Seal()
	}
}

// run returns the output and, behind it, the log-sum-exp.
func (p *attention) run(t *testing.T, level isa.Level, workers int) []float32 {
	t.Helper()
	defer isa.Use(level)()
	n, opts := p.shape, p.opts
	opts.Workers, opts.LSE = workers, unsafe.Slice(p.lse.Ptr(), p.lse.Cols)
	view := func(b *fuzz.Buffer, heads, sequence int) kernel.Tensor {
		extent := max(b.Rows*b.Stride-(b.Stride-b.Cols), 0)
		return kernel.Strided(unsafe.Slice(b.Ptr(), extent), [4]int{n.Batch, heads, sequence, b.Cols},
			[3]int{heads * sequence * b.Stride, sequence * b.Stride, b.Stride})
	}
	err := kernel.Attention(view(p.out, n.Heads, n.Queries), view(p.q, n.Heads, n.Queries),
		view(p.k, n.KVHeads, n.Keys), view(p.v, n.KVHeads, n.Keys), opts)
	for _, err := range []error{err, p.q.Unchanged(), p.k.Unchanged(), p.v.Unchanged(), p.out.Intact(), p.lse.Intact()} {
		if err != nil {
			t.Fatalf("%s: %v\n%+v %+v", level, err, p.shape, p.opts)
		}
	}
	return slices.Concat(p.out.Elements(), p.lse.Elements())
}

// tame reports that the inputs are numbers for which a bound of the error is known: no overflow, no underflow.
func (p *attention) tame() bool {
	for _, b := range []*fuzz.Buffer{p.q, p.k, p.v} {
		for _, x := range b.Elements() {
			if a := math.Abs(float64(x)); !(a == 0 || a > 0x1p-30 && a < 0x1p+30) {
				return false
			}
		}
	}
	return len(p.out.Elements()) > 0
}

// bound compares with the oracle. Scores are off by some 2⁻²⁴·Σ|q·k|·scale, with which weights are multiplied.
func (p *attention) bound(t *testing.T, got []float32) {
	t.Helper()
	n := p.shape
	problem := func(f func(float32) float32) ref.Problem {
		view := func(b *fuzz.Buffer, heads, sequence int) ref.Tensor {
			x := b.Elements()
			for i := range x {
				x[i] = f(x[i])
			}
			return ref.BHSD(x, heads, sequence, b.Cols)
		}
		return ref.Problem{
			Batch: n.Batch, Hq: n.Heads, Hkv: n.KVHeads, L: n.Queries, N: n.Keys, D: n.Dim, Dv: n.ValueDim,
			Q: view(p.q, n.Heads, n.Queries), K: view(p.k, n.KVHeads, n.Keys), V: view(p.v, n.KVHeads, n.Keys), Visible: p.sees,
		}
	}
	exact := ref.Attention(problem(func(x float32) float32 { return x }))
	magnitude := problem(func(x float32) float32 { return float32(math.Abs(float64(x))) })
	magnitude.Scores = true
	largest := ref.Attention(magnitude)
	for row, lse := range exact.LSE {
		score, value := 0.0, 0.0
		for _, s := range largest.Final[row*n.Keys : (row+1)*n.Keys] {
			score = math.Max(score, s)
		}
		for b, h, j := row/(n.Heads*n.Queries), row/n.Queries%n.Heads/(n.Heads/n.KVHeads), 0; j < n.Keys; j++ {
			if p.sees(b, h, row%n.Queries, j) {
				for c := range n.ValueDim {
					value = math.Max(value, magnitude.V(b, h, j, c))
				}
			}
		}
		slack := 0x1p-24 * (8*score + 16)
		if math.IsInf(lse, -1) {
			slack = 0
		}
		check := func(what string, got float32, exact, bound float64) {
			if float64(got) != exact && !(math.Abs(float64(got)-exact) <= bound) {
				t.Fatalf("%s of row %d is %v, want %v ± %v\n%+v %+v", what, row, got, exact, bound, p.shape, p.opts)
			}
		}
		check("LSE", got[len(exact.O)+row], lse, slack)
		for c := range n.ValueDim {
			check("output", got[row*n.ValueDim+c], exact.O[row*n.ValueDim+c], math.Min(2, math.Expm1(slack))*value)
		}
	}
}
