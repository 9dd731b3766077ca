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
