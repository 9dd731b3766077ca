package main

import "math"

// plain is Go as one would write it at first.
func plain() *peer {
	return &peer{
		name: "plain Go",
		dot: func(d *dot) *entry {
			return &entry{run: func(calls int) {
				var r float32
				for range calls {
					r = plainDot(d.x, d.y)
				}
				d.result[0] = r
			}}
		},
		softmax: func(s *softmax) *entry {
			return &entry{run: func(calls int) {
				for range calls {
					plainSoftmax(s.dst, s.src)
				}
			}}
		},
		sgemm: func(g *sgemm) *entry {
			return &entry{run: func(calls int) {
				for range calls {
					plainProduct(g.c, g.a, g.b, g.n, g.n)
				}
			}}
		},
		attention: func(a *attention) *entry {
			scale := float32(a.scale())
			return a.compose(parts{
				scores: func(s, q, k []float32) {
					for i := range a.length {
						end := a.length
						if a.causal {
							end = i + 1
						}
						for j := range end {
							s[i*a.length+j] = scale * plainDot(q[i*a.dim:][:a.dim], k[j*a.dim:][:a.dim])
						}
					}
				},
				softmax: func(row []float32) { plainSoftmax(row, row) },
				values:  func(o, p, v []float32) { plainProduct(o, p, v, a.length, a.dim) },
			})
		},
	}
}

func plainDot(x, y []float32) float32 {
	var sum float32
	y = y[:len(x)]
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

func plainSoftmax(dst, src []float32) {
	top := src[0]
	for _, x := range src {
		top = max(top, x)
	}
	var sum float32
	for i, x := range src {
		dst[i] = float32(math.Exp(float64(x - top)))
		sum += dst[i]
	}
	for i := range dst {
		dst[i] /= sum
	}
}

// plainProduct is C = A·B, B with depth rows and cols columns. The innermost loop runs along rows of B
// and C, and zeros of A cost nothing.
func plainProduct(c, a, b []float32, depth, cols int) {
	clear(c)
	for i := range len(a) / depth {
		row := c[i*cols:][:cols]
		for k, x := range a[i*depth:][:depth] {
			if x == 0 {
				continue
			}
			for j, y := range b[k*cols:][:cols] {
				row[j] += x * y
			}
		}
	}
}
