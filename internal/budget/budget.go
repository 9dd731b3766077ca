// Package budget says how much work a call of assembly may be.
//
// Assembly cannot be preempted: whoever wants to stop the world, above all the garbage collector, waits until a call
// returns. These are sizes that take less than about 50 µs on any machine that Quern was measured on, from memory too.
// The manifest in gen says what counts as the work of each kernel, and which budget it has; callers cut what is more
// into several calls. A test counts the work of all calls (TestCallsKeepTheirBudgets in package kernel).
package budget

// The budgets.
const (
	Numbers = 1 << 15 // numbers that are copied, converted, scaled, exponentiated or summed
	Scanned = 1 << 16 // numbers that are read in order and compared with a vector in cache
	FMAs    = 1 << 19 // fused multiply-adds of a matrix product, 8 to 64 of which go in a cycle
	Lines   = 1 << 12 // lines of memory that are asked for
	Bytes   = 1 << 17 // bytes that the runtime copies or clears, which is assembly too
)
