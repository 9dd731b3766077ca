package ref

import "math"

var negInf = math.Inf(-1)

// Dot returns Σ x[i]·y[i], 0 for empty slices. x and y are of one length.
func Dot(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return sum
}

// AbsDot returns Σ |x[i]·y[i]|: the scale of the error that a dot product in lower precision may have. x and
// y are of one length.
func AbsDot(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += math.Abs(float64(x[i]) * float64(y[i]))
	}
	return sum
}

// SquaredL2 returns Σ (x[i]-y[i])², 0 for empty slices.
func SquaredL2(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		d := float64(x[i]) - float64(y[i])
		sum += d * d
	}
	return sum
}

// Cosine returns x·y / √(x·x · y·y), or 0 where one of the vectors has no length.
func Cosine(x, y []float32) float64 {
	xx, yy := Dot(x, x), Dot(y, y)
	if xx == 0 || yy == 0 {
		return 0
	}
	return Dot(x, y) / math.Sqrt(xx*yy)
}

// MatMul returns C = A·B of shape [m, n], where A is [m, k] and B is [k, n], all row after row. With
// k = 0 it is all 0.
func MatMul(a, b []float32, m, k, n int) []float64 {
	c := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for x := range k {
				c[i*n+j] += float64(a[i*k+x]) * float64(b[x*n+j])
			}
		}
	}
	return c
}

// Exp returns e^x[i] for every i.
func Exp(x []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = math.Exp(float64(x[i]))
	}
	return y
}

// Softmax returns e^x[i] / Σ e^x[j] for every i.
//
// Elements that are -Inf count as absent: they give 0, also where all are -Inf. A NaN or +Inf makes
// every result NaN.
func Softmax(x []float32) []float64 {
	_, l, p := exponentials(widen(x), negInf)
	return divided(p, l)
}

// LogSoftmax returns x[i] - log Σ e^x[j] for every i: all -Inf if all elements are, all NaN if a NaN
// or +Inf is among them.
func LogSoftmax(x []float32) []float64 {
	y := widen(x)
	m, l, _ := exponentials(y, negInf)
	for i := range y {
		if l != 0 { // otherwise y[i] is -Inf, and stays so
			y[i] = y[i] - m - math.Log(l)
		}
	}
	return y
}

// LogSumExp returns log Σ e^x[i]: -Inf if x is empty or all -Inf, NaN if a NaN or +Inf is among them.
func LogSumExp(x []float32) float64 {
	m, l, _ := exponentials(widen(x), negInf)
	return m + math.Log(l)
}

// exponentials returns m, the maximum of S and the sink, P = e^(S-m), and l, the sum of P and e^(sink-m).
// A sink of -Inf is none. The maximum ignores NaN, which comes through in P and l. Where it is -Inf, 0
// is subtracted, so that P and l are 0 and not NaN.
func exponentials(S []float64, sink float64) (m, l float64, P []float64) {
	m = negInf
	for _, s := range append([]float64{sink}, S...) {
		if s > m {
			m = s
		}
	}
	shift := m
	if m == negInf {
		shift = 0
	}
	P = make([]float64, len(S))
	l = math.Exp(sink - shift)
	for j, s := range S {
		P[j] = math.Exp(s - shift)
		l += P[j]
	}
	return m, l, P
}

// divided returns x/l, or 0 where there was nothing to sum (l = 0).
func divided(x []float64, l float64) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		if l != 0 {
			y[i] = x[i] / l
		}
	}
	return y
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i := range x {
		y[i] = float64(x[i])
	}
	return y
}
