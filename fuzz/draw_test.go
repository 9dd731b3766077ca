package fuzz

import (
	"math"
	"testing"
	"unsafe"

	"github.com/quern-go/quern/internal/portable"
)

// draw makes the arguments of one call. Whatever it draws is determined by its Source; where the
// buffers lie is determined by at.
type draw struct {
	*Source
	at       Place
	pool     *pool
	operands []*operand
}

// pool lends memory to one draw after the other, a Memory for each buffer.
type pool struct {
	t      testing.TB
	memory []*Memory
}

func (p *pool) get(i int) *Memory {
	for len(p.memory) <= i {
		p.memory = append(p.memory, Map(p.t, 8192))
	}
	return p.memory[i]
}

// operand is a buffer and what a call may do to it.
type operand struct {
	*Buffer
	same rule // nil for an input
	want []float32
}

// rule compares an element of an output with the reference's.
type rule func(column int, got, want float32) bool

func exact(_ int, got, want float32) bool { return Same(got, want) }

// anyZero is for maxima: which of +0 and -0 is the larger depends on the order of the lanes, and
// nothing that is computed from a maximum depends on it.
func anyZero(_ int, got, want float32) bool { return got == want || Same(got, want) }

// firstColumns is for a panel of n rows: columns behind those may be written, or not.
func firstColumns(n int) rule {
	return func(c int, got, want float32) bool { return c >= n || Same(got, want) }
}

type shape struct{ rows, cols, stride int }

func vector(n int) shape         { return shape{1, n, n} }
func panel(rows, cols int) shape { return shape{rows, cols, 32} }
func roundUp(n int) int          { return (n + 15) / 16 * 16 }

// matrix has rows with up to 18 elements between them that are not to be touched.
func (d *draw) matrix(rows, cols int) shape { return shape{rows, cols, cols + d.IntN(19)} }

// upTo draws a number from 1 to most.
func (d *draw) upTo(most int) int { return 1 + d.IntN(most) }

func (d *draw) in(name string, s shape, element func() float32) *Buffer {
	return d.out(name, s, element, nil)
}

// out is a buffer that is written, and usually read before.
func (d *draw) out(name string, s shape, element func() float32, same rule) *Buffer {
	i, at := len(d.operands), d.at
	if at > 0 {
		at = (at + Place(5*i)) % offsets // buffers at different offsets, but at 0 and the tail all flush
	}
	b := d.pool.get(i).Place(name, at, s.rows, s.cols, s.stride)
	if at != Outside {
		b.Fill(element)
		b.Seal()
	}
	d.operands = append(d.operands, &operand{Buffer: b, same: same})
	return b
}

// orNil returns b's address or, as often, nil.
func (d *draw) orNil(b *Buffer) *float32 {
	if d.IntN(2) == 0 {
		return nil
	}
	return b.Ptr()
}

// elementwise returns the buffers of a kernel that maps n elements: two, or twice the same.
func (d *draw) elementwise(n int, element func() float32) (dst, src *Buffer) {
	dst = d.out("dst", vector(n), element, exact)
	if d.IntN(2) == 0 {
		return dst, dst
	}
	return dst, d.in("src", vector(n), element)
}

// maximum draws the largest of some scores: never NaN, and -Inf if there was none.
func (d *draw) maximum() float32 {
	if m := d.Float32(); m == m && d.IntN(8) > 0 {
		return m
	}
	return float32(math.Inf(-1))
}

// sum draws the sum of some exponentials: not negative, and 0 if there was none.
func (d *draw) sum() float32 {
	if d.IntN(8) == 0 {
		return 0
	}
	return float32(math.Abs(float64(d.Float32())))
}

// below draws scores of which max is the largest.
func (d *draw) below(max float32) func() float32 {
	return func() float32 {
		if x := d.Float32(); !(x > max) {
			return x
		}
		return max
	}
}

// bits draws the bits of a mask: of 32 keys all, none, or some.
func (d *draw) bits() float32 {
	return math.Float32frombits([]uint32{0, math.MaxUint32, d.Uint32(), d.Uint32()}[d.IntN(4)])
}

// sameBits is for words that are not float32.
func sameBits(_ int, got, want float32) bool { return math.Float32bits(got) == math.Float32bits(want) }

// small is a matrix of elements of less than 32 bits, which end where their buffer does.
type small struct {
	buffer       *Buffer
	size, stride int // bytes of an element, and elements from row to row
	skip         int // bytes from the buffer to the first element
}

// small draws rows of elements, made from float32 by narrow, all of one size in bytes. With a rule it is an output.
func (d *draw) small(name string, s shape, size int, narrow func(float32) uint32, same rule) small {
	n := 0
	if s.rows > 0 && s.cols > 0 {
		n = (s.rows-1)*s.stride + s.cols
	}
	words := (n*size + 3) / 4
	b := d.out(name, vector(words), func() float32 {
		w := uint32(0)
		for at := 0; at < 32; at += 8 * size {
			w |= narrow(d.Float32()) << at
		}
		return math.Float32frombits(w)
	}, same)
	return small{b, size, s.stride, 4*words - n*size}
}

func (s small) half() *uint16 { return (*uint16)(s.ptr()) }
func (s small) byte() *int8   { return (*int8)(s.ptr()) }

func (s small) ptr() unsafe.Pointer { return unsafe.Add(unsafe.Pointer(s.buffer.Ptr()), s.skip) }

func bf16(f float32) uint32   { return uint32(portable.Float32ToBF16(f)) }
func f16(f float32) uint32    { return uint32(portable.Float32ToF16(f)) }
func byteOf(f float32) uint32 { return math.Float32bits(f) * 0x9e3779b1 >> 24 }
