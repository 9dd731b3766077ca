package kernel

import (
	"cmp"
	"slices"
	"sync"
	"unsafe"

	"github.com/quern-go/quern/asm"
)

// Attend computes attention of new queries over what caches hold: for each sequence of a batch, q·kᵀ over all
// keys of its cache that the mask shows, and with a windowed cache, that the window does.
//
// q is [len(caches), Heads, Queries, Dim], of any type of elements, and out alike with ValueDim, of float32. Sequences with different numbers of
// queries lie end to end in tensors whose batch is 1, cut by Options.Ragged.CumQueries. Heads must be a
// multiple of the caches' key/value heads. The last query of a sequence belongs to the last key, as in
// BottomRight: append the new keys first, then attend with [Causal]. Without a mask every query sees all
// keys; a single query is the same either way.
//
// All heads that share keys are handled together, so each key is read and converted once. Workers share out
// sequences, heads and spans of 2048 keys; the result does not depend on how.
//
// out may be the very same view as q. A sequence may come several times. Appending to one of the caches
// waits until Attend is done. Errors are of type [*ArgumentError]; nothing has been written then. The
// memory that it needs besides is kept for the next call; [Attender] keeps it for a caller of its own.
func Attend(out, q Tensor, caches []*Cache, opts Options) error {
	a := attenders.Get().(*Attender)
	defer attenders.Put(a)
	return in("Attend", a.attend(out, q, caches, opts))
}

var attenders = sync.Pool{New: func() any { return new(Attender) }}

// Attender keeps the memory of [Attend] from call to call. With one worker, or fewer tasks than two, a call
// allocates nothing unless it needs more than all before. The zero value is ready. It serves one caller at a time,
// and a second one gets an error of kind [ErrInUse].
type Attender struct {
	inUse guard

	plan   Plan
	locked []*Cache // each once, in the order of locking
	// functions says that user's functions run while they are locked.
	functions bool

	growth growth // of AppendAttend
}

// Attend does what the function [Attend] does.
func (a *Attender) Attend(out, q Tensor, caches []*Cache, opts Options) error {
	const name = "Attender.Attend"
	if err := a.enter(); err != nil {
		return in(name, err)
	}
	defer a.inUse.leave()
	return in(name, a.attend(out, q, caches, opts))
}

// enter lets one caller use a, unless it is nil.
func (a *Attender) enter() error {
	if err := notNil(a, "Attender"); err != nil {
		return err
	}
	return a.inUse.enter("Attender")
}

func (a *Attender) attend(out, q Tensor, caches []*Cache, opts Options) error {
	return a.attendStored(out, q, stored{caches: caches}, opts)
}

// stored is where keys are that are not in tensors of a call: in caches, one a sequence, and in what arrives behind
// them, if arrivals is not nil.
type stored struct {
	caches   []*Cache
	arrivals []arrival
}

// keys is how many a sequence has.
func (s *stored) keys(i int) int {
	if s.arrivals == nil {
		return s.caches[i].len
	}
	return s.caches[i].len + s.arrivals[i].n
}

func (a *Attender) attendStored(out, q Tensor, keys stored, opts Options) error {
	defer a.forget()
	caches := keys.caches
	if err := a.lock(caches, opts.ScoreFunc != nil || callsFunctions(opts.Mask)); err != nil {
		return err
	}
	if len(caches) == 0 { // then there are no queries either
		none := [4]int{0, q.Shape[1], q.Shape[2], out.Shape[3]}
		if opts.Ragged.CumQueries != nil {
			none[0], none[2] = 1, 0
		}
		return out.checkResult(&q, none)
	}
	config := &caches[0].pool.config
	shape := Shape{
		Batch: len(caches), Heads: q.Shape[1], KVHeads: config.KVHeads,
		Queries: q.Shape[2], Dim: config.Dim, ValueDim: config.ValueDim,
	}
	if opts.Ragged.CumQueries != nil {
		shape.Batch = 1
	}
	if !shape.grouped() {
		return argument(ErrShape, "q", "has %d heads, want a multiple of the %d of the caches", shape.Heads,
			shape.KVHeads)
	}
	for i := range caches {
		shape.Keys = max(shape.Keys, keys.keys(i))
	}
	if err := q.check("q", [4]int{shape.Batch, shape.Heads, shape.Queries, shape.Dim}); err != nil {
		return err
	}
	if err := out.checkResult(&q, [4]int{shape.Batch, shape.Heads, shape.Queries, shape.ValueDim}); err != nil {
		return err
	}
	if err := shape.checkRoom("q"); err != nil {
		return err
	}
	p := &a.plan
	if err := p.reset(shape, opts, keys); err != nil {
		return err
	}
	return p.run(&tensors{out: out, q: q})
}

// checkCaches reports what makes caches unusable together.
func checkCaches(name string, caches []*Cache) error {
	for i, c := range caches {
		if c == nil {
			return argument(ErrOption, name, "entry %d is nil", i)
		}
		if !c.made() {
			return argument(ErrOption, name, "entry %d was not made by NewCache", i)
		}
		if had, has := caches[0].pool.config, c.pool.config; had.KVHeads != has.KVHeads || had.Dim != has.Dim || had.ValueDim != has.ValueDim {
			return argument(ErrShape, name, "entry %d has %d heads of %d and %d, entry 0 has %d heads of %d and %d",
				i, has.KVHeads, has.Dim, has.ValueDim, had.KVHeads, had.Dim, had.ValueDim)
		}
	}
	return nil
}

// inLockOrder makes of order, whose memory it takes, the caches as everybody locks them who locks several.
func inLockOrder(order, caches []*Cache) []*Cache {
	order = append(order[:0], caches...)
	slices.SortFunc(order, func(x, y *Cache) int { return cmp.Compare(x.id, y.id) })
	return order
}

// lock keeps all caches from changing. Each is locked once, because a second reader waits for a writer that waits for
// the first.
func (a *Attender) lock(caches []*Cache, functions bool) error {
	if err := checkCaches("caches", caches); err != nil {
		return err
	}
	a.locked = slices.Compact(inLockOrder(a.locked, caches))
	a.functions = functions
	for _, c := range a.locked {
		c.lock.read(functions)
	}
	return nil
}

// forget unlocks, and keeps nothing of the caller's alive.
func (a *Attender) forget() {
	for _, c := range a.locked {
		c.lock.unread(a.functions)
	}
	clear(a.locked[:cap(a.locked)])
	a.locked = a.locked[:0]
	a.plan.release()
	for i := range a.plan.sequences {
		a.plan.sequences[i].cache, a.plan.sequences[i].arriving = nil, arriving{}
	}
}

// layOutCaches makes one sequence of each cache.
func (p *Plan) layOutCaches(shape Shape, keys stored) error {
	r, caches := &p.opts.Ragged, keys.caches
	if r.CumKeys != nil || r.padded() {
		return argument(ErrOption, "Options.Ragged",
			"has more than CumQueries: keys are in caches, and all queries are used")
	}
	if p.opts.KeyOffset != 0 {
		return argument(ErrOption, "Options.KeyOffset", "is %d, want 0 with caches", p.opts.KeyOffset)
	}
	if len(p.sequences) != len(caches) {
		return argument(ErrShape, "Options.Ragged.CumQueries", "has %d entries, want one more than the %d caches", len(r.CumQueries), len(caches))
	}
	if r.CumQueries != nil {
		if err := checkCumulative("Options.Ragged.CumQueries", r.CumQueries, len(caches)+1, shape.Queries); err != nil {
			return err
		}
	}
	for i, c := range caches {
		s := &p.sequences[i]
		if c.closed {
			return argument(ErrOption, "caches", "entry %d was freed", i)
		}
		s.cache, s.keys = c, keys.keys(i)
		if keys.arrivals != nil {
			s.arriving = arriving{c, keys.arrivals[i]}
		}
		if cum := r.CumQueries; cum != nil {
			s.batch, s.query0, s.queries = 0, cum[i], cum[i+1]-cum[i]
		}
	}
	return nil
}

// windowed is what a windowed cache leaves of a mask: query i sees no key before i + first.
type windowed struct {
	visibility
	first int
}

func (w *windowed) reach(r region) (first, end int) {
	first, end = w.visibility.reach(r)
	return min(max(first, r.i0+w.first), end), end
}

func (w *windowed) look(r region) view {
	switch {
	case r.j0 >= r.i1-1+w.first: // the last query's window has all
		return w.visibility.look(r)
	case r.j1 <= r.i0+w.first:
		return view{kind: none}
	}
	if seen := w.visibility.look(r); seen.kind == none {
		return seen
	}
	return view{}
}

func (w *windowed) see(h, i, j0 int, bits *[2]uint64) {
	w.visibility.see(h, i, j0, bits)
	keep(bits, i+w.first-j0, blockKeys)
}

// slideWindow restricts what a sequence sees to the window of its cache.
func (s *sequence) slideWindow() error {
	window := s.cache.pool.config.Window
	if window == 0 || s.queries == 0 {
		return nil
	}
	query0 := s.keys - s.queries
	if oldest := s.cache.oldest(query0); oldest < s.cache.start() {
		return argument(ErrOption, "q", "has %d queries for sequence %d, the first of which sees the key %d, and those before %d are gone",
			s.queries, s.index, oldest, s.cache.start())
	}
	s.windowed = windowed{s.visible, query0 - window + 1}
	s.visible = &s.windowed
	return nil
}

// block makes a cache a source.
func (c *Cache) block(w *worker, t *tile, b int) (*packed, int) {
	n := min(c.len-b*blockKeys, blockKeys)
	whole := min(max(c.packed-b*blockKeys, 0), roundUp(n, panel))
	return w.readBlock(&c.pool.layout, c.at(t.kvHead, b), n, whole, t.r1-t.r0), 0
}

// readBlock makes a block of n keys of a page ready for a tile of so many rows. Few rows read it where it lies, in
// whatever format; for many it is converted, once. Whole keys are in panels that are dimension-major.
func (w *worker) readBlock(l *pageLayout, from pageBlock, n, whole, rows int) *packed {
	p := &w.page
	p.finite = unsafe.Slice(from.finite, 1)
	if p.kScale, p.vScale = from.kScale, from.vScale; p.kScale != nil {
		asm.Prefetch(w.level, p.kScale, 2*blockKeys) // read at once, when the products are there
	}
	p.format, p.k, p.v = l.format, from.k, from.v
	p.pitch, p.stride, p.staged = panel, blockKeys*panel, noPanel
	if l.format != Float32 && rows > directRows {
		l.format.widen(w.level, at(w.own.ownK, 0), from.k, whole*l.dim)
		for column := 0; column < l.valueDim; column += panel {
			l.format.widen(w.level, at(w.own.ownV, column*blockKeys), unsafe.Add(from.v, column*blockKeys*l.format.size()), n*panel)
		}
		p.format, p.k, p.v = Float32, unsafe.Pointer(&w.own.ownK[0]), unsafe.Pointer(&w.own.ownV[0])
	}
	if whole < n {
		p.staged, p.stagedK = whole/panel, at(w.own.ownK, whole*l.dim)
		k := unsafe.Add(from.k, whole*l.dim*l.format.size())
		if l.format != Float32 {
			w.wide = grow(w.wide, panel*l.dim)
			l.format.widen(w.level, at(w.wide, 0), k, (n-whole)*l.dim)
			k = unsafe.Pointer(&w.wide[0])
		}
		asm.Transpose(w.level, p.stagedK, panel, (*float32)(k), l.dim, n-whole, l.dim)
	}
	return p
}
