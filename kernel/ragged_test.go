package kernel_test

import (
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestPaddedSelfAttention: causal attention over a batch that is padded on the left and on the right gives each
// sequence what it gives alone, and what is padding 0, its sink and no score.
func TestPaddedSelfAttention(t *testing.T) {
	const heads, size, dim = 2, 150, 8
	starts, counts := []int{0, 0, 30, 149, 7, 0}, []int{150, 2, 120, 1, 100, 0}
	shape := kernel.Shape{
		Batch: len(starts), Heads: heads, KVHeads: heads, Queries: size, Keys: size, Dim: dim, ValueDim: dim}
	p := normalProblem(1, shape, kernel.Options{Mask: kernel.Causal{}, Sinks: []float32{1, -1}})
	for b := range starts { // garbage in the padding
		for s := range size {
			if s < starts[b] || s >= starts[b]+counts[b] {
				for h := range heads {
					for _, x := range []array{p.q, p.k, p.v} {
						copy(x.row(b, h, s), repeat(nan, dim))
					}
				}
			}
		}
	}
	p.opts.Ragged = kernel.Ragged{KeyStart: starts, KeyCount: counts, QueryStart: starts, QueryCount: counts}
	got := p.run(t, 2)
	nothing := normalProblem(1,
		kernel.Shape{Batch: 1, Heads: heads, KVHeads: heads, Queries: 1, Dim: dim, ValueDim: dim},
		kernel.Options{Sinks: p.opts.Sinks}).run(t, 1)
	p.eachRow(func(row, b, h, i int) {
		want := nothing.row(h)
		if i -= starts[b]; 0 <= i && i < counts[b] {
			part := problem{opts: p.opts}
			part.opts.Ragged = kernel.Ragged{}
			part.q, part.k, part.v = p.q.part(b, starts[b], starts[b]+counts[b]), p.k.part(b, starts[b],
				starts[b]+counts[b]), p.v.part(b, starts[b], starts[b]+counts[b])
			want = part.run(t, 1).row(h*counts[b] + i)
		}
		requireSame(t, want, got.row(row), "sequence ", b, ", head ", h, ", query ", i)
	})

	scores := repeat(nan, len(starts)*heads*size*size)
	p.opts.Sinks = nil
	for stage, fill := range map[kernel.ScoreStage]float32{kernel.FinalScores: -infinity, kernel.Probabilities: 0} {
		p.opts.Scores, p.opts.Stage = kernel.BHSD(scores, len(starts), heads, size, size), stage
		p.run(t, 2)
		p.eachRow(func(row, b, _, i int) {
			if i < starts[b] || i >= starts[b]+counts[b] {
				requireSameBits(t, repeat(fill, size), scores[row*size:][:size], "scores of padding")
			}
		})
	}
}

// TestWhichQueryIsLast: a mask that counts from the last query is refused where padding leaves open which that is, and
// with explicit offsets is not.
func TestWhichQueryIsLast(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 4, Keys: 4, Dim: 2, ValueDim: 2}
	right := kernel.Ragged{KeyCount: []int{2}}
	for name, o := range map[string]kernel.Options{
		"causal": {Mask: kernel.Causal{}, Ragged: right},
		"window": {Mask: kernel.Window{Left: 1}, Ragged: right},
		"nested": {Mask: kernel.And{kernel.Prefix{Keys: 1}}, Ragged: right},
		"ALiBi":  {ALiBi: kernel.ALiBi{Slopes: []float32{1}}, Ragged: right},
		"middle": {Mask: kernel.Causal{}, Ragged: kernel.Ragged{KeyStart: []int{1}, KeyCount: []int{2}}},
	} {
		_, err := kernel.NewAttention(shape, o)
		require.ErrorContains(t, err, "2 keys", name)
		require.ErrorContains(t, err, "4 queries", name)
		require.ErrorContains(t, err, "QueryCount", name)
	}
	for name, o := range map[string]kernel.Options{
		"the count":           {Mask: kernel.Causal{}, Ragged: kernel.Ragged{KeyCount: []int{2}, QueryCount: []int{2}}},
		"explicit offsets":    {Mask: kernel.Causal{Offset: []int{-2}}, Ragged: right},
		"from the first":      {Mask: kernel.Causal{Align: kernel.TopLeft}, Ragged: right},
		"padding on the left": {Mask: kernel.Causal{}, Ragged: kernel.Ragged{KeyStart: []int{2}}},
	} {
		_, err := kernel.NewAttention(shape, o)
		require.NoError(t, err, name)
	}
	shape.Queries = 2 // as many as keys: continuing with a cache that has room
	_, err := kernel.NewAttention(shape, kernel.Options{Mask: kernel.Causal{}, Ragged: right})
	require.NoError(t, err)
}

// TestPaddedCounts: what is said of queries is checked as what is said of keys.
func TestPaddedCounts(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 1, KVHeads: 1, Queries: 3, Keys: 4, Dim: 2, ValueDim: 2}
	for want, r := range map[string]kernel.Ragged{
		"Options.Ragged.QueryStart: shape does not match: has 1 entries, want 2":                   {QueryStart: []int{1}},
		"Options.Ragged.QueryCount: shape does not match: has 3 entries, want 2":                   {QueryCount: []int{1, 1, 1}},
		"Options.Ragged.QueryStart: option is not valid: entry 1 is 4, want 0 to 3":                {QueryStart: []int{0, 4}},
		"Options.Ragged.QueryCount: option is not valid: entry 0 is 3, want 0 to 2":                {QueryStart: []int{1, 0}, QueryCount: []int{3, 0}},
		"Options.Ragged.QueryCount: option is not valid: entry 1 is -1, want 0 to 3":               {QueryCount: []int{3, -1}},
		"Options.Ragged: option is not valid: has both cumulative lengths, of a packed batch, and": {QueryCount: []int{3, 3}, CumQueries: []int{0, 3}},
	} {
		_, err := kernel.NewAttention(shape, kernel.Options{Ragged: r})
		require.ErrorContains(t, err, "quern: NewAttention: "+want)
	}
}
