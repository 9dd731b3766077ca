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
	pending batch
	halves  [blockKeys / lanes]int // columns of S where the scores of each 16 keys lie
	runs    []run                  // of halves that lie side by side in the block and in S
	columns int                    // of S in use
}

// batch is rows [from, to) of a tile that go through a block together.
type batch struct {
	from, to int
	some     [2]uint64 // keys that one of them sees
	whole    [2]uint64 // keys that all of them see
}

// run is the keys [start, end) of a block, multiples of 16.
type run struct{ start, end int }

// block takes the rows of a tile through one block of keys. Rows that see the same, one beside the
// other, go together.
func (w *worker) block(t *tile, number int) {
	b := &w.blk
	b.number, b.keys, b.pending = number, nil, batch{}
	b.n = min(t.seq.keys-number*blockKeys, blockKeys)
	b.j0 = number*blockKeys + t.seq.keyOffset
	w.look(t, t.r0, t.r1)
	w.attend(t)
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
		w.add(t, batch{from, to, keys, keys})
	case to-from > rowTile:
		for r := from; r < to; r += rowTile {
			w.look(t, r, min(r+rowTile, to))
		}
	default:
		part := batch{from: from, to: to, whole: every(b.n)}
		for r := from; r < to; r++ {
			seen := &w.bits[t.local(r)]
			*seen = every(b.n)
			t.seq.visible.see(t.head(r), r/w.group, b.j0, seen)
			part.with(*seen)
		}
		if part.some != [2]uint64{} || t.p.changes.output != nil {
			w.add(t, part)
		}
	}
}

// with adds a row that sees these keys.
func (p *batch) with(seen [2]uint64) {
	for i := range seen {
		p.some[i] |= seen[i]
		p.whole[i] &= seen[i]
	}
}

// add puts rows to those before them, if they go together.
func (w *worker) add(t *tile, next batch) {
	p := &w.blk.pending
	if p.to == next.from && p.some == next.some && p.whole == next.whole {
		p.to = next.to
		return
	}
	w.attend(t)
	*p = next
}

// attend takes the pending rows through the block.
func (w *worker) attend(t *tile) {
	b := &w.blk
	p := b.pending
	b.pending = batch{}
	if p.from == p.to {
		return
	}
	if b.keys == nil {
		b.keys, b.slot = t.keys.block(w, t, b.number)
	}
	change := &t.p.changes
	if change.bias != nil && (change.function != nil || !b.keys.finite[b.slot]) {
		// Otherwise the score of -Inf is enough, whose weight is +0.
		w.hideByBias(t, p.from, p.to)
		p.whole = [2]uint64{} // as far as anyone knows
	}
	if change.function != nil || change.output != nil {
		b.layOut(every(b.n)) // they get whole rows of the block
	} else {
		b.layOut(p.some)
	}
	row, rows := t.local(p.from), p.to-p.from
	for _, r := range b.runs {
		w.scores(row, rows, r.start, r.end, b.halves[r.start/lanes], b.keys, b.slot)
	}
	for r := p.from; r < p.to; r += lanes {
		row, rows := t.local(r), min(lanes, p.to-r)
		if !change.none() {
			w.change(t, r, rows, p)
		}
		w.hide(row, rows, p)
		w.softmax(row, rows, b.columns)
	}
	alpha := at(w.alpha, row)
	weigh := func(from, to int) {
		w.accumulate(row, rows, from, to, b.column(from), b.keys, b.slot, alpha)
		alpha = at(w.ones, 0)
	}
	switch {
	case b.keys.finite[b.slot]:
		// A weight of +0 for a key that a row does not see changes nothing.
		for _, r := range b.runs {
			seen := p.some
			if keep(&seen, r.start, r.end); seen != [2]uint64{} {
				weigh(lowest(seen), highest(seen)+1)
			}
		}
	case p.some == p.whole:
		eachRun(p.some, weigh)
	default:
		// 0·Inf would be NaN: each row takes the keys that it sees.
		for end := row + rows; row < end; row++ {
			rows, alpha = 1, at(w.alpha, row)
			eachRun(w.bits[row], weigh)
		}
	}
}

// layOut gives the keys of a block their columns in S: whole halves of panels, as far as they are seen.
func (b *block) layOut(seen [2]uint64) {
	b.runs, b.columns = b.runs[:0], 0
	for h := range b.halves {
		start := h * lanes
		if half(seen, h) == 0 {
			continue
		}
		b.halves[h] = b.columns
		b.columns += lanes
		if n := len(b.runs); n > 0 && b.runs[n-1].end == start {
			b.runs[n-1].end += lanes
		} else {
			b.runs = append(b.runs, run{start, start + lanes})
		}
	}
}

// half is the bits of 16 keys.
func half(bits [2]uint64, h int) uint16 { return uint16(bits[h/4] >> (h % 4 * lanes)) }

// column is where in S the score of a key is.
func (b *block) column(key int) int { return b.halves[key/lanes] + key%lanes }

// hide makes the scores of keys that a row does not see -Inf, wherever a half of a panel is not seen whole
// by all rows.
func (w *worker) hide(row, rows int, p batch) {
	b := &w.blk
	for _, r := range b.runs {
		for from := r.start; from < r.end; from += lanes {
			to := from
			for to < r.end && half(p.whole, to/lanes) != 1<<lanes-1 {
				to += lanes
			}
			if from < to {
				asm.MaskTile(w.level, at(w.s, row*blockKeys+b.column(from)), blockKeys, rows, from, to-from, &w.bits[row][0])
				from = to
			}
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
