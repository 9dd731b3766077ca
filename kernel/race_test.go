//go:build race || asan || msan

package kernel_test

// race says that a detector is on: portable code takes many times longer then, and more is allocated.
const race = true
