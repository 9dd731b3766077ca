package portable

// The constants below are part of the specification: changing a bit of one changes the results.
//
// The polynomials started from a weighted minimax fit (Lawson's iteration at 50 digits, coefficients
// rounded to float32 one at a time, lowest first, the rest fitted again after each). A random search over
// neighbouring float32 coefficients then minimised the maximum and RMS error of the float32
// evaluation itself on samples, to which the worst arguments of exhaustive scans were added until
// nothing got worse. The maximum errors named here are over every float32 argument, in units of
// the last place of the exact result, measured by the tests (run with -exhaustive).

// Exp2Coefficients is p(f) ≈ 2^f on [-1/2, 1/2], lowest first. Maximum error 0.778 ULP, RMS 0.297.
var Exp2Coefficients = [7]float32{1, exp2C1, exp2C2, exp2C3, exp2C4, exp2C5, exp2C6}

const (
	exp2C1 float32 = 0x1.62e430p-1  // 0x3f317218
	exp2C2 float32 = 0x1.ebfbdep-3  // 0x3e75fdef
	exp2C3 float32 = 0x1.c6af84p-5  // 0x3d6357c2
	exp2C4 float32 = 0x1.3b2f38p-7  // 0x3c1d979c
	exp2C5 float32 = 0x1.5f01b4p-10 // 0x3aaf80da
	exp2C6 float32 = 0x1.3f4050p-13 // 0x391fa028
)

// MinExponent is the smallest n for which softmax's exponentials are 2^f·2ⁿ; below they are +0. 2^f may be
// less than 1, so a smaller n could give a subnormal number.
const MinExponent float32 = -125

// Log2eHi + Log2eLo is log2 e to 49 bits.
const (
	Log2eHi float32 = 0x1.715476p+0  // 0x3fb8aa3b
	Log2eLo float32 = 0x1.4ae0c0p-26 // 0x32a57060
)

// Ln2 turns base-2 logarithms into natural ones.
const Ln2 float32 = 0x1.62e430p-1 // 0x3f317218

// ExpMax and ExpMin are the last arguments for which [Exp] is finite and not zero.
const (
	ExpMax float32 = 0x1.62e42ep+6  // 0x42b17217, 88.72283
	ExpMin float32 = -0x1.9fe368p+6 // 0xc2cff1b4, -103.97208
)

// Log2Coefficients is q(z) ≈ (log2(1+z)/z - log2 e)/z on [√½-1, √2-1], lowest first. Maximum error of [Log2] 0.932 ULP.
var Log2Coefficients = [9]float32{log2C0, log2C1, log2C2, log2C3, log2C4, log2C5, log2C6, log2C7, log2C8}

const (
	log2C0 float32 = -0x1.715470p-1 // 0xbf38aa38
	log2C1 float32 = 0x1.ec7094p-2  // 0x3ef6384a
	log2C2 float32 = -0x1.715afap-2 // 0xbeb8ad7d
	log2C3 float32 = 0x1.277f46p-2  // 0x3e93bfa3
	log2C4 float32 = -0x1.eaa68ep-3 // 0xbe755347
	log2C5 float32 = 0x1.a2c89ep-3  // 0x3e51644f
	log2C6 float32 = -0x1.87b9eep-3 // 0xbe43dcf7
	log2C7 float32 = 0x1.7f1318p-3  // 0x3e3f898c
	log2C8 float32 = -0x1.c4df20p-4 // 0xbde26f90
)

// SqrtHalfBits are the bits of the largest float32 below √½, where [Log2] splits exponent and mantissa.
const SqrtHalfBits = 0x3f3504f3

// TanhCoefficients is q(s) ≈ (tanh(√s)/√s - 1)/s on [0, TanhSwitch²], lowest first. Maximum error of [Tanh] 1.255 ULP, and 0.98 below TanhSwitch.
var TanhCoefficients = [6]float32{tanhC0, tanhC1, tanhC2, tanhC3, tanhC4, tanhC5}

const (
	tanhC0 float32 = -0x1.555518p-2 // 0xbeaaaa8c
	tanhC1 float32 = 0x1.1104aep-3  // 0x3e088257
	tanhC2 float32 = -0x1.b86964p-5 // 0xbd5c34b2
	tanhC3 float32 = 0x1.5851fcp-6  // 0x3cac28fe
	tanhC4 float32 = -0x1.cad778p-8 // 0xbbe56bbc
	tanhC5 float32 = 0x1.673228p-10 // 0x3ab39914
)

// TanhSwitch is the magnitude from which [Tanh] uses the exponential instead of the polynomial.
const TanhSwitch float32 = 0.875 // 0x3f600000

// TanhHi + TanhLo is -2 log2 e.
const (
	TanhHi float32 = -2 * Log2eHi // -0x1.715476p+1, 0xc038aa3b
	TanhLo float32 = -2 * Log2eLo // -0x1.4ae0c0p-25, 0xb3257060
)

// LowestScore is the least score in natural units that a bias or ALiBi can make: the lowest number whose product with
// [Log2eHi] is still finite.
const LowestScore float32 = -0x1.62e42ep+127 // 0xff317217
