package fuzz_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/quern-go/quern/fuzz"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

// TestSoak runs everything at once from many goroutines, in guarded memory, while the garbage collector is
// forced again and again. Each goroutine repeats one problem, which must give the bits of its first
// result; goroutines, heap and resident memory must not grow. It takes a second, or as long as QUERN_SOAK says:
// QUERN_SOAK=10m go test -run TestSoak -timeout 0 -v ./fuzz
func TestSoak(t *testing.T) {
	length, each := time.Second, 1 // goroutines of a kind
	if text := os.Getenv("QUERN_SOAK"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err)
		each = 3
	}
	defer debug.SetMaxStack(debug.SetMaxStack(128 << 10)) // more would be a surprise
	pool, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 2, Dim: 40, ValueDim: 24, PageKeys: 128})
	require.NoError(t, err)
	kinds := []struct {
		name string
		make func(t *testing.T, s *fuzz.Source) func() []float32
	}{
		{"attention", soakAttention},
		{"cache", func(t *testing.T, s *fuzz.Source) func() []float32 { return soakCache(t, s, pool) }},
		{"matmul", soakMatMul},
		{"softmax", soakSoftmax},
		{"dot", soakDot},
	}
	done := make([]atomic.Int64, len(kinds))
	var stop atomic.Bool
	var all sync.WaitGroup
	for i, k := range kinds {
		for n := range each {
			run := k.make(t, fuzz.NewSource(uint64(n), uint64(i)))
			want := run()
			all.Go(func() {
				for !stop.Load() && !t.Failed() {
					for x, got := range run() {
						if !fuzz.Same(got, want[x]) {
							t.Errorf("%s %d: element %d is %v, was %v", k.name, n, x, got, want[x])
							return
						}
					}
					done[i].Add(1)
				}
			})
		}
	}
	var samples []sample
	for start := time.Now(); time.Since(start) < length && !t.Failed(); {
		runtime.GC()
		if len(samples)%16 == 0 {
			debug.FreeOSMemory()
		}
		samples = append(samples, takeSample())
		time.Sleep(20 * time.Millisecond)
	}
	stop.Store(true)
	all.Wait()
	require.Zero(t, pool.Bytes(), "pages that caches hold")
	samples = samples[len(samples)/10:] // while it warms up
	third := (len(samples) + 2) / 3
	first, last := median(samples[:third]), median(samples[len(samples)-third:])
	var counts []string
	for i, k := range kinds {
		counts = append(counts, fmt.Sprintf("%s %d", k.name, done[i].Load()))
	}
	t.Logf("%v on %s, %d processors: %s; %d samples, medians of the first third: %v; of the last: %v", length, isa.Active(), runtime.GOMAXPROCS(0), strings.Join(counts, ", "), len(samples), first, last)
	if length >= 10*time.Second { // before that, memory has not settled
		require.LessOrEqual(t, last.goroutines, first.goroutines+first.goroutines/5+2, "goroutines")
		require.LessOrEqual(t, last.heap, first.heap+first.heap/10+4<<20, "heap")
		require.LessOrEqual(t, last.resident, first.resident+first.resident/10+8<<20, "resident memory")
	}
}

// sample is the process at one time, or a median of several.
type sample struct{ goroutines, heap, resident int } // bytes

func (s sample) String() string {
	return fmt.Sprintf("%d goroutines, heap %.1f MB, resident %.1f MB", s.goroutines, float64(s.heap)/1e6, float64(s.resident)/1e6)
}

func takeSample() sample {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{goroutines: runtime.NumGoroutine(), heap: int(m.HeapAlloc)}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil { // on Linux
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.Atoi(fields[1])
			s.resident = pages * os.Getpagesize()
		}
	}
	return s
}

func median(samples []sample) (m sample) {
	if len(samples) == 0 {
		return m
	}
	of := func(get func(sample) int) int {
		var x []int
		for _, s := range samples {
			x = append(x, get(s))
		}
		slices.Sort(x)
		return x[len(x)/2]
	}
	return sample{
		of(func(s sample) int { return s.goroutines }), of(func(s sample) int { return s.heap }), of(func(s sample) int { return s.resident }),
	}
}

// soakAttention is a causal attention whose tiles and spans are shared out.
func soakAttention(t *testing.T, s *fuzz.Source) func() []float32 {
	p := chosen([]byte{1, 1, 1, 100, 5, byte(s.IntN(256)), 60, 50, byte(s.IntN(3)), 1, 40, 90, 30, 70})
	p.place(t, s, s.Float32)
	return func() []float32 { return p.run(t, isa.Active(), 3) }
}

// guarded is a matrix flush against the page that faults, filled from s.
func guarded(t *testing.T, name string, s *fuzz.Source, rows, cols int) *fuzz.Buffer {
	b := fuzz.Map(t, rows*cols).Place(name, fuzz.Tail, rows, cols, cols)
	b.Fill(s.Float32)
	b.Seal()
	return b
}

func memoryOf(b *fuzz.Buffer) []float32 { return unsafe.Slice(b.Ptr(), b.Rows*b.Cols) }

// intact reports what was written beside the elements of out, or at all to inputs.
func intact(t *testing.T, out *fuzz.Buffer, in ...*fuzz.Buffer) []float32 {
	if err := out.Intact(); err != nil {
		t.Error(err)
	}
	for _, b := range in {
		if err := b.Unchanged(); err != nil {
			t.Error(err)
		}
	}
	return out.Elements()
}

// soakCache appends in pieces, forks, and attends to both, with pages that other goroutines had before.
func soakCache(t *testing.T, s *fuzz.Source, pool *kernel.Pool) func() []float32 {
	const keys, heads = 300, 4
	k, v := guarded(t, "k", s, keys, 2*40), guarded(t, "v", s, keys, 2*24)
	q, out := guarded(t, "q", s, 2*heads, 40), guarded(t, "out", s, 2*heads, 24)
	piece := 1 + s.IntN(90)
	return func() []float32 {
		c := pool.NewCache()
		for from := 0; from < keys; from += piece {
			n := min(piece, keys-from)
			err := c.Append(kernel.BSHD(memoryOf(k)[from*80:], 1, n, 2, 40), kernel.BSHD(memoryOf(v)[from*48:], 1, n, 2, 24))
			if err != nil {
				t.Error(err)
			}
		}
		f := c.Fork()
		if err := f.Append(kernel.BSHD(memoryOf(k), 1, 5, 2, 40), kernel.BSHD(memoryOf(v), 1, 5, 2, 24)); err != nil {
			t.Error(err)
		}
		err := kernel.Attend(kernel.BHSD(memoryOf(out), 2, heads, 1, 24), kernel.BHSD(memoryOf(q), 2, heads, 1, 40), []*kernel.Cache{c, f}, kernel.Options{Workers: 2})
		if err != nil {
			t.Error(err)
		}
		c.Free()
		f.Free()
		return intact(t, out, k, v, q)
	}
}

func soakMatMul(t *testing.T, s *fuzz.Source) func() []float32 {
	const rows, depth, cols = 70, 300, 130
	x, w, y := guarded(t, "x", s, rows, depth), guarded(t, "w", s, depth, cols), guarded(t, "y", s, rows, cols)
	packed, err := kernel.Pack(kernel.RowMajor(memoryOf(w), depth, cols))
	require.NoError(t, err)
	return func() []float32 {
		err := kernel.MatMul(kernel.RowMajor(memoryOf(y), rows, cols), kernel.RowMajor(memoryOf(x), rows, depth), packed, kernel.MatMulOptions{Workers: 3})
		if err != nil {
			t.Error(err)
		}
		return intact(t, y, x, w)
	}
}

func soakSoftmax(t *testing.T, s *fuzz.Source) func() []float32 {
	n := 70000 + s.IntN(100) // more than the stack has room for
	src, dst := guarded(t, "src", s, 1, n), guarded(t, "dst", s, 1, n)
	return func() []float32 {
		kernel.Softmax(memoryOf(dst), memoryOf(src))
		return intact(t, dst, src)
	}
}

func soakDot(t *testing.T, s *fuzz.Source) func() []float32 {
	n := 40000 + s.IntN(100)
	x, y, dst := guarded(t, "x", s, 1, n), guarded(t, "y", s, 1, n), guarded(t, "dst", s, 1, n/100)
	return func() []float32 {
		kernel.DotRows(memoryOf(dst), memoryOf(x)[:100], kernel.RowsOf(memoryOf(y)[:n/100*100], 100),
			kernel.ScanOptions{Workers: 2})
		return append(intact(t, dst, x, y), kernel.Dot(memoryOf(x), memoryOf(y)))
	}
}
