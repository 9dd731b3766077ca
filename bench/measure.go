package main

import (
	"iter"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/measure"
)

const (
	slice    = 20 * time.Millisecond // the least time that a case, or reading its input, takes in a round
	portions = 10                    // that a round of a case is divided into, with a burst of the peak loop behind each
	burst    = slice / portions / 8
	patience = 4 * time.Second // after which a case gets no further round
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

func newPace(run func(int), least time.Duration) pace {
	return pace{run, enough(run, clock(run, 1), least)}
}

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
		r.calls = enough(j.run, clock(j.run, 1), slice)
	}
	if j.flops != nil {
		r.flops = j.flops()
		r.peak = newPace(measure.PeakFMA(), burst)
	}
	if j.read != nil {
		r.read = newPace(j.read, slice)
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
//
// The peak loop runs in bursts so short that the clock stays what the job has made it: a CPU that slows down for
// work that moves data, as Intel's servers do by an eighth, speeds up again some milliseconds into a loop that
// moves none.
func (r *race) roundOf(calls int, before, after func()) (t round) {
	if r.read.run != nil {
		t.read = clock(r.read.run, r.read.calls)
	}
	bursts := 0.0
	for done := 0; done < calls; {
		n := min(max(calls/portions, 1), calls-done)
		start := uint64(0)
		if done == 0 { // once, because asking stops the world
			start = mallocs()
		}
		before()
		t.ns += r.job.clock(n) * float64(n)
		after()
		if done == 0 {
			t.allocs = math.Floor(float64(mallocs()-start) / float64(n))
		}
		if r.peak.run != nil {
			t.peak += r.burst()
			bursts++
		}
		done += n
	}
	t.ns /= float64(calls)
	if bursts > 0 {
		// the least time that so many FLOPs can take
		t.peak *= r.flops / (measure.PeakFLOPs * float64(r.job.workers) * bursts)
	}
	t.peak *= 100 / t.ns
	t.read *= 100 / t.ns
	return t
}

// burst is the time of a call of the peak loop on as many goroutines as the job has.
func (r *race) burst() float64 {
	if r.job.workers == 1 {
		return clock(r.peak.run, r.peak.calls)
	}
	return measure.Together(r.job.workers, r.peak.run, r.peak.calls)
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

// enough is the number of calls that take at least so long, if one took ns nanoseconds.
func enough(run func(calls int), ns float64, least time.Duration) int {
	return measure.Enough(clock, run, ns, least)
}

// What times are taken with, shared with the modules beside this folder; -cpu takes another clock.
var (
	clock  = measure.Clock
	median = measure.Median
)

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func pointer(x float64) *float64 { return &x }
