package kernel_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// How a goroutine that called the package has ended.
type ending struct {
	returned bool
	panicked any
}

// endOf runs f on a goroutine of its own, and fails the test if it does not end soon.
func endOf(t *testing.T, f func()) (e ending) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { e.panicked = recover() }()
		f()
		e.returned = true
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	return e
}

// TestFunctionsThatEndTheirGoroutine: a ScoreFunc that panics or calls runtime.Goexit, as t.Fatal does, on whichever
// worker, ends the caller's goroutine in the same way, and leaves no other. The plan then works as before.
func TestFunctionsThatEndTheirGoroutine(t *testing.T) {
	for name, shape := range map[string]kernel.Shape{
		"few tiles": {Batch: 1, Heads: 8, KVHeads: 8, Queries: 200, Keys: 300, Dim: 8, ValueDim: 8},
		"spans":     {Batch: 1, Heads: 8, KVHeads: 8, Queries: 200, Keys: 5000, Dim: 64, ValueDim: 64},
		"shared":    {Batch: 1, Heads: 8, KVHeads: 2, Queries: 300, Keys: 700, Dim: 16, ValueDim: 16},
	} {
		if race {
			shape.Queries, shape.Dim, shape.ValueDim = shape.Queries/8, 4, 4 // which takes long enough
		}
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			var last int64   // the call that does not return
			end := func() {} // what it does instead
			p := normalProblem(1, shape, kernel.Options{ScoreFunc: func(_, _, _, _ int, _ []float32) {
				if calls.Add(1) == last {
					end()
				}
			}})
			run, out := planOf(t, p, 4)
			run()
			want, total := append([]float32(nil), out...), calls.Load()
			before := runtime.NumGoroutine()
			for _, last = range []int64{1, 2, 100, total / 2, total} {
				calls.Store(0)
				end = runtime.Goexit
				require.Equal(t, ending{}, endOf(t, run), "Goexit in call %d of %d", last, total)
				calls.Store(0)
				end = func() { panic("ScoreFunc") }
				require.Equal(t, ending{panicked: "ScoreFunc"}, endOf(t, run), "panic in call %d of %d", last, total)
				calls.Store(total)
				clear(out)
				run()
				require.Equal(t, want, out, "the plan is spoilt")
			}
			require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, // Eventually has one
				5*time.Second, time.Millisecond)
		})
	}
}

// TestAllWorkersEndAtOnce: it makes no difference how many of them do.
func TestAllWorkersEndAtOnce(t *testing.T) {
	shape := kernel.Shape{Batch: 2, Heads: 4, KVHeads: 4, Queries: 130, Keys: 300, Dim: 8, ValueDim: 8}
	for range few(100) {
		var meet sync.WaitGroup // of two workers
		meet.Add(2)
		var calls atomic.Int64
		p := normalProblem(1, shape, kernel.Options{ScoreFunc: func(_, _, _, _ int, _ []float32) {
			if n := calls.Add(1); n <= 2 {
				meet.Done()
			}
			meet.Wait()
			runtime.Goexit()
		}})
		run, _ := planOf(t, p, 4)
		require.Equal(t, ending{}, endOf(t, run))
	}
}
