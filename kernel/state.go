package kernel

import (
	"encoding/binary"
	"math"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// State is attention over some of the keys, not yet divided: for each row the maximum m of its base-2
// scores t, l = Σ 2^(t-m) and O = Σ 2^(t-m)·v. States over disjoint sets of keys make up the state over
// all of them: a prefix that many sequences share, pieces of a long sequence, or the parts of it that
// other machines hold.
//
//	s, _ := kernel.AttentionState(q, k1, v1, kernel.Options{})
//	t, _ := kernel.AttentionState(q, k2, v2, kernel.Options{KeyOffset: 2048})
//	s.Merge(t)
//	s.Finish(out, nil, nil)
//
// Merging is not associative in the last bit, so a State keeps the states of its spans of 2048 keys,
// in order, until Finish folds them from left to right. Pieces that are cut at multiples of 2048 keys
// and merged in the order of their keys thus give the bits of the undivided call. It holds
// ⌈keys/2048⌉·Batch·Heads·Queries·(ValueDim + 2) numbers.
//
// The zero State is of no queries, to be filled by [Plan.RunState] or UnmarshalBinary. A State serves one
// caller at a time, in Finish too; but any number may Merge it into others or marshal it at once. A call that finds it
// in use returns an error of kind [ErrInUse]. Errors are of type [*ArgumentError]; nothing has changed then.
type State struct {
	inUse guard

	batch, heads, queries, valueDim int
	spans                           []state // of all rows: batch, head, query
	weights, sinks, nothing, ones   []float32
}

// AttentionState computes the state of queries over keys; see [Attention] for the arguments. LSE, Sinks
// and Scores are not for states: the first two belong to [State.Finish]. Errors are of type
// [*ArgumentError].
func AttentionState(q, k, v Tensor, opts Options) (*State, error) {
	s := new(State)
	t := tensors{q: q, k: k, v: v}
	if err := t.attendInto(s, opts); err != nil {
		return nil, in("AttentionState", err)
	}
	return s, nil
}

func (t *tensors) attendInto(s *State, opts Options) error {
	shape, err := t.shape() // before memory is sized for them
	if err != nil {
		return err
	}
	p := plans.Get().(*Plan)
	defer plans.Put(p)
	defer p.release()
	if err := p.reset(shape, opts, stored{}); err != nil {
		return err
	}
	return p.runState(s, *t)
}

// RunState computes the state of queries over keys into s, in place of what it was. It allocates only
// where s has less memory than it needs. See [AttentionState] for what it cannot be asked for, and for
// errors.
func (p *Plan) RunState(s *State, q, k, v Tensor) error {
	return in("Plan.RunState", p.runStateAlone(s, tensors{q: q, k: k, v: v}))
}

// runStateAlone is RunState for a plan and a state that somebody else may be using.
func (p *Plan) runStateAlone(s *State, t tensors) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.inUse.leave()
	if p.shape == (Shape{}) {
		return argument(ErrOption, "Plan", "is not prepared")
	}
	if err := s.enter("s"); err != nil {
		return err
	}
	defer s.inUse.leave()
	if err := t.checkInputs(p.shape); err != nil {
		return err
	}
	return p.runState(s, t)
}

// enter lets one caller use s, unless it is nil.
func (s *State) enter(name string) error {
	if err := notNil(s, name); err != nil {
		return err
	}
	return s.inUse.enter(name)
}

// runState computes tensors that are checked.
func (p *Plan) runState(s *State, t tensors) error {
	switch o := &p.opts; {
	case o.LSE != nil:
		return argument(ErrOption, "Options.LSE", "is not for states: give it to Finish")
	case o.Sinks != nil:
		return argument(ErrOption, "Options.Sinks", "is not for states: give it to Finish")
	case o.scoresWanted():
		return argument(ErrOption, "Options.Scores", "is not for states")
	}
	s.batch, s.heads, s.queries, s.valueDim = p.shape.Batch, p.shape.Heads, p.shape.Queries, p.shape.ValueDim
	s.spans = s.spans[:0]
	most := 0
	for _, seq := range p.sequences {
		most = max(most, seq.keys)
	}
	spans := (most + spanKeys - 1) / spanKeys
	if !fits(spans, s.rows(), s.pitch()+2) {
		return argument(ErrShape, "Shape", "%+v takes states of more than %d numbers", p.shape, maxNumbers)
	}
	for range spans {
		s.add()
	}
	p.tensors, p.into = t, s
	defer func() { p.tensors, p.into = tensors{}, nil }()
	p.schedule.run(p)
	return nil
}

func (s *State) rows() int  { return s.batch * s.heads * s.queries }
func (s *State) pitch() int { return roundUp(s.valueDim, lanes) }

// add appends a span of which nothing is seen, and returns it.
func (s *State) add() *state {
	if n := len(s.spans); n < cap(s.spans) {
		s.spans = s.spans[:n+1] // with the memory that it had
	} else {
		s.spans = append(s.spans, state{})
	}
	x := &s.spans[len(s.spans)-1]
	x.max, x.sum, x.o = grow(x.max, s.rows()), grow(x.sum, s.rows()), grow(x.o, s.rows()*s.pitch())
	for i := range x.max {
		x.max[i] = float32(math.Inf(-1))
	}
	clear(x.sum)
	clearAll(x.o)
	return x
}

// keep copies the closed state of a span of a tile's keys.
func (w *worker) keep(t *tile, span int) {
	s := t.p.into
	x := &s.spans[span]
	for r := t.r0; r < t.r1; r++ {
		to, from := (t.seq.batch*s.heads+t.head(r))*s.queries+t.position(r), t.local(r)
		x.max[to], x.sum[to] = w.state.max[from], w.state.sum[from]
		for c, v := range w.state.o[from*w.valuePitch:][:w.valuePitch] {
			x.o[to*w.valuePitch+c] = v + 0 // never -0
		}
	}
}

// Merge adds the keys of later, which come behind those of s, or at least are others. Later stays as it
// is. States must be of the same queries and value width; whether the keys are disjoint is for the
// caller to know.
func (s *State) Merge(later *State) error { return in("State.Merge", s.mergeAll(later)) }

func (s *State) mergeAll(later *State) error {
	if err := s.enter("State"); err != nil {
		return err
	}
	defer s.inUse.leave()
	if err := notNil(later, "later"); err != nil {
		return err
	}
	if later == s {
		return argument(ErrOption, "later", "is the same State: its keys are there already")
	}
	if err := later.inUse.read("later"); err != nil {
		return err
	}
	defer later.inUse.unread()
	if s.batch != later.batch || s.heads != later.heads || s.queries != later.queries || s.valueDim != later.valueDim {
		return argument(ErrShape, "later", "has %d batches, %d heads, %d queries and width %d, want %d, %d, %d and %d",
			later.batch, later.heads, later.queries, later.valueDim, s.batch, s.heads, s.queries, s.valueDim)
	}
	for i := range later.spans {
		x, from := s.add(), &later.spans[i]
		copy(x.max, from.max)
		copy(x.sum, from.sum)
		copyAll(x.o, from.o)
	}
	return nil
}

// Finish writes the output, of shape [batch, heads, queries, value width] and of float32, and if lse is not
// nil, the log-sum-exp, as Options.LSE; sinks, if not nil, are as Options.Sinks. Rows that saw no key are 0, and
// -Inf in lse. The state stays as it is.
func (s *State) Finish(out Tensor, lse, sinks []float32) error {
	return in("State.Finish", s.finish(out, lse, sinks))
}

func (s *State) finish(out Tensor, lse, sinks []float32) error {
	if err := s.enter("State"); err != nil {
		return err
	}
	defer s.inUse.leave()
	if err := out.checkOutput("out", [4]int{s.batch, s.heads, s.queries, s.valueDim}); err != nil {
		return err
	}
	if lse != nil && len(lse) != s.rows() {
		return argument(ErrShape, "lse", "has %d elements, want %d·%d·%d", len(lse), s.batch, s.heads, s.queries)
	}
	if sinks != nil && len(sinks) != s.heads {
		return argument(ErrShape, "sinks", "has %d entries, want %d, one a head", len(sinks), s.heads)
	}
	if out.empty() && lse == nil {
		return nil
	}
	level, pitch := isa.Active(), s.pitch()
	var fold state // of a few rows
	fold.size(lanes, pitch)
	s.weights, s.sinks, s.ones, s.nothing = grow(s.weights, 2*lanes), grow(s.sinks, lanes), grow(s.ones, lanes), grow(s.nothing, lanes*pitch)
	clearAll(s.nothing)
	for i := range s.ones {
		s.ones[i] = 1
	}
	for head := range s.batch * s.heads {
		for i := 0; i < s.queries; i += lanes {
			n, row := min(lanes, s.queries-i), head*s.queries+i
			fold.reset(0, n, pitch)
			for x := range s.spans {
				b := &s.spans[x]
				if x == 0 {
					copy(fold.max, b.max[row:row+n])
					copy(fold.sum, b.sum[row:row+n])
					copyAll(fold.o, b.o[row*pitch:(row+n)*pitch])
					continue
				}
				next := b.from(row, pitch)
				mergeRows(level, &fold, &next, n, pitch, s.weights)
			}
			if sinks != nil {
				for x := range s.sinks {
					s.sinks[x] = baseTwo(sinks[head%s.heads])
				}
				mergeFewRows(level, at(fold.max, 0), at(fold.sum, 0), at(fold.o, 0), at(s.sinks, 0), at(s.ones, 0),
					at(s.nothing, 0),
					n, pitch, at(s.weights, 0))
			}
			if s.valueDim > 0 {
				asm.FinishRows(level, out.row(head/s.heads, head%s.heads, i), out.Stride[2], at(fold.o, 0), pitch,
					at(fold.sum, 0), 1, n, s.valueDim)
			}
			if lse != nil {
				asm.LogSumRows(level, at(lse, row), at(fold.max, 0), at(fold.sum, 0), n)
			}
		}
	}
	return nil
}

// baseTwo is a logit in the units of states.
func baseTwo(x float32) float32 { return float32(float64(x) * math.Log2E) }

const stateVersion = 1

// MarshalBinary encodes a state for another machine: little-endian, the same bytes everywhere. It fails only for a
// state that is nil or being changed.
func (s *State) MarshalBinary() ([]byte, error) {
	const name = "State.MarshalBinary"
	if err := notNil(s, "State"); err != nil {
		return nil, in(name, err)
	}
	if err := s.inUse.read("State"); err != nil {
		return nil, in(name, err)
	}
	defer s.inUse.unread()
	b := []byte("quern state")
	for _, n := range []int{stateVersion, s.batch, s.heads, s.queries, s.valueDim, len(s.spans)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	for i := range s.spans {
		s.spans[i].eachPart(s.rows(), s.valueDim, s.pitch(), func(x []float32) {
			for _, v := range x {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		})
	}
	return b, nil
}

// eachPart calls f with maxima, sums, and the rows of O.
func (s *state) eachPart(rows, width, pitch int, f func([]float32)) {
	f(s.max[:rows])
	f(s.sum[:rows])
	for r := range rows {
		f(s.o[r*pitch:][:width])
	}
}

// UnmarshalBinary sets s to what MarshalBinary encoded. Bytes that are no state, or of another version of
// the encoding, are an error.
func (s *State) UnmarshalBinary(b []byte) error { return in("State.UnmarshalBinary", s.unmarshal(b)) }

func (s *State) unmarshal(b []byte) error {
	if err := s.enter("State"); err != nil {
		return err
	}
	defer s.inUse.leave()
	const magic = "quern state"
	const header = len(magic) + 4*6
	if len(b) < header || string(b[:len(magic)]) != magic {
		return argument(ErrShape, "data", "is no encoded state")
	}
	var n [6]int
	for i := range n {
		size := binary.LittleEndian.Uint32(b[len(magic)+4*i:])
		if size > maxSize {
			return argument(ErrShape, "data", "has the size %d", size)
		}
		n[i] = int(size)
	}
	if n[0] != stateVersion {
		return argument(ErrShape, "data", "is of version %d, want %d", n[0], stateVersion)
	}
	const mostSpans = 2 * maxSize / spanKeys // without rows they take no bytes
	if n[5] > mostSpans || !fits(n[1], n[2], n[3], roundUp(n[4], lanes)) {
		return argument(ErrShape, "data", "has %d spans of %d·%d·%d·%d numbers, too many", n[5], n[1], n[2], n[3], n[4])
	}
	want := float64(n[5]) * float64(n[1]) * float64(n[2]) * float64(n[3]) * float64(n[4]+2)
	if b = b[header:]; float64(len(b)) != 4*want {
		return argument(ErrShape, "data", "has %d bytes behind the header, want %.0f", len(b), 4*want)
	}
	s.batch, s.heads, s.queries, s.valueDim = n[1], n[2], n[3], n[4]
	s.spans = s.spans[:0]
	for range n[5] {
		s.add().eachPart(s.rows(), s.valueDim, s.pitch(), func(x []float32) {
			for i := range x {
				x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b))
				b = b[4:]
			}
		})
	}
	return nil
}
