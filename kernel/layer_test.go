package kernel

import "math/rand"

// rv is n numbers from N(0, 1).
func rv(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}
