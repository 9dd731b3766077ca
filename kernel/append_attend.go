package kernel

import (
	"slices"
	"unsafe"
)

// AppendAttend appends new keys and values to caches and computes attention of their queries: what [Cache.Append] for
// each cache and then [Attend] give, with the same bits, in one call that appends to all caches or to none.
//
// A windowed cache takes a prompt of any length: it never holds more keys than Window and twice PageKeys, rounded up to
// whole pages, while the prompt's own queries see what they should. After it, Truncate can go back by PageKeys keys at
// most.
//
// q and out are as in [Attend]. k is [len(caches), KVHeads, Keys, Dim] and v alike with ValueDim, of any type of
// elements. There may be more or fewer keys than queries: the last query of a sequence belongs to the last key.
// Sequences of unequal length lie end to end in tensors whose batch is 1, cut by Options.Ragged.CumQueries and CumKeys;
// a nil CumKeys is the same as CumQueries. No cache may come twice.
//
// out may be the very same view as q, but must not overlap k or v. Errors are of type [*ArgumentError], or of kind
// [ErrPool] if a pool has not enough pages; then nothing has been appended. If another call changes one of the caches
// meanwhile, the error is of kind [ErrInUse], nothing has been appended, and out may have been written. If a function
// that it calls panics, the caches are as before or have all that is new.
func AppendAttend(out, q, k, v Tensor, caches []*Cache, opts Options) error {
	a := attenders.Get().(*Attender)
	defer attenders.Put(a)
	return in("AppendAttend", a.appendAttend(out, q, k, v, caches, opts))
}

// AppendAttend does what the function [AppendAttend] does.
func (a *Attender) AppendAttend(out, q, k, v Tensor, caches []*Cache, opts Options) error {
	const name = "Attender.AppendAttend"
	if err := a.enter(); err != nil {
		return in(name, err)
	}
	defer a.inUse.leave()
	return in(name, a.appendAttend(out, q, k, v, caches, opts))
}

func (a *Attender) appendAttend(out, q, k, v Tensor, caches []*Cache, opts Options) error {
	g := &a.growth
	defer g.forget()
	if err := g.set(k, v, caches, &opts.Ragged); err != nil {
		return err
	}
	if err := q.check("q", q.Shape); err != nil {
		return err
	}
	if err := out.checkResult(&q, out.Shape); err != nil { // its shape is compared later
		return err
	}
	if out.overlaps(&g.k) || out.overlaps(&g.v) {
		return argument(ErrOverlap, "out", "shares memory with k or v")
	}
	if err := g.begin(); err != nil {
		return err
	}
	if g.long {
		// Before anything is appended: what a window leaves behind, the prompt's first queries still see.
		g.unlock()
		if err := a.attendStored(out, q, stored{caches, g.arrivals}, opts); err != nil {
			return err
		}
		return g.resume()
	}
	err := g.finish()
	g.unlock()
	if err != nil {
		return err
	}
	if err := a.attend(out, q, caches, opts); err != nil {
		g.retract()
		return err
	}
	return nil
}

// growth is what arrives at several caches, for all of them or for none.
type growth struct {
	k, v     Tensor
	caches   []*Cache  // the caller's
	arrivals []arrival // of each cache
	held     []int     // pages that are held for each, from begin to finish
	lens     []int     // of the caches before
	long     bool      // more arrives at a windowed cache than it will keep

	order  []*Cache // caches as they are locked
	locked bool
}

// set takes over the arguments of a call, and makes of its packed layout that of [Attend].
func (g *growth) set(k, v Tensor, caches []*Cache, r *Ragged) error {
	if err := checkCaches("caches", caches); err != nil {
		return err
	}
	g.k, g.v, g.caches = k, v, caches
	g.arrivals, g.held, g.lens = g.arrivals[:0], g.held[:0], g.lens[:0]
	g.order = inLockOrder(g.order, caches)
	for i := 1; i < len(g.order); i++ {
		if c := g.order[i]; c == g.order[i-1] {
			return argument(ErrOption, "caches", "entry %d is there twice", slices.Index(caches, c))
		}
	}
	batch, cum := len(caches), r.CumKeys
	if cum == nil {
		cum = r.CumQueries
	}
	r.CumKeys = nil
	if cum != nil {
		batch = 1
		if err := checkCumulative("Options.Ragged.CumKeys", cum, len(caches)+1, k.Shape[2]); err != nil {
			return err
		}
	}
	want := [4]int{batch, k.Shape[1], k.Shape[2], k.Shape[3]} // of no caches
	wantV := [4]int{batch, k.Shape[1], k.Shape[2], v.Shape[3]}
	if len(caches) > 0 {
		config := &caches[0].pool.config
		want[1], want[3] = config.KVHeads, config.Dim
		wantV[1], wantV[3] = config.KVHeads, config.ValueDim
	}
	if err := k.check("k", want); err != nil {
		return err
	}
	if err := v.check("v", wantV); err != nil {
		return err
	}
	g.long = false
	for i, c := range caches {
		x := arrival{k: &g.k, v: &g.v, batch: i, n: k.Shape[2]}
		if cum != nil {
			x.batch, x.first, x.n = 0, cum[i], cum[i+1]-cum[i]
		}
		g.arrivals, g.held, g.lens = append(g.arrivals, x), append(g.held, 0), append(g.lens, 0)
		g.long = g.long || c.pool.config.Window > 0 && x.n > c.pool.config.PageKeys
	}
	return nil
}

func (g *growth) lock() {
	for _, c := range g.order {
		c.lock.write()
	}
	g.locked = true
}

func (g *growth) unlock() {
	for _, c := range g.order {
		c.lock.unwrite()
	}
	g.locked = false
}

// begin locks all caches and holds the pages that they will need.
func (g *growth) begin() error {
	g.lock()
	for i, c := range g.caches {
		if c.closed {
			return argument(ErrOption, "caches", "entry %d was freed", i)
		}
		if err := c.checkGrowth("k", g.arrivals[i].n); err != nil {
			return err
		}
		g.lens[i] = c.len
	}
	return g.hold()
}

// hold holds what pages are still wanting for all caches, which are locked.
func (g *growth) hold() error {
	for i, c := range g.caches {
		n := g.arrivals[i].n
		x := c.exchanged(n, c.stays(n))
		if more := x.fresh - x.freed - g.held[i]; more > 0 {
			if err := c.pool.hold(more); err != nil {
				return err
			}
			g.held[i] += more
		}
	}
	return nil
}

// stays is the position of the earliest query that can come once n more keys are there: Truncate goes back by a page at
// most.
func (c *Cache) stays(n int) int { return max(c.len, c.len+n-c.pool.config.PageKeys) }

// finish appends to all caches, which have been locked since pages were held.
func (g *growth) finish() error {
	for i, c := range g.caches {
		n, held := g.arrivals[i].n, g.held[i]
		g.held[i] = 0
		if err := c.reserve(n, c.stays(n), held); err != nil {
			return err
		}
		c.store(&g.arrivals[i])
	}
	return nil
}

// resume locks all caches again and finishes, unless another has changed them. If another has forked one, more pages
// may be wanted.
func (g *growth) resume() error {
	g.lock()
	for i, c := range g.caches {
		if c.closed || c.len != g.lens[i] {
			return argument(ErrInUse, "caches", "entry %d had %d keys, and was changed meanwhile", i, g.lens[i])
		}
	}
	if err := g.hold(); err != nil {
		return err
	}
	return g.finish()
}

// retract takes back what was just appended.
func (g *growth) retract() {
	for i, c := range g.caches {
		_ = c.checkedTruncate(g.lens[i]) // which is always possible
	}
}

// forget unlocks, gives up what is still held, and keeps nothing of the caller's alive.
func (g *growth) forget() {
	if g.locked {
		g.unlock()
	}
	for i, n := range g.held {
		if n > 0 {
			g.caches[i].pool.unhold(n)
		}
	}
	clear(g.order[:cap(g.order)])
	clear(g.arrivals[:cap(g.arrivals)])
	*g = growth{order: g.order[:0], arrivals: g.arrivals[:0], held: g.held[:0], lens: g.lens[:0]}
}

// arriving makes a source of a cache and of keys that are to follow it but are not in it yet.
type arriving struct {
	*Cache
	next arrival
}

// arrivedBlock is memory for a block that is not, or not as a whole, in a page.
type arrivedBlock struct {
	memory   []float32 // whatever the format is
	finite   bool
	appender *appender
}

// block lays a block out as it will lie in the cache, unless it is there, so that bits are those of the cache.
func (x *arriving) block(w *worker, t *tile, b int) (*packed, int) {
	first := b * blockKeys
	if first+blockKeys <= x.len {
		return x.Cache.block(w, t, b)
	}
	l, to := &x.pool.layout, &w.arrived
	to.memory = grow(to.memory, roundUp(l.block, 4)/4)
	if to.appender == nil {
		to.appender = new(appender)
	}
	to.appender.size(x.Cache)
	at := l.on(unsafe.Pointer(&to.memory[0]), &to.finite)
	have, n := max(x.len-first, 0), min(x.len+x.next.n-first, blockKeys)
	if have > 0 {
		from := x.at(t.kvHead, b)
		copyAll(bytesAt(unsafe.Pointer(&to.memory[0]), 0, l.block), bytesAt(from.base(l), 0, l.block))
		to.finite = *from.finite
	}
	for j := have; j < n; {
		rows := min(panel-j%panel, n-j)
		to.appender.put(at, j, &x.next, t.kvHead, first+j-x.len, rows, first+j < x.packed)
		j += rows
	}
	return w.readBlock(l, at, n, n/panel*panel, t.r1-t.r0), 0
}
