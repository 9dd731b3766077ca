package main

import (
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/quern-go/quern/internal/isa"
)

func BenchmarkAttention(b *testing.B) { benchmark[attention](b) }
func BenchmarkCached(b *testing.B)    { benchmark[cached](b) }
func BenchmarkAppend(b *testing.B)    { benchmark[appended](b) }
func BenchmarkMatMul(b *testing.B)    { benchmark[matmul](b) }
func BenchmarkMultiHead(b *testing.B) { benchmark[multihead](b) }
func BenchmarkExp(b *testing.B)       { benchmark[exp](b) }
func BenchmarkSoftmax(b *testing.B)   { benchmark[softmax](b) }
func BenchmarkDot(b *testing.B)       { benchmark[dot](b) }
func BenchmarkScan(b *testing.B)      { benchmark[scan](b) }
func BenchmarkPairwise(b *testing.B)  { benchmark[pairwise](b) }

// benchmark runs all cases of one kind, with the limits that the report has, on every ISA but portable
// Go. That, or any other alone, is measured with QUERN_ISA. With -short, those that take minutes and
// gigabytes are left out.
func benchmark[K Kind](b *testing.B) {
	levels := []isa.Level{isa.Active()}
	if os.Getenv(isa.ForceVariable) == "" && len(isa.Supported()) > 1 {
		levels = slices.DeleteFunc(isa.Supported(), func(l isa.Level) bool { return l == isa.Go })
	}
	some := everyGroup
	if testing.Short() {
		some = shortGroup
	}
	for _, c := range cases(some) {
		if _, ok := c.Kind.(K); !ok {
			continue
		}
		b.Run("case="+c.Name, func(b *testing.B) {
			for _, level := range levels {
				r := sync.OnceValue(func() *race { return newRace(c.prepare(1)) })
				b.Run("isa="+level.String(), func(b *testing.B) {
					defer isa.Use(level)()
					r().benchmark(b)
				})
			}
		})
	}
}

// benchmark shares b.N among some rounds.
func (r *race) benchmark(b *testing.B) {
	b.StopTimer()
	b.ResetTimer()
	rounds := min(b.N, 8)
	var peak, read []float64
	ns := 0.0
	for i := range rounds {
		calls := (b.N + i) / rounds
		t := r.roundOf(calls, b.StartTimer, b.StopTimer)
		ns += t.ns * float64(calls) / float64(b.N)
		peak = append(peak, t.peak)
		read = append(read, t.read)
	}
	b.ReportMetric(ns, "ns/op") // b's own counts what comes before a call
	if r.flops > 0 {
		b.ReportMetric(r.flops/ns, "GFLOP/s")
		b.ReportMetric(median(peak), "peak_pct")
	}
	if n := r.job.bytes; n > 0 {
		b.ReportMetric(float64(n)/ns, "GB/s")
		b.ReportMetric(median(read), "bw_pct")
	}
	if n := r.job.elements; n > 0 {
		b.ReportMetric(ns/float64(n), "ns/elem")
	}
}
