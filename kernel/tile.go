package kernel

import (
	"math"
	"slices"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// Sizes that bits depend on: see ARITHMETIC.md.
const (
	blockKeys = 128  // keys whose maximum is taken at once
	spanKeys  = 2048 // keys after which a state is closed
)

// Sizes that bits do not depend on.
const (
	panel      = 32 // columns of a packed panel
	lanes      = 16 // columns of half a panel; every row of scratch is a multiple of this
	rowTile    = 12 // rows that masks are looked at together
	directRows = 8  // most rows whose products read keys and values as they are stored
	tileRows   = 96 // most rows of a query tile
	maxDepth   = budget.FMAs / (rowTile * panel)
)

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// packed holds blocks of K and V as panels.
//
// K: for every 32 keys a panel of Dim rows, key along the vector. V: for every block of 128 keys and
// every 32 columns a panel with a row for each key.
//
// Panels of float32 serve any number of rows, those of another format up to directRows.
type packed struct {
	format        Format
	k, v          unsafe.Pointer // in memory of its own, a page of a cache, or for V a tensor
	pitch, stride int            // of V: elements from key to key, and from 32 columns to the next
	finite        []bool         // per block: every element of V is finite

	// A block of a cache may have its last keys elsewhere, as float32.
	staged  int      // number of that panel, or noPanel
	stagedK *float32 // its K

	kScale, vScale *float32 // of int8: what each key's elements are multiplied by; nil otherwise

	ownK, ownV []float32
}

const noPanel = math.MaxInt

// at returns the address of element i.
func at(s []float32, i int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), 4*i))
}

// grow returns a slice of n elements, the same memory if it suffices. Its address is a multiple of
// 64 so that no vector straddles two cache lines.
func grow(s []float32, n int) []float32 {
	if cap(s) >= n {
		return s[:n]
	}
	s = make([]float32, n+lanes)
	skip := int(-uintptr(unsafe.Pointer(&s[0]))&63) / 4
	return s[skip : skip+n : skip+n]
}

// size makes room of its own for a number of blocks.
func (p *packed) size(blocks, dim, valueDim int) {
	p.ownK = grow(p.ownK, blocks*blockKeys*dim)
	p.ownV = grow(p.ownV, blocks*blockKeys*roundUp(valueDim, panel))
	p.use()
	if cap(p.finite) < blocks {
		p.finite = make([]bool, blocks)
	}
	p.finite = p.finite[:blocks]
}

// use makes p stand for its own memory.
func (p *packed) use() {
	p.format, p.k, p.v = Float32, unsafe.Pointer(unsafe.SliceData(p.ownK)), unsafe.Pointer(unsafe.SliceData(p.ownV))
	p.pitch, p.stride, p.staged = panel, blockKeys*panel, noPanel
}

// pack packs block b of a tile's keys, which are in tensors, into place slot of p's own memory. Next is the block
// that will probably be packed after it.
func (w *worker) pack(t *tile, p *packed, b, slot, next int) {
	w.errands = w.errands[:0] // what was not fetched yet is needed now
	w.packKeys(t, p, b, slot, next)
	v, stride, n := w.rows(t, &t.t.v, b, next)
	to := at(p.ownV, slot*blockKeys*roundUp(w.valueDim, panel))
	p.finite[slot] = asm.PackRows(w.level, to, blockKeys*panel, v, stride, n, w.valueDim) == 0
}

func (w *worker) packKeys(t *tile, p *packed, b, slot, next int) {
	k, stride, n := w.rows(t, &t.t.k, b, next)
	for j := 0; j < n; j += panel {
		asm.Transpose(w.level, at(p.ownK, (slot*blockKeys+j)*w.dim), panel, offset(k, j*stride), stride, min(panel, n-j),
			w.dim)
	}
}

// rows returns the n rows of block b of k or v as float32, converted unless they are, and has those of
// another block fetched: what is done with them leaves too much time between loads to keep memory busy.
func (w *worker) rows(t *tile, x *Tensor, b, next int) (rows *float32, stride, n int) {
	seq, dim := t.seq, x.Shape[3]
	first := seq.key0 + b*blockKeys
	n = min(seq.keys-b*blockKeys, blockKeys)
	src := x.at(seq.batch, t.kvHead, first)
	if x.format == Float32 {
		w.fetchBlock(t, x, next)
		return (*float32)(src), x.Stride[2], n
	}
	stride = roundUp(dim, lanes)
	w.wide = grow(w.wide, blockKeys*stride)
	widenRows(w.level, x.format, at(w.wide, 0), stride, src, x.Stride[2], n, dim)
	return at(w.wide, 0), stride, n
}

// worker holds the scratch of one goroutine: a tile of query rows and its state.
//
// Row r of a tile is query r/group of query head r%group: all heads that share keys are handled
// together.
type worker struct {
	level                isa.Level
	dim, valueDim, group int
	dimPitch, valuePitch int
	own                  packed // for tiles that nobody shares their keys with: one block
	page                 packed // one block of a cache, where it lies
	arrived              arrivedBlock
	slot                 slot // of groups that it takes as a whole
	task                 tile

	wide []float32 // rows of another format, converted

	q, s              []float32
	state, closed     state
	alpha, shift, lse []float32
	ones, weights     []float32
	first             []int32     // by row of a few: the position of its first column from itself
	sinks, nothing    []float32   // state of a few rows' sinks
	bias              []float32   // rows of a bias that has one number for all keys
	bits              [][2]uint64 // by row: the keys of the block at hand that it sees
	untouched         bool        // the O of state is whatever it was
	blk               block
	far               stridedTile
	errands           errands
}

// state is the online softmax of the rows of a tile: maximum, sum over 16 lanes, sum, and O, not yet
// divided.
type state struct {
	max, lanes, sum, o []float32
}

func (s *state) size(rows, pitch int) {
	s.max, s.sum = grow(s.max, rows), grow(s.sum, rows)
	s.lanes = grow(s.lanes, rows*lanes)
	s.o = grow(s.o, rows*pitch)
}

// from returns the part of a closed state that begins with a row.
func (s *state) from(row, pitch int) state {
	return state{max: s.max[row:], sum: s.sum[row:], o: s.o[row*pitch:]}
}

// begin makes rows that have seen nothing, but leaves sum and O to whoever sets them.
func (s *state) begin(row, rows int) {
	for i := range s.max[row : row+rows] {
		s.max[row+i] = float32(math.Inf(-1))
	}
	clear(s.lanes[row*lanes : (row+rows)*lanes])
}

// reset makes rows that have seen nothing.
func (s *state) reset(row, rows, pitch int) {
	s.begin(row, rows)
	clear(s.sum[row : row+rows])
	clearAll(s.o[row*pitch : (row+rows)*pitch])
}

func (w *worker) size(p *Plan, shape Shape, rows int, ownBlock bool) {
	w.level = p.level
	w.dim, w.valueDim, w.group = shape.Dim, shape.ValueDim, p.group
	w.dimPitch, w.valuePitch = roundUp(shape.Dim, lanes), roundUp(shape.ValueDim, lanes)
	if ownBlock {
		w.own.size(1, shape.Dim, shape.ValueDim)
	}
	w.q = grow(w.q, rows*w.dimPitch)
	w.s = grow(w.s, rows*blockKeys)
	w.state.size(rows, w.valuePitch)
	if shape.Keys > spanKeys { // more than one span
		w.closed.size(rows, w.valuePitch)
	}
	w.alpha, w.shift, w.lse = grow(w.alpha, rows), grow(w.shift, rows), grow(w.lse, rows)
	w.weights = grow(w.weights, 2*lanes)
	w.first = slices.Grow(w.first[:0], lanes)[:lanes]
	if p.opts.Sinks != nil {
		w.sinks, w.nothing = grow(w.sinks, lanes), grow(w.nothing, lanes*w.valuePitch)
		clear(w.nothing)
	}
	if cap(w.bits) < rows {
		w.bits = make([][2]uint64, rows)
		w.ones = grow(w.ones, rows)
		for i := range w.ones {
			w.ones[i] = 1
		}
	}
	w.bits = w.bits[:cap(w.bits)]
}

// tile is a task: the rows [r0, r1) of one key/value head of a sequence, from tensors that share a
// plan.
type tile struct {
	p      *Plan
	t      *tensors
	seq    *sequence
	kvHead int
	r0, r1 int
	group  uint64 // number of the key/value head among all of all runs
	keys   source
	row    int // where in the worker's memory the rows begin
}

// local is where in the worker's memory row r is.
func (t *tile) local(r int) int { return r - t.r0 + t.row }

// source hands out the keys and values of a tile block by block, packed.
type source interface {
	// block returns block b and its place. It may use the worker's own memory, until the next call.
	block(w *worker, t *tile, b int) (p *packed, slot int)
}

// packing is the source of a tile that shares its keys with no other: each block is packed when its
// turn comes, and is still in cache when it is used.
type packing struct{}

func (packing) block(w *worker, t *tile, b int) (*packed, int) {
	p, v := &w.own, &t.t.v
	if t.r1-t.r0 > directRows || v.format != Float32 || w.valueDim%lanes != 0 {
		p.use()
		w.pack(t, p, b, 0, b+1)
		return p, 0
	}
	// Few rows take values from where they are.
	w.packKeys(t, p, b, 0, b+1)
	p.v, p.pitch, p.stride = v.at(t.seq.batch, t.kvHead, t.seq.key0+b*blockKeys), v.Stride[2], panel
	p.finite[0] = false // as far as anyone knows
	return p, 0
}

// run computes all of a tile.
func (w *worker) run(t *tile) {
	rows := t.r1 - t.r0
	w.loadQueries(t)
	first, end := t.reach()
	if t.p.changes.output != nil {
		w.blank(t)
	}
	merged := 0
	for span := first / spanKeys; span*spanKeys < end; span++ {
		w.span(t, span, first, end)
		if t.p.into != nil {
			w.keep(t, span)
			continue
		}
		if end <= (first/spanKeys+1)*spanKeys {
			break // the only span: nothing to merge
		}
		w.merge(rows, merged)
		merged++
	}
	if t.p.into != nil {
		return
	}
	switch {
	case first >= end:
		w.finishNothing(t)
	case merged == 0:
		w.finish(t, &w.state)
	default:
		w.finish(t, &w.closed)
	}
}

// finishNothing finishes a tile whose rows see no keys.
func (w *worker) finishNothing(t *tile) {
	rows := t.r1 - t.r0
	w.state.reset(0, rows, w.valuePitch)
	w.finish(t, &w.state)
}

// reach returns the keys [first, end) that rows of the tile may see, as counted in the tensors.
func (t *tile) reach() (first, end int) {
	offset := t.seq.keyOffset
	if t.seq.keys == 0 {
		return 0, 0
	}
	if t.p.changes.output != nil {
		return 0, t.seq.keys // whatever is seen
	}
	first, end = t.seq.visible.reach(t.region(t.r0, t.r1, offset, offset+t.seq.keys))
	return first - offset, end - offset
}

// region is the rows [from, to) of a tile and the keys at the positions [j0, j1).
func (t *tile) region(from, to, j0, j1 int) region {
	g := t.p.group
	return region{t.kvHead * g, (t.kvHead + 1) * g, from / g, (to-1)/g + 1, j0, j1}
}

// span leaves the closed state of one span in w.state.
func (w *worker) span(t *tile, span, first, end int) {
	rows := t.r1 - t.r0
	w.state.begin(0, rows)
	w.untouched = true
	from, to := max(span*spanKeys, first), min((span+1)*spanKeys, end)
	for b := from / blockKeys; b*blockKeys < to; b++ {
		if (b+1)*blockKeys >= end {
			w.fetchTile(t)
		}
		w.block(t, b)
	}
	w.touch(rows)
	asm.CloseRows(w.level, at(w.state.sum, 0), at(w.state.lanes, 0), rows)
}

// merge folds w.state into w.closed, of which so many spans are merged already.
func (w *worker) merge(rows, merged int) {
	if merged == 0 {
		w.state, w.closed = w.closed, w.state
		return
	}
	mergeRows(w.level, &w.closed, &w.state, rows, w.valuePitch, w.weights)
}

// loadQueries is Q' = Q·scale·log2 e.
func (w *worker) loadQueries(t *tile) {
	q := &t.t.q
	for r := t.r0; r < min(t.r0+w.group, t.r1); r++ {
		to, pitch, rows := at(w.q, t.local(r)*w.dimPitch), w.group*w.dimPitch, (t.r1-r+w.group-1)/w.group
		from, stride := q.at(t.seq.batch, t.head(r), t.position(r)), q.Stride[2]
		if q.format != Float32 {
			widenRows(w.level, q.format, to, pitch, from, stride, rows, w.dim)
			from, stride = unsafe.Pointer(to), pitch
		}
		asm.ScaleRows(w.level, to, pitch, (*float32)(from), stride, rows, w.dim, t.p.factor)
	}
}

// head is the query head of row r, and position its query's place in the tensors.
func (t *tile) head(r int) int     { return t.kvHead*t.p.group + r%t.p.group }
func (t *tile) position(r int) int { return t.seq.query0 + r/t.p.group }

// finish writes O/l and the log-sum-exp.
func (w *worker) finish(t *tile, s *state) {
	if t.p.opts.Sinks != nil {
		w.addSinks(t, s)
	}
	if t.p.changes.output != nil && t.p.opts.Stage == Probabilities {
		w.probabilities(t, s)
	}
	for r := t.r0; r < min(t.r0+w.group, t.r1); r++ {
		// 16 rows at a time, to bound a call.
		for n := r; n < t.r1; n += lanes * w.group {
			asm.FinishRows(w.level, t.t.out.row(t.seq.batch, t.head(n), t.position(n)), t.t.out.Stride[2],
				at(s.o, t.local(n)*w.valuePitch), w.group*w.valuePitch, at(s.sum, t.local(n)), w.group,
				min(lanes, (t.r1-n+w.group-1)/w.group), w.valueDim)
		}
	}
	lse := t.p.opts.LSE
	if lse == nil {
		return
	}
	asm.LogSumRows(w.level, at(w.lse, 0), at(s.max, t.row), at(s.sum, t.row), t.r1-t.r0)
	for r := t.r0; r < t.r1; r++ {
		lse[(t.seq.batch*t.p.shape.Heads+t.head(r))*t.p.shape.Queries+t.position(r)] = w.lse[r-t.r0]
	}
}

// scores is S = Q'·Kᵀ for the keys [start, end) of a block, multiples of 16, from a column of S on.
func (w *worker) scores(row, rows, start, end, column int, p *packed, slot int) {
	q, s := at(w.q, row*w.dimPitch), at(w.s, row*blockKeys+column)
	for j := start; j < end; {
		// Up to the end of the panel; few rows up to the end of the panels that lie together.
		number, next := j/panel, end
		k, format := unsafe.Add(p.k, p.format.size()*(slot*blockKeys+number*panel)*w.dim), p.format
		if number == p.staged {
			k, format = unsafe.Pointer(p.stagedK), Float32
		}
		k = unsafe.Add(k, format.size()*(j%panel))
		if number == p.staged || j%panel > 0 || rows > directRows {
			next = min(next, (number+1)*panel)
		} else if p.staged < noPanel {
			next = min(next, p.staged*panel)
		}
		to := offset(s, j-start)
		if rows <= directRows {
			few(w.level, format, to, blockKeys, q, w.dimPitch, k, panel, panel*w.dim, w.dim, rows, next-j, nil)
		} else {
			w.product(to, blockKeys, q, w.dimPitch, (*float32)(k), w.dim, rows, next-j, nil)
		}
		j = next
	}
	if p.kScale != nil {
		asm.ScaleColumns(w.level, s, blockKeys, rows, end-start, offset(p.kScale, start))
	}
}

// softmax turns the first columns of S into P, and gives α.
func (w *worker) softmax(row, rows, cols int) {
	for r := row; r < row+rows; r += lanes {
		asm.SoftmaxTile(w.level, at(w.s, r*blockKeys), blockKeys, min(lanes, row+rows-r), cols,
			at(w.state.max, r), at(w.alpha, r), at(w.shift, r), at(w.state.lanes, r*lanes))
	}
}

// accumulate is O = α·O + P·V for the keys [from, to) of a block, whose P begin at a column of S, and for the
// columns [c0, c1) of O.
func (w *worker) accumulate(row, rows, from, to, column, c0, c1 int, p *packed, slot int, alpha *float32) {
	o, probabilities := at(w.state.o, row*w.valuePitch), at(w.s, row*blockKeys+column)
	v := unsafe.Add(p.v, p.format.size()*(slot*blockKeys*roundUp(w.valueDim, panel)+from*p.pitch+c0/panel*p.stride))
	if rows <= directRows {
		few(w.level, p.format, offset(o, c0), w.valuePitch, probabilities, blockKeys, v, p.pitch, p.stride, to-from,
			rows, c1-c0, alpha)
		return
	}
	for c := c0; c < c1; c += panel {
		from32 := (*float32)(unsafe.Add(v, p.format.size()*((c-c0)/panel)*p.stride)) // no pointer behind the last panel
		w.product(offset(o, c), w.valuePitch, probabilities, blockKeys, from32, to-from, rows, min(panel, c1-c), alpha)
	}
}

// product calls the kernel of that name in pieces that take less than 50 µs each.
func (w *worker) product(c *float32, cStride int, a *float32, aStride int, b *float32, depth, rows, cols int, alpha *float32) {
	most := rows
	if rows*depth > budget.FMAs/panel { // seldom
		most = max(budget.FMAs/(panel*min(depth, maxDepth))/rowTile*rowTile, rowTile)
	}
	panelAhead := offset(b, max(depth-1, 0)*panel) // its last row: the panel behind it may be another's memory, or nobody's
	for row := 0; row < rows; row += most {
		n, from, scale := min(most, rows-row), 0, alpha
		if alpha != nil {
			scale = offset(alpha, row)
		}
		for {
			d := min(depth-from, maxDepth)
			next, stride := w.errands.take(w.level, n, d, panelAhead)
			panelAhead = b // once is enough
			asm.Product(w.level, offset(c, row*cStride), cStride, offset(a, row*aStride+from), aStride, offset(b, from*panel), d, n, cols, scale, next, stride)
			if from += d; from >= depth {
				break
			}
			scale = at(w.ones, 0)
		}
	}
}

func offset(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n)) }
