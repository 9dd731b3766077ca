package kernel

import (
	"fmt"
	"math"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/internal/portable"
)

// rotated is the definition of Apply for one head.
func rotated(x []float32, o RotaryOptions, position int, frequencies []float64) []float32 {
	y := append([]float32(nil), x...)
	for i := range o.Dim / 2 {
		first, second := i, i+o.Dim/2
		if o.Interleaved {
			first, second = 2*i, 2*i+1
		}
		s, c := portable.SinCos(float64(float64(position) * frequencies[i]))
		sin, cos := float32(s), float32(c)
		a, b := x[first], x[second]
		y[first] = portable.FMA(a, cos, -float32(b*sin))
		y[second] = portable.FMA(b, cos, float32(a*sin))
	}
	return y
}

// anyPosition draws one from the tables, around their ends, far from them, or at the bounds, with room for a few more
// rows.
func anyPosition(r *rand.Rand, tables int) int {
	switch r.Intn(5) {
	case 0:
		return r.Intn(20) - 10
	case 1:
		return tables + r.Intn(20) - 10
	case 2:
		return r.Intn(2*maxPosition-10) - maxPosition
	case 3:
		return -maxPosition
	}
	return maxPosition - 10
}

func TestRotaryIsItsDefinition(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for i := range 60 {
		o := RotaryOptions{Dim: 2 * r.Intn(40), Positions: r.Intn(50), Interleaved: r.Intn(2) == 0}
		if i%10 == 0 { // wider than a part, or two
			o.Dim = 2*rowPart + 2*r.Intn(2*rowPart)
		}
		rotary, err := NewRotary(o)
		require.NoError(t, err)
		frequencies := rotaryFrequencies(10000, o.Dim/2)
		batch, heads, sequence, dim := 1+r.Intn(2), r.Intn(4), r.Intn(6), o.Dim+r.Intn(5)
		if i%20 == 1 {
			heads = headPart + r.Intn(headPart)
		}
		data := gaussian(r, batch*heads*sequence*dim)
		if len(data) > 3 {
			data[1], data[3] = float32(math.Inf(1)), float32(math.NaN())
		}
		at := Positions{Offset: anyPosition(r, o.Positions)}
		position := func(_, s int) int { return at.Offset + s }
		switch r.Intn(3) {
		case 0:
			at.Offsets = []int{3, anyPosition(r, o.Positions)}[2-batch:]
			position = func(b, s int) int { return at.Offsets[b] + s }
		case 1:
			at.IDs = make([]int, batch*sequence)
			for i := range at.IDs {
				at.IDs[i] = anyPosition(r, o.Positions)
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
						want := rotated(data[row:row+dim], o, position(b, s), frequencies)
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

// applied turns copies of one row, as many as there are positions.
func applied(t *testing.T, rotary *Rotary, row []float32, positions []int) []float32 {
	var data []float32
	for range positions {
		data = append(data, row...)
	}
	require.NoError(t, rotary.Apply(BSHD(data, 1, len(positions), 1, len(row)), Positions{IDs: positions}))
	return data
}

// Tables change no bit, and a negative position mirrors.
func TestRotaryWithAndWithoutTables(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	for _, interleaved := range []bool{false, true} {
		for _, o := range []RotaryOptions{{Dim: 2, Positions: 3_000_005}, {Dim: 6, Positions: 300},
			{Dim: 128, Positions: 300, Base: 5e5}, {Dim: 1026, Positions: 30}} {
			o.Interleaved = interleaved
			tables, err := NewRotary(o)
			require.NoError(t, err)
			last := o.Positions - 1
			o.Positions = 0
			none, err := NewRotary(o)
			require.NoError(t, err)
			positions := []int{0, 1, 2, 13, last - 1, last, last + 1, -1, -2, -13, 1 - last, -last, -last - 1,
				maxPosition, -maxPosition}
			row := gaussian(r, o.Dim)
			for _, l := range isa.Supported() {
				restore := isa.Use(l)
				requireBits(t, applied(t, tables, row, positions), applied(t, none, row, positions),
					"%v: %+v, no tables", l, o)
				restore()
			}
			// Turned by -p, (1, 0) is (cos, -sin) of p.
			unit := make([]float32, o.Dim)
			for i := range o.Dim / 2 {
				if interleaved {
					unit[2*i] = 1
				} else {
					unit[i] = 1
				}
			}
			for _, p := range positions {
				there, back := applied(t, none, unit, []int{p}), applied(t, none, unit, []int{-p})
				for i := range there {
					if unit[i] == 0 {
						there[i] = -there[i]
					}
					require.Equal(t, there[i], back[i], "position %d, channel %d of %+v", p, i, o)
				}
			}
		}
	}
}

func TestRotaryDoesNotAllocate(t *testing.T) {
	for _, o := range []RotaryOptions{{Dim: 64, Positions: 5}, {Dim: 64}, {Dim: 64, Interleaved: true}, {Dim: 1200}} {
		rotary, err := NewRotary(o)
		require.NoError(t, err)
		x, at := BHSD(make([]float32, 3*10*o.Dim), 1, 3, 10, o.Dim), Positions{Offset: -4}
		require.Zero(t, testing.AllocsPerRun(10, func() {
			if err := rotary.Apply(x, at); err != nil {
				t.Error(err)
			}
		}), "%+v", o)
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
		require.Equal(t, same.cos, given.cos)
		require.Equal(t, same.sin, given.sin)
	}
}

func TestRotaryErrors(t *testing.T) {
	for _, c := range []struct {
		o    RotaryOptions
		text string
	}{
		{RotaryOptions{Dim: 3, Positions: 1},
			"RotaryOptions.Dim: option is not valid: is 3, want an even number from 0 to 268435456"},
		{RotaryOptions{Dim: 2, Positions: -1},
			"RotaryOptions.Positions: option is not valid: is -1, want 0 to 134217728 for 2 channels"},
		{RotaryOptions{Dim: 128, Positions: 2097153},
			"RotaryOptions.Positions: option is not valid: is 2097153, want 0 to 2097152 for 128 channels"},
		{RotaryOptions{Dim: 2, Base: 0.5},
			"RotaryOptions.Base: option is not valid: is 0.5, want a finite number from 1 on"},
		{RotaryOptions{Dim: 2, Cos: []float32{}},
			"RotaryOptions.Cos: option is not valid: and Sin must both be given or both be nil"},
		{RotaryOptions{Dim: 2, Positions: 2, Cos: make([]float32, 1), Sin: make([]float32, 2)},
			"RotaryOptions.Cos: shape does not match: has 1 elements and Sin 2, want 2·1"},
	} {
		_, err := NewRotary(c.o)
		require.EqualError(t, err, "quern: NewRotary: "+c.text)
	}

	data := gaussian(rand.New(rand.NewSource(4)), 2*3*8)
	before := append([]float32(nil), data...)
	x := BHSD(data, 2, 1, 3, 8) // batches of three rows
	computed, err := NewRotary(RotaryOptions{Dim: 8, Positions: 10})
	require.NoError(t, err)
	given, err := NewRotary(RotaryOptions{Dim: 8, Positions: 10, Cos: make([]float32, 40), Sin: make([]float32, 40)})
	require.NoError(t, err)
	nothing, err := NewRotary(RotaryOptions{Dim: 8, Cos: []float32{}, Sin: []float32{}})
	require.NoError(t, err)
	const bounds = ", want -1073741824 to 1073741824"
	for _, c := range []struct {
		rotary *Rotary
		x      Tensor
		at     Positions
		text   string
	}{
		{computed, BHSD(data, 2, 2, 3, 4), Positions{},
			"x: shape does not match: has heads of 4 channels, 8 are to be turned"},
		{computed, Strided(data, [4]int{1, 2, 3, 8}, [3]int{0, 4, 8}), Positions{},
			"x: memory overlaps: shape [1 2 3 8] with strides [0 4 8] writes an element twice: a stride of 4 is less than the 8 elements below it"},
		{computed, x, Positions{Offsets: []int{1}}, "at.Offsets: shape does not match: has 1 entries, want 2"},
		{computed, x, Positions{IDs: []int{0, 1}}, "at.IDs: shape does not match: has 2 entries, want 3 or 2·3"},
		{computed, x, Positions{Offset: maxPosition - 1},
			"at: option is not valid: position 1073741825 of batch entry 0" + bounds},
		{computed, x, Positions{Offset: math.MaxInt},
			fmt.Sprintf("at: option is not valid: position %d of batch entry 0%s", math.MaxInt, bounds)},
		{computed, x, Positions{Offset: math.MinInt},
			fmt.Sprintf("at: option is not valid: position %d of batch entry 0%s", math.MinInt, bounds)},
		{computed, x, Positions{Offsets: []int{0, -maxPosition - 1}},
			"at: option is not valid: position -1073741825 of batch entry 1" + bounds},
		{computed, x, Positions{IDs: []int{0, 1, 2, 3, maxPosition + 1, 5}},
			"at: option is not valid: position 1073741825 of batch entry 1" + bounds},
		{given, x, Positions{Offset: 8},
			"at: option is not valid: position 10 of batch entry 0 is not among the 10 of Cos and Sin, which begin at 0"},
		{given, x, Positions{Offsets: []int{7, -1}},
			"at: option is not valid: position -1 of batch entry 1 is not among the 10 of Cos and Sin, which begin at 0"},
		{given, x, Positions{IDs: []int{0, 9, 10}},
			"at: option is not valid: position 10 of batch entry 0 is not among the 10 of Cos and Sin, which begin at 0"},
		{nothing, x, Positions{},
			"at: option is not valid: position 0 of batch entry 0 is not among the 0 of Cos and Sin, which begin at 0"},
	} {
		require.EqualError(t, c.rotary.Apply(c.x, c.at), "quern: Rotary.Apply: "+c.text)
		require.Equal(t, before, data, "an error writes nothing")
	}
	for _, at := range []Positions{{Offset: maxPosition - 2}, {Offset: -maxPosition}, {Offset: 7}, {Offset: 8}} {
		require.NoError(t, computed.Apply(x, at))
	}
	require.NoError(t, given.Apply(x, Positions{Offset: 7}))
	require.NoError(t, nothing.Apply(Tensor{Shape: [4]int{1, 1, 0, 8}}, Positions{}))
}

// BenchmarkRotary is what a row costs, of one position and a number of heads, with tables and without.
func BenchmarkRotary(b *testing.B) {
	const rows, dim = 64, 128
	for _, heads := range []int{1, 8, 32} {
		for _, positions := range []int{rows, 0} {
			b.Run(fmt.Sprintf("heads=%d/tables=%v", heads, positions > 0), func(b *testing.B) {
				r, err := NewRotary(RotaryOptions{Dim: dim, Positions: positions})
				require.NoError(b, err)
				x := BSHD(make([]float32, rows*heads*dim), 1, rows, heads, dim)
				for b.Loop() {
					if err := r.Apply(x, Positions{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
			})
		}
	}
}
