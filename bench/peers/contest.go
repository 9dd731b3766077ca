package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/quern-go/quern/internal/measure"
)

const (
	slice    = 10 * time.Millisecond // the least time that an entry runs in a round
	burst    = time.Millisecond / 4  // that the peak loop runs behind it
	patience = 2 * time.Second       // of running, after which an entry gets no further round
	longest  = 6 * time.Second       // that a call may take, or the entry is left out
)

// timings are those of an entry, one a round.
type timings struct {
	calls  int // in a round
	ns     []float64
	shares []float64 // of the peak, in percent
	spent  float64   // in all, in nanoseconds
}

// row is a line of the table and of the CSV file.
type row struct {
	Case, Peer, Version, How string
	Median, Best             float64 // nanoseconds
	GFLOPS, Share            float64 // by the median; 0 where FLOPs make no sense
	MaxErr                   float64
	Rounds                   int
	Skipped                  string // why it was not measured
}

// Wrong reports whether the result is not the right one.
func (r *row) Wrong() bool { return r.Skipped == "" && !(r.MaxErr <= tolerance) }

// contest measures peers at problems.
type contest struct {
	peers  []*peer
	rounds int
	rates  map[string]float64 // FLOPs per ns by peer and kind: those of the last problem
	note   func(format string, args ...any)
	peak   float64 // the highest that was measured, in GFLOP/s
}

// run measures all who have the problem. In each round they take turns, after the peak loop.
func (c *contest) run(p problem) []row {
	var rows []row
	var entries []*entry
	var owners []*peer
	for _, peer := range c.peers {
		r := row{Case: p.String(), Peer: peer.name, Version: peer.version()}
		key := peer.name + " " + p.kind()
		if rate, ok := c.rates[key]; ok && p.flops()/rate > float64(longest.Nanoseconds()) {
			r.Skipped = fmt.Sprintf("left out: a call would take about %.0f s", p.flops()/rate/1e9)
			rows = append(rows, r)
			continue
		}
		c.note("%v: %s", p, peer.name)
		e, maxErr := first(peer, p)
		if e == nil {
			continue
		}
		r.How, r.MaxErr = e.how, maxErr
		if p.flops() > 0 {
			c.rates[key] = p.flops() / e.firstNS
		}
		rows = append(rows, r)
		entries, owners = append(entries, e), append(owners, peer)
	}
	runtime.GC()

	peak := measure.PeakFMA()
	peakCalls := measure.Enough(measure.CPUClock, peak, measure.CPUClock(peak, 1), burst)
	for round := range c.rounds {
		c.note("%v: round %d of %d", p, round+1, c.rounds)
		// Each entry stands beside a peak of its own, so short that it has the clock that the entry leaves.
		for i, e := range entries {
			if e.times.spent > float64(patience.Nanoseconds()) {
				continue
			}
			owners[i].using(func() {
				if e.times.calls == 0 {
					ns := e.firstNS
					if ns < 10*float64(slice.Nanoseconds()) {
						ns = e.clock(e.run, 1) // the first may have compiled something
					}
					e.times.calls = measure.Enough(e.clock, e.run, ns, slice)
				}
				e.times.ns = append(e.times.ns, e.clock(e.run, e.times.calls))
			})
			speed := measure.PeakFLOPs / measure.CPUClock(peak, peakCalls)
			c.peak = max(c.peak, speed)
			ns := e.times.ns[len(e.times.ns)-1]
			e.times.shares = append(e.times.shares, 100*p.flops()/ns/speed)
			e.times.spent += ns * float64(e.times.calls)
		}
	}
	measured := 0
	for i := range rows {
		r := &rows[i]
		if r.Skipped != "" {
			continue
		}
		e := entries[measured]
		measured++
		r.Median, r.Best, r.Rounds = measure.Median(e.times.ns), slices.Min(e.times.ns), len(e.times.ns)
		r.GFLOPS, r.Share = p.flops()/r.Median, measure.Median(e.times.shares)
		if e.close != nil {
			e.close()
		}
	}
	return rows
}

// first makes the first call, into an output of NaN, and checks it.
func first(peer *peer, p problem) (e *entry, maxErr float64) {
	peer.using(func() {
		if e = p.start(peer); e == nil {
			return
		}
		out := p.output()
		for i := range out {
			out[i] = float32(math.NaN())
		}
		e.firstNS = e.clock(e.run, 1)
		if e.collect != nil {
			e.collect()
		}
		maxErr = p.maxErr()
	})
	return e, maxErr
}

// using calls f while the peer is in use.
func (p *peer) using(f func()) {
	if p.use != nil {
		defer p.use()()
	}
	f()
}

// clock is the CPU time of a call: of this process and, if the peer has one, of its own.
func (e *entry) clock(run func(calls int), calls int) float64 {
	ns := measure.CPUClock(run, calls)
	if e.elsewhere != nil {
		ns += e.elsewhere() / float64(calls)
	}
	return ns
}
