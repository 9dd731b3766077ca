package main

import (
	"fmt"
	"slices"

	"github.com/quern-go/quern/kernel"
	"github.com/quern-go/quern/ref"
)

// Case is a row of the table: a name, and a problem of some kind.
type Case struct {
	Name string
	Kind
}

// Kind is a kind of problem, such as attention or a dot product. A new one needs these methods, and a
// line in bench_test.go.
type Kind interface {
	fmt.Stringer // the problem in a few words
	// prepare makes inputs, always the same, for the active ISA.
	prepare(workers int) *job
}

// group is a part of the table.
type group struct {
	name  string
	long  bool // takes gigabytes and minutes: only if it or a case of it is named, or all are wanted
	cases []Case
}

// groups is the table behind the report and the benchmarks. After adding a row, run
//
//	go test ./bench -run Cases -update
var groups = []group{
	{name: "prefill", cases: []Case{
		{"P1", attention{Shape: self(8, 1024, 64)}},
		{"P1c", attention{Shape: self(8, 1024, 64), mask: causal}},
		{"P2", attention{Shape: self(8, 2048, 128)}},
		{"P2c", attention{Shape: self(8, 2048, 128), mask: causal}},
		{"P3c", attention{Shape: self(1, 8192, 64), mask: causal}},
		{"S1", attention{Shape: self(12, 128, 64)}},
		{"X1", attention{Shape: kernel.Shape{Batch: 2, Heads: 8, KVHeads: 8, Queries: 256, Keys: 1500, Dim: 64, ValueDim: 64}}},
		{"G1", attention{Shape: grouped(32, 8, 1024, 1024, 128), mask: causal}},
		{"P1cf16", cached{attention: attention{Shape: self(8, 1024, 64), mask: causal}, format: kernel.Float16}},
		{"P1cbf16", cached{attention: attention{Shape: self(8, 1024, 64), mask: causal}, format: kernel.BFloat16}},
		{"P1ci8", cached{attention: attention{Shape: self(8, 1024, 64), mask: causal}, format: kernel.Int8}},
	}},
	{name: "shapes", cases: []Case{
		{"D40", attention{Shape: self(8, 1024, 40)}},
		{"D80", attention{Shape: self(8, 1024, 80)}},
		{"D96", attention{Shape: self(8, 1024, 96)}},
		{"D100", attention{Shape: self(8, 1024, 100)}},
		{"D160", attention{Shape: self(4, 1024, 160)}},
		{"D192", attention{Shape: self(4, 1024, 192)}},
		{"D256", attention{Shape: self(4, 1024, 256)}},
		{"S16", attention{Shape: self(12, 16, 64)}},
		{"S77", attention{Shape: self(12, 77, 64)}},
		{"S197", attention{Shape: self(12, 197, 64)}},
		{"S577", attention{Shape: self(12, 577, 64)}},
	}},
	{name: "masks", cases: []Case{
		{"W1", attention{Shape: self(1, 8192, 64), mask: pattern{" window 256", kernel.Window{Left: 255}, ref.Window(255, 0, 0)}}},
		{"T1", attention{Shape: self(1, 8192, 64), mask: strided}},
		{"T1-2k", attention{Shape: self(1, 2048, 64), mask: strided}},
		{"T1-4k", attention{Shape: self(1, 4096, 64), mask: strided}},
		{"T1-16k", attention{Shape: self(1, 16384, 64), mask: strided}},
		{"F1", attention{Shape: self(1, 8192, 64), mask: fixed}},
		{"K1", attention{Shape: self(1, 8192, 64), mask: documents, opts: kernel.Options{Ragged: kernel.Ragged{CumQueries: lengths(16, 512)}}}},
		{"L1", attention{Shape: self(8, 1024, 64), opts: changed, change: "softcap 30, ALiBi, bias"}},
		{"U1", attention{Shape: self(8, 1024, 64), mask: function}},
	}},
	{name: "decode", long: true, cases: []Case{
		{"D1f32", decode(32, 32, 4096, kernel.Float32)},
		{"D1f16", decode(32, 32, 4096, kernel.Float16)},
		{"D1bf16", decode(32, 32, 4096, kernel.BFloat16)},
		{"D1i8", decode(32, 32, 4096, kernel.Int8)},
		{"D2f32", decode(32, 8, 8192, kernel.Float32)},
		{"D2f16", decode(32, 8, 8192, kernel.Float16)},
		{"D2bf16", decode(32, 8, 8192, kernel.BFloat16)},
		{"D2i8", decode(32, 8, 8192, kernel.Int8)},
		{"D3", decode(8, 1, 131072, kernel.BFloat16)},
		{"C1", cached{attention: attention{
			Shape: grouped(32, 8, 512, 7680+512, 128), mask: pattern{" causal", kernel.Causal{}, ref.Causal(7680)},
		}, format: kernel.BFloat16}},
		{"A1", appended{heads: 32, dim: 128, format: kernel.Float32, flush: 64 << 20}},
		{"A1f16", appended{heads: 32, dim: 128, format: kernel.Float16, flush: 64 << 20}},
		{"A1bf16", appended{heads: 32, dim: 128, format: kernel.BFloat16, flush: 64 << 20}},
		{"A1i8", appended{heads: 32, dim: 128, format: kernel.Int8, flush: 64 << 20}},
		{"Q1", oneRow(kernel.Float32)},
		{"Q1f16", oneRow(kernel.Float16)},
		{"Q1bf16", oneRow(kernel.BFloat16)},
		{"Q1i8", oneRow(kernel.Int8)},
	}},
	{name: "layer", cases: []Case{
		{"N512", square(512)},
		{"N1024", square(1024)},
		{"N2048", square(2048)},
		{"B1", matmul{rows: 128, depth: 768, cols: 2304}},
		{"H1", multihead{128, 768, 12}},
	}},
	{name: "elementwise", cases: []Case{
		{"E1", exp(1024)},
		{"M1", softmax(1024)},
		{"M2", softmax(32768)},
	}},
	{name: "dots", cases: []Case{
		{"V64", dot{n: 64}},
		{"V128", dot{n: 128}},
		{"V768", dot{n: 768}},
		{"V1024", dot{n: 1024}},
		{"V65536", dot{n: 65536}},
		{"V1M", dot{n: 1 << 20}},
		{"B768", dot{n: 768, format: kernel.BFloat16}},
		{"H768", dot{n: 768, format: kernel.Float16}},
		{"I768", dot{n: 768, format: kernel.Int8}},
		{"L768", dot{n: 768, of: kernel.MetricSquaredL2}},
		{"C768", dot{n: 768, of: kernel.MetricCosine}},
	}},
	{name: "scans", long: true, cases: []Case{
		{"V16M", dot{n: 1 << 24, cold: true}},
		{"B16M", dot{n: 1 << 24, format: kernel.BFloat16, cold: true}},
		{"H16M", dot{n: 1 << 24, format: kernel.Float16, cold: true}},
		{"R1", scan{count: 100_000, dim: 768}},
		{"R1bf16", scan{count: 100_000, dim: 768, format: kernel.BFloat16}},
		{"R1f16", scan{count: 100_000, dim: 768, format: kernel.Float16}},
		{"R1i8", scan{count: 100_000, dim: 768, format: kernel.Int8}},
		{"R1i8q", scan{count: 100_000, dim: 768, format: kernel.Int8, query: kernel.Int8}},
		{"R1g", scan{count: 100_000, dim: 768, gathered: true}},
		{"TK", scan{count: 100_000, dim: 768, best: 100}},
		{"PW", pairwise{queries: 64, count: 100_000, dim: 768}},
	}},
}

// cases is all cases of some groups.
func cases(of func(group) bool) []Case {
	var cases []Case
	for _, g := range groups {
		if of(g) {
			cases = append(cases, g.cases...)
		}
	}
	return cases
}

func everyGroup(group) bool   { return true }
func shortGroup(g group) bool { return !g.long }

// group is the one that has c.
func (c Case) group() group {
	return groups[slices.IndexFunc(groups, func(g group) bool {
		return slices.ContainsFunc(g.cases, func(other Case) bool { return other.Name == c.Name })
	})]
}

// cold reports whether the case reads its input from memory.
func (c Case) cold() bool {
	switch k := c.Kind.(type) {
	case cached:
		return k.cold
	case dot:
		return k.cold
	case matmul:
		return k.few()
	case scan:
		return true
	}
	return false
}

// decode is one new query for every head and a sequence of so many keys, of width 128.
func decode(heads, kvHeads, keys int, format kernel.Format) cached {
	return cached{attention: attention{Shape: grouped(heads, kvHeads, 1, keys, 128)}, format: format, cold: true}
}

// grouped is heads that share keys, of one sequence.
func grouped(heads, kvHeads, queries, keys, dim int) kernel.Shape {
	return kernel.Shape{Batch: 1, Heads: heads, KVHeads: kvHeads, Queries: queries, Keys: keys, Dim: dim, ValueDim: dim}
}

// self is self-attention of one sequence.
func self(heads, length, dim int) kernel.Shape {
	return grouped(heads, heads, length, length, dim)
}

// square is a product of square matrices.
func square(n int) matmul { return matmul{rows: n, depth: n, cols: n} }

// oneRow is a row by a matrix, as in decoding.
func oneRow(weights kernel.Format) matmul {
	return matmul{rows: 1, depth: 4096, cols: 4096, format: weights}
}

// pattern is a mask twice: as package kernel takes it and, written independently, as package ref does.
// The second also counts the visible pairs.
type pattern struct {
	name   string
	kernel kernel.Mask
	ref    ref.Mask
}

// causal is for as many queries as keys.
var causal = pattern{" causal", kernel.Causal{}, ref.Causal(0)}

// The sparse patterns with stride l and c summary columns.
var (
	strided = pattern{" strided l=128", kernel.SparseStrided{Stride: 128}, ref.Strided(128)}
	fixed   = pattern{" fixed l=128 c=16", kernel.SparseFixed{Stride: 128, Summary: 16}, ref.Fixed(128, 16)}
)

// documents is a packed batch, which is not a mask.
var documents = pattern{" in documents of 512", nil, ref.Documents(lengths(16, 512), lengths(16, 512), nil)}

// function is causal, given as a Go function.
var function = pattern{" causal, as a function", kernel.MaskFunc{See: func(_, i, j int) bool { return j <= i }, AllHeadsAlike: true}, ref.Causal(0)}

// lengths is the cumulative lengths of n documents.
func lengths(n, length int) []int {
	cum := []int{0}
	for range n {
		cum = append(cum, cum[len(cum)-1]+length)
	}
	return cum
}

// changed is everything that may happen to scores of 8 heads of 1024 keys.
var changed = kernel.Options{
	Softcap: 30,
	ALiBi:   kernel.ALiBi{Slopes: []float32{0x1p-1, 0x1p-2, 0x1p-3, 0x1p-4, 0x1p-5, 0x1p-6, 0x1p-7, 0x1p-8}},
	Bias:    kernel.BHSD(normal(9, 1024*1024), 1, 1, 1024, 1024),
}
