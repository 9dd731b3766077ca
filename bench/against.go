package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/measure"
)

// duel is this build of bench and another. Both run as child processes with the same arguments, so that neither has
// anything before its measuring that the other has not. The arguments are those that every build knows.
type duel struct {
	builds   [2]build // this one, the other
	args     []string // of both, beside the case and the instruction set
	turns    int
	progress *progress
}

// build is an executable file. What runs is a copy: the pages of a file that the linker wrote lie otherwise in memory
// than those of a copy, and made S77 up to 2 % slower. Nor is a copy replaced by a new build meanwhile.
type build struct{ path, copy string }

// run compares this build with another, and shows each case when it is done. It returns the exit status. An interrupt
// ends the child too.
func (d *duel) run(other string, chosen []Case, levels []isa.Level, asJSON bool, stdout, stderr io.Writer) int {
	folder, err := os.MkdirTemp("", "bench")
	if err == nil {
		defer os.RemoveAll(folder)
		err = d.copyBuilds(folder, other)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: -against: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	show := func(c *comparison) { c.printRow(stdout) }
	if asJSON {
		encoder := json.NewEncoder(stdout)
		show = func(c *comparison) { _ = encoder.Encode(c) }
	} else {
		d.printHead(stdout)
	}
	sum := tally{verdicts: map[verdict]int{}}
	for _, level := range levels {
		for _, c := range chosen {
			r := d.compare(ctx, c.Name, level)
			d.progress.clear()
			if ctx.Err() != nil {
				fmt.Fprintln(stderr, "bench: interrupted")
				return 2
			}
			if r.Error != "" {
				fmt.Fprintf(stderr, "bench: %s on %v: %s\n", r.Case, r.ISA, r.Error)
			}
			show(&r)
			sum.add(&r)
		}
	}
	if !asJSON {
		sum.print(stdout)
	}
	return sum.status()
}

// copyBuilds fills in d.builds.
func (d *duel) copyBuilds(folder, other string) error {
	this, err := os.Executable()
	if err != nil {
		return err
	}
	d.builds = [2]build{
		{this, filepath.Join(folder, "this"+filepath.Ext(this))},
		{other, filepath.Join(folder, "other"+filepath.Ext(other))},
	}
	for _, b := range d.builds {
		program, err := os.ReadFile(b.path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.copy, program, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// comparison is what a duel says about a case. If a build failed, there are only Case, ISA, Verdict and Error.
type comparison struct {
	Case        string   `json:"case"`
	ISA         string   `json:"isa"`
	Workers     int      `json:"workers,omitempty"`
	BestNS      float64  `json:"best_ns,omitempty"` // of a call of this build, in all turns
	OtherNS     float64  `json:"other_best_ns,omitempty"`
	Best        float64  `json:"best_ratio,omitempty"`   // BestNS to OtherNS
	Median      float64  `json:"median_ratio,omitempty"` // of the turns
	Low         float64  `json:"low,omitempty"`          // see interval
	High        float64  `json:"high,omitempty"`
	Turns       int      `json:"turns,omitempty"`
	Verdict     verdict  `json:"verdict"`
	Digest      string   `json:"digest,omitempty"`
	OtherDigest string   `json:"other_digest,omitempty"`
	Differs     []string `json:"differs,omitempty"` // from whose bits those of this build do, as in result, or "other build"
	Error       string   `json:"error,omitempty"`
}

// otherBuild stands in Differs.
const otherBuild = "other build"

// compare runs the builds in turns. The one that came second comes first in the next turn: a clock that drifts
// favours neither.
//
// Best rounds are compared because they scatter least. What disturbs a round only adds to its time, and a share of a
// limit has the noise of two measurements.
func (d *duel) compare(ctx context.Context, name string, level isa.Level) comparison {
	c := comparison{Case: name, ISA: level.String(), Turns: d.turns, BestNS: math.Inf(1), OtherNS: math.Inf(1)}
	var ratios []float64
	for turn := range d.turns {
		var r [2]result
		for i := range r {
			side := (turn + i) % 2
			d.progress.show("%s on %v: turn %d of %d, %s", name, level, turn+1, d.turns, [...]string{"this build", otherBuild}[side])
			var err error
			if r[side], err = d.child(ctx, side, name, level); err != nil {
				return comparison{Case: name, ISA: level.String(), Verdict: failed, Error: err.Error()}
			}
		}
		here, other := &r[0], &r[1]
		ratios = append(ratios, here.BestNS/other.BestNS)
		c.BestNS, c.OtherNS = min(c.BestNS, here.BestNS), min(c.OtherNS, other.BestNS)
		c.Workers = here.Workers
		c.bits(here, other)
	}
	c.Best, c.Median = c.BestNS/c.OtherNS, median(ratios)
	c.Low, c.High = interval(ratios)
	c.Verdict = c.judge()
	return c
}

// bits takes note of a turn's digests. The first that differ from any stay.
func (c *comparison) bits(here, other *result) {
	if len(c.Differs) > 0 {
		return
	}
	c.Digest, c.OtherDigest, c.Differs = here.Digest, other.Digest, here.Differs
	if c.Digest != c.OtherDigest {
		c.Differs = append(c.Differs, otherBuild)
	}
}

// child runs a build, and reads what it says about the case.
func (d *duel) child(ctx context.Context, side int, name string, level isa.Level) (r result, err error) {
	args := append([]string{"-json", "-case", name, "-isa", level.String()}, d.args...)
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, d.builds[side].copy, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // bits differ, and the line says from which
	}
	if err == nil {
		r, err = parseResult(stdout.Bytes(), name, level)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", d.builds[side].path, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return r, err
}

// parseResult reads the only line of a child.
func parseResult(line []byte, name string, level isa.Level) (r result, err error) {
	if json.Unmarshal(line, &r) != nil {
		return r, fmt.Errorf("no JSON object on standard output: %q", line)
	}
	if r.Case != name || r.ISA != level.String() || !(r.BestNS > 0) || r.Digest == "" {
		return r, fmt.Errorf("no result of %s on %v on standard output: %s", name, level, bytes.TrimSpace(line))
	}
	return r, nil
}

const duelColumns = "%-7s %-7s %8s %8s %6s %6s  %-14s  %-7s  %s\n"

// printHead introduces the rows.
func (d *duel) printHead(w io.Writer) {
	fmt.Fprintf(w, "%s\nthis build against %s, %d turns, %s\n\n", machine(), d.builds[1].path, d.turns, strings.Join(d.args, " "))
	fmt.Fprintf(w, duelColumns, "case", "ISA", "this", "other", "best", "median", "interval", "verdict", "bits")
}

// printRow is the row of a case.
func (c *comparison) printRow(w io.Writer) {
	if c.Verdict == failed {
		fmt.Fprintf(w, "%-7s %-7s failed\n", c.Case, c.ISA)
		return
	}
	word, bits := string(c.Verdict), "="
	if c.Verdict == slower {
		word = strings.ToUpper(word)
	}
	if len(c.Differs) > 0 {
		bits = "DIFFER from " + strings.Join(c.Differs, ", ")
	}
	ratio := func(x float64) string { return fmt.Sprintf("%.3f", x) }
	fmt.Fprintf(w, duelColumns, c.Case, c.ISA, measure.Duration(c.BestNS), measure.Duration(c.OtherNS),
		ratio(c.Best), ratio(c.Median), ratio(c.Low)+" … "+ratio(c.High), word, bits)
}
