// Command peers measures Quern beside other packages: the same inputs, one process, one thread, in turns,
// every result checked against package ref.
//
//	go run .                         the table, about four minutes
//	go run . -csv FILE               and the same as CSV
//	go run . -case dot,"attention P1"
//
// For Go packages that is a default build. Where a package lacks a function, it is composed as its users
// would, and column "how" says so. ONNX Runtime takes part if it is installed:
//
//	cd onnxruntime && npm install --ignore-scripts
//
// Times are CPU times, which other programs on the machine disturb little: the median over the rounds, and the best of them. The share is that of the peak of fused
// multiply-adds with the widest vectors, measured right before, and the error is explained at problem.
// A result that is off by more than 1e-4 is called WRONG. An entry whose calls take seconds gets fewer rounds, and is
// left out if a smaller problem has shown that one would take more than six.
package main

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
)

func main() {
	names := flag.String("case", "", "only these cases or kinds, separated by commas: dot, softmax, sgemm, attention, attention P1, ...")
	rounds := flag.Int("rounds", 7, "rounds of measurement")
	file := flag.String("csv", "", "write CSV to this file too")
	flag.Parse()
	if err := run(*names, *rounds, *file, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(names string, rounds int, file string, stdout, stderr io.Writer) error {
	if err := kernel.ISAError(); err != nil {
		return err
	}
	if rounds < 1 {
		return errors.New("peers: -rounds must be at least 1")
	}
	runtime.GOMAXPROCS(1) // packages that start goroutines of their own must not have more of the machine
	fmt.Fprintf(stdout, "%s, %s/%s, %s, one thread\n", measure.CPUName(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	c := &contest{peers: peers(), rounds: rounds, rates: map[string]float64{}, note: func(format string, args ...any) {
		fmt.Fprintf(stderr, format+"\n", args...)
	}}
	if ortVersion() == "" {
		fmt.Fprintln(stdout, "ONNX Runtime is not installed: cd onnxruntime && npm install --ignore-scripts")
	}
	var all []row
	for _, p := range problems() {
		if !wanted(p, names) {
			continue
		}
		rows := c.run(p)
		print(stdout, rows)
		all = append(all, rows...)
	}
	if len(all) == 0 {
		return fmt.Errorf("peers: there is no case %q", names)
	}
	fmt.Fprintf(stdout, "\npeak of fused multiply-add: %.1f GFLOP/s\n", c.peak)
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(write(f, all, c.peak), f.Close())
}

// wanted reports whether names, a list with commas, has p or its kind. An empty list has everything.
func wanted(p problem, names string) bool {
	if names == "" {
		return true
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == p.kind() || name == p.String() {
			return true
		}
	}
	return false
}

// print writes the rows of one problem as a table.
func print(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s\tversion\tmedian\tbest\tGFLOP/s\tof peak\tmax err\thow\n", rows[0].Case)
	for _, r := range rows {
		if r.Skipped != "" {
			fmt.Fprintf(t, "%s\t%s\t–\t–\t–\t–\t–\t%s\n", r.Peer, r.Version, r.Skipped)
			continue
		}
		rate, share := "–", "–"
		if r.GFLOPS > 0 {
			rate, share = fmt.Sprintf("%.1f", r.GFLOPS), fmt.Sprintf("%.0f %%", r.Share)
		}
		wrong := ""
		if r.Wrong() {
			wrong = "WRONG "
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s%.1e\t%s\n", r.Peer, r.Version, measure.Duration(r.Median), measure.Duration(r.Best), rate, share, wrong, r.MaxErr, r.How)
	}
	_ = t.Flush()
}

// header names the columns of the CSV file. Lines that begin with # say where it comes from.
var header = []string{"case", "peer", "version", "ns_median", "ns_best", "gflops", "peak_pct", "max_err", "how", "rounds", "note"}

// write writes the CSV file.
func write(w io.Writer, rows []row, peak float64) error {
	fmt.Fprintf(w, "# cpu: %s\n# go: %s %s/%s\n# date: %s\n# command: cd bench/peers && go run . -csv FILE\n# peak_gflops: %.1f\n",
		measure.CPUName(), runtime.Version(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format("2 January 2006"), peak)
	c := csv.NewWriter(w)
	_ = c.Write(header)
	number := func(x float64, format byte, digits int) string {
		if x == 0 {
			return ""
		}
		return strconv.FormatFloat(x, format, digits, 64)
	}
	for _, r := range rows {
		note, maxErr, count := r.Skipped, "", ""
		if note == "" {
			maxErr, count = strconv.FormatFloat(r.MaxErr, 'e', 1, 64), strconv.Itoa(r.Rounds)
		}
		if r.Wrong() {
			note = "wrong"
		}
		_ = c.Write([]string{r.Case, r.Peer, r.Version, number(r.Median, 'f', 1), number(r.Best, 'f', 1),
			number(r.GFLOPS, 'f', 2), number(r.Share, 'f', 1), maxErr, r.How, count, note})
	}
	c.Flush()
	return c.Error()
}
