package kernel

import (
	"math/bits"

	"github.com/quern-go/quern/asm"
)

// block is a block of keys that a tile is taken through. Only where a row sees some of it are its keys
// asked for.
type block struct {
	number  int
	j0, n   int // position of the first key, and number of keys
	keys    *packed
	slot    int
	batches []batch
	first   bool // O has nothing yet
}

// batch is rows [from, to) of a tile that go through a block together. Their scores lie in S side by side,
// but only of those halves of panels that are used.
type batch struct {
	from, to int
	some     [2]uint64 // keys that one of them sees
	whole    [2]uint64 // keys that all of them see
	used     halves
}

// halves is a set of halves of panels, 16 keys each, a bit for each of a block.
type halves uint8

// halvesOf is the halves of which some keys are set.
func halvesOf(keys [2]uint64) halves { return halves(notZero(keys[0]) | notZero(keys[1])<<4) }

// notZero has a bit for each 16 bits that are not all 0.
func notZero(x uint64) uint64 {
	const low = 0x7fff_7fff_7fff_7fff
	x = ((x&low + low) | x) &^ low >> 15        // bits 0, 16, 32, 48
	return x * 0x0001_0002_0004_0008 >> 48 & 15 // gathered by a product
}

// next is the first range of keys in halves side by side, and the halves behind it.
func (u halves) next() (start, end int, rest halves) {
	first := bits.TrailingZeros8(uint8(u))
	n := bits.TrailingZeros8(^uint8(u >> first))
	return first * lanes, (first + n) * lanes, u >> (first + n) << (first + n)
}

// columns is the number of columns of S that the halves take.
func (u halves) columns() int { return bits.OnesCount8(uint8(u)) * lanes }

// column is where in S the score of a key is.
func (u halves) column(key int) int {
	return (u & (1<<(key/lanes) - 1)).columns() + key%lanes
}

// within is the halves that the keys [from, to) have.
func (u halves) within(from, to int) halves {
	return u & halves(1<<(to/lanes)-1) &^ (1<<(from/lanes) - 1)
}

// block takes the rows of a tile through one block of keys. Rows that see the same, one beside the
// other, go together.
func (w *worker) block(t *tile, number int) {
	b := &w.blk
	b.number, b.batches = number, b.batches[:0]
	b.n = min(t.seq.keys-number*blockKeys, blockKeys)
	b.j0 = number*blockKeys + t.seq.keyOffset
	if w.look(t, t.r0, t.r1); len(b.batches) == 0 {
		return
	}
	b.keys, b.slot = t.keys.block(w, t, number)
	for i := range b.batches {
		w.layOut(t, &b.batches[i])
	}
	w.begin(t)
	// All batches take a panel while it is in L1: first their products with K, then those with V.
	for j := 0; j < blockKeys; j += b.step(blockKeys) {
		for i := range b.batches {
			p := &b.batches[i]
			for used := p.used.within(j, j+b.step(blockKeys)); used != 0; {
				var start, end int
				start, end, used = used.next()
				w.scores(t.local(p.from), p.to-p.from, start, end, p.used.column(start), b.keys, b.slot)
			}
		}
	}
	for i := range b.batches {
		w.probability(t, &b.batches[i])
	}
	for c := 0; c < w.valuePitch; c += b.step(w.valuePitch) {
		for i := range b.batches {
			w.weigh(t, &b.batches[i], c, min(c+b.step(w.valuePitch), w.valuePitch))
		}
	}
}

// begin sees to it that O has something where it is added to: the first block of a span sets it if all rows see the
// same.
func (w *worker) begin(t *tile) {
	p := &w.blk.batches[0]
	w.blk.first = w.untouched && p.from == t.r0 && p.to == t.r1 && p.some == p.whole && p.some != [2]uint64{}
	if w.blk.first {
		w.untouched = false
	} else {
		w.touch(t.r1 - t.r0)
	}
}

// touch clears O unless something has been there in this span.
func (w *worker) touch(rows int) {
	if w.untouched {
		w.untouched = false
		clearAll(w.state.o[:rows*w.valuePitch])
	}
}

// step is how much of a number of columns is done before the next batch: all where there is only one.
func (b *block) step(whole int) int {
	if len(b.batches) == 1 {
		return whole
	}
	return panel
}

// look divides the rows [from, to) of a tile by what they see of the block.
func (w *worker) look(t *tile, from, to int) {
	b := &w.blk
	seen := t.seq.visible.look(t.region(from, to, b.j0, b.j0+b.n))
	if t.p.changes.output != nil && seen.kind == none {
		seen = view{kind: same} // wanted, though no key is seen
	}
	switch {
	case seen.kind == none:
	case seen.kind != mixed:
		keys := seen.of(b.n)
		if keys != every(blockKeys) || !t.p.changes.none() {
			for i := from; i < to; i++ {
				w.bits[t.local(i)] = keys
			}
		}
		w.add(batch{from: from, to: to, some: keys, whole: keys})
	case to-from > rowTile:
		for r := from; r < to; r += rowTile {
			w.look(t, r, min(r+rowTile, to))
		}
	default:
		keys := every(b.n)
		some, whole := [2]uint64{}, keys
		head, query := from%w.group, from/w.group
		bits := w.bits[t.local(from):t.local(to)]
		for r := range bits {
			seen := &bits[r]
			*seen = keys
			t.seq.visible.see(t.kvHead*w.group+head, query, b.j0, seen)
			for i := range seen {
				some[i] |= seen[i]
				whole[i] &= seen[i]
			}
			if head++; head == w.group {
				head, query = 0, query+1
			}
		}
		if some != [2]uint64{} || t.p.changes.output != nil {
			w.add(batch{from: from, to: to, some: some, whole: whole})
		}
	}
}

// add puts rows to those before them, if they go together.
func (w *worker) add(next batch) {
	b := &w.blk
	if n := len(b.batches); n > 0 {
		if p := &b.batches[n-1]; p.to == next.from && p.some == next.some && p.whole == next.whole {
			p.to = next.to
			return
		}
	}
	b.batches = append(b.batches, next)
}

// layOut decides of which keys a batch has scores.
func (w *worker) layOut(t *tile, p *batch) {
	b, change := &w.blk, &t.p.changes
	if change.bias != nil && (change.function != nil || !b.keys.finite[b.slot]) {
		// Otherwise the score of -Inf is enough, whose weight is +0.
		w.hideByBias(t, p.from, p.to)
		p.whole = [2]uint64{} // as far as anyone knows
	}
	if p.used = halvesOf(p.some); change.function != nil || change.output != nil {
		p.used = halvesOf(every(b.n)) // they get whole rows of the block
	}
}

// probability turns the products of a batch into scores, and those into P and α.
func (w *worker) probability(t *tile, p *batch) {
	for r := p.from; r < p.to; r += lanes {
		row, rows := t.local(r), min(lanes, p.to-r)
		if !t.p.changes.none() {
			w.change(t, r, rows, p)
		}
		w.hide(row, rows, p)
		w.softmax(row, rows, p.used.columns())
		if scale := w.blk.keys.vScale; scale != nil {
			for used := p.used; used != 0; {
				var start, end int
				start, end, used = used.next()
				asm.ScaleColumns(w.level, at(w.s, row*blockKeys+p.used.column(start)), blockKeys, rows, end-start,
					offset(scale, start))
			}
		}
	}
}

// hide makes the scores of keys that a row does not see -Inf, wherever a half of a panel is not seen whole
// by all rows.
func (w *worker) hide(row, rows int, p *batch) {
	partly := p.used & halvesOf([2]uint64{^p.whole[0], ^p.whole[1]})
	for partly != 0 {
		var start, end int
		start, end, partly = partly.next()
		asm.MaskTile(w.level, at(w.s, row*blockKeys+p.used.column(start)), blockKeys, rows, start, end-start, &w.bits[row][0])
	}
}

// weigh is O = α·O + P·V for the columns [c0, c1) of a batch.
func (w *worker) weigh(t *tile, p *batch, c0, c1 int) {
	b := &w.blk
	row, rows, alpha := t.local(p.from), p.to-p.from, at(w.alpha, t.local(p.from))
	if b.first {
		alpha = nil
	}
	add := func(from, to int) {
		w.accumulate(row, rows, from, to, p.used.column(from), c0, c1, b.keys, b.slot, alpha)
		alpha = at(w.ones, 0)
	}
	switch {
	case b.keys.finite[b.slot]:
		// A weight of +0 for a key that a row does not see changes nothing.
		for used := halvesOf(p.some); used != 0; {
			var start, end int
			start, end, used = used.next()
			seen := p.some
			keep(&seen, start, end)
			add(lowest(seen), highest(seen)+1)
		}
	case p.some == p.whole:
		eachRun(p.some, add)
	default:
		// 0·Inf would be NaN: each row takes the keys that it sees.
		for end := row + rows; row < end; row++ {
			rows, alpha = 1, at(w.alpha, row)
			eachRun(w.bits[row], add)
		}
	}
}

// eachRun calls f with each range of bits that are set.
func eachRun(left [2]uint64, f func(from, to int)) {
	for left != [2]uint64{} {
		from, to := lowest(left), blockKeys
		gap := [2]uint64{^left[0], ^left[1]}
		keep(&gap, from, blockKeys)
		if gap != [2]uint64{} {
			to = lowest(gap)
		}
		f(from, to)
		keep(&left, to, blockKeys)
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
