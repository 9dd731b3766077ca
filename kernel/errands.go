package kernel

import (
	"unsafe"

	"github.com/quern-go/quern/internal/isa"
)

// errand is memory that will soon be needed, and far away now. Products ask for it while they compute, a line at
// a time: asked for at once, it would keep the loads of whatever comes next waiting.
type errand struct {
	at     unsafe.Pointer
	pieces int
	stride int // bytes from one piece to the next, of which two lines are asked for; 0 where all lies together
}

// errands are done in their order.
type errands []errand

// together adds memory without gaps.
func (e *errands) together(at unsafe.Pointer, bytes int) {
	if bytes > 0 {
		*e = append(*e, errand{at: at, pieces: (bytes + pieceBytes - 1) / pieceBytes})
	}
}

// forget keeps nothing of the caller's alive.
func (e *errands) forget() {
	clear((*e)[:cap(*e)])
	*e = (*e)[:0]
}

// take returns what a product of so many rows and so much depth is to ask for: otherwise, if there is nothing.
func (e *errands) take(level isa.Level, rows, depth int, otherwise *float32) (next *float32, stride int) {
	if len(*e) == 0 {
		return otherwise, pieceBytes
	}
	first := &(*e)[0]
	next, stride = (*float32)(first.at), first.stride
	apart := stride
	if stride == 0 {
		stride, apart = requested(level), pieceBytes
	}
	if done := (rows + rowTile - 1) / rowTile * depth / 8; done < first.pieces {
		first.at, first.pieces = unsafe.Add(first.at, done*apart), first.pieces-done
	} else {
		*e = append((*e)[:0], (*e)[1:]...)
	}
	return next, stride
}

// pieceBytes is how much a product asks for with eight steps of depth and 12 rows, three lines. A tile of 96 rows asks for
// half as much again in a block as the block has keys and values.
const pieceBytes = 3 * 64

// requested is how much a product asks for with eight steps of depth and a tile of its registers' height (in gen/product.go).
func requested(level isa.Level) int {
	if level == isa.AVX512 {
		return pieceBytes
	}
	return 2 * 64
}

// send adds the rows [from, to) of one head to a worker's errands, if they lie together.
func (w *worker) send(x *Tensor, batch, head, from, to int) (sent bool) {
	if from >= to || x.empty() || x.Stride[2] != x.Shape[3] {
		return false
	}
	w.errands.together(x.at(batch, head, from), (to-from)*x.Shape[3]*x.format.size())
	return true
}

// fetchBlock asks for the rows of block b of k or v, if there is one.
func (w *worker) fetchBlock(t *tile, x *Tensor, b int) {
	first := b * blockKeys
	n := min(t.seq.keys-first, blockKeys)
	if b < 0 || n <= 0 {
		return
	}
	first += t.seq.key0
	if t.r1-t.r0 < tileRows/2 || !w.send(x, t.seq.batch, t.kvHead, first, first+n) {
		prefetchRows(w.level, x.row(t.seq.batch, t.kvHead, first), x.Stride[2], n, x.Shape[3])
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
