// Package kernel computes attention, softmax and dot products on the CPU at the speed of its vector
// units: in generated assembly for AVX2, AVX-512 and NEON, chosen at run time, and in portable Go
// everywhere else, without cgo.
//
// Start with [Attention] for a single call, and [NewAttention] for a [Plan] that validates once and
// then runs without allocating. [MatMul] multiplies with weights that [Pack] has laid out once,
// [Rotary] turns queries and keys, and [MultiHead] is the whole layer, projections included. [Dot], [Exp], [Softmax], [LogSoftmax] and [LogSumExp] work on slices.
//
// # Who sees whom
//
// A [Mask] says which keys a query sees; [Options] has the bias, [ALiBi] slopes, softcap, sinks and the
// [ScoreFunc] that change scores, and [Ragged] the sequences of unequal length. Attention over keys that
// arrive in pieces is a [State].
//
// # Promises
//
// Every result is defined by a formula (ARITHMETIC.md in this folder, version [ArithmeticVersion]),
// and every instruction set gives exactly its bits: on every machine, for any number of workers,
// whatever else is in the batch, with any strides. NaN payloads are the one exception.
//
// Masked means absent: what a query may not see never reaches its output, NaN included, and costs
// nothing where whole blocks are unseen. A query that sees no key gets 0, and -Inf as log-sum-exp.
//
// # Conventions
//
// Functions on slices panic if lengths do not match, before anything is read or written; tensor
// functions return an [*ArgumentError] instead. Nothing is ever read or written outside the slices
// given. The floating-point environment must be Go's own: round to nearest even, subnormals kept.
// Functions may be called from many goroutines at once; a Plan serves one caller at a time.
package kernel
