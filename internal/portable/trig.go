package portable

import "math"

// π/2 as the sum of three float64: 161 bits.
const (
	halfPi1 = 0x1.921fb54442d18p+0
	halfPi2 = 0x1.1a62633145c07p-54
	halfPi3 = -0x1.f1976b7ed8fbcp-110
)

// SinCos returns the sine and cosine of x, |x| ≤ 2³⁰, each within 1 ULP, and the same bits on every
// GOARCH; math.Sin and math.Cos are neither. For x ≠ 0, -x gives -sin and cos, bit for bit. NaN gives NaN.
//
// Every fused operation is written as one and every other product is rounded explicitly, because
// compilers fuse what they like. The method is Cody and Waite's reduction by multiples of π/2 and
// the polynomials of fdlibm's k_sin.c and k_cos.c (Sun Microsystems, 1993).
func SinCos(x float64) (sin, cos float64) {
	n := math.RoundToEven(float64(x * (2 / math.Pi)))
	// r + rest = x - n·π/2. The first step is exact: n has 30 bits, and x has none below 2⁻⁵³ where n
	// is not 0.
	a := math.FMA(-n, halfPi1, x)
	t := float64(n * halfPi2)
	r := a - t
	back := r - a
	rest := (a - (r - back)) - (t + back)
	rest -= math.FMA(n, halfPi2, -t)
	rest = math.FMA(-n, halfPi3, rest)

	s, c := sinNear0(r, rest), cosNear0(r, rest)
	switch int64(n) & 3 {
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	}
	return -c, s
}

// sinNear0 is sin(x+y) for |x| ≤ π/4 and y a tail of x.
func sinNear0(x, y float64) float64 {
	z := float64(x * x)
	p := math.FMA(z, 0x1.5d93a5acfd57cp-33, -0x1.ae5e68a2b9cebp-26)
	p = math.FMA(z, p, 0x1.71de357b1fe7dp-19)
	p = math.FMA(z, p, -0x1.a01a019c161d5p-13)
	p = math.FMA(z, p, 0x1.111111110f8a6p-7)
	v := float64(z * x)
	// x - ((z·(y/2 - v·p) - y) + v/6)
	e := math.FMA(-v, p, y/2)
	e = math.FMA(z, e, -y)
	e = math.FMA(v, 0x1.5555555555549p-3, e)
	return x - e
}

// cosNear0 is cos(x+y) for |x| ≤ π/4 and y a tail of x.
func cosNear0(x, y float64) float64 {
	z := float64(x * x)
	p := math.FMA(z, -0x1.8fae9be8838d4p-37, 0x1.1ee9ebdb4b1c4p-29)
	p = math.FMA(z, p, -0x1.27e4f809c52adp-22)
	p = math.FMA(z, p, 0x1.a01a019cb1590p-16)
	p = math.FMA(z, p, -0x1.6c16c16c15177p-10)
	p = math.FMA(z, p, 0x1.555555555554cp-5)
	// 1 - z/2 + (z²·p - x·y), with what 1 - z/2 loses
	half := z / 2
	w := 1 - half
	lost := (1 - w) - half
	e := float64(float64(z*z) * p)
	e = math.FMA(-x, y, e)
	return w + (lost + e)
}
