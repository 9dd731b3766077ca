package main

import (
	"testing"

	"github.com/quern-go/quern/kernel"
	"github.com/stretchr/testify/require"
)

func TestTheNearestAreFound(t *testing.T) {
	const dim, count = 50, 500
	data, asked := generate(dim, count, 5)
	half := make([]kernel.F16, len(data))
	kernel.Narrow(half, data)
	for _, workers := range []int{1, 2} {
		require.Equal(t, 1., search("float32", asked, kernel.RowsOf(data, dim), 10, workers, 4, 1e9))
		require.Equal(t, 1., search("float16", asked, kernel.RowsOf(half, dim), 10, workers, 2, 1e9))
	}
}
