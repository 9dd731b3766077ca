package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// verdict is what the turns say about a case.
type verdict string

const (
	slower  verdict = "slower"
	faster  verdict = "faster"
	same    verdict = "same"
	unclear verdict = "unclear"
	failed  verdict = "failed"
)

// slack is the share of time that does not count.
const slack = 0.01

// judge calls a case slower or faster if the median of the turns and the ratio of the best times are both more than
// 1 % off, and the interval is on the same side of 1. It is the same if the interval rules out that it is slower by
// more than 1 %, and unclear if nothing of this holds.
func (c *comparison) judge() verdict {
	switch {
	case min(c.Median, c.Best) > 1+slack && c.Low > 1:
		return slower
	case max(c.Median, c.Best) < 1-slack && c.High < 1:
		return faster
	case c.High <= 1+slack:
		return same
	}
	return unclear
}

// The numbers of turns that interval can take: fewer are not enough for 95 %, more are too many for a float64.
const (
	fewestTurns = 6
	mostTurns   = 1000
)

// interval has the true median in it with 95 % confidence or more, whatever the distribution of x. It is the medians
// that a sign test does not reject. Each of n numbers is above the true median or below, as a coin falls. Fewer than k
// are on a given side in 2.5 % of all draws or less, so the interval goes from the k-th number to the k-th last.
func interval(x []float64) (low, high float64) {
	s := slices.Sorted(slices.Values(x))
	n := len(s)
	k, tail := 0, 0.0
	for chance := math.Ldexp(1, -n); tail+chance <= 0.025; k++ { // that k numbers are on a given side
		tail += chance
		chance *= float64(n-k) / float64(k+1)
	}
	return s[k-1], s[n-k]
}

// tally counts what became of the cases.
type tally struct {
	verdicts map[verdict]int
	differ   int
}

func (t *tally) add(c *comparison) {
	t.verdicts[c.Verdict]++
	if len(c.Differs) > 0 {
		t.differ++
	}
}

// print is the closing line.
func (t *tally) print(w io.Writer) {
	var counts []string
	for _, v := range []verdict{slower, faster, same, unclear, failed} {
		counts = append(counts, fmt.Sprintf("%d %s", t.verdicts[v], v))
	}
	fmt.Fprintf(w, "\n%s; bits differ in %d\n", strings.Join(counts, ", "), t.differ)
}

// status is that of the program, as diff has it: 0 for no news, 1 for some, 2 for trouble.
func (t *tally) status() int {
	switch {
	case t.verdicts[failed] > 0:
		return 2
	case t.verdicts[slower] > 0 || t.differ > 0:
		return 1
	}
	return 0
}
