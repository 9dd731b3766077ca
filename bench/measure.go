package main

import (
	"iter"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
)

const (
	slice    = 20 * time.Millisecond // the least time that a case or its limit runs in a round
	patience = 4 * time.Second       // after which a case gets no further round
)

// result is what the report says about a case; a nil pointer is a number that makes no sense for it.
type result struct {
	Case    string   `json:"case"`
	What    string   `json:"what"`
	ISA     string   `json:"isa"`
	Workers int      `json:"workers"`
	NS      float64  `json:"ns"`       // of a call, median
	BestNS  float64  `json:"best_ns"`  // least
	FirstNS float64  `json:"first_ns"` // of the first, with making the plan or filling the cache
	WarmNS  *float64 `json:"warm_ns"`  // median of calls that take the same input again, of a cold case
	GFLOPS  *float64 `json:"gflops"`   // useful ones
	PeakPct *float64 `json:"peak_pct"` // share of the peak of fused multiply-add
	Element *float64 `json:"ns_per_element"`
	GBS     *float64 `json:"gbs"`        // that must be read
	BWPct   *float64 `json:"bw_pct"`     // share of the speed at which the same bytes can be read
	Cold    *int     `json:"cold_bytes"` // that a cold case reads before any of them again
	MaxErr  float64  `json:"max_err"`    // see job
	Digest  string   `json:"digest"`
	Same    []string `json:"same"`    // the other ISAs that gave this digest, and "golden" for the committed one
	Differs []string `json:"differs"` // those that did not
	Allocs  float64  `json:"allocs"`  // in a call
	Rounds  int      `json:"rounds"`
}

// measure runs the case on the active ISA.
func (c Case) measure(workers, rounds int, progress *progress) result {
	progress.show("%s on %v", c.Name, isa.Active())
	j := c.prepare(workers)
	r := result{Case: c.Name, What: c.String(), ISA: isa.Active().String(), Workers: j.workers, Differs: []string{}}
	race := newRace(j)
	r.FirstNS = race.first
	r.MaxErr = j.maxErr()
	c.compare(&r, j)
	runtime.GC() // so that none starts later: the rounds do not allocate

	var times, peak, read []float64
	r.Allocs = math.Inf(1)
	for r.Rounds = range patiently(rounds) {
		progress.show("%s on %v: round %d of %d", c.Name, isa.Active(), r.Rounds, rounds)
		round := race.round()
		times = append(times, round.ns)
		peak = append(peak, round.peak)
		read = append(read, round.read)
		r.Allocs = min(r.Allocs, round.allocs) // the runtime's own only come now and then
	}
	r.NS, r.BestNS = median(times), slices.Min(times)
	if race.flops > 0 {
		r.GFLOPS, r.PeakPct = pointer(race.flops/r.NS), pointer(median(peak))
	}
	if j.bytes > 0 {
		r.GBS, r.BWPct = pointer(float64(j.bytes)/r.NS), pointer(median(read))
	}
	if j.elements > 0 {
		r.Element = pointer(r.NS / float64(j.elements))
	}
	if j.inputs != nil {
		r.Cold = &race.cold
		r.WarmNS = pointer(race.warm(rounds))
		debug.FreeOSMemory() // all but one copy is garbage
	}
	return r
}

// patiently counts rounds from 1 on, until there are enough or patience is at an end.
func patiently(rounds int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for start, n := time.Now(), 1; n <= rounds && (n == 1 || time.Since(start) < patience) && yield(n); n++ {
		}
	}
}

// compare fills in the digest of j, which has run, and who agrees with it.
func (c Case) compare(r *result, j *job) {
	r.Digest = digest(j.output()...)
	agree := func(name, digest string) {
		if digest == r.Digest {
			r.Same = append(r.Same, name)
		} else {
			r.Differs = append(r.Differs, name)
		}
	}
	for _, level := range j.levels() {
		if level != isa.Active() {
			agree(level.String(), c.digest(level))
		}
	}
	if golden, ok := committed("cases.txt")[c.Name]; ok {
		agree("golden", golden)
	}
}

// levels are those on which j takes little time: portable Go needs minutes for some.
func (j *job) levels() []isa.Level {
	return slices.DeleteFunc(isa.Supported(), func(l isa.Level) bool {
		return l == isa.Go && j.flops != nil && j.flops() > 1e8
	})
}

// digest computes the case on one level.
func (c Case) digest(level isa.Level) string {
	defer isa.Use(level)()
	j := c.prepare(1)
	j.run(1)
	return digest(j.output()...)
}

// race alternates a job with its limits.
type race struct {
	job        *job
	flops      float64 // in a call
	first      float64 // time of the first call
	calls      int     // in a round
	cold       int     // bytes of all inputs, of a cold job
	peak, read pace
}

// pace is the running of a limit.
type pace struct {
	run   func(calls int) // nil if there is none
	calls int
}

func newPace(run func(int)) pace { return pace{run, enough(run, clock(run, 1))} }

// newRace makes the first call of a job, and then the copies of its inputs.
func newRace(j *job) *race {
	r := &race{job: j, first: clock(j.run, 1), calls: j.calls}
	for i, in := range j.inputs {
		bytes := in.grow(coldBytes())
		if i == 0 {
			r.cold = bytes
		}
	}
	if r.calls == 0 {
		r.calls = enough(j.run, clock(j.run, 1))
	}
	if j.flops != nil {
		r.flops = j.flops()
		r.peak = newPace(peakFMA(j.workers))
	}
	if j.read != nil {
		r.read = newPace(j.read)
	}
	return r
}

// warm is the median time of a call that takes the same input as the one before. It ends the race.
func (r *race) warm(rounds int) float64 {
	for _, in := range r.job.inputs {
		in.shrink()
	}
	r.job.run(1)
	var times []float64
	for range patiently(rounds) {
		times = append(times, clock(r.job.run, r.calls))
	}
	return median(times)
}

// round is one alternation: the time of a call, and the shares of the limits in percent.
type round struct{ ns, peak, read, allocs float64 }

func (r *race) round() round { return r.roundOf(r.calls, func() {}, func() {}) }

// roundOf makes a given number of calls of the job, between two functions.
func (r *race) roundOf(calls int, before, after func()) (t round) {
	if r.peak.run != nil {
		// the least time that so many FLOPs can take
		t.peak = clock(r.peak.run, r.peak.calls) * r.flops / (peakFLOPs * float64(r.job.workers))
	}
	if r.read.run != nil {
		t.read = clock(r.read.run, r.read.calls)
	}
	start := mallocs()
	before()
	t.ns = r.job.clock(calls)
	after()
	t.allocs = math.Floor(float64(mallocs()-start) / float64(calls))
	t.peak *= 100 / t.ns
	t.read *= 100 / t.ns
	return t
}

// clock is the time of a call in nanoseconds.
func (j *job) clock(calls int) float64 {
	if j.before == nil {
		return clock(j.run, calls)
	}
	sum := 0.0
	for range calls {
		j.before()
		sum += clock(j.run, 1)
	}
	return sum / float64(calls)
}

// peakRounds is the number of rounds in a call of the peak loop, 24 fused multiply-adds of 16 lanes
// each: about 30 µs.
const (
	peakRounds = 4096
	peakFLOPs  = peakRounds * 24 * 16 * 2
)

// peakFMA runs the peak loop on so many goroutines at once.
func peakFMA(workers int) func(calls int) {
	level := isa.Active()
	return func(calls int) {
		parallel(workers, func(int) {
			for range calls {
				asm.PeakFMA(level, peakRounds)
			}
		})
	}
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

// clock is the time of a call in nanoseconds.
func clock(run func(calls int), calls int) float64 {
	start := time.Now()
	run(calls)
	return float64(time.Since(start).Nanoseconds()) / float64(calls)
}

// enough is the number of calls that take a slice of time, if one took ns nanoseconds.
func enough(run func(calls int), ns float64) int {
	for calls := 1; ; ns = clock(run, calls) {
		missing := float64(slice.Nanoseconds()) / (ns * float64(calls))
		if missing <= 1.1 {
			return calls
		}
		calls = int(math.Ceil(float64(calls) * min(missing, 100)))
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

func pointer(x float64) *float64 { return &x }
