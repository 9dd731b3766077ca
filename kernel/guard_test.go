package kernel_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestOneCallerAtATime: what serves one caller sends a second one away, who comes here from a function that the first
// one calls, and so do its other methods that change it. The first one's result is right.
func TestOneCallerAtATime(t *testing.T) {
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 100, Keys: 200, Dim: 8, ValueDim: 8}
	p := normalProblem(1, shape, kernel.Options{})
	plain := p.run(t, 1).out
	p.opts.ScoreFunc = func(_, _, _, _ int, _ []float32) {}
	changed := p.run(t, 1).out // other last bits
	q, k, v := p.q.tensor(), p.k.tensor(), p.v.tensor()
	outputs := floats(len(plain))
	out := kernel.BHSD(outputs, 1, 2, 100, 8)

	var intrude func()
	opts := kernel.Options{Workers: 1, ScoreFunc: func(_, _, _, _ int, _ []float32) { intrude() }}
	inUse := func(t *testing.T, function, argument string, call func() error) {
		var wrong *kernel.ArgumentError
		err := call()
		require.ErrorIs(t, err, kernel.ErrInUse, function)
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, argument, wrong.Argument)
		require.Equal(t, function, wrong.Function)
	}
	requireWant := func(t *testing.T, want []float32) {
		t.Helper()
		requireSameBits(t, want, outputs, "the first caller's result")
		clear(outputs)
	}

	t.Run("Plan", func(t *testing.T) {
		plan := must(kernel.NewAttention(shape, opts))
		state := new(kernel.State)
		intrude = func() {
			inUse(t, "Plan.Run", "Plan", func() error { return plan.Run(out, q, k, v) })
			inUse(t, "Plan.RunState", "Plan", func() error { return plan.RunState(state, q, k, v) })
			inUse(t, "Plan.Reset", "Plan", func() error { return plan.Reset(shape, opts) })
			plan.Clone()
		}
		require.NoError(t, plan.Run(out, q, k, v))
		requireWant(t, changed)
		cloned := false
		see := kernel.MaskFunc{See: func(_, _, _ int) bool {
			if !cloned {
				cloned = true
				require.Panics(t, func() { plan.Clone() }, "while it is being Reset")
				inUse(t, "Plan.Run", "Plan", func() error { return plan.Run(out, q, k, v) })
			}
			return true
		}}
		require.NoError(t, plan.Reset(shape, kernel.Options{Mask: see}))
		require.NoError(t, plan.Run(out, q, k, v))
		requireWant(t, plain)
	})
	t.Run("State", func(t *testing.T) {
		plan, state := must(kernel.NewAttention(shape, opts)), new(kernel.State)
		other := must(kernel.AttentionState(q, k, v, kernel.Options{}))
		second := must(kernel.NewAttention(shape, kernel.Options{}))
		intrude = func() {
			inUse(t, "Plan.RunState", "s", func() error { return second.RunState(state, q, k, v) })
			inUse(t, "State.Finish", "State", func() error { return state.Finish(out, nil, nil) })
			inUse(t, "State.Merge", "State", func() error { return state.Merge(other) })
			inUse(t, "State.Merge", "later", func() error { return other.Merge(state) })
			inUse(t, "State.UnmarshalBinary", "State", func() error { return state.UnmarshalBinary(nil) })
			inUse(t, "State.MarshalBinary", "State", func() error { _, err := state.MarshalBinary(); return err })
		}
		require.NoError(t, plan.RunState(state, q, k, v))
		require.NoError(t, state.Finish(out, nil, nil))
		requireWant(t, changed)
	})
	t.Run("Attender", func(t *testing.T) {
		c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 8}))
		require.NoError(t, c.Append(k, v))
		var a kernel.Attender
		intrude = func() {
			inUse(t, "Attender.Attend", "Attender", func() error { return a.Attend(out, q, []*kernel.Cache{c}, opts) })
		}
		require.NoError(t, a.Attend(out, q, []*kernel.Cache{c}, opts))
		requireWant(t, changed)
	})
	t.Run("MultiHead", func(t *testing.T) {
		w := must(kernel.Pack(kernel.RowMajor(floats(16), 4, 4)))
		x, y := kernel.BHSD(floats(12), 1, 1, 3, 4), kernel.BHSD(floats(12), 1, 1, 3, 4)
		var l *kernel.MultiHead
		first := true
		l = must(kernel.NewMultiHead(kernel.MultiHeadOptions{
			Heads: 2, Query: w, Key: w, Value: w, Out: w,
			Mask: kernel.MaskFunc{See: func(_, _, _ int) bool {
				if first {
					inUse(t, "MultiHead.Forward", "MultiHead",
						func() error { return l.Forward(y, kernel.MultiHeadInput{X: x}) })
				}
				return true
			}},
		}))
		require.NoError(t, l.Forward(y, kernel.MultiHeadInput{X: x}))
		first = false
		require.NoError(t, l.Clone().Forward(y, kernel.MultiHeadInput{X: x}))
	})
}

// TestNil: a nil receiver, argument or mask is named, and is no memory fault.
func TestNil(t *testing.T) {
	var (
		plan   *kernel.Plan
		state  *kernel.State
		cache  *kernel.Cache
		pool   *kernel.Pool
		attend *kernel.Attender
		layer  *kernel.MultiHead
		w      *kernel.Weights
		rotary *kernel.Rotary
		x      = kernel.BHSD(floats(4), 1, 1, 2, 2)
		good   = must(kernel.AttentionState(x, x, x, kernel.Options{}))
		ready  = must(kernel.NewAttention(kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 2, Keys: 2, Dim: 2,
			ValueDim: 2}, kernel.Options{}))
	)
	for name, call := range map[string]func() error{
		"Plan.Run: Plan":               func() error { return plan.Run(x, x, x, x) },
		"Plan.Reset: Plan":             func() error { return plan.Reset(kernel.Shape{}, kernel.Options{}) },
		"Plan.RunState: Plan":          func() error { return plan.RunState(good, x, x, x) },
		"Plan.RunState: s":             func() error { return ready.RunState(nil, x, x, x) },
		"State.Merge: State":           func() error { return state.Merge(good) },
		"State.Merge: later":           func() error { return good.Merge(nil) },
		"State.Finish: State":          func() error { return state.Finish(x, nil, nil) },
		"State.MarshalBinary: State":   func() error { _, err := state.MarshalBinary(); return err },
		"State.UnmarshalBinary: State": func() error { return state.UnmarshalBinary(nil) },
		"Cache.Append: Cache":          func() error { return cache.Append(x, x) },
		"Cache.Truncate: Cache":        func() error { return cache.Truncate(0) },
		"Attender.Attend: Attender":    func() error { return attend.Attend(x, x, nil, kernel.Options{}) },
		"Attend: caches": func() error {
			return kernel.Attend(x, x, []*kernel.Cache{nil},
				kernel.Options{})
		},
		"MultiHead.Forward: MultiHead": func() error { return layer.Forward(x, kernel.MultiHeadInput{}) },
		"Rotary.Apply: Rotary":         func() error { return rotary.Apply(x, kernel.Positions{}) },
		"MatMul: w": func() error {
			return kernel.MatMul(kernel.RowMajor(floats(1), 1, 1), kernel.RowMajor(floats(1), 1, 1), w,
				kernel.MatMulOptions{})
		},
		"Attention: Options.Mask": func() error {
			return kernel.Attention(kernel.BHSD(floats(4), 1, 1, 2, 2), x, x, x,
				kernel.Options{Mask: (*kernel.Causal)(nil)})
		},
		"NewAttention: Options.Mask": func() error {
			mask := kernel.And{kernel.Or{kernel.Causal{}, (*kernel.Window)(nil)}}
			_, err := kernel.NewAttention(kernel.ShapeOf(x, x, x), kernel.Options{Mask: mask})
			return err
		},
	} {
		err := call()
		require.ErrorIs(t, err, kernel.ErrOption, name)
		require.ErrorContains(t, err, "quern: "+name+": ")
		require.ErrorContains(t, err, "nil")
	}
	for name, call := range map[string]func(){
		"Plan.Clone": func() { plan.Clone() }, "MultiHead.Clone": func() { layer.Clone() },
		"Weights.Rows": func() { w.Rows() }, "Weights.Cols": func() { w.Cols() },
		"Pool.NewCache": func() { pool.NewCache() }, "Pool.PageBytes": func() { pool.PageBytes() },
		"Pool.Bytes": func() { pool.Bytes() }, "Pool.Trim": func() { pool.Trim() }, "Pool.FreeBytes": func() { pool.FreeBytes() },
		"Cache.Len": func() { cache.Len() }, "Cache.Bytes": func() { cache.Bytes() }, "Cache.Pool": func() { cache.Pool() },
		"Cache.Fork": func() { cache.Fork() }, "Cache.Reset": func() { cache.Reset() }, "Cache.Free": func() { cache.Free() },
	} {
		typ, _, _ := strings.Cut(name, ".")
		require.PanicsWithValue(t, fmt.Sprintf("quern: %s: %s is nil", name, typ), call)
	}
}
