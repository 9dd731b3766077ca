package kernel

import (
	"math"
	"slices"
	"strings"

	"github.com/quern-go/quern/internal/isa"
)

// MultiHeadOptions describes a multi-head attention layer (Vaswani et al., 2017): Y = concat(heads)·W^O,
// where head h attends with its own channels of X·W^Q, X·W^K and X·W^V.
type MultiHeadOptions struct {
	// Heads is the number of query heads, KVHeads that of key and value heads; 0 means Heads. Query
	// head h uses key/value head h/(Heads/KVHeads).
	Heads, KVHeads int

	// Query, Key and Value are the weights W^Q, W^K and W^V; head h has columns [h·d, (h+1)·d). The
	// biases are optional. Weights may be shared by any number of layers.
	Query, Key, Value             *Weights
	QueryBias, KeyBias, ValueBias []float32
	// QKV, if not nil, is used instead of the three: their columns side by side. Such a layer cannot
	// attend to a context or overlap its heads.
	QKV     *Weights
	QKVBias []float32
	// Out is W^O, with a row for each channel of each head.
	Out     *Weights
	OutBias []float32

	// HeadDim is the width of a head of Q and K, ValueDim that of V. 0 means that the weights say it,
	// and with QKV that both are the same.
	HeadDim, ValueDim int

	// Overlap lets each head see that many channels of its neighbours on both sides, zeros beyond the
	// first and the last head: MOHSA (arXiv 2410.14874). Heads are then HeadDim+2·Overlap wide, so
	// Out has that many rows a head; the scale stays that of HeadDim. See [OverlapSchedule].
	Overlap int

	// Rotary, if not nil, turns queries and keys according to their positions.
	Rotary *Rotary
	// Scale multiplies q·k. 0 means 1/√HeadDim.
	Scale float64
	// Mask says which keys a query sees; nil is all of them.
	Mask Mask
	// Workers is the number of goroutines that share the work, the caller's included. 0 means
	// runtime.GOMAXPROCS. The result does not depend on it.
	Workers int
}

// MultiHeadInput is what a layer is given. Its tensors are of float32.
type MultiHeadInput struct {
	// X is [batch, 1, queries, width]: a row for each token.
	X Tensor
	// Context, if it is not the zero Tensor, is what keys and values are made from: [batch, 1, keys,
	// width]. Otherwise that is X.
	Context Tensor
	// Ragged describes sequences of unequal length, as in [Options]. Without a context, the rows that are keys are
	// queries too: QueryStart and QueryCount are KeyStart and KeyCount unless given. Rows of y that are padding are
	// OutBias, or 0. Without positions of their own, rows count from the first one of their sequence.
	Ragged Ragged
	// Positions and KeyPositions are those of X and of Context for Rotary. Without a context only
	// Positions counts. The zero value leaves them to Ragged and Caches, as is said there; to start from 0 in
	// spite of them, give Offsets of 0.
	Positions, KeyPositions Positions
	// Caches, if not nil, has one for each batch entry, of KVHeads, HeadDim+2·Overlap and
	// ValueDim+2·Overlap, none of them twice. The keys and values of X, or of Context, are appended, and the queries
	// attend to all that the cache then holds, as in [Attend]: X is the next token, or the next few. Without positions
	// of their own, keys count from the length of the cache, and so do queries without a context. A Context of no rows
	// appends nothing: the keys of an encoder are made once. Ragged must be empty.
	Caches []*Cache
}

// MultiHead is a prepared layer. It serves one caller at a time, and a second one gets an error of kind [ErrInUse];
// [MultiHead.Clone] makes another with the same weights for another goroutine.
type MultiHead struct {
	inUse guard

	o        MultiHeadOptions
	dim      int // of a head of Q and K, without overlap
	valueDim int

	attention  Plan
	attender   Attender // over caches
	shape      Shape    // what attention is prepared for
	ragged     Ragged
	prepared   bool
	multiplier multiplier
	turn       func(worker, task int)

	q, k, v, out  projected
	products      [3]product // of Q, K and V, or one of all
	qAt, kAt      Positions
	qKept, kKept  []int // memory for positions that sequences imply
	level         isa.Level
	batch         int
	qTurns, turns int // tasks of the rotation, of Q and of all
}

// projected is a projection of all tokens: rows of padded channels.
type projected struct {
	data   []float32 // owned
	view   Matrix    // what the product is written to, [batch·sequence, heads·dim]
	heads  Tensor    // what attention reads, overlapping or not
	origin Tensor    // heads without overlap, which are turned
}

// NewMultiHead checks the description of a layer and prepares it. Errors are of type [*ArgumentError]. Weights
// and biases are used where they are, and must not change as long as the layer is used.
func NewMultiHead(o MultiHeadOptions) (*MultiHead, error) {
	l, err := newMultiHead(o)
	return l, in("NewMultiHead", err)
}

func newMultiHead(o MultiHeadOptions) (*MultiHead, error) {
	if o.KVHeads == 0 {
		o.KVHeads = o.Heads
	}
	if o.Heads < 1 || o.Heads > maxSize {
		return nil, argument(ErrOption, "Heads", "is %d, want 1 to %d", o.Heads, maxSize)
	}
	if o.KVHeads < 1 || o.Heads%o.KVHeads != 0 {
		return nil, argument(ErrOption, "KVHeads", "is %d, want a divisor of the %d query heads", o.KVHeads, o.Heads)
	}
	if o.Overlap < 0 || o.Overlap > maxSize {
		return nil, argument(ErrOption, "Overlap", "is %d, want 0 to %d", o.Overlap, maxSize)
	}
	if o.Overlap > 0 && o.KVHeads != o.Heads {
		return nil, argument(ErrOption, "Overlap", "is %d with %d query and %d key/value heads, want as many of both", o.Overlap, o.Heads, o.KVHeads)
	}
	if o.Workers < 0 {
		return nil, argument(ErrOption, "Workers", "is %d, want 0 or more", o.Workers)
	}
	if math.IsNaN(o.Scale) || math.IsInf(o.Scale, 0) {
		return nil, argument(ErrOption, "Scale", "is %v, want a finite number", o.Scale)
	}
	l := &MultiHead{o: o, dim: o.HeadDim, valueDim: o.ValueDim}
	if err := l.setWidths(); err != nil {
		return nil, err
	}
	if err := l.checkWeights(); err != nil {
		return nil, err
	}
	if l.o.Scale == 0 {
		l.o.Scale = 1 / math.Sqrt(float64(l.dim))
	}
	if o.Rotary != nil && o.Rotary.dim > l.dim {
		return nil, argument(ErrShape, "Rotary", "turns %d channels, heads have %d", o.Rotary.dim, l.dim)
	}
	l.turn = l.turnRows
	return l, nil
}

// setWidths derives from the weights the widths of heads that the options leave open.
func (l *MultiHead) setWidths() (err error) {
	switch o := &l.o; {
	case o.QKV != nil && (o.Query != nil || o.Key != nil || o.Value != nil):
		return argument(ErrOption, "QKV", "is given beside Query, Key or Value")
	case o.QKV != nil && o.Overlap > 0:
		return argument(ErrOption, "Overlap", "is %d, want 0 with QKV", o.Overlap)
	case o.QKV == nil && (o.Query == nil || o.Key == nil || o.Value == nil):
		return argument(ErrOption, "Query", "Key and Value, or QKV, must be given")
	case o.Out == nil:
		return argument(ErrOption, "Out", "is nil")
	case o.QKV != nil:
		if l.dim == 0 && l.valueDim == 0 {
			l.dim, err = headWidth("QKV", o.QKV, o.Heads+2*o.KVHeads, 0)
		} else if l.dim == 0 {
			l.dim, err = headWidth("QKV", o.QKV, o.Heads+o.KVHeads, o.KVHeads*min(l.valueDim, maxSize))
		}
		if l.valueDim == 0 {
			l.valueDim = l.dim
		}
	default:
		if l.dim == 0 {
			l.dim, err = headWidth("Query", o.Query, o.Heads, 0)
		}
		if l.valueDim == 0 && err == nil {
			l.valueDim, err = headWidth("Value", o.Value, o.KVHeads, 0)
		}
	}
	if err != nil {
		return err
	}
	if l.dim < 1 || l.valueDim < 1 || l.dim > maxSize || l.valueDim > maxSize {
		return argument(ErrOption, "HeadDim", "is %d, and ValueDim %d, want 1 to %d", l.dim, l.valueDim, maxSize)
	}
	return nil
}

// headWidth is the width of one of so many heads in the columns of w, some of which are for others.
func headWidth(name string, w *Weights, heads, others int) (int, error) {
	if n := w.cols - others; n > 0 && n%heads == 0 {
		return n / heads, nil
	}
	return 0, argument(ErrShape, name, "is %d×%d, whose %d columns are not divided evenly by %d heads%s",
		w.rows, w.cols, w.cols-others, heads, turned(w.rows > others && (w.rows-others)%heads == 0))
}

// turned asks about weights whose transpose would fit.
func turned(fits bool) string {
	if fits {
		return "; stored [out,in]? use .T()"
	}
	return ""
}

// checkWeights compares the weights with the widths of heads and with each other.
func (l *MultiHead) checkWeights() error {
	o := &l.o
	heads, kvHeads, dim, valueDim := int64(o.Heads), int64(o.KVHeads), int64(l.dim), int64(l.valueDim) // of which products fit
	for _, w := range []struct {
		name string
		w    *Weights
		bias []float32
		cols int64 // 0: any
	}{
		{"QKV", o.QKV, o.QKVBias, heads*dim + kvHeads*(dim+valueDim)},
		{"Query", o.Query, o.QueryBias, heads * dim},
		{"Key", o.Key, o.KeyBias, kvHeads * dim},
		{"Value", o.Value, o.ValueBias, kvHeads * valueDim},
		{"Out", o.Out, o.OutBias, 0},
	} {
		switch {
		case w.w == nil && w.bias != nil:
			return argument(ErrOption, w.name+"Bias", "is given without %s", w.name)
		case w.w == nil:
		case w.cols > 0 && int64(w.w.cols) != w.cols:
			return argument(ErrShape, w.name,
				"is %d×%d, want %d columns for %d query and %d key/value heads of %d and %d%s",
				w.w.rows, w.w.cols, w.cols, o.Heads, o.KVHeads, dim, valueDim, turned(int64(w.w.rows) == w.cols))
		case w.bias != nil && len(w.bias) != w.w.cols:
			return argument(ErrShape, w.name+"Bias", "has %d elements, %s has %d columns", len(w.bias), w.name, w.w.cols)
		}
	}
	if o.QKV == nil && o.Key.rows != o.Value.rows {
		return argument(ErrShape, "Value", "is %d×%d, Key has %d rows%s", o.Value.rows, o.Value.cols, o.Key.rows,
			turned(o.Value.cols == o.Key.rows))
	}
	if want := heads * (valueDim + 2*int64(o.Overlap)); int64(o.Out.rows) != want {
		// The width of a head may come from weights that lie the other way round.
		why := turned(int64(o.Out.cols) == want)
		if o.QKV != nil && int64(o.QKV.rows)*heads == int64(o.Out.rows)*(heads+2*kvHeads) {
			why = "; is QKV stored [out,in]? use .T()"
		}
		return argument(ErrShape, "Out", "is %d×%d, want %d rows: %d heads of %d+2·%d%s", o.Out.rows, o.Out.cols, want,
			o.Heads, l.valueDim, o.Overlap, why)
	}
	return nil
}

// Clone returns a layer with the same weights and memory of its own. It may be called while l is in use.
func (l *MultiHead) Clone() *MultiHead {
	mustNotNil(l, "MultiHead", "Clone")
	c := &MultiHead{o: l.o, dim: l.dim, valueDim: l.valueDim}
	c.turn = c.turnRows
	return c
}

// Forward computes the layer for the tokens of in into y, [batch, 1, queries, columns of Out].
//
// y may share memory with X and Context. Errors are of type [*ArgumentError]; nothing has been
// written then. Once a layer has seen the largest input it does not allocate with one worker, as long
// as shapes and Ragged stay the same.
//
// A row of y depends on its own token, on the tokens that it sees and on nothing else, bit for bit:
// not on the batch, nor on how many queries are given at a time, nor, with a mask that looks back only, on whether its keys
// come from this call or from a cache of float32. If a pool has no pages for new keys, all caches are as
// before, and the error is of kind [ErrPool].
func (l *MultiHead) Forward(y Tensor, input MultiHeadInput) error {
	return in("MultiHead.Forward", l.blame(l.checkedForward(y, input)))
}

// blame makes the fault of an option of attention that of the field which it came from.
func (l *MultiHead) blame(err error) error {
	if e, ok := err.(*ArgumentError); ok {
		if field, ok := strings.CutPrefix(e.Argument, "Options.Ragged"); ok {
			e.Argument = "in.Ragged" + field
		} else if field, ok := strings.CutPrefix(e.Argument, "Options."); ok {
			e.Argument = "MultiHeadOptions." + field
		}
		switch e.Argument {
		case "caches":
			e.Argument = "in.Caches"
		case "k": // which the layer has made of it
			e.Argument = "in.X"
		}
	}
	return err
}

func (l *MultiHead) checkedForward(y Tensor, in MultiHeadInput) error {
	if err := notNil(l, "MultiHead"); err != nil {
		return err
	}
	if l.o.Out == nil {
		return argument(ErrOption, "MultiHead", "was not made by NewMultiHead")
	}
	if err := l.inUse.enter("MultiHead"); err != nil {
		return err
	}
	defer l.inUse.leave()
	source := &in.Context
	self := in.Context == (Tensor{})
	if self {
		source = &in.X
	}
	if err := l.checkInput(&y, &in, source, self); err != nil {
		return err
	}
	batch, queries, keys := in.X.Shape[0], in.X.Shape[2], source.Shape[2]
	l.batch, l.level = batch, isa.Active()
	shape := Shape{
		Batch: batch, Heads: l.o.Heads, KVHeads: l.o.KVHeads, Queries: queries, Keys: keys,
		Dim: l.dim + 2*l.o.Overlap, ValueDim: l.valueDim + 2*l.o.Overlap,
	}
	if err := shape.checkRoom("in.X"); err != nil { // before memory is sized for it
		return err
	}
	l.layOut(batch, queries, keys)
	var err error
	if in.Caches != nil {
		err = l.checkCaches(shape, &in)
	} else {
		err = l.prepare(shape, &in.Ragged, self)
	}
	if err != nil {
		return err
	}
	if l.o.Rotary != nil {
		if err := l.placeRows(&in, self, queries, keys); err != nil {
			return err
		}
	}

	o := &l.o
	own, far := l.products[:1], l.products[1:] // of X, of Context
	if o.QKV != nil {
		own[0] = product{y: l.q.view, w: o.QKV, bias: o.QKVBias} // each row holds q, k and v
		own[0].y.Cols = o.QKV.cols
		far = nil
	} else {
		own[0] = product{y: l.q.view, w: o.Query, bias: o.QueryBias}
		far[0] = product{y: l.k.view, w: o.Key, bias: o.KeyBias}
		far[1] = product{y: l.v.view, w: o.Value, bias: o.ValueBias}
	}
	if self {
		l.project(&in.X, l.products[:1+len(far)])
	} else {
		l.project(&in.X, own)
		l.project(source, far)
	}
	if o.Rotary != nil {
		l.multiplier.crew.run(workersFor(o.Workers), l.turns, l.turn)
	}
	if in.Caches != nil {
		err := l.attender.appendAttend(l.out.heads, l.q.heads, l.k.heads, l.v.heads, in.Caches,
			Options{Scale: l.o.Scale, Mask: l.o.Mask, Workers: l.o.Workers})
		if err != nil {
			return err
		}
	} else if err := l.attention.run(&tensors{l.out.heads, l.q.heads, l.k.heads, l.v.heads}); err != nil {
		panic("quern: MultiHead: " + err.Error()) // all shapes are ours
	}
	l.projectOut(&y)
	return nil
}

// checkCaches compares caches with the layer.
func (l *MultiHead) checkCaches(shape Shape, in *MultiHeadInput) error {
	if r := &in.Ragged; !r.equal(&Ragged{}) {
		return argument(ErrOption, "in.Ragged", "is given beside caches")
	}
	if len(in.Caches) != shape.Batch {
		return argument(ErrShape, "in.Caches", "has %d entries, want %d", len(in.Caches), shape.Batch)
	}
	if err := checkCaches("in.Caches", in.Caches); err != nil {
		return err
	}
	for i, c := range in.Caches {
		if has := &c.pool.config; i == 0 && (has.KVHeads != shape.KVHeads || has.Dim != shape.Dim || has.ValueDim != shape.ValueDim) {
			return argument(ErrShape, "in.Caches", "entries have %d heads of %d and %d, want %d heads of %d and %d",
				has.KVHeads, has.Dim, has.ValueDim, shape.KVHeads, shape.Dim, shape.ValueDim)
		}
	}
	return nil
}

// checkInput compares the tensors with the weights.
func (l *MultiHead) checkInput(y *Tensor, in *MultiHeadInput, source *Tensor, self bool) error {
	o := &l.o
	queryWeights, keyWeights := o.Query, o.Key
	if o.QKV != nil {
		if !self {
			return argument(ErrOption, "in.Context", "is given, but the layer has QKV fused: it can only attend to X")
		}
		queryWeights, keyWeights = o.QKV, o.QKV
	}
	if err := in.X.checkFloat32("in.X", [4]int{in.X.Shape[0], 1, in.X.Shape[2], queryWeights.rows}); err != nil {
		return err
	}
	name := "in.X"
	if !self {
		name = "in.Context"
	}
	if err := source.checkFloat32(name, [4]int{in.X.Shape[0], 1, source.Shape[2], keyWeights.rows}); err != nil {
		return err
	}
	return y.checkOutput("y", [4]int{in.X.Shape[0], 1, in.X.Shape[2], o.Out.cols})
}

// layOut makes room for the projections.
func (l *MultiHead) layOut(batch, queries, keys int) {
	o := &l.o
	if o.QKV != nil {
		width := o.QKV.cols
		l.q.data = grow(l.q.data, batch*queries*width)
		l.q.place(l.q.data, 0, width, batch, queries, o.Heads, l.dim, 0)
		l.k.place(l.q.data, o.Heads*l.dim, width, batch, keys, o.KVHeads, l.dim, 0)
		l.v.place(l.q.data, (o.Heads+o.KVHeads)*l.dim, width, batch, keys, o.KVHeads, l.valueDim, 0)
	} else {
		l.q.own(batch, queries, o.Heads, l.dim, o.Overlap)
		l.k.own(batch, keys, o.KVHeads, l.dim, o.Overlap)
		l.v.own(batch, keys, o.KVHeads, l.valueDim, o.Overlap)
	}
	l.out.own(batch, queries, o.Heads, l.valueDim+2*o.Overlap, 0)
}

// own lays a projection out in memory of its own. Nothing is ever written to the padding, so it
// stays 0: rows are always equally long.
func (p *projected) own(batch, sequence, heads, dim, overlap int) {
	width := heads*dim + 2*overlap
	p.data = grow(p.data, batch*sequence*width)
	p.place(p.data, 0, width, batch, sequence, heads, dim, overlap)
}

// place describes heads that begin at column skip of rows of the given width.
func (p *projected) place(data []float32, skip, width, batch, sequence, heads, dim, overlap int) {
	skip = min(skip, len(data)) // no rows
	inner := data[min(skip+overlap, len(data)):]
	stride := [3]int{sequence * width, dim, width}
	p.view = StridedRows(inner, batch*sequence, heads*dim, width)
	p.heads = Strided(data[skip:], [4]int{batch, heads, sequence, dim + 2*overlap}, stride)
	p.origin = Strided(inner, [4]int{batch, heads, sequence, dim}, stride)
}

// prepare readies attention, unless it is ready for just this.
func (l *MultiHead) prepare(shape Shape, r *Ragged, self bool) error {
	o := &l.o
	if self && r.QueryStart == nil && r.QueryCount == nil {
		r.QueryStart, r.QueryCount = r.KeyStart, r.KeyCount
	}
	if l.prepared && l.shape == shape && l.ragged.equal(r) {
		return nil
	}
	l.prepared = false
	l.shape = shape
	l.ragged.set(r)
	err := l.attention.reset(shape, Options{Scale: o.Scale, Mask: o.Mask, Ragged: l.ragged, Workers: o.Workers},
		stored{})
	l.prepared = err == nil
	return err
}

// lists are all that r has, always in the same order.
func (r *Ragged) lists() [6]*[]int {
	return [...]*[]int{&r.KeyStart, &r.KeyCount, &r.QueryStart, &r.QueryCount, &r.CumQueries, &r.CumKeys}
}

func (r *Ragged) equal(o *Ragged) bool {
	others := o.lists()
	for i, list := range r.lists() {
		if (*list == nil) != (*others[i] == nil) || !slices.Equal(*list, *others[i]) {
			return false
		}
	}
	return true
}

// set copies o, because the caller may change its slices.
func (r *Ragged) set(o *Ragged) {
	others := o.lists()
	for i, list := range r.lists() {
		if from := *others[i]; from == nil {
			*list = nil
		} else if *list = append((*list)[:0:cap(*list)], from...); *list == nil {
			*list = []int{}
		}
	}
}

// project computes products of all rows of x: in one go if they lie evenly, else batch entry by batch
// entry.
func (l *MultiHead) project(x *Tensor, products []product) {
	if x.Shape[0]*x.Shape[2] == 0 {
		return
	}
	m, workers := &l.multiplier, workersFor(l.o.Workers)
	if all, ok := x.rows(); ok {
		m.begin(all, workers)
		for _, p := range products {
			m.add(p.y, p.w, p.bias)
		}
		m.run()
		return
	}
	for b := range x.Shape[0] {
		m.begin(x.matrix(b), workers)
		for _, p := range products {
			m.add(p.y.rowsFrom(b*x.Shape[2], x.Shape[2]), p.w, p.bias)
		}
		m.run()
	}
}

// projectOut computes y from the concatenated heads.
func (l *MultiHead) projectOut(y *Tensor) {
	if y.Shape[0]*y.Shape[2] == 0 {
		return
	}
	m, workers := &l.multiplier, workersFor(l.o.Workers)
	if all, ok := y.rows(); ok {
		m.begin(l.out.view, workers)
		m.add(all, l.o.Out, l.o.OutBias)
		m.run()
		return
	}
	for b := range l.batch {
		m.begin(l.out.view.rowsFrom(b*y.Shape[2], y.Shape[2]), workers)
		m.add(y.matrix(b), l.o.Out, l.o.OutBias)
		m.run()
	}
}

// turnBlock is the number of rows that one task turns.
const turnBlock = 64

// placeRows finds the positions of queries and keys, and numbers the tasks that turn them.
func (l *MultiHead) placeRows(in *MultiHeadInput, self bool, queries, keys int) error {
	r := &in.Ragged
	cumKeys, start := r.CumKeys, r.KeyStart
	if cumKeys == nil {
		cumKeys = r.CumQueries
	}
	queryStart := r.QueryStart
	keyAt, name := &in.KeyPositions, "in.KeyPositions"
	if self {
		keyAt, name = &in.Positions, "in.Positions"
		queryStart = start
	}
	if in.Caches != nil {
		l.kAt = appended(keyAt, &l.kKept, in.Caches)
		l.qAt = in.Positions
		if self {
			l.qAt = l.kAt
		}
	} else {
		l.qAt = implied(&in.Positions, &l.qKept, l.batch, queries, r.CumQueries, queryStart)
		l.kAt = implied(keyAt, &l.kKept, l.batch, keys, cumKeys, start)
	}
	if err := l.qAt.check("in.Positions", l.batch, queries, l.o.Rotary); err != nil {
		return err
	}
	if err := l.kAt.check(name, l.batch, keys, l.o.Rotary); err != nil {
		return err
	}
	l.qTurns = l.batch * ((queries + turnBlock - 1) / turnBlock)
	l.turns = l.qTurns + l.batch*((keys+turnBlock-1)/turnBlock)
	return nil
}

// implied returns at, or where it says nothing the positions within sequences: packed ones begin
// anew at each cumulative length, padded ones at their start. Rows in front of it are not part of
// anything and get position 0.
func implied(at *Positions, kept *[]int, batch, rows int, cum, start []int) Positions {
	if at.given() || cum == nil && start == nil {
		return *at
	}
	ids := (*kept)[:0]
	switch {
	case cum != nil:
		for i := 1; i < len(cum); i++ {
			for p := range cum[i] - cum[i-1] {
				ids = append(ids, p)
			}
		}
	default:
		for b := range batch {
			for s := range rows {
				ids = append(ids, max(s-start[b], 0))
			}
		}
	}
	*kept = ids
	return Positions{IDs: ids}
}

// appended returns at, or where it says nothing the positions of keys that are to follow those in caches.
func appended(at *Positions, kept *[]int, caches []*Cache) Positions {
	if at.given() {
		return *at
	}
	offsets := (*kept)[:0]
	for _, c := range caches {
		offsets = append(offsets, c.Len())
	}
	*kept = offsets
	return Positions{Offsets: offsets}
}

// turnRows is a task of the rotation: some rows of Q or of K.
func (l *MultiHead) turnRows(_, task int) {
	x, at := &l.q.origin, &l.qAt
	if task >= l.qTurns {
		x, at, task = &l.k.origin, &l.kAt, task-l.qTurns
	}
	blocks := (x.Shape[2] + turnBlock - 1) / turnBlock
	from := task % blocks * turnBlock
	l.o.Rotary.rotate(l.level, x, at, task/blocks, from, min(from+turnBlock, x.Shape[2]))
}

// OverlapSchedule says how the overlap of heads grows from layer to layer: by the layer's number, or
// half of it, from the first layer on or, reversed, from the last. These are the eight schedules
// of arXiv 2410.14874.
type OverlapSchedule struct {
	Half     bool // ⌊l/2⌋ instead of l
	PlusOne  bool // one more, so that every layer overlaps
	Reversed bool // T-l-1 instead of l
}

// Overlap returns the overlap for a layer, counted from 0, of a number of layers, in channels on each side.
func (s OverlapSchedule) Overlap(layer, layers int) int {
	if s.Reversed {
		layer = layers - layer - 1
	}
	if s.Half {
		layer /= 2
	}
	if s.PlusOne {
		layer++
	}
	return layer
}
