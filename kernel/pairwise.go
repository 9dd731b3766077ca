package kernel

import (
	"fmt"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// PairwiseDot measures many against many: dst[i·rows.Len()+j] becomes the dot product of the i-th query
// and the j-th row. It runs at the speed of fused multiply-adds, from about 16 queries on.
//
// Every product is one chain of fused multiply-adds over ascending elements, the rule of matrix
// products, and so has other bits than [Dot] and [DotRows], which sum in 64 chains; a single query has
// the same bits as many. Elements are converted to float32, int8 as well. The chain is then multiplied
// by the Scale of the row and by that of the query, where there are any. It may be -0.
//
// Up to workers goroutines share the rows, as many as GOMAXPROCS if workers is 0 or less; the bits do
// not depend on it. It allocates a copy of the queries, and scratch for each worker.
//
// It panics, before anything is read or written, if len(dst) is not queries.Len()·rows.Len(), if the
// Dims differ, if an index is out of range, if the sizes within queries or rows contradict each other, or
// if the queries, each as often as Index names it, are more than memory can hold. dst must not overlap them.
func PairwiseDot[Q, T Scalar](dst []float32, queries Rows[Q], rows Rows[T], workers int) {
	queries.mustFit("PairwiseDot", queries.Dim)
	rows.mustFit("PairwiseDot", queries.Dim)
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
	tasks := (count + blockRows - 1) / blockRows
	scratch := make([]*pairwiseScratch, workerCount(workers, tasks))
	for w := range scratch {
		scratch[w] = p.newScratch()
	}
	new(crew).run(len(scratch), tasks, func(w, task int) {
		p.block(scratch[w], task*blockRows, min((task+1)*blockRows, count))
	})
}

// blockRows is the number of rows whose products are computed together: three panels, and a multiple of
// the rows of a tile.
const blockRows = 3 * panel

// pairwise is a call of PairwiseDot. The queries are packed into panels, along which vectors run; the
// rows stay as they are, each number a factor for a vector of queries.
type pairwise struct {
	rows    scan
	dst     []float32
	queries int
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
		packPanel(q.level, at(p.panels, i/panel*size), &part[0], q.dim, n, q.dim)
	}
	if q.scale != nil {
		for i := range q.count {
			p.scale = append(p.scale, q.scale[q.id(i)])
		}
	}
}

// packPanel is asm.PackPanel for rows of any length, in calls of less than 50 µs.
func packPanel(level isa.Level, dst, src *float32, stride, rows, cols int) {
	const most = chunk / panel
	for c := 0; c < cols; c += most {
		asm.PackPanel(level, offset(dst, c*panel), offset(src, c), stride, rows, min(most, cols-c))
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
	tile       worker    // calls the product tile
	rows       []float32 // a block of rows as float32, unless they are already
	products   []float32 // row by row, all queries
	transposed []float32 // query by query, 32 rows
}

func (p *pairwise) newScratch() *pairwiseScratch {
	pitch := roundUp(p.queries, panel)
	s := &pairwiseScratch{products: grow(nil, blockRows*pitch), transposed: grow(nil, pitch*panel)}
	s.tile.level, s.tile.ones = p.rows.level, make([]float32, blockRows)
	for i := range s.tile.ones {
		s.tile.ones[i] = 1
	}
	if p.rows.format != Float32 || p.rows.index != nil {
		s.rows = make([]float32, blockRows*p.rows.dim)
	}
	return s
}

// block computes the products of all queries and the rows from one up to another.
func (p *pairwise) block(s *pairwiseScratch, from, to int) {
	dim, pitch, n := p.rows.dim, roundUp(p.queries, panel), to-from
	a, stride := (*float32)(p.rows.row(from)), p.rows.stride
	if s.rows != nil {
		p.rows.gather(s.rows, from, n)
		a, stride = &s.rows[0], dim
	} else if more := min(n, p.rows.count-to); more > 0 && stride == dim {
		s.tile.errands = append(s.tile.errands[:0], errand{p.rows.row(to), more * dim * 4})
	}
	for q := 0; q < p.queries; q += panel {
		s.tile.product(at(s.products, q), pitch, a, stride, at(p.panels, q*dim), dim, n, min(panel, roundUp(p.queries-q, lanes)), nil)
	}
	for r := 0; r < n; r += panel {
		some := min(panel, n-r)
		packPanel(p.rows.level, &s.transposed[0], at(s.products, r*pitch), pitch, some, p.queries)
		for q := range p.queries {
			to := p.dst[q*p.rows.count+from+r:][:some]
			copy(to, s.transposed[q*panel:])
			p.scaleProducts(to, q, from+r)
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
