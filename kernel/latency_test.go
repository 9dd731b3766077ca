package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// Assembly cannot be preempted, so whoever wants to stop the world waits for the call under way. These tests
// measure that wait, which is all that others see of a kernel's length. The machine may be busy with
// something else: what counts is the best of a few attempts, beside the same with a loop in plain Go.

// during runs work on a goroutine over and over until observe returns.
func during(work func(), observe func()) {
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			work()
		}
	}()
	observe()
	stop.Store(true)
	<-done
}

var spun atomic.Int64

// spin is work that can be preempted anywhere.
func spin() {
	n := int64(0)
	for i := range int64(1 << 20) {
		n += i * i
	}
	spun.Store(n)
}

// quantiles are some of the measured times.
type quantiles struct{ p50, p90, p99, max time.Duration }

func (q quantiles) String() string {
	return fmt.Sprintf("median %v, p90 %v, p99 %v, largest %v", q.p50.Round(time.Microsecond), q.p90.Round(time.Microsecond), q.p99.Round(time.Microsecond), q.max.Round(time.Microsecond))
}

func quantilesOf(times []time.Duration) quantiles {
	slices.Sort(times)
	at := func(p float64) time.Duration { return times[min(int(p*float64(len(times))), len(times)-1)] }
	return quantiles{at(0.5), at(0.9), at(0.99), at(1)}
}

// stops stops the world n times while work runs, and returns how long all goroutines took to stand still.
func stops(n int, work func()) quantiles {
	// Of a histogram, a time is the upper end of its bucket.
	sample := []metrics.Sample{{Name: "/sched/pauses/stopping/other:seconds"}}
	read := func() []uint64 {
		metrics.Read(sample)
		return slices.Clone(sample[0].Value.Float64Histogram().Counts)
	}
	var before, after []uint64
	during(work, func() {
		time.Sleep(time.Millisecond)
		before = read()
		var m runtime.MemStats
		for range n {
			runtime.ReadMemStats(&m) // stops the world
			time.Sleep(200 * time.Microsecond)
		}
		after = read()
	})
	buckets := sample[0].Value.Float64Histogram().Buckets
	var times []time.Duration
	for i := range after {
		for range after[i] - before[i] {
			end := buckets[i+1]
			if math.IsInf(end, 1) {
				end = buckets[i]
			}
			times = append(times, time.Duration(end*1e9))
		}
	}
	return quantilesOf(times)
}

// wakeUps returns how much later than asked for a sleeping goroutine goes on while work runs.
func wakeUps(n int, work func()) quantiles {
	var times []time.Duration
	during(work, func() {
		for range n {
			const asked = 200 * time.Microsecond
			start := time.Now()
			time.Sleep(asked)
			times = append(times, time.Since(start)-asked)
		}
	})
	return quantilesOf(times)
}

// pushedAside counts how often another process took a processor away from this one, on Linux: a thread in
// assembly that does not run cannot stop.
func pushedAside() (total int) {
	paths, _ := filepath.Glob("/proc/self/task/*/status") // a bad pattern is its only error
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		if _, rest, ok := strings.Cut(string(text), "nonvoluntary_ctxt_switches:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(rest))
			total += n
		}
	}
	return total
}

// best measures until the time that counts is within its limit, or that of plain Go doubled, which it also
// measures; at most five times. Attempts in which the machine was busy are no failures.
func best(t *testing.T, what string, limit time.Duration, counts func(quantiles) time.Duration, measure func(work func()) quantiles, work func()) {
	t.Helper()
	var got, plain quantiles
	busy := true
	for range 5 {
		before, start := pushedAside(), time.Now()
		got = measure(work)
		often := float64(pushedAside()-before) / time.Since(start).Seconds()
		plain = measure(spin)
		if counts(got) <= max(limit, 2*counts(plain)) {
			t.Logf("%s: %v; beside plain Go %v", what, got, plain)
			return
		}
		busy = busy && often > 20 // a second
	}
	if busy {
		t.Skipf("%s: the machine is busy", what)
	}
	t.Errorf("%s: %v, want at most %v; beside plain Go %v", what, got, limit, plain)
}

// longAttention is one head of many keys, on one worker: a call of about a second.
func longAttention(t *testing.T, keys int, opts kernel.Options) func() {
	shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: keys, Keys: keys, Dim: 64, ValueDim: 64}
	run, _ := planOf(t, normalProblem(1, shape, opts), 1)
	return run
}

// TestOthersGoOn: during a long attention, other goroutines wake up and the garbage collector stops the world
// within a millisecond.
func TestOthersGoOn(t *testing.T) {
	if race || testing.Short() || isa.Active() == isa.Go {
		t.Skip("for assembly, where time is what it is")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	run := longAttention(t, 8192, kernel.Options{})
	p99 := func(q quantiles) time.Duration { return q.p99 }
	const n = 500
	best(t, "waking up", time.Millisecond, p99, func(work func()) quantiles { return wakeUps(n, work) }, run)
	best(t, "stopping the world", time.Millisecond, p99, func(work func()) quantiles { return stops(n, work) }, run)
}

// TestCallsAreShort: nine of ten attempts to stop the world wait for about 50 µs at most, which is the rest of a
// call; calls that last a millisecond make most of them wait for hundreds.
func TestCallsAreShort(t *testing.T) {
	if race || testing.Short() || isa.Active() == isa.Go {
		t.Skip("for assembly, where time is what it is")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	r := rand.New(rand.NewPCG(1, 0))
	const long = 1 << 22
	x, y := normal(r, long), normal(r, long)
	halves, bytes, words := make([]kernel.BF16, long), make([]int8, long), make([]uint64, long/4)
	kernel.Narrow(halves, x)
	matrix := func(rows, cols int) kernel.Matrix { return kernel.RowMajor(x[:rows*cols], rows, cols) }
	square := must(kernel.Pack(matrix(1024, 1024)))
	product := floats(1024 * 1024)
	multiply := func(rows int) func() {
		return func() {
			if err := kernel.MatMul(kernel.RowMajor(product[:rows*1024], rows, 1024), matrix(rows, 1024), square, kernel.MatMulOptions{Workers: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	rotary := must(kernel.NewRotary(kernel.RotaryOptions{Dim: 128, Positions: 1024}))
	wideRotary := must(kernel.NewRotary(kernel.RotaryOptions{Dim: long, Positions: 2}))
	turn := func(rotary *kernel.Rotary, x kernel.Tensor, offset int) func() {
		return func() {
			if err := rotary.Apply(x, kernel.Positions{Offset: offset}); err != nil {
				t.Error(err)
			}
		}
	}
	append1024 := func(format kernel.Format) func() {
		c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 8, Dim: 128, Format: format}))
		k := kernel.BSHD(x[:1024*1024], 1, 1024, 8, 128)
		return func() {
			c.Reset()
			if err := c.Append(k, k); err != nil {
				t.Error(err)
			}
		}
	}
	attend := func(format kernel.Format, queries int) func() {
		c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 4, Dim: 128, Format: format}))
		k := kernel.BSHD(x[:4096*512], 1, 4096, 4, 128)
		require.NoError(t, c.Append(k, k))
		q, out, a := kernel.BSHD(y, 1, queries, 32, 128), kernel.BSHD(floats(queries*32*128), 1, queries, 32, 128), new(kernel.Attender)
		return func() {
			if err := a.Attend(out, q, []*kernel.Cache{c}, kernel.Options{Mask: kernel.Causal{}, Workers: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	wide := func(queries, keys, dim int) func() {
		shape := kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: queries, Keys: keys, Dim: dim, ValueDim: dim}
		run, _ := planOf(t, normalProblem(2, shape, kernel.Options{}), 1)
		return run
	}
	// wideCache appends and attends to a few keys as wide as there are.
	wideCache := func(format kernel.Format) func() {
		const dim, keys, heads = 1 << 16, 20, 2
		c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: dim, PageKeys: 128, Format: format}))
		k, q := kernel.BHSD(x[:dim*keys], 1, 1, keys, dim), kernel.BHSD(y[:dim*heads], 1, heads, 1, dim)
		out, a := kernel.BHSD(floats(heads*dim), 1, heads, 1, dim), new(kernel.Attender)
		return func() {
			c.Reset()
			if err := a.AppendAttend(out, q, k, k, []*kernel.Cache{c}, kernel.Options{Workers: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	scores, alone := floats(long), kernel.ScanOptions{Workers: 1}
	for _, c := range []struct {
		name string
		work func()
	}{
		{"Dot", func() { kernel.Dot(x, y) }},
		{"Dot of bfloat16", func() { kernel.Dot(halves, halves) }},
		{"DotInt8", func() { kernel.DotInt8(bytes, bytes) }},
		{"Cosine", func() { kernel.Cosine(x, y) }},
		{"Hamming", func() { kernel.Hamming(words, words) }},
		{"HammingRows", func() { kernel.HammingRows(make([]int32, long/4/16), words[:16], words) }},
		{"Exp", func() { kernel.Exp(scores, x) }},
		{"Softmax", func() { kernel.Softmax(scores, x) }},
		{"LogSoftmax", func() { kernel.LogSoftmax(scores, x) }},
		{"Widen", func() { kernel.Widen(scores, halves) }},
		{"Narrow", func() { kernel.Narrow(halves, y) }},
		{"DotRows", func() { kernel.DotRows(scores[:long/1024], x[:1024], kernel.RowsOf(y, 1024), alone) }},
		{"DotRows, long", func() { kernel.DotRows(scores[:4], x[:long/4], kernel.RowsOf(y, long/4), alone) }},
		{"SquaredL2Rows of int8", func() {
			kernel.SquaredL2Rows(scores[:long/64], bytes[:64], kernel.RowsOf(bytes, 64),
				alone)
		}},
		{"TopK of bfloat16", func() {
			kernel.TopK(make([]kernel.Match, 10), kernel.MetricCosine, x[:256], kernel.RowsOf(halves, 256), alone)
		}},
		{"PairwiseDot", func() {
			kernel.PairwiseDot(scores[:1024*1024], kernel.RowsOf(x[:1024*128], 128), kernel.RowsOf(y[:1024*128], 128),
				alone)
		}},
		{"PairwiseDot, many queries", func() {
			kernel.PairwiseDot(scores[:(1<<16)*64], kernel.RowsOf(x[:(1<<16)*16], 16), kernel.RowsOf(y[:64*16], 16),
				alone)
		}},
		{"PairwiseDot, long", func() {
			kernel.PairwiseDot(scores[:128*128], kernel.RowsOf(x, 1<<15), kernel.RowsOf(y, 1<<15), alone)
		}},
		{"MatMul", multiply(1024)},
		{"MatMul, one row", multiply(1)},
		{"Rotary.Apply", turn(rotary, kernel.BSHD(scores[:1024*1024], 1, 1024, 8, 128), 0)},
		{"Rotary.Apply without tables", turn(rotary, kernel.BSHD(scores[:1024*1024], 1, 1024, 8, 128), -5000)},
		{"Rotary.Apply, many heads", turn(rotary, kernel.BSHD(scores, 1, 1, long/128, 128), 0)},
		{"Rotary.Apply, wide", turn(wideRotary, kernel.BSHD(scores, 1, 1, 1, long), 1)},
		{"Attention", longAttention(t, 2048, kernel.Options{})},
		{"Attention, strided", longAttention(t, 8192, kernel.Options{Mask: kernel.SparseStrided{Stride: 128}})},
		{"Attention, softcap", longAttention(t, 2048, kernel.Options{Softcap: 20, ALiBi: kernel.ALiBi{Slopes: []float32{1}}})},
		{"Attention, 2048 wide", wide(300, 1000, 2048)},
		{"Attention, 65536 wide", wide(13, 130, 1<<16)},
		{"Attention of one query, 65536 wide", wide(1, 130, 1<<16)},
		{"AppendAttend, 65536 wide", wideCache(kernel.Float32)},
		{"AppendAttend, 65536 wide, bfloat16", wideCache(kernel.BFloat16)},
		{"AppendAttend, 65536 wide, int8", wideCache(kernel.Int8)},
		{"Cache.Append", append1024(kernel.Float32)},
		{"Cache.Append, int8", append1024(kernel.Int8)},
		{"Attend, one query", attend(kernel.BFloat16, 1)},
		{"Attend, one query, int8", attend(kernel.Int8, 1)},
		{"Attend, prefill", attend(kernel.Float16, 64)},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.work() // pages are there then
			best(t, c.name, 250*time.Microsecond, func(q quantiles) time.Duration { return q.p90 },
				func(work func()) quantiles { return stops(40, work) }, c.work)
		})
	}
}
