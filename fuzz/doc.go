// Package fuzz is test support: what every test of quern's kernels needs to run them on each
// instruction set, in memory that reports a stray access, on numbers that find the odd ones.
//
//   - [Levels] runs a test once for each instruction set.
//   - [Memory] lies between two pages that fault, and a [Buffer] is a matrix in it with canaries all around.
//   - [Source] draws float32, ordinary and special.
//   - [Same] is equality of bits, but any NaN equals any other.
//
// Its own tests hold every kernel of package asm, on every instruction set, to the bits of the portable one.
// They need one line for a new kernel: its row in kernels_test.go.
package fuzz
