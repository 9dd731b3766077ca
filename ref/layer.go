package ref

import "math"

// Layer is a multi-head attention layer, with overlapping heads and rotary positions if asked for.
// Weights are row-major, [in, out], with as many rows as what they multiply has columns; a nil bias is 0.
type Layer struct {
	Hq, Hkv int // 0: Hkv = Hq
	D, Dv   int // width of a head of Q and K, and of V; Dv = 0: D
	Wq, Wk, Wv, Wo,
	Bq, Bk, Bv, Bo []float32

	Overlap int     // channels that a head sees of its neighbours, on each side
	Scale   float64 // 0: 1/√D, whatever the overlap
	Visible Mask    // nil: all

	// Rotary is the number of channels that are turned, 0 for none; Base that of the frequencies.
	// Interleaved pairs channels 2i and 2i+1, otherwise i and i + Rotary/2.
	Rotary         int
	Base           float64
	Interleaved    bool
	QueryAt, KeyAt func(b, s int) int // positions; nil: s
}

// Forward computes the layer for rows x, [batch, L, width], that attend to rows y, [batch, N,
// width]: the same as x for self-attention. The result is [batch, L, columns of Wo].
func (l Layer) Forward(x, y []float32, batch, L, N int) []float64 {
	if l.Hkv == 0 {
		l.Hkv = l.Hq
	}
	if l.Dv == 0 {
		l.Dv = l.D
	}
	if l.Scale == 0 {
		l.Scale = 1 / math.Sqrt(float64(l.D))
	}

	// 1. q = X·W^Q, k = Y·W^K, v = Y·W^V
	q := project(widen(x), l.Wq, l.Bq, batch*L, l.Hq*l.D)
	k := project(widen(y), l.Wk, l.Bk, batch*N, l.Hkv*l.D)
	v := project(widen(y), l.Wv, l.Bv, batch*N, l.Hkv*l.Dv)

	// 2. rotary positions
	l.rotate(q, l.Hq, L, l.QueryAt)
	l.rotate(k, l.Hkv, N, l.KeyAt)

	// 3. head h sees the channels [h·d-o, (h+1)·d+o) of its row, and zeros where there are none
	overlapped := func(x []float64, heads, sequence, d int) Tensor {
		return func(b, h, s, c int) float64 {
			channel := h*d + c - l.Overlap
			if channel < 0 || channel >= heads*d {
				return 0
			}
			return x[(b*sequence+s)*heads*d+channel]
		}
	}

	// 4. attention of each head
	O := Attention(Problem{
		Batch: batch, Hq: l.Hq, Hkv: l.Hkv, L: L, N: N, D: l.D + 2*l.Overlap, Dv: l.Dv + 2*l.Overlap,
		Q: overlapped(q, l.Hq, L, l.D), K: overlapped(k, l.Hkv, N, l.D), V: overlapped(v, l.Hkv, N, l.Dv),
		Scale: l.Scale, Visible: l.Visible,
	}).O

	// 5. heads beside each other
	width := l.Dv + 2*l.Overlap
	concat := make([]float64, 0, len(O))
	for b := range batch {
		for i := range L {
			for h := range l.Hq {
				row := ((b*l.Hq+h)*L + i) * width
				concat = append(concat, O[row:row+width]...)
			}
		}
	}

	// 6. W^O
	out := 0
	if l.Hq*width > 0 {
		out = len(l.Wo) / (l.Hq * width)
	}
	return project(concat, l.Wo, l.Bo, batch*L, out)
}

// project is x·w + bias.
func project(x []float64, w, bias []float32, rows, out int) []float64 {
	y := make([]float64, rows*out)
	in := 0
	if rows > 0 {
		in = len(x) / rows
	}
	for r := range rows {
		for c := range out {
			if bias != nil {
				y[r*out+c] = float64(bias[c])
			}
			for k := range in {
				y[r*out+c] += x[r*in+k] * float64(w[k*out+c])
			}
		}
	}
	return y
}

// rotate turns pair i of every head by the angle position·base^(-2i/rotary).
func (l Layer) rotate(x []float64, heads, sequence int, at func(b, s int) int) {
	width := heads * l.D
	for row := range len(x) / max(width, 1) {
		position := row % sequence
		if at != nil {
			position = at(row/sequence, row%sequence)
		}
		for h := range heads {
			for i := range l.Rotary / 2 {
				first, second := i, i+l.Rotary/2
				if l.Interleaved {
					first, second = 2*i, 2*i+1
				}
				angle := float64(position) * math.Pow(l.Base, -2*float64(i)/float64(l.Rotary))
				a, b := &x[row*width+h*l.D+first], &x[row*width+h*l.D+second]
				*a, *b = *a*math.Cos(angle)-*b*math.Sin(angle), *b*math.Cos(angle)+*a*math.Sin(angle)
			}
		}
	}
}
