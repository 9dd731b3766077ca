package kernel

import (
	"math"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
)

// The second part of the strided pattern shows a row one key in every stride, for which a block of keys would
// be computed in vain. So rows are taken in another order: queries whose positions leave the same rest by the
// stride, a class, see the same keys and go together. Their scores are one product with a few gathered
// keys, transposed, so that the vector runs over queries. Blocks, their maxima and α stay what they are,
// because bits depend on them. Blocks that hold keys of the first part are taken as always.

const (
	minStride = 16 // of those that are treated like this
	classRows = 16 // most queries of a class in a tile: columns of its scores
)

// strides says how a group whose mask is strided is divided into tiles.
type strides struct {
	strided
	width   int // classes of a tile
	classes int // tiles that all classes take
	first   int // number of the first stride in which queries stand
	count   int // of strides
}

// strides reports how the group of a sequence and a key/value head is divided, if its mask is strided.
func (p *Plan) strides(seq *sequence, kvHead int) (s strides, ok bool) {
	v := seq.visible
	if heads, each := v.(perHead); each && p.group == 1 {
		v = heads.of(kvHead)
	}
	m, ok := v.(strided)
	if !ok || m.stride < minStride || m.offset < 0 || seq.keyOffset != 0 || seq.queries == 0 || !p.changes.none() || p.into != nil {
		return s, false
	}
	// It gathers rows as they lie in tensors.
	if t := &p.tensors; seq.cache != nil || t.q.format != Float32 || t.k.format != Float32 || t.v.format != Float32 {
		return s, false
	}
	s = strides{strided: m, width: min((rowTile+p.group-1)/p.group, m.stride)}
	s.classes = (m.stride + s.width - 1) / s.width
	s.first = m.offset / m.stride
	s.count = (m.offset+seq.queries-1)/m.stride - s.first + 1
	return s, fits(s.rows(p.group), blockKeys+roundUp(max(p.shape.Dim, p.shape.ValueDim), lanes))
}

func (s *strides) tiles() int { return s.classes * ((s.count + classRows - 1) / classRows) }

// rows is how many a tile has.
func (s *strides) rows(group int) int { return s.width * classRows * group }

// keys is the most that a query sees of a span in the second part.
func (s *strides) keys() int { return (spanKeys + s.stride - 1) / s.stride }

// lanes is how many of the 16 lanes of a sum these keys fall into, in turn.
func (s *strides) lanes() int {
	n := 1
	for s.stride*n%lanes != 0 {
		n++
	}
	return n
}

// stridedTile is a tile of such a group, and its scratch. A matrix of it has a row for each key and a column
// for each query: class by class, head by head, and in the order of their positions.
type stridedTile struct {
	strides
	t        *tile
	class    int // the first
	segments []segment
	columns  int
	span     [rowTile]spanOfClass // the span at hand, by class

	q, k, v         []float32 // Q' as panels; gathered keys and values, class by class
	s, alpha        []float32 // matrices
	max, shift, sum []float32 // of columns; sum has a row for each lane in use
}

// spanOfClass is what is seen of a span, apart from near blocks.
type spanOfClass struct {
	first int            // number of the first key
	seen  [classRows]int // how many keys the query of each segment sees
	most  int            // the largest of seen
}

// segment is the queries of a tile that stand in the same stride: they are side by side, and a tile by
// themselves.
type segment struct {
	tile
	position  int // of the first class, whether or not there is a query
	near, end int // the keys of the blocks that are taken as always
}

func (d *stridedTile) size(s strides, shape Shape, group int) {
	columns, keys := s.rows(group), s.keys()
	d.q = grow(d.q, roundUp(columns, panel)*shape.Dim)
	d.k = grow(d.k, s.width*keys*roundUp(shape.Dim, lanes))
	d.v = grow(d.v, s.width*keys*roundUp(shape.ValueDim, lanes))
	d.s, d.alpha = grow(d.s, keys*columns), grow(d.alpha, keys*columns)
	d.max, d.shift, d.sum = grow(d.max, columns), grow(d.shift, columns), grow(d.sum, s.lanes()*columns)
	if d.segments == nil {
		d.segments = make([]segment, classRows)
	}
}

// eachStrided calls f for every group that is divided like this.
func (p *Plan) eachStrided(f func(strides)) {
	for i := range p.sequences {
		for kvHead := range p.shape.KVHeads {
			if s, ok := p.strides(&p.sequences[i], kvHead); ok {
				f(s)
			}
		}
	}
}

// begin makes d tile number of a group, of which t is any. The last strides, which see most, come first.
func (d *stridedTile) begin(s strides, t *tile, number int) {
	group := t.p.group
	d.size(s, t.p.shape, group)
	d.strides, d.t = s, t
	d.class = number % s.classes * s.width
	d.width = min(s.width, s.stride-d.class)
	d.columns = d.width * group * classRows
	first := ((s.count-1)/classRows - number/s.classes) * classRows
	d.segments = d.segments[:min(classRows, s.count-first)]
	for x := range d.segments {
		g := &d.segments[x]
		g.tile = *t
		g.position = (s.first+first+x)*s.stride + d.class
		i0 := min(max(g.position-s.offset, 0), t.seq.queries)
		i1 := min(max(g.position+d.width-s.offset, i0), t.seq.queries)
		g.r0, g.r1 = i0*group, i1*group
		g.row = (x*d.width + i0 + s.offset - g.position) * group
		if g.near, g.end = 0, 0; i0 < i1 {
			g.end = min(i1+s.offset, t.seq.keys)
			if g.near = g.end; s.near {
				g.near = min(max(i0+s.offset-s.stride, 0)/blockKeys*blockKeys, g.end)
			}
		}
	}
}

// number is that of the first key of a class which is not before a key: key number n is at n·stride + class.
func (d *stridedTile) number(class, key int) int {
	return max(0, (key-class+d.stride-1)/d.stride)
}

// look sets what is seen of the span from a key on, and returns the most that any query sees.
func (d *stridedTile) look(from int) (most int) {
	for c := range d.width {
		class, s := d.class+c, &d.span[c]
		s.first, s.most, s.seen = d.number(class, from), 0, [classRows]int{}
		for x := range d.segments {
			g := &d.segments[x]
			if p := g.position + c; p >= d.offset && p-d.offset < d.t.seq.queries {
				s.seen[x] = max(0, d.number(class, min(p+1, g.near, from+spanKeys))-s.first)
				s.most = max(s.most, s.seen[x])
			}
		}
		most = max(most, s.most)
	}
	return most
}

// in is what is seen of a class, and row where its first key and value are gathered.
func (d *stridedTile) in(class int) *spanOfClass { return &d.span[class-d.class] }
func (d *stridedTile) row(class int) int         { return (class - d.class) * d.keys() }

// column is that of a class and head.
func (d *stridedTile) column(class, head int) int {
	return ((class-d.class)*d.t.p.group + head) * classRows
}

// local is where in the worker's memory the row of a segment, class and head is.
func (d *stridedTile) local(x, class, head int) int {
	return (x*d.width+class-d.class)*d.t.p.group + head
}

// runStrided computes all of w.far.
func (w *worker) runStrided() {
	d := &w.far
	w.untouched = false // O is cleared below
	end := 0
	for x := range d.segments {
		if g := &d.segments[x]; g.r0 < g.r1 {
			w.loadQueries(&g.tile)
			w.closed.reset(g.row, g.r1-g.r0, w.valuePitch)
			end = max(end, g.end)
		}
	}
	for c := range d.width * w.group {
		// Half of a panel for each class and head.
		asm.Transpose(w.level, at(d.q, c/2*panel*w.dim+c%2*lanes), panel, at(w.q, c*w.dimPitch),
			d.width*w.group*w.dimPitch, len(d.segments), w.dim)
	}
	for from := 0; from < end; from += spanKeys {
		for x := range d.segments {
			if g := &d.segments[x]; g.r0 < g.r1 {
				w.state.reset(g.row, g.r1-g.r0, w.valuePitch)
			}
		}
		w.farKeys(from)
		for x := range d.segments {
			g := &d.segments[x]
			if g.end <= from {
				continue
			}
			for b := (max(g.near, from) + blockKeys - 1) / blockKeys; b*blockKeys < min(g.end, from+spanKeys); b++ {
				w.block(&g.tile, b)
			}
			w.closeRows(g.row, g.r1-g.r0)
		}
	}
	for x := range d.segments {
		if g := &d.segments[x]; g.r0 < g.r1 {
			w.finish(&g.tile, &w.closed)
		}
	}
}

// closeRows closes rows of w.state and folds them into w.closed.
func (w *worker) closeRows(row, rows int) {
	closed, now := w.closed.from(row, w.valuePitch), w.state.from(row, w.valuePitch)
	asm.CloseRows(w.level, at(now.sum, 0), at(w.state.lanes, row*lanes), rows)
	mergeRows(w.level, &closed, &now, rows, w.valuePitch, w.weights)
}

// farKeys leaves in w.state what rows see, apart from near blocks, of the span from a key on.
func (w *worker) farKeys(from int) {
	d := &w.far
	for i := range d.max {
		d.max[i] = float32(math.Inf(-1))
	}
	clear(d.sum)
	last, most := d.class+d.width-1, d.look(from)
	if most == 0 {
		return
	}
	w.gather()
	for class := d.class; class <= last; class++ {
		w.farScores(class, most)
	}
	inBlock := d.stride%blockKeys == 0 && d.class/blockKeys == last/blockKeys || blockKeys%d.stride == 0
	if inBlock && d.in(d.class).first == d.in(last).first {
		w.farWeights(d.class, most, d.columns) // blocks begin at the same keys for all classes
	} else {
		for class := d.class; class <= last; class++ {
			w.farWeights(class, most, w.group*classRows)
		}
	}
	for class := d.class; class <= last; class++ {
		w.farValues(class)
	}
}

// gather copies the keys and values that are seen. Those of the same number lie together, where memory is read at once, and
// classes far apart: a class by itself would read a row here and a row there.
func (w *worker) gather() {
	d, t := &w.far, w.far.t
	first, end := maxInt, 0
	for c := range d.width {
		s := &d.span[c]
		first, end = min(first, s.first), max(end, s.first+s.most)
	}
	for n := first; n < end; n++ {
		for c := 0; c < d.width; {
			s, run := &d.span[c], 0 // classes side by side that begin with the same number and see this one
			for c+run < d.width && d.span[c+run].first == s.first && n >= s.first && n < s.first+d.span[c+run].most {
				run++
			}
			if run == 0 {
				c++
				continue
			}
			class := d.class + c
			j, row := t.seq.key0+n*d.stride+class, d.row(class)+n-s.first
			asm.ScaleRows(w.level, at(d.k, row*w.dimPitch), d.keys()*w.dimPitch, t.t.k.row(t.seq.batch, t.kvHead, j),
				t.t.k.Stride[2], run, w.dim, 1)
			asm.ScaleRows(w.level, at(d.v, row*w.valuePitch), d.keys()*w.valuePitch, t.t.v.row(t.seq.batch, t.kvHead, j),
				t.t.v.Stride[2], run, w.valueDim, 1)
			c += run
		}
	}
}

// farScores computes the scores of a class, in so many rows.
func (w *worker) farScores(class, rows int) {
	d, s, column := &w.far, w.far.in(class), w.far.column(class, 0)
	for head := range w.group {
		c := column/classRows + head
		w.product(at(d.s, c*classRows), d.columns, at(d.k, d.row(class)*w.dimPitch), w.dimPitch,
			at(d.q, c/2*panel*w.dim+c%2*lanes), w.dim, s.most, classRows, nil)
	}
	for x, seen := range s.seen {
		for k := seen; k < rows; k++ {
			for head := range w.group {
				d.s[k*d.columns+column+head*classRows+x] = float32(math.Inf(-1))
			}
		}
	}
}

// farWeights is the online softmax of columns from those of a class on.
func (w *worker) farWeights(class, keys, columns int) {
	d, c := &w.far, w.far.column(class, 0)
	first, turn := d.in(class).first, d.lanes()
	for k := 0; k < keys; {
		block, n := ((first+k)*d.stride+class)/blockKeys, 1
		for k+n < keys && ((first+k+n)*d.stride+class)/blockKeys == block {
			n++
		}
		asm.ColumnMax(w.level, at(d.s, k*d.columns+c), d.columns, n, columns,
			at(d.max, c), at(d.alpha, k*d.columns+c), at(d.shift, c), at(d.sum, c), d.columns, turn)
		for end := k + n; k < end; k++ {
			asm.ColumnExp(w.level, at(d.s, k*d.columns+c), at(d.shift, c), at(d.sum, (first+k)%turn*d.columns+c), columns)
			if k+1 < end {
				ones := d.alpha[(k+1)*d.columns+c:][:columns] // α belongs to the block's first key
				for i := range ones {
					ones[i] = 1
				}
			}
		}
	}
}

// farValues is O of a class, and puts its columns' maxima and sums where rows have them.
func (w *worker) farValues(class int) {
	d, s, turn := &w.far, w.far.in(class), w.far.lanes()
	for head := range w.group {
		c := d.column(class, head)
		for x := 0; x < len(d.segments); {
			seen, n := s.seen[x], 1
			for x+n < len(d.segments) && s.seen[x+n] == seen && n*seen*w.valuePitch < budget.FMAs {
				n++
			}
			if seen > 0 {
				asm.ScaleAdd(w.level, at(w.state.o, d.local(x, class, head)*w.valuePitch), d.width*w.group*w.valuePitch, n,
					w.valuePitch,
					at(d.alpha, c+x), at(d.s, c+x), d.columns, at(d.v, d.row(class)*w.valuePitch), w.valuePitch, seen)
			}
			for end := x + n; x < end; x++ {
				if seen == 0 {
					continue
				}
				row := d.local(x, class, head)
				w.state.max[row] = d.max[c+x]
				for k := s.first; k < s.first+min(turn, seen); k++ {
					w.state.lanes[row*lanes+(k*d.stride+class)%lanes] = d.sum[k%turn*d.columns+c+x]
				}
			}
		}
	}
}
