package main

import (
	"bytes"
	"encoding/csv"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPeersAreRight tries every peer on small problems of every kind.
func TestPeersAreRight(t *testing.T) {
	for _, p := range []problem{
		newDot(100), newSoftmax(50), newSoftmax(1 << 14), newSgemm(33),
		newAttention("small", 2, 40, 16, false), newAttention("small, causal", 2, 40, 16, true),
	} {
		for _, peer := range peers() {
			t.Run(p.String()+"/"+peer.name, func(t *testing.T) {
				e, maxErr := first(peer, p)
				if e == nil {
					t.Skip("has none")
				}
				if e.close != nil {
					e.close()
				}
				require.LessOrEqual(t, maxErr, tolerance)
			})
		}
	}
}

// TestWrongIsShown has a peer that computes but keeps the result to itself, and one that has nothing.
func TestWrongIsShown(t *testing.T) {
	idle := &peer{name: "idle", dot: func(d *dot) *entry {
		return &entry{run: func(calls int) {
			for range calls {
				plainDot(d.x, d.y)
			}
		}}
	}}
	c := &contest{peers: append(quern()[:1], idle, &peer{name: "empty"}), rounds: 1, rates: map[string]float64{}, note: t.Logf}
	rows := c.run(newDot(64))
	require.Len(t, rows, 2)
	require.False(t, rows[0].Wrong())
	require.True(t, rows[1].Wrong())
	require.True(t, math.IsInf(rows[1].MaxErr, 1))
	require.Positive(t, rows[0].Best)
	require.GreaterOrEqual(t, rows[0].Median, rows[0].Best)
}

// TestSlowIsLeftOut has a peer whose last problem took a second.
func TestSlowIsLeftOut(t *testing.T) {
	c := &contest{peers: quern()[:1], rounds: 1, rates: map[string]float64{quern()[0].name + " sgemm": 1e-6}, note: t.Logf}
	rows := c.run(newSgemm(33))
	require.Len(t, rows, 1)
	require.Contains(t, rows[0].Skipped, "left out")
	require.False(t, rows[0].Wrong())
}

func TestCSV(t *testing.T) {
	var file bytes.Buffer
	rows := []row{
		{Case: "dot 64", Peer: "quern", Version: "v1", Median: 2, Best: 1, GFLOPS: 64, Share: 50, MaxErr: 1e-8, Rounds: 7, How: "a, b"},
		{Case: "dot 64", Peer: "broken", Median: 2, Best: 1, MaxErr: 1, Rounds: 1},
		{Case: "dot 64", Peer: "slow", Skipped: "left out"},
	}
	require.NoError(t, write(&file, rows, 128))
	require.True(t, strings.HasPrefix(file.String(), "# cpu: "))
	r := csv.NewReader(&file)
	r.Comment = '#'
	records, err := r.ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		header,
		{"dot 64", "quern", "v1", "2.0", "1.0", "64.00", "50.0", "1.0e-08", "a, b", "7", ""},
		{"dot 64", "broken", "", "2.0", "1.0", "", "", "1.0e+00", "", "1", "wrong"},
		{"dot 64", "slow", "", "", "", "", "", "", "", "", "left out"},
	}, records)
}
