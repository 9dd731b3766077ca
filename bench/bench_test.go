package main

import (
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/quern-go/quern/internal/isa"
)

func BenchmarkAttention(b *testing.B) { benchmark[attention](b) }
func BenchmarkMatMul(b *testing.B)    { benchmark[matmul](b) }
func BenchmarkMultiHead(b *testing.B) { benchmark[multihead](b) }
func BenchmarkExp(b *testing.B)       { benchmark[exp](b) }
func BenchmarkSoftmax(b *testing.B)   { benchmark[softmax](b) }
func BenchmarkDot(b *testing.B)       { benchmark[dot](b) }

// benchmark runs all cases of one kind, with the limits that the report has, on every ISA but portable
// Go. That, or any other alone, is measured with QUERN_ISA.
func benchmark[K Kind](b *testing.B) {
	levels := []isa.Level{isa.Active()}
	if os.Getenv(isa.ForceVariable) == "" && len(isa.Supported()) > 1 {
		levels = slices.DeleteFunc(isa.Supported(), func(l isa.Level) bool { return l == isa.Go })
	}
	for _, c := range cases {
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
	for i := range rounds {
		t := r.roundOf((b.N+i)/rounds, b.StartTimer, b.StopTimer)
		peak = append(peak, t.peak)
		read = append(read, t.read)
	}
	ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
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
