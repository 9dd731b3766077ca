package kernel

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"
)

// Tensor is a view of memory as [batch, heads, sequence, dim] with any strides; the last dimension
// is contiguous. It copies nothing. The zero Tensor is empty.
//
// Elements are float32, [BF16] or [F16]; what is written, or is no query, key or value, is float32.
//
// Whatever the order of dimensions in memory, they are named in this order. Strides are in
// elements. An input may use stride 0 to broadcast a dimension; elements of an output must not
// overlap.
type Tensor struct {
	data   unsafe.Pointer
	length int // elements that data points to
	format Format
	// Shape is batch, heads, sequence, dim.
	Shape [4]int
	// Stride is the distance between batches, heads and positions.
	Stride [3]int
}

// BHSD views data as contiguous [batch, heads, sequence, dim]. That data holds as many elements is checked
// where the view is used, here as in [BSHD].
func BHSD[T Float](data []T, batch, heads, sequence, dim int) Tensor {
	return Strided(data, [4]int{batch, heads, sequence, dim}, [3]int{heads * sequence * dim, sequence * dim, dim})
}

// BSHD views data as contiguous [batch, sequence, heads, dim]: the output of a projection, in which
// heads lie beside each other.
func BSHD[T Float](data []T, batch, sequence, heads, dim int) Tensor {
	return Strided(data, [4]int{batch, heads, sequence, dim}, [3]int{sequence * heads * dim, dim, heads * dim})
}

// Strided views data with explicit strides, both in the order batch, heads, sequence: a slice of a
// fused QKV projection, overlapping heads, or a broadcast dimension. That the view lies within data
// is checked where it is used.
func Strided[T Float](data []T, shape [4]int, stride [3]int) Tensor {
	return Tensor{data: unsafe.Pointer(unsafe.SliceData(data)), length: len(data), format: formatOf[T](), Shape: shape, Stride: stride}
}

// Format returns the format of the elements, [Float32] for the zero Tensor.
func (t Tensor) Format() Format { return t.format }

// Batch returns a view of batch entry b: a Tensor whose batch is 1. It panics if there is no such entry.
func (t Tensor) Batch(b int) Tensor {
	if b < 0 || b >= t.Shape[0] {
		panic(fmt.Sprintf("quern: Batch: %d of %d", b, t.Shape[0]))
	}
	if hi, skip := bits.Mul64(uint64(b), uint64(t.Stride[0])); hi == 0 && skip < uint64(t.length) {
		t.data, t.length = unsafe.Add(t.data, int(skip)*t.format.size()), t.length-int(skip)
	} else {
		t.length = 0 // what is out of range is found out where t is used
	}
	t.Shape[0] = 1
	return t
}

func (t *Tensor) empty() bool { return slices.Contains(t.Shape[:], 0) }

// at returns the address of the first element of a row, which must exist.
func (t *Tensor) at(b, h, s int) unsafe.Pointer {
	return unsafe.Add(t.data, t.format.size()*(b*t.Stride[0]+h*t.Stride[1]+s*t.Stride[2]))
}

// row is at for a tensor of float32.
func (t *Tensor) row(b, h, s int) *float32 { return (*float32)(t.at(b, h, s)) }

// extent is the number of elements from the first to behind the last, or ok = false if it
// overflows.
func (t *Tensor) extent() (n int, ok bool) {
	if t.empty() {
		return 0, true
	}
	n = t.Shape[3]
	for i, stride := range t.Stride {
		hi, lo := bits.Mul64(uint64(t.Shape[i]-1), uint64(stride))
		if hi != 0 || lo > uint64(maxInt-n) {
			return 0, false
		}
		n += int(lo)
	}
	return n, n <= maxInt/8
}

const maxInt = int(^uint(0) >> 1)

// check reports what makes t unusable as the named argument of the given shape.
func (t *Tensor) check(name string, shape [4]int) error {
	if t.Shape != shape {
		return argument(ErrShape, name, "is %v (batch, heads, sequence, dim), want %v", t.Shape, shape)
	}
	for i, n := range t.Shape {
		if n < 0 || n > maxSize {
			return argument(ErrShape, name, "dimension %d is %d, want 0 to %d", i, n, maxSize)
		}
	}
	for i, n := range t.Stride {
		if n < 0 {
			return argument(ErrStride, name, "stride %d is %d, want 0 or more", i, n)
		}
	}
	n, ok := t.extent()
	if !ok {
		return argument(ErrStride, name, "shape %v with strides %v overflows the address space", t.Shape, t.Stride)
	}
	if n > t.length {
		return argument(ErrShape, name, "shape %v with strides %v needs %d elements, data has %d", t.Shape, t.Stride, n, t.length)
	}
	return nil
}

// checkFloat32 is check for a tensor that must be of float32.
func (t *Tensor) checkFloat32(name string, shape [4]int) error {
	if t.format != Float32 {
		return argument(ErrFormat, name, "is %v, want float32", t.format)
	}
	return t.check(name, shape)
}

// checkOutput is check for a tensor that is written: it is of float32, and no two elements share memory.
func (t *Tensor) checkOutput(name string, shape [4]int) error {
	if err := t.checkFloat32(name, shape); err != nil {
		return err
	}
	if t.empty() {
		return nil
	}
	// From the smallest stride up, each must step over everything below it.
	reach := t.Shape[3]
	for _, i := range t.order() {
		if t.Shape[i] == 1 {
			continue
		}
		if t.Stride[i] < reach {
			return argument(ErrOverlap, name, "shape %v with strides %v writes an element twice: a stride of %d is less than the %d elements below it", t.Shape, t.Stride, t.Stride[i], reach)
		}
		reach += (t.Shape[i] - 1) * t.Stride[i]
	}
	return nil
}

// checkResult is checkOutput for the output of attention, which may be q but not overlap it otherwise.
func (t *Tensor) checkResult(q *Tensor, shape [4]int) error {
	if err := t.checkOutput("out", shape); err != nil {
		return err
	}
	if !t.same(q) && t.overlaps(q) {
		return argument(ErrOverlap, "out", "shares memory with q without being the same view")
	}
	return nil
}

// order returns the dimensions by ascending stride.
func (t *Tensor) order() [3]int {
	o := [3]int{2, 1, 0}
	slices.SortStableFunc(o[:], func(i, j int) int { return cmp.Compare(t.Stride[i], t.Stride[j]) })
	return o
}

// overlaps reports whether two checked tensors share an element. It is exact if they are
// disjoint ranges or have the same strides, like slices of one fused projection; otherwise ranges
// that meet count as overlapping.
func (t *Tensor) overlaps(u *Tensor) bool {
	if t.empty() || u.empty() {
		return false
	}
	nt, _ := t.extent()
	nu, _ := u.extent()
	a, b := uintptr(t.data), uintptr(u.data)
	if a+uintptr(nt*t.format.size()) <= b || b+uintptr(nu*u.format.size()) <= a {
		return false
	}
	if t.Stride != u.Stride || t.format != u.format {
		return true
	}
	return t.meets(u, int(int64(b-a))/t.format.size(), 2, t.order())
}

// meets reports whether an element of u, whose strides are t's and which begins distance elements
// behind t, is one of t: some steps along the axes of order up to level must make up the distance.
func (t *Tensor) meets(u *Tensor, distance, level int, order [3]int) bool {
	if level < 0 {
		return distance < t.Shape[3] && -distance < u.Shape[3]
	}
	i := order[level]
	if t.Stride[i] == 0 {
		return t.meets(u, distance, level-1, order)
	}
	// What the axes below can make up for, either way.
	ahead, behind := t.Shape[3]-1, u.Shape[3]-1
	for _, a := range order[:level] {
		ahead += (t.Shape[a] - 1) * t.Stride[a]
		behind += (u.Shape[a] - 1) * t.Stride[a]
	}
	first := max((distance-ahead)/t.Stride[i]-1, 1-u.Shape[i])
	last := min((distance+behind)/t.Stride[i]+1, t.Shape[i]-1)
	for steps := first; steps <= last; steps++ {
		if t.meets(u, distance-steps*t.Stride[i], level-1, order) {
			return true
		}
	}
	return false
}

// same reports whether two tensors are the same view.
func (t *Tensor) same(u *Tensor) bool {
	return t.data == u.data && t.format == u.format && t.Shape == u.Shape && t.Stride == u.Stride
}
