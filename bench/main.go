// Command bench measures Quern's kernels on this machine, against what the machine can do.
//
//	go run ./bench                      the report, about a minute
//	go run ./bench -all                 with the groups decode and scans too: minutes, and 5 GB of memory
//	go run ./bench -case P1,S1 -workers 2
//	go run ./bench -case decode,R1      a group of cases, and one of another
//	go run ./bench -isa avx512,avx2     one instruction set after the other
//	go run ./bench -cpu                 CPU time, on a machine that is not quiet
//	go run ./bench -json                one JSON object a line and nothing else
//	go run ./bench -against OTHER       this build beside another, in turns
//	go run ./bench -digest              digests of small odd cases: the same lines on every machine
//	go run ./bench -list                all cases with their groups
//
// A time is the median over several rounds. In each round the case alternates with its limit: short bursts
// of a loop of fused multiply-adds on as many goroutines, at the clock that the case leaves the CPU at, or a
// streaming read of the same bytes. The share of
// the limit is the median of the rounds' ratios, so a machine whose clock wanders still gives a
// steady number. Attention is timed with its packing of Q, K and V, and only useful FLOPs count: 2·D
// for a score and 2·Dv for its value, over the pairs that the mask shows.
//
// A cold case, of which decoding is the most important, has its input come from memory: calls take copies
// of it in turn that together are four times the last-level cache, though not much more than 2 GiB. So
// does the streaming read. The operating system says how large that cache is; where it does not, 32 MiB are
// assumed. Its warm time is that of calls which take the same copy every time.
//
// With -against, each case runs in child processes: of this build, and of the executable OTHER, which may be any older
// or newer build of this command. In a turn each has one process, and the next turn begins with the one that came
// second. A turn's ratio is this build's time to the other's, of the best rounds. A row has the best times of all turns
// and their ratio, the median of the turns' ratios, and the interval that has the true median in it with 95 %
// confidence, by a sign test. A case is SLOWER or faster if both ratios are more than 1 % off and the whole interval is
// on that side of 1. It is the same if the interval rules out that it is slower by more than 1 %. Otherwise it is
// unclear, and more -turns, -cpu or a quiet machine would tell.
//
// The exit status is 1 if any bits differ: from the committed ones, between instruction sets, or from those of the
// other build. That holds for bits that were changed on purpose too; their rows say so, and have their times. It is
// also 1 if a case is SLOWER. It is 2 if the command line or the environment cannot be obeyed, or if a build failed.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		names   = flags.String("case", "", "only these cases or groups of cases, separated by commas")
		all     = flags.Bool("all", false, "all cases, those too that take minutes and gigabytes")
		levels  = flags.String("isa", kernel.ISA(), "instruction sets, separated by commas: "+strings.Join(kernel.ISAs(), ", "))
		workers = flags.Int("workers", 1, "goroutines that share a case, where it can be shared")
		rounds  = flags.Int("rounds", 9, "rounds of measurement")
		list    = flags.Bool("list", false, "list the cases")
		cpu     = flags.Bool("cpu", false, "measure CPU time, which other programs disturb less; for one worker, on Linux")
		asJSON  = flags.Bool("json", false, "print one JSON object a line and nothing else")
		other   = flags.String("against", "", "compare with another build of this command, an executable file")
		turns   = flags.Int("turns", 15, "turns of both builds, with -against")
		digests = flags.Bool("digest", false, "print only the digests of small odd cases")
	)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if err := kernel.ISAError(); err != nil {
		return fail(err)
	}
	if flags.NArg() > 0 {
		return fail(fmt.Errorf("bench: unexpected argument %q", flags.Arg(0)))
	}
	if *workers < 1 || *rounds < 1 {
		return fail(errors.New("bench: -workers and -rounds must be at least 1"))
	}
	if *turns < fewestTurns || *turns > mostTurns {
		return fail(fmt.Errorf("bench: -turns must be from %d to %d", fewestTurns, mostTurns))
	}
	if *other != "" && *digests {
		return fail(errors.New("bench: -against and -digest exclude each other"))
	}
	if *cpu {
		if *workers > 1 {
			return fail(errors.New("bench: -cpu is for one worker"))
		}
		clock = measure.CPUClock
		defer func() { clock = measure.Clock }()
	}
	chosen, err := choose(*names, *all || *list)
	if err != nil {
		return fail(err)
	}
	sets, err := parseLevels(*levels)
	if err != nil {
		return fail(err)
	}

	progress := newProgress(stderr)
	defer progress.clear()
	if *list {
		printList(stdout, chosen)
		return 0
	}
	if *other != "" {
		d := duel{turns: *turns, progress: progress, args: []string{
			fmt.Sprint("-rounds=", *rounds), fmt.Sprint("-workers=", *workers), fmt.Sprint("-cpu=", *cpu),
		}}
		return d.run(*other, chosen, sets, *asJSON, stdout, stderr)
	}
	show := newTable(stdout, *workers, chosen).row
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		show = func(r result) { _ = encoder.Encode(r) }
	}
	status := 0
	for _, level := range sets {
		restore := isa.Use(level)
		if *digests {
			for _, c := range oddCases() {
				progress.show("%s on %v", c.name, level)
				line := c.name + " " + digest(c.run()...)
				progress.clear()
				fmt.Fprintln(stdout, line)
			}
		} else {
			for _, c := range chosen {
				r := c.measure(*workers, *rounds, progress)
				progress.clear()
				show(r)
				if len(r.Differs) > 0 {
					status = 1
				}
			}
		}
		restore()
	}
	return status
}

// choose returns the cases of a comma-separated list of names, which may also be groups. If it is empty they are
// all, or those that do not take long.
func choose(names string, all bool) ([]Case, error) {
	switch {
	case names == "" && all:
		return cases(everyGroup), nil
	case names == "":
		return cases(shortGroup), nil
	}
	var chosen []Case
	for name := range strings.SplitSeq(names, ",") {
		found := cases(func(g group) bool { return g.name == name })
		for _, c := range cases(everyGroup) {
			if c.Name == name {
				found = append(found, c)
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("bench: there is no case %q; -list shows all", name)
		}
		chosen = append(chosen, found...)
	}
	return chosen, nil
}

// parseLevels returns the levels of a comma-separated list of names.
func parseLevels(names string) ([]isa.Level, error) {
	var levels []isa.Level
	for name := range strings.SplitSeq(names, ",") {
		level, ok := isa.Parse(name)
		if !ok || !isa.Has(level) {
			return nil, fmt.Errorf("bench: there is no instruction set %q here; this program and CPU have %s",
				name, strings.Join(kernel.ISAs(), ", "))
		}
		levels = append(levels, level)
	}
	return levels, nil
}

func printList(w io.Writer, cases []Case) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range cases {
		g := c.group()
		long := ""
		if g.long {
			long = "\tonly with -all or by name"
		}
		fmt.Fprintf(t, "%s\t%s\t%v%s\n", c.Name, g.name, c.Kind, long)
	}
	_ = t.Flush()
}
