package kernel

import (
	"fmt"
	"unsafe"

	"github.com/quern-go/quern/asm"
)

// PairwiseDot measures many against many: dst[i·rows.Len()+j] becomes the dot product of the i-th query
// and the j-th row. It runs at the speed of fused multiply-adds, from about 16 queries on.
//
// Every product is one chain of fused multiply-adds over ascending elements, the rule of matrix
// products. A single query has the same bits as many, but other bits than [Dot] and [DotRows] give, which
// sum in 64 chains. Elements are converted to float32, int8 as well. The chain is then multiplied
// by the Scale of the row and by that of the query, where there are any. It may be -0.
//
// The error of a chain grows with its length: 2²⁵ ones give 2²⁴, because there one more is rounded away. A
// query by itself is better measured by [DotRows], which sums more exactly and is faster then.
//
// It allocates a copy of the queries as float32, up to twice their size, and up to 2 MiB for each worker.
// Fewer than 16 queries, if they are long, are not copied as a whole.
//
// It panics, before anything is read or written, if len(dst) is not queries.Len()·rows.Len(), if the
// Dims differ, if queries or rows name vectors that they do not have, if their sizes contradict each
// other, if the queries are more than memory can hold, or if o.Workers is negative. dst must not overlap them.
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
	p := pairwise{
		queries: newScan(measureDot, []float32(nil), &queries),
		rows:    newScan(measureDot, []float32(nil), &rows),
		dst:     dst,
		pitch:   roundUp(min(n, queriesHeld), panel),
	}
	if p.sharesPanels() {
		if !fits(roundUp(n, panel), rows.Dim) {
			panic(fmt.Sprintf("quern: PairwiseDot: queries has %d vectors of %d numbers, more than %d together",
				n, queries.Dim, maxNumbers))
		}
		p.packAll()
	}
	blocks := (count + blockRows - 1) / blockRows
	workers := workerCount(o.Workers, blocks)
	most := max(productsHeld/(p.pitch*blockRows), 1) // blocks of a task
	if workers > 1 {
		most = min(most, max(blocks/(tasksEach*workers), 1))
	}
	p.most = min(most*blockRows, count)
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
	queriesHeld  = 1024 // of a block
	productsHeld = queriesHeld * blockRows
	// pairDepth is the depth that is converted and packed at a time: 48 rows of it stay in the second-level cache.
	//
	// Zen 5, 8 queries and 40 rows of 16384 bfloat16, GFLOP/s with 1, 2, 4, 6 and 12 times maxDepth: 64, 56, 41, 33,
	// 24. But 8 queries and rows of 2048 float32, which are packed once with 2: 82, 87.
	pairDepth = 2 * maxDepth
)

// pairwise is a call of PairwiseDot. The queries are packed into panels, along which vectors run; the
// rows stay as they are, each number a factor for a vector of queries.
type pairwise struct {
	queries, rows scan
	dst           []float32
	pitch         int       // of a row of products
	most          int       // rows of a task
	panels        []float32 // of 32 queries each, dimension-major, or nil if workers pack them piece by piece
}

// sharesPanels reports that panels are packed once. Those of few and long queries would be mostly padding.
func (p *pairwise) sharesPanels() bool {
	return p.queries.count >= panel/2 || p.queries.dim <= pairDepth
}

func (p *pairwise) packAll() {
	dim := p.queries.dim
	p.panels = grow(nil, roundUp(p.queries.count, panel)*dim)
	part := p.queries.newPart(panel)
	for q := 0; q < p.queries.count; q += panel {
		for k := 0; k < dim; k += pairDepth {
			p.pack(at(p.panels, q*dim+k*panel), part, q, k)
		}
	}
}

// pack packs the next 32 queries, from one on, and the next piece of the depth.
func (p *pairwise) pack(dst *float32, part []float32, query, k int) {
	n, depth := min(panel, p.queries.count-query), min(pairDepth, p.queries.dim-k)
	src, stride := p.queries.floats(part, query, n, k, depth)
	asm.Transpose(p.queries.level, dst, panel, src, stride, n, depth)
}

// inPlace reports that rows are float32 and lie in order.
func (s *scan) inPlace() bool { return s.format == Float32 && s.index == nil }

// newPart is memory for a piece of the depth of up to n rows, or nil if floats needs none.
func (s *scan) newPart(n int) []float32 {
	if s.inPlace() {
		return nil
	}
	return make([]float32, min(n, s.count)*min(s.dim, pairDepth))
}

// floats returns some depth of n rows as float32, and the distance from one to the next.
func (s *scan) floats(part []float32, from, n, k, depth int) (*float32, int) {
	if s.inPlace() {
		return offset((*float32)(s.row(from)), k), s.stride
	}
	for i := range n {
		s.format.widen(s.level, &part[i*depth], unsafe.Add(s.row(s.id(from+i)), k*s.format.size()), depth)
	}
	return &part[0], depth
}

// pairwiseScratch is the memory of one worker.
type pairwiseScratch struct {
	tile     worker    // calls the product tile
	rows     []float32 // a piece of a block of rows as float32, unless they are already
	queries  []float32 // of the queries, unless they are
	panel    []float32 // a piece of the only panel, unless it is shared
	products []float32 // of a task, row by row, as many queries as are held
	last     []float32 // of its last few rows, query by query
}

func (p *pairwise) newScratch() *pairwiseScratch {
	s := &pairwiseScratch{
		products: grow(nil, p.most*p.pitch), last: grow(nil, p.pitch*lanes), rows: p.rows.newPart(blockRows),
	}
	s.tile.level, s.tile.ones = p.rows.level, make([]float32, blockRows)
	for i := range s.tile.ones {
		s.tile.ones[i] = 1
	}
	if p.panels == nil {
		s.queries, s.panel = p.queries.newPart(panel), grow(nil, panel*pairDepth)
	}
	return s
}

// task computes the products of all queries and the rows from one up to another.
func (p *pairwise) task(s *pairwiseScratch, from, to int) {
	for q := 0; q < p.queries.count; q += queriesHeld {
		p.products(s, q, min(queriesHeld, p.queries.count-q), from, to)
	}
}

// products computes those of n queries.
func (p *pairwise) products(s *pairwiseScratch, query, n, from, to int) {
	if p.panels == nil {
		p.chains(s, query, n, from, to, s.products) // a piece of the panel is packed once for all rows
	} else {
		for r := from; r < to; r += blockRows {
			p.chains(s, query, n, r, min(r+blockRows, to), s.products[(r-from)*p.pitch:])
		}
	}
	rows := to - from
	whole := rows / lanes * lanes
	for q := 0; q < n; q += lanes {
		some := min(lanes, n-q)
		asm.Transpose(p.rows.level, at(p.dst, (query+q)*p.rows.count+from), p.rows.count, at(s.products, q), p.pitch,
			whole, some)
		if whole < rows {
			asm.Transpose(p.rows.level, at(s.last, q*lanes), lanes, at(s.products, whole*p.pitch+q), p.pitch, rows-whole,
				some)
		}
	}
	for q := range n {
		products := p.dst[(query+q)*p.rows.count+from:][:rows]
		copy(products[whole:], s.last[q*lanes:])
		p.scaleProducts(products, query+q, from)
	}
}

// chains goes through the depth of some rows and n queries: piece by piece, if any are to be converted or packed.
func (p *pairwise) chains(s *pairwiseScratch, query, n, from, to int, products []float32) {
	dim, piece := p.rows.dim, pairDepth
	if p.panels != nil && p.rows.inPlace() {
		piece = dim
	}
	for k := 0; k < dim; k += piece {
		t := pairTile{n: n, depth: min(piece, dim-k), alpha: at(s.tile.ones, 0)} // the chains go on
		if k == 0 {
			t.alpha = nil
		}
		if p.panels != nil {
			t.panels = at(p.panels, query*dim+k*panel)
		} else {
			t.panels = at(s.panel, 0)
			p.pack(t.panels, s.queries, query, k)
		}
		for r := from; r < to; r += blockRows {
			t.rows = min(blockRows, to-r)
			t.a, t.stride = p.rows.floats(s.rows, r, t.rows, k, t.depth)
			t.products = at(products, (r-from)*p.pitch)
			if query+n == p.queries.count {
				p.fetch(s, r+t.rows)
			}
			p.block(s, &t)
		}
	}
}

// pairTile is a block of rows and some queries, over some depth.
type pairTile struct {
	rows, n, depth             int
	a, panels, products, alpha *float32
	stride                     int // of a
}

// block goes on with the chains of a tile, or begins them without alpha.
func (p *pairwise) block(s *pairwiseScratch, t *pairTile) {
	// What is read from further away goes by once: a tile of rows, or else all panels.
	together := rowTile
	if roundUp(t.n, panel)*t.depth > panelsHeld {
		together = t.rows
	}
	for r := 0; r < t.rows; r += together {
		for q := 0; q < t.n; q += panel {
			s.tile.product(offset(t.products, r*p.pitch+q), p.pitch, offset(t.a, r*t.stride), t.stride,
				offset(t.panels, q*p.rows.dim), t.depth,
				min(together, t.rows-r), min(panel, roundUp(t.n-q, lanes)), t.alpha)
		}
	}
}

// fetch asks for the block of rows that begins with one, if they are read from end to end.
func (p *pairwise) fetch(s *pairwiseScratch, row int) {
	rows := min(blockRows, p.rows.count-row)
	if rows > 0 && p.panels != nil && p.rows.inPlace() && p.rows.stride == p.rows.dim {
		s.tile.errands = s.tile.errands[:0]
		s.tile.errands.together(p.rows.row(row), rows*p.rows.dim*4)
	}
}

func (p *pairwise) scaleProducts(products []float32, query, row int) {
	if p.rows.scale != nil {
		for i := range products {
			products[i] *= p.rows.scale[p.rows.id(row+i)]
		}
	}
	if p.queries.scale != nil {
		scale := p.queries.scale[p.queries.id(query)]
		for i := range products {
			products[i] *= scale
		}
	}
}
