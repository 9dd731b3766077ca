package kernel

import (
	"math"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/portable"
)

// ALiBi adds Slopes[h]·(j - i - offset) to the score of query i and key j in head h (Press et al., 2022): with a
// positive slope, less the farther the key is behind. There is one slope for each query head, a finite number; nil is
// none. The offset is what [Alignment] says.
type ALiBi struct {
	Slopes []float32
	// Symmetric, for encoders, adds -Slopes[h]·|j - i - offset| instead: less the farther the key is in either
	// direction.
	Symmetric bool
	Align     Alignment
	Offset    []int // as in Causal
}

// ScoreFunc changes scores in place: those of one query with the keys of one block, of which there are at
// most 128. The first is that of the key at position key, a multiple of 128. Scores are in natural
// units, after scale, softcap, bias and ALiBi; those that the query may not see are -Inf, and what the
// function makes of them is ignored. It may make others -Inf too: they get weight 0. Finite ones beyond
// ±2.3585e38, which is the largest float32 divided by log2 e, become that: a query whose scores are all made
// -math.MaxFloat32 averages.
//
// It is called from several goroutines at once, and not for a block of which the query sees nothing. A
// panic reaches the caller of [Attention] or [Plan.Run].
type ScoreFunc func(sequence, head, query, key int, scores []float32)

// changes is what the options make of scores between the product and the softmax.
type changes struct {
	natural      bool // scores are in natural units until the end, otherwise in base 2 from the start
	cap, inverse float32
	biased       bool // by a bias or ALiBi
	bias         *Tensor
	slopes       []float32 // by head, in the scores' units; 0 without ALiBi
	function     ScoreFunc
	output       *Tensor // nil if scores are not wanted

	factor, sign, lowest, unit float32 // of asm.BiasTile
}

// none reports that scores stay as they are.
func (c *changes) none() bool { return !c.natural && !c.biased }

// prepareScores validates and binds the options that change scores.
func (p *Plan) prepareScores(shape Shape, scale float64) error {
	o, c := &p.opts, &p.changes
	*c = changes{slopes: c.slopes[:0], function: o.ScoreFunc}
	if cap := float32(o.Softcap); o.Softcap != 0 {
		c.cap, c.inverse = cap, float32(1/o.Softcap)
		if !(cap > 0 && c.inverse > 0 && cap <= math.MaxFloat32 && c.inverse <= math.MaxFloat32) {
			return argument(ErrOption, "Options.Softcap", "is %v, want 0, or a positive number whose inverse is a float32", o.Softcap)
		}
	}
	c.natural = o.Softcap != 0 || o.ScoreFunc != nil || o.scoresWanted()
	p.factor = float32(scale * math.Log2E)
	if math.IsInf(float64(p.factor), 0) {
		return argument(ErrOption, "Options.Scale", "is %v, want at most %v·ln 2", scale, float32(math.MaxFloat32))
	}
	if c.natural {
		p.factor = float32(scale)
	}
	if n := len(o.Sinks); o.Sinks != nil && n != shape.Heads {
		return argument(ErrShape, "Options.Sinks", "has %d entries, want %d, one a head", n, shape.Heads)
	}
	p.sinks = p.sinks[:0]
	for _, sink := range o.Sinks {
		p.sinks = append(p.sinks, baseTwo(sink))
	}

	c.factor, c.lowest, c.unit = portable.Log2eHi, -math.MaxFloat32, 1
	if o.ALiBi.Symmetric {
		c.sign = float32(math.Copysign(0, -1))
	}
	if c.natural {
		c.factor, c.lowest = 1, portable.LowestScore
		if o.ScoreFunc == nil && !o.scoresWanted() {
			c.unit = portable.Log2eHi
		}
	}
	if n := len(o.ALiBi.Slopes); o.ALiBi.Slopes != nil && n != shape.Heads {
		return argument(ErrShape, "Options.ALiBi.Slopes", "has %d entries, want %d, one a head", n, shape.Heads)
	}
	for h := range shape.Heads {
		var slope float32
		if o.ALiBi.Slopes != nil {
			slope = o.ALiBi.Slopes[h]
			if math.IsNaN(float64(slope)) || math.IsInf(float64(slope), 0) {
				return argument(ErrOption, "Options.ALiBi.Slopes", "entry %d is %v, want a finite number", h, slope)
			}
			if !c.natural {
				slope = baseTwo(slope)
			}
		}
		c.slopes = append(c.slopes, slope)
	}
	c.bind(o)
	c.biased = c.bias != nil || o.ALiBi.Slopes != nil
	return p.prepareOutput(shape)
}

// bind makes c look into the options o.
func (c *changes) bind(o *Options) {
	c.bias, c.output = nil, nil
	if o.Bias.Shape != [4]int{} {
		c.bias = &o.Bias
	}
	if o.scoresWanted() {
		c.output = &o.Scores
	}
}

// bindScores validates what the options for scores say of each sequence. Keys for which the bias has no
// column are hidden.
func (p *Plan) bindScores() error {
	bias := p.changes.bias
	for i := range p.sequences {
		s := &p.sequences[i]
		if p.opts.ALiBi.Slopes != nil {
			offset, err := s.offset("Options.ALiBi", p.opts.ALiBi.Align, p.opts.ALiBi.Offset)
			if err != nil {
				return err
			}
			if far := p.opts.ALiBi.Offset; far != nil {
				offset = far[s.index] // which has not been cut
			}
			if offset < -maxSize || offset > maxSize || s.keyOffset+s.keys > maxSize {
				return argument(ErrOption, "Options.ALiBi", "has positions %d to %d and offset %d, want at most %d", s.keyOffset, s.keyOffset+s.keys, offset, maxSize)
			}
			s.slopeOffset = offset
		}
		if bias == nil {
			continue
		}
		const name = "Options.Bias"
		if i == 0 {
			if err := bias.checkFloat32(name, bias.Shape); err != nil {
				return err
			}
			if err := s.checkTensor(name, bias.Shape[0], bias.Shape[1], bias.Shape[2]); err != nil {
				return err
			}
			if err := s.checkColumns(name, bias.Shape[3]); err != nil {
				return err
			}
		}
		if bias.Shape[3] != 1 && bias.Shape[3] < s.keyOffset+s.keys {
			s.visible = intersection{s.visible, first(bias.Shape[3])}
		}
	}
	return nil
}

// checkScores reports memory that what is read or written about scores shares with what is written.
func (p *Plan) checkScores(t *tensors) error {
	c := &p.changes
	if c.bias != nil && t.out.overlaps(c.bias) {
		return argument(ErrOverlap, "out", "shares memory with Options.Bias")
	}
	if c.output == nil {
		return nil
	}
	for _, x := range [...]*Tensor{&t.out, &t.q, &t.k, &t.v, c.bias} {
		if x != nil && c.output.overlaps(x) {
			return argument(ErrOverlap, "Options.Scores", "shares memory with another tensor")
		}
	}
	return nil
}

// keyNumbers counts the keys of a block.
var keyNumbers = func() (n [blockKeys]int32) {
	for i := range n {
		n[i] = int32(i)
	}
	return n
}()

// noBias is a row of a bias that changes nothing.
var noBias [blockKeys]float32

// change takes rows of S, of which the first is row from of the tile, from products to base-2 scores, as
// far as anything changes them.
func (w *worker) change(t *tile, from, rows int, p *batch) {
	c, b := &t.p.changes, &w.blk
	row := t.local(from)
	w.record(t, from, rows, ScaledScores)
	if c.cap != 0 {
		asm.CapTile(w.level, at(w.s, row*blockKeys), blockKeys, rows, p.used.columns(), c.inverse, c.cap)
	}
	w.record(t, from, rows, CappedScores)
	if c.biased {
		for r := from; r < min(from+w.group, from+rows); r++ {
			w.addBias(t, r, (from+rows-r+w.group-1)/w.group, p.used)
		}
	}
	if c.function != nil {
		w.hide(row, rows, p)
		for r := from; r < from+rows; r++ {
			if x := t.local(r); w.bits[x] != [2]uint64{} {
				scores := w.s[x*blockKeys:][:b.n:b.n]
				c.function(t.seq.index, t.head(r), r/w.group, b.j0, scores)
				clampScores(scores)
			}
		}
	}
	if c.output != nil {
		w.hide(row, rows, p)
		w.record(t, from, rows, FinalScores)
	}
	if c.natural && !(c.biased && c.unit == portable.Log2eHi) {
		s := at(w.s, row*blockKeys)
		asm.ScaleRows(w.level, s, blockKeys, s, blockKeys, rows, p.used.columns(), portable.Log2eHi)
	}
	w.record(t, from, rows, Probabilities)
}

// clampScores keeps what a function has made of scores finite in base 2, if it is finite.
func clampScores(scores []float32) {
	for j, s := range scores {
		switch {
		case s < portable.LowestScore && s >= -math.MaxFloat32:
			scores[j] = portable.LowestScore
		case s > -portable.LowestScore && s <= math.MaxFloat32:
			scores[j] = -portable.LowestScore
		}
	}
}

// addBias adds bias and ALiBi to rows of one head: r, and every group-th after it.
func (w *worker) addBias(t *tile, r, rows int, used halves) {
	c, b := &t.p.changes, &w.blk
	i, h := r/w.group, t.head(r)
	for rest := used; rest != 0; {
		var start, end int
		start, end, rest = rest.next()
		cols := c.biasedKeys(b.j0+start, min(end, b.n)-start)
		if cols <= 0 {
			continue
		}
		for x := range w.first[:rows] {
			w.first[x] = int32(b.j0 + start - (i + x) - t.seq.slopeOffset)
		}
		bias, stride := &noBias[0], 0
		switch {
		case c.bias == nil:
		case c.bias.Shape[3] == 1:
			bias, stride = w.spreadBias(t, h, i, rows), blockKeys
		default:
			bias, stride = t.biasRow(h, i, b.j0+start), c.bias.rowStride()
		}
		asm.BiasTile(w.level, at(w.s, t.local(r)*blockKeys+used.column(start)), w.group*blockKeys, bias, stride,
			rows, cols, &w.first[0], &keyNumbers[0], c.factor, c.slopes[h], c.sign, c.lowest, c.unit)
	}
}

// biasedKeys is how many of n keys from position j on have a bias, or could have one.
func (c *changes) biasedKeys(j, n int) int {
	if c.bias == nil || c.bias.Shape[3] == 1 {
		return n
	}
	return min(n, c.bias.Shape[3]-j)
}

// biasRow is the address of the bias of a query and a key, by positions in the sequence.
func (t *tile) biasRow(h, i, j int) *float32 {
	bias := t.p.changes.bias
	if bias.Shape[3] == 1 {
		j = 0
	}
	return offset(bias.row(t.seq.index%bias.Shape[0], h%bias.Shape[1], i%bias.Shape[2]), j)
}

// spreadBias makes rows for the queries from i on of a bias that is one number for all keys.
func (w *worker) spreadBias(t *tile, h, i, rows int) *float32 {
	w.bias = grow(w.bias, lanes*blockKeys)
	for x := range rows {
		b := *t.biasRow(h, i+x, 0)
		row := w.bias[x*blockKeys:][:blockKeys]
		for j := range row {
			row[j] = b
		}
	}
	return at(w.bias, 0)
}

// rowStride is the distance between the rows of two queries, 0 where one stands for all.
func (t *Tensor) rowStride() int {
	if t.Shape[2] == 1 {
		return 0
	}
	return t.Stride[2]
}

// hideByBias takes from the bits of rows the keys whose bias is -Inf.
func (w *worker) hideByBias(t *tile, from, to int) {
	b := &w.blk
	for r := from; r < to; r++ {
		seen := &w.bits[t.local(r)]
		for j := range t.p.changes.biasedKeys(b.j0, b.n) {
			if math.IsInf(float64(*t.biasRow(t.head(r), r/w.group, b.j0+j)), -1) {
				seen[j/64] &^= 1 << (j % 64)
			}
		}
	}
}

// addSinks folds the sinks into the states of a tile: (sink·log2 e, 1, 0).
func (w *worker) addSinks(t *tile, s *state) {
	for r := t.r0; r < t.r1; r += lanes {
		rows, row := min(lanes, t.r1-r), t.local(r)
		for x := range rows {
			w.sinks[x] = t.p.sinks[t.head(r+x)]
		}
		mergeFewRows(w.level, at(s.max, row), at(s.sum, row), at(s.o, row*w.valuePitch), at(w.sinks, 0), at(w.ones, 0),
			at(w.nothing, 0),
			rows, w.valuePitch, at(w.weights, 0))
	}
}
