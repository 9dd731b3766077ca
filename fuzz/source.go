package fuzz

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Same reports whether a and b have the same bits or are both NaN: payloads are not promised.
func Same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// Specials are the numbers at which arithmetic and the functions of quern change their behaviour. Each
// comes with its negative.
var Specials = [...]uint32{
	0x00000000, 0x00000001, 0x00400001, 0x007fffff, // zero and subnormals
	0x00800000, 0x00800001, 0x1f800000, 0x20000000, // tiny: products underflow
	0x3f000000, 0x3f7fffff, 0x3f800000, 0x3f800001, 0x3fc00000, 0x40200000, // about 1, and ties of rounding
	0x42aeac4f, 0x42ae0000, 0x42b17217, 0x42b17218, 0x42cff1b4, // the ends of exp: -87.3, -87, 88.7, -104
	0x42fa0000, 0x42fc0000, 0x42fc0001, 0x42fe0000, 0x43000000, // the ends of exp2: 125 to 128
	0x4b000000, 0x4effffff, 0x5f800000, 0x7e967699, 0x7f7fffff, // huge: products overflow
	0x7f800000, 0x7fc00000, 0x7f800001, 0x7fbfffff, // infinity and NaN, the last two signalling
}

// Source draws float32. Numbers of one Source are of one kind, because a single NaN or an overflow would
// make most results equal whatever a kernel did: half of all Sources hold only ordinary numbers.
type Source struct {
	*rand.Rand
	kind  kind
	scale float32
	raw   []byte // from the fuzzer; used up before anything is drawn
}

type kind int

const (
	ordinary kind = iota // normally distributed
	wide                 // finite, of any exponent
	special              // ordinary, one in sixteen from Specials
	anyBits
	kinds
)

// NewSource returns a Source that is determined by its arguments.
func NewSource(seed, stream uint64) *Source {
	s := &Source{Rand: rand.New(rand.NewPCG(seed, stream))}
	if s.IntN(2) == 0 {
		s.kind = kind(s.IntN(int(kinds)))
	}
	s.scale = float32(math.Ldexp(1, s.IntN(8)-1))
	return s
}

// Float32 draws a number.
func (s *Source) Float32() float32 {
	if len(s.raw) >= 4 {
		bits := binary.LittleEndian.Uint32(s.raw)
		s.raw = s.raw[4:]
		return math.Float32frombits(bits)
	}
	switch k := s.kind; {
	case k == anyBits:
		return math.Float32frombits(s.Uint32())
	case k == wide:
		return math.Float32frombits(s.Uint32() &^ (1 << 30)) // up to 2
	case k == special && s.IntN(16) == 0:
		return math.Float32frombits(Specials[s.IntN(len(Specials))] | s.Uint32()<<31)
	}
	return float32(s.NormFloat64()) * s.scale
}
