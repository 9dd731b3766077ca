package measure

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Workers read everything but less than 64 numbers, once.
func TestShare(t *testing.T) {
	data := make([]float32, 1000)
	for i := range data {
		data[i] = float32(i)
	}
	for workers := 1; workers < 20; workers++ {
		var all []float32
		for w := range workers {
			part := share(data, w, workers)
			require.Zero(t, len(part)%64)
			all = append(all, part...)
		}
		require.Equal(t, data[:960], all)
	}
}
