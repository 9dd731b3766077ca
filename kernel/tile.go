package kernel

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// Sizes that bits depend on: see ARITHMETIC.md.
const (
	blockKeys = 128  // keys whose maximum is taken at once
	spanKeys  = 2048 // keys after which a state is closed
)

// Sizes that bits do not depend on.
const (
	panel    = 32      // columns of a packed panel
	lanes    = 16      // columns of half a panel; every row of scratch is a multiple of this
	rowTile  = 12      // rows that masks are looked at together
	tileRows = 96      // most rows of a query tile
	callWork = 1 << 19 // fused multiply-adds of one call of assembly: less than 50 µs anywhere
	maxDepth = callWork / (rowTile * panel)
)

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// packed holds blocks of K and V as panels.
//
// K: for every 32 keys a panel of Dim rows, key along the vector. V: for every block of 128 keys and
// every 32 columns a panel with a row for each key.
type packed struct {
	k, v   []float32
	finite []bool // per block: every element of V is finite
}

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

// size makes room for a number of blocks.
func (p *packed) size(blocks, dim, valueDim int) {
	p.k = grow(p.k, blocks*blockKeys*dim)
	p.v = grow(p.v, blocks*blockKeys*roundUp(valueDim, panel))
	if cap(p.finite) < blocks {
		p.finite = make([]bool, blocks)
	}
	p.finite = p.finite[:blocks]
}

// pack packs block b of a sequence of k and v into place slot.
func (p *packed) pack(level isa.Level, t *tensors, s *sequence, kvHead, b, slot int) {
	dim, valueDim := t.k.Shape[3], t.v.Shape[3]
	j0 := b * blockKeys
	n := min(s.keys-j0, blockKeys)
	if ahead := min(s.keys-j0-n, blockKeys); ahead > 0 {
		// Packing computes too much between loads to keep memory busy: ask for the next block now.
		asm.PrefetchRows(level, t.k.row(s.batch, kvHead, s.key0+j0+n), t.k.Stride[2], ahead, dim)
		asm.PrefetchRows(level, t.v.row(s.batch, kvHead, s.key0+j0+n), t.v.Stride[2], ahead, valueDim)
	}
	for j := 0; j < n; j += panel {
		asm.PackPanel(level, at(p.k, (slot*blockKeys+j)*dim), t.k.row(s.batch, kvHead, s.key0+j0+j), t.k.Stride[2], min(panel, n-j), dim)
	}
	bad := asm.PackRows(level, at(p.v, slot*blockKeys*roundUp(valueDim, panel)), blockKeys*panel,
		t.v.row(s.batch, kvHead, s.key0+j0), t.v.Stride[2], n, valueDim)
	p.finite[slot] = bad == 0
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

	q, s              []float32
	state, closed     state
	alpha, shift, lse []float32
	ones, weights     []float32
	bits              [][2]uint64
	edge              [][2]uint64
	edgeKeys          int
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

// reset makes rows that have seen nothing.
func (s *state) reset(rows, pitch int) {
	for i := range s.max[:rows] {
		s.max[i] = float32(math.Inf(-1))
	}
	clear(s.lanes[:rows*lanes])
	clear(s.o[:rows*pitch])
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
	if shape.Keys > spanKeys {
		w.closed.size(rows, w.valuePitch)
	}
	w.alpha, w.shift, w.lse = grow(w.alpha, rows), grow(w.shift, rows), grow(w.lse, rows)
	w.weights = grow(w.weights, 2*lanes)
	if cap(w.bits) < rows {
		w.bits, w.edge, w.edgeKeys = make([][2]uint64, rows), make([][2]uint64, rows), 0
		w.ones = grow(w.ones, rows)
		for i := range w.ones {
			w.ones[i] = 1
		}
	}
	w.bits, w.edge = w.bits[:cap(w.bits)], w.edge[:cap(w.edge)]
}

// tile computes the rows [r0, r1) of one key/value head of a sequence. With shared the keys are packed
// already; otherwise the worker packs each block when it needs it.
func (w *worker) tile(p *Plan, t *tensors, seq *sequence, kvHead, r0, r1 int, shared *packed) {
	rows := r1 - r0
	w.loadQueries(p, t, seq, kvHead, r0, r1)
	w.state.reset(rows, w.valuePitch)
	spans := 0 // closed so far

	i0, i1 := r0/w.group, (r1-1)/w.group+1
	first, end := seq.visible.reach(i0, i1, seq.keys+seq.keyOffset)
	first, end = max(first-seq.keyOffset, 0), end-seq.keyOffset
	span := first / spanKeys
	for b := first / blockKeys; b*blockKeys < end; b++ {
		if b*blockKeys/spanKeys != span {
			w.close(rows, spans)
			spans, span = spans+1, b*blockKeys/spanKeys
		}
		blocks, slot := shared, b
		if shared == nil {
			blocks, slot = &w.own, 0
			blocks.pack(w.level, t, seq, kvHead, b, 0)
		}
		w.block(seq, kvHead, r0, r1, b, blocks, slot)
	}
	final := &w.state
	if spans > 0 {
		w.close(rows, spans)
		final = &w.closed
	} else {
		asm.CloseRows(w.level, at(final.sum, 0), at(final.lanes, 0), rows)
	}
	w.finish(p, t, seq, kvHead, r0, r1, final)
}

// loadQueries is Q' = Q·scale·log2 e.
func (w *worker) loadQueries(p *Plan, t *tensors, seq *sequence, kvHead, r0, r1 int) {
	for r := r0; r < min(r0+w.group, r1); r++ {
		asm.ScaleRows(w.level, at(w.q, (r-r0)*w.dimPitch), w.group*w.dimPitch,
			t.q.row(seq.batch, kvHead*w.group+r%w.group, seq.query0+r/w.group), t.q.Stride[2],
			(r1-r+w.group-1)/w.group, w.dim, p.factor)
	}
}

// close folds the state of a finished span into those before it and starts anew.
func (w *worker) close(rows, spans int) {
	asm.CloseRows(w.level, at(w.state.sum, 0), at(w.state.lanes, 0), rows)
	if spans == 0 {
		w.state, w.closed = w.closed, w.state
	} else {
		a, b := &w.closed, &w.state
		for r := 0; r < rows; r += lanes {
			asm.MergeRows(w.level, at(a.max, r), at(a.sum, r), at(a.o, r*w.valuePitch), at(b.max, r), at(b.sum, r), at(b.o, r*w.valuePitch),
				w.valuePitch, min(lanes, rows-r), w.valuePitch, at(w.weights, 0))
		}
	}
	w.state.reset(rows, w.valuePitch)
}

// finish writes O/l and the log-sum-exp.
func (w *worker) finish(p *Plan, t *tensors, seq *sequence, kvHead, r0, r1 int, s *state) {
	for r := r0; r < min(r0+w.group, r1); r++ {
		// Bound a call: 16 rows at a time.
		for n := r; n < r1; n += lanes * w.group {
			asm.FinishRows(w.level, t.out.row(seq.batch, kvHead*w.group+n%w.group, seq.query0+n/w.group), t.out.Stride[2],
				at(s.o, (n-r0)*w.valuePitch), w.group*w.valuePitch, at(s.sum, n-r0), w.group,
				min(lanes, (r1-n+w.group-1)/w.group), w.valueDim)
		}
	}
	if p.opts.LSE == nil {
		return
	}
	asm.LogSumRows(w.level, at(w.lse, 0), at(s.max, 0), at(s.sum, 0), r1-r0)
	for r := r0; r < r1; r++ {
		head := kvHead*w.group + r%w.group
		p.opts.LSE[(seq.batch*p.shape.Heads+head)*p.shape.Queries+seq.query0+r/w.group] = w.lse[r-r0]
	}
}

// block takes the rows [r0, r1) through one block of keys.
func (w *worker) block(seq *sequence, kvHead, r0, r1, b int, p *packed, slot int) {
	j0 := b * blockKeys
	n := min(seq.keys-j0, blockKeys)
	j0 += seq.keyOffset // positions, from here on
	// Rows that see the whole block go together, others a few at a time.
	whole := 0
	for r := r0; r < r1; {
		next := min(r+rowTile, r1)
		if seq.visible.all(r/w.group, (next-1)/w.group+1, j0, j0+n) {
			whole += next - r
			r = next
			continue
		}
		w.wholeRows(r-r0-whole, whole, n, p, slot)
		whole = 0
		w.partRows(seq, kvHead, r, next, r0, j0, n, p, slot)
		r = next
	}
	w.wholeRows(r1-r0-whole, whole, n, p, slot)
}

// wholeRows takes rows of the tile that see all n keys of a block.
func (w *worker) wholeRows(row, rows, n int, p *packed, slot int) {
	if rows == 0 {
		return
	}
	w.scores(row, rows, 0, n, p, slot)
	if rest := n % lanes; rest > 0 {
		w.hideRest(rest)
		asm.MaskTile(w.level, at(w.s, row*blockKeys+n-rest), blockKeys, rows, lanes, &w.edge[0][0])
	}
	w.softmax(row, rows, 0, n)
	w.accumulate(row, rows, 0, n, p, slot, at(w.alpha, row))
}

// hideRest makes w.edge hide what lies behind the last keys.
func (w *worker) hideRest(keys int) {
	if w.edgeKeys != keys {
		w.edgeKeys = keys
		for i := range w.edge {
			w.edge[i][0] = below(keys)
		}
	}
}

// partRows takes a few rows of which some do not see all keys of a block.
func (w *worker) partRows(seq *sequence, kvHead, from, to, r0, j0, n int, p *packed, slot int) {
	row, rows := from-r0, to-from
	seen := w.bits[:rows]
	var any [2]uint64
	every := [2]uint64{below(n), below(n - 64)}
	hidden := false
	for i := range seen {
		seen[i] = every
		seq.visible.see(kvHead*w.group+(from+i)%w.group, (from+i)/w.group, j0, &seen[i])
		any[0] |= seen[i][0]
		any[1] |= seen[i][1]
		hidden = hidden || seen[i] != every
	}
	if any == [2]uint64{} {
		return
	}
	first, end := lowest(any), highest(any)+1
	start := first / lanes * lanes
	w.scores(row, rows, start, end, p, slot)
	cols := roundUp(end, lanes) - start
	// The mask is read from the first column of scores: 16 bits at a time.
	asm.MaskTile(w.level, at(w.s, row*blockKeys+start), blockKeys, rows, cols, (*uint64)(unsafe.Add(unsafe.Pointer(&seen[0]), start/8)))
	w.softmax(row, rows, start, end)
	if !hidden || p.finite[slot] {
		w.accumulate(row, rows, first, end, p, slot, at(w.alpha, row))
		return
	}
	// 0·Inf would be NaN: each row takes the keys that it sees, run by run.
	w.accumulate(row, rows, 0, 0, p, slot, at(w.alpha, row))
	for i, left := range seen {
		for left != [2]uint64{} {
			j := lowest(left)
			keep(&left, j, blockKeys)
			gap := [2]uint64{^left[0], ^left[1]}
			keep(&gap, j, blockKeys)
			run := blockKeys
			if gap != [2]uint64{} {
				run = lowest(gap)
			}
			w.accumulate(row+i, 1, j, run, p, slot, at(w.ones, 0))
			keep(&left, run, blockKeys)
		}
	}
}

// lowest is the first bit that is set, of which there must be one.
func lowest(b [2]uint64) int {
	if b[0] != 0 {
		return bits.TrailingZeros64(b[0])
	}
	return 64 + bits.TrailingZeros64(b[1])
}

func highest(b [2]uint64) int {
	if b[1] != 0 {
		return 127 - bits.LeadingZeros64(b[1])
	}
	return 63 - bits.LeadingZeros64(b[0])
}

// scores is S = Q'·Kᵀ for the keys [start, end) of a block, start a multiple of 16.
func (w *worker) scores(row, rows, start, end int, p *packed, slot int) {
	for j := start; j < end; {
		// Up to the end of the panel, whole halves.
		next := min(j/panel*panel+panel, roundUp(end, lanes))
		k := (slot*blockKeys+j/panel*panel)*w.dim + j%panel
		w.product(at(w.s, row*blockKeys+j), blockKeys, at(w.q, row*w.dimPitch), w.dimPitch, at(p.k, k), w.dim, rows, next-j, nil)
		j = next
	}
}

// softmax turns scores into P and α.
func (w *worker) softmax(row, rows, start, end int) {
	cols := roundUp(end, lanes) - start
	for r := row; r < row+rows; r += lanes {
		asm.SoftmaxTile(w.level, at(w.s, r*blockKeys+start), blockKeys, min(lanes, row+rows-r), cols,
			at(w.state.max, r), at(w.alpha, r), at(w.shift, r), at(w.state.lanes, r*lanes))
	}
}

// accumulate is O = α·O + P·V for the keys [from, to) of a block.
func (w *worker) accumulate(row, rows, from, to int, p *packed, slot int, alpha *float32) {
	width := roundUp(w.valueDim, panel)
	for c := 0; c < w.valuePitch; c += panel {
		v := slot*blockKeys*width + c*blockKeys + from*panel
		w.product(at(w.state.o, row*w.valuePitch+c), w.valuePitch, at(w.s, row*blockKeys+from), blockKeys,
			at(p.v, v), to-from, rows, min(panel, w.valuePitch-c), alpha)
	}
}

// product calls the kernel of that name in pieces that take less than 50 µs each.
func (w *worker) product(c *float32, cStride int, a *float32, aStride int, b *float32, depth, rows, cols int, alpha *float32) {
	for most := max(callWork/(panel*max(min(depth, maxDepth), 1))/rowTile*rowTile, rowTile); rows > 0; {
		n := min(rows, most)
		from, scale := 0, alpha
		for {
			d := min(depth-from, maxDepth)
			asm.Product(w.level, c, cStride, offset(a, from), aStride, offset(b, from*panel), d, n, cols, scale)
			if from += d; from >= depth {
				break
			}
			scale = at(w.ones, 0)
		}
		c, a = offset(c, n*cStride), offset(a, n*aStride)
		if alpha != nil {
			alpha = offset(alpha, n)
		}
		rows -= n
	}
}

func offset(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n)) }
