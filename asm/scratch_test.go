package asm

import (
	"fmt"
	"sort"
"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/quern-go/quern/internal/isa"
	"golang.org/x/sys/unix"
)

func cpu() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

func TestScratch(t *testing.T) {
	const D = 128
	level := isa.Active()
	total := 256 << 20
	mem := make([]float32, total/4)
	for i := range mem {
		mem[i] = 1
	}
	base := unsafe.Pointer(&mem[0])
	q := make([]float32, 8*D)
	s := make([]float32, 8*128)
	o := make([]float32, 8*D)
	alpha := []float32{1, 1, 1, 1, 1, 1, 1, 1}
	for _, rows := range []int{1, 2, 3, 4, 5, 6, 7, 8} {
		for f, name := range []string{"f32", "bf16", "f16", "int8"} {
			size := []int{4, 2, 2, 1}[f]
			block := 128 * D * size
			for _, mode := range []string{"self"} {
				var times, reads []float64
				for rep := 0; rep < 12; rep++ {
					chunk := 32 << 20
					for off := rep % 3 * (64 << 20); off < rep%3*(64<<20)+chunk; off += chunk {
						t0 := cpu()
						for p := off; p < off+chunk; p += 2 * block {
							k := unsafe.Add(base, p)
							v := unsafe.Add(base, p+block)
							next := unsafe.Add(base, p+2*block)
							ka, va := v, next
							_, _ = ka, va
if mode == "self" {
								ka, va = k, v
							} else if mode != "other" {
								d, _ := strconv.Atoi(mode)
								ka, va = unsafe.Add(k, d), unsafe.Add(v, d)
							}
							switch f {
							case 0:
								FewF32(level, &s[0], 128, &q[0], D, (*float32)(k), 32, 32*D, D, rows, 128, nil)
								FewF32(level, &o[0], D, &s[0], 128, (*float32)(v), 32, 32*128, 128, rows, D, &alpha[0])
							case 1:
								FewBF16(level, &s[0], 128, &q[0], D, (*uint16)(k), 32, 32*D, D, rows, 128, nil)
								FewBF16(level, &o[0], D, &s[0], 128, (*uint16)(v), 32, 32*128, 128, rows, D, &alpha[0])
							case 2:
								FewF16(level, &s[0], 128, &q[0], D, (*uint16)(k), 32, 32*D, D, rows, 128, nil)
								FewF16(level, &o[0], D, &s[0], 128, (*uint16)(v), 32, 32*128, 128, rows, D, &alpha[0])
							case 3:
								FewInt8(level, &s[0], 128, &q[0], D, (*int8)(k), 32, 32*D, D, rows, 128, nil)
								FewInt8(level, &o[0], D, &s[0], 128, (*int8)(v), 32, 32*128, 128, rows, D, &alpha[0])
							}
						}
						times = append(times, float64(chunk)/float64(cpu()-t0))
						// read: other memory
						ro := (off + (192 << 20)) % total
						t0 = cpu()
						for p := ro; p < ro+chunk; p += 1 << 17 {
							ReadSum(level, (*float32)(unsafe.Add(base, p)), 1<<15)
						}
						reads = append(reads, float64(chunk)/float64(cpu()-t0))
					}
				}
				sort.Float64s(times)
				sort.Float64s(reads)
				n := len(times)
				flops := func(x float64) float64 { return x / float64(size) * float64(rows) * 2 }
				fmt.Printf("rows %d %-5s %-5s best %.1f med %.1f GB/s; read best %.1f med %.1f; %.0f%% of read (med); GF %.0f\n", rows, name, mode, times[n-1], times[n/2], reads[n-1], reads[n/2], 100*times[n/2]/reads[n/2], flops(times[n/2]))
			}
		}
	}
	t0 := cpu()
	PeakFMA(level, 1<<21)
	fmt.Printf("peak %.0f GF\n", float64(1<<21*24*32)/float64(cpu()-t0))
}
