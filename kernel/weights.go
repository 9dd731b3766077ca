package kernel

import (
	"math"
	"unsafe"

	"github.com/quern-go/quern/asm"
	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
	"github.com/quern-go/quern/internal/sysmem"
)

// Weights is a matrix that [Pack] has laid out for [MatMul]: for every 32 columns a panel with a row
// of them for each row of the matrix, in the format that the matrix had. It never changes: layers
// and goroutines may share it.
type Weights struct {
	rows, cols int
	format     Format
	scale      []float32 // by column; nil: 1

	// One of these holds the panels, filled up with 0 to whole ones.
	f32  []float32
	half []uint16
	int8 []int8
}

// Rows is the number of rows of the matrix, the width of what it is multiplied with.
func (w *Weights) Rows() int {
	mustNotNil(w, "Weights", "Rows")
	return w.rows
}

// Cols is the number of columns of the matrix, the width of the product.
func (w *Weights) Cols() int {
	mustNotNil(w, "Weights", "Cols")
	return w.cols
}

// Pack copies w into the layout of [MatMul]. The matrix may be a transposed view. One of bfloat16,
// float16 or int8 takes half or a quarter of the memory of float32; its elements are converted, which
// is exact, while they are used. Sizes may be 0. Errors are of type [*ArgumentError]. The matrix is not
// needed when it returns.
func Pack(w Matrix) (*Weights, error) {
	p, err := packWeights(w, nil)
	return p, in("Pack", err)
}

// PackScaled is [Pack] for a matrix whose column c is to be multiplied by scale[c], as [Quantize]
// makes them: one number a column, or nil for none, copied. The scale multiplies elements of the product,
// not of the matrix.
func PackScaled(w Matrix, scale []float32) (*Weights, error) {
	p, err := packWeights(w, scale)
	return p, in("PackScaled", err)
}

func packWeights(w Matrix, scale []float32) (*Weights, error) {
	if err := w.check("w"); err != nil {
		return nil, err
	}
	if scale != nil && len(scale) != w.Cols {
		return nil, argument(ErrShape, "scale", "has %d elements, w has %d columns", len(scale), w.Cols)
	}
	if !fits(w.Rows, roundUp(w.Cols, panel)) {
		return nil, argument(ErrShape, "w", "is %d×%d, more than %d numbers", w.Rows, w.Cols, maxNumbers)
	}
	p := &Weights{rows: w.Rows, cols: w.Cols, format: w.format}
	if scale != nil {
		p.scale = append([]float32{}, scale...)
	}
	n := w.Rows * panel * p.panelCount()
	switch w.format {
	case Float32:
		p.f32 = grow(nil, n)
		sysmem.AskLarge(p.f32)
		p.packFloat32(&w)
	case Int8:
		p.int8 = make([]int8, n)
		sysmem.AskLarge(p.int8)
		packElements(p.int8, &w)
	default:
		p.half = make([]uint16, n)
		sysmem.AskLarge(p.half)
		packElements(p.half, &w)
	}
	return p, nil
}

func (w *Weights) packFloat32(m *Matrix) {
	// Pieces of 32 KiB that read and write 1 KiB at a time or more.
	pieceRows, pieceCols := panel, 8*panel
	if m.Transposed {
		pieceRows, pieceCols = pieceCols, pieceRows
	}
	level := isa.Active()
	for r := 0; r < m.Rows; r += pieceRows {
		for c := 0; c < m.Cols; c += pieceCols {
			dst := at(w.f32, c*m.Rows+r*panel)
			rows, cols := min(pieceRows, m.Rows-r), min(pieceCols, m.Cols-c)
			if m.Transposed {
				asm.Transpose(level, dst, panel, offset(m.row(c), r), m.Stride, cols, rows)
			} else {
				asm.PackRows(level, dst, m.Rows*panel, offset(m.row(r), c), m.Stride, rows, cols)
			}
		}
	}
}

// packElements packs elements of any type, a piece of a panel at a time, so that both its sides stay in the cache.
func packElements[T uint16 | int8](dst []T, m *Matrix) {
	const pieceRows = 2 * panel
	src := elements[T](*m)
	for c := 0; c < m.Cols; c += panel {
		to, cols := dst[c*m.Rows:][:m.Rows*panel], min(panel, m.Cols-c)
		for from := 0; from < m.Rows; from += pieceRows {
			end := min(from+pieceRows, m.Rows)
			if !m.Transposed {
				for r := from; r < end; r++ {
					copy(to[r*panel:][:cols], src[r*m.Stride+c:])
				}
				continue
			}
			for i := range cols {
				column := src[(c+i)*m.Stride:][:end]
				for r := from; r < end; r++ {
					to[r*panel+i] = column[r]
				}
			}
		}
	}
}

// elements is the memory of a matrix.
func elements[T float32 | uint16 | int8](m Matrix) []T {
	return unsafe.Slice((*T)(m.data), m.length)
}

func (w *Weights) panelCount() int { return (w.cols + panel - 1) / panel }

// block returns n numbers of the panels from index i on, in float32.
func (w *Weights) block(level isa.Level, s *multiplyScratch, i, n int) *float32 {
	if w.format == Float32 {
		return at(w.f32, i)
	}
	s.b = grow(s.b, blockDepth*panel)
	to := at(s.b, 0)
	if n == 0 {
		return to
	}
	switch w.format {
	case BFloat16:
		asm.WidenBF16(level, to, &w.half[i], n)
	case Float16:
		asm.WidenF16(level, to, &w.half[i], n)
	case Int8:
		asm.WidenInt8(level, to, &w.int8[i], n)
	}
	return to
}

// stored returns where n numbers of the panels lie from number i on, as far as there are any, and their size in bytes.
func (w *Weights) stored(i, n int) (at unsafe.Pointer, bytes int) {
	n = min(n, w.rows*panel*w.panelCount()-i)
	if n <= 0 {
		return nil, 0
	}
	switch w.format {
	case Float32:
		at = unsafe.Pointer(&w.f32[i])
	case Int8:
		at = unsafe.Pointer(&w.int8[i])
	default:
		at = unsafe.Pointer(&w.half[i])
	}
	return at, n * w.format.size()
}

// Quantize rounds a float32 matrix to int8, row-major into dst, for [PackScaled]. The scale s of a column
// is its largest magnitude divided by 127, or 1 if that is below 2⁻¹²⁶, and a number x becomes x·(1/s), rounded to
// the nearest integer, ties to even. A column with Inf or NaN has the scale NaN and zeros, so that its products are
// NaN. A [Cache] of int8 rounds each key and value by the same rule.
//
// dst has w.Rows·w.Cols elements, of which row r and column c is number r·w.Cols + c, and scale has w.Cols.
// Neither may overlap w. Errors are of type [*ArgumentError]; nothing has been written then.
func Quantize(dst []int8, scale []float32, w Matrix) error {
	return in("Quantize", quantize(dst, scale, &w))
}

func quantize(dst []int8, scale []float32, w *Matrix) error {
	if err := w.checkFloat32("w"); err != nil {
		return err
	}
	if !equalsProduct(len(dst), w.Rows, w.Cols, 1) {
		return argument(ErrShape, "dst", "has %d elements, w is %d×%d", len(dst), w.Rows, w.Cols)
	}
	if len(scale) != w.Cols {
		return argument(ErrShape, "scale", "has %d elements, w has %d columns", len(scale), w.Cols)
	}
	src := elements[float32](*w)
	down, right := w.Stride, 1
	if w.Transposed {
		down, right = right, down
	}
	for c := 0; c < w.Cols; c += panel { // some columns, so that memory is read and written in pieces
		n := min(panel, w.Cols-c)
		var most, inverse [panel]float32
		for r := range w.Rows {
			for i := range n {
				x := src[r*down+(c+i)*right]
				if x < 0 {
					x = -x
				}
				if x > most[i] || x != x { // NaN stays
					most[i] = x
				}
			}
		}
		for i := range n {
			scale[c+i] = portable.Int8Scale(most[i])
			inverse[i] = 1 / scale[c+i]
		}
		for r := range w.Rows {
			for i := range n {
				dst[r*w.Cols+c+i] = quantized(src[r*down+(c+i)*right] * inverse[i])
			}
		}
	}
	return nil
}

// quantized rounds to the nearest integer, of which none is beyond ±127, and NaN to 0: that is what all numbers of a
// column are whose scale is not finite.
func quantized(x float32) int8 {
	if x != x {
		return 0
	}
	return int8(math.RoundToEven(float64(x)))
}
