package kernel_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// Guard pages and canaries are part of TestSameBits.

// planOf prepares p and returns a call of it, and where its output goes.
func planOf(t testing.TB, p problem, workers int) (run func(), out []float32) {
	t.Helper()
	s := p.shape()
	out = make([]float32, s.Batch*s.Heads*s.Queries*s.ValueDim)
	p.opts.Workers, p.opts.LSE = workers, make([]float32, s.Batch*s.Heads*s.Queries)
	plan, err := kernel.NewAttention(s, p.opts)
	require.NoError(t, err)
	o, q, k, v := kernel.BSHD(out, s.Batch, s.Queries, s.Heads, s.ValueDim), p.q.tensor(), p.k.tensor(), p.v.tensor()
	return func() {
		if err := plan.Run(o, q, k, v); err != nil {
			t.Error(err)
		}
	}, out
}

func TestPlanDoesNotAllocate(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	const several = 16 // what a few goroutines cost, whatever the problem
	shape := kernel.Shape{Batch: 2, Heads: 4, KVHeads: 2, Queries: 130, Keys: 300, Dim: 8, ValueDim: 5}
	large := shape
	large.Keys, large.Heads, large.Queries = 4200, 2, 100
	for _, c := range []struct {
		name    string
		shape   kernel.Shape
		opts    kernel.Options
		workers int
		most    float64
	}{
		{"one worker", shape, kernel.Options{}, 1, 0},
		{"one worker, causal", shape, kernel.Options{Mask: kernel.Causal{Offset: []int{-70, 1000}}}, 1, 0},
		{"one worker, padded", shape, kernel.Options{Ragged: kernel.Ragged{KeyStart: []int{3, 300}}}, 1, 0},
		{"one worker, spans", large, kernel.Options{Mask: kernel.Causal{}}, 1, 0},
		{"one worker, masks", shape, kernel.Options{Mask: kernel.Or{
			kernel.And{kernel.Window{Left: 20, Right: 9}, kernel.SparseFixed{Stride: 30, Summary: 4}},
			kernel.PerHead{kernel.SparseStrided{Stride: 50}, kernel.BlockMap{Queries: 130, Keys: 300, Bits: []uint64{0}, Shape: [4]int{1, 1, 1, 1}}, kernel.Prefix{Keys: 7}},
		}}, 1, 0},
		{"one worker, strided", large, kernel.Options{Mask: kernel.SparseStrided{Stride: 128}}, 1, 0},
		{"one worker, scores", large, kernel.Options{
			Mask: kernel.SparseStrided{Stride: 128}, Softcap: 3, Bias: kernel.BHSD(make([]float32, 4200), 1, 1, 1, 4200),
			ALiBi: kernel.ALiBi{Slopes: []float32{1, 2}}, Sinks: []float32{1, 2}, ScoreFunc: func(_, _, _, _ int, _ []float32) {},
		}, 1, 0},
		{"several workers", shape, kernel.Options{}, 4, several},
		{"several workers, large", large, kernel.Options{}, 4, several},
	} {
		run, _ := planOf(t, normalProblem(1, c.shape, c.opts), c.workers)
		if n := testing.AllocsPerRun(3, run); n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.most)
		}
	}
}

// TestResetKeepsMemory: a plan that goes back and forth between two sizes soon has what it needs.
func TestResetKeepsMemory(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	small := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 5, Keys: 100, Dim: 8, ValueDim: 5}
	large := kernel.Shape{Batch: 3, Heads: 4, KVHeads: 2, Queries: 130, Keys: 2300, Dim: 16, ValueDim: 20}
	plan, reset := new(kernel.Plan), error(nil)
	n := testing.AllocsPerRun(3, func() {
		for _, s := range []kernel.Shape{small, large} {
			if err := plan.Reset(s, kernel.Options{Workers: 2}); err != nil {
				reset = err
			}
		}
	})
	require.NoError(t, reset)
	require.Zero(t, n)
}

func TestSlicesDoNotAllocate(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	x, y := make([]float32, 1<<16), make([]float32, 1<<16)
	for _, c := range []struct {
		name string
		call func()
	}{
		{"Dot", func() { kernel.Dot(x, y) }},
		{"Exp", func() { kernel.Exp(y, x) }},
		{"Softmax", func() { kernel.Softmax(y, x) }},
		{"LogSoftmax", func() { kernel.LogSoftmax(y, x) }},
		{"LogSumExp", func() { kernel.LogSumExp(x) }},
	} {
		if n := testing.AllocsPerRun(3, c.call); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	run, _ := planOf(t, normalProblem(2, kernel.Shape{
		Batch: 2, Heads: 4, KVHeads: 2, Queries: 130, Keys: 130, Dim: 4, ValueDim: 4}, kernel.Options{}), 8)
	for range 20 {
		run()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, // Eventually has one
		5*time.Second, time.Millisecond)
}

// TestManyCallers: functions may be called from many goroutines at once, and plans of their own share nothing.
func TestManyCallers(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 4, KVHeads: 2, Queries: 100, Keys: 130, Dim: 5, ValueDim: 4}
	p := normalProblem(3, shape, kernel.Options{Mask: kernel.Causal{}})
	fuzz.Levels(t, func(t *testing.T, _ isa.Level) {
		want := p.run(t, 1)
		p := p
		p.opts.Workers = 2
		prepared, err := kernel.NewAttention(shape, p.opts)
		require.NoError(t, err)
		var all sync.WaitGroup
		outs := make([][]float32, 8)
		for i := range outs {
			outs[i] = make([]float32, len(want.out))
			plan := prepared.Clone()
			all.Go(func() {
				out := kernel.BHSD(outs[i], 1, shape.Heads, shape.Queries, shape.ValueDim)
				for range 3 {
					err := plan.Run(out, p.q.tensor(), p.k.tensor(), p.v.tensor())
					if i%2 == 0 {
						err = kernel.Attention(out, p.q.tensor(), p.k.tensor(), p.v.tensor(), p.opts)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for i, out := range outs {
			requireSameBits(t, want.out, out, "caller ", i)
		}
	})
}
