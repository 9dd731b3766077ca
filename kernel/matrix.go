package kernel

import "unsafe"

// Matrix is a view of memory as rows and columns. It copies nothing. The zero Matrix is empty. Neither size
// may be more than 2²⁸.
type Matrix struct {
	data   unsafe.Pointer
	length int // elements that data points to
	format Format

	// Rows and Cols are the size of the matrix as it is seen, that is, after transposition.
	Rows, Cols int
	// Stride is the distance in elements between stored rows, which are contiguous.
	Stride int
	// Transposed says that a stored row is a column.
	Transposed bool
}

// RowMajor views data as rows that follow each other, rows·cols elements. That data holds as many is checked
// where the view is used.
func RowMajor[T Scalar](data []T, rows, cols int) Matrix {
	return StridedRows(data, rows, cols, cols)
}

// StridedRows views data as rows that begin stride elements apart, such as some of the columns of a
// wider matrix. That the view lies within data is checked where it is used.
func StridedRows[T Scalar](data []T, rows, cols, stride int) Matrix {
	return Matrix{data: unsafe.Pointer(unsafe.SliceData(data)), length: len(data), format: formatOf[T](), Rows: rows, Cols: cols, Stride: stride}
}

// T returns the transposed view. Weights stored as [out, in], the habit of PyTorch, are
// RowMajor(data, out, in).T().
func (m Matrix) T() Matrix {
	m.Rows, m.Cols, m.Transposed = m.Cols, m.Rows, !m.Transposed
	return m
}

// rows views a tensor of one head as a matrix of all its rows, or reports false if they do not lie
// evenly.
func (t *Tensor) rows() (Matrix, bool) {
	m := t.matrix(0)
	m.Rows = t.Shape[0] * t.Shape[2]
	if t.Shape[2] == 1 {
		m.Stride = t.Stride[0]
	}
	return m, t.Shape[0] <= 1 || t.Stride[0] == t.Shape[2]*m.Stride
}

// matrix views one batch entry of a tensor of one head as a matrix.
func (t *Tensor) matrix(b int) Matrix {
	m := Matrix{data: t.data, length: t.length, Rows: t.Shape[2], Cols: t.Shape[3], Stride: t.Stride[2]}
	return m.skip(b * t.Stride[0])
}

// rowsFrom views some of the rows.
func (m Matrix) rowsFrom(first, rows int) Matrix {
	m.Rows = rows
	return m.skip(first * m.Stride)
}

// skip leaves out elements at the start.
func (m Matrix) skip(n int) Matrix {
	m.data, m.length = unsafe.Add(m.data, 4*n), m.length-n
	return m
}

// stored is the matrix as it lies in memory, as a tensor of one batch and head.
func (m *Matrix) stored() Tensor {
	t := Tensor{data: m.data, length: m.length, Shape: [4]int{1, 1, m.Rows, m.Cols}, Stride: [3]int{0, 0, m.Stride}}
	if m.Transposed {
		t.Shape[2], t.Shape[3] = m.Cols, m.Rows
	}
	return t
}

// checkFloat32 is check for a matrix that is not weights.
func (m *Matrix) checkFloat32(name string) error {
	if m.format != Float32 {
		return argument(ErrFormat, name, "is %v, want float32", m.format)
	}
	return m.check(name)
}

// check reports what makes m unusable as the named argument.
func (m *Matrix) check(name string) error {
	if m.Rows < 0 || m.Cols < 0 || m.Rows > maxSize || m.Cols > maxSize {
		return argument(ErrShape, name, "is %d×%d, want 0 to %d each", m.Rows, m.Cols, maxSize)
	}
	if m.Stride < 0 {
		return argument(ErrStride, name, "stride is %d, want 0 or more", m.Stride)
	}
	t := m.stored()
	n, ok := t.extent()
	if !ok {
		return argument(ErrStride, name, "%d×%d with stride %d overflows the address space", m.Rows, m.Cols, m.Stride)
	}
	if n > m.length {
		return argument(ErrShape, name, "%d×%d with stride %d needs %d elements, data has %d", m.Rows, m.Cols, m.Stride, n, m.length)
	}
	return nil
}

// checkOutput is check for a matrix that is written.
func (m *Matrix) checkOutput(name string) error {
	if m.Transposed {
		return argument(ErrOption, name, "is transposed: rows of a result are contiguous")
	}
	if m.Rows > 1 && m.Cols > 0 && m.Stride < m.Cols {
		return argument(ErrOverlap, name, "%d×%d writes an element twice: the stride is %d", m.Rows, m.Cols, m.Stride)
	}
	return m.checkFloat32(name)
}

// overlaps reports whether two checked matrices share an element, as [Tensor] does.
func (m *Matrix) overlaps(o *Matrix) bool {
	a, b := m.stored(), o.stored()
	return a.overlaps(&b)
}

// row returns the address of stored row i of a float32 matrix.
func (m *Matrix) row(i int) *float32 {
	return (*float32)(unsafe.Add(m.data, 4*i*m.Stride))
}
