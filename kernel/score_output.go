package kernel

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/internal/portable"
)

// ScoreStage says how far scores have come.
type ScoreStage int

// The stages, in the order in which a score passes them.
const (
	ScaledScores  ScoreStage = iota // q·k·scale, of all keys: for them keys are read that no query sees
	CappedScores                    // after Softcap, likewise
	FinalScores                     // after Bias, ALiBi, ScoreFunc and mask: -Inf where a key is hidden
	Probabilities                   // after the softmax: 0 where a key is hidden
)

// prepareOutput validates the options for scores as output.
func (p *Plan) prepareOutput(shape Shape) error {
	o := &p.opts
	if !o.scoresWanted() {
		return nil
	}
	if o.Stage < ScaledScores || o.Stage > Probabilities {
		return argument(ErrOption, "Options.Stage", "is %d, want one of the four stages", o.Stage)
	}
	return o.Scores.checkOutput("Options.Scores", [4]int{shape.Batch, shape.Heads, shape.Queries, shape.Keys})
}

func (o *Options) scoresWanted() bool { return o.Scores.Shape != [4]int{} }

// scoreRow is where the scores of row r of a tile go, for n keys from number first of its sequence on.
func (t *tile) scoreRow(r, first, n int) []float32 {
	s := t.p.changes.output
	return s.elements(t.seq.batch, t.head(r), t.position(r))[t.seq.key0+first:][:n]
}

// elements is a row of a tensor that must exist.
func (t *Tensor) elements(b, h, s int) []float32 {
	if t.Shape[3] == 0 {
		return nil
	}
	return unsafe.Slice(t.row(b, h, s), t.Shape[3])
}

// blank fills the scores of a tile for what no block of keys will write.
func (w *worker) blank(t *tile) {
	for r := t.r0; r < t.r1; r++ {
		t.p.blankScores(t.seq.batch, t.head(r), t.position(r))
	}
}

// blankScores fills the scores of a query as if all keys were hidden.
func (p *Plan) blankScores(batch, head, position int) {
	fill := float32(math.Inf(-1))
	if p.opts.Stage == Probabilities {
		fill = 0
	}
	row := p.changes.output.elements(batch, head, position)
	for j := range row {
		row[j] = fill
	}
}

// record writes rows of S, which have come to a stage, if they are wanted.
func (w *worker) record(t *tile, from, rows int, stage ScoreStage) {
	if t.p.changes.output == nil || t.p.opts.Stage != stage {
		return
	}
	b := &w.blk
	for r := from; r < from+rows; r++ {
		copy(t.scoreRow(r, b.number*blockKeys, b.n), w.s[t.local(r)*blockKeys:])
	}
}

// probabilities turns recorded base-2 scores into P = 2^(t - m)/l, by the states of a tile's rows.
func (w *worker) probabilities(t *tile, s *state) {
	for r := t.r0; r < t.r1; r++ {
		sum, shift := s.sum[t.local(r)], s.max[t.local(r)]
		if math.IsInf(float64(shift), -1) {
			shift = 0
		}
		row := t.scoreRow(r, 0, t.seq.keys)
		for j, x := range row {
			if row[j] = 0; sum != 0 {
				row[j] = portable.Exp2(x-shift) / sum
			}
		}
	}
}
