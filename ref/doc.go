// Package ref is the oracle: attention and its parts in float64, short and obviously right, and slow.
// Results are tested against it; nothing is computed with it.
//
// [Attention] works in numbered passes that carry the names of the FlashAttention papers: S the
// scores, m their maximum, P = exp(S-m), l the sum of P, O = Σ P·v, and O/l the output. Masks are
// plain predicates, written from their definitions and not from any kernel.
//
// Sums run in float64 over products of float32 numbers, which are exact there: an error is about
// 2⁻⁵³ of Σ|x·y|, nothing beside float32's 2⁻²⁴.
package ref
