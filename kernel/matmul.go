package kernel

import (
	"math"
	"sync"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// Sizes that only speed depends on.
const (
	// A block of a panel is 256 rows, 32 KiB, but less for fewer rows of X, to fetch the next in time.
	blockDepth, blockDepthSome = 256, 128
	// fewBytes is the size of a block for so few rows of X that are more than one pass.
	fewBytes = 8 << 10
	// blockSize is the number of elements of X, 1 MiB, that stay in the cache while panels pass by.
	blockSize = 252 << 10
	// mostRows is the most rows of such a block of X.
	mostRows = 32 * rowTile
	// chunkDepth is the most columns of X in such a block, if it is a copy.
	chunkDepth = 2048
	// chunkPanels is the most panels of Y that wait for the next chunk.
	chunkPanels = 64
	// fewRows are the most that W passes by as it is stored, at the speed of memory.
	fewRows = 8
	// aliasBytes is the distance at which rows compete for the same few places of the first-level cache.
	aliasBytes = 4096
)

// MatMulOptions says how to multiply. The zero value is Y = X·W on all cores.
type MatMulOptions struct {
	// Bias, if not nil, is added to every row: one number a column.
	Bias []float32
	// Workers is the number of goroutines that share the work, the caller's included. 0 means
	// runtime.GOMAXPROCS. The result does not depend on it.
	Workers int
}

// MatMul computes Y = X·W + bias. X may be a transposed view, Y may not.
//
// Each element is one chain of fused multiply-adds from +0 over ascending k. The scale of the column
// multiplies it, if the weights have any, then the bias is added, each rounded once. So its bits depend
// on nothing but its row, its column and its bias.
//
// Y must not share elements with X or the bias. Errors are of type [*ArgumentError]; nothing has
// been written then. Sizes of 0 are allowed: where W has no rows Y is the bias.
//
// The blocking is that of Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication" (2008).
func MatMul(y, x Matrix, w *Weights, opts MatMulOptions) error {
	if err := checkProduct(&y, &x, w, &opts); err != nil {
		return in("MatMul", err)
	}
	m := multipliers.Get().(*multiplier)
	m.begin(x, workersFor(opts.Workers))
	m.add(y, w, opts.Bias)
	m.run()
	m.begin(Matrix{}, 0) // keep nothing of the caller's alive
	multipliers.Put(m)
	return nil
}

// checkProduct reports what makes the arguments of MatMul unusable.
func checkProduct(y, x *Matrix, w *Weights, opts *MatMulOptions) error {
	if err := notNil(w, "w"); err != nil {
		return err
	}
	if err := x.checkFloat32("x"); err != nil {
		return err
	}
	if x.Cols != w.rows {
		return argument(ErrShape, "x", "has %d columns, w has %d rows", x.Cols, w.rows)
	}
	if y.Rows != x.Rows || y.Cols != w.cols {
		return argument(ErrShape, "y", "is %d×%d, want %d×%d", y.Rows, y.Cols, x.Rows, w.cols)
	}
	if err := y.checkOutput("y"); err != nil {
		return err
	}
	if opts.Bias != nil && len(opts.Bias) != w.cols {
		return argument(ErrShape, "MatMulOptions.Bias", "has %d elements, w has %d columns", len(opts.Bias), w.cols)
	}
	if opts.Workers < 0 {
		return argument(ErrOption, "MatMulOptions.Workers", "is %d, want 0 or more", opts.Workers)
	}
	if y.overlaps(x) {
		return argument(ErrOverlap, "y", "shares memory with x")
	}
	if bias := RowMajor(opts.Bias, 1, len(opts.Bias)); y.overlaps(&bias) {
		return argument(ErrOverlap, "y", "shares memory with MatMulOptions.Bias")
	}
	return nil
}

var multipliers = sync.Pool{New: func() any { return new(multiplier) }}

// multiplier computes several products of one X at a time. Its tasks are blocks of rows by runs
// of panels.
type multiplier struct {
	level    isa.Level
	x        Matrix
	products []product
	rows     int // of a block
	blocks   int // of rows
	panels   int // of a task
	chunk    int // columns of X before others are read

	count   int // workers
	workers []multiplyScratch
	crew    crew
	task    func(worker, task int)
}

// product is one of the results of a multiplier.
type product struct {
	y    Matrix
	w    *Weights
	bias []float32
	runs int // tasks of a block of rows
}

// multiplyScratch is the memory of one worker.
type multiplyScratch struct {
	x    []float32 // a block of X, its rows apart by an odd number of cache lines
	y    []float32 // the last panel of Y, if its columns are not whole vectors
	b    []float32 // a block of a panel that is not stored in float32
	held int       // the block of rows that x holds, or -1
	tile worker    // calls the products
}

// begin starts anew with another X.
func (m *multiplier) begin(x Matrix, workers int) {
	m.level, m.x, m.count = isa.Active(), x, workers
	clear(m.products)
	m.products = m.products[:0]
	if m.task == nil {
		m.task = m.block
	}
	for i := range m.workers {
		m.workers[i].tile.errands.forget()
	}
}

// add asks for y = x·w + bias.
func (m *multiplier) add(y Matrix, w *Weights, bias []float32) {
	m.products = append(m.products, product{y: y, w: w, bias: bias})
}

// run computes all products.
func (m *multiplier) run() {
	rows, depth := m.x.Rows, m.x.Cols
	most := min(max(blockSize/max(min(depth, chunkDepth), 1)/rowTile*rowTile, rowTile), mostRows)
	m.blocks = (rows + most - 1) / most
	if m.blocks == 0 {
		return
	}
	m.rows = roundUp((rows+m.blocks-1)/m.blocks, rowTile)
	m.panels = 0
	for i := range m.products {
		m.panels += m.products[i].w.panelCount()
	}
	m.count = min(m.count, m.blocks*m.panels)
	if m.count == 0 {
		return
	}
	if m.count > 1 {
		m.panels = max(1, m.panels*m.blocks/(tasksEach*m.count))
	}
	if m.chunk = chunkDepth; m.inPlace() {
		m.chunk = depth
	}
	if depth > m.chunk {
		m.panels = min(m.panels, chunkPanels)
	}
	total := 0
	for i := range m.products {
		p := &m.products[i]
		p.runs = (p.w.panelCount() + m.panels - 1) / max(m.panels, 1)
		total += m.blocks * p.runs
	}
	for len(m.workers) < m.count {
		m.workers = append(m.workers, multiplyScratch{})
	}
	for i := range min(m.count, total) {
		w := &m.workers[i]
		w.held = -1
		w.tile.level, w.tile.ones = m.level, ones[:]
		w.y = grow(w.y, m.rows*panel)
		if !m.inPlace() {
			w.x = grow(w.x, m.rows*pitch(min(depth, m.chunk)))
		}
	}
	m.crew.run(m.count, total, m.task)
}

// pitch is the distance of rows in scratch: an odd number of cache lines, because rows at a power of
// two would all compete for the same places of the cache.
func pitch(n int) int { return roundUp(n, 2*lanes) + lanes }

// inPlace reports that X is read where it is: a few rows, and those that a cache can hold with what lies between them.
func (m *multiplier) inPlace() bool {
	if m.x.Transposed {
		return false
	}
	return m.x.Rows <= fewRows || m.rows*m.x.Stride <= blockSize && m.x.Stride*4%aliasBytes != 0
}

// block is a task: one block of rows by one run of panels.
func (m *multiplier) block(worker, task int) {
	p := &m.products[0]
	for i := 1; task >= m.blocks*p.runs; i++ {
		task -= m.blocks * p.runs
		p = &m.products[i]
	}
	w := &m.workers[worker]
	row := task / p.runs * m.rows
	rows := min(m.rows, m.x.Rows-row)
	first := task % p.runs * m.panels
	end := min(first+m.panels, p.w.panelCount())
	depth := m.x.Cols
	deep := blockDepth
	switch {
	case rows <= 2: // in one pass
		deep = max(m.chunk, 1)
	case rows <= fewRows:
		deep = fewBytes / panel / p.w.format.size()
	case rows < blockDepth/5:
		deep = blockDepthSome
	}

	for from := 0; ; from += m.chunk {
		to := min(from+m.chunk, depth)
		x, stride := m.load(w, row, rows, from, to)
		for n := first; n < end; n++ {
			y := strip{p: p, c: offset(p.y.row(row), n*panel), stride: p.y.Stride, row: row, rows: rows, panel: n, from: from, to: to, deep: deep}
			if y.cols()%lanes > 0 {
				y.c, y.stride = at(w.y, 0), panel
			}
			for y.k = from; ; y.k += deep {
				y.depth = min(deep, to-y.k)
				if rows <= fewRows {
					m.multiplyFew(w, &y, x, stride)
				} else {
					m.multiply(w, &y, x, stride)
				}
				if y.k+deep >= to {
					break
				}
			}
		}
		if to == depth {
			return
		}
	}
}

// load returns the columns [from, to) of a block of rows of X.
func (m *multiplier) load(w *multiplyScratch, row, rows, from, to int) (x *float32, stride int) {
	if m.inPlace() {
		return offset(m.x.row(row), from), m.x.Stride
	}
	stride = pitch(to - from)
	if w.held == row && m.x.Cols <= m.chunk {
		return at(w.x, 0), stride
	}
	w.held = row
	if m.x.Transposed {
		m.loadTransposed(w, row, rows, from, to, stride)
		return at(w.x, 0), stride
	}
	for r := 0; r < rows; r += lanes {
		asm.ScaleRows(m.level, at(w.x, r*stride), stride, offset(m.x.row(row+r), from), m.x.Stride, min(lanes, rows-r),
			to-from, 1)
	}
	return at(w.x, 0), stride
}

// loadTransposed turns columns of X, that lie in memory as rows. The room between the rows of scratch
// takes what the last columns are filled up with.
func (m *multiplier) loadTransposed(w *multiplyScratch, row, rows, from, to, stride int) {
	for k := from; k < to; k += panel {
		asm.Transpose(m.level, at(w.x, k-from), stride, offset(m.x.row(k), row), m.x.Stride, min(panel, to-k), rows)
	}
}

// strip is the part of a result that a task computes at a time: some rows of a panel.
type strip struct {
	p         *product
	c         *float32 // what there is of it so far: in Y itself, but in scratch if columns are not whole vectors
	stride    int      // of c
	row, rows int
	panel     int
	from, to  int // the columns of X at hand,
	k, depth  int // those of the next product,
	deep      int // and how many most products have
}

func (y *strip) cols() int { return min(panel, y.p.w.cols-y.panel*panel) }

// alpha is what there is so far is multiplied with.
func (y *strip) alpha() *float32 {
	if y.k == 0 {
		return nil // there is nothing yet
	}
	return &ones[0] // 1·y is y, bit for bit
}

// last reports that the strip is done after the product at hand.
func (y *strip) last() bool { return y.k+y.depth == y.p.w.rows }

// multiplyFew goes on with a strip for some more depth: the panel is read as it is stored, at the speed of memory.
func (m *multiplier) multiplyFew(w *multiplyScratch, y *strip, x *float32, stride int) {
	weights := y.p.w
	b, _ := weights.stored((y.panel*weights.rows+y.k)*panel, y.depth*panel)
	few(m.level, weights.format, y.c, y.stride, offset(x, y.k-y.from), stride, b, panel, 0, y.depth, y.rows,
		roundUp(y.cols(), lanes), y.alpha())
	if y.last() {
		m.finish(y, 0, y.rows)
	}
}

// multiply is multiplyFew for many rows, in calls of less than 50 µs. Meanwhile what comes next is brought
// nearer, some of it with every call, and what is done goes out to memory.
func (m *multiplier) multiply(w *multiplyScratch, y *strip, x *float32, stride int) {
	weights := y.p.w
	b := weights.block(m.level, w, (y.panel*weights.rows+y.k)*panel, y.depth*panel)
	w.fetchAfter(y)
	for r, rows := 0, 0; r < y.rows; r += rows {
		if rows = y.rows - r; rows >= 2*rowTile { // fewer are divided evenly
			rows = rowTile
		}
		next, apart := w.tile.errands.take(m.level, rows, y.depth, b)
		asm.Product(m.level, offset(y.c, r*y.stride), y.stride, offset(x, r*stride+y.k-y.from), stride, b, y.depth, rows, roundUp(y.cols(), lanes), y.alpha(), next, apart)
		if y.last() {
			m.finish(y, r, rows)
		}
	}
}

// fetchAfter asks for what the product after the one at hand needs: a block of a panel, and, if that is its first, the
// place of the result.
func (w *multiplyScratch) fetchAfter(y *strip) {
	weights, n, k := y.p.w, y.panel, y.k+y.deep
	if k >= y.to {
		n, k = n+1, y.from
	}
	w.tile.errands = w.tile.errands[:0] // what was not fetched yet is needed now
	if n == weights.panelCount() {
		return
	}
	w.tile.errands.together(weights.stored((n*weights.rows+k)*panel, y.deep*panel))
	if k == y.from {
		w.tile.errands = append(w.tile.errands, errand{unsafe.Pointer(offset(y.p.y.row(y.row), n*panel)), y.rows, 4 * y.p.y.Stride})
	}
}

// finish applies scale and bias, if there are any, to rows of a strip, from the row r of it on, and brings them to Y
// unless they are there.
func (m *multiplier) finish(y *strip, r, rows int) {
	p, col := y.p, y.panel*panel
	if p.w.scale == nil && p.bias == nil && y.cols()%lanes == 0 {
		return
	}
	scale, bias := &ones[0], &negativeZeros[0]
	if p.w.scale != nil {
		scale = &p.w.scale[col]
	}
	if p.bias != nil {
		bias = &p.bias[col]
	}
	asm.AffineRows(m.level, offset(p.y.row(y.row+r), col), p.y.Stride, offset(y.c, r*y.stride), y.stride, rows, y.cols(), scale, bias)
}

// ones and negativeZeros are what multiplication and addition leave every number alone with: -0 is,
// +0 would make +0 of -0.
var ones, negativeZeros = func() (o [panel]float32, z [panel]float32) {
	for i := range o {
		o[i] = 1
	}
	for i := range z {
		z[i] = float32(math.Copysign(0, -1))
	}
	return
}()
