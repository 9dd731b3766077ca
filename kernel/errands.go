package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/asm"
)

// errand is memory that will soon be needed, and far away now. Products ask for it while they compute, a line at
// a time: asked for at once, it would keep the loads of whatever comes next waiting.
type errand struct {
	at    unsafe.Pointer
	bytes int
}

// send adds the rows [from, to) of one head to a worker's errands, if they lie together.
func (w *worker) send(x *Tensor, batch, head, from, to int) (sent bool) {
	if from >= to || x.empty() || x.Stride[2] != x.Shape[3] {
		return false
	}
	w.errands = append(w.errands, errand{x.at(batch, head, from), (to - from) * x.Shape[3] * x.format.size()})
	return true
}

// forget keeps nothing of the caller's alive.
func (w *worker) forget() {
	clear(w.errands[:cap(w.errands)])
	w.errands = w.errands[:0]
}

// errand returns what a product of so many rows and so much depth is to ask for: otherwise, if there is nothing.
func (w *worker) errand(rows, depth int, otherwise *float32) *float32 {
	if len(w.errands) == 0 {
		return otherwise
	}
	e := &w.errands[0]
	next := (*float32)(e.at)
	if done := (rows + rowTile - 1) / rowTile * depth * requestBytes; done < e.bytes {
		e.at, e.bytes = unsafe.Add(e.at, done), e.bytes-done
	} else {
		w.errands = append(w.errands[:0], w.errands[1:]...)
	}
	return next
}

// requestBytes is how much a product asks for with each step of depth and 12 rows: three lines in eight steps
// (requested in gen/product.go). A tile of 96 rows asks for half as much again in a block as the block has keys and values.
const requestBytes = 24

// fetchBlock asks for the rows of block b of k or v, if there is one.
func (w *worker) fetchBlock(t *tile, x *Tensor, b int) {
	first := b * blockKeys
	n := min(t.seq.keys-first, blockKeys)
	if b < 0 || n <= 0 {
		return
	}
	first += t.seq.key0
	if t.r1-t.r0 < tileRows/2 || !w.send(x, t.seq.batch, t.kvHead, first, first+n) {
		asm.PrefetchRows(w.level, x.row(t.seq.batch, t.kvHead, first), x.Stride[2], n, x.Shape[3])
	}
}

// fetchTile asks for what the tile after t begins with: its queries, the place of its output, and the keys and
// values of another head.
func (w *worker) fetchTile(t *tile) {
	next, rows := *t, t.p.schedule.rows
	switch {
	case t.r0 > 0:
		next.r0, next.r1 = max(t.r0-rows, 0), t.r0
	case t.kvHead+1 < t.p.shape.KVHeads:
		next.kvHead++
		next.r1 = t.seq.queries * w.group
		next.r0 = (next.r1 - 1) / rows * rows
	default:
		return
	}
	for r := next.r0; r < min(next.r0+w.group, next.r1); r++ {
		from, to := next.position(r), next.position(next.r1-1)+1
		w.send(&t.t.q, t.seq.batch, next.head(r), from, to)
		w.send(&t.t.out, t.seq.batch, next.head(r), from, to)
	}
	if next.kvHead != t.kvHead && t.seq.cache == nil {
		n := min(t.seq.keys, blockKeys)
		w.send(&t.t.k, t.seq.batch, next.kvHead, t.seq.key0, t.seq.key0+n)
		w.send(&t.t.v, t.seq.batch, next.kvHead, t.seq.key0, t.seq.key0+n)
	}
}
