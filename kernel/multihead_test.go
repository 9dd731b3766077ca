package kernel

import (
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/ref"
)

// testLayer is a random layer with its float64 twin.
type testLayer struct {
	MultiHeadOptions
	twin                     ref.Layer
	width, contextWidth, out int
	wq, wk, wv, wo           []float32
	fusable                  bool
}

func scaled(r *rand.Rand, rows, cols int) []float32 {
	w := gaussian(r, rows*cols)
	for i := range w {
		w[i] /= float32(math.Sqrt(float64(max(rows, 1))))
	}
	return w
}

func pack(t testing.TB, w []float32, rows, cols int) *Weights {
	t.Helper()
	p, err := Pack(RowMajor(w, rows, cols))
	require.NoError(t, err)
	return p
}

func randomLayer(t testing.TB, r *rand.Rand, cross bool) *testLayer {
	l := &testLayer{width: 1 + r.Intn(70), out: 1 + r.Intn(70)}
	l.contextWidth = l.width
	if cross {
		l.contextWidth = 1 + r.Intn(50)
	}
	hkv := 1 + r.Intn(3)
	heads := hkv * (1 + r.Intn(3))
	d, dv := 1+r.Intn(20), 1+r.Intn(20)
	overlap := 0
	if r.Intn(3) == 0 {
		hkv, overlap = heads, r.Intn(2*d)
	}
	bias := func(n int) []float32 {
		if r.Intn(2) == 0 {
			return nil
		}
		return gaussian(r, n)
	}
	l.wq, l.wk, l.wv = scaled(r, l.width, heads*d), scaled(r, l.contextWidth, hkv*d), scaled(r, l.contextWidth, hkv*dv)
	l.wo = scaled(r, heads*(dv+2*overlap), l.out)
	o := &l.MultiHeadOptions
	*o = MultiHeadOptions{
		Heads: heads, KVHeads: hkv, Overlap: overlap, Workers: 1 + r.Intn(3),
		Query: pack(t, l.wq, l.width, heads*d), QueryBias: bias(heads * d),
		Key: pack(t, l.wk, l.contextWidth, hkv*d), KeyBias: bias(hkv * d),
		Value: pack(t, l.wv, l.contextWidth, hkv*dv), ValueBias: bias(hkv * dv),
		Out: pack(t, l.wo, heads*(dv+2*overlap), l.out), OutBias: bias(l.out),
	}
	l.twin = ref.Layer{
		Hq: heads, Hkv: hkv, D: d, Dv: dv, Wq: l.wq, Wk: l.wk, Wv: l.wv, Wo: l.wo,
		Bq: o.QueryBias, Bk: o.KeyBias, Bv: o.ValueBias, Bo: o.OutBias, Overlap: overlap,
	}
	if r.Intn(2) == 0 {
		ro := RotaryOptions{Dim: 2 * r.Intn(d/2+1), Positions: []int{0, 7, 100}[r.Intn(3)],
			Interleaved: r.Intn(2) == 0, Base: 100}
		rotary, err := NewRotary(ro)
		require.NoError(t, err)
		o.Rotary = rotary
		l.twin.Rotary, l.twin.Base, l.twin.Interleaved = ro.Dim, 100, ro.Interleaved
	}
	if r.Intn(4) == 0 {
		o.Scale = 0.1 + r.Float64()
		l.twin.Scale = o.Scale
	}
	l.fusable = !cross && overlap == 0
	return l
}

// caches returns caches for the layer, from a pool of so many pages; 0 is no bound.
func (l *testLayer) caches(t testing.TB, n, pages int) []*Cache {
	t.Helper()
	config := CacheConfig{
		KVHeads: l.KVHeads, Dim: l.twin.D + 2*l.Overlap, ValueDim: l.twin.Dv + 2*l.Overlap, PageKeys: 128,
	}
	pool, err := NewPool(config)
	require.NoError(t, err)
	if pages > 0 {
		config.MaxBytes = int64(pages * pool.PageBytes())
		pool, err = NewPool(config)
		require.NoError(t, err)
	}
	caches := make([]*Cache, n)
	for i := range caches {
		caches[i] = pool.NewCache()
	}
	return caches
}

func (l *testLayer) new(t testing.TB) *MultiHead {
	t.Helper()
	m, err := NewMultiHead(l.MultiHeadOptions)
	require.NoError(t, err)
	return m
}

// fused is the same layer with its projections side by side.
func (l *testLayer) fused(t testing.TB) *MultiHead {
	o := l.MultiHeadOptions
	q, k, v := o.Query.cols, o.Key.cols, o.Value.cols
	w, bias := make([]float32, l.width*(q+k+v)), make([]float32, q+k+v)
	for i := range l.width {
		row := w[i*(q+k+v):]
		copy(row, l.wq[i*q:][:q])
		copy(row[q:], l.wk[i*k:][:k])
		copy(row[q+k:], l.wv[i*v:][:v])
	}
	copy(bias, o.QueryBias)
	copy(bias[q:], o.KeyBias)
	copy(bias[q+k:], o.ValueBias)
	o.QKV, o.QKVBias = pack(t, w, l.width, q+k+v), bias
	o.HeadDim, o.ValueDim = q/o.Heads, v/o.KVHeads
	o.Query, o.Key, o.Value, o.QueryBias, o.KeyBias, o.ValueBias = nil, nil, nil, nil, nil, nil
	m, err := NewMultiHead(o)
	require.NoError(t, err)
	return m
}

func requireBits(t testing.TB, want, got []float32, format string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if !sameBits(want[i], got[i]) {
			require.Failf(t, "bits differ", format+": element %d is %v, want %v", append(args, i, got[i], want[i])...)
		}
	}
}

// requireNear compares with float64: an error of 1e-5 of the largest number.
func requireNear(t testing.TB, want []float64, got []float32) {
	t.Helper()
	require.Len(t, got, len(want))
	largest := 1.0
	for _, w := range want {
		largest = max(largest, math.Abs(w))
	}
	for i, w := range want {
		require.InDelta(t, w, float64(got[i]), 1e-5*largest, "element %d", i)
	}
}

func checkRandomLayer(t testing.TB, r *rand.Rand) {
	cross := r.Intn(3) == 0
	l := randomLayer(t, r, cross)
	batch, queries := 1+r.Intn(3), r.Intn(40)
	keys := queries
	if cross {
		keys = r.Intn(40)
	}
	if r.Intn(3) == 0 {
		l.Mask = Causal{}
		l.twin.Visible = ref.Causal(keys - queries)
	}
	x, context := gaussian(r, batch*queries*l.width), gaussian(r, batch*keys*l.contextWidth)
	in := MultiHeadInput{X: BHSD(x, batch, 1, queries, l.width)}
	source := x
	if cross {
		in.Context, source = BHSD(context, batch, 1, keys, l.contextWidth), context
	}
	if r.Intn(3) == 0 {
		start, count := make([]int, batch), make([]int, batch)
		for b := range start {
			start[b] = r.Intn(keys + 1)
			count[b] = r.Intn(keys - start[b] + 1)
		}
		in.Ragged = Ragged{KeyStart: start, KeyCount: count}
		l.Mask = nil
		used := func(b, row int) bool { return row >= start[b] && row < start[b]+count[b] }
		l.twin.Visible = func(b, _, i, j int) bool { return used(b, j) && (cross || used(b, i)) }
		l.twin.KeyAt = func(b, s int) int { return max(s-start[b], 0) }
		if !cross {
			l.twin.QueryAt = l.twin.KeyAt
		}
	} else if l.Rotary != nil && r.Intn(2) == 0 {
		in.Positions.Offset = r.Intn(50)
		l.twin.QueryAt = func(_, s int) int { return s + in.Positions.Offset }
		if cross {
			in.KeyPositions.Offset = r.Intn(50)
			l.twin.KeyAt = func(_, s int) int { return s + in.KeyPositions.Offset }
		} else {
			l.twin.KeyAt = l.twin.QueryAt
		}
	}
	want := l.twin.Forward(x, source, batch, queries, keys)
	var first []float32
	for _, level := range isa.Supported() {
		restore := isa.Use(level)
		y := make([]float32, batch*queries*l.out)
		layer := l.new(t)
		require.NoError(t, layer.Forward(BHSD(y, batch, 1, queries, l.out), in))
		if first == nil {
			first = y
			requireNear(t, want, y)
		}
		requireBits(t, first, y, "%v", level)
		if l.fusable {
			fused := make([]float32, len(y))
			require.NoError(t, l.fused(t).Forward(BHSD(fused, batch, 1, queries, l.out), in))
			requireBits(t, first, fused, "%v, fused", level)
		}
		// Uneven strides, from a layer that has been used.
		apart := func(x []float32, rows, width int) Tensor {
			row, entry := width+1+r.Intn(3), 0
			entry = rows*row + 1 + r.Intn(9)
			data := make([]float32, batch*entry+row)
			t := Strided(data, [4]int{batch, 1, rows, width}, [3]int{entry, entry, row})
			for b := range batch {
				for s := range rows {
					copy(data[b*entry+s*row:][:width], x[(b*rows+s)*width:])
				}
			}
			return t
		}
		strided := in
		strided.X = apart(x, queries, l.width)
		if cross {
			strided.Context = apart(context, keys, l.contextWidth)
		}
		require.NoError(t, layer.Forward(BHSD(y, batch, 1, queries, l.out), strided))
		requireBits(t, first, y, "%v, strided", level)
		restore()
	}
}

func TestMultiHeadAgainstFloat64(t *testing.T) {
	for seed := range int64(60) {
		checkRandomLayer(t, rand.New(rand.NewSource(seed)))
	}
}

func FuzzMultiHead(f *testing.F) {
	f.Add(int64(1))
	f.Fuzz(func(t *testing.T, seed int64) { checkRandomLayer(t, rand.New(rand.NewSource(seed))) })
}

// prefill gives the layer, made causal, whole sequences.
func (l *testLayer) prefill(t *testing.T, r *rand.Rand, batch, sequence int) (layer *MultiHead, x, y []float32) {
	l.Mask = Causal{}
	x, y = gaussian(r, batch*sequence*l.width), make([]float32, batch*sequence*l.out)
	layer = l.new(t)
	require.NoError(t, layer.Forward(BHSD(y, batch, 1, sequence, l.out), MultiHeadInput{X: BHSD(x, batch, 1, sequence, l.width)}))
	return layer, x, y
}

// A token gets the same bits alone, in a batch, and as the last of its prefix.
func TestMultiHeadTokenByToken(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	for range 6 {
		l := randomLayer(t, r, false)
		const batch, sequence = 2, 20
		layer, x, y := l.prefill(t, r, batch, sequence)
		for b := range batch {
			for n := range sequence {
				one := make([]float32, (n+1)*l.out)
				require.NoError(t, layer.Clone().Forward(BHSD(one, 1, 1, n+1, l.out), MultiHeadInput{X: BHSD(x[b*sequence*l.width:], 1, 1, n+1, l.width)}))
				requireBits(t, y[(b*sequence+n)*l.out:][:l.out], one[n*l.out:], "token %d of sequence %d", n, b)
			}
		}
	}
}

// Tokens that come one or a few at a time, with the keys before them in caches, get the bits that they get in
// one prefill.
func TestMultiHeadWithCaches(t *testing.T) {
	r := rand.New(rand.NewSource(11))
	for range 12 {
		l := randomLayer(t, r, false)
		const batch, sequence = 2, 90
		layer, x, y := l.prefill(t, r, batch, sequence)
		caches := l.caches(t, batch, 0)
		for from := 0; from < sequence; {
			n := min([]int{1, 1, 2, 40}[r.Intn(4)], sequence-from)
			part, got := make([]float32, 0, batch*n*l.width), make([]float32, batch*n*l.out)
			for b := range batch {
				part = append(part, x[(b*sequence+from)*l.width:][:n*l.width]...)
			}
			require.NoError(t, layer.Forward(BHSD(got, batch, 1, n, l.out), MultiHeadInput{X: BHSD(part, batch, 1, n, l.width), Caches: caches}))
			for b := range batch {
				requireBits(t, y[(b*sequence+from)*l.out:][:n*l.out], got[b*n*l.out:][:n*l.out], "tokens %d to %d of sequence %d", from, from+n, b)
			}
			from += n
		}
	}
}

// Positions need no tables and may be negative, also with caches: far from 0, and through it, tokens that come a few
// at a time get the bits that they get in one prefill.
func TestMultiHeadFarPositions(t *testing.T) {
	r := rand.New(rand.NewSource(14))
	for _, start := range []int{3_000_000, -21, maxPosition - 29, -maxPosition} {
		l := randomLayer(t, r, false)
		for l.Rotary == nil || l.Rotary.dim == 0 {
			l = randomLayer(t, r, false)
		}
		const batch, sequence = 2, 30
		l.Mask = Causal{}
		x, y := gaussian(r, batch*sequence*l.width), make([]float32, batch*sequence*l.out)
		layer := l.new(t)
		in := MultiHeadInput{X: BHSD(x, batch, 1, sequence, l.width), Positions: Positions{Offset: start}}
		require.NoError(t, layer.Forward(BHSD(y, batch, 1, sequence, l.out), in))
		l.twin.Visible = ref.Causal(0)
		l.twin.QueryAt = func(_, s int) int { return start + s }
		l.twin.KeyAt = l.twin.QueryAt
		if start > -1000 && start < 1e7 { // where a float64 angle is precise
			requireNear(t, l.twin.Forward(x, x, batch, sequence, sequence), y)
		}
		caches := l.caches(t, batch, 0)
		for from, n := 0, 1; from < sequence; from, n = from+n, n%3+1 {
			n = min(n, sequence-from)
			part, got := make([]float32, 0, batch*n*l.width), make([]float32, batch*n*l.out)
			for b := range batch {
				part = append(part, x[(b*sequence+from)*l.width:][:n*l.width]...)
			}
			in := MultiHeadInput{X: BHSD(part, batch, 1, n, l.width), Caches: caches,
				Positions: Positions{Offset: start + from}}
			if start+from == 0 {
				in.Positions.Offsets = make([]int, batch) // an Offset of 0 would say nothing
			}
			require.NoError(t, layer.Forward(BHSD(got, batch, 1, n, l.out), in))
			for b := range batch {
				requireBits(t, y[(b*sequence+from)*l.out:][:n*l.out], got[b*n*l.out:][:n*l.out],
					"tokens %d to %d of sequence %d, from %d on", from, from+n, b, start)
			}
		}
	}
}

// An encoder's keys are made once, in pieces if need be, and then attended to from caches.
func TestMultiHeadContextInCaches(t *testing.T) {
	r := rand.New(rand.NewSource(12))
	for range 8 {
		l := randomLayer(t, r, true)
		const queries, keys = 3, 90
		x, context := gaussian(r, queries*l.width), gaussian(r, keys*l.contextWidth)
		want, got := make([]float32, queries*l.out), make([]float32, queries*l.out)
		layer := l.new(t)
		in := MultiHeadInput{X: BHSD(x, 1, 1, queries, l.width), Context: BHSD(context, 1, 1, keys, l.contextWidth)}
		require.NoError(t, layer.Forward(BHSD(want, 1, 1, queries, l.out), in))

		in.Caches = l.caches(t, 1, 0)
		for _, part := range [][2]int{{0, 60}, {60, keys}, {keys, keys}} {
			n := part[1] - part[0]
			in.Context = BHSD(context[part[0]*l.contextWidth:part[1]*l.contextWidth], 1, 1, n, l.contextWidth)
			require.NoError(t, layer.Forward(BHSD(got, 1, 1, queries, l.out), in))
			require.Equal(t, part[1], in.Caches[0].Len())
		}
		requireBits(t, want, got, "from a cache")
	}
}

// A layer with windowed caches takes a prompt far longer than the pages that there are, and gives what a window gives.
func TestMultiHeadLongPromptInAWindow(t *testing.T) {
	r := rand.New(rand.NewSource(17))
	l := randomLayer(t, r, false)
	l.Mask = Window{Left: 63}
	const tokens = 1500
	x, want := gaussian(r, tokens*l.width), make([]float32, tokens*l.out)
	require.NoError(t, l.new(t).Forward(BHSD(want, 1, 1, tokens, l.out),
		MultiHeadInput{X: BHSD(x, 1, 1, tokens, l.width)}))

	config := l.caches(t, 1, 0)[0].pool.config
	config.Window, config.PageKeys = 64, 128
	config.MaxBytes = 3 * int64(config.layout().bytes)
	c, err := NewCache(config)
	require.NoError(t, err)
	l.Mask = Causal{}
	layer, got := l.new(t), make([]float32, tokens*l.out)
	for _, part := range [][2]int{{0, 1300}, {1300, 1301}, {1301, tokens}} {
		n := part[1] - part[0]
		require.NoError(t, layer.Forward(BHSD(got[part[0]*l.out:], 1, 1, n, l.out),
			MultiHeadInput{X: BHSD(x[part[0]*l.width:], 1, 1, n, l.width), Caches: []*Cache{c}}))
	}
	requireBits(t, want, got, "from a window of three pages")
}

// What is wrong with caches is said, and leaves them as they were.
func TestMultiHeadCacheErrors(t *testing.T) {
	r := rand.New(rand.NewSource(13))
	l := randomLayer(t, r, false)
	l.Mask = Causal{}
	layer, y := l.new(t), func(batch int) Tensor { return BHSD(make([]float32, batch*100*l.out), batch, 1, 100, l.out) }
	x := func(batch int) Tensor { return BHSD(gaussian(r, batch*100*l.width), batch, 1, 100, l.width) }
	caches := l.caches(t, 2, 1)
	for name, in := range map[string]MultiHeadInput{
		"too few":   {X: x(2), Caches: caches[:1]},
		"nil":       {X: x(2), Caches: []*Cache{caches[0], nil}},
		"zero":      {X: x(2), Caches: []*Cache{caches[0], new(Cache)}},
		"twice":     {X: x(2), Caches: []*Cache{caches[0], caches[0]}},
		"ragged":    {X: x(2), Caches: caches, Ragged: Ragged{KeyCount: []int{1, 2}}},
		"exhausted": {X: x(2), Caches: caches},
	} {
		err := layer.Forward(y(2), in)
		var bad *ArgumentError
		switch name {
		case "exhausted":
			require.ErrorIs(t, err, ErrPool)
		default:
			require.ErrorAs(t, err, &bad, name)
		}
		require.Zero(t, caches[0].Len(), name)
		require.Zero(t, caches[1].Len(), name)
	}
	other := *l
	other.KVHeads++
	require.ErrorIs(t, layer.Forward(y(2), MultiHeadInput{X: x(2), Caches: other.caches(t, 2, 0)}), ErrShape)
	require.NoError(t, layer.Forward(y(1), MultiHeadInput{X: x(1), Caches: caches[:1]}), "there is a page for one")
}

// A document in a packed batch gets the bits that it gets alone, rotary positions included.
func TestMultiHeadPackedDocuments(t *testing.T) {
	r := rand.New(rand.NewSource(6))
	for range 6 {
		l := randomLayer(t, r, false)
		l.Mask = Causal{}
		cum := []int{0, 7, 7, 30, 41}
		x, y := gaussian(r, 41*l.width), make([]float32, 41*l.out)
		layer := l.new(t)
		require.NoError(t, layer.Forward(BHSD(y, 1, 1, 41, l.out), MultiHeadInput{X: BHSD(x, 1, 1, 41, l.width), Ragged: Ragged{CumQueries: cum}}))
		for i := 1; i < len(cum); i++ {
			n := cum[i] - cum[i-1]
			alone := make([]float32, n*l.out)
			require.NoError(t, layer.Forward(BHSD(alone, 1, 1, n, l.out), MultiHeadInput{X: BHSD(x[cum[i-1]*l.width:], 1, 1, n, l.width)}))
			requireBits(t, alone, y[cum[i-1]*l.out:cum[i]*l.out], "document %d", i)
		}
	}
}

// With overlap 0, and with W' 0 where neighbours come in, MOHSA's layer is the plain one.
func TestOverlapZeroIsPlain(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	l := randomLayer(t, r, false)
	for l.Overlap != 0 || l.KVHeads != l.Heads {
		l = randomLayer(t, r, false)
	}
	const sequence = 33
	x := gaussian(r, sequence*l.width)
	plain, zero := make([]float32, sequence*l.out), make([]float32, sequence*l.out)
	in := MultiHeadInput{X: BHSD(x, 1, 1, sequence, l.width)}
	require.NoError(t, l.new(t).Forward(BHSD(plain, 1, 1, sequence, l.out), in))

	// The same by hand: projections, attention over heads side by side, W^O.
	q, k, v := make([]float32, sequence*l.Query.cols), make([]float32, sequence*l.Key.cols), make([]float32, sequence*l.Value.cols)
	o := make([]float32, sequence*l.Out.rows)
	d, dv := l.Query.cols/l.Heads, l.Value.cols/l.Heads
	X := RowMajor(x, sequence, l.width)
	require.NoError(t, MatMul(RowMajor(q, sequence, l.Query.cols), X, l.Query, MatMulOptions{Bias: l.QueryBias}))
	require.NoError(t, MatMul(RowMajor(k, sequence, l.Key.cols), X, l.Key, MatMulOptions{Bias: l.KeyBias}))
	require.NoError(t, MatMul(RowMajor(v, sequence, l.Value.cols), X, l.Value, MatMulOptions{Bias: l.ValueBias}))
	Q, K := BSHD(q, 1, sequence, l.Heads, d), BSHD(k, 1, sequence, l.Heads, d)
	if l.Rotary != nil {
		require.NoError(t, l.Rotary.Apply(Q, Positions{}))
		require.NoError(t, l.Rotary.Apply(K, Positions{}))
	}
	require.NoError(t, Attention(BSHD(o, 1, sequence, l.Heads, dv), Q, K, BSHD(v, 1, sequence, l.Heads, dv), Options{Scale: l.Scale}))
	require.NoError(t, MatMul(RowMajor(zero, sequence, l.out), RowMajor(o, sequence, l.Out.rows), l.Out, MatMulOptions{Bias: l.OutBias}))
	requireBits(t, zero, plain, "overlap 0")
}

func TestOverlapSchedules(t *testing.T) {
	at := func(s OverlapSchedule) (o []int) {
		for layer := range 6 {
			o = append(o, s.Overlap(layer, 6))
		}
		return
	}
	require.Equal(t, []int{0, 1, 2, 3, 4, 5}, at(OverlapSchedule{}))
	require.Equal(t, []int{1, 2, 3, 4, 5, 6}, at(OverlapSchedule{PlusOne: true}))
	require.Equal(t, []int{0, 0, 1, 1, 2, 2}, at(OverlapSchedule{Half: true}))
	require.Equal(t, []int{1, 1, 2, 2, 3, 3}, at(OverlapSchedule{Half: true, PlusOne: true}))
	require.Equal(t, []int{5, 4, 3, 2, 1, 0}, at(OverlapSchedule{Reversed: true}))
	require.Equal(t, []int{6, 5, 4, 3, 2, 1}, at(OverlapSchedule{Reversed: true, PlusOne: true}))
	require.Equal(t, []int{2, 2, 1, 1, 0, 0}, at(OverlapSchedule{Reversed: true, Half: true}))
	require.Equal(t, []int{3, 3, 2, 2, 1, 1}, at(OverlapSchedule{Reversed: true, Half: true, PlusOne: true}))
}

func TestMultiHeadDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewSource(8))
	for range 8 {
		l := randomLayer(t, r, false)
		l.Workers = 1
		layer := l.new(t)
		x, y := gaussian(r, 2*9*l.width), make([]float32, 2*9*l.out)
		in := MultiHeadInput{X: BHSD(x, 2, 1, 9, l.width), Ragged: Ragged{KeyCount: []int{9, 4}}}
		require.Zero(t, testing.AllocsPerRun(20, func() {
			if err := layer.Forward(BHSD(y, 2, 1, 9, l.out), in); err != nil {
				t.Fatal(err)
			}
		}))
	}
}

func TestMultiHeadErrors(t *testing.T) {
	r := rand.New(rand.NewSource(9))
	w := func(rows, cols int) *Weights { return pack(t, gaussian(r, rows*cols), rows, cols) }
	good := func() MultiHeadOptions {
		return MultiHeadOptions{Heads: 4, KVHeads: 2, Query: w(10, 12), Key: w(10, 6), Value: w(10, 10), Out: w(20, 7)}
	}
	for name, c := range map[string]struct {
		change   func(*MultiHeadOptions)
		argument string
	}{
		"no heads":     {func(o *MultiHeadOptions) { o.Heads = 0; o.KVHeads = 0 }, "Heads"},
		"groups":       {func(o *MultiHeadOptions) { o.KVHeads = 3 }, "KVHeads"},
		"query":        {func(o *MultiHeadOptions) { o.Query = w(10, 13) }, "Query"},
		"key":          {func(o *MultiHeadOptions) { o.Key = w(10, 8) }, "Key"},
		"value":        {func(o *MultiHeadOptions) { o.Value = w(11, 10) }, "Value"},
		"out":          {func(o *MultiHeadOptions) { o.Out = w(21, 7) }, "Out"},
		"no out":       {func(o *MultiHeadOptions) { o.Out = nil }, "Out"},
		"no key":       {func(o *MultiHeadOptions) { o.Key = nil }, "Query"},
		"bias":         {func(o *MultiHeadOptions) { o.KeyBias = make([]float32, 5) }, "KeyBias"},
		"lonely bias":  {func(o *MultiHeadOptions) { o.QKVBias = make([]float32, 5) }, "QKVBias"},
		"both":         {func(o *MultiHeadOptions) { o.QKV = w(10, 28) }, "QKV"},
		"overlap":      {func(o *MultiHeadOptions) { o.Overlap = 1 }, "Overlap"},
		"less overlap": {func(o *MultiHeadOptions) { o.Overlap = -1 }, "Overlap"},
		"workers":      {func(o *MultiHeadOptions) { o.Workers = -1 }, "Workers"},
		"scale":        {func(o *MultiHeadOptions) { o.Scale = math.NaN() }, "Scale"},
		"head dim":     {func(o *MultiHeadOptions) { o.HeadDim = 4 }, "Query"},
		"rotary":       {func(o *MultiHeadOptions) { o.Rotary, _ = NewRotary(RotaryOptions{Dim: 4, Positions: 9}) }, "Rotary"},
	} {
		o := good()
		c.change(&o)
		_, err := NewMultiHead(o)
		var e *ArgumentError
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, c.argument, e.Argument, name)
	}

	o := good()
	o.Rotary, _ = NewRotary(RotaryOptions{Dim: 2, Positions: 9})
	l, err := NewMultiHead(o)
	require.NoError(t, err)
	x, y := BHSD(gaussian(r, 60), 2, 1, 3, 10), BHSD(make([]float32, 42), 2, 1, 3, 7)
	require.NoError(t, l.Forward(y, MultiHeadInput{X: x}))
	for name, in := range map[string]MultiHeadInput{
		"in.X":                 {X: BHSD(gaussian(r, 66), 2, 1, 3, 11)},
		"in.Context":           {X: x, Context: BHSD(gaussian(r, 90), 3, 1, 3, 10)},
		"in.Positions":         {X: x, Positions: Positions{Offset: maxPosition - 1}},
		"in.KeyPositions":      {X: x, Context: x, KeyPositions: Positions{Offset: math.MinInt}},
		"in.Ragged.KeyCount":   {X: x, Ragged: Ragged{KeyCount: []int{1, 4}}},
		"in.Ragged.CumQueries": {X: BHSD(gaussian(r, 60), 1, 1, 6, 10), Ragged: Ragged{CumQueries: []int{0, 5}}},
	} {
		y := y
		if in.X.Shape[0] == 1 {
			y = BHSD(make([]float32, 42), 1, 1, 6, 7)
		}
		var e *ArgumentError
		require.ErrorAs(t, l.Forward(y, in), &e, name)
		require.Equal(t, name, e.Argument)
	}
	var e *ArgumentError
	require.ErrorAs(t, l.Forward(BHSD(make([]float32, 42), 2, 3, 1, 7), MultiHeadInput{X: x}), &e)
	require.Equal(t, "y", e.Argument)
	require.NoError(t, l.Forward(y, MultiHeadInput{X: x}), "after errors")
}

// TestMultiHeadBlamesTheLayout: weights that lie the other way round are recognised, and widths are not rounded.
func TestMultiHeadBlamesTheLayout(t *testing.T) {
	weights := func(rows, cols int) *Weights {
		w, err := Pack(RowMajor(make([]float32, rows*cols), rows, cols))
		require.NoError(t, err)
		return w
	}
	for _, c := range []struct {
		o    MultiHeadOptions
		want string
	}{
		{MultiHeadOptions{Heads: 12, QKV: weights(2304, 768), Out: weights(768, 768)},
			"QKV: shape does not match: is 2304×768, whose 768 columns are not divided evenly by 36 heads; stored [out,in]? use .T()"},
		{MultiHeadOptions{Heads: 8, QKV: weights(2304, 768), Out: weights(768, 768)},
			"Out: shape does not match: is 768×768, want 256 rows: 8 heads of 32+2·0; is QKV stored [out,in]? use .T()"},
		{MultiHeadOptions{Heads: 12, QKV: weights(768, 2300), Out: weights(768, 768)},
			"QKV: shape does not match: is 768×2300, whose 2300 columns are not divided evenly by 36 heads"},
		{MultiHeadOptions{Heads: 4, HeadDim: 8, QKV: weights(96, 32), Out: weights(32, 32)},
			"QKV: shape does not match: is 96×32, want 96 columns for 4 query and 4 key/value heads of 8 and 8; stored [out,in]? use .T()"},
		{MultiHeadOptions{Heads: 5, Query: weights(60, 32), Key: weights(32, 60), Value: weights(32, 60),
			Out: weights(60, 32)},
			"Query: shape does not match: is 60×32, whose 32 columns are not divided evenly by 5 heads; stored [out,in]? use .T()"},
		{MultiHeadOptions{Heads: 4, Query: weights(32, 64), Key: weights(32, 64), Value: weights(64, 32),
			Out: weights(32, 32)},
			"Value: shape does not match: is 64×32, Key has 32 rows; stored [out,in]? use .T()"},
		{MultiHeadOptions{Heads: 4, Query: weights(32, 64), Key: weights(32, 64), Value: weights(32, 64),
			Out: weights(32, 64)},
			"Out: shape does not match: is 32×64, want 64 rows: 4 heads of 16+2·0; stored [out,in]? use .T()"},
	} {
		_, err := NewMultiHead(c.o)
		require.EqualError(t, err, "quern: NewMultiHead: "+c.want)
	}

	// With QKV, a width that is given leaves the rest to the other.
	l, err := NewMultiHead(MultiHeadOptions{Heads: 4, KVHeads: 2, ValueDim: 5, QKV: weights(8, 6*3+2*5),
		Out: weights(20, 8)})
	require.NoError(t, err)
	require.Equal(t, []int{3, 5}, []int{l.dim, l.valueDim})
}
