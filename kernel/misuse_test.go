package kernel_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"math/bits"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outcome is what becomes of a call: nothing wrong, an *ArgumentError, or a panic with a message of ours. A
// runtime error is never one: neither an index out of range nor a nil pointer, nor memory that cannot be had.
type outcome struct {
	kind     error
	argument string // of the error
	message  string // part of the panic's
}

var fine outcome

func fails(kind error, argument string) outcome { return outcome{kind: kind, argument: argument} }
func panics(message string) outcome             { return outcome{message: message} }

// check makes a call and compares.
func (want outcome) check(t *testing.T, call func() error) {
	t.Helper()
	defer func() {
		switch cause := recover().(type) {
		case nil:
			require.Empty(t, want.message, "no panic")
		case runtime.Error:
			t.Fatalf("runtime error: %v", cause)
		case string:
			require.NotEmpty(t, want.message, "panic: %s", cause)
			require.Contains(t, cause, want.message)
			require.True(t, strings.HasPrefix(cause, "quern: "), cause)
		default:
			panic(cause)
		}
	}()
	err := call()
	if want.kind == nil {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, want.kind)
	var wrong *kernel.ArgumentError
	if want.argument != "" {
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, want.argument, wrong.Argument, "%v", err)
	}
}

// misuse is one row of the table.
type misuse struct {
	function string // of package kernel; a method with its type
	what     string
	want     outcome
	call     func() error
}

const (
	huge = math.MaxInt
	half = 1 << (bits.UintSize / 2) // half² overflows to 0
	most = 1 << 28                  // the largest size there may be

	narrow = bits.UintSize == 32
)

// tooWide is the kind of error for strides that overflow an int, which is only so where that is narrow.
var tooWide = map[bool]error{true: kernel.ErrStride, false: kernel.ErrShape}[narrow]

// quiet is a call that returns no error, whatever else it returns.
func quiet(f func()) func() error { return func() error { f(); return nil } }

// with is a call of a function of two slices.
func with[T any](f func(x, y []T), x, y []T) func() error { return quiet(func() { f(x, y) }) }

func floats(n int) []float32 { return make([]float32, n) }

// TestMisuse states what every exported function makes of arguments that it cannot use, and of odd ones
// that it can. More of [kernel.Attention]'s are in TestArgumentErrors, of masks in TestMaskErrors.
func TestMisuse(t *testing.T) {
	odd := []float32{nan, infinity, -infinity, 0, 1e38, -1e38, 1e-45}
	tensor := func(shape ...int) kernel.Tensor {
		return kernel.BHSD(floats(shape[0]*shape[1]*shape[2]*shape[3]), shape[0], shape[1], shape[2], shape[3])
	}
	// broadcast has any shape in a few numbers of memory.
	broadcast := func(batch, heads, sequence, dim int) kernel.Tensor {
		return kernel.Strided(floats(64), [4]int{batch, heads, sequence, dim}, [3]int{})
	}
	none := kernel.Tensor{}
	shape := kernel.Shape{Batch: 1, Heads: 2, KVHeads: 1, Queries: 3, Keys: 5, Dim: 4, ValueDim: 6}
	q, k, v, out := tensor(1, 2, 3, 4), tensor(1, 1, 5, 4), tensor(1, 1, 5, 6), tensor(1, 2, 3, 6)
	plan := must(kernel.NewAttention(shape, kernel.Options{Workers: 1}))
	state := must(kernel.AttentionState(q, k, v, kernel.Options{}))
	encoded := must(state.MarshalBinary())
	resized := func(at int, size uint32) []byte { // a header without numbers
		b := append([]byte{}, encoded[:len("quern state")+4*6]...)
		for i := range 4 {
			b[len("quern state")+4*at+i] = byte(size >> (8 * i))
		}
		return b
	}
	config := kernel.CacheConfig{KVHeads: 1, Dim: 4, ValueDim: 6}
	cache := must(kernel.NewCache(config))
	require.NoError(t, cache.Append(k, v))
	caches := []*kernel.Cache{cache}
	pool := must(kernel.NewPool(config))
	freed := cache.Fork()
	freed.Free()
	weights := must(kernel.Pack(kernel.RowMajor(floats(12), 3, 4)))
	matrix := func(rows, cols int) kernel.Matrix { return kernel.RowMajor(floats(rows*cols), rows, cols) }
	// wide has any number of rows in the memory of one.
	wide := func(rows, cols int) kernel.Matrix { return kernel.StridedRows(floats(min(cols, most)), rows, cols, 0) }
	rotary := must(kernel.NewRotary(kernel.RotaryOptions{Dim: 4, Positions: 8}))
	square := must(kernel.Pack(matrix(4, 4)))
	options := kernel.MultiHeadOptions{Heads: 2, Query: square, Key: square, Value: square, Out: square}
	layer := must(kernel.NewMultiHead(options))
	empty := must(kernel.Pack(matrix(4, 0)))
	x := tensor(1, 1, 3, 4)
	rows := kernel.RowsOf(floats(12), 4)
	scan, negative := kernel.ScanOptions{}, kernel.ScanOptions{Workers: -1}
	ids := func(n ...uint32) kernel.Rows[float32] {
		return kernel.RowsOf(floats(12), 4).Pick(n)
	}

	attention := func(out, q, k, v kernel.Tensor, o kernel.Options) func() error {
		return func() error { return kernel.Attention(out, q, k, v, o) }
	}
	prepare := func(change func(s *kernel.Shape, o *kernel.Options)) func() error {
		return func() error {
			s, o := shape, kernel.Options{}
			change(&s, &o)
			_, err := kernel.NewAttention(s, o)
			return err
		}
	}
	masked := func(m kernel.Mask) func() error {
		return prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Mask = m })
	}
	newCache := func(change func(c *kernel.CacheConfig)) func() error {
		return func() error { c := config; change(&c); _, err := kernel.NewCache(c); return err }
	}
	newRotary := func(o kernel.RotaryOptions) func() error {
		return func() error { _, err := kernel.NewRotary(o); return err }
	}
	newLayer := func(change func(o *kernel.MultiHeadOptions)) func() error {
		return func() error { o := options; change(&o); _, err := kernel.NewMultiHead(o); return err }
	}
	forward := func(y kernel.Tensor, in kernel.MultiHeadInput) func() error {
		return func() error { return layer.Forward(y, in) }
	}

	table := []misuse{
		// Slices.
		{"Dot", "nil", fine, quiet(func() { assert.Zero(t, kernel.Dot[float32](nil, nil)) })},
		{"Dot", "mismatched", panics("Dot: len(x) is 7, len(y) is 0"), quiet(func() { kernel.Dot(odd, nil) })},
		{"Dot", "overlapping, NaN", fine, quiet(func() { assert.True(t, math.IsNaN(float64(kernel.Dot(odd, odd)))) })},
		{"Norm", "nil", fine, quiet(func() { assert.Zero(t, kernel.Norm[float32](nil)) })},
		{"Norm", "Inf", fine, quiet(func() { assert.Equal(t, infinity, kernel.Norm(odd[1:])) })},
		{"SquaredL2", "mismatched", panics("SquaredL2: len(x) is 1, len(y) is 2"), quiet(func() { kernel.SquaredL2(odd[:1], odd[:2]) })},
		{"SquaredL2", "Inf - Inf", fine, quiet(func() { assert.True(t, math.IsNaN(float64(kernel.SquaredL2(odd[1:2], odd[1:2])))) })},
		{"Cosine", "empty", fine, quiet(func() { assert.Zero(t, kernel.Cosine([]float32{}, nil)) })},
		{"Cosine", "mismatched", panics("Cosine: len(x) is 0, len(y) is 7"), quiet(func() { kernel.Cosine(nil, odd) })},
		{"DotInt8", "mismatched", panics("DotInt8: len(x) is 1, len(y) is 0"), quiet(func() { kernel.DotInt8(make([]int8, 1), nil) })},
		{"SquaredL2Int8", "mismatched", panics("SquaredL2Int8"), quiet(func() { kernel.SquaredL2Int8(make([]int8, 1), nil) })},
		{"CosineInt8", "mismatched", panics("CosineInt8"), quiet(func() { kernel.CosineInt8(make([]int8, 1), nil) })},
		{"CosineInt8", "nil", fine, quiet(func() { assert.Zero(t, kernel.CosineInt8(nil, nil)) })},
		{"Hamming", "mismatched", panics("Hamming: len(x) is 0, len(y) is 1"), quiet(func() { kernel.Hamming(nil, make([]uint64, 1)) })},
		{"Exp", "nil", fine, with(kernel.Exp, nil, nil)},
		{"Exp", "mismatched", panics("Exp: len(dst) is 0, len(src) is 7"), with(kernel.Exp, nil, odd)},
		{"Exp", "overlapping by a part", fine, with(kernel.Exp, floats(99)[1:], floats(99)[:98])},
		{"Softmax", "nil", fine, with(kernel.Softmax, nil, nil)},
		{"Softmax", "mismatched", panics("Softmax: len(dst) is 3, len(src) is 7"), with(kernel.Softmax, floats(3), odd)},
		{"LogSoftmax", "mismatched", panics("LogSoftmax: len(dst) is 0"), with(kernel.LogSoftmax, nil, odd)},
		{"LogSumExp", "nil", fine, quiet(func() { assert.Equal(t, -infinity, kernel.LogSumExp(nil)) })},
		{"LogSumExp", "NaN", fine, quiet(func() { assert.True(t, math.IsNaN(float64(kernel.LogSumExp(odd)))) })},
		{"Widen", "nil", fine, quiet(func() { kernel.Widen[kernel.F16](nil, nil) })},
		{"Widen", "mismatched", panics("Widen: len(dst) is 7, len(src) is 1"), quiet(func() { kernel.Widen(odd, make([]kernel.BF16, 1)) })},
		{"Narrow", "mismatched", panics("Narrow: len(dst) is 1, len(src) is 7"), quiet(func() { kernel.Narrow(make([]kernel.F16, 1), odd) })},
		{"View", "nil", fine, quiet(func() { assert.Empty(t, kernel.View[kernel.BF16, uint16](nil)) })},
		{"ToBF16", "overflow", fine, quiet(func() { assert.Equal(t, infinity, kernel.ToBF16(math.MaxFloat32).Float32()) })},
		{"ToF16", "-Inf", fine, quiet(func() { assert.Equal(t, -infinity, kernel.ToF16(-infinity).Float32()) })},
		{"BF16.Float32", "NaN", fine, quiet(func() { assert.True(t, math.IsNaN(float64(kernel.BF16(0x7fc0).Float32()))) })},
		{"F16.Float32", "NaN", fine, quiet(func() { assert.True(t, math.IsNaN(float64(kernel.F16(0x7e00).Float32()))) })},
		{"Format.String", "none", fine, quiet(func() { assert.Equal(t, "unknown", kernel.Format(200).String()) })},

		// Vectors against many.
		{"RowsOf", "nil", fine, quiet(func() { assert.Zero(t, kernel.RowsOf[float32](nil, 0).Len()) })},
		{"Rows.Len", "negative sizes", fine, quiet(func() {
			assert.Zero(t, kernel.Rows[int8]{Data: make([]int8, 9), Dim: -1}.Len())
			assert.Zero(t, kernel.Rows[int8]{Data: make([]int8, 9), Dim: 2, Stride: -1}.Len())
			assert.Equal(t, 1, kernel.Rows[int8]{Data: make([]int8, 9), Dim: 2, Stride: huge}.Len())
		})},
		{"Rows.Pick", "nothing", fine, quiet(func() {
			assert.Zero(t, rows.Pick(nil).Len())
			assert.Zero(t, kernel.Rows[int8]{}.Pick([]uint32{}).PickBits([]uint64{1}).Pick(nil).Len())
		})},
		{"Rows.Pick", "out of range, from a part", panics("Rows.Pick: index[0] of r.Pick is 7, r.Data has 0 vectors"), quiet(func() { kernel.Rows[int8]{}.Pick(nil).Pick([]uint32{7}) })},
		{"Rows.Pick", "from a part that is out of range", panics("Rows.Pick: index[1] of r.Pick is 3, r.Data has 3 vectors"), quiet(func() { ids(0, 3).Pick(nil) })},
		{"Rows.PickBits", "too few and too many", fine, quiet(func() {
			assert.Zero(t, rows.PickBits(nil).Len())
			assert.Equal(t, 3, rows.PickBits([]uint64{math.MaxUint64, math.MaxUint64}).Len())
		})},
		{"Rows.PickBits", "from a part that is out of range", panics("index[0] of r.Pick is 4294967295, r.Data has 3 vectors"), quiet(func() { ids(math.MaxUint32).PickBits(nil) })},
		{"Rows.Where", "nil", panics("Rows.Where: keep is nil"), quiet(func() { rows.Where(nil) })},
		{"Rows.Where", "from a part that is out of range", panics("Rows.Where: index[0] of r.Pick is 3"), quiet(func() { ids(3).Where(func(uint32) bool { return true }) })},
		{"Rows.ID", "negative", panics("Rows.ID: i is -1, r has 3 vectors"), quiet(func() { rows.ID(-1) })},
		{"Rows.ID", "none", panics("Rows.ID: i is 0, r has 0 vectors"), quiet(func() { rows.Pick(nil).ID(0) })},
		{"DotRows", "nothing", fine, quiet(func() { kernel.DotRows(nil, []float32(nil), kernel.Rows[int8]{}, scan) })},
		{"DotRows", "dst nil", panics("len(dst) is 0, rows has 3 vectors"), quiet(func() { kernel.DotRows(nil, floats(4), rows, scan) })},
		{"DotRows", "q of another width", panics("len(q) is 3, rows.Dim is 4"), quiet(func() { kernel.DotRows(floats(3), floats(3), rows, scan) })},
		{"DotRows", "dim huge", panics("len(q) is 4, rows.Dim is"), quiet(func() { kernel.DotRows(floats(3), floats(4), kernel.RowsOf[float32](nil, huge), scan) })},
		{"DotRows", "index out of range", panics("index[1] of rows.Pick is 3, rows.Data has 3 vectors"), quiet(func() { kernel.DotRows(floats(2), floats(4), ids(2, 3), scan) })},
		{"DotRows", "workers huge", fine, quiet(func() { kernel.DotRows(floats(3), floats(4), rows, kernel.ScanOptions{Workers: huge}) })},
		{"DotRows", "workers negative", panics("DotRows: ScanOptions.Workers is -1, want 0 or more"), quiet(func() { kernel.DotRows(floats(3), floats(4), rows, negative) })},
		{"SquaredL2Rows", "workers negative", panics("SquaredL2Rows: ScanOptions.Workers is -1"), quiet(func() { kernel.SquaredL2Rows(nil, floats(4), rows.Pick(nil), negative) })},
		{"CosineRows", "workers negative", panics("CosineRows: ScanOptions.Workers is -1"), quiet(func() { kernel.CosineRows(nil, floats(0), kernel.Rows[int8]{}, negative) })},
		{"TopK", "workers negative", panics("TopK: ScanOptions.Workers is -1"), quiet(func() { kernel.TopK(nil, 0, floats(4), rows, negative) })},
		{"PairwiseDot", "workers negative", panics("PairwiseDot: ScanOptions.Workers is -1"), quiet(func() { kernel.PairwiseDot(nil, rows, rows.Pick(nil), negative) })},
		{"SquaredL2Rows", "stride negative", panics("rows.Stride is -1"), quiet(func() {
			kernel.SquaredL2Rows(nil, floats(4), kernel.Rows[float32]{Data: floats(12), Dim: 4, Stride: -1}, scan)
		})},
		{"SquaredL2Rows", "scale short", panics("len(rows.Scale) is 1"), quiet(func() {
			kernel.SquaredL2Rows(floats(3), floats(4), kernel.Rows[float32]{Data: floats(12), Dim: 4, Scale: floats(1)}, scan)
		})},
		{"CosineRows", "part of a vector", panics("no multiple of rows.Dim"), quiet(func() { kernel.CosineRows(floats(3), floats(4), kernel.RowsOf(floats(13), 4), scan) })},
		{"CosineRows", "stride huge", fine, quiet(func() {
			kernel.CosineRows(floats(1), floats(4), kernel.Rows[float32]{Data: floats(12), Dim: 4, Stride: huge}, scan)
		})},
		{"TopK", "nothing wanted", fine, quiet(func() { assert.Empty(t, kernel.TopK(nil, kernel.MetricDot, floats(4), rows, scan)) })},
		{"TopK", "nothing wanted from q of another width", panics("TopK: len(q) is 3, rows.Dim is 4"), quiet(func() { kernel.TopK(nil, 0, floats(3), rows, scan) })},
		{"TopK", "nothing wanted, index out of range", panics("TopK: index[0] of rows.Pick is 3"), quiet(func() { kernel.TopK([]kernel.Match{}, 0, floats(4), ids(3), scan) })},
		{"TopK", "metric", panics("metric is 9"), quiet(func() { kernel.TopK(nil, 9, floats(4), rows, scan) })},
		{"TopK", "more than there are, NaN", fine, quiet(func() {
			assert.Len(t, kernel.TopK(make([]kernel.Match, 9), 0, odd[:4], rows, kernel.ScanOptions{Workers: huge}), 3)
		})},
		{"PairwiseDot", "nothing", fine, quiet(func() { kernel.PairwiseDot(nil, kernel.Rows[int8]{}, kernel.Rows[int8]{}, scan) })},
		{"PairwiseDot", "dst nil", panics("len(dst) is 0"), quiet(func() { kernel.PairwiseDot(nil, rows, rows, scan) })},
		{"PairwiseDot", "index of queries", panics("PairwiseDot: index[0] of queries.Pick is 3, queries.Data has 3 vectors"), quiet(func() { kernel.PairwiseDot(floats(3), ids(3), rows, scan) })},
		{"PairwiseDot", "index of rows", panics("PairwiseDot: index[0] of rows.Pick is 3, rows.Data has 3 vectors"), quiet(func() { kernel.PairwiseDot(floats(3), rows, ids(3), scan) })},
		{"PairwiseDot", "widths differ", panics("queries.Dim is 4, rows.Dim is 2"), quiet(func() { kernel.PairwiseDot(floats(9), rows, kernel.RowsOf(floats(6), 2), scan) })},
		{"HammingRows", "nothing", fine, quiet(func() { kernel.HammingRows(nil, nil, nil) })},
		{"HammingRows", "codes short", panics("HammingRows: len(codes) is 3"), quiet(func() { kernel.HammingRows(make([]int32, 2), make([]uint64, 2), make([]uint64, 3)) })},

		// Attention.
		{"Attention", "zero tensors", fails(kernel.ErrShape, "q"), attention(none, none, none, none, kernel.Options{})},
		{"Attention", "out nil", fails(kernel.ErrShape, "out"), attention(none, q, k, v, kernel.Options{})},
		{"Attention", "out too large for nothing", fails(kernel.ErrShape, "out"), attention(tensor(0, 2, 3, 6), q, k, v, kernel.Options{})},
		{"Attention", "out of half precision", fails(kernel.ErrFormat, "out"), attention(kernel.BHSD(make([]kernel.F16, 36), 1, 2, 3, 6), q, k, v, kernel.Options{})},
		{"Attention", "out is v", fails(kernel.ErrOverlap, "out"), attention(v, tensor(1, 1, 5, 4), k, v, kernel.Options{})},
		{"Attention", "LSE in q", fails(kernel.ErrOverlap, "Options.LSE"), func() error {
			m := floats(24)
			return kernel.Attention(out, kernel.BHSD(m, 1, 2, 3, 4), k, v, kernel.Options{LSE: m[:6]})
		}},
		{"Attention", "NaN, Inf", fine, attention(kernel.BHSD(floats(7), 1, 1, 7, 1), kernel.BHSD(odd, 1, 1, 7, 1), kernel.BHSD(odd, 1, 1, 7, 1), kernel.BHSD(odd, 1, 1, 7, 1), kernel.Options{})},
		{"Attention", "workers huge", fine, attention(out, q, k, v, kernel.Options{Workers: huge})},
		{"Attention", "broadcast to the limits", fails(kernel.ErrShape, "q, k, v"), attention(broadcast(most, most, most, 0), broadcast(most, most, most, 4), broadcast(most, most, 1, 4), broadcast(most, most, 1, 0), kernel.Options{})},
		{"NewAttention", "nothing", fails(kernel.ErrShape, "Shape.Dim"), func() error { _, err := kernel.NewAttention(kernel.Shape{}, kernel.Options{}); return err }},
		{"NewAttention", "all sizes at the limit", fails(kernel.ErrShape, "Shape"), prepare(func(s *kernel.Shape, _ *kernel.Options) { *s = kernel.Shape{most, most, most, most, most, most, most} })},
		{"NewAttention", "sizes that overflow together", fails(kernel.ErrShape, "Shape"), prepare(func(s *kernel.Shape, _ *kernel.Options) { s.Batch, s.Queries = 1<<26, 1<<26 })},
		{"NewAttention", "heads that overflow with keys", fails(kernel.ErrShape, "Shape"), prepare(func(s *kernel.Shape, _ *kernel.Options) { s.Heads, s.KVHeads, s.Keys = most, most, most })},
		{"NewAttention", "workers huge", fine, prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Workers = huge })},
		{"NewAttention", "scale NaN", fails(kernel.ErrOption, "Options.Scale"), prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Scale = math.NaN() })},
		{"NewAttention", "scale whose product overflows", fails(kernel.ErrOption, "Options.Scale"), prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Scale = math.MaxFloat64 })},
		{"NewAttention", "sinks odd", fine, prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Sinks = odd[:2] })},
		{"NewAttention", "bias huge", fails(kernel.ErrShape, "Options.Bias"), prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Bias = broadcast(1, 1, 1, huge) })},
		{"NewAttention", "scores huge", fails(kernel.ErrShape, "Options.Scores"), prepare(func(_ *kernel.Shape, o *kernel.Options) { o.Scores = broadcast(1, 2, 3, huge) })},
		{"NewAttention", "window of all", fine, masked(kernel.Window{Left: huge, Right: huge})},
		{"NewAttention", "prefix of all", fine, masked(kernel.Prefix{Keys: huge})},
		{"NewAttention", "offset farthest", fine, masked(kernel.Causal{Offset: []int{math.MinInt}})},
		{"NewAttention", "stride huge", fails(kernel.ErrOption, "Options.Mask"), masked(kernel.SparseStrided{Stride: huge})},
		{"NewAttention", "stride largest", fine, masked(kernel.And{kernel.SparseStrided{Stride: most}, kernel.SparseFixed{Stride: most, Summary: most, RunPerHead: true}})},
		{"NewAttention", "tile of all", fine, masked(kernel.BlockMap{Queries: huge, Keys: huge, Bits: []uint64{1}, Shape: [4]int{1, 1, 1, 1}})},
		{"NewAttention", "bits huge", fails(kernel.ErrShape, "Options.Mask"), masked(kernel.BitMatrix{Shape: [3]int{1, 1, 1}, Keys: huge})},
		{"NewAttention", "bools huge", fails(kernel.ErrShape, "Options.Mask"), masked(kernel.BoolMask{Shape: [4]int{1, 1, 1, huge}})},
		{"NewAttention", "table of 2⁴⁶ entries", fails(kernel.ErrShape, map[bool]string{true: "Shape", false: "Options.Mask"}[narrow]), prepare(func(s *kernel.Shape, o *kernel.Options) {
			*s = kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: most, Keys: most, Dim: 1, ValueDim: 1}
			o.Mask = kernel.MaskFunc{See: func(_, _, _ int) bool { return false }}
		})},
		{"ShapeOf", "nothing", fine, quiet(func() { assert.Zero(t, kernel.ShapeOf(none, none, none)) })},
		{"Plan.Run", "not prepared", fails(kernel.ErrOption, "Plan"), func() error { return new(kernel.Plan).Run(out, q, k, v) }},
		{"Plan.Run", "swapped", fails(kernel.ErrShape, "q"), func() error { return plan.Run(out, k, q, v) }},
		{"Plan.Reset", "negative", fails(kernel.ErrShape, "Shape.Keys"), func() error {
			return new(kernel.Plan).Reset(kernel.Shape{Heads: 1, KVHeads: 1, Keys: -1, Dim: 1}, kernel.Options{})
		}},
		{"Plan.Clone", "not prepared", fails(kernel.ErrOption, "Plan"), func() error { return new(kernel.Plan).Clone().Run(out, q, k, v) }},
		{"Plan.RunState", "nil", fails(kernel.ErrOption, "s"), func() error { return plan.RunState(nil, q, k, v) }},
		{"Plan.RunState", "not prepared", fails(kernel.ErrOption, "Plan"), func() error { return new(kernel.Plan).RunState(new(kernel.State), q, k, v) }},

		// States.
		{"AttentionState", "nothing", fails(kernel.ErrShape, "q"), func() error { _, err := kernel.AttentionState(none, none, none, kernel.Options{}); return err }},
		{"AttentionState", "rows that overflow", fails(kernel.ErrShape, "q, k, v"), func() error {
			_, err := kernel.AttentionState(broadcast(most, 1, most, 4), broadcast(most, 1, 1, 4), broadcast(most, 1, 1, 4), kernel.Options{})
			return err
		}},
		{"State.Merge", "nil", fails(kernel.ErrOption, "later"), func() error { return new(kernel.State).Merge(nil) }},
		{"State.Merge", "mismatched", fails(kernel.ErrShape, "later"), func() error { return new(kernel.State).Merge(state) }},
		{"State.Merge", "itself", fails(kernel.ErrOption, "later"), func() error {
			s := must(kernel.AttentionState(q, k, v, kernel.Options{}))
			return errors.Join(s.Merge(s), s.Merge(s), s.Finish(out, nil, nil))
		}},
		{"State.Finish", "out of nothing", fails(kernel.ErrShape, "out"), func() error { return state.Finish(none, nil, nil) }},
		{"State.Finish", "nothing", fine, func() error { return new(kernel.State).Finish(none, nil, nil) }},
		{"State.Finish", "lse short", fails(kernel.ErrShape, "lse"), func() error { return state.Finish(out, floats(5), nil) }},
		{"State.Finish", "sinks long", fails(kernel.ErrShape, "sinks"), func() error { return state.Finish(out, nil, floats(3)) }},
		{"State.MarshalBinary", "nothing", fine, func() error { _, err := new(kernel.State).MarshalBinary(); return err }},
		{"State.UnmarshalBinary", "nil", fails(kernel.ErrShape, "data"), func() error { return new(kernel.State).UnmarshalBinary(nil) }},
		{"State.UnmarshalBinary", "a size that is negative in 32 bits", fails(kernel.ErrShape, "data"), func() error { return new(kernel.State).UnmarshalBinary(resized(3, 1<<31)) }},
		{"State.UnmarshalBinary", "many spans of nothing", fails(kernel.ErrShape, "data"), func() error {
			b := resized(1, 0)
			copy(b[len(b)-4:], resized(5, most)[len(b)-4:])
			return new(kernel.State).UnmarshalBinary(b)
		}},
		{"State.UnmarshalBinary", "many rows of nothing", fails(kernel.ErrShape, "data"), func() error {
			b := resized(5, 0)
			for at := 1; at < 5; at++ {
				copy(b[len("quern state")+4*at:][:4], resized(at, most)[len("quern state")+4*at:])
			}
			return new(kernel.State).UnmarshalBinary(b)
		}},

		// Tensors and matrices: they are looked at where they are used.
		{"BHSD", "sizes that overflow to stride 0", fails(tooWide, "q"), attention(out, kernel.BHSD(floats(64), 1, half, half, 4), k, v, kernel.Options{})},
		{"BSHD", "sizes that overflow", fails(tooWide, "q"), attention(out, kernel.BSHD(floats(64), 1, half*2, half, 4), k, v, kernel.Options{})},
		{"Strided", "negative", fails(kernel.ErrStride, "q"), attention(out, kernel.Strided(floats(24), q.Shape, [3]int{24, -12, 4}), k, v, kernel.Options{})},
		{"Strided", "nil", fails(kernel.ErrShape, "q"), attention(out, kernel.Strided[float32](nil, q.Shape, q.Stride), k, v, kernel.Options{})},
		{"Strided", "stride huge", fails(kernel.ErrStride, "k"), attention(out, q, kernel.Strided(floats(24), k.Shape, [3]int{huge, huge, huge}), v, kernel.Options{})},
		{"Tensor.Batch", "none", panics("Batch: 1 of 1"), quiet(func() { q.Batch(1) })},
		{"Tensor.Batch", "negative", panics("Batch: -1 of 1"), quiet(func() { q.Batch(-1) })},
		{"Tensor.Batch", "beyond memory", fails(kernel.ErrShape, "q"), attention(out, kernel.Strided(floats(24), [4]int{huge, 2, 3, 4}, [3]int{half, 12, 4}).Batch(half), k, v, kernel.Options{})},
		{"Tensor.Format", "nothing", fine, quiet(func() { assert.Equal(t, kernel.Float32, none.Format()) })},
		{"RowMajor", "negative", fails(kernel.ErrShape, "w"), func() error { _, err := kernel.Pack(kernel.RowMajor(floats(4), -2, -2)); return err }},
		{"RowMajor", "huge", fails(kernel.ErrShape, "w"), func() error { _, err := kernel.Pack(kernel.RowMajor(floats(4), huge, huge)); return err }},
		{"StridedRows", "stride huge", fails(kernel.ErrStride, "w"), func() error { _, err := kernel.Pack(kernel.StridedRows(floats(4), 3, 2, huge)); return err }},
		{"Matrix.T", "nothing", fine, func() error { _, err := kernel.Pack(kernel.Matrix{}.T()); return err }},

		// Products.
		{"MatMul", "w nil", fails(kernel.ErrOption, "w"), func() error { return kernel.MatMul(matrix(2, 4), matrix(2, 3), nil, kernel.MatMulOptions{}) }},
		{"MatMul", "w zero", fine, func() error {
			return kernel.MatMul(kernel.Matrix{}, kernel.Matrix{}, new(kernel.Weights), kernel.MatMulOptions{})
		}},
		{"MatMul", "y nothing", fails(kernel.ErrShape, "y"), func() error { return kernel.MatMul(kernel.Matrix{}, matrix(2, 3), weights, kernel.MatMulOptions{}) }},
		{"MatMul", "x broadcast, y short", fails(kernel.ErrShape, "y"), func() error {
			return kernel.MatMul(kernel.StridedRows(floats(9), 1<<20, 4, 4), wide(1<<20, 3), weights, kernel.MatMulOptions{})
		}},
		{"MatMul", "workers huge", fine, func() error {
			return kernel.MatMul(matrix(2, 4), matrix(2, 3), weights, kernel.MatMulOptions{Workers: huge})
		}},
		{"MatMul", "workers whose eightfold is 0", fine, func() error {
			return kernel.MatMul(matrix(2, 4), matrix(2, 3), weights, kernel.MatMulOptions{Workers: huge/8 + 1})
		}},
		{"MatMul", "rows of no columns", fine, func() error {
			return kernel.MatMul(wide(most, 0), wide(most, 4), empty, kernel.MatMulOptions{Workers: 3})
		}},
		{"Pack", "rows broadcast to the limit", fails(kernel.ErrShape, "w"), func() error { _, err := kernel.Pack(wide(most, 1<<20)); return err }},
		{"Pack", "short", fails(kernel.ErrShape, "w"), func() error { _, err := kernel.Pack(kernel.RowMajor(floats(5), 2, 3)); return err }},
		{"PackScaled", "scale short", fails(kernel.ErrShape, "scale"), func() error { _, err := kernel.PackScaled(matrix(2, 3), floats(2)); return err }},
		{"PackScaled", "scale NaN", fine, func() error { _, err := kernel.PackScaled(matrix(2, 3), odd[:3]); return err }},
		{"Weights.Rows", "zero", fine, quiet(func() { assert.Zero(t, new(kernel.Weights).Rows()) })},
		{"Weights.Cols", "zero", fine, quiet(func() { assert.Zero(t, new(kernel.Weights).Cols()) })},
		{"Quantize", "dst nil", fails(kernel.ErrShape, "dst"), func() error { return kernel.Quantize(nil, floats(3), matrix(2, 3)) }},
		{"Quantize", "size that overflows to 0", fails(kernel.ErrShape, "dst"), func() error { return kernel.Quantize(nil, floats(1<<16), wide(1<<16, 1<<16)) }},
		{"Quantize", "NaN, Inf", fine, func() error { return kernel.Quantize(make([]int8, 7), floats(7), kernel.RowMajor(odd, 1, 7)) }},

		// Caches.
		{"NewCache", "nothing", fails(kernel.ErrShape, "CacheConfig.KVHeads"), func() error { _, err := kernel.NewCache(kernel.CacheConfig{}); return err }},
		{"NewCache", "sizes that overflow together", fails(kernel.ErrShape, "CacheConfig"), newCache(func(c *kernel.CacheConfig) { c.KVHeads, c.Dim, c.PageKeys = 1<<20, 1<<20, 1<<20 })},
		{"NewCache", "page huge", fails(kernel.ErrOption, "CacheConfig.PageKeys"), newCache(func(c *kernel.CacheConfig) { c.PageKeys = huge &^ 127 })},
		{"NewCache", "bytes negative", fails(kernel.ErrOption, "CacheConfig.MaxBytes"), newCache(func(c *kernel.CacheConfig) { c.MaxBytes = -1 })},
		{"NewPool", "format", fails(kernel.ErrFormat, "CacheConfig.Format"), func() error { _, err := kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 1, Format: 99}); return err }},
		{"NewPool", "bytes huge", fine, func() error {
			c := must(kernel.NewPool(kernel.CacheConfig{KVHeads: 1, Dim: 1, MaxBytes: math.MaxInt64})).NewCache()
			return c.Append(tensor(1, 1, 1, 1), tensor(1, 1, 1, 1))
		}},
		{"Pool.NewCache", "zero", fails(kernel.ErrOption, "Cache"), func() error { return new(kernel.Pool).NewCache().Append(none, none) }},
		{"Pool.Bytes", "zero", fine, quiet(func() { assert.Zero(t, new(kernel.Pool).Bytes()) })},
		{"Pool.FreeBytes", "zero", fine, quiet(func() { assert.Zero(t, new(kernel.Pool).FreeBytes()) })},
		{"Pool.PageBytes", "zero", fine, quiet(func() { assert.Zero(t, new(kernel.Pool).PageBytes()) })},
		{"Cache.Append", "zero cache", fails(kernel.ErrOption, "Cache"), func() error { return new(kernel.Cache).Append(k, v) }},
		{"Cache.Append", "freed", fails(kernel.ErrOption, "Cache"), func() error { return freed.Append(k, v) }},
		{"Cache.Append", "nothing", fails(kernel.ErrShape, "k"), func() error { return cache.Append(none, none) }},
		{"Cache.Append", "no keys", fine, func() error { return cache.Append(tensor(1, 1, 0, 4), tensor(1, 1, 0, 6)) }},
		{"Cache.Append", "sequence huge", fails(kernel.ErrShape, "k"), func() error { return cache.Append(broadcast(1, 1, huge, 4), broadcast(1, 1, huge, 6)) }},
		{"Cache.Append", "sequence too long", fails(kernel.ErrShape, "k"), func() error { return cache.Append(broadcast(1, 1, most, 4), broadcast(1, 1, most, 6)) }},
		{"Cache.Append", "pool exhausted", fails(kernel.ErrPool, ""), func() error {
			c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 4, MaxBytes: int64(pool.PageBytes())}))
			return c.Append(broadcast(1, 1, 1<<20, 4), broadcast(1, 1, 1<<20, 4))
		}},
		{"Cache.Append", "NaN, Inf in int8", fine, func() error {
			c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 7, Format: kernel.Int8}))
			return c.Append(kernel.BHSD(odd, 1, 1, 1, 7), kernel.BHSD(odd, 1, 1, 1, 7))
		}},
		{"Cache.Truncate", "zero cache", fine, func() error { return new(kernel.Cache).Truncate(0) }},
		{"Cache.Truncate", "more than there are", fails(kernel.ErrOption, "n"), func() error { return cache.Truncate(huge) }},
		{"Cache.Truncate", "negative", fails(kernel.ErrOption, "n"), func() error { return cache.Truncate(math.MinInt) }},
		{"Cache.Reset", "zero cache", fine, quiet(new(kernel.Cache).Reset)},
		{"Cache.Free", "twice", fine, quiet(freed.Free)},
		{"Cache.Fork", "zero cache", fine, quiet(func() { assert.Zero(t, new(kernel.Cache).Fork().Len()) })},
		{"Cache.Fork", "freed", fine, quiet(func() { assert.Zero(t, freed.Fork().Len()) })},
		{"Cache.Len", "zero cache", fine, quiet(func() { assert.Zero(t, new(kernel.Cache).Len()) })},
		{"Cache.Bytes", "zero cache", fine, quiet(func() { assert.Zero(t, new(kernel.Cache).Bytes()) })},
		{"Cache.Pool", "zero cache", fine, quiet(func() { assert.Nil(t, new(kernel.Cache).Pool()) })},
		{"Attend", "nothing", fine, func() error { return kernel.Attend(none, none, nil, kernel.Options{}) }},
		{"Attend", "nil cache", fails(kernel.ErrOption, "caches"), func() error { return kernel.Attend(out, q, []*kernel.Cache{nil}, kernel.Options{}) }},
		{"Attend", "zero cache", fails(kernel.ErrOption, "caches"), func() error {
			return kernel.Attend(out, q, []*kernel.Cache{cache, new(kernel.Cache)}, kernel.Options{})
		}},
		{"Attend", "freed cache", fails(kernel.ErrOption, "caches"), func() error { return kernel.Attend(out, q, []*kernel.Cache{freed}, kernel.Options{}) }},
		{"Attend", "q huge", fails(kernel.ErrShape, "q"), func() error { return kernel.Attend(out, broadcast(1, 2, huge, 4), caches, kernel.Options{}) }},
		{"Attend", "workers huge", fine, func() error { return kernel.Attend(out, q, caches, kernel.Options{Workers: huge}) }},
		{"Attend", "more queries than keys, window huge", fine, func() error {
			c := must(kernel.NewCache(kernel.CacheConfig{KVHeads: 1, Dim: 1, Window: huge}))
			assert.NoError(t, c.Append(kernel.BHSD([]float32{1}, 1, 1, 1, 1), kernel.BHSD([]float32{1}, 1, 1, 1, 1)))
			o := floats(5)
			err := kernel.Attend(kernel.BHSD(o, 1, 1, 5, 1), tensor(1, 1, 5, 1), []*kernel.Cache{c}, kernel.Options{})
			assert.Equal(t, []float32{1, 1, 1, 1, 1}, o)
			return err
		}},
		{"AppendAttend", "k nothing", fails(kernel.ErrShape, "k"), func() error { return kernel.AppendAttend(out, q, none, v, caches, kernel.Options{}) }},
		{"AppendAttend", "keys huge", fails(kernel.ErrShape, "k"), func() error {
			return kernel.AppendAttend(out, q, broadcast(1, 1, huge, 4), broadcast(1, 1, huge, 6), caches, kernel.Options{})
		}},
		{"AppendAttend", "keys beyond the longest sequence", fails(kernel.ErrShape, "k"), func() error {
			return kernel.AppendAttend(out, q, broadcast(1, 1, most, 4), broadcast(1, 1, most, 6), caches, kernel.Options{})
		}},
		{"AppendAttend", "cumulative lengths decrease", fails(kernel.ErrOption, "Options.Ragged.CumKeys"), func() error {
			return kernel.AppendAttend(out, q, k, v, caches, kernel.Options{Ragged: kernel.Ragged{CumKeys: []int{5, 0}}})
		}},
		{"Attender.AppendAttend", "cache nil", fails(kernel.ErrOption, "caches"), func() error {
			return new(kernel.Attender).AppendAttend(out, q, k, v, []*kernel.Cache{nil}, kernel.Options{})
		}},
		{"Pool.Trim", "zero", fine, quiet(func() { new(kernel.Pool).Trim() })},
		{"Attender.Attend", "out nothing", fails(kernel.ErrShape, "out"), func() error { return new(kernel.Attender).Attend(none, q, caches, kernel.Options{}) }},

		// Layers.
		{"NewRotary", "nothing", fine, newRotary(kernel.RotaryOptions{})},
		{"NewRotary", "dim huge", fails(kernel.ErrOption, "RotaryOptions.Dim"), newRotary(kernel.RotaryOptions{Dim: huge - 1})},
		{"NewRotary", "positions huge", fails(kernel.ErrOption, "RotaryOptions.Positions"), newRotary(kernel.RotaryOptions{Dim: 4, Positions: huge})},
		{"NewRotary", "table that overflows", fails(kernel.ErrOption, "RotaryOptions.Positions"), newRotary(kernel.RotaryOptions{Dim: 1 << 16, Positions: 1 << 16})},
		{"NewRotary", "base NaN", fails(kernel.ErrOption, "RotaryOptions.Base"), newRotary(kernel.RotaryOptions{Dim: 4, Positions: 4, Base: math.NaN()})},
		{"NewRotary", "sin short", fails(kernel.ErrShape, "RotaryOptions.Cos"), newRotary(kernel.RotaryOptions{Dim: 4, Positions: 1, Cos: floats(2), Sin: floats(1)})},
		{"Rotary.Apply", "nothing", fails(kernel.ErrShape, "x"), func() error { return rotary.Apply(none, kernel.Positions{}) }},
		{"Rotary.Apply", "no heads, many rows", fine, func() error { return rotary.Apply(broadcast(most, 0, most, 4), kernel.Positions{}) }},
		{"Rotary.Apply", "batch huge, no heads", fails(kernel.ErrShape, "x"), func() error { return rotary.Apply(broadcast(huge, 0, 1, 4), kernel.Positions{}) }},
		{"Rotary.Apply", "broadcast", fails(kernel.ErrOverlap, "x"), func() error { return rotary.Apply(broadcast(1, 2, 3, 4), kernel.Positions{}) }},
		{"Rotary.Apply", "position huge", fails(kernel.ErrOption, "at"), func() error { return rotary.Apply(tensor(1, 1, 3, 4), kernel.Positions{Offset: huge}) }},
		{"Rotary.Apply", "position huge for one batch", fails(kernel.ErrOption, "at"), func() error { return rotary.Apply(tensor(1, 1, 3, 4), kernel.Positions{Offsets: []int{huge - 1}}) }},
		{"Rotary.Apply", "zero", fine, func() error { return new(kernel.Rotary).Apply(none, kernel.Positions{}) }},
		{"NewMultiHead", "nothing", fails(kernel.ErrOption, "Heads"), func() error { _, err := kernel.NewMultiHead(kernel.MultiHeadOptions{}); return err }},
		{"NewMultiHead", "no weights", fails(kernel.ErrOption, "Query"), func() error { _, err := kernel.NewMultiHead(kernel.MultiHeadOptions{Heads: 1}); return err }},
		{"NewMultiHead", "heads huge", fails(kernel.ErrOption, "Heads"), newLayer(func(o *kernel.MultiHeadOptions) { o.Heads = huge })},
		{"NewMultiHead", "key/value heads negative", fails(kernel.ErrOption, "KVHeads"), newLayer(func(o *kernel.MultiHeadOptions) { o.KVHeads = -1 })},
		{"NewMultiHead", "width that overflows to 0", fails(kernel.ErrOption, "HeadDim"), newLayer(func(o *kernel.MultiHeadOptions) { o.HeadDim, o.Query, o.Key = huge/2+1, empty, empty })},
		{"NewMultiHead", "overlap that overflows", fails(kernel.ErrShape, "Out"), newLayer(func(o *kernel.MultiHeadOptions) { o.Overlap = most })},
		{"NewMultiHead", "out nil", fails(kernel.ErrOption, "Out"), newLayer(func(o *kernel.MultiHeadOptions) { o.Out = nil })},
		{"NewMultiHead", "scale Inf", fails(kernel.ErrOption, "Scale"), newLayer(func(o *kernel.MultiHeadOptions) { o.Scale = math.Inf(1) })},
		{"MultiHead.Forward", "zero", fails(kernel.ErrOption, "MultiHead"), func() error { return new(kernel.MultiHead).Forward(none, kernel.MultiHeadInput{}) }},
		{"MultiHead.Forward", "nothing", fails(kernel.ErrShape, "in.X"), forward(none, kernel.MultiHeadInput{})},
		{"MultiHead.Forward", "y short", fails(kernel.ErrShape, "y"), forward(tensor(1, 1, 2, 4), kernel.MultiHeadInput{X: x})},
		{"MultiHead.Forward", "no output, tokens that overflow", fails(kernel.ErrShape, "in.X"), func() error {
			o := options
			o.Out = empty
			return must(kernel.NewMultiHead(o)).Forward(broadcast(most, 1, most, 0), kernel.MultiHeadInput{X: broadcast(most, 1, most, 4)})
		}},
		{"MultiHead.Forward", "ragged", fails(kernel.ErrShape, "in.Ragged.KeyStart"), forward(tensor(1, 1, 3, 4), kernel.MultiHeadInput{X: x, Ragged: kernel.Ragged{KeyStart: []int{}}})},
		{"MultiHead.Forward", "y is x, NaN", fine, func() error {
			x := kernel.BHSD(append(odd, 1), 1, 1, 2, 4)
			return layer.Forward(x, kernel.MultiHeadInput{X: x})
		}},
		{"MultiHead.Clone", "zero", fails(kernel.ErrOption, "MultiHead"), func() error { return new(kernel.MultiHead).Clone().Forward(none, kernel.MultiHeadInput{}) }},
		{"OverlapSchedule.Overlap", "negative", fine, quiet(func() { _ = kernel.OverlapSchedule{Half: true, Reversed: true}.Overlap(huge, math.MinInt) })},

		// What is known about the process and about errors.
		{"ISA", "", fine, quiet(func() { assert.NotEmpty(t, kernel.ISA()) })},
		{"ISAs", "", fine, quiet(func() { assert.Contains(t, kernel.ISAs(), "go") })},
		{"ISAError", "", fine, kernel.ISAError},
		{"Version", "", fine, quiet(func() { assert.Contains(t, kernel.Version(), kernel.ISA()) })},
		{"ArgumentError.Error", "zero", fine, quiet(func() { _ = new(kernel.ArgumentError).Error() })},
		{"ArgumentError.Unwrap", "zero", fine, quiet(func() { assert.NoError(t, new(kernel.ArgumentError).Unwrap()) })},
	}
	if narrow { // what overflows there only, or takes too much memory elsewhere
		table = append(table, []misuse{
			{"NewAttention", "sequences by heads", fails(kernel.ErrShape, "Options.Ragged.CumQueries"), prepare(func(s *kernel.Shape, o *kernel.Options) {
				*s = kernel.Shape{Batch: 1, Heads: 1 << 15, KVHeads: 1 << 15, Dim: 1}
				o.Ragged.CumQueries = make([]int, 1<<17)
			})},
			{"NewAttention", "a row too wide for a tile", fails(kernel.ErrShape, "Shape"), prepare(func(s *kernel.Shape, _ *kernel.Options) {
				*s = kernel.Shape{Batch: 1, Heads: 1, KVHeads: 1, Queries: 96, Keys: 1, Dim: 1 << 26, ValueDim: 1}
			})},
			{"AttentionState", "spans of rows", fails(kernel.ErrShape, "Shape"), func() error {
				_, err := kernel.AttentionState(broadcast(1, 1<<14, 1, 1), broadcast(1, 1, 1<<20, 1), broadcast(1, 1, 1<<20, 1), kernel.Options{Workers: 1})
				return err
			}},
			{"PairwiseDot", "queries that overflow together", panics("queries has 65536 vectors of 65536 numbers"), quiet(func() {
				queries := kernel.RowsOf(floats(half), half).Pick(make([]uint32, half))
				kernel.PairwiseDot(floats(half), queries, kernel.RowsOf(floats(half), half), scan)
			})},
			{"PairwiseDot", "products that overflow to none", panics("len(dst) is 0"), quiet(func() {
				kernel.PairwiseDot(nil, kernel.RowsOf(floats(half), 1), kernel.RowsOf(floats(half), 1), scan)
			})},
			{"HammingRows", "codes that overflow to none", panics("len(codes) is 0"), quiet(func() { kernel.HammingRows(make([]int32, half), make([]uint64, half), nil) })},
		}...)
	}
	untried := exported(t)
	for _, row := range table {
		_, known := untried[row.function]
		require.True(t, known, "there is no %s", row.function)
		untried[row.function] = true
		t.Run(row.function+"/"+row.what, func(t *testing.T) { row.want.check(t, row.call) })
	}
	for name, tried := range untried {
		require.True(t, tried, "%s has no row", name)
	}
}

// TestMisuseTogether draws calls of which any number of sizes, strides and options are odd. Each is an error or
// not, and nothing else.
func TestMisuseTogether(t *testing.T) {
	refused := 0
	for seed := range uint64(few(20000)) {
		r := rand.New(rand.NewPCG(seed, 30))
		spoilt := r.IntN(4) // of this many numbers, about
		// size is n, or seldom something else.
		size := func(n int) int {
			if r.IntN(20) >= spoilt {
				return n
			}
			return []int{0, 1, 2, n + 1, n - 1, -1, huge, huge - 1, math.MinInt, huge/2 + 1, huge / 3, most + 1}[r.IntN(12)]
		}
		sizes := func(n ...int) []int {
			if r.IntN(10) == 0 {
				n = n[:r.IntN(len(n)+1)]
			}
			for i := range n {
				n[i] = size(n[i])
			}
			return n
		}
		number := func(x float64) float64 {
			if r.IntN(20) >= spoilt {
				return x
			}
			return []float64{0, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 1e-300, -1}[r.IntN(7)]
		}
		tensor := func(batch, heads, sequence, dim int) kernel.Tensor {
			x := floats(batch*heads*sequence*dim + r.IntN(3) - 1)
			stride := [3]int{size(heads * sequence * dim), size(sequence * dim), size(dim)}
			if r.IntN(8) == 0 {
				stride = [3]int{}
			}
			return kernel.Strided(x, [4]int{size(batch), size(heads), size(sequence), size(dim)}, stride)
		}
		var mask func(depth int) kernel.Mask
		mask = func(depth int) kernel.Mask {
			align, offset := kernel.Alignment(size(0)), []int(nil)
			if r.IntN(3) == 0 {
				offset = sizes(1, 2)
			}
			switch kind := r.IntN(12 - 3*depth); kind {
			case 0:
				return kernel.Causal{Align: align, Offset: offset}
			case 1:
				return kernel.Window{Left: size(2), Right: size(1), Align: align, Offset: offset}
			case 2:
				return kernel.Prefix{Keys: size(2), Align: align, Offset: offset}
			case 3:
				return kernel.SparseStrided{Stride: size(3), Part: kernel.SparsePart(size(0)), Align: align, Offset: offset}
			case 4:
				return kernel.SparseFixed{Stride: size(3), Summary: size(1), RunPerHead: true, Align: align, Offset: offset}
			case 5:
				return kernel.BoolMask{Data: make([]bool, 5), Shape: [4]int{size(1), size(1), size(1), size(5)}}
			case 6:
				return kernel.BitMatrix{Bits: make([]uint64, 1), Shape: [3]int{size(1), size(1), size(1)}, Keys: size(5), First: sizes(0, 1)}
			case 7:
				return kernel.BlockMap{Queries: size(3), Keys: size(5), Bits: []uint64{5}, Shape: [4]int{size(1), size(1), size(1), size(1)}}
			case 8:
				return kernel.MaskFunc{See: func(_, _, _ int) bool { return true }, AllHeadsAlike: true}
			case 9:
				return kernel.And{mask(1), mask(1)}
			case 10:
				return kernel.PerHead{mask(1), nil}
			}
			return nil
		}
		options := kernel.Options{Scale: number(1), Softcap: number(0), Mask: mask(0), KeyOffset: size(2048), Workers: size(1)}
		if r.IntN(4) == 0 {
			options.Bias, options.Scores, options.Stage = tensor(2, 2, 3, 5), tensor(2, 2, 3, 5), kernel.ScoreStage(size(3))
		}
		if r.IntN(4) == 0 {
			options.ALiBi = kernel.ALiBi{Slopes: []float32{1, float32(number(2))}, Offset: sizes(0, 1)}
			options.Sinks, options.LSE = floats(size(2)&3), floats(size(12)&15)
		}
		switch r.IntN(4) {
		case 0:
			options.Ragged.KeyStart, options.Ragged.KeyCount = sizes(0, 1), sizes(5, 2)
		case 1:
			options.Ragged.CumQueries, options.Ragged.CumKeys = sizes(0, 1, 3), sizes(0, 4, 5)
		}
		q, k, v, out := tensor(2, 2, 3, 4), tensor(2, 1, 5, 4), tensor(2, 1, 5, 6), tensor(2, 2, 3, 6)
		for _, call := range []func() error{
			func() error { return kernel.Attention(out, q, k, v, options) },
			func() error {
				_, err := kernel.NewAttention(kernel.Shape{Batch: size(2), Heads: size(2), KVHeads: size(1), Queries: size(3), Keys: size(5), Dim: size(4), ValueDim: size(6)}, options)
				return err
			},
			func() error {
				s, err := kernel.AttentionState(q, k, v, options)
				if err != nil {
					return err
				}
				return s.Finish(out, options.LSE, options.Sinks)
			},
			func() error {
				c, err := kernel.NewCache(kernel.CacheConfig{KVHeads: size(1), Dim: size(4), ValueDim: size(6), Format: kernel.Format(size(0)), Window: size(0), PageKeys: size(128), MaxBytes: int64(size(0))})
				if err != nil {
					return err
				}
				if err := c.Append(tensor(1, 1, 5, 4), tensor(1, 1, 5, 6)); err != nil {
					return err
				}
				if err := c.Truncate(size(4)); err != nil {
					return err
				}
				options.KeyOffset = 0
				return kernel.Attend(out, q, []*kernel.Cache{c, c.Fork()}, options)
			},
			func() error {
				w, err := kernel.Pack(kernel.StridedRows(floats(12), size(3), size(4), size(4)))
				if err != nil {
					return err
				}
				return kernel.MatMul(kernel.StridedRows(floats(20), size(5), size(4), size(4)), kernel.StridedRows(floats(15), size(5), size(3), size(3)), w, kernel.MatMulOptions{Workers: size(1)})
			},
			func() error {
				square, err := kernel.Pack(kernel.RowMajor(floats(16), 4, 4))
				if err != nil {
					return err
				}
				rotary, err := kernel.NewRotary(kernel.RotaryOptions{Dim: size(2), Positions: size(9), Base: number(0)})
				if err != nil {
					return err
				}
				layer, err := kernel.NewMultiHead(kernel.MultiHeadOptions{
					Heads: size(2), KVHeads: size(2), HeadDim: size(0), ValueDim: size(0), Overlap: size(0), Workers: size(1), Scale: number(0),
					Query: square, Key: square, Value: square, Out: square, Rotary: rotary, Mask: options.Mask})
				if err != nil {
					return err
				}
				return layer.Forward(tensor(2, 1, 3, 4), kernel.MultiHeadInput{X: tensor(2, 1, 3, 4), Ragged: options.Ragged, Positions: kernel.Positions{Offset: size(0), Offsets: sizes(0, 1)}})
			},
		} {
			err := func() (err error) {
				defer func() {
					if cause := recover(); cause != nil {
						t.Fatalf("seed %d: %v", seed, cause)
					}
				}()
				return call()
			}()
			if err == nil {
				continue
			}
			refused++
			var wrong *kernel.ArgumentError
			if !errors.Is(err, kernel.ErrPool) {
				require.ErrorAs(t, err, &wrong, "seed %d", seed)
			}
		}
	}
	require.NotZero(t, refused)
}

// must returns what comes without an error.
func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// exported names all functions of package kernel, and methods as Type.Method.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			if f.Recv == nil {
				names[f.Name.Name] = false
				continue
			}
			of := f.Recv.List[0].Type
			if p, ok := of.(*ast.StarExpr); ok {
				of = p.X
			}
			if p, ok := of.(*ast.IndexExpr); ok {
				of = p.X
			}
			if name := of.(*ast.Ident).Name; ast.IsExported(name) {
				names[name+"."+f.Name.Name] = false
			}
		}
	}
	require.Greater(t, len(names), 50)
	return names
}
