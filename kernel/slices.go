package kernel

import (
	"math"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// Exp sets dst[i] to e^src[i], with an error of at most 1 ULP over every float32, subnormal results
// included:
//
//	Exp(±0) = 1
//	Exp(x > 88.72283) = Exp(+Inf) = +Inf
//	Exp(x < -103.97208) = Exp(-Inf) = +0
//	Exp(NaN) = NaN
//
// dst and src may be the same slice, but not otherwise overlap. It panics if the lengths differ.
func Exp(dst, src []float32) {
	mustMatch("Exp", "dst", len(dst), "src", len(src))
	level := isa.Active()
	for len(src) > 0 {
		n := min(len(src), budget.Numbers)
		asm.ExpArray(level, &dst[0], &src[0], n)
		dst, src = dst[n:], src[n:]
	}
}

// softmaxBlock is the number of elements whose maximum and sum are taken together: 4 KiB, so that the
// second reading of a block is in cache.
const softmaxBlock = 1024

// softmaxState is a softmax under way: for each block its maximum m and its sum of e^(x-m).
type softmaxState struct {
	level     isa.Level
	max, sum  []float32
	best, all float32 // over all blocks
}

// blockMemory holds the state of up to 64 blocks, on the caller's stack.
type blockMemory [2][64]float32

// softmaxBlocks takes the blocks of src; with dst it leaves e^(x-m) there.
func softmaxBlocks(dst, src []float32, few *blockMemory) softmaxState {
	s := softmaxState{level: isa.Active(), best: float32(math.Inf(-1))}
	n := (len(src) + softmaxBlock - 1) / softmaxBlock
	if n <= len(few[0]) {
		s.max, s.sum = few[0][:n], few[1][:n]
	} else {
		both := make([]float32, 2*n)
		s.max, s.sum = both[:n], both[n:]
	}
	for b := range s.max {
		from := src[b*softmaxBlock : min((b+1)*softmaxBlock, len(src))]
		max := asm.BlockMax(s.level, &from[0], len(from)) + 0 // never -0, whose place in a block would show
		s.max[b] = max
		if max > s.best {
			s.best = max
		}
		if math.IsInf(float64(max), -1) {
			max = 0 // all are -Inf or NaN: -Inf - -Inf would be NaN
		}
		if dst != nil {
			s.sum[b] = asm.ExpSum(s.level, &dst[b*softmaxBlock], &from[0], len(from), max)
		} else {
			s.sum[b] = asm.SumExp(s.level, &from[0], len(from), max)
		}
	}
	if n == 1 {
		s.max[0], s.all = 1, s.sum[0]
		return s
	}
	// Σ sum·e^(max-best), and max becomes that weight. In float32 the rounding of many blocks would add up; in
	// float64 their products are exact.
	best, all := s.best, 0.0
	if math.IsInf(float64(best), -1) {
		best = 0
	}
	for b, max := range s.max {
		w := portable.SoftExp(max - best)
		all += float64(s.sum[b]) * float64(w)
		s.max[b] = w
	}
	s.all = float32(all)
	return s
}

// Softmax sets dst[i] to e^src[i] / Σ e^src[j]. It passes over memory twice and takes one
// exponential an element; an element more than 87 below the largest of its block of 1024 gives +0.
//
// Elements that are -Inf count as absent: they give +0, also where all are -Inf. A NaN or +Inf makes
// every result NaN. Empty slices are left alone.
//
// dst and src may be the same slice, but not otherwise overlap. It panics if the lengths differ. It
// does not allocate up to 65536 elements, and 8 bytes for every 1024 elements above.
//
// The method is the online softmax of Milakov and Gimelshein (2018), in blocks of 1024.
func Softmax(dst, src []float32) {
	mustMatch("Softmax", "dst", len(dst), "src", len(src))
	var few blockMemory
	s := softmaxBlocks(dst, src, &few)
	inverse := 1 / s.all
	if s.all == 0 {
		inverse = 0
	}
	for b, w := range s.max {
		to := dst[b*softmaxBlock : min((b+1)*softmaxBlock, len(dst))]
		asm.ScaleVector(s.level, &to[0], &to[0], len(to), w*inverse)
	}
}

// LogSoftmax sets dst[i] to src[i] - log Σ e^src[j], computed as (src[i] - max) - log Σ e^(src[j]-max).
//
// If all elements are -Inf, all results are. A NaN or +Inf makes every result NaN. Empty slices are
// left alone. dst and src may be the same slice, but not otherwise overlap. It panics if the
// lengths differ, and allocates as [Softmax] does.
func LogSoftmax(dst, src []float32) {
	mustMatch("LogSoftmax", "dst", len(dst), "src", len(src))
	var few blockMemory
	s := softmaxBlocks(nil, src, &few)
	best, log := s.best, s.log()
	if math.IsInf(float64(best), -1) {
		best = 0
	}
	for len(src) > 0 {
		n := min(len(src), budget.Numbers)
		asm.Subtract(s.level, &dst[0], &src[0], n, best, log)
		dst, src = dst[n:], src[n:]
	}
}

// log is the natural logarithm of the sum, 0 for an empty one so that -Inf stays -Inf.
func (s *softmaxState) log() float32 {
	if s.all == 0 {
		return 0
	}
	return float32(portable.Log2(s.all) * portable.Ln2)
}

// LogSumExp returns log Σ e^x[i], computed as max + log Σ e^(x[i]-max): -Inf if x is empty or all
// -Inf, NaN if a NaN or +Inf is among them. It allocates as [Softmax] does.
func LogSumExp(x []float32) float32 {
	var few blockMemory
	s := softmaxBlocks(nil, x, &few)
	return s.best + s.log()
}
