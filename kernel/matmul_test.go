package kernel

import (
	"math"
	"math/rand"
	"testing"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// chain is the definition of MatMul for one element.
func chain(x, w func(k int) float32, depth int) float32 {
	var c float32
	for k := range depth {
		c = portable.FMA(x(k), w(k), c)
	}
	return c
}

func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestMatMulIsItsDefinition(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 60 {
		m, k, n := r.Intn(140), r.Intn(300), r.Intn(120)
		if r.Intn(12) == 0 {
			m, k = r.Intn(20), 2048+r.Intn(2300)
		}
		xt, wt := r.Intn(2) == 0, r.Intn(2) == 0
		view := func(rows, cols int, transposed bool) (Matrix, func(i, j int) float32) {
			if transposed {
				stride := rows + r.Intn(5)
				data := rv(r, cols*stride)
				return StridedRows(data, cols, rows, stride).T(), func(i, j int) float32 { return data[j*stride+i] }
			}
			stride := cols + r.Intn(5)
			data := rv(r, rows*stride)
			return StridedRows(data, rows, cols, stride), func(i, j int) float32 { return data[i*stride+j] }
		}
		x, xAt := view(m, k, xt)
		w, wAt := view(k, n, wt)
		var bias []float32
		if r.Intn(2) == 0 {
			bias = rv(r, n)
		}
		stride := n + r.Intn(4)
		for _, l := range isa.Supported() {
			func() {
				defer isa.Use(l)()
				packed, err := Pack(w)
				if err != nil {
					t.Fatal(err)
				}
				for _, workers := range []int{1, 3} {
					got := rv(r, m*stride)
					before := append([]float32(nil), got...)
					if err := MatMul(StridedRows(got, m, n, stride), x, packed, MatMulOptions{Bias: bias, Workers: workers}); err != nil {
						t.Fatal(err)
					}
					for i := range m {
						for j := range stride {
							want := before[i*stride+j]
							if j < n {
								if r.Intn(20) > 0 && j+5 < n {
									continue
								}
								want = chain(func(k int) float32 { return xAt(i, k) }, func(k int) float32 { return wAt(k, j) }, k)
								if bias != nil {
									want += bias[j]
								}
							}
							if !sameBits(got[i*stride+j], want) {
								t.Fatalf("%v %d×%d·%d×%d x transposed %v, w transposed %v, %d workers: [%d][%d] is %v, want %v", l, m, k, k, n, xt, wt, workers, i, j, got[i*stride+j], want)
							}
						}
					}
				}
			}()
		}
	}
}
