package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOneByOneIsOnePrefill: odd sizes, and more tokens than a block of keys has.
func TestOneByOneIsOnePrefill(t *testing.T) {
	m, err := newModel(size{layers: 2, width: 60, heads: 6, kvHeads: 2, words: 100, positions: 140})
	require.NoError(t, err)
	d, err := m.newDecoder()
	require.NoError(t, err)
	tokens, err := d.generate(10, 140)
	require.NoError(t, err)
	all, err := m.prefill(tokens)
	require.NoError(t, err)
	require.Equal(t, len(tokens), sameRows(d.states, all, m.width))
}
