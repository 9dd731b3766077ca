package main

import (
	"fmt"

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

// cases is the table behind the report and the benchmarks. After adding a row, run
//
//	go test ./bench -update
var cases = []Case{
	{"P1", attention{Shape: self(8, 1024, 64)}},
	{"P1c", attention{Shape: self(8, 1024, 64), mask: causal}},
	{"P2", attention{Shape: self(8, 2048, 128)}},
	{"P2c", attention{Shape: self(8, 2048, 128), mask: causal}},
	{"P3c", attention{Shape: self(1, 8192, 64), mask: causal}},
	{"S1", attention{Shape: self(12, 128, 64)}},
	{"X1", attention{Shape: kernel.Shape{Batch: 2, Heads: 8, KVHeads: 8, Queries: 256, Keys: 1500, Dim: 64, ValueDim: 64}}},
	{"G1", attention{Shape: kernel.Shape{Batch: 1, Heads: 32, KVHeads: 8, Queries: 1024, Keys: 1024, Dim: 128, ValueDim: 128}, mask: causal}},

	{"N512", matmul{512, 512, 512}},
	{"N1024", matmul{1024, 1024, 1024}},
	{"N2048", matmul{2048, 2048, 2048}},
	{"B1", matmul{128, 768, 2304}},
	{"Q1", matmul{1, 4096, 4096}},
	{"H1", multihead{128, 768, 12}},
	{"W1", attention{Shape: self(1, 8192, 64), mask: pattern{" window 256", kernel.Window{Left: 255}, ref.Window(255, 0, 0)}}},
	{"T1", attention{Shape: self(1, 8192, 64), mask: strided}},
	{"T1-2k", attention{Shape: self(1, 2048, 64), mask: strided}},
	{"T1-4k", attention{Shape: self(1, 4096, 64), mask: strided}},
	{"T1-16k", attention{Shape: self(1, 16384, 64), mask: strided}},
	{"F1", attention{Shape: self(1, 8192, 64), mask: fixed}},
	{"K1", attention{Shape: self(1, 8192, 64), mask: documents, opts: kernel.Options{Ragged: kernel.Ragged{CumQueries: lengths(16, 512)}}}},
	{"L1", attention{Shape: self(8, 1024, 64), opts: changed, change: "softcap 30, ALiBi, bias"}},
	{"U1", attention{Shape: self(8, 1024, 64), mask: function}},

	{"E1", exp(1024)},
	{"M1", softmax(1024)},
	{"M2", softmax(32768)},

	{"V64", dot(64)},
	{"V768", dot(768)},
	{"V1024", dot(1024)},
	{"V65536", dot(65536)},
	{"V1M", dot(1 << 20)},
}

// self is self-attention of one sequence.
func self(heads, length, dim int) kernel.Shape {
	return kernel.Shape{Batch: 1, Heads: heads, KVHeads: heads, Queries: length, Keys: length, Dim: dim, ValueDim: dim}
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
