package main

import (
	"fmt"
	"slices"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// dot is a measure of two vectors of so many elements. Both lie in one piece of memory, which the limit
// reads from end to end: from L1 for short ones, from the cache they fit or, if the case is cold, from
// memory.
type dot struct {
	n      int
	format kernel.Format
	of     kernel.Metric
	cold   bool
}

func (d dot) String() string {
	from := size(d.bytes())
	if d.cold {
		from += ", cold"
	}
	return fmt.Sprintf("%s n=%d %v (%s)", measureName(d.of), d.n, d.format, from)
}

func measureName(m kernel.Metric) string {
	return [...]string{kernel.MetricDot: "dot", kernel.MetricSquaredL2: "squared L2", kernel.MetricCosine: "cosine"}[m]
}

func (d dot) bytes() int { return 2 * d.n * formatSize(d.format) }

func (d dot) prepare(int) *job {
	switch d.format {
	case kernel.BFloat16:
		return prepareDot(d, floatMeasure[kernel.BF16](d.of))
	case kernel.Float16:
		return prepareDot(d, floatMeasure[kernel.F16](d.of))
	case kernel.Int8:
		return prepareDot(d, dotInt8)
	}
	return prepareDot(d, floatMeasure[float32](d.of))
}

// floatMeasure calls a measure again and again, with nothing in between.
func floatMeasure[T kernel.Float](of kernel.Metric) func(x, y []T, calls int) float32 {
	switch of {
	case kernel.MetricSquaredL2:
		return func(x, y []T, calls int) (r float32) {
			for range calls {
				r = kernel.SquaredL2(x, y)
			}
			return r
		}
	case kernel.MetricCosine:
		return func(x, y []T, calls int) (r float32) {
			for range calls {
				r = kernel.Cosine(x, y)
			}
			return r
		}
	}
	return func(x, y []T, calls int) (r float32) {
		for range calls {
			r = kernel.Dot(x, y)
		}
		return r
	}
}

func dotInt8(x, y []int8, calls int) float32 {
	var r int64
	for range calls {
		r = kernel.DotInt8(x, y)
	}
	return float32(r) // exact below 2²⁴
}

func prepareDot[T kernel.Scalar](d dot, of func(x, y []T, calls int) float32) *job {
	both := elements[T](normal(1, 2*d.n))
	result := make([]float32, 1)
	j := &job{
		run:     func(calls int) { result[0] = of(both[:d.n], both[d.n:], calls) },
		output:  func() [][]float32 { return [][]float32{result} },
		maxErr:  func() float64 { return d.maxErr(result, widened(both)) },
		workers: 1,
		bytes:   d.bytes(),
		read:    measure.Stream(words(both), 1),
	}
	if d.format != kernel.Int8 {
		each := [...]float64{kernel.MetricDot: 2, kernel.MetricSquaredL2: 3, kernel.MetricCosine: 6}[d.of]
		j.flops = func() float64 { return each * float64(d.n) }
	}
	if d.cold {
		copies := copiesOf(both)
		j.run = func(calls int) {
			for range calls {
				both := copies.take()
				result[0] = of(both[:d.n], both[d.n:], 1)
			}
		}
		j.read, j.inputs = streamRing(copies, 1, words[T]), []inputs{copies}
	}
	return j
}

// maxErr is in units of Σ|x·y|, of the distance, or of 1 for the cosine.
func (d dot) maxErr(result, both []float32) float64 {
	x, y := both[:d.n], both[d.n:]
	want, scale := ref.Dot(x, y), ref.AbsDot(x, y)
	switch d.of {
	case kernel.MetricSquaredL2:
		want = ref.SquaredL2(x, y)
		scale = want
	case kernel.MetricCosine:
		want, scale = ref.Cosine(x, y), 1
	}
	return maxErr(result, []float64{want}, func(int) float64 { return scale })
}

// copiesOf is a ring with data and copies of it.
func copiesOf[T any](data []T) *ring[[]T] {
	first := true
	return &ring[[]T]{bytes: 4 * len(words(data)), copy: func() []T {
		if first {
			first = false
			return data
		}
		return slices.Clone(data)
	}}
}

// scan is a vector against many, cold. The limit reads the many.
type scan struct {
	count, dim int
	format     kernel.Format
	query      kernel.Format // Float32, or Int8 with rows alike
	gathered   bool          // rows in random order, each once
	best       int           // how many of the nearest are wanted, of all scores; 0 wants the scores
}

func (s scan) String() string {
	text := fmt.Sprintf("%d rows of %d %v", s.count, s.dim, s.format)
	if s.query != kernel.Float32 {
		text += fmt.Sprintf(", %v query", s.query)
	}
	if s.gathered {
		text += ", gathered"
	}
	if s.best > 0 {
		text += fmt.Sprintf(", best %d", s.best)
	}
	return text
}

func (s scan) prepare(workers int) *job {
	switch {
	case s.query == kernel.Int8:
		return prepareScan[int8, int8](s, workers)
	case s.format == kernel.BFloat16:
		return prepareScan[float32, kernel.BF16](s, workers)
	case s.format == kernel.Float16:
		return prepareScan[float32, kernel.F16](s, workers)
	case s.format == kernel.Int8:
		return prepareScan[float32, int8](s, workers)
	}
	return prepareScan[float32, float32](s, workers)
}

func prepareScan[Q, T kernel.Scalar](s scan, workers int) *job {
	q := elements[Q](normal(1, s.dim))
	data := elements[T](normal(2, s.count*s.dim))
	rows := kernel.RowsOf(data, s.dim)
	if s.gathered {
		rows = rows.Pick(permutation(s.count))
	}
	if s.format == kernel.Int8 {
		for i := range s.count {
			rows.Scale = append(rows.Scale, float32(1+i%7)/64)
		}
	}
	copies := copiesOf(data)
	scores, best := make([]float32, s.count), make([]kernel.Match, s.best)
	j := &job{
		run: func(calls int) {
			for range calls {
				r := rows
				r.Data = copies.take()
				if s.best > 0 {
					best = kernel.TopK(best, kernel.MetricDot, q, r, kernel.ScanOptions{Workers: workers})
				} else {
					kernel.DotRows(scores, q, r, kernel.ScanOptions{Workers: workers})
				}
			}
		},
		output: func() [][]float32 {
			if s.best == 0 {
				return [][]float32{scores}
			}
			return matches(best)
		},
		maxErr:  func() float64 { return scanErr(widened(q), &rows, scores, best) },
		workers: workers,
		bytes:   s.count * s.dim * formatSize(s.format),
		read:    streamRing(copies, workers, words[T]),
		inputs:  []inputs{copies},
	}
	if s.query == kernel.Float32 {
		j.flops = func() float64 { return 2 * float64(s.count) * float64(s.dim) }
	}
	return j
}

// matches is the scores and numbers of rows as output, which are below 2²⁴.
func matches(best []kernel.Match) [][]float32 {
	var scores, ids []float32
	for _, m := range best {
		scores, ids = append(scores, m.Score), append(ids, float32(m.ID))
	}
	return [][]float32{scores, ids}
}

// scanErr is the largest error in units of Σ|x·y|, of a sample of scores, or of the scores of the best
// and of what they ought to be.
func scanErr[T kernel.Scalar](q []float32, rows *kernel.Rows[T], scores []float32, best []kernel.Match) float64 {
	row := func(id int) (x []float32, scale float64) {
		x, scale = widened(rows.Data[id*rows.Dim:][:rows.Dim]), 1
		if rows.Scale != nil {
			scale = float64(rows.Scale[id])
		}
		return x, scale
	}
	worst := 0.0
	one := func(got float32, want float64, id int) {
		x, scale := row(id)
		worst = max(worst, maxErr([]float32{got}, []float64{want}, func(int) float64 { return scale * ref.AbsDot(q, x) }))
	}
	want := func(id int) float64 {
		x, scale := row(id)
		return scale * ref.Dot(q, x)
	}
	if len(best) == 0 {
		for _, i := range sample(len(scores)) {
			id := int(rows.ID(i))
			one(scores[i], want(id), id)
		}
		return worst
	}
	all := make([]float64, rows.Len())
	for id := range all {
		all[id] = want(id)
	}
	slices.Sort(all)
	for i, m := range best {
		one(m.Score, want(int(m.ID)), int(m.ID))
		one(m.Score, all[len(all)-1-i], int(m.ID))
	}
	return worst
}

// permutation is the numbers below n in random order.
func permutation(n int) []uint32 {
	p := make([]uint32, n)
	random := source(7)
	for i := range p {
		j := random.next() % uint64(i+1)
		p[i], p[j] = p[j], uint32(i)
	}
	return p
}

// pairwise is many vectors against many.
type pairwise struct{ queries, count, dim int }

func (p pairwise) String() string {
	return fmt.Sprintf("pairwise %d queries, %d rows of %d", p.queries, p.count, p.dim)
}

func (p pairwise) prepare(workers int) *job {
	q, data, products := normal(1, p.queries*p.dim), normal(2, p.count*p.dim), make([]float32, p.queries*p.count)
	return &job{
		run: func(calls int) {
			for range calls {
				kernel.PairwiseDot(products, kernel.RowsOf(q, p.dim), kernel.RowsOf(data, p.dim),
					kernel.ScanOptions{Workers: workers})
			}
		},
		output: func() [][]float32 { return [][]float32{products} },
		maxErr: func() float64 {
			worst := 0.0
			for _, i := range sample(len(products)) {
				x, y := q[i/p.count*p.dim:][:p.dim], data[i%p.count*p.dim:][:p.dim]
				worst = max(worst, maxErr(products[i:][:1], []float64{ref.Dot(x, y)}, func(int) float64 { return ref.AbsDot(x, y) }))
			}
			return worst
		},
		workers: workers,
		flops:   func() float64 { return 2 * float64(p.queries) * float64(p.count) * float64(p.dim) },
	}
}

// elements converts numbers to a type: to int8 times 20, which is below 127 for those of normal.
func elements[T kernel.Scalar](x []float32) []T {
	y := make([]T, len(x))
	switch y := any(y).(type) {
	case []float32:
		copy(y, x)
	case []kernel.BF16:
		kernel.Narrow(y, x)
	case []kernel.F16:
		kernel.Narrow(y, x)
	case []int8:
		for i := range x {
			y[i] = int8(20 * x[i])
		}
	}
	return y
}

// widened is the way back, without the factor.
func widened[T kernel.Scalar](x []T) []float32 {
	y := make([]float32, len(x))
	switch x := any(x).(type) {
	case []float32:
		copy(y, x)
	case []kernel.BF16:
		kernel.Widen(y, x)
	case []kernel.F16:
		kernel.Widen(y, x)
	case []int8:
		for i := range x {
			y[i] = float32(x[i])
		}
	}
	return y
}
