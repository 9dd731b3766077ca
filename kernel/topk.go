package kernel

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Metric says what makes vectors near to each other.
type Metric uint8

// The metrics. The score of a [Match] is what is compared: a product, a distance or a cosine.
const (
	MetricDot       Metric = iota // the larger the dot product, the nearer
	MetricSquaredL2               // the smaller the distance, the nearer
	MetricCosine                  // the larger the cosine, the nearer
)

// Match is a vector and its score.
type Match struct {
	ID    uint32 // its number in Rows.Data
	Score float32
}

// TopK finds the len(dst) vectors of rows that are nearest to q and writes them to dst, the nearest
// first: those with the largest scores, or with [MetricSquaredL2], the smallest. Scores are those of
// [DotRows], [SquaredL2Rows] and [CosineRows]; they are compared on the way and not stored. Of equal
// scores the lower ID comes first; NaN comes last.
//
// It returns the part of dst that it has filled: min(len(dst), rows.Len()) matches, and so none if dst is empty or
// nil. A vector that was picked twice is found twice.
//
// With one worker it allocates as [DotRows] does, with more, 8 bytes for each of len(dst) and worker. The
// result does not depend on how many there are.
//
// It panics if metric is unknown, for more than 2³² vectors, and for q, rows and o as [DotRows] does, also if dst
// is empty.
func TopK[Q, T Scalar](dst []Match, metric Metric, q []Q, rows Rows[T], o ScanOptions) []Match {
	mustScan("TopK", len(q), &rows, o)
	rows.mustCount("TopK", "rows")
	if metric > MetricCosine {
		panic(fmt.Sprintf("quern: TopK: metric is %d, want at most %d", metric, MetricCosine))
	}
	if len(dst) == 0 {
		return dst
	}
	s := newScan(measure(metric), q, &rows)
	best := selection{matches: dst[:0:len(dst)], metric: metric}
	if workers := workerCount(o.Workers, s.tasks()); workers > 1 {
		shareSelection(s, &best, workers)
	} else {
		best.scan(&s, 0, s.count)
	}
	slices.SortFunc(best.matches, best.compare)
	return best.matches
}

// shareSelection takes a copy of the scan, so that only this one is allocated.
func shareSelection(s scan, best *selection, workers int) {
	parts := make([]selection, workers)
	for w := range parts {
		parts[w] = selection{matches: make([]Match, 0, min(cap(best.matches), s.count)), metric: best.metric}
	}
	s.share(workers, func(worker, from, to int) { parts[worker].scan(&s, from, to) })
	for _, p := range parts {
		for _, m := range p.matches {
			best.offer(m)
		}
	}
}

// selection keeps the best matches so far, as many as there is capacity, in a heap whose first is the
// worst.
type selection struct {
	matches []Match
	metric  Metric
}

// compare orders matches: by score, then by ID, NaN last. It is total, so that neither the order of the
// rows nor the number of workers matters.
func (b *selection) compare(x, y Match) int {
	if c := cmp.Compare(b.rank(x.Score), b.rank(y.Score)); c != 0 {
		return c
	}
	return cmp.Compare(x.ID, y.ID)
}

// rank maps scores to integers, the better the lower. Both zeros are 0.
func (b *selection) rank(score float32) int64 {
	if score != score {
		return math.MaxInt64
	}
	r := int64(int32(math.Float32bits(score)))
	if r < 0 {
		r = math.MinInt32 - r // the negative numbers are in reverse order
	}
	if b.metric != MetricSquaredL2 {
		r = -r
	}
	return r
}

// scan offers all rows from one up to another.
func (b *selection) scan(s *scan, from, to int) {
	var scores [scanRows]float32
	for from < to {
		some := scores[:min(scanRows, to-from)]
		s.scores(some, from)
		for i := 0; i < len(some); i++ {
			if i = b.skip(some, i); i < len(some) {
				b.offer(Match{ID: uint32(s.id(from + i)), Score: some[i]})
			}
		}
		from += len(some)
	}
}

// skip returns the first index from i on whose score may be better than the worst: the common case in
// few instructions.
func (b *selection) skip(scores []float32, i int) int {
	if len(b.matches) < cap(b.matches) {
		return i
	}
	worst := b.matches[0].Score
	if b.metric == MetricSquaredL2 {
		for i < len(scores) && scores[i] > worst {
			i++
		}
		return i
	}
	for i < len(scores) && scores[i] < worst {
		i++
	}
	return i
}

// offer adds a match if there is room or the worst is worse.
func (b *selection) offer(m Match) {
	h := b.matches
	if len(h) < cap(h) {
		i := len(h)
		h = append(h, m)
		for i > 0 && b.compare(h[(i-1)/2], m) < 0 {
			h[i] = h[(i-1)/2]
			i = (i - 1) / 2
		}
		h[i] = m
		b.matches = h
		return
	}
	if b.compare(m, h[0]) >= 0 {
		return
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && b.compare(h[child+1], h[child]) > 0 {
			child++
		}
		if b.compare(h[child], m) <= 0 {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = m
}
