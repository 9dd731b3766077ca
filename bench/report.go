package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
)

// table is the report for people. Its rows are printed as they come.
type table struct {
	w       io.Writer
	workers int
	cold    bool   // some cases are
	isa     string // of the last row
}

func newTable(w io.Writer, workers int, cases []Case) *table {
	cold := slices.ContainsFunc(cases, func(c Case) bool { return c.cold() })
	return &table{w: w, workers: workers, cold: cold}
}

const columns = "%-7s %-50s %8s %8s %8s %13s  %-27s  %7s  %s\n"

func (t *table) row(r result) {
	if r.ISA != t.isa {
		t.head(r.ISA)
	}
	rate, share := r.limit()
	bits := "= " + strings.Join(r.Same, " ")
	if len(r.Differs) > 0 {
		bits = "DIFFER from " + strings.Join(r.Differs, " ")
	}
	warm := ""
	if r.WarmNS != nil {
		warm = measure.Duration(*r.WarmNS)
	}
	fmt.Fprintf(t.w, columns, r.Case, r.What, measure.Duration(r.NS), warm, measure.Duration(r.FirstNS), rate, share, fmt.Sprintf("%.1e", r.MaxErr), bits)
}

// limit writes how fast the case is, and its share of the limit that is nearer.
func (r *result) limit() (rate, share string) {
	switch {
	case r.Element != nil:
		return fmt.Sprintf("%.3f ns/elem", *r.Element), ""
	case r.PeakPct != nil && (r.BWPct == nil || *r.PeakPct > *r.BWPct):
		return fmt.Sprintf("%.1f GFLOP/s", *r.GFLOPS), bar(*r.PeakPct) + " FMA"
	case r.BWPct != nil:
		return fmt.Sprintf("%.1f GB/s", *r.GBS), bar(*r.BWPct) + " read"
	}
	return "", ""
}

func (t *table) head(isa string) {
	if t.isa != "" {
		fmt.Fprintln(t.w)
	}
	t.isa = isa
	fmt.Fprintf(t.w, "%s, ISA %s, workers %d, arithmetic version %d\n", machine(), isa, t.workers, kernel.ArithmeticVersion)
	if t.cold {
		fmt.Fprintf(t.w, "Cases with a warm time read %s or more before they read any of it again, which is %.1f × the last-level cache, %s.\n",
			size(coldBytes()), float64(coldBytes())/float64(lastLevelCache()), size(lastLevelCache()))
	}
	fmt.Fprintln(t.w)
	fmt.Fprintf(t.w, columns, "case", "what", "time", "warm", "first", "rate", "share of the limit", "max err", "bits")
}

// machine is where and how this program runs.
func machine() string {
	return fmt.Sprintf("%s, %d CPUs, %s/%s, %s", measure.CPUName(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// bar draws a percentage in 16 cells, and says it.
func bar(percent float64) string {
	const cells = 16
	full := min(max(int(percent*cells/100+0.5), 0), cells)
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %3.0f %%", percent)
}

// size writes a number of bytes, with a decimal where it is not whole.
func size(bytes int) string {
	for _, u := range []struct {
		name  string
		bytes int
	}{{"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if bytes >= u.bytes {
			tenths := math.Round(10 * float64(bytes) / float64(u.bytes))
			return strconv.FormatFloat(tenths/10, 'f', -1, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", bytes)
}

// progress is a line that comes and goes on a terminal; elsewhere it is nothing.
type progress struct {
	w     io.Writer // nil if it is not a terminal
	shown bool
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" {
			return &progress{w: w}
		}
	}
	return &progress{}
}

func (p *progress) show(format string, args ...any) {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K"+format+" ", args...)
		p.shown = true
	}
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
