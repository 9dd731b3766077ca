package portable

import "math"

var (
	inf = float32(math.Inf(1))
	nan = float32(math.NaN())
)

// RoundEven returns t rounded to the nearest integer, ties to even, for |t| < 2²².
// Unlike VRNDSCALEPS and FRINTN it gives +0 where they give -0; no function here can tell.
// Outside that range the result is unspecified, and NaN for NaN.
func RoundEven(t float32) float32 {
	const magic float32 = 0x1.8p23 // here the last place is worth 1
	return float32(t+magic) - magic
}

// pow2 returns 2ⁿ for -126 <= n <= 127. Other n give some float32.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// exp2Poly returns 2^f for f in [-1/2, 1/2]: exactly 1 at ±0, at least 1 above, at most 1 below.
func exp2Poly(f float32) float32 {
	p := exp2C6
	p = FMA(p, f, exp2C5)
	p = FMA(p, f, exp2C4)
	p = FMA(p, f, exp2C3)
	p = FMA(p, f, exp2C2)
	p = FMA(p, f, exp2C1)
	return FMA(p, f, 1)
}

// scaled returns 2^f·2ⁿ for f in [-1/2, 1/2] and integral n up to 127: +0 for n < MinExponent, so that no result is
// subnormal, and NaN for NaN.
func scaled(f, n float32) float32 {
	if n < MinExponent {
		return 0
	}
	return exp2Poly(f) * pow2(int32(n)) // exact
}

// Exp2 returns 2^t as attention uses it, within 0.778 ULP where it is not flushed:
//
//	Exp2(±0) = 1
//	Exp2(t) = +0 where t rounds to less than -125, also for -Inf
//	Exp2(NaN) = NaN
//
// Softmax never asks for t > 0; the function is exact about integers up to 127 and unspecified for t >= 127.5.
func Exp2(t float32) float32 {
	if t < -200 {
		return 0 // where RoundEven does not reach
	}
	n := RoundEven(t)
	return scaled(t-n, n)
}

// Exp returns e^x, subnormal results included, within 1 ULP over every float32 (0.993 measured).
//
//	Exp(±0) = 1
//	Exp(x > 88.72283) = Exp(+Inf) = +Inf
//	Exp(x < -103.97208) = Exp(-Inf) = +0
//	Exp(NaN) = NaN
func Exp(x float32) float32 {
	switch {
	case x > ExpMax:
		return inf
	case x < ExpMin:
		return 0
	}
	n := RoundEven(float32(x * Log2eHi))
	f := FMA(x, Log2eHi, -n)
	f = FMA(x, Log2eLo, f)
	k := int32(n)
	half := k >> 1 // a single 2ⁿ may be out of range, its two halves are not
	return float32(float32(exp2Poly(f)*pow2(half)) * pow2(k-half))
}

// Log2 returns the base-2 logarithm of x, within 1 ULP over every float32 (0.932 measured); powers of two are exact.
//
//	Log2(1) = +0
//	Log2(±0) = -Inf
//	Log2(+Inf) = +Inf
//	Log2(x < 0) = Log2(NaN) = NaN
//
// x = 2ᵏ·m with m in [√½, √2), so that k + log2 m does not cancel, and
// log2(1+z) = z·hi + z·(lo + z·q(z)) with hi + lo = log2 e.
func Log2(x float32) float32 {
	switch {
	case !(x >= 0):
		return nan
	case x == 0:
		return -inf
	case x == inf:
		return inf
	}
	var bias float32
	if x < 0x1p-126 {
		x, bias = x*0x1p23, -23
	}
	bits := int32(math.Float32bits(x))
	k := (bits - SqrtHalfBits) >> 23
	z := math.Float32frombits(uint32(bits-k<<23)) - 1
	q := log2C8
	q = FMA(q, z, log2C7)
	q = FMA(q, z, log2C6)
	q = FMA(q, z, log2C5)
	q = FMA(q, z, log2C4)
	q = FMA(q, z, log2C3)
	q = FMA(q, z, log2C2)
	q = FMA(q, z, log2C1)
	q = FMA(q, z, log2C0)
	r := FMA(q, z, Log2eLo)
	return FMA(z, Log2eHi, float32(z*r)) + (float32(k) + bias)
}

// Tanh returns the hyperbolic tangent of x, within 1.5 ULP over every float32 (1.255 measured).
//
//	Tanh(±0) = ±0
//	Tanh(±Inf) = ±1, and so from |x| = 9.02 on
//	Tanh(NaN) = NaN
//
// Small |x| take a polynomial, others 1 - 2u/(1+u) with u = e^(-2|x|).
func Tanh(x float32) float32 {
	bits := math.Float32bits(x)
	sign := bits & (1 << 31)
	a := math.Float32frombits(bits ^ sign)
	var y float32
	if a < TanhSwitch {
		s := float32(a * a)
		q := tanhC5
		q = FMA(q, s, tanhC4)
		q = FMA(q, s, tanhC3)
		q = FMA(q, s, tanhC2)
		q = FMA(q, s, tanhC1)
		q = FMA(q, s, tanhC0)
		y = FMA(a, float32(s*q), a)
	} else {
		var u float32
		if t := float32(a * TanhHi); !(t < -200) {
			n := RoundEven(t)
			f := FMA(a, TanhHi, -n)
			u = scaled(FMA(a, TanhLo, f), n)
		}
		y = 1 - float32((u+u)/(1+u))
	}
	return math.Float32frombits(math.Float32bits(y) | sign)
}

// SoftExp returns e^d for d <= 0 as the public softmax uses it: +0 where d·log2 e rounds to less than -125, below about
// -86.99, and NaN for NaN.
func SoftExp(d float32) float32 {
	if d < -200 {
		return 0
	}
	n := RoundEven(float32(d * Log2eHi))
	f := FMA(d, Log2eHi, -n)
	return scaled(FMA(d, Log2eLo, f), n)
}
