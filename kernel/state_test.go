package kernel_test

import (
	"math/rand/v2"
	"testing"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// finish is what a state of p's shape gives.
func finish(t *testing.T, p problem, s *kernel.State, sinks []float32) result {
	shape := p.shape()
	r := result{make([]float32, shape.Batch*shape.Heads*shape.Queries*shape.ValueDim), make([]float32, shape.Batch*shape.Heads*shape.Queries)}
	out := kernel.BHSD(r.out, shape.Batch, shape.Heads, shape.Queries, shape.ValueDim)
	require.NoError(t, s.Finish(out, r.lse, sinks))
	return r
}

// state is p's, through a plan with some workers.
func (p problem) state(t *testing.T, workers int) *kernel.State {
	o := p.withBias()
	o.Sinks, o.Workers = nil, workers
	s, err := kernel.AttentionState(p.q.tensor(), p.k.tensor(), p.v.tensor(), o)
	require.NoError(t, err)
	return s
}

// TestStates: a state, finished, has the bits of the call.
func TestStates(t *testing.T) {
	eachPromised(t, func(t *testing.T, p problem) {
		s := p.state(t, 2)
		requireSame(t, p.run(t, 1), finish(t, p, s, p.opts.Sinks), "finished")
		requireSame(t, p.run(t, 1), finish(t, p, s, p.opts.Sinks), "finished again")
	})
}

// TestPieces: states over pieces of the keys that end at multiples of 2048, merged in order, have the bits of the
// undivided call, also after a journey as bytes.
func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 6))
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		for range few(12) {
			shape := kernel.Shape{Batch: 1 + r.IntN(2), Heads: 2, KVHeads: 1 + r.IntN(2), Queries: 1 + r.IntN(20), Keys: 2048 + r.IntN(5000), Dim: 1 + r.IntN(9), ValueDim: r.IntN(20)}
			o := kernel.Options{KeyOffset: 2048 * r.IntN(2)}
			all := sequences(shape, o)
			drawScores(r, shape.Heads, all, &o)
			for _, s := range all {
				o.ALiBi.Offset = append(o.ALiBi.Offset[:s.index], s.keyOffset+s.keys)
			}
			o.Mask = kernel.Or{
				kernel.Causal{Offset: o.ALiBi.Offset}, kernel.BitMatrix{Bits: []uint64{r.Uint64()}, Shape: [3]int{1, 1, 1}, Keys: 64, First: repeatInt(2048, len(all))},
			}
			p := normalProblem(r.Uint64(), shape, o)
			var merged *kernel.State
			for from := 0; from < shape.Keys; {
				to := min(from+2048*(1+r.IntN(2)), shape.Keys)
				piece := p
				piece.k.shape[2], piece.v.shape[2] = to-from, to-from
				piece.k.data, piece.v.data = piece.k.data[from*shape.Dim:], piece.v.data[from*shape.ValueDim:]
				piece.opts.KeyOffset += from
				s := piece.state(t, 1)
				bytes, err := s.MarshalBinary()
				require.NoError(t, err)
				s = new(kernel.State)
				require.NoError(t, s.UnmarshalBinary(bytes))
				if merged == nil {
					merged = s
				} else {
					require.NoError(t, merged.Merge(s))
				}
				from = to
			}
			requireSame(t, p.run(t, 1), finish(t, p, merged, o.Sinks), p)
		}
	})
}

func repeatInt(x, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = x
	}
	return all
}

func TestStateErrors(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 3, Keys: 5, Dim: 4, ValueDim: 6}
	p := normalProblem(1, shape, kernel.Options{})
	s := p.state(t, 1)
	shape.Queries = 4
	other := normalProblem(1, shape, kernel.Options{}).state(t, 1)
	require.ErrorIs(t, s.Merge(other), kernel.ErrShape)
	require.ErrorIs(t, s.Finish(kernel.BHSD(make([]float32, 48), 1, 2, 4, 6), nil, nil), kernel.ErrShape)
	out := kernel.BHSD(make([]float32, 36), 1, 2, 3, 6)
	require.ErrorIs(t, s.Finish(out, make([]float32, 5), nil), kernel.ErrShape)
	require.ErrorIs(t, s.Finish(out, nil, make([]float32, 3)), kernel.ErrShape)
	bytes, err := s.MarshalBinary()
	require.NoError(t, err)
	for n := range bytes {
		require.ErrorIs(t, new(kernel.State).UnmarshalBinary(bytes[:n]), kernel.ErrShape, n)
	}
	require.NoError(t, new(kernel.State).UnmarshalBinary(bytes))
	for _, o := range []kernel.Options{{LSE: make([]float32, 6)}, {Sinks: make([]float32, 2)}, {Scores: kernel.BHSD(make([]float32, 30), 1, 2, 3, 5)}} {
		_, err := kernel.AttentionState(p.q.tensor(), p.k.tensor(), p.v.tensor(), o)
		require.ErrorIs(t, err, kernel.ErrOption)
	}
}
