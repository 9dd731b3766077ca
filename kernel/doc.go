// Package kernel computes attention, softmax, matrix and dot products on the CPU at the speed of its
// vector units: in generated assembly for AVX2, AVX-512 and NEON, chosen at run time, and in portable Go
// everywhere else, without cgo, and with the same bits from all of them.
//
// # Where to start
//
//   - [Attention] is a single call; [NewAttention] makes a [Plan], which validates once and then runs without
//     allocating.
//   - [Cache] keeps keys and values for queries that come later, as in generating text; [Attend] computes over
//     many of them at once.
//   - [State] is attention over some of the keys, to be merged: shared prefixes, pieces on several machines.
//   - [MultiHead] is the layer with its projections. [MatMul] multiplies with weights that [Pack] has laid out
//     once, [Rotary] turns queries and keys.
//   - [Dot], [SquaredL2], [Cosine], [Norm] and [Hamming] compare two vectors; [DotRows] and its siblings one with
//     many, [TopK] finds the nearest, [PairwiseDot] is many with many. [Rows] are the many, or some of them.
//   - [Exp], [Softmax], [LogSoftmax] and [LogSumExp] work on slices.
//
// In this folder of the repository CHOOSING.md helps to choose between them, between element types and between
// numbers of workers; NUMERICS.md says what is promised of results; EXAMPLES.md lists an example for every name.
//
// # Tensors
//
// A [Tensor] is a view of a slice with four dimensions, [batch, heads, sequence, dim], and any strides:
// [BHSD] and [BSHD] are the usual layouts, [Strided] is for part of a fused projection, overlapping heads or a
// broadcast. A [Matrix] is a view with two. Views copy nothing, and sizes need not be multiples of anything.
// Numbers are float32, or, where memory is to be saved, [BF16], [F16] or int8; arithmetic is always
// float32.
//
// # Who sees whom
//
// A [Mask] says which keys a query sees; [Options] has the bias, [ALiBi] slopes, softcap, sinks and the
// [ScoreFunc] that change scores, and [Ragged] the sequences of unequal length.
//
// Masked means absent: what a query may not see never reaches its output, NaN included, and costs
// nothing where whole blocks are unseen. A query that sees no key gets 0, and -Inf as log-sum-exp.
//
// # Results
//
// Every result is defined by a formula (ARITHMETIC.md in this folder, version [ArithmeticVersion]),
// and every instruction set gives exactly its bits: on every machine, for any number of workers,
// whatever else is in the batch, with any strides, and for a token in one prefill, in pieces, or one at a time
// from a cache. NaN payloads are the one exception. The floating-point environment must be Go's own:
// round to nearest even, subnormals kept.
//
// # Errors
//
// Functions on slices and [Rows] panic if lengths do not match, before anything is read or written; functions on
// tensors and matrices return an [*ArgumentError] instead. Both name the argument and the sizes. Nothing is ever read
// or written outside the slices given.
//
// # Goroutines and memory
//
// Functions may be called from many goroutines at once. A [Plan], [Attender], [MultiHead] or [State] serves one
// caller at a time; [Plan.Clone] and [MultiHead.Clone] make another. [Cache], [Pool], [Weights] and [Rotary] are
// for all. Workers are goroutines that have ended when the call returns. No call of assembly takes more than about
// 50 µs, so that the garbage collector and other goroutines need not wait.
//
// # Instruction sets
//
// [ISA] is the one in use. The environment variable QUERN_ISA=avx512|avx2|neon|go asks for another, and
// [ISAError] tells if it was not obeyed. The build tag purego leaves the assembly out. [Version] says all of it
// in a line.
package kernel
