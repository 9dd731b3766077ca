package kernel

import (
	"math"
	"math/bits"
	"reflect"
	"slices"
	"sync"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// Shape is the size of an attention problem.
//
// With Batch sequences of equal size, Q is [Batch, Heads, Queries, Dim], K is [Batch, KVHeads, Keys,
// Dim], V is [Batch, KVHeads, Keys, ValueDim] and the output [Batch, Heads, Queries, ValueDim].
// Query head h uses key/value head h/(Heads/KVHeads).
//
// Heads must be a multiple of KVHeads and Dim at least 1; all other sizes may be 0, and none may be more
// than 2²⁸. Widths need not be multiples of anything.
type Shape struct {
	Batch, Heads, KVHeads int
	Queries, Keys         int
	Dim, ValueDim         int
}

// ShapeOf reads the shape off the three inputs. Whether they fit each other is found out where it is used.
func ShapeOf(q, k, v Tensor) Shape {
	return Shape{
		Batch: q.Shape[0], Heads: q.Shape[1], KVHeads: k.Shape[1],
		Queries: q.Shape[2], Keys: k.Shape[2], Dim: q.Shape[3], ValueDim: v.Shape[3],
	}
}

// Options says what attention to compute. The zero Options is plain bidirectional attention with
// scale 1/√Dim on all cores.
//
// A score is changed in this order: Scale, Softcap, Bias, ALiBi, ScoreFunc, Mask.
//
// A plan reads what masks and slices hold when it is made. Only Bias, LSE and Scores are memory that it
// uses in every run.
type Options struct {
	// Scale multiplies q·k. 0 means 1/√Dim.
	Scale float64
	// Mask says which keys a query sees; nil is all of them.
	Mask Mask
	// Ragged describes sequences of unequal length; the zero Ragged is one a batch entry, all of it.
	Ragged Ragged

	// Softcap, if not 0, replaces each score s by Softcap·tanh(s/Softcap). It must be positive.
	Softcap float64
	// Bias is added to the scores, after Softcap. It is of float32 and of shape [sequences or 1, Heads or 1, Queries or
	// 1, keys or 1], where a 1 stands for all, as in NumPy, and may broadcast with stride 0; its rows and columns are
	// positions within a sequence, as in masks. A bias of -Inf masks, and so does having no column for
	// a key where there is more than one; the lowest finite numbers do not, and rows that see nothing else average.
	// It is read when the plan is run. The zero Tensor is none.
	Bias Tensor
	// ALiBi adds slopes, after Bias.
	ALiBi ALiBi
	// ScoreFunc, if not nil, changes scores at last.
	ScoreFunc ScoreFunc
	// Sinks, if not nil, has a logit for each query head that takes part in its softmax and has no value:
	// it takes weight away from the keys. -Inf is none.
	Sinks []float32

	// Scores, if not the zero Tensor, receives the scores at some Stage, [Batch, Heads, Queries, Keys] in
	// float32 and in natural units: for small problems, because it is Queries·Keys large and slow. Pairs of different
	// sequences, and padding, are hidden in every stage: -Inf, and 0 as probabilities. Probabilities are those that
	// sinks leave. Asking for scores changes the last bits of the output, as Softcap and ScoreFunc do: scores are then
	// computed in natural units instead of in base 2.
	Scores Tensor
	Stage  ScoreStage

	// KeyOffset is the position of the first key given within its sequence, a multiple of 2048: the
	// keys are a later piece of a longer sequence. Masks count positions from the start of it.
	KeyOffset int
	// LSE, if not nil, receives the natural log-sum-exp of each row's scores and its sink, [Batch, Heads,
	// Queries] contiguous; -Inf for a row that sees no key and has no sink. It must not share memory
	// with a tensor.
	LSE []float32
	// Workers is the number of goroutines that share the work, the caller's included. 0 means
	// runtime.GOMAXPROCS. The result does not depend on it.
	Workers int
}

// Ragged describes sequences of unequal length, in one of two layouts.
//
// Padded: the tensors have one batch entry a sequence, of which only a part is used. KeyStart is
// the first key (left padding), KeyCount the number of keys from there; nil means 0, and all that
// follow. QueryStart and QueryCount say the same of the queries. Queries that are padding see nothing, which makes
// their output 0, and nothing of theirs is read.
//
// In self-attention of a padded batch both are to be given, and are the same. A mask that puts the last query at the
// last key has to know which is the last: an error says so where KeyCount cuts off keys, fewer are left than there
// are queries, and QueryCount is nil.
//
// Packed: the sequences lie end to end in the sequence dimension of tensors whose batch is 1.
// Sequence s has the queries [CumQueries[s], CumQueries[s+1]) and the keys [CumKeys[s],
// CumKeys[s+1]). A nil CumKeys is the same as CumQueries.
//
// Either way a sequence gets the same bits as alone.
type Ragged struct {
	KeyStart, KeyCount     []int
	QueryStart, QueryCount []int
	CumQueries, CumKeys    []int
}

// padded reports that r describes the padded layout.
func (r *Ragged) padded() bool {
	return r.KeyStart != nil || r.KeyCount != nil || r.QueryStart != nil || r.QueryCount != nil
}

// sequence is one sequence of a batch: a range of queries and of keys.
type sequence struct {
	index, batch  int
	query0, key0  int // position of the first in the tensors
	queries, keys int
	keyOffset     int
	heads         int
	of            batchSize
	unplaced      bool // which query is the last is not known
	visible       visibility
	slopeOffset   int // of ALiBi

	cache    *Cache   // where the keys are, unless in tensors
	arriving arriving // or some of them are, that are to follow those in the cache
	band     band     // what visible points to in the usual case of a cache, so that a call
	windowed windowed // allocates nothing

	tiles, spans   int // query tiles of a key/value head; tasks that each is split into
	first          int // number of the first task
	split, partial int // number of the first tile that is split, and row of its first partial state
}

// batchSize is what masks and biases that are tensors must broadcast to: the number of sequences, and
// the most queries and keys that one may have, those before KeyOffset included.
type batchSize struct{ sequences, queries, keys int }

// Attention computes softmax(q·kᵀ·scale)·v for every query head into out. The tensors are described
// at [Shape]. q, k and v may be of float32, [BF16] or [F16], each of its own; out is of float32.
//
// out may be the very same view as q; otherwise it must not overlap an input. Inputs may overlap
// each other, and may broadcast with stride 0. Sizes of 0 are allowed: without keys the output is 0.
// A NaN or +Inf among the scores a query sees makes its row NaN.
//
// It needs O(S·D) memory besides, which it keeps for the next call. Errors are of type
// [*ArgumentError]; nothing has been written then. A call cannot be cancelled.
//
// The method is FlashAttention (Dao et al., 2022; Dao, 2023) with the online softmax in base 2.
func Attention(out, q, k, v Tensor, opts Options) error {
	t := tensors{out, q, k, v}
	return in("Attention", t.attend(opts))
}

func (t *tensors) attend(opts Options) error {
	shape, err := t.shape()
	if err != nil {
		return err
	}
	if err := t.check(shape); err != nil { // before memory is sized for them
		return err
	}
	p := plans.Get().(*Plan)
	defer plans.Put(p)
	defer p.release()
	if err := p.reset(shape, opts, stored{}); err != nil {
		return err
	}
	return p.run(t)
}

// release keeps nothing of the caller's alive.
func (p *Plan) release() {
	p.opts = Options{}
	p.changes.function = nil
	for i := range p.sequences {
		p.sequences[i].visible = nil
	}
}

var plans = sync.Pool{New: func() any { return new(Plan) }}

// Plan is a prepared attention: shape and options are validated, memory is there. It serves one
// caller at a time, and a second one gets an error of kind [ErrInUse]; [Plan.Clone] makes another plan for another
// goroutine. The zero Plan is one to be Reset.
type Plan struct {
	inUse   guard // by Run, RunState or Reset
	settled guard // changed by Reset, read by Clone

	shape Shape
	opts  Options
	level isa.Level

	group     int     // query heads that share a key/value head
	factor    float32 // of Q: scale in the units of scores
	changes   changes
	sinks     []float32 // by head, in base 2
	sequences []sequence

	tensors  tensors // of the call under way
	into     *State  // where RunState wants states
	schedule schedule
	workers  []*worker
	slots    []*slot
}

// NewAttention prepares attention of one shape. Errors are of type [*ArgumentError]. It allocates what
// runs need: O(S·Dim), never O(S²), but for masks that are tables of bits.
func NewAttention(shape Shape, opts Options) (*Plan, error) {
	p := new(Plan)
	if err := p.reset(shape, opts, stored{}); err != nil {
		return nil, in("NewAttention", err)
	}
	return p, nil
}

// Clone returns a plan for the same shape and options with memory of its own. The outputs LSE and Scores
// are the same memory: give the clone another with Reset if both are to run at once. It may be called while p runs. It
// panics if p is nil or being Reset.
func (p *Plan) Clone() *Plan {
	mustNotNil(p, "Plan", "Clone")
	if err := p.settled.read("Plan"); err != nil {
		panic(in("Plan.Clone", err).Error())
	}
	defer p.settled.unread()
	c := &Plan{
		shape: p.shape, opts: p.opts, level: p.level, group: p.group, factor: p.factor,
		sequences: slices.Clone(p.sequences), changes: p.changes, sinks: slices.Clone(p.sinks),
	}
	c.changes.slopes = slices.Clone(p.changes.slopes)
	c.changes.bind(&c.opts)
	if p.shape != (Shape{}) {
		c.prepare()
	}
	return c
}

// Limits on sizes, far beyond what memory holds, so that products of sizes do not overflow: on one
// dimension, and on the numbers of a tensor or of scratch.
const (
	maxSize    = 1 << 28
	maxNumbers = 1 << (27 + bits.UintSize/64*13)
)

// fits reports that sizes of 0 to maxSize have a product of at most maxNumbers. Those of 0 count as 1:
// what has no elements may still be counted row by row.
func fits(sizes ...int) bool {
	product := 1
	for _, n := range sizes {
		if n > maxNumbers/product {
			return false
		}
		product *= max(n, 1)
	}
	return true
}

// check reports what makes a shape impossible.
func (shape Shape) check() error {
	for _, size := range []struct {
		name string
		n    int
	}{
		{"Shape.Batch", shape.Batch}, {"Shape.Heads", shape.Heads}, {"Shape.KVHeads", shape.KVHeads},
		{"Shape.Queries", shape.Queries}, {"Shape.Keys", shape.Keys},
		{"Shape.Dim", shape.Dim}, {"Shape.ValueDim", shape.ValueDim},
	} {
		if size.n < 0 || size.n > maxSize {
			return argument(ErrShape, size.name, "is %d, want 0 to %d", size.n, maxSize)
		}
	}
	if !shape.grouped() {
		return argument(ErrShape, "Shape.Heads", "is %d, want a multiple of the %d key/value heads", shape.Heads, shape.KVHeads)
	}
	if shape.Dim == 0 {
		return argument(ErrShape, "Shape.Dim", "is 0, want at least 1")
	}
	return shape.checkRoom("Shape")
}

// grouped reports that each key/value head has the same number of query heads.
func (shape Shape) grouped() bool {
	if shape.KVHeads == 0 {
		return shape.Heads == 0
	}
	return shape.Heads%shape.KVHeads == 0
}

// checkRoom reports a shape that takes more than any memory, of which sizes were checked, as the fault of an argument.
func (shape Shape) checkRoom(name string) error {
	widest := roundUp(max(shape.Dim, shape.ValueDim), panel)
	if !fits(shape.Batch, shape.Heads, shape.Queries, widest) || !fits(shape.Batch, shape.KVHeads, roundUp(shape.Keys, blockKeys), widest) || !fits(2*blockKeys, widest) {
		return argument(ErrShape, name, "%+v takes tensors or scratch of more than %d numbers", shape, maxNumbers)
	}
	return nil
}

// Reset prepares p for another shape or other options. It allocates only where more memory is
// needed than before, and for masks that are tables. Errors are of type [*ArgumentError]; after one p
// must be Reset before it is Run.
func (p *Plan) Reset(shape Shape, opts Options) error {
	return in("Plan.Reset", p.resetAlone(shape, opts))
}

// resetAlone is Reset for a plan that somebody else may be using or cloning.
func (p *Plan) resetAlone(shape Shape, opts Options) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.inUse.leave()
	if err := p.settled.enter("Plan"); err != nil {
		return err
	}
	defer p.settled.leave()
	return p.reset(shape, opts, stored{})
}

// enter lets one caller use p, unless it is nil.
func (p *Plan) enter() error {
	if err := notNil(p, "Plan"); err != nil {
		return err
	}
	return p.inUse.enter("Plan")
}

// reset is Reset for a plan that nobody else uses. Keys are in tensors, or stored if there are caches.
func (p *Plan) reset(shape Shape, opts Options, keys stored) error {
	p.shape = Shape{}
	if err := shape.check(); err != nil {
		return err
	}
	scale := opts.Scale
	switch {
	case math.IsNaN(scale) || math.IsInf(scale, 0):
		return argument(ErrOption, "Options.Scale", "is %v, want a finite number", scale)
	case scale == 0:
		scale = 1 / math.Sqrt(float64(shape.Dim))
	}
	if opts.Workers < 0 {
		return argument(ErrOption, "Options.Workers", "is %d, want 0 or more", opts.Workers)
	}
	if opts.KeyOffset < 0 || opts.KeyOffset > maxSize || opts.KeyOffset%spanKeys != 0 {
		return argument(ErrOption, "Options.KeyOffset", "is %d, want a multiple of %d up to %d", opts.KeyOffset, spanKeys, maxSize)
	}
	if opts.LSE != nil && !equalsProduct(len(opts.LSE), shape.Batch, shape.Heads, shape.Queries) {
		return argument(ErrShape, "Options.LSE", "has %d elements, want %d·%d·%d", len(opts.LSE), shape.Batch, shape.Heads, shape.Queries)
	}
	p.opts = opts
	p.level = isa.Active()
	if err := p.prepareScores(shape, scale); err != nil {
		return err
	}
	p.group = 1
	if shape.KVHeads > 0 {
		p.group = shape.Heads / shape.KVHeads
	}
	if err := p.layOut(shape, keys); err != nil {
		return err
	}
	p.shape = shape
	p.prepare()
	return nil
}

// layOut turns both layouts of Ragged into sequences.
func (p *Plan) layOut(shape Shape, keys stored) error {
	r, n := &p.opts.Ragged, shape.Batch
	packedLayout := r.CumQueries != nil || r.CumKeys != nil
	if packedLayout {
		if r.padded() {
			return argument(ErrOption, "Options.Ragged",
				"has both cumulative lengths, of a packed batch, and starts or counts, of a padded one")
		}
		if shape.Batch != 1 {
			return argument(ErrShape, "Options.Ragged.CumQueries", "is for tensors whose batch is 1, it is %d",
				shape.Batch)
		}
		if r.CumQueries == nil {
			return argument(ErrOption, "Options.Ragged.CumQueries", "is nil, but CumKeys is not")
		}
		n = len(r.CumQueries) - 1
		if !fits(max(n, 0), shape.Heads) {
			return argument(ErrShape, "Options.Ragged.CumQueries", "has %d entries with %d heads, too many", len(r.CumQueries), shape.Heads)
		}
	}
	p.sequences = p.sequences[:0]
	for i := range max(n, 0) {
		p.sequences = append(p.sequences, sequence{
			index: i, batch: i, queries: shape.Queries, keys: shape.Keys, keyOffset: p.opts.KeyOffset, heads: shape.Heads, visible: everything{},
		})
	}
	var err error
	switch {
	case keys.caches != nil:
		err = p.layOutCaches(shape, keys)
	case packedLayout:
		err = p.layOutPacked(shape)
	default:
		err = p.layOutPadded(shape)
	}
	if err != nil {
		return err
	}
	of := batchSize{len(p.sequences), shape.Queries, p.opts.KeyOffset + shape.Keys}
	if packedLayout {
		of.queries, of.keys = 0, 0
	}
	for _, s := range p.sequences {
		of.queries, of.keys = max(of.queries, s.queries), max(of.keys, s.keyOffset+s.keys)
	}
	for i := range p.sequences {
		s := &p.sequences[i]
		s.of = of
		if err = s.see(p.opts.Mask); err != nil {
			return err
		}
		if s.cache != nil {
			if err = s.slideWindow(); err != nil {
				return err
			}
		}
	}
	return p.bindScores()
}

// see binds a mask to the sequence.
func (s *sequence) see(mask Mask) (err error) {
	if causal, ok := mask.(Causal); ok && s.cache != nil { // the usual case, which is not to allocate
		s.band, err = causal.band(s)
		s.visible = &s.band
		return err
	}
	s.visible, err = s.compile(mask)
	return err
}

// compile is what a mask shows of the sequence: everything if it is nil.
func (s *sequence) compile(mask Mask) (visibility, error) {
	if mask == nil {
		return everything{}, nil
	}
	if v := reflect.ValueOf(mask); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, argument(ErrOption, "Options.Mask", "has a nil %T", mask)
	}
	return mask.compile(s)
}

func (p *Plan) layOutPadded(shape Shape) error {
	r := &p.opts.Ragged
	for _, list := range []struct {
		name    string
		entries []int
	}{
		{"KeyStart", r.KeyStart}, {"KeyCount", r.KeyCount}, {"QueryStart", r.QueryStart}, {"QueryCount", r.QueryCount},
	} {
		if list.entries != nil && len(list.entries) != shape.Batch {
			return argument(ErrShape, "Options.Ragged."+list.name, "has %d entries, want %d", len(list.entries),
				shape.Batch)
		}
	}
	for i := range p.sequences {
		s := &p.sequences[i]
		if err := part(&s.key0, &s.keys, i, "Options.Ragged.Key", r.KeyStart, r.KeyCount); err != nil {
			return err
		}
		if err := part(&s.query0, &s.queries, i, "Options.Ragged.Query", r.QueryStart, r.QueryCount); err != nil {
			return err
		}
		s.unplaced = r.KeyCount != nil && r.QueryStart == nil && r.QueryCount == nil &&
			s.key0+s.keys < shape.Keys && s.keys < s.queries
	}
	return nil
}

// part cuts n positions of sequence i to those from its start on, and to its count.
func part(first, n *int, i int, name string, start, count []int) error {
	if start != nil {
		if *first = start[i]; *first < 0 || *first > *n {
			return argument(ErrOption, name+"Start", "entry %d is %d, want 0 to %d", i, *first, *n)
		}
		*n -= *first
	}
	if count != nil {
		if count[i] < 0 || count[i] > *n {
			return argument(ErrOption, name+"Count", "entry %d is %d, want 0 to %d", i, count[i], *n)
		}
		*n = count[i]
	}
	return nil
}

func (p *Plan) layOutPacked(shape Shape) error {
	r := &p.opts.Ragged
	queries, keys := r.CumQueries, r.CumKeys
	if keys == nil {
		keys = queries
	}
	if err := checkCumulative("Options.Ragged.CumQueries", queries, len(queries), shape.Queries); err != nil {
		return err
	}
	if err := checkCumulative("Options.Ragged.CumKeys", keys, len(queries), shape.Keys); err != nil {
		return err
	}
	for i := range p.sequences {
		s := &p.sequences[i]
		s.batch = 0
		s.query0, s.queries = queries[i], queries[i+1]-queries[i]
		s.key0, s.keys = keys[i], keys[i+1]-keys[i]
	}
	return nil
}

// checkCumulative reports what makes cum unusable as n cumulative lengths up to total.
func checkCumulative(name string, cum []int, n, total int) error {
	if len(cum) != n || n == 0 {
		return argument(ErrShape, name, "has %d entries, want %d", len(cum), max(n, 1))
	}
	if cum[0] != 0 || cum[n-1] != total {
		return argument(ErrOption, name, "runs from %d to %d, want 0 to %d", cum[0], cum[n-1], total)
	}
	for i := 1; i < n; i++ {
		if cum[i] < cum[i-1] {
			return argument(ErrOption, name, "decreases from %d to %d at entry %d", cum[i-1], cum[i], i)
		}
	}
	return nil
}

// Run computes attention of the prepared shape; see [Attention] for what it does to its arguments and
// for errors. With one worker it does not allocate; with several it starts as many goroutines, which are
// gone when it returns.
func (p *Plan) Run(out, q, k, v Tensor) error {
	t := tensors{out, q, k, v}
	return in("Plan.Run", p.runAlone(&t))
}

// runAlone is Run for a plan that somebody else may be using.
func (p *Plan) runAlone(t *tensors) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.inUse.leave()
	if p.shape == (Shape{}) {
		return argument(ErrOption, "Plan", "is not prepared")
	}
	if err := t.check(p.shape); err != nil {
		return err
	}
	return p.run(t)
}

// run computes tensors that are checked.
func (p *Plan) run(t *tensors) error {
	if lse := Strided(p.opts.LSE, [4]int{1, 1, 1, len(p.opts.LSE)}, [3]int{}); lse.overlaps(&t.q) || lse.overlaps(&t.k) || lse.overlaps(&t.v) || t.out.overlaps(&lse) {
		return argument(ErrOverlap, "Options.LSE", "shares memory with a tensor")
	}
	if err := p.checkScores(t); err != nil {
		return err
	}
	p.tensors = *t
	defer func() { p.tensors = tensors{} }() // keep nothing of the caller's alive
	if r := &p.opts.Ragged; r.QueryStart != nil || r.QueryCount != nil {
		p.clearPadding()
	}
	p.schedule.run(p)
	return nil
}

// clearPadding writes what queries get that are padding.
func (p *Plan) clearPadding() {
	for i := range p.sequences {
		s := &p.sequences[i]
		p.clearQueries(s.batch, 0, s.query0)
		p.clearQueries(s.batch, s.query0+s.queries, p.shape.Queries)
	}
}

// clearQueries writes what queries get that see nothing.
func (p *Plan) clearQueries(batch, from, to int) {
	for h := range p.shape.Heads {
		nothing := float32(math.Inf(-1))
		if p.opts.Sinks != nil {
			nothing = (p.sinks[h] + 0) * portable.Ln2 // the log-sum-exp of one state
		}
		for i := from; i < to; i++ {
			clear(p.tensors.out.elements(batch, h, i))
			if lse := p.opts.LSE; lse != nil {
				lse[(batch*p.shape.Heads+h)*p.shape.Queries+i] = nothing
			}
			if p.changes.output != nil {
				p.blankScores(batch, h, i)
			}
		}
	}
}

// tensors are those of one call.
type tensors struct{ out, q, k, v Tensor }

// shape is what the inputs are of. It reports those that have none together.
func (t *tensors) shape() (Shape, error) {
	s := ShapeOf(t.q, t.k, t.v)
	if !s.grouped() {
		return s, argument(ErrShape, "q", "has %d heads, want a multiple of the %d of k", s.Heads, s.KVHeads)
	}
	if s.Dim == 0 {
		return s, argument(ErrShape, "q", "has heads of width 0, want at least 1")
	}
	if err := t.checkInputs(s); err != nil {
		return s, err
	}
	return s, s.checkRoom("q, k, v")
}

// check reports what makes the tensors unusable for a shape.
func (t *tensors) check(s Shape) error {
	if err := t.checkInputs(s); err != nil {
		return err
	}
	if err := t.out.checkResult(&t.q, [4]int{s.Batch, s.Heads, s.Queries, s.ValueDim}); err != nil {
		return err
	}
	if t.out.overlaps(&t.k) {
		return argument(ErrOverlap, "out", "shares memory with k")
	}
	if t.out.overlaps(&t.v) {
		return argument(ErrOverlap, "out", "shares memory with v")
	}
	return nil
}

func (t *tensors) checkInputs(s Shape) error {
	if err := t.q.check("q", [4]int{s.Batch, s.Heads, s.Queries, s.Dim}); err != nil {
		return err
	}
	if err := t.k.check("k", [4]int{s.Batch, s.KVHeads, s.Keys, s.Dim}); err != nil {
		return err
	}
	return t.v.check("v", [4]int{s.Batch, s.KVHeads, s.Keys, s.ValueDim})
}

// equalsProduct reports n = a·b·c for sizes that may overflow an int together.
func equalsProduct(n, a, b, c int) bool {
	if a == 0 || b == 0 || c == 0 {
		return n == 0
	}
	return n%a == 0 && n/a%b == 0 && n/a/b == c
}

// workerCount is the number of goroutines worth starting for a number of tasks.
func (p *Plan) workerCount(tasks int) int { return workerCount(p.opts.Workers, tasks) }
