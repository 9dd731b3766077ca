package kernel

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"sort"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// threadTime is the time that this thread has run, which other programs disturb less than the clock; with
// several workers it is the clock.
func threadTime(workers int) float64 {
	if workers > 1 {
		return float64(time.Now().UnixNano())
	}
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return float64(ts.Nano())
}

func TestMatMulPerf(t *testing.T) {
	want := os.Getenv("MMPERF")
	if want == "" {
		t.Skip()
	}
	workers := 1
	fmt.Sscan(os.Getenv("W"), &workers)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := rand.New(rand.NewSource(1))
	for _, c := range []struct {
		name    string
		m, k, n int
	}{{"N512", 512, 512, 512}, {"N1024", 1024, 1024, 1024}, {"N2048", 2048, 2048, 2048}, {"B1", 128, 768, 2304}, {"Q1", 1, 4096, 4096}, {"Q4", 4, 4096, 4096}, {"Q8", 8, 4096, 4096}, {"K8", 256, 8192, 1024}, {"small", 16, 384, 384}} {
		if want != "1" && want != c.name {
			continue
		}
		x, wd, y := rv(r, c.m*c.k), rv(r, c.k*c.n), make([]float32, c.m*c.n)
		w, err := Pack(RowMajor(wd, c.k, c.n))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []isa.Level{isa.AVX512, isa.AVX2} {
			f := isa.Use(l)
			run := func() {
				if err := MatMul(RowMajor(y, c.m, c.n), RowMajor(x, c.m, c.k), w, MatMulOptions{Workers: workers}); err != nil {
					t.Fatal(err)
				}
			}
			run()
			fl := 2 * float64(c.m) * float64(c.k) * float64(c.n)
			reps := int(5e8/fl) + 1
			var share, stream []float64
			best, top := 1e18, 0.0
			for range 15 {
				n := 10000
				t0 := threadTime(workers)
				asm.PeakFMA(l, n)
				peak := float64(n) * 24 * 32 / (threadTime(workers) - t0)
				t0 = threadTime(workers)
				for i := 0; i < len(w.f32); i += 1 << 15 {
					asm.ReadSum(l, &w.f32[i], min(1<<15, len(w.f32)-i)/64*64)
				}
				read := (threadTime(workers) - t0)
				t0 = threadTime(workers)
				for range reps {
					run()
				}
				tt := (threadTime(workers) - t0) / float64(reps)
				top = max(top, peak)
				share = append(share, fl/tt/peak*100)
				stream = append(stream, read/tt*100)
				best = min(best, tt)
			}
			sort.Float64s(share)
			sort.Float64s(stream)
			fmt.Printf("%-6s %-7v of peak: median %.1f%% best/best %.1f%%; of streaming W: median %.1f%% best %.1f%%  %.1f GF %.1f GB/s %.1f us allocs %v\n", c.name, l, share[7], 100*fl/best/top, stream[7], stream[14], fl/best,
				4*float64(c.k*c.n)/best, best/1e3, testing.AllocsPerRun(3, run))
			f()
		}
	}
}

func TestLayerPerf(t *testing.T) {
	if os.Getenv("H1PERF") == "" {
		t.Skip()
	}
	workers := 1
	fmt.Sscan(os.Getenv("W"), &workers)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := rand.New(rand.NewSource(1))
	const n, d, h = 128, 768, 12
	w := func(rows, cols int) *Weights { return pack(t, scaled(r, rows, cols), rows, cols) }
	for _, fused := range []bool{false, true} {
		o := MultiHeadOptions{Heads: h, Out: w(d, d), OutBias: rv(r, d), Workers: workers}
		if fused {
			o.QKV, o.QKVBias = w(d, 3*d), rv(r, 3*d)
		} else {
			o.Query, o.Key, o.Value = w(d, d), w(d, d), w(d, d)
			o.QueryBias, o.KeyBias, o.ValueBias = rv(r, d), rv(r, d), rv(r, d)
		}
		l, err := NewMultiHead(o)
		if err != nil {
			t.Fatal(err)
		}
		x, y := rv(r, n*d), make([]float32, n*d)
		for _, level := range []isa.Level{isa.AVX512, isa.AVX2} {
			restore := isa.Use(level)
			l.prepared = false // for this level
			run := func() {
				if err := l.Forward(BHSD(y, 1, 1, n, d), MultiHeadInput{X: BHSD(x, 1, 1, n, d)}); err != nil {
					t.Fatal(err)
				}
			}
			run()
			fl := float64(2*n*d*d*4 + 4*n*n*d)
			var share []float64
			best, top := 1e18, 0.0
			for range 41 {
				t0 := threadTime(workers)
				asm.PeakFMA(level, 10000)
				peak := 10000 * 24 * 32 / (threadTime(workers) - t0)
				t0 = threadTime(workers)
				run()
				tt := threadTime(workers) - t0
				share, best, top = append(share, fl/tt/peak*100), min(best, tt), max(top, peak)
			}
			sort.Float64s(share)
			fmt.Printf("H1 fused %v %v: of peak: median %.1f%% best/best %.1f%% %.0f us allocs %v\n", fused, level, share[20], fl/best/top*100, best/1e3, testing.AllocsPerRun(3, run))
			restore()
		}
	}
}
