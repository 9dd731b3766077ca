package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/kernel"
)

const (
	rounds   = 7
	slice    = 10 * time.Millisecond // the least time that a job runs in a round
	patience = 2 * time.Second       // after which a job gets no further round
)

// median is the CPU time of a call in nanoseconds: the median of some rounds.
func median(run func(calls int)) float64 {
	start := time.Now()
	calls := measure.Enough(measure.CPUClock, run, measure.CPUClock(run, 1), slice)
	var times []float64
	for len(times) < rounds && (len(times) < 3 || time.Since(start) < patience) {
		times = append(times, measure.CPUClock(run, calls))
	}
	return measure.Median(times)
}

// measurePeers lets ../peers do it.
func measurePeers(note func(string)) (*data, error) {
	note("go run . in ../peers, about four minutes")
	file, err := os.CreateTemp("", "quern-peers")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := program(filepath.Join("..", "peers"), "go", "run", ".", "-csv", file.Name()); err != nil {
		return nil, err
	}
	return readData(file.Name())
}

// measureCases lets ../../bench do it.
func measureCases(note func(string)) (*data, error) {
	levels := strings.Join(slices.DeleteFunc(kernel.ISAs(), func(name string) bool { return name == isa.Go.String() }), ",")
	note("go run ./bench -isa " + levels + " in ../.., about two minutes")
	text, err := program(filepath.Join("..", ".."), "go", "run", "./bench", "-json", "-cpu", "-isa", levels)
	if err != nil {
		return nil, err
	}
	d := newData("cases", "case", "what", "isa", "ns_median", "ns_best", "gflops", "peak_pct", "gb_per_s", "read_pct", "max_err")
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var r struct {
			Case, What, ISA string
			NS              float64
			BestNS          float64 `json:"best_ns"`
			GFLOPS, GBS     *float64
			PeakPct         *float64 `json:"peak_pct"`
			BWPct           *float64 `json:"bw_pct"`
			MaxErr          float64  `json:"max_err"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, err
		}
		d.add(r.Case, r.What, r.ISA, r.NS, r.BestNS, maybe(r.GFLOPS), maybe(r.PeakPct), maybe(r.GBS), maybe(r.BWPct), r.MaxErr)
	}
	return d, nil
}

// maybe is a number, or empty text.
func maybe(x *float64) any {
	if x == nil {
		return ""
	}
	return *x
}

// program runs another program in a folder and returns its output.
func program(folder, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Stderr = folder, os.Stderr
	return c.Output()
}

// masks are those of chart "lengths". The stride is the square root of the length.
var masks = []struct {
	name string
	of   func(length int) kernel.Mask
}{
	{"full", func(int) kernel.Mask { return nil }},
	{"causal", func(int) kernel.Mask { return kernel.Causal{} }},
	{"window 256", func(int) kernel.Mask { return kernel.Window{Left: 255} }},
	{"strided, l ≈ √n", func(n int) kernel.Mask { return kernel.SparseStrided{Stride: root(n)} }},
	{"fixed, l ≈ √n, c = l/8", func(n int) kernel.Mask { return kernel.SparseFixed{Stride: root(n), Summary: root(n) / 8} }},
}

// root is √n, to a multiple of 8.
func root(n int) int { return 8 * int(math.Round(math.Sqrt(float64(n))/8)) }

func measureLengths(note func(string)) (*data, error) {
	const dim = 64
	d := newData("lengths", "mask", "length", "ns")
	d.say("isa", kernel.ISA())
	for _, mask := range masks {
		for n := 256; n <= 16384; n *= 2 {
			note(fmt.Sprint(mask.name, ", ", n))
			run, err := selfAttention(1, n, dim, mask.of(n))
			if err != nil {
				return nil, err
			}
			d.add(mask.name, n, median(run))
		}
	}
	return d, nil
}

// selfAttention is a plan for one sequence, with its inputs.
func selfAttention(heads, length, dim int, mask kernel.Mask) (func(calls int), error) {
	n := heads * length * dim
	view := func(x []float32) kernel.Tensor { return kernel.BHSD(x, 1, heads, length, dim) }
	q, k, v, out := view(measure.Normal(1, n)), view(measure.Normal(2, n)), view(measure.Normal(3, n)), view(make([]float32, n))
	plan, err := kernel.NewAttention(kernel.ShapeOf(q, k, v), kernel.Options{Mask: mask, Workers: 1})
	return func(calls int) {
		for range calls {
			check(plan.Run(out, q, k, v))
		}
	}, err
}

// The model of charts "decode" and "roofline": grouped queries.
const (
	decodeHeads   = 32
	decodeKVHeads = 8
	decodeDim     = 128
)

var formats = []kernel.Format{kernel.Float32, kernel.BFloat16, kernel.Float16, kernel.Int8}

// decoding is one query over a cache of so many keys, and a read of as many bytes.
func decoding(keys, kvHeads int, format kernel.Format) (run, read func(calls int), bytes int) {
	cache, err := kernel.NewCache(kernel.CacheConfig{KVHeads: kvHeads, Dim: decodeDim, Format: format})
	check(err)
	const some = 512
	k, v := measure.Normal(1, some*kvHeads*decodeDim), measure.Normal(2, some*kvHeads*decodeDim)
	for range keys / some {
		check(cache.Append(kernel.BHSD(k, 1, kvHeads, some, decodeDim), kernel.BHSD(v, 1, kvHeads, some, decodeDim)))
	}
	q := kernel.BHSD(measure.Normal(3, decodeHeads*decodeDim), 1, decodeHeads, 1, decodeDim)
	out := kernel.BHSD(make([]float32, decodeHeads*decodeDim), 1, decodeHeads, 1, decodeDim)
	caches := []*kernel.Cache{cache}
	var attender kernel.Attender
	run = func(calls int) {
		for range calls {
			check(attender.Attend(out, q, caches, kernel.Options{Workers: 1}))
		}
	}
	size := map[kernel.Format]int{kernel.Float32: 4, kernel.BFloat16: 2, kernel.Float16: 2, kernel.Int8: 1}[format]
	bytes = 2 * keys * kvHeads * decodeDim * size // of keys and values, without the scales of int8
	return run, reading(bytes), bytes
}

// reading reads so many bytes, of memory that has been written: pages that have not are all the same one.
func reading(bytes int) func(calls int) {
	x := make([]float32, bytes/4)
	for i := range x {
		x[i] = 1
	}
	return measure.Stream(x, 1)
}

func measureDecode(note func(string)) (*data, error) {
	d := newData("decode", "format", "keys", "ns", "read_ns")
	d.say("isa", kernel.ISA())
	for _, format := range formats {
		for keys := 512; keys <= 32768; keys *= 2 {
			note(fmt.Sprint(format, ", ", keys))
			run, read, _ := decoding(keys, decodeKVHeads, format)
			d.add(format, keys, median(run), median(read))
		}
	}
	return d, nil
}

// measureRoofline takes as bytes each input and output once, and as FLOPs the useful ones.
func measureRoofline(note func(string)) (*data, error) {
	d := newData("roofline", "kind", "name", "flop_per_byte", "gflops")
	d.say("isa", kernel.ISA())
	for _, level := range isa.Supported() {
		if level == isa.Go {
			continue
		}
		note("peak of " + level.String())
		restore := isa.Use(level)
		d.add("peak", level, "", measure.PeakFLOPs/median(measure.PeakFMA()))
		restore()
	}
	for _, memory := range []struct {
		name  string
		bytes int
	}{{"read of 1 GiB", 1 << 30}, {"read of 1 MiB", 1 << 20}, {"read of 16 KiB", 16 << 10}} {
		note(memory.name)
		d.add("read", memory.name, 1.0, float64(memory.bytes)/median(reading(memory.bytes)))
	}
	add := func(kind, name string, flops, bytes float64, run func(calls int)) {
		note(name)
		d.add(kind, name, flops/bytes, flops/median(run))
	}
	for _, n := range []int{1024, 1 << 24} {
		x, y := measure.Normal(1, n), measure.Normal(2, n)
		add("dot", fmt.Sprintf("dot %d", n), 2*float64(n), 8*float64(n), func(calls int) {
			for range calls {
				kernel.Dot(x, y)
			}
		})
	}
	for _, rows := range []int{1, 16, 128, 1024} {
		const n = 2048
		w, err := kernel.Pack(kernel.RowMajor(measure.Normal(1, n*n), n, n))
		check(err)
		x, y := kernel.RowMajor(measure.Normal(2, rows*n), rows, n), kernel.RowMajor(make([]float32, rows*n), rows, n)
		r := float64(rows)
		add("matmul", fmt.Sprintf("matmul %d×2048×2048", rows), 2*r*n*n, 4*(n*n+2*r*n), func(calls int) {
			for range calls {
				check(kernel.MatMul(y, x, w, kernel.MatMulOptions{Workers: 1}))
			}
		})
	}
	for _, format := range formats {
		run, _, bytes := decoding(16384, decodeKVHeads, format)
		add("decode", "decode "+format.String(), 4*16384*decodeHeads*decodeDim, float64(bytes), run)
	}
	for _, a := range []struct {
		name               string
		heads, length, dim int
		mask               kernel.Mask
		pairs              float64 // a head
	}{
		{"attention S128 D64", 12, 128, 64, nil, 128 * 128},
		{"attention S1024 D64", 8, 1024, 64, nil, 1024 * 1024},
		{"attention S1024 D64 causal", 8, 1024, 64, kernel.Causal{}, 1024 * 1025 / 2},
		{"attention S2048 D128", 8, 2048, 128, nil, 2048 * 2048},
		{"attention S8192 D64 window 256", 1, 8192, 64, kernel.Window{Left: 255}, 256*8192 - 255*256/2},
	} {
		run, err := selfAttention(a.heads, a.length, a.dim, a.mask)
		check(err)
		heads, dim := float64(a.heads), float64(a.dim)
		add("attention", a.name, 4*heads*dim*a.pairs, 16*heads*float64(a.length)*dim, run)
	}
	return d, nil
}

// check panics: all arguments are the program's own.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
