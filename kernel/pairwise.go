package kernel

import (
	"fmt"

	"github.com/quern-go/quern/asm"
)

// PairwiseDot measures many against many: dst[i·rows.Len()+j] becomes the dot product of the i-th query
// and the j-th row. It runs at the speed of fused multiply-adds, from about 16 queries on.
//
// Every product is one chain of fused multiply-adds over ascending elements, the rule of matrix
// products, and so has other bits than [Dot] and [DotRows], which sum in 64 chains; a single query has
// the same bits as many. Elements are converted to float32, int8 as well. The chain is then multiplied
// by the Scale of the row and by that of the query, where there are any. It may be -0.
//
// It allocates a copy of the queries, and scratch for each worker.
//
// It panics, before anything is read or written, if len(dst) is not queries.Len()·rows.Len(), if the
// Dims differ, if an index is out of range, if the sizes within queries or rows contradict each other, or
// if the queries, each as often as Index names it, are more than memory can hold. dst must not overlap them.
func PairwiseDot[Q, T Scalar](dst []float32, queries Rows[Q], rows Rows[T], o ScanOptions) {
	o.mustFit("PairwiseDot")
	queries.mustFit("PairwiseDot", "queries")
	rows.mustFit("PairwiseDot", "rows")
	if queries.Dim != rows.Dim {
		panic(fmt.Sprintf("quern: PairwiseDot: queries.Dim is %d, rows.Dim is %d", queries.Dim, rows.Dim))
	}
	n, count := queries.Len(), rows.Len()
	if !equalsProduct(len(dst), n, count, 1) {
		panic(fmt.Sprintf("quern: PairwiseDot: len(dst) is %d, queries has %d vectors, rows has %d", len(dst), n, count))
	}
	if len(dst) == 0 {
		return
	}
	if !fits(max(roundUp(n, panel), blockRows), max(rows.Dim, blockRows)) {
		panic(fmt.Sprintf("quern: PairwiseDot: queries has %d vectors of %d numbers, more than %d together", n, queries.Dim, maxNumbers))
	}
	p := pairwise{rows: newScan(measureDot, []float32(nil), &rows), dst: dst, queries: n}
	p.packQueries(newScan(measureDot, []float32(nil), &queries))
	blocks := (count + blockRows - 1) / blockRows
	workers := workerCount(o.Workers, blocks)
	most := max(productsHeld/(roundUp(n, panel)*blockRows), 1) // blocks of a task
	if workers > 1 {
		most = min(most, max(blocks/(tasksEach*workers), 1))
	}
	p.most = most * blockRows
	scratch := make([]*pairwiseScratch, workers)
	for w := range scratch {
		scratch[w] = p.newScratch()
	}
	new(crew).run(workers, (count+p.most-1)/p.most, func(w, task int) {
		p.task(scratch[w], task*p.most, min((task+1)*p.most, count))
	})
}

const (
	// blockRows is the number of rows whose products are computed together: as many as the next ones can be
	// fetched meanwhile, and a multiple of the rows of a tile and of those of a square.
	blockRows = 48
	// panelsHeld is how many numbers of panels stay in the cache while rows pass by, and productsHeld how many products
	// do, so that they go out to memory in long runs: lines to be written that are not in the cache take as long as
	// those to be read.
	panelsHeld   = 128 << 10
	productsHeld = 48 << 10
)

// pairwise is a call of PairwiseDot. The queries are packed into panels, along which vectors run; the
// rows stay as they are, each number a factor for a vector of queries.
type pairwise struct {
	rows    scan
	dst     []float32
	queries int
	most    int       // rows of a task
	panels  []float32 // of 32 queries each, dimension-major
	scale   []float32 // of the queries in their order, or nil
}

// packQueries copies the queries.
func (p *pairwise) packQueries(q scan) {
	size := q.dim * panel
	p.panels = grow(nil, (q.count+panel-1)/panel*size)
	part := make([]float32, size)
	for i := 0; i < q.count; i += panel {
		n := min(panel, q.count-i)
		q.gather(part, i, n)
		for d := 0; d < q.dim; d += chunk / panel { // calls of less than 50 µs
			asm.Transpose(q.level, at(p.panels, i/panel*size+d*panel), panel, at(part, d), q.dim, n, min(chunk/panel, q.dim-d))
		}
	}
	if q.scale != nil {
		for i := range q.count {
			p.scale = append(p.scale, q.scale[q.id(i)])
		}
	}
}

// gather copies n rows as float32, one after the other.
func (s *scan) gather(dst []float32, from, n int) {
	for i := range n {
		s.format.widen(s.level, &dst[i*s.dim], s.row(s.id(from+i)), s.dim)
	}
}

// pairwiseScratch is the memory of one worker.
type pairwiseScratch struct {
	tile     worker    // calls the product tile
	rows     []float32 // a block of rows as float32, unless they are already
	products []float32 // of a task, row by row, all queries
	last     []float32 // of its last few rows, query by query
}

func (p *pairwise) newScratch() *pairwiseScratch {
	pitch := roundUp(p.queries, panel)
	s := &pairwiseScratch{products: grow(nil, p.most*pitch), last: grow(nil, pitch*lanes)}
	s.tile.level, s.tile.ones = p.rows.level, make([]float32, blockRows)
	for i := range s.tile.ones {
		s.tile.ones[i] = 1
	}
	if p.rows.format != Float32 || p.rows.index != nil {
		s.rows = make([]float32, blockRows*p.rows.dim)
	}
	return s
}

// task computes the products of all queries and the rows from one up to another.
func (p *pairwise) task(s *pairwiseScratch, from, to int) {
	pitch := roundUp(p.queries, panel)
	for r := from; r < to; r += blockRows {
		p.block(s, at(s.products, (r-from)*pitch), pitch, r, min(r+blockRows, to))
	}
	n := to - from
	whole := n / lanes * lanes
	for q := 0; q < p.queries; q += lanes {
		some := min(lanes, p.queries-q)
		asm.Transpose(p.rows.level, at(p.dst, q*p.rows.count+from), p.rows.count, at(s.products, q), pitch, whole, some)
		if whole < n {
			asm.Transpose(p.rows.level, at(s.last, q*lanes), lanes, at(s.products, whole*pitch+q), pitch, n-whole, some)
		}
	}
	for q := range p.queries {
		products := p.dst[q*p.rows.count+from:][:n]
		copy(products[whole:], s.last[q*lanes:])
		p.scaleProducts(products, q, from)
	}
}

// block computes those of a block of rows.
func (p *pairwise) block(s *pairwiseScratch, products *float32, pitch, from, to int) {
	dim, n := p.rows.dim, to-from
	a, stride := (*float32)(p.rows.row(from)), p.rows.stride
	if s.rows != nil {
		p.rows.gather(s.rows, from, n)
		a, stride = &s.rows[0], dim
	} else if more := min(n, p.rows.count-to); more > 0 && stride == dim {
		s.tile.errands = s.tile.errands[:0]
		s.tile.errands.together(p.rows.row(to), more*dim*4)
	}
	// What is read from further away goes by once: a tile of rows, or else all panels.
	together := rowTile
	if len(p.panels) > panelsHeld {
		together = n
	}
	for r := 0; r < n; r += together {
		for q := 0; q < p.queries; q += panel {
			s.tile.product(offset(products, r*pitch+q), pitch, offset(a, r*stride), stride, at(p.panels, q*dim), dim,
				min(together, n-r), min(panel, roundUp(p.queries-q, lanes)), nil)
		}
	}
}

func (p *pairwise) scaleProducts(products []float32, query, row int) {
	if p.rows.scale != nil {
		for i := range products {
			products[i] *= p.rows.scale[p.rows.id(row+i)]
		}
	}
	if p.scale != nil {
		for i := range products {
			products[i] *= p.scale[query]
		}
	}
}
