package kernel

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/budget"
	"github.com/quern-go/quern/internal/isa"
)

// numbers returns n elements of any type.
func numbers[T Scalar](seed uint64, n int) []T {
	var v any
	switch any(*new(T)).(type) {
	case float32:
		v = normals(seed, n)
	case BF16:
		v = narrowed[BF16](normals(seed, n))
	case F16:
		v = narrowed[F16](normals(seed, n))
	case int8:
		v = randomInt8(seed, n)
	}
	return v.([]T)
}

func asFloat32[T Scalar](x []T) []float32 {
	switch x := any(x).(type) {
	case []BF16:
		return widened(x)
	case []F16:
		return widened(x)
	case []int8:
		f := make([]float32, len(x))
		for i, v := range x {
			f[i] = float32(v)
		}
		return f
	case []float32:
		return x
	}
	panic("no such type")
}

// oneByOne is the specification of scores: every row by itself.
func oneByOne[Q, T Scalar](of measure, q []Q, rows Rows[T]) []float32 {
	scores := make([]float32, rows.Len())
	for i := range scores {
		id := int(rows.ID(i))
		row := rows.Data[id*rows.pitch():][:rows.Dim]
		scale := float32(1)
		if rows.Scale != nil {
			scale = rows.Scale[id]
		}
		x, y := asFloat32(q), asFloat32(row)
		qi, exact := any(q).([]int8)
		yi, also := any(row).([]int8)
		exact = exact && also
		switch {
		case of == measureDot && exact:
			scores[i] = float32(DotInt8(qi, yi)) * scale
		case of == measureDot:
			scores[i] = Dot(x, y) * scale
		case of == measureCosine && exact:
			scores[i] = CosineInt8(qi, yi)*sign(scale) + 0
		case of == measureCosine:
			scores[i] = Cosine(x, y)*sign(scale) + 0
		case exact && rows.Scale == nil:
			scores[i] = float32(SquaredL2Int8(qi, yi))
		default:
			d := make([]float32, len(x))
			for k := range d {
				d[k] = float32(float64(x[k]) - float64(scale)*float64(y[k])) // exact but for the last rounding here
			}
			scores[i] = Dot(d, d)
		}
	}
	return scores
}

func checkRows[Q, T Scalar](t *testing.T) {
	q0, z := *new(Q), *new(T)
	t.Run(fmt.Sprintf("%T x %T", q0, z), func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 7))
		for _, dim := range []int{1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 129, 300} {
			for _, count := range []int{0, 1, 2, 5, 200} {
				for _, variant := range []string{"plain", "strided", "indexed", "scaled", "all"} {
					rows := Rows[T]{Dim: dim, Data: numbers[T](uint64(dim), dim*count)}
					if (variant == "strided" || variant == "all") && count > 0 {
						rows.Stride = dim + r.IntN(5)
						rows.Data = numbers[T](uint64(dim), dim+(count-1)*rows.Stride+r.IntN(rows.Stride))
					}
					if (variant == "indexed" || variant == "all") && count > 0 {
						index := make([]uint32, r.IntN(2*count))
						for i := range index {
							index[i] = uint32(r.IntN(rows.stored()))
						}
						rows = rows.Pick(index)
					}
					if variant == "scaled" || variant == "all" {
						rows.Scale = make([]float32, rows.stored())
						for i := range rows.Scale {
							rows.Scale[i] = float32(r.IntN(129)-64) / 64 // so that oneByOne is exact in float64
						}
					}
					q := numbers[Q](99, dim)
					for of, score := range []func([]float32, []Q, Rows[T], ScanOptions){DotRows[Q, T],
						SquaredL2Rows[Q, T], CosineRows[Q, T]} {
						restore := isa.Use(isa.Supported()[0])
						want := bitsOf(oneByOne(measure(of), q, rows)...)
						restore()
						for _, l := range isa.Supported() {
							if l == isa.Go && count > 5 {
								continue // too slow for all
							}
							restore := isa.Use(l)
							dst := make([]float32, rows.Len()+1)
							dst[rows.Len()] = 42
							score(dst[:rows.Len()], q, rows, ScanOptions{Workers: 1})
							restore()
							require.Equal(t, want, bitsOf(dst[:rows.Len()]...), "%v %s measure %d dim %d count %d", l,
								variant, of, dim, count)
							require.Equal(t, float32(42), dst[rows.Len()])
						}
					}
				}
			}
		}
	})
}

func TestRowsAreMeasuredLikePairs(t *testing.T) {
	checkRows[float32, float32](t)
	checkRows[float32, BF16](t)
	checkRows[float32, F16](t)
	checkRows[float32, int8](t)
	checkRows[int8, int8](t)
	checkRows[BF16, BF16](t)
	checkRows[F16, float32](t)
	checkRows[int8, F16](t)
}

func checkLongRows[T Scalar](t *testing.T) {
	for _, dim := range []int{intChunk, intChunk + 3, budget.Scanned, budget.Scanned + 1, 2*budget.Scanned + 100} {
		rows := RowsOf(numbers[T](1, 3*dim), dim)
		q, qi := normals(2, dim), randomInt8(2, dim)
		for of, name := range []string{"dot", "L2", "cosine"} {
			dst := make([]float32, 3)
			scoreRows("", measure(of), dst, q, rows, ScanOptions{Workers: 1})
			require.Equal(t, bitsOf(oneByOne(measure(of), q, rows)...), bitsOf(dst...), "%s %d", name, dim)
			scoreRows("", measure(of), dst, qi, rows, ScanOptions{Workers: 1})
			require.Equal(t, bitsOf(oneByOne(measure(of), qi, rows)...), bitsOf(dst...), "%s %d", name, dim)
		}
	}
}

func TestLongRows(t *testing.T) {
	checkLongRows[float32](t)
	checkLongRows[BF16](t)
	checkLongRows[F16](t)
	checkLongRows[int8](t)
}

func TestRowsDoNotDependOnWorkers(t *testing.T) {
	const dim, count = 100, 20_000
	rows := RowsOf(normals(1, dim*count), dim)
	q := normals(2, dim)
	want, got := make([]float32, count), make([]float32, count)
	DotRows(want, q, rows, ScanOptions{Workers: 1})
	for _, workers := range []int{0, 2, 3, 8} {
		clear(got)
		DotRows(got, q, rows, ScanOptions{Workers: workers})
		require.Equal(t, want, got)
	}
}

func TestRowsRefuseWhatDoesNotFit(t *testing.T) {
	data, q := make([]float32, 12), make([]float32, 3)
	for want, rows := range map[string]Rows[float32]{
		"len(q) is 3, rows.Dim is 4":                                   RowsOf(data, 4),
		"len(rows.Data) is 11, no multiple of rows.Dim, which is 3":    RowsOf(data[:11], 3),
		"rows.Dim is 0, len(rows.Data) is 12":                          RowsOf(data, 0),
		"rows.Dim is -1, len(rows.Data) is 12":                         RowsOf(data, -1),
		"rows.Stride is -3, want 0 or more":                            {Data: data, Dim: 3, Stride: -3},
		"len(rows.Scale) is 3, rows.Data has 4 vectors":                {Data: data, Dim: 3, Scale: make([]float32, 3)},
		"index[1] of rows.Pick is 4, rows.Data has 4 vectors":          RowsOf(data, 3).Pick([]uint32{3, 4}),
		"index[0] of rows.Pick is 4294967295, rows.Data has 4 vectors": RowsOf(data, 3).Pick([]uint32{math.MaxUint32}),
		"index[0] of rows.Pick is 0, rows.Data has 0 vectors":          RowsOf[float32](nil, 3).Pick([]uint32{0}),
		"len(dst) is 5, rows has 4 vectors":                            RowsOf(data, 3),
	} {
		dst := []float32{7, 7, 7, 7, 7}
		require.PanicsWithValue(t, "quern: DotRows: "+want, func() { DotRows(dst, q, rows, ScanOptions{Workers: 1}) })
		require.Equal(t, []float32{7, 7, 7, 7, 7}, dst)
	}
	require.Panics(t, func() { TopK(make([]Match, 1), 3, q, RowsOf(data, 3), ScanOptions{Workers: 1}) })
	require.PanicsWithValue(t, "quern: HammingRows: len(codes) is 5, len(q) is 2, len(dst) is 2", func() {
		HammingRows(make([]int32, 2), make([]uint64, 2), make([]uint64, 5))
	})
	DotRows(nil, q[:0], Rows[float32]{}, ScanOptions{Workers: 1}) // empty: fine
}

func TestHammingRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, words := range []int{0, 1, 2, 7, 8, 9, 12, 16, 33} {
		q, codes := make([]uint64, words), make([]uint64, words*300)
		for i := range codes {
			codes[i] = r.Uint64()
		}
		for i := range q {
			q[i] = r.Uint64()
		}
		eachLevel(t, func(t *testing.T) {
			dst := make([]int32, 300)
			HammingRows(dst, q, codes)
			for i, d := range dst {
				require.EqualValues(t, Hamming(q, codes[i*words:(i+1)*words]), d)
			}
		})
	}
}

func TestRowsDoNotAllocate(t *testing.T) {
	x, b, i8 := make([]float32, 6400), make([]BF16, 6400), make([]int8, 6400)
	dst, best, index := make([]float32, 100), make([]Match, 10), make([]uint32, 100)
	codes, bits := make([]uint64, 6400), make([]int32, 100)
	eachLevel(t, func(t *testing.T) {
		require.Zero(t, testing.AllocsPerRun(3, func() {
			DotRows(dst, x[:64], RowsOf(x, 64), ScanOptions{})
			CosineRows(dst, x[:64], RowsOf(b, 64).Pick(index), ScanOptions{Workers: 1})
			SquaredL2Rows(dst, i8[:64], RowsOf(i8, 64), ScanOptions{Workers: 1})
			TopK(best, MetricCosine, i8[:64], RowsOf(i8, 64), ScanOptions{Workers: 1})
			HammingRows(bits, codes[:64], codes)
		}))
	})
}

// The whole order, by sorting.
func TestTopKIsTheBeginningOfTheOrder(t *testing.T) {
	const dim, count = 3, 5000
	r := rand.New(rand.NewPCG(5, 5))
	data := make([]float32, dim*count)
	for i := range data {
		data[i] = float32(r.IntN(9) - 4) // many ties
		if r.IntN(500) == 0 {
			data[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[r.IntN(3)]
		}
	}
	index := make([]uint32, 700)
	for i := range index {
		index[i] = uint32(r.IntN(count))
	}
	q := []float32{1, -2, 3}
	for _, rows := range []Rows[float32]{RowsOf(data, dim), RowsOf(data, dim).Pick(index)} {
		for metric, score := range []func([]float32, []float32, Rows[float32], ScanOptions){DotRows[float32, float32],
			SquaredL2Rows[float32, float32], CosineRows[float32, float32]} {
			scores := make([]float32, rows.Len())
			score(scores, q, rows, ScanOptions{Workers: 1})
			all := make([]Match, len(scores))
			for i, s := range scores {
				all[i] = Match{rows.ID(i), s}
			}
			slices.SortFunc(all, func(x, y Match) int {
				if nx, ny := isNaN(x.Score), isNaN(y.Score); nx || ny {
					if nx && ny {
						return cmp.Compare(x.ID, y.ID)
					}
					return map[bool]int{true: 1, false: -1}[nx]
				}
				s := cmp.Compare(x.Score, y.Score)
				if Metric(metric) != MetricSquaredL2 {
					s = -s
				}
				if s == 0 {
					return cmp.Compare(x.ID, y.ID)
				}
				return s
			})
			for _, k := range []int{0, 1, 2, 10, 100, 699, 5000, 6000} {
				for _, workers := range []int{1, 2} {
					got := TopK(make([]Match, k), Metric(metric), q, rows, ScanOptions{Workers: workers})
					require.Equal(t, flat(all[:min(k, len(all))]), flat(got), "metric %d k %d", metric, k)
				}
			}
		}
	}
}

func TestTopKDoesNotDependOnWorkers(t *testing.T) {
	const dim, count = 64, 50_000
	rows := RowsOf(normals(1, dim*count), dim)
	q := normals(2, dim)
	want := TopK(make([]Match, 100), MetricSquaredL2, q, rows, ScanOptions{Workers: 1})
	for _, workers := range []int{0, 2, 5} {
		require.Equal(t, want, TopK(make([]Match, 100), MetricSquaredL2, q, rows, ScanOptions{Workers: workers}))
	}
}

// flat makes matches comparable where scores are NaN.
func flat(m []Match) (f [][2]uint32) {
	for _, m := range m {
		f = append(f, [2]uint32{m.ID, bitsOf(m.Score)[0]})
	}
	return f
}
