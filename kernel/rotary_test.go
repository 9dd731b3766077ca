package kernel

import (
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// rotated is the definition of Apply for one head.
func rotated(x []float32, r *Rotary, o RotaryOptions, position int, frequencies []float64) []float32 {
	y := append([]float32(nil), x...)
	for i := range o.Dim / 2 {
		first, second := i, i+o.Dim/2
		if o.Interleaved {
			first, second = 2*i, 2*i+1
		}
		s, c := portable.SinCos(float64(position) * frequencies[i])
		sin, cos := float32(s), float32(c)
		a, b := x[first], x[second]
		y[first] = portable.FMA(a, cos, -float32(b*sin))
		y[second] = portable.FMA(b, cos, float32(a*sin))
	}
	return y
}

func TestRotaryIsItsDefinition(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for range 40 {
		o := RotaryOptions{Dim: 2 * r.Intn(40), Positions: 50, Interleaved: r.Intn(2) == 0}
		rotary, err := NewRotary(o)
		require.NoError(t, err)
		frequencies := rotaryFrequencies(10000, o.Dim/2)
		batch, heads, sequence, dim := 1+r.Intn(2), r.Intn(4), r.Intn(6), o.Dim+r.Intn(5)
		data := gaussian(r, batch*heads*sequence*dim)
		if len(data) > 3 {
			data[1], data[3] = float32(math.Inf(1)), float32(math.NaN())
		}
		at := Positions{Offset: r.Intn(20)}
		position := func(_, s int) int { return at.Offset + s }
		switch r.Intn(3) {
		case 0:
			at.Offsets = []int{3, 7}[:batch]
			position = func(b, s int) int { return at.Offsets[b] + s }
		case 1:
			at.IDs = make([]int, batch*sequence)
			for i := range at.IDs {
				at.IDs[i] = r.Intn(50)
			}
			position = func(b, s int) int { return at.IDs[b*sequence+s] }
		}
		for _, l := range isa.Supported() {
			restore := isa.Use(l)
			got := append([]float32(nil), data...)
			x := BSHD(got, batch, sequence, heads, dim)
			require.NoError(t, rotary.Apply(x, at))
			for b := range batch {
				for s := range sequence {
					for h := range heads {
						row := ((b*sequence+s)*heads + h) * dim
						want := rotated(data[row:row+dim], rotary, o, position(b, s), frequencies)
						for i, w := range want {
							require.True(t, sameBits(w, got[row+i]), "%v %+v batch %d row %d head %d channel %d: %v, want %v", l, o, b, s, h, i, got[row+i], w)
						}
					}
				}
			}
			restore()
		}
	}
}

func TestRotaryFrequencies(t *testing.T) {
	for _, base := range []float64{1, 16, 10000, 500000, 1e6, 1e12} {
		for _, pairs := range []int{1, 2, 4, 32, 48, 64, 127} {
			for i, f := range rotaryFrequencies(base, pairs) {
				require.InEpsilon(t, math.Pow(base, -float64(i)/float64(pairs)), f, 1e-14)
			}
		}
	}
	require.Equal(t, []float64{1, 0.5, 0.25, 0.125}, rotaryFrequencies(16, 4))
}

func TestRotaryTablesOfTheUser(t *testing.T) {
	o := RotaryOptions{Dim: 12, Positions: 9, Base: 500}
	made, err := NewRotary(o)
	require.NoError(t, err)
	for _, interleaved := range []bool{false, true} {
		o := RotaryOptions{Dim: 12, Positions: 9, Interleaved: interleaved, Cos: made.cos, Sin: made.sin}
		given, err := NewRotary(o)
		require.NoError(t, err)
		same, err := NewRotary(RotaryOptions{Dim: 12, Positions: 9, Base: 500, Interleaved: interleaved})
		require.NoError(t, err)
		require.Equal(t, same, given)
	}
}

func TestRotaryErrors(t *testing.T) {
	for name, o := range map[string]RotaryOptions{
		"RotaryOptions.Dim":       {Dim: 3, Positions: 1},
		"RotaryOptions.Positions": {Dim: 2, Positions: -1},
		"RotaryOptions.Base":      {Dim: 2, Positions: 1, Base: 0.5},
		"RotaryOptions.Cos":       {Dim: 2, Positions: 2, Cos: make([]float32, 1), Sin: make([]float32, 2)},
	} {
		_, err := NewRotary(o)
		var e *ArgumentError
		require.ErrorAs(t, err, &e)
		require.Equal(t, name, e.Argument)
	}
	r, err := NewRotary(RotaryOptions{Dim: 8, Positions: 10})
	require.NoError(t, err)
	data := make([]float32, 2*3*8)
	require.ErrorIs(t, r.Apply(BHSD(data, 1, 2, 3, 4), Positions{}), ErrShape)
	require.ErrorIs(t, r.Apply(BHSD(data, 1, 2, 3, 8), Positions{Offset: 8}), ErrOption)
	require.ErrorIs(t, r.Apply(BHSD(data, 1, 2, 3, 8), Positions{Offset: -1}), ErrOption)
	require.ErrorIs(t, r.Apply(BHSD(data, 2, 1, 3, 8), Positions{Offsets: []int{1}}), ErrShape)
	require.ErrorIs(t, r.Apply(BHSD(data, 1, 2, 3, 8), Positions{IDs: []int{0, 1}}), ErrShape)
	require.ErrorIs(t, r.Apply(BHSD(data, 1, 2, 3, 8), Positions{IDs: []int{0, 1, 10}}), ErrOption)
	require.NoError(t, r.Apply(BHSD(data, 1, 2, 3, 8), Positions{Offset: 7}))
	require.ErrorIs(t, r.Apply(Strided(data, [4]int{1, 2, 3, 8}, [3]int{0, 4, 8}), Positions{}), ErrOverlap)
}
