package kernel

import (
	"slices"
	"sync"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// Append adds the keys and values of new positions to the end of the sequence: k is [1, KVHeads, n, Dim] and
// v [1, KVHeads, n, ValueDim], with any strides, of float32, [BF16] or [F16].
//
// They are converted to the format of the cache: to the nearest 16-bit number, ties to even, and to
// infinity beyond its range; to int8 with one scale for each key and head such that its largest magnitude is
// 127. A NaN stays one; in int8, a key or value of a head that has a NaN or infinity is NaN as a whole.
//
// Errors are of type [*ArgumentError], or of kind [ErrPool] if the pool has not enough pages; nothing has
// changed then. It allocates nothing but pages, now and then. k and v may share memory, and are not needed
// when it returns. Rotary positions, if there are any, are applied before: see [Rotary.Apply].
//
// A windowed cache then holds all that was appended last, because its queries are still to come, and gives back what
// they do not see. [AppendAttend] takes a prompt that is longer than the pool.
func (c *Cache) Append(k, v Tensor) error { return in("Cache.Append", c.append(k, v)) }

func (c *Cache) append(k, v Tensor) error {
	if err := notNil(c, "Cache"); err != nil {
		return err
	}
	if !c.made() {
		return argument(ErrOption, "Cache", "was not made by NewCache")
	}
	config, n := &c.pool.config, k.Shape[2]
	if err := k.check("k", [4]int{1, config.KVHeads, n, config.Dim}); err != nil {
		return err
	}
	if err := v.check("v", [4]int{1, config.KVHeads, n, config.ValueDim}); err != nil {
		return err
	}
	c.lock.write()
	defer c.lock.unwrite()
	if c.closed {
		return argument(ErrOption, "Cache", "was freed")
	}
	if err := c.checkGrowth("k", n); err != nil {
		return err
	}
	if err := c.reserve(n, c.len, 0); err != nil {
		return err
	}
	c.store(&arrival{k: &k, v: &v, n: n})
	return nil
}

// checkGrowth reports more keys than a sequence may have.
func (c *Cache) checkGrowth(name string, n int) error {
	if n > maxSize-c.len {
		return argument(ErrShape, name, "makes a sequence of %d keys and %d more, want at most %d", c.len, n, maxSize)
	}
	return nil
}

// exchanged says how the pages of a cache change when keys are added.
type exchanged struct {
	first int  // number of the first page that stays or comes
	old   int  // pages that are given back, the first ones
	fresh int  // pages that come
	copy  bool // the last of those that stay is shared and will be written: it is copied into a fresh one
	freed int  // of the old ones, those that nobody shares
}

// exchanged is how pages change for n more keys, if no query before a position will come any more.
func (c *Cache) exchanged(n, position int) (x exchanged) {
	p, size := c.pool, c.pool.config.PageKeys
	x.first = c.first
	if n == 0 {
		return x
	}
	x.first = max(c.first, c.oldest(position)/size)
	x.old = min(x.first-c.first, len(c.pages))
	stay := len(c.pages) - x.old
	x.fresh = (c.len+n-1)/size + 1 - x.first - stay
	p.mu.Lock()
	defer p.mu.Unlock()
	if stay > 0 && c.len%size != 0 && c.pages[len(c.pages)-1].refs > 1 {
		x.copy = true
		x.fresh++
	}
	for _, g := range c.pages[:x.old] {
		if g.refs == 1 {
			x.freed++
		}
	}
	return x
}

// reserve makes the pages for n more keys ready to be written, of which so many are held for this, and gives back those
// that no query from a position on sees. It does nothing if there are not enough.
func (c *Cache) reserve(n, position, held int) error {
	x := c.exchanged(n, position)
	pages, err := c.pool.exchange(c.pages[:x.old], c.pages, x.fresh, held)
	if err != nil {
		return err
	}
	if x.copy {
		// Copied before it is given back, when another may begin to write it.
		shared, last := len(c.pages)-1, len(pages)-1
		mine, theirs := pages[last], pages[shared]
		copyAll(mine.memory, theirs.memory)
		copy(mine.finite, theirs.finite)
		pages[shared], pages[last] = mine, theirs
		c.pages = pages
		c.drop(last, last+1)
		pages = c.pages
	}
	c.pages = slices.Delete(pages, 0, x.old)
	c.first = x.first
	return nil
}

// arrival is new keys and values of a sequence: n rows from a first one on, of one batch entry of tensors.
type arrival struct {
	k, v            *Tensor
	batch, first, n int
}

// store writes what arrives behind the keys of the cache, as far as there are pages for it.
func (c *Cache) store(x *arrival) {
	if x.n == 0 {
		return
	}
	a := appenders.Get().(*appender)
	a.size(c)
	if x.n < panel {
		a.ask(c, x)
	}
	for head := range c.pool.config.KVHeads {
		for i := max(0, c.start()-c.len); i < x.n; {
			j := c.len + i
			rows := min(panel-j%panel, x.n-i)
			a.put(c.at(head, j/blockKeys), j%blockKeys, x, head, i, rows, j < c.packed)
			i += rows
		}
	}
	appenders.Put(a)
	c.len += x.n
	c.packed = c.len / panel * panel
}

// appender converts keys and values and puts them into pages.
type appender struct {
	level         isa.Level
	format        Format
	dim, valueDim int
	rows, turned  []float32 // a panel of keys, or rows of a tensor
	zeros         []float32
	small         []float32 // a row in another format
	scales        [panel]float32
}

var appenders = sync.Pool{New: func() any { return new(appender) }}

func (a *appender) size(c *Cache) {
	a.level, a.format = isa.Active(), c.pool.config.Format
	a.dim, a.valueDim = c.pool.config.Dim, c.pool.config.ValueDim
	widest := roundUp(max(a.dim, a.valueDim), lanes)
	a.rows, a.turned = grow(a.rows, panel*widest), grow(a.turned, panel*widest)
	a.small = grow(a.small, panel*widest)
	if len(a.zeros) < widest {
		a.zeros = make([]float32, widest)
	}
}

// put writes some of what arrives, from row i on, to place j of a block and behind it, all into one panel.
// Dimension-major says that the panel, which then lacks keys since a Truncate, is not row-major.
func (a *appender) put(b pageBlock, j int, x *arrival, head, i, rows int, dimensionMajor bool) {
	if j == 0 {
		*b.finite = true
	}
	from, stride := a.float32Rows(x.k, x.batch, head, x.first+i, rows)
	a.storeKeys(b, j, from, stride, rows, dimensionMajor)
	from, stride = a.float32Rows(x.v, x.batch, head, x.first+i, rows)
	a.storeValues(b, j, from, stride, rows)
}

// ask asks for the memory that a few new keys come from and go to. It lies in two places of each head,
// far from each other, which memory can look for all at once but stores would wait for one by one.
func (a *appender) ask(c *Cache, x *arrival) {
	l, size, heads := &c.pool.layout, a.format.size(), c.pool.config.KVHeads
	b, j := c.at(0, c.len/blockKeys), c.len%blockKeys
	next := l.blocks * l.block / 4 // from head to head, as PrefetchRows counts
	rows := func(p unsafe.Pointer, bytes int) {
		prefetchRows(a.level, (*float32)(p), next, heads, (bytes+3)/4)
	}
	for _, t := range []*Tensor{x.k, x.v} {
		if t.format == Float32 {
			prefetchRows(a.level, t.row(x.batch, 0, x.first), t.Stride[1], heads, t.Shape[3])
		}
	}
	rows(unsafe.Add(b.k, j*l.dim*size), x.n*l.dim*size)
	for column := 0; column < l.valueDim; column += panel {
		rows(unsafe.Add(b.v, (column*blockKeys+j*panel)*size), min(x.n, blockKeys-j)*panel*size)
	}
	if a.format == Int8 {
		rows(unsafe.Pointer(offset(b.kScale, j)), 4)
		rows(unsafe.Pointer(offset(b.vScale, j)), 4)
	}
}

// float32Rows returns rows of a tensor as float32, converted unless they are.
func (a *appender) float32Rows(x *Tensor, batch, head, i, rows int) (from *float32, stride int) {
	src, dim := x.at(batch, head, i), x.Shape[3]
	if x.format == Float32 {
		return (*float32)(src), x.Stride[2]
	}
	stride = roundUp(dim, lanes)
	widenRows(a.level, x.format, at(a.rows, 0), stride, src, x.Stride[2], rows, dim)
	return at(a.rows, 0), stride
}

// storeKeys writes rows of K from place j of a block on.
func (a *appender) storeKeys(b pageBlock, j int, from *float32, stride, rows int, dimensionMajor bool) {
	size := a.format.size()
	to := unsafe.Add(b.k, size*(j/panel*panel*a.dim))
	if a.format == Float32 && rows == panel {
		asm.Transpose(a.level, (*float32)(to), panel, from, stride, panel, a.dim)
		return
	}
	if dimensionMajor {
		a.turnBack(to)
	}
	row := unsafe.Add(to, size*(j%panel*a.dim))
	if a.format == Int8 {
		a.quantize(offset(b.kScale, j), from, stride, rows, a.dim)
		for r := range rows {
			copyAll(bytesAt(row, r*a.dim, a.dim), bytesAt(unsafe.Pointer(&a.small[0]), r*roundUp(a.dim, lanes), a.dim))
		}
	} else {
		for r := range rows {
			a.format.narrow(a.level, unsafe.Add(row, r*size*a.dim), offset(from, r*stride), a.dim)
		}
	}
	if j%panel+rows == panel {
		a.turn(to)
	}
}

// turn makes a row-major panel of keys dimension-major, in place.
func (a *appender) turn(k unsafe.Pointer) {
	a.format.widen(a.level, at(a.turned, 0), k, panel*a.dim)
	if a.format == Float32 {
		asm.Transpose(a.level, (*float32)(k), panel, at(a.turned, 0), a.dim, panel, a.dim)
		return
	}
	asm.Transpose(a.level, at(a.small, 0), panel, at(a.turned, 0), a.dim, panel, a.dim)
	a.format.narrow(a.level, k, at(a.small, 0), panel*a.dim)
}

// turnBack is the inverse of turn. It leaves a.rows alone, where the keys to be stored may be.
func (a *appender) turnBack(k unsafe.Pointer) {
	a.format.widen(a.level, at(a.turned, 0), k, panel*a.dim)
	var square [panel * panel]float32
	for d := 0; d < a.dim; d += panel {
		n := min(panel, a.dim-d)
		asm.Transpose(a.level, &square[0], panel, at(a.turned, d*panel), panel, n, panel)
		for j := range panel {
			copy(a.small[j*a.dim+d:][:n], square[j*panel:])
		}
	}
	a.format.narrow(a.level, k, at(a.small, 0), panel*a.dim)
}

// storeValues writes rows of V from place j of a block on.
func (a *appender) storeValues(b pageBlock, j int, from *float32, stride, rows int) {
	size := a.format.size()
	to := unsafe.Add(b.v, j*size*panel)
	finite := true
	switch a.format {
	case Float32:
		finite = asm.PackRows(a.level, (*float32)(to), blockKeys*panel, from, stride, rows, a.valueDim) == 0
	case Int8:
		a.quantize(offset(b.vScale, j), from, stride, rows, a.valueDim)
		for r := range rows {
			a.spread(to, r, unsafe.Add(unsafe.Pointer(&a.small[0]), r*roundUp(a.valueDim, lanes)))
			finite = finite && a.scales[r] == a.scales[r]
		}
	default:
		for r := range rows {
			small := unsafe.Pointer(&a.small[0])
			a.format.narrow(a.level, small, offset(from, r*stride), a.valueDim)
			a.spread(to, r, small)
			a.format.widen(a.level, at(a.turned, 0), small, a.valueDim)
			finite = finite && a.finite(at(a.turned, 0), a.valueDim)
		}
	}
	*b.finite = *b.finite && finite
}

// finite reports whether n numbers are: their products with 0 are 0.
func (a *appender) finite(x *float32, n int) bool {
	for from := 0; from < n; from += budget.Numbers {
		if asm.Dot(a.level, offset(x, from), at(a.zeros, 0), min(n-from, budget.Numbers)) != 0 {
			return false
		}
	}
	return true
}

// quantize leaves rows as bytes in a.small, each filled up to a multiple of 16, and their scales in
// scales and a.scales.
func (a *appender) quantize(scales, from *float32, stride, rows, cols int) {
	quantizeRows(a.level, (*int8)(unsafe.Pointer(&a.small[0])), roundUp(cols, lanes), &a.scales[0], from, stride, rows,
		cols)
	copy(unsafe.Slice(scales, rows), a.scales[:rows])
}

// spread copies a row of V, in the format of the cache, to row r of the panels at v.
func (a *appender) spread(v unsafe.Pointer, r int, row unsafe.Pointer) {
	size := a.format.size()
	for c := 0; c < a.valueDim; c += panel {
		copy(bytesAt(v, (c*blockKeys+r*panel)*size, min(panel, a.valueDim-c)*size), bytesAt(row, c*size, panel*size))
	}
}

func bytesAt(p unsafe.Pointer, at, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(p, at)), n)
}
