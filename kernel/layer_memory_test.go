package kernel_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/kernel"
)

func TestMatMulDoesNotAllocate(t *testing.T) {
	if race {
		t.Skip("sync.Pool forgets on purpose")
	}
	r := rand.New(rand.NewPCG(3, 0))
	w := packed(normal(r, 70*90), 70, 90)
	x, y := kernel.RowMajor(normal(r, 100*70), 100, 70), kernel.RowMajor(make([]float32, 100*90), 100, 90)
	for _, workers := range []int{1, 3} {
		require.Zero(t, testing.AllocsPerRun(50, func() {
			if err := kernel.MatMul(y, x, w, kernel.MatMulOptions{Workers: workers}); err != nil {
				t.Fatal(err)
			}
		}), "%d workers", workers)
	}
}
