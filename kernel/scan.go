package kernel

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// ScanOptions are the options of [DotRows], [SquaredL2Rows], [CosineRows], [TopK] and [PairwiseDot]. The zero
// value runs on all cores.
type ScanOptions struct {
	// Workers is the number of goroutines that share the work, the caller's included. 0 means
	// runtime.GOMAXPROCS, and fewer for short scans. The result does not depend on it. The functions panic
	// if it is negative.
	Workers int
}

func (o ScanOptions) mustFit(function string) {
	if o.Workers < 0 {
		panic(fmt.Sprintf("quern: %s: ScanOptions.Workers is %d, want 0 or more", function, o.Workers))
	}
}

// DotRows sets dst[i] to the dot product of q and the i-th of rows: what [Dot] gives for the two,
// converted to float32 and, if rows has a Scale, multiplied by it.
//
// If q and rows are both int8, products are summed exactly, converted to float32 and then scaled.
// Otherwise, if q is not float32, it is converted in newly allocated memory.
//
// Rows are read in order, at the speed of memory; those that were picked are prefetched. With one worker it
// does not allocate.
//
// It panics, before anything is read or written, if len(dst) is not rows.Len(), if len(q) is not
// rows.Dim, if rows names vectors that it does not have, if the sizes within rows contradict each other, or
// if o.Workers is negative. dst must not overlap q or rows.
func DotRows[Q, T Scalar](dst []float32, q []Q, rows Rows[T], o ScanOptions) {
	scoreRows("DotRows", measureDot, dst, q, rows, o)
}

// SquaredL2Rows sets dst[i] to the squared distance of q and the i-th of rows: what [SquaredL2] gives for
// the two. With a Scale s, a term is (q - s·row)², the difference rounded once.
//
// If q and rows are both int8, without a Scale, sums are exact and then converted to float32. For the
// rest see [DotRows].
func SquaredL2Rows[Q, T Scalar](dst []float32, q []Q, rows Rows[T], o ScanOptions) {
	scoreRows("SquaredL2Rows", measureL2, dst, q, rows, o)
}

// CosineRows sets dst[i] to the cosine of the angle between q and the i-th of rows: what [Cosine] gives
// for the two, or [CosineInt8] if both are int8. A positive Scale changes no angle. A negative one turns the
// vector round, so the cosine changes its sign; 0 gives 0, and NaN or an infinity gives NaN.
//
// For the rest see [DotRows].
func CosineRows[Q, T Scalar](dst []float32, q []Q, rows Rows[T], o ScanOptions) {
	scoreRows("CosineRows", measureCosine, dst, q, rows, o)
}

func scoreRows[Q, T Scalar](function string, of measure, dst []float32, q []Q, rows Rows[T], o ScanOptions) {
	mustScan(function, len(q), &rows, o)
	if n := rows.Len(); n != len(dst) {
		panic(fmt.Sprintf("quern: %s: len(dst) is %d, rows has %d vectors", function, len(dst), n))
	}
	s := newScan(of, q, &rows)
	if workers := workerCount(o.Workers, s.tasks()); workers > 1 {
		shareScores(s, dst, workers)
		return
	}
	s.scores(dst, 0)
}

// mustScan panics unless a vector of n numbers can be measured against rows.
func mustScan[T Scalar](function string, n int, rows *Rows[T], o ScanOptions) {
	o.mustFit(function)
	rows.mustFit(function, "rows")
	if n != rows.Dim {
		panic(fmt.Sprintf("quern: %s: len(q) is %d, rows.Dim is %d", function, n, rows.Dim))
	}
}

// shareScores takes a copy of the scan, so that only this one is allocated.
func shareScores(s scan, dst []float32, workers int) {
	s.share(workers, func(_, from, to int) { s.scores(dst[from:to], from) })
}

const (
	scanRows  = 128     // most rows of one call of assembly
	taskBytes = 1 << 19 // what a worker takes at a time, more or less
	// Bytes of rows that lie between reading and prefetching, of rows in order and of others.
	//
	// Granite Rapids, 768 numbers out of 2 GiB, GB/s where plain reading gives 14.9: float32 14.4 without, 15.5 at 3
	// KiB, 14.5 at 12; bfloat16 12.3, 15.4 and 14.0; int8 10.2, 14.7 and 14.5.
	orderAhead = 3 << 10
	indexAhead = 12 << 10
)

// scan is one vector against many, without type parameters: all that its workers need.
type scan struct {
	level       isa.Level
	of          measure
	format      Format
	exact       bool // q and the rows are int8, sums integers
	q           unsafe.Pointer
	rows        unsafe.Pointer
	dim, stride int
	count       int
	index       []uint32
	scale       []float32
	norm        float32 // Σ q², for cosine
}

func newScan[Q, T Scalar](of measure, q []Q, rows *Rows[T]) scan {
	s := scan{
		level: isa.Active(), of: of, format: formatOf[T](),
		q: unsafe.Pointer(unsafe.SliceData(q)), rows: unsafe.Pointer(unsafe.SliceData(rows.Data)),
		dim: rows.Dim, stride: rows.pitch(), count: rows.Len(), index: rows.index, scale: rows.Scale,
	}
	from := formatOf[Q]()
	s.exact = from == Int8 && s.format == Int8 && (of != measureL2 || s.scale == nil)
	if from != Float32 && !s.exact {
		wide := make([]float32, s.dim)
		from.widen(s.level, unsafe.SliceData(wide), s.q, s.dim)
		s.q = unsafe.Pointer(unsafe.SliceData(wide))
	}
	if of == measureCosine && !s.exact {
		s.norm = Dot(unsafe.Slice((*float32)(s.q), s.dim), unsafe.Slice((*float32)(s.q), s.dim))
	}
	return s
}

// id returns which vector of the data row i is.
func (s *scan) id(i int) int {
	if s.index != nil {
		return int(s.index[i])
	}
	return i
}

// piece is what one call of assembly works on: some rows, or a part of a long one.
type piece struct {
	q, rows     unsafe.Pointer
	dim, count  int
	index, last *uint32 // nil for rows that lie in order
	ahead       int     // how far to prefetch: bytes of rows, or of index
	chains      *float32
	resume      int
	scale       float32
}

// whole makes p a piece of whole rows. It is written where it stays: copying it takes as long as a short row.
func (s *scan) whole(p *piece, i, count int) {
	p.q, p.dim, p.count, p.scale = s.q, s.dim, count, 1
	if s.index == nil {
		p.rows, p.ahead = s.row(i), orderAhead
	} else {
		p.rows, p.index, p.last = s.rows, &s.index[i], &s.index[len(s.index)-1]
		p.ahead = 4 * max(1, indexAhead/max(s.dim*s.format.size(), 1))
	}
}

func (s *scan) row(id int) unsafe.Pointer { return unsafe.Add(s.rows, id*s.stride*s.format.size()) }

// scores writes the scores of the rows from a first one on.
func (s *scan) scores(dst []float32, from int) {
	step := max(1, min(scanRows, budget.Scanned/max(s.dim, 1)))
	for len(dst) > 0 {
		n := min(len(dst), step)
		switch {
		case s.exact:
			s.exactScores(dst[:n], from)
		case s.dim > budget.Scanned || s.of == measureL2 && s.scale != nil:
			for i := range n {
				dst[i] = s.oneScore(s.id(from + i))
			}
		default:
			s.floatScores(dst[:n], from)
		}
		if s.scale != nil {
			s.scaleScores(dst[:n], from)
		}
		dst, from = dst[n:], from+n
	}
}

// scaleScores is what the scales of rows do to products, all, and to cosines, by their signs alone.
func (s *scan) scaleScores(dst []float32, from int) {
	switch s.of {
	case measureDot:
		for i := range dst {
			dst[i] *= s.scale[s.id(from+i)]
		}
	case measureCosine:
		for i := range dst {
			dst[i] = float32(dst[i]*sign(s.scale[s.id(from+i)])) + 0
		}
	}
}

// sign is what a factor of a vector does to its cosine: 1, -1, 0, or NaN if the vector is NaN then.
func sign(scale float32) float32 {
	switch {
	case scale > 0 && scale <= math.MaxFloat32:
		return 1
	case scale < 0 && scale >= -math.MaxFloat32:
		return -1
	}
	return scale * 0
}

// floatScores measures whole rows.
func (s *scan) floatScores(dst []float32, from int) {
	var p piece
	s.whole(&p, from, len(dst))
	if s.of != measureCosine {
		s.run(&dst[0], &p)
		return
	}
	var sums [2 * scanRows]float32
	var chains [2 * 64]float32
	p.chains = &chains[0]
	s.run(&sums[0], &p)
	for i := range dst {
		if xy, yy := sums[2*i], sums[2*i+1]; usual(xy, s.norm, yy) {
			dst[i] = ratio(float64(xy), float64(s.norm), float64(yy))
		} else {
			dst[i] = s.rareCosine(xy, yy, s.id(from+i))
		}
	}
}

// rareCosine is for a row whose sums are not the usual ones.
func (s *scan) rareCosine(xy, yy float32, id int) float32 {
	return rareCosine(s.level, xy, s.norm, yy, vector{Float32, s.q}, vector{s.format, s.row(id)}, s.dim)
}

// oneScore measures one row, however long, and with its own scale.
func (s *scan) oneScore(id int) float32 {
	var sums [2]float32
	var chains [2 * 64]float32
	p := piece{q: s.q, rows: s.row(id), count: 1, chains: &chains[0], scale: 1}
	if s.scale != nil {
		p.scale = s.scale[id]
	}
	for left := s.dim; ; p.resume = 1 {
		p.dim = min(left, budget.Scanned)
		s.run(&sums[0], &p)
		if left -= p.dim; left == 0 {
			break
		}
		p.q, p.rows = unsafe.Add(p.q, 4*p.dim), unsafe.Add(p.rows, p.dim*s.format.size())
	}
	if s.of != measureCosine {
		return sums[0]
	}
	if xy, yy := sums[0], sums[1]; usual(xy, s.norm, yy) {
		return ratio(float64(xy), float64(s.norm), float64(yy))
	}
	return s.rareCosine(sums[0], sums[1], id)
}

// run calls the kernel for the measure and the type of rows.
func (s *scan) run(dst *float32, p *piece) {
	// Rows are converted where their type is known: a pointer to something larger may reach behind them.
	switch s.of {
	case measureDot:
		switch s.format {
		case Float32:
			asm.DotRowsF32(s.level, dst, (*float32)(p.q), (*float32)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		case BFloat16:
			asm.DotRowsBF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		case Float16:
			asm.DotRowsF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume)
		case Int8:
			asm.DotRowsInt8(s.level, dst, (*float32)(p.q), (*int8)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume)
		}
	case measureL2:
		switch s.format {
		case Float32:
			asm.L2RowsF32(s.level, dst, (*float32)(p.q), (*float32)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume, p.scale)
		case BFloat16:
			asm.L2RowsBF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume, p.scale)
		case Float16:
			asm.L2RowsF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume, p.scale)
		case Int8:
			asm.L2RowsInt8(s.level, dst, (*float32)(p.q), (*int8)(p.rows), p.dim, s.stride, p.count, p.index, p.last,
				p.ahead, p.chains, p.resume, p.scale)
		}
	case measureCosine:
		switch s.format {
		case Float32:
			asm.CosineRowsF32(s.level, dst, (*float32)(p.q), (*float32)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		case BFloat16:
			asm.CosineRowsBF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		case Float16:
			asm.CosineRowsF16(s.level, dst, (*float32)(p.q), (*uint16)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		case Int8:
			asm.CosineRowsInt8(s.level, dst, (*float32)(p.q), (*int8)(p.rows), p.dim, s.stride, p.count, p.index,
				p.last, p.ahead, p.chains, p.resume)
		}
	}
}

// exactScores measures rows of int8 against an int8 q.
func (s *scan) exactScores(dst []float32, from int) {
	if s.dim > intChunk {
		q := unsafe.Slice((*int8)(s.q), s.dim)
		for i := range dst {
			dst[i] = s.fromInts(intPair(s.of, q, unsafe.Slice((*int8)(s.row(s.id(from+i))), s.dim)))
		}
		return
	}
	var sums [3 * scanRows]int32
	var p piece
	s.whole(&p, from, len(dst))
	intStep(s.level, s.of, &sums[0], (*int8)(p.q), (*int8)(p.rows), p.dim, s.stride, p.count, p.index, p.last, p.ahead)
	for i := range dst {
		if s.of == measureCosine {
			dst[i] = s.fromInts([3]int64{int64(sums[3*i]), int64(sums[3*i+1]), int64(sums[3*i+2])})
		} else {
			dst[i] = float32(sums[i])
		}
	}
}

func (s *scan) fromInts(sums [3]int64) float32 {
	if s.of == measureCosine {
		return intCosine(sums[0], sums[2], sums[1])
	}
	return float32(sums[0])
}

// taskRows is the number of rows that a worker takes at a time.
func (s *scan) taskRows() int { return max(1, taskBytes/max(s.dim*s.format.size(), 1)) }

func (s *scan) tasks() int { return (s.count + s.taskRows() - 1) / s.taskRows() }

// share splits the rows between workers: work gets the number of its worker and a range of rows.
func (s *scan) share(workers int, work func(worker, from, to int)) {
	each := s.taskRows()
	new(crew).run(workers, s.tasks(), func(worker, task int) { work(worker, task*each, min((task+1)*each, s.count)) })
}

// HammingRows sets dst[i] to the number of bits in which q and the i-th code differ. The codes lie one
// after the other, each len(q) words long. It panics if len(codes) is not len(q)·len(dst). It runs on the
// caller's goroutine alone and does not allocate.
func HammingRows(dst []int32, q, codes []uint64) {
	if !equalsProduct(len(codes), len(q), len(dst), 1) {
		panic(fmt.Sprintf("quern: HammingRows: len(codes) is %d, len(q) is %d, len(dst) is %d", len(codes), len(q),
			len(dst)))
	}
	if len(q) > budget.Numbers {
		for i := range dst {
			dst[i] = int32(Hamming(q, codes[i*len(q):(i+1)*len(q)]))
		}
		return
	}
	if len(q) == 0 {
		clear(dst)
		return
	}
	level, step := isa.Active(), max(1, budget.Scanned/2/len(q))
	for len(dst) > 0 {
		n := min(len(dst), step)
		asm.HammingRows(level, &dst[0], &q[0], &codes[0], len(q), len(q), n, nil, nil, orderAhead)
		dst, codes = dst[n:], codes[n*len(q):]
	}
}
