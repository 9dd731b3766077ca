package main

import (
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/measure"
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
	FirstNS float64  `json:"first_ns"` // of the first, with making the plan
	GFLOPS  *float64 `json:"gflops"`   // useful ones
	PeakPct *float64 `json:"peak_pct"` // share of the peak of fused multiply-add
	Element *float64 `json:"ns_per_element"`
	GBS     *float64 `json:"gbs"`     // that must be read
	BWPct   *float64 `json:"bw_pct"`  // share of the speed at which the same bytes can be read
	MaxErr  float64  `json:"max_err"` // see job
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
	for start := time.Now(); r.Rounds < rounds && (r.Rounds == 0 || time.Since(start) < patience); r.Rounds++ {
		progress.show("%s on %v: round %d of %d", c.Name, isa.Active(), r.Rounds+1, rounds)
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
	return r
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
	calls      int     // that fill a slice of time
	peak, read pace
}

// pace is the running of a limit.
type pace struct {
	run   func(calls int) // nil if there is none
	calls int
}

func newPace(run func(int)) pace { return pace{run, enough(run, clock(run, 1))} }

// newRace makes the first call of a job.
func newRace(j *job) *race {
	r := &race{job: j, first: clock(j.run, 1)}
	r.calls = enough(j.run, r.first)
	if j.flops != nil {
		r.flops = j.flops()
		r.peak = newPace(peakFMA(j.workers))
	}
	if j.read != nil {
		r.read = newPace(j.read)
	}
	return r
}

// round is one alternation: the time of a call, and the shares of the limits in percent.
type round struct{ ns, peak, read, allocs float64 }

func (r *race) round() round { return r.roundOf(r.calls, func() {}, func() {}) }

// roundOf makes a given number of calls of the job, between two functions.
func (r *race) roundOf(calls int, before, after func()) (t round) {
	if r.peak.run != nil {
		// the least time that so many FLOPs can take
		t.peak = clock(r.peak.run, r.peak.calls) * r.flops / (measure.PeakFLOPs * float64(r.job.workers))
	}
	if r.read.run != nil {
		t.read = clock(r.read.run, r.read.calls)
	}
	start := mallocs()
	before()
	t.ns = clock(r.job.run, calls)
	after()
	t.allocs = math.Floor(float64(mallocs()-start) / float64(calls))
	t.peak *= 100 / t.ns
	t.read *= 100 / t.ns
	return t
}

// enough is the number of calls that take a slice of time, if one took ns nanoseconds.
func enough(run func(calls int), ns float64) int { return measure.Enough(clock, run, ns, slice) }

// The clock and the limits, which the modules beside this folder's use too.
var (
	clock   = measure.Clock
	median  = measure.Median
	peakFMA = measure.PeakFMA
	stream  = measure.Stream
	cpuName = measure.CPUName
)

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func pointer(x float64) *float64 { return &x }
