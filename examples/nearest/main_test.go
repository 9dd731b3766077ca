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
	for _, o := range []kernel.ScanOptions{{Workers: 1}, {Workers: 2}} {
		require.Equal(t, 1., search("float32", asked, kernel.RowsOf(data, dim), 10, 4, o, 1e9))
		require.Equal(t, 1., search("float16", asked, kernel.RowsOf(half, dim), 10, 2, o, 1e9))
		require.Equal(t, 1., search("float16, a tenant's", asked, ownedBy(3, kernel.RowsOf(half, dim)), 10, 2, o, 1e9))
	}
}
