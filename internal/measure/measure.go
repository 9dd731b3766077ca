// Package measure is what the benchmarks share: clocks, what the hardware can do at most, inputs, and times in words.
package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

// Clock is the time of a call in nanoseconds.
func Clock(run func(calls int), calls int) float64 {
	start := time.Now()
	run(calls)
	return float64(time.Since(start).Nanoseconds()) / float64(calls)
}

// CPUClock is the [CPUTime] of a call.
func CPUClock(run func(calls int), calls int) float64 {
	start := CPUTime()
	run(calls)
	return float64(CPUTime()-start) / float64(calls)
}

// Enough is the number of calls that take a slice of time by some clock, if one took ns nanoseconds.
func Enough(clock func(run func(calls int), calls int) float64, run func(calls int), ns float64, slice time.Duration) int {
	for calls := 1; ; ns = clock(run, calls) {
		missing := float64(slice.Nanoseconds()) / (ns * float64(calls))
		if missing <= 1.1 {
			return calls
		}
		calls = int(math.Ceil(float64(calls) * min(missing, 100)))
	}
}

// Median is the middle of x, or between the two in the middle.
func Median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// peakRounds is the number of rounds in a call of the peak loop, 24 fused multiply-adds of 16 lanes
// each: about 30 µs.
const peakRounds = 4096

// PeakFLOPs are those that one call of [PeakFMA] makes.
const PeakFLOPs = peakRounds * 24 * 16 * 2

// PeakFMA runs the peak loop of the active ISA.
func PeakFMA() func(calls int) {
	level := isa.Active()
	return func(calls int) {
		for range calls {
			asm.PeakFMA(level, peakRounds)
		}
	}
}

// Together is the time of a call in nanoseconds when so many goroutines make calls at once, by each one's own clock from when
// all are there: waking them may take longer than the calls.
func Together(workers int, run func(calls int), calls int) float64 {
	var there atomic.Int32
	speeds := make([]float64, workers) // of which the sum counts
	parallel(workers, func(w int) {
		for there.Add(1); int(there.Load()) < workers; {
			runtime.Gosched()
		}
		speeds[w] = 1 / Clock(run, calls)
	})
	sum := 0.0
	for _, speed := range speeds {
		sum += speed
	}
	return float64(workers) / sum
}

// Stream reads data from end to end, with so many workers.
func Stream(data []float32, workers int) func(calls int) {
	const most = 1 << 15 // in a call of assembly, which cannot be preempted
	level := isa.Active()
	return func(calls int) {
		parallel(workers, func(w int) {
			for range calls {
				for rest := share(data, w, workers); len(rest) > 0; {
					n := min(len(rest), most)
					asm.ReadSum(level, unsafe.SliceData(rest), n)
					rest = rest[n:]
				}
			}
		})
	}
}

// share is the part of data that a worker reads. All but the last 63 numbers are read by somebody.
func share(data []float32, worker, workers int) []float32 {
	const unit = 64 // numbers that ReadSum reads at least
	units := len(data) / unit
	return data[units*worker/workers*unit : units*(worker+1)/workers*unit]
}

// parallel calls f(0) to f(workers-1) at once.
func parallel(workers int, f func(worker int)) {
	var all sync.WaitGroup
	for w := 1; w < workers; w++ {
		all.Go(func() { f(w) })
	}
	f(0)
	all.Wait()
}

// CPUName asks the operating system what CPU this is.
func CPUName() string {
	switch runtime.GOOS {
	case "linux":
		info, _ := os.ReadFile("/proc/cpuinfo")
		for line := range strings.Lines(string(info)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	case "darwin":
		if name, err := exec.Command("sysctl", "-n", "machdep.cpu.brand_string").Output(); err == nil {
			return strings.TrimSpace(string(name))
		}
	case "windows":
		if name := os.Getenv("PROCESSOR_IDENTIFIER"); name != "" {
			return name
		}
	}
	return "unknown CPU"
}

// Normal makes n numbers that are N(0, 1).
func Normal(seed uint64, n int) []float32 {
	random := rand.New(rand.NewPCG(seed, 0))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

// Duration writes nanoseconds with three digits.
func Duration(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns {
			return fmt.Sprintf("%.3g %s", ns/u.ns, u.name)
		}
	}
	return fmt.Sprintf("%.3g ns", ns)
}
